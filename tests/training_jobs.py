"""Small training runs for tests: each rebuilds all its objects, as a fresh process would, and leaves files behind."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from running import rows_of

from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.loop import Watch
from assent.algorithms.methods import METHODS, load_named
from assent.algorithms.on_policy.rollout import Observer
from assent.algorithms.ppo import PPO as METHOD
from assent.algorithms.ppo import PPOSettings
from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.environments.acting import InEnvironment
from assent.environments.single_turn import SingleTurn
from assent.interrupts import StopRequest
from assent.metrics import Metrics, without_timings
from assent.model.checkpoints import CheckpointStore
from assent.ports.environment import Environment
from assent.ports.sampling import Scorer
from assent.recipes.run.machine import LoraOptions, MachineOptions
from assent.recipes.run.models import LanguageModel, RewardModel, load_language_model, new_reward_model
from assent.recipes.run.rewards import weighted
from assent.recipes.training.prepare import PreferenceData, prepare_offline
from assent.recipes.training.prepare_on_policy import PTXPrompts, prepare_on_policy
from assent.runs.folder import RunDir
from assent.types import (
    Comparison,
    Completion,
    Conversation,
    Demonstration,
    Message,
    Ranking,
    Rating,
    RewardedDialogue,
    Role,
)

CPU = MachineOptions(device="cpu")
WORDS = ("red", "blue green", "one two three", "yes no", "maybe", "four", "what is red ?", "the sun")
PROMPTS = [Conversation.of_user(word) for word in WORDS]
COMMON = {"batch_size": 4, "learning_rate": 3e-3, "micro_batch_tokens": 50}
PPO = {
    "iterations": 3, "batch_size": 5, "learning_rate": 3e-3, "micro_batch_tokens": 60, "max_tokens": 6,
    "adaptive_kl_target": 0.01, "adaptive_kl_horizon": 20.0, "kl_coef": 0.1,
}  # fmt: skip
LORA = LoraOptions(rank=4, alpha=8.0)


class Killed(Exception):
    """The process is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training run: what model, what settings, how many ticks; 11 items make 3 steps an epoch of at most 4."""

    kind: str  # a name of METHODS
    model: str = "llama"
    lora: LoraOptions | None = None
    settings: dict[str, object] = field(default_factory=dict)
    ticks: int = 6
    environment: Callable[[], Environment] | None = None

    def run(self, folders: dict[str, Path], watch: Watch, *, resume: bool) -> list[Metrics]:
        """Build everything anew and train."""
        method, path = METHODS[self.kind], str(folders[self.model])
        usual = PPO if method.reads == "prompts" else {"epochs": 2, **COMMON}
        settings = load_named(method.settings)(**{**usual, **self.settings})
        algorithm, reward_model = load_named(method.algorithm), method.makes == "reward model"
        judge = new_reward_model(path, machine=CPU, seed=5, lora=self.lora) if reward_model or usual is PPO else None
        model = judge if reward_model else load_language_model(path, machine=CPU, lora=self.lora)
        if self.environment is not None:  # random weights seldom end a turn: here every third token does
            model.template.end_ids |= frozenset(range(0, model.template.vocabulary_size, 3))
        if usual is PPO:
            reward: RewardModel | Scorer = judge
            if method.needs_cost:
                harm = new_reward_model(path, machine=CPU, seed=6, lora=self.lora)
                reward = weighted([("reward", judge.scorer)], (), cost=harm.scorer)
            asked = InEnvironment(prompts=PROMPTS, environment=(self.environment or SingleTurn)())
            prompts = PTXPrompts(prompts=asked, ptx=demonstrations() if settings.ptx_coef else ())
            prepared = prepare_on_policy(algorithm, model, prompts, settings, seed=5, reward=reward)
        else:
            prepared = prepare_offline(algorithm, model, EXAMPLES[method.reads](), settings, seed=5)
        return prepared.run(watch, resume=resume)


def job_of(name: str) -> Job:
    """The usual job of a method of the table."""
    return Job(kind=name, ticks=3 if METHODS[name].reads == "prompts" else 6)


def train_sft(
    model: LanguageModel, shown: Sequence[Demonstration], settings: SFTSettings, *, seed: int,
    watch: Watch = Watch(), resume: bool = False,
) -> list[Metrics]:  # fmt: skip
    """SFT in memory."""
    return timeless(prepare_offline(SFT, model, shown, settings, seed=seed).run(watch, resume=resume))


def train_reward_model(
    reward: RewardModel, judged: Sequence[PreferenceData], settings: RewardSettings, *, seed: int,
    watch: Watch = Watch(), resume: bool = False,
) -> list[Metrics]:  # fmt: skip
    """A reward model in memory."""
    return timeless(prepare_offline(REWARD_MODEL, reward, judged, settings, seed=seed).run(watch, resume=resume))


def train_dpo(
    model: LanguageModel, pairs: Sequence[Comparison], settings: DPOSettings, *, seed: int,
    watch: Watch = Watch(), resume: bool = False,
) -> list[Metrics]:  # fmt: skip
    """DPO in memory."""
    return timeless(prepare_offline(DPO, model, pairs, settings, seed=seed).run(watch, resume=resume))


def train_ppo(
    model: LanguageModel, prompts: Sequence[Conversation], settings: PPOSettings, *, seed: int, resume: bool = False,
    reward: RewardModel | Scorer, watch: Watch = Watch(), observer: Observer = Observer(),
) -> list[Metrics]:  # fmt: skip
    """PPO in memory."""
    prepared = prepare_on_policy(METHOD, model, prompts, settings, seed=seed, reward=reward, observer=observer)
    return timeless(prepared.run(watch, resume=resume))


def timeless(rows: Sequence[Metrics]) -> list[Metrics]:
    """Rows as they are the same in every run."""
    return [without_timings(row) for row in rows]


def demonstrations() -> list[Demonstration]:
    texts = [WORDS[place % 8] for place in range(11)]
    return [
        Demonstration(conversation=PROMPTS[place % 8].then(text + " " + WORDS[place % 3]))
        for place, text in enumerate(texts)
    ]


def comparisons() -> list[Comparison]:
    return [
        Comparison(
            prompt=PROMPTS[place % 8],
            chosen=Completion(text=WORDS[place % 5]),
            rejected=Completion(text=WORDS[(place + 3) % 8] + " no"),
        )
        for place in range(11)
    ]


def rankings() -> list[Ranking]:
    return [
        Ranking(
            prompt=one.prompt,
            completions=(one.chosen, one.rejected, Completion(text=WORDS[place % 7])),
            ranks=(1, 2, 3),
        )
        for place, one in enumerate(comparisons())
    ]


def labels() -> list[Rating]:
    return [
        Rating(prompt=PROMPTS[place % 8], completion=Completion(text=WORDS[place % 5]), score=float(place % 3 > 0))
        for place in range(11)
    ]


def dialogues() -> list[RewardedDialogue]:
    """Of two turns, the first of which is sometimes only context."""
    made = []
    for place in range(11):
        first = PROMPTS[place % 8].then(WORDS[place % 5])
        asked = Message(role=Role.USER, content=WORDS[(place + 1) % 8])
        if place % 4 == 3:
            first = replace(first, messages=(*first.messages[:-1], replace(first.messages[-1], learned=False)))
        talk = replace(first, messages=(*first.messages, asked)).then(WORDS[(place + 2) % 5])
        rewards = (float(place % 3),) if place % 4 == 3 else (-0.5, float(place % 3))
        made.append(RewardedDialogue(conversation=talk, rewards=rewards))
    return made


EXAMPLES: dict[str, Callable[[], Sequence[Any]]] = {
    "demonstrations": demonstrations, "comparisons": comparisons, "preferences": comparisons,
    "rankings": rankings, "labels": labels, "dialogues": dialogues,
}  # fmt: skip
TRAINED = [name for name, method in METHODS.items() if method.algorithm]  # in memory, by a recipe that they share


def disturb() -> None:
    """Another process has other global generators."""
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)


def train(
    job: Job, folders: dict[str, Path], out: Path, *, every: int = 1, resume: bool = False,
    kill_after: int | None = None, stop_after: int | None = None, stop: StopRequest | None = None,
) -> list[Metrics]:  # fmt: skip
    """Run a job in a run folder with a checkpoint every `every` ticks; on demand it dies or is asked to stop."""
    stop = stop or StopRequest()

    def on_tick(done: int, total: int, row: Metrics) -> None:
        if done == kill_after:
            raise Killed
        if stop_after is not None and done == stop_after - 1:
            stop.request()

    disturb()
    opened: Callable[..., RunDir] = RunDir.open_for_resume if resume else RunDir.create
    more = {} if resume else {"kind": job.kind}
    with opened(out, settings={}, lineage={}, **more) as run:
        store = CheckpointStore(run.checkpoints)
        watch = Watch(run=run, checkpoints=store, checkpoint_every=every, stop=stop, on_tick=on_tick)
        return job.run(folders, watch, resume=resume)


def fingerprint(out: Path) -> dict[str, str]:
    """sha256 of the newest checkpoint's files and of the metrics: weights, moments, generators, coefficients, rows."""
    newest = max((out / "checkpoints").glob("step-*"))
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in newest.iterdir()}
    return files | {"rows": repr(rows_of(out)), "step": newest.name}
