"""How many labels choosing the questions saves: reward-model accuracy against labels, chosen against random, by seed.

python -m benchmarks.asking --seeds 5 --write

On the embedded world with its simulated people: a fine-tuned policy writes candidates for training prompts; one pair of
a prompt is asked, `BATCH` prompts at a time, at random or as the reward model in training chooses. The reward model is
a head on the policy's trunk (`train = "head"`). Accuracy is the expected share of pairs of held-out completions on
which it agrees with a random one of the people: no label noise in the measurement. A curve of one seed is the mean of
`--repeats` draws of labels and order. `--all-weights` trains all weights on the same random labels too, to compare.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.model.linear_heads import Floats, HeadExamples, fit_reward
from assent.recipes.annotation.questions import (
    AcquisitionSettings,
    Pool,
    Read,
    questions_at_random,
    questions_by_reading,
    sample_pool,
)
from assent.recipes.demo.command import shipped_base
from assent.recipes.run.features import features_of
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_language_model, new_reward_model, save_language_model
from assent.recipes.training.prepare import prepare_offline
from assent.seeds import derive, numpy_rng
from assent.types import Comparison, Completion, StopReason
from assent.world.annotators import ANNOTATORS, population_preference, preference_probability
from assent.world.demonstrations import demonstrations
from assent.world.facts import World, build_world
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt, make_prompts
from benchmarks.asking_figures import Curves, write_document

BATCH, LABELS = 50, 700
ALL_WEIGHTS_AT = (100, 300, 700)
MACHINE = MachineOptions(device="cpu", threads=1)
ASKING = AcquisitionSettings(samples_per_prompt=4, shown=2, temperatures=(0.7, 1.0, 1.3), max_tokens=32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """Pairs of held-out completions by their place, and the chance that somebody prefers the first."""

    sides: tuple[tuple[WorldPrompt, Completion], ...]
    first_P: np.ndarray
    second_P: np.ndarray
    chance_P: Floats

    def accuracy(self, reward_N: Floats) -> float:
        """The expected share of pairs on which these rewards agree with a random person."""
        ahead_P = reward_N[self.first_P] > reward_N[self.second_P]
        return float(np.where(ahead_P, self.chance_P, 1 - self.chance_P).mean())

    @property
    def best(self) -> float:
        """What nobody who does not know the person can beat."""
        return float(np.maximum(self.chance_P, 1 - self.chance_P).mean())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """What a policy wrote for prompts, and what its trunk reads of every completion."""

    prompts: tuple[WorldPrompt, ...]
    pool: Pool
    feature_ND: Floats

    def save(self, file: Path) -> None:
        """Texts and features; the prompts follow from their seed."""
        texts = [[(one.text, str(one.stop)) for one in texts] for texts in self.pool.completions]
        words = json.dumps({"asked": [p.conversation.last_user_text for p in self.prompts], "texts": texts})
        np.savez_compressed(file, feature_ND=self.feature_ND.astype(np.float32), words=np.array(words))

    @classmethod
    def load(cls, file: Path, prompts: Sequence[WorldPrompt]) -> Written:
        """The reverse of `save`."""
        by_text = {prompt.conversation.last_user_text: prompt for prompt in prompts}
        with np.load(file) as found:
            words, feature_ND = json.loads(str(found["words"])), found["feature_ND"].astype(np.float64)
        kept = tuple(by_text[text] for text in words["asked"])
        completions = tuple(
            tuple(Completion(text=text, stop=StopReason(stop)) for text, stop in texts) for texts in words["texts"]
        )
        return cls(prompts=kept, pool=_pool(kept, completions), feature_ND=feature_ND)


def _pool(prompts: Sequence[WorldPrompt], completions: Sequence[Sequence[Completion]]) -> Pool:
    return Pool(
        prompts=tuple(prompt.conversation for prompt in prompts),
        completions=tuple(tuple(texts) for texts in completions),
        temperatures=tuple((1.0,) * len(texts) for texts in completions),
    )


def write(world: World, seed: int, folder: Path, *, prompts: int, held_out: int) -> tuple[Written, Written]:
    """A policy fine-tuned from the base, and what it writes for training and held-out prompts; made once a folder."""
    found = []
    policy = folder / "policy"
    for name, split, count in (("pool", "train", prompts), ("held", "held_out", held_out)):
        asked = make_prompts(world, split=split, count=count, seed=derive(seed, name))
        file = folder / f"{name}-{count}.npz"
        if not file.is_file():
            model = load_language_model(str(_policy(world, seed, policy)), machine=MACHINE)
            samples = ASKING if name == "pool" else ASKING.model_copy(update={"samples_per_prompt": 3})
            pool = sample_pool(model, [one.conversation for one in asked], samples, seed=derive(seed, name))
            by_conversation = {one.conversation: one for one in asked}
            together = zip(pool.prompts, pool.completions, strict=True)
            pairs = [(prompt, one) for prompt, texts in together for one in texts]
            feature_ND = features_of(new_reward_model(str(policy), machine=MACHINE, seed=seed), pairs)
            kept = tuple(by_conversation[prompt] for prompt in pool.prompts)
            Written(prompts=kept, pool=pool, feature_ND=feature_ND).save(file)
        found.append(Written.load(file, asked))
    return found[0], found[1]


def _policy(world: World, seed: int, folder: Path) -> Path:
    if not folder.is_dir():
        model = load_language_model(str(shipped_base()), machine=MACHINE)
        settings = SFTSettings(epochs=2, batch_size=32, learning_rate=3e-4, max_length=200)
        prepare_offline(
            SFT, model, demonstrations(world, count=500, seed=derive(seed, "shown")), settings, seed=seed
        ).run()
        save_language_model(model, folder)
    return folder


class Trial:
    """One seed: its pool, its people, and what the policy's trunk reads of every completion."""

    def __init__(self, world: World, seed: int, folder: Path, *, prompts: int, held_out: int) -> None:
        self.world, self.seed, self.folder = world, seed, folder
        made, held = write(world, seed, folder, prompts=prompts, held_out=held_out)
        assert len(made.prompts) >= LABELS, "more --prompts are needed: one label is asked of each"
        self.prompts, self.pool, self.pool_ND, self.held_ND = made.prompts, made.pool, made.feature_ND, held.feature_ND
        self.held_out = _held_out(world, held)
        sizes = [len(texts) for texts in self.pool.completions]
        self.first_row = np.cumsum([0, *sizes[:-1]])

    def label(self, row: int, first: int, second: int, repeat: int) -> tuple[int, int]:
        """(better, worse) place, as one of the people says; who, and the noise, follow from seed, repeat and texts."""
        prompt = self.prompts[row]
        low, high = min(first, second), max(first, second)
        a, b = self.pool.completions[row][low], self.pool.completions[row][high]
        rng = numpy_rng(self.seed, "label", repeat, prompt.conversation.last_user_text, a.text, b.text)
        person = ANNOTATORS[int(rng.integers(len(ANNOTATORS)))]
        gold_a, gold_b = judge(self.world, prompt, a), judge(self.world, prompt, b)
        chance = preference_probability(person, gold_a, a.text, gold_b, b.text)
        return (low, high) if rng.random() < chance else (high, low)

    def curve(self, asking: AcquisitionSettings, repeat: int, *, chosen: bool) -> tuple[list[float], list[Comparison]]:
        """Accuracy after every batch of labels, and the judgements."""
        better, worse, judged = list[int](), list[int](), list[Comparison]()
        left = list(range(len(self.pool.prompts)))
        found = []
        while len(judged) < LABELS:
            part = _part(self.pool, left)
            seed = derive(self.seed, "ask", repeat)
            if chosen and judged:
                rows = [place for row in left for place in self._rows(row)]
                read = Read(
                    pool_ND=self.pool_ND[rows], better_PD=self.pool_ND[better], worse_PD=self.pool_ND[worse],
                    probability_P=np.ones(len(better)),
                )  # fmt: skip
                asked = questions_by_reading(part, asking, read, seed=seed)
            else:
                asked = questions_at_random(part, asking, seed=seed)
            for place in asked.order_N[:BATCH].tolist():
                row, (first, second) = left[place], asked.candidates_NS[place].tolist()
                won, lost = self.label(row, first, second, repeat)
                better.append(int(self.first_row[row]) + won)
                worse.append(int(self.first_row[row]) + lost)
                texts = self.pool.completions[row]
                judged.append(Comparison(prompt=self.pool.prompts[row], chosen=texts[won], rejected=texts[lost]))
            taken = {left[place] for place in asked.order_N[:BATCH].tolist()}
            left = [row for row in left if row not in taken]
            found.append(self.head_accuracy(better, worse))
        return found, judged

    def head_accuracy(self, better: list[int], worse: list[int]) -> float:
        """Of the head that `assent reward --set train=head` fits to these judgements."""
        count = len(better)
        judged = HeadExamples(
            better_P=np.arange(count), worse_P=np.arange(count, 2 * count), probability_P=np.ones(count)
        )
        fitted = fit_reward(self.pool_ND[[*better, *worse]], judged)
        return self.held_out.accuracy(self.held_ND @ fitted.weight_D)

    def all_weights(self, judged: Sequence[Comparison], repeat: int) -> float:
        """Accuracy of a reward model of which all weights were trained, from the policy's."""
        reward = new_reward_model(str(self.folder / "policy"), machine=MACHINE, seed=derive(self.seed, repeat) % 2**31)
        settings = RewardSettings(epochs=3, batch_size=16, learning_rate=3e-4, max_length=200)
        prepare_offline(REWARD_MODEL, reward, judged, settings, seed=derive(self.seed, "train", repeat) % 2**31).run()
        sides = self.held_out.sides
        scores = reward.scorer.score([prompt.conversation for prompt, _ in sides], [one for _, one in sides])
        return self.held_out.accuracy(np.array(scores))

    def _rows(self, row: int) -> list[int]:
        start = int(self.first_row[row])
        return list(range(start, start + len(self.pool.completions[row])))


