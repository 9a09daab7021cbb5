"""Steps with adapters give the weights that plain `transformers` and `peft` code gives, on padded batches.

The plain code below is written from the papers: supervised loss, DPO (Rafailov et al. 2023), PPO with a critic of its
own and the k1 penalty in the reward (Stiennon et al. 2020). Both sides start from the same adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.loop import Task
from assent.algorithms.on_policy.reward_signal import RewardScale
from assent.algorithms.ppo import PPO, PPOSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.backends.local.sampler import LocalSampler
from assent.model.checkpoints import load_tree
from assent.recipes.run.machine import LoraOptions, MachineOptions
from assent.recipes.run.models import LanguageModel, load_language_model
from assent.recipes.training.prepare import prepare_offline
from assent.recipes.training.prepare_on_policy import ScaledReward, prepare_on_policy
from assent.types import Comparison, Completion, Conversation, Demonstration, Turn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
LORA = LoraOptions(rank=4, alpha=8.0)
RATE, BETA = 1e-3, 0.1
COMMON = {"learning_rate": RATE, "schedule": "constant", "warmup_share": 0.0}
EQUAL = 1e-3  # of the change by training: what rounding makes of it, which Adam enlarges where gradients are near zero


@pytest.fixture
def adapted(folder: Path) -> LanguageModel:
    return load_language_model(str(folder), machine=MachineOptions(threads=1), lora=LORA)


def weights_of(task: Task, place: Path) -> dict[str, Tensor]:
    """What a task trains, by the names that its checkpoints have."""
    place.mkdir()
    task.save(place)
    return {name: weight.clone() for name, weight in load_tree(place)["weights"].items()}


class Plain:
    """The model in `peft` with the adapters `policy` and `critic`, and AdamW on all that is trained."""

    def __init__(self, folder: str, start: dict[str, Tensor]) -> None:
        config = peft.LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules="all-linear")
        base = transformers.AutoModelForCausalLM.from_pretrained(folder)
        self.model = peft.get_peft_model(base, config, adapter_name="policy")
        self.model.add_adapter("critic", config)
        self.head = nn.Linear(base.config.hidden_size, 1, bias=False)
        held = dict(self.model.named_parameters())
        self.trained = {name: self._twin(name, held) for name in start}
        with torch.no_grad():
            for name, weight in start.items():
                self.trained[name].copy_(weight)
        self._adamw = torch.optim.AdamW(self.trained.values(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)

    def _twin(self, name: str, held: dict[str, nn.Parameter]) -> nn.Parameter:
        if name == "critics.value.head.weight":
            return self.head.weight
        return held["base_model.model." + name.removeprefix("policy.").removeprefix("critics.value.")]

    def logp(self, batch: Padded) -> Tensor:
        """Log-probabilities (B, T - 1) of the next tokens."""
        logits_BTV = self.model(batch.ids_BT, attention_mask=batch.seen_BT).logits[:, :-1]
        return torch.log_softmax(logits_BTV, -1).gather(2, batch.ids_BT[:, 1:, None])[..., 0]

    @torch.no_grad()
    def reference_logp(self, batch: Padded) -> Tensor:
        with self.model.disable_adapter():
            return self.logp(batch)

    def values(self, batch: Padded) -> Tensor:
        """Values (B, T - 1) before the next tokens; leaves the critic's adapter on."""
        self.model.set_adapter("critic")
        hidden_BTH = self.model.base_model.model.model(batch.ids_BT, attention_mask=batch.seen_BT).last_hidden_state
        return self.head(hidden_BTH[:, :-1])[..., 0]

    def step(self) -> None:
        """Clip the gradient, move, forget the gradient."""
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self._adamw.step()
        self._adamw.zero_grad()


