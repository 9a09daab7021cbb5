"""A quick look at one GPU: python benchmarks/gpu.py --out FOLDER [--seconds 95].

SFT, reward model, DPO, PPO and decoding beside the padded loop of plain transformers (`gpu_peer.py`), on the same data
in the same run, and beside the card's own rate of bf16 products. Only useful tokens count, padding does not. Writes
gpu.json and gpu.md; what the time did not allow is left out and named.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gpu_peer as peer
import torch
import transformers
import workloads as W
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.model.body import Body, LoraSettings
from assent.model.roles import LanguageRole, ScalarRole, fresh_head, own_head
from assent.ports.sampling import Sampling
from assent.recipes.models import LanguageModel, MachineOptions, RewardModel
from assent.recipes.training import prepare_dpo, prepare_ppo, prepare_reward, prepare_sft
from assent.text.template import ChatTemplate
from assent.types import Comparison, Completion, Conversation, Demonstration, Message, Role

DEVICE = MachineOptions().pick()
GIB = 1 << 30
REAL = {
    "vocab_size": 32768, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "heads": 16,
}  # fmt: skip
SHAPES = {**W.SHAPES, "real": REAL}
TEXTS_OF = {"tiny": "tiny", "small": "small", "real": "small"}  # the tokenizer whose texts a size reads
STEPS_OF_DATA, EPOCHS = 20, 400
Step = Callable[[], object]
Row = dict[str, Any]


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
        task.tick(index)
        yield index
    raise AssertionError("the data was too short")


def sft(job: Job) -> tuple[Callable[[], float], float, Callable[[], Step]]:
    """Useful tokens."""
    texts = W.Texts(TEXTS_OF[job.size]).documents(job.items * STEPS_OF_DATA)
    talks = [Conversation(messages=(Message(role=Role.ASSISTANT, content=text),)) for text in texts]
    ids = [one.ids for one in template(job.size).encode_many(talks)]
    settings = SFTSettings(
        batch_size=job.items, learning_rate=2e-5, max_length=W.MAX_LENGTH, epochs=EPOCHS, micro_batch_tokens=16384
    )
    task = prepare_sft(policy(job), [Demonstration(conversation=talk) for talk in talks], settings, seed=0).task
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
    task = prepare_reward(reward_model(job), said, settings, seed=0).task
    run = ticks(task)

    def ours() -> float:
        return float(sum(len(side) for item in task.items(next(run)) for side in ids[item]))  # type: ignore[attr-defined]

    mean = sum(len(side) for pair in ids for side in pair) / len(ids)
    return ours, mean * job.items, lambda: peer.reward(peer.classifier(config(job.size), DEVICE), ids, job.items)


def dpo(job: Job) -> tuple[Callable[[], float], float, Callable[[], Step]]:
    """Pairs; our reference, computed once for the data, is paid in every step as if for one epoch."""
    said, ids, prompts = _pairs(job)
    settings = DPOSettings(batch_size=job.items, learning_rate=2e-5, max_length=W.MAX_LENGTH, epochs=EPOCHS, beta=0.1)
    model = policy(job)
    prepare_dpo(model, said, settings, seed=0)  # warms up
    task, places = prepare_dpo(model, said, settings, seed=0).task, iter(range(1_000_000))
    run = ticks(task)

    def ours() -> float:
        if next(places) % STEPS_OF_DATA == STEPS_OF_DATA // 2:
            prepare_dpo(model, said, settings, seed=0)
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
        max_tokens=W.PPO_TOKENS, learning_rate=1e-6, critic="shared", sample_batch_size=W.PPO_PROMPTS,
    )  # fmt: skip
    model = policy(job)
    task = prepare_ppo(model, prompts, settings, seed=0, reward=reward_model(job, model)).task
    run = ticks(task)

    def ours() -> float:
        for _ in range(settings.updates + 1):
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
    sampling = Sampling(max_tokens=W.GENERATE_TOKENS, batch_size=W.GENERATE_BATCH)
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


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def timed(step: Callable[[], float], *, seconds: float) -> tuple[float, float]:
    """(done per second, peak GiB); one step or two to warm up, then until the time is over."""
    for _ in range(2):
        start = time.perf_counter()
        step()
        synchronize()
        if time.perf_counter() - start > seconds:
            break
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start, done = time.perf_counter(), 0.0
    while time.perf_counter() - start < seconds:
        done += step()
    synchronize()
    elapsed = time.perf_counter() - start
    return done / elapsed, torch.cuda.max_memory_allocated() / GIB if DEVICE.type == "cuda" else 0.0


def forget() -> None:
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def measured(job: Job, seconds: float, known: Row | None) -> Row:
    """Our rate, where it is not known yet, then the peer's."""
    work, unit = WORKS[job.work]
    ours, useful, make_peer = work(job)
    if known is None:
        rate, peak = timed(ours, seconds=seconds)
        known = {"ours": round(rate, 2), "peak_gib": round(peak, 3)}
    del ours
    forget()
    theirs = make_peer()

    def peer_step() -> float:
        theirs()
        return useful

    rate, peak = timed(peer_step, seconds=seconds)
    return {
        "work": job.name, "size": job.size, "unit": unit, "ours": known["ours"], "peer": round(rate, 2),
        "ratio": round(known["ours"] / rate, 3), "peak_gib": known["peak_gib"], "peer_peak_gib": round(peak, 3),
    }  # fmt: skip


