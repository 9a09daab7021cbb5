"""The crowds of `benchmarks.labelers` with the real reward model: `python -m benchmarks.labelers --reward-model`.

A fine-tuned policy of the embedded world writes two completions to each training prompt; honest labelers and bad ones
judge them, one to three of them each pair. The reward model starts from the policy's weights, learns from the pairs
as `assent feedback pairs` would write them and is tested on all pairs of the policy's completions of held-out prompts
that the gold judge tells apart. What was sampled and measured is kept in the folder: a run that was cut goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.durable import sha256_file, write_atomic
from assent.feedback.quality.consensus import VoteTable, comparisons_of
from assent.feedback.votes import Table
from assent.recipes.annotation.questions import AcquisitionSettings, sample_pool
from assent.recipes.demo.command import shipped_base
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import LanguageModel, load_language_model, new_reward_model, save_language_model
from assent.recipes.training.prepare import prepare_offline
from assent.seeds import derive
from assent.types import Completion, StopReason
from assent.world.annotators import SimulatedAnnotator, preference_probability
from assent.world.demonstrations import demonstrations
from assent.world.facts import World
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt, make_prompts
from benchmarks.crowds import (
    ALWAYS_LEFT,
    HONEST,
    LABELERS,
    Floats,
    Result,
    behaviours_of,
    honest_people,
    labels,
    named_left,
    plain_agreement,
    vote,
)

MACHINE = MachineOptions(device="cpu", threads=1)
SHOWN, TEST_PROMPTS, TEST_SAMPLES = 500, 240, 3
SHARPNESS = (2.0, 5.0)  # logits for a whole unit of gold: two honest ones agree on 63 to 77 % of such pairs
VOTES = (1, 3)
REWARD = RewardSettings(epochs=3, batch_size=16, learning_rate=3e-4, max_length=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Prompts and the different completions that the policy wrote to each."""

    prompts: tuple[WorldPrompt, ...]
    completions: tuple[tuple[Completion, ...], ...]

    def first(self, count: int) -> Written:
        """The first `count` prompts; ValueError if there are fewer."""
        if len(self.prompts) < count:
            raise ValueError(f"the policy wrote two texts to {len(self.prompts)} prompts only, {count} are wanted")
        return Written(prompts=self.prompts[:count], completions=self.completions[:count])


class Bench:
    """The policy and what it wrote, kept in a folder named after the base model."""

    def __init__(self, world: World, folder: Path, *, base: Path | None = None) -> None:
        self.world = world
        base = base or shipped_base()
        self.folder = folder / sha256_file(base / "model.safetensors")[:12]
        self.policy = self.folder / "policy"
        if not (self.policy / "model.safetensors").is_file():
            model = load_language_model(str(base), machine=MACHINE)
            settings = SFTSettings(epochs=2, batch_size=32, learning_rate=3e-4, max_length=200)
            prepare_offline(
                SFT, model, demonstrations(world, count=SHOWN, seed=derive(0, "shown")), settings, seed=0
            ).run()
            save_language_model(model, self.policy)
        self._model: LanguageModel | None = None

    def written(self, split: str, *, prompts: int, samples: int, seed: int) -> Written:
        """Completions of prompts of a split; those to which the policy wrote one text only are left out."""
        asked = make_prompts(self.world, split=split, count=prompts, seed=derive(seed, "prompts", split))
        path = self.folder / f"{split}-{prompts}-{samples}-{seed}.json"
        if not path.is_file():
            if self._model is None:
                self._model = load_language_model(str(self.policy), machine=MACHINE)
            settings = AcquisitionSettings(samples_per_prompt=samples, shown=2, max_tokens=32)
            pool = sample_pool(self._model, [one.conversation for one in asked], settings, seed=derive(seed, split))
            rows = zip(pool.prompts, pool.completions, strict=True)
            found = {prompt.last_user_text: [[one.text, one.stop] for one in texts] for prompt, texts in rows}
            write_atomic(path, json.dumps(found))
        kept = json.loads(path.read_text(encoding="utf-8"))
        there = tuple(prompt for prompt in asked if prompt.conversation.last_user_text in kept)
        texts = (kept[prompt.conversation.last_user_text] for prompt in there)
        return Written(
            prompts=there,
            completions=tuple(
                tuple(Completion(text=text, stop=StopReason(stop)) for text, stop in row) for row in texts
            ),
        )

    def accuracy(self, table: VoteTable, label_P: Floats, test: Written, *, seed: int) -> float:
        """Train on the labels; the share of the held-out pairs that gold tells apart on which the model is right."""
        reward = new_reward_model(str(self.policy), machine=MACHINE, seed=seed)
        prepare_offline(REWARD_MODEL, reward, comparisons_of(table, label_P), REWARD, seed=seed).run()
        flat = [
            (prompt.conversation, one)
            for prompt, row in zip(test.prompts, test.completions, strict=True)
            for one in row
        ]
        scores = iter(reward.scorer.score([prompt for prompt, _ in flat], [one for _, one in flat]))
        right = []
        for prompt, row in zip(test.prompts, test.completions, strict=True):
            told = [(judge(self.world, prompt, one).overall, next(scores)) for one in row]
            pairs = [(a, b) for a, b in combinations(told, 2) if a[0] != b[0]]
            right += [(1 + np.sign(a[1] - b[1]) * np.sign(a[0] - b[0])) / 2 for a, b in pairs]
        return float(np.mean(right))