@dataclass(frozen=True, slots=True)
class Padded:
    """Sequences padded on the right, which tokens are there, and which next tokens (B, T - 1) are the assistant's."""

    ids_BT: Tensor
    seen_BT: Tensor
    written_BT: Tensor

    @staticmethod
    def of(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Padded:
        """From prompts and completions."""
        rows = [torch.tensor([*prompt, *completion]) for prompt, completion in pairs]
        ids_BT = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        place_T = torch.arange(ids_BT.shape[1])
        start_B1 = torch.tensor([[len(prompt)] for prompt, _ in pairs])
        stop_B1 = torch.tensor([[len(row)] for row in rows])
        seen_BT = place_T < stop_B1
        return Padded(ids_BT, seen_BT.long(), (seen_BT & (place_T >= start_B1))[:, 1:])

    @staticmethod
    def of_texts(folder: str, texts: Sequence[tuple[Conversation, str]]) -> Padded:
        """From prompts and answers, by the tokenizer's own chat template, up to the end token of the answer."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        pairs = []
        for prompt, answer in texts:
            messages = [{"role": one.role.value, "content": one.content} for one in prompt.messages]
            start = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
            whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}])["input_ids"]
            assert whole[: len(start)] == start
            end = whole.index(tokenizer.eos_token_id, len(start))
            pairs.append((start, whole[len(start) : end + 1]))
        return Padded.of(pairs)


def assert_equal(ours: dict[str, Tensor], plain: Plain, start: dict[str, Tensor]) -> None:
    """All weights moved, and the same way, to within rounding."""
    change = torch.cat([(plain.trained[name].detach() - start[name]).flatten() for name in start])
    apart = torch.cat([(plain.trained[name].detach() - ours[name]).flatten() for name in start])
    assert all((ours[name] != start[name]).any() for name in start)
    assert apart.norm() <= EQUAL * change.norm()


def shortest(examples: Sequence[Demonstration | Comparison], size: Callable[..., int]) -> list:
    return sorted((one for one in examples if size(one) > 150), key=size)[:6]


def test_sft(adapted: LanguageModel, demonstrations: list[Demonstration], tmp_path: Path) -> None:
    said = shortest(demonstrations, lambda one: sum(len(message.content) for message in one.conversation.messages))
    prepared = prepare_offline(SFT, adapted, said, SFTSettings(batch_size=2, **COMMON), seed=7)
    start = weights_of(prepared.task, tmp_path / "start")
    plain = Plain(adapted.path, start)
    for step in range(3):
        chosen = [said[item].conversation for item in prepared.task.items(step)]
        texts = [(one.before(len(one.messages) - 1), one.messages[-1].content) for one in chosen]
        batch = Padded.of_texts(adapted.path, texts)
        (-plain.logp(batch)[batch.written_BT].mean()).backward()
        plain.step()
    assert len(prepared.run()) == 3
    assert_equal(weights_of(prepared.task, tmp_path / "end"), plain, start)


def test_dpo(adapted: LanguageModel, comparisons: list[Comparison], tmp_path: Path) -> None:
    pairs = shortest(comparisons, lambda one: sum(len(message.content) for message in one.prompt.messages))
    prepared = prepare_offline(DPO, adapted, pairs, DPOSettings(batch_size=2, beta=BETA, **COMMON), seed=7)
    start = weights_of(prepared.task, tmp_path / "start")
    plain = Plain(adapted.path, start)
    for step in range(3):
        chosen = [pairs[item] for item in prepared.task.items(step)]
        texts = [(one.prompt, side.text) for one in chosen for side in (one.chosen, one.rejected)]
        batch = Padded.of_texts(adapted.path, texts)
        ratio_BT = plain.logp(batch) - plain.reference_logp(batch)
        ratio_B = torch.where(batch.written_BT, ratio_BT, 0.0).sum(1)
        (-logsigmoid(BETA * (ratio_B[0::2] - ratio_B[1::2])).mean()).backward()
        plain.step()
    assert len(prepared.run()) == 3
    assert_equal(weights_of(prepared.task, tmp_path / "end"), plain, start)


class DifferentLetters:
    """A reward that is easy to compute twice."""

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        return [len(set(completion.text)) / 10 for completion in completions]


def plain_ppo_iteration(plain: Plain, turns: Sequence[Turn]) -> None:
    """Two passes over one rollout, each as one step."""
    batch = Padded.of([(turn.prompt_ids, turn.completion_ids) for turn in turns])
    written_BT, lengths = batch.written_BT, [len(turn.completion_ids) for turn in turns]
    with torch.no_grad():
        plain.model.set_adapter("policy")
        old_BT, reference_BT = plain.logp(batch), plain.reference_logp(batch)
        old_value_BT = plain.values(batch)
    penalties = torch.split(-BETA * (old_BT - reference_BT)[written_BT], lengths)
    values, rewards = torch.split(old_value_BT[written_BT], lengths), DifferentLetters().score([], [
        turn.completion for turn in turns])  # fmt: skip
    advantages, returns = [], []
    for penalty_T, value_T, reward in zip(penalties, values, rewards, strict=True):
        later, next_value, found = 0.0, 0.0, []
        for place in reversed(range(len(value_T))):
            now = penalty_T[place].item() + (reward if place == len(value_T) - 1 else 0.0)
            later = now + next_value - value_T[place].item() + 0.95 * later
            next_value = value_T[place].item()
            found.append(later)
        advantages += found[::-1]
        returns += [one + value for one, value in zip(found[::-1], value_T.tolist(), strict=True)]
    advantage_N, return_N = torch.tensor(advantages), torch.tensor(returns)
    advantage_N = (advantage_N - advantage_N.mean()) / advantage_N.std(unbiased=False)
    for _ in range(2):
        plain.model.set_adapter("policy")
        ratio_N = (plain.logp(batch) - old_BT)[written_BT].exp()
        (-torch.minimum(ratio_N * advantage_N, ratio_N.clamp(0.8, 1.2) * advantage_N).mean()).backward()
        value_N, old_value_N = plain.values(batch)[written_BT], old_value_BT[written_BT]
        near_N = old_value_N + (value_N - old_value_N).clamp(-0.2, 0.2)
        worst_N = torch.maximum((value_N - return_N).square(), (near_N - return_N).square())
        (0.5 * 0.5 * worst_N.mean()).backward()
        plain.step()


def test_ppo(
    adapted: LanguageModel, demonstrations: list[Demonstration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two iterations of two steps; the plain side is given the rollouts, each written by the weights of its time."""
    prompts = sorted((one.conversation.before(1) for one in demonstrations), key=lambda one: len(one.last_user_text))
    settings = PPOSettings(
        iterations=2, batch_size=4, epochs=2, mini_batches=1, max_tokens=12, kl_coef=BETA, kl_estimator="k1",
        missing_eos_penalty=0.0, **COMMON,
    )  # fmt: skip
    reward = ScaledReward(reward=DifferentLetters(), scale=RewardScale(mean=0.0, spread=1.0, applied=False))
    prepared = prepare_on_policy(PPO, adapted, prompts[:8], settings, seed=7, reward=reward)
    start = weights_of(prepared.task, tmp_path / "start")
    rollouts, stream = list[list[Turn]](), LocalSampler.stream

    def kept(*own: Any, **more: Any) -> Iterator[tuple[int, Turn]]:
        found = dict[int, Turn]()
        for place, turn in stream(*own, **more):
            found[place] = turn
            yield place, turn
        rollouts.append([found[place] for place in sorted(found)])

    with monkeypatch.context() as patch:
        patch.setattr(LocalSampler, "stream", kept)
        prepared.run()
    plain = Plain(adapted.path, start)
    for turns in rollouts:
        plain_ppo_iteration(plain, turns)
    assert len(rollouts) == 2
    assert_equal(weights_of(prepared.task, tmp_path / "end"), plain, start)