def matmul_tflops(size: int = 8192, repeats: int = 20) -> float:
    """The card's rate of bf16 products, in TFLOP/s."""
    if DEVICE.type == "cpu":
        size, repeats = 512, 3
    left, right = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        left @ right
    synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - start) / 1e12


def share_of_card(row: Row, tflops: float) -> float | None:
    """Products that SFT of all weights needs (6 a parameter and token), as a share of the card's rate."""
    if row["work"] not in ("sft", "sft, LoRA"):
        return None
    shape = SHAPES[row["size"]]
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    parameters = shape["num_hidden_layers"] * (4 * hidden**2 + 3 * hidden * inner) + shape["vocab_size"] * hidden
    return round((4 if "LoRA" in row["work"] else 6) * parameters * row["ours"] / 1e12 / tflops, 4)


def table(found: Row) -> str:
    lines = [
        f"{found['device']}; PyTorch {found['torch']}, transformers {found['transformers']}; bf16 products at "
        f"{found['matmul_tflops']:.0f} TFLOP/s.",
        "",
        "| size | work | ours | padded loop | ratio | peak GiB, ours | peak GiB, loop | share of the card |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        share = row["share_of_card"]
        lines.append(
            f"| {row['size']} | {row['work']} | {row['ours']:,.0f} {row['unit']} | {row['peer']:,.0f} | "
            f"{row['ratio']:.2f} | {row['peak_gib']:.2f} | {row['peer_peak_gib']:.2f} | "
            f"{'' if share is None else f'{share:.1%}'} |"
        )
    lines += [f"\nNot measured: {one['work']} ({one['size']}): {one['reason']}" for one in found["left_out"]]
    return "\n".join(lines) + "\n"


def write(found: Row, folder: Path) -> None:
    (folder / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "gpu.md").write_text(table(found))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=95.0, help="no work is begun later than this")
    parser.add_argument("--each", type=float, default=1.0, help="seconds that each side of a work is timed")
    parser.add_argument("--size", choices=[*SHAPES], help="only this size")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    for size in W.SHAPES:
        W.build(size)
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    found: Row = {
        "device": device, "torch": torch.__version__, "transformers": transformers.__version__,
        "matmul_tflops": round(matmul_tflops(), 1), "shapes": SHAPES, "rows": [], "left_out": [],
    }  # fmt: skip
    for job in JOBS:
        if given.size not in (None, job.size):
            continue
        begun = time.perf_counter()
        if begun - start > given.seconds:
            found["left_out"].append(asdict(job) | {"reason": "the time was over"})
            continue
        try:
            same = (row for row in found["rows"] if (row["size"], row["work"]) == (job.size, job.work))
            row = measured(job, given.each, next(same, None) if job.low_peer else None)
            row["share_of_card"] = share_of_card(row, found["matmul_tflops"])
            row["took_s"] = round(time.perf_counter() - begun, 1)
            found["rows"].append(row)
            print(json.dumps(row), flush=True)
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError) as error:
            traceback.print_exc()
            found["left_out"].append(asdict(job) | {"reason": f"{type(error).__name__}: {str(error)[:200]}"})
        forget()
        write(found, given.out)
    write(found, given.out)


if __name__ == "__main__":
    main()
