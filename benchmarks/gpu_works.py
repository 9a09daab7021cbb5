"""What `gpu.py` measures: each work on both sides, ours by the code that users run, the peer's by `gpu_peer.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import gpu_peer as peer
import torch
import workloads as W
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.ppo import PPO, PPOSettings
from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.interrupts import StopRequest
from assent.model.adapters import LoraSettings
from assent.model.body import Body
from assent.model.roles import LanguageRole, ScalarRole, fresh_head, own_head
from assent.ports.sampling import SamplingParams
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.recipes.training.prepare import prepare_offline
from assent.recipes.training.prepare_on_policy import prepare_on_policy
from assent.text.template import ChatTemplate
from assent.types import Comparison, Completion, Conversation, Demonstration, Message, Role

DEVICE = MachineOptions().pick()
REAL = {
    "vocab_size": 32768, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "heads": 16,
}  # fmt: skip
SHAPES = {**W.SHAPES, "real": REAL}
TEXTS_OF = {"tiny": "tiny", "small": "small", "real": "small"}  # the tokenizer whose texts a size reads
STEPS_OF_DATA, EPOCHS = 20, 400
Step = Callable[[], object]


def config(size: str) -> LlamaConfig:
    shape = dict(SHAPES[size])
    heads = shape.pop("heads")
    return LlamaConfig(
        **shape, num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=1024, num_labels=1,
        tie_word_embeddings=size != "real", pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A work on a size; `lora` trains adapters on one frozen base."""

    work: str
    size: str
    lora: bool = False
    low_peer: bool = False  # the peer's weights are in bf16 (decoding only)

    @property
    def items(self) -> int:
        items = W.SFT_ITEMS if self.work == "sft" else W.PAIRS
        return 2 * items if self.size == "real" else items

    @property
    def name(self) -> str:
        return self.work + (", LoRA" if self.lora else "") + (", the peer's weights in bf16" if self.low_peer else "")


# The real size first: its figures matter most, and the time is short.
JOBS = (
    Job(work="sft", size="real"),
    Job(work="sft", size="real", lora=True),
    Job(work="ppo", size="real", lora=True),
    Job(work="decode", size="real"),
    Job(work="decode", size="real", low_peer=True),
    *(Job(work=work, size=size) for size in ("small", "tiny") for work in ("sft", "reward", "dpo")),
    *(Job(work=work, size=size) for size in ("small", "tiny") for work in ("decode", "ppo")),
)


@cache
def template(size: str) -> ChatTemplate:
    return ChatTemplate.load(str(W.MODELS / TEXTS_OF[size]))


def policy(job: Job) -> LanguageModel:
    body = _body(LlamaForCausalLM, job.size)
    if job.lora:
        body.add_adapter("policy", LoraSettings(rank=16))
    role = LanguageRole(body, "policy" if job.lora else None)
    return LanguageModel(role=role, template=template(job.size), path=job.size)


def reward_model(job: Job, model: LanguageModel | None = None) -> RewardModel:
    """A network of its own; with adapters, one more on the policy's base."""
    if model is not None and job.lora:
        body = model.role.body
        body.add_adapter("reward", LoraSettings(rank=16))
        role = ScalarRole(body, fresh_head(body.hidden_size, seed=0, name="reward"), "reward")
    else:
        body = _body(LlamaForSequenceClassification, job.size)
        role = ScalarRole(body, own_head(body, where=job.size))
    return RewardModel(role=role, template=template(job.size), path=job.size)


def _body(kind: Any, size: str) -> Body:
    torch.manual_seed(0)
    with DEVICE:
        model = kind(config(size))
    return Body(model, device=DEVICE, precision="bf16")


def ticks(task: Any) -> Iterator[int]:
    """Runs a tick for each number asked for."""
    for index in range(task.total):
        task.tick(index, StopRequest())
        yield index
    raise AssertionError("the data was too short")


def sft(job: Job) -> tuple[Callable[[], float], float, Callable[[], Step]]:
    """Useful tokens."""
    texts = W.Texts(TEXTS_OF[job.size]).documents(job.items * STEPS_OF_DATA)
    talks = [Conversation(messages=(Message(role=Role.ASSISTANT, content=text),)) for text in texts]
    ids = [one.ids for examples in template(job.size).encode_turns(talks) for one in examples]
    settings = SFTSettings(
        batch_size=job.items, learning_rate=2e-5, max_length=W.MAX_LENGTH, epochs=EPOCHS, micro_batch_tokens=16384
    )
    task = prepare_offline(
        SFT, policy(job), [Demonstration(conversation=talk) for talk in talks], settings, seed=0
    ).task
    run = ticks(task)

    def ours() -> float:
        return float(sum(len(ids[item]) for item in task.items(next(run))))  # type: ignore[attr-defined]

    mean = sum(map(len, ids)) / len(ids)
    return (
        ours,
        mean * job.items,
        lambda: peer.sft(peer.causal(config(job.size), DEVICE, lora=job.lora), ids, job.items),
    )