def chances(world: World, learn: Written, people: tuple[SimulatedAnnotator, ...]) -> Floats:
    """P(person m prefers the first of the two) [P, M]."""
    rows = []
    for prompt, (a, b, *_) in zip(learn.prompts, learn.completions, strict=True):
        gold_a, gold_b = judge(world, prompt, a), judge(world, prompt, b)
        rows.append([preference_probability(person, gold_a, a.text, gold_b, b.text) for person in people])
    return np.array(rows)


def with_texts(table: VoteTable, learn: Written) -> VoteTable:
    """The votes with the texts they are about."""
    rows = zip(learn.prompts, learn.completions, strict=True)
    texts = {n: (prompt.conversation, Table(completions=list(row[:2]))) for n, (prompt, row) in enumerate(rows)}
    return replace(table, tables=texts)


def one_seed(
    bench: Bench, crowd: str, *, seed: int, count: int, methods: Sequence[str], say: Callable[[str], None]
) -> Result:
    """One crowd with one seed: the same pairs and people, once all honest and once with the bad ones."""
    people, behaviour = honest_people(seed, SHARPNESS), behaviours_of(crowd)
    learn = bench.written("train", prompts=count * 3 // 2, samples=3, seed=seed).first(count)
    test = bench.written("held_out", prompts=TEST_PROMPTS, samples=TEST_SAMPLES, seed=seed)
    chance_PM = chances(bench.world, learn, people)
    clean, _ = vote(chance_PM, [HONEST] * LABELERS, votes=VOTES, seed=seed)
    spoilt, slot_V = vote(chance_PM, behaviour, votes=VOTES, seed=seed)
    clean, spoilt = with_texts(clean, learn), with_texts(spoilt, learn)

    def trained(name: str, table: VoteTable, method: str) -> float:
        path = bench.folder / f"{name.replace(', ', '-').replace(' ', '-')}-{method}-{count}-{seed}.json"
        if not path.is_file():
            begun = time.process_time()
            write_atomic(path, json.dumps(bench.accuracy(table, labels(table, method), test, seed=seed)))
            say(f"  seed {seed}, {name}, {method}: {path.read_text()} ({time.process_time() - begun:.0f} s)")
        return float(json.loads(path.read_text(encoding="utf-8")))

    return Result(
        crowd=crowd,
        seed=seed,
        agreement=plain_agreement(clean),
        honest={"share": trained("all honest", clean, "share")},
        accuracy={method: trained(crowd, spoilt, method) for method in methods},
        named_left=named_left(spoilt, slot_V),
        is_left=tuple(place for place, kind in enumerate(behaviour) if kind == ALWAYS_LEFT),
    )