def _held_out(world: World, held: Written) -> HeldOut:
    sides, first, second, chance = list[tuple[WorldPrompt, Completion]](), [], [], []
    for prompt, texts in zip(held.prompts, held.pool.completions, strict=True):
        start = len(sides)
        sides += [(prompt, one) for one in texts]
        for a in range(start, len(sides)):
            for b in range(a + 1, len(sides)):
                first.append(a)
                second.append(b)
                chance.append(population_preference(world, prompt, sides[a][1], sides[b][1]))
    return HeldOut(
        sides=tuple(sides), first_P=np.array(first), second_P=np.array(second), chance_P=np.array(chance)
    )  # fmt: skip


def _part(pool: Pool, rows: Sequence[int]) -> Pool:
    return Pool(
        prompts=tuple(pool.prompts[row] for row in rows),
        completions=tuple(pool.completions[row] for row in rows),
        temperatures=tuple(pool.temperatures[row] for row in rows),
    )


def run_seed(world: World, seed: int, given: argparse.Namespace, asking: AcquisitionSettings) -> Curves:
    """The curves of one seed."""
    start = time.monotonic()
    trial = Trial(world, seed, given.folder / f"seed-{seed}", prompts=given.prompts, held_out=given.held_out)
    pairs = len(trial.held_out.first_P)
    print(f"seed {seed}: {len(trial.pool.prompts)} prompts, {len(trial.pool_ND)} candidates, {pairs} held-out pairs")
    print(f"  made in {time.monotonic() - start:.0f} s, best possible {trial.held_out.best:.4f}", flush=True)
    random, chosen, weights = list[list[float]](), list[list[float]](), list[float]()
    for repeat in range(given.repeats):
        curve, judged = trial.curve(asking, repeat, chosen=False)
        random.append(curve)
        chosen.append(trial.curve(asking, repeat, chosen=True)[0])
        if given.all_weights and not weights:
            weights = [trial.all_weights(judged[:count], repeat) for count in ALL_WEIGHTS_AT]
    for name, curves in (("random", random), ("chosen", chosen)):
        print(f"  {name}", " ".join(f"{100 * value:.2f}" for value in np.mean(curves, axis=0)), flush=True)
    if weights:
        print("  all weights", dict(zip(ALL_WEIGHTS_AT, weights, strict=True)))
    print(f"  {time.monotonic() - start:.0f} s", flush=True)
    return Curves(
        seed=seed, best=trial.held_out.best, random=np.mean(random, axis=0).tolist(),
        chosen=np.mean(chosen, axis=0).tolist(),
        all_weights=dict(zip(map(str, ALL_WEIGHTS_AT), weights, strict=True)) if weights else {},
    )  # fmt: skip


def main() -> None:
    """Run the seeds, print the curves, write data and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="settings were tuned on seeds from 100 on")
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=1300)
    parser.add_argument("--held-out", type=int, default=450)
    parser.add_argument("--all-weights", action="store_true", help="train all weights too, once a seed")
    parser.add_argument("--folder", type=Path, default=Path("runs/asking"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the asking settings")
    parser.add_argument("--write", action="store_true", help="write docs/asking.json and docs/asking.svg")
    given = parser.parse_args()
    changes = {key: json.loads(value) for key, _, value in (one.partition("=") for one in given.set)}
    asking = AcquisitionSettings.model_validate({**ASKING.model_dump(), **changes})
    world = build_world(0)
    curves = [run_seed(world, given.first_seed + number, given, asking) for number in range(given.seeds)]
    labels = list(range(BATCH, LABELS + 1, BATCH))
    write_document(labels, curves, folder=given.folder, write=given.write)


if __name__ == "__main__":
    main()