def _pairs(job: Job) -> tuple[list[Comparison], list[tuple[Any, Any]], list[int]]:
    said = [
        Comparison(
            prompt=Conversation.of_user(pair["prompt"]),
            chosen=Completion(text=pair["chosen"]),
            rejected=Completion(text=pair["rejected"]),
        )
        for pair in W.Texts(TEXTS_OF[job.size]).pairs(job.items * STEPS_OF_DATA)
    ]
    encoded = template(job.size).encode_completions([(p.prompt, side) for p in said for side in (p.chosen, p.rejected)])
    ids = [(encoded[2 * i].ids, encoded[2 * i + 1].ids) for i in range(len(said))]
    return said, ids, [len(one) for one in template(job.size).encode_prompts([p.prompt for p in said])]


def reward(job: Job) -> tuple[Callable[[], float], float, Callable[[], Step]]:
    """Useful tokens of both completions with their prompt."""
    said, ids, _ = _pairs(job)
    settings = RewardSettings(batch_size=job.items, learning_rate=2e-5, max_length=W.MAX_LENGTH, epochs=EPOCHS)
    task = prepare_offline(REWARD_MODEL, reward_model(job), said, settings, seed=0).task
    run = ticks(task)

    def ours() -> float:
        return float(sum(len(side) for item in task.items(next(run)) for side in ids[item]))  # type: ignore[attr-defined]

    mean = sum(len(side) for pair in ids for side in pair) / len(ids)
    return ours, mean * job.items, lambda: peer.reward(peer.classifier(config(job.size), DEVICE), ids, job.items)


def dpo(job: Job) -> tuple[Callable[[], float], float, Callable[[], Step]]:
    """Pairs; our reference is computed again, for all of the data, once in `STEPS_OF_DATA` steps: once an epoch."""
    said, ids, prompts = _pairs(job)
    settings = DPOSettings(batch_size=job.items, learning_rate=2e-5, max_length=W.MAX_LENGTH, epochs=EPOCHS, beta=0.1)
    model = policy(job)
    prepare_offline(DPO, model, said, settings, seed=0)  # warms up
    task, places = prepare_offline(DPO, model, said, settings, seed=0).task, iter(range(1_000_000))
    run = ticks(task)

    def ours() -> float:
        if next(places) % STEPS_OF_DATA == STEPS_OF_DATA // 2:
            prepare_offline(DPO, model, said, settings, seed=0)
        next(run)
        return float(job.items)

    def theirs() -> Step:
        models = [peer.causal(config(job.size), DEVICE) for _ in range(2)]
        return peer.dpo(*models, ids, prompts, job.items)

    return ours, float(job.items), theirs


def ppo(job: Job) -> tuple[Callable[[], float], float, Callable[[], Step]]:
    """Samples of whole iterations."""
    prompts = [Conversation.of_user(text) for text in W.Texts(TEXTS_OF[job.size]).prompts(W.PPO_PROMPTS)]
    ids = template(job.size).encode_prompts(prompts)
    settings = PPOSettings(
        iterations=1000, batch_size=W.PPO_PROMPTS, epochs=W.PPO_EPOCHS, mini_batches=W.PPO_MINI_BATCHES,
        max_tokens=W.PPO_TOKENS, learning_rate=1e-6, critic="shared",
        normalise_reward=False, normalise_prompts=2,
    )  # fmt: skip
    model = policy(job)
    task = prepare_on_policy(PPO, model, prompts, settings, seed=0, reward=reward_model(job, model)).task
    run = ticks(task)

    def ours() -> float:
        next(run)
        return float(W.PPO_PROMPTS)

    def theirs() -> Step:
        model = peer.causal(config(job.size), DEVICE, lora=job.lora)
        reference = None if job.lora else peer.causal(config(job.size), DEVICE)
        judge = peer.classifier(config(job.size), DEVICE)
        return peer.ppo(model, reference, judge, ids, W.PPO_TOKENS, W.PPO_EPOCHS, W.PPO_MINI_BATCHES)

    return ours, float(W.PPO_PROMPTS), theirs


def decode(job: Job) -> tuple[Callable[[], float], float, Callable[[], Step]]:
    """New tokens at batch 64; every sequence is written to the limit."""
    prompts = [Conversation.of_user(text) for text in W.Texts(TEXTS_OF[job.size]).prompts(W.GENERATE_BATCH)]
    ids = template(job.size).encode_prompts(prompts)
    sampling = SamplingParams(max_tokens=W.GENERATE_TOKENS)
    model, tokens = policy(job), float(W.GENERATE_BATCH * W.GENERATE_TOKENS)
    sampler = model.sampler
    sampler.template = ChatTemplate(template(job.size).tokenizer)
    sampler.template.end_ids = frozenset()

    def ours() -> float:
        return float(sum(len(turn.completion_ids) for turn in sampler.sample(prompts, sampling=sampling, seed=0)))

    def theirs() -> Step:
        model = peer.causal(config(job.size), DEVICE).eval()
        model = model.to(torch.bfloat16) if job.low_peer else model
        return peer.decode(model, ids, W.GENERATE_TOKENS, autocast=not job.low_peer)

    return ours, tokens, theirs


WORKS = {
    "sft": (sft, "tokens/s"), "reward": (reward, "tokens/s"), "dpo": (dpo, "pairs/s"), "ppo": (ppo, "samples/s"),
    "decode": (decode, "tokens/s"),
}  # fmt: skip
