"""How many labels choosing the questions saves: reward-model accuracy against labels, chosen against random, by seed.

python -m benchmarks.asking --seeds 5 --write

On the embedded world with its simulated people: a fine-tuned policy writes candidates for training prompts; pairs are
asked in steps, at random or as the reward model in training chooses; after each step a reward model is trained anew
from the policy's weights on all labels so far. Accuracy is the expected share of held-out pairs on which it agrees with
a random one of the people (no label noise in the measurement).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.ports.sampling import Sampling
from assent.recipes.demo import shipped_base
from assent.recipes.models import (
    MachineOptions,
    RewardModel,
    load_language_model,
    new_reward_model,
    save_language_model,
)
from assent.recipes.questions import AskingSettings, Pool, questions, sample_pool
from assent.recipes.training import train_reward_model, train_sft
from assent.seeds import derive, numpy_rng
from assent.types import Comparison, Completion
from assent.world.demonstrations import demonstrations
from assent.world.facts import World, build_world
from assent.world.judge import judge
from assent.world.people import PEOPLE, population_preference, preference_probability
from assent.world.prompts import WorldPrompt, make_prompts

STEPS = (100, 200, 300, 400, 500, 650, 800, 1000)
MACHINE = MachineOptions(device="cpu", threads=1)
ASKING = AskingSettings(samples_per_prompt=6, shown=2, temperatures=(0.7, 1.0, 1.3), max_tokens=32, batch_size=256)
OUT = Path("docs/asking.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Pairs of held-out completions and the chance that somebody prefers the first."""

    pairs: tuple[tuple[WorldPrompt, Completion, Completion], ...]
    chance: tuple[float, ...]

    def accuracy(self, reward: RewardModel) -> float:
        """The expected share of pairs on which the reward model agrees with a random person."""
        prompts = [prompt.conversation for prompt, _, _ in self.pairs]
        first = reward.scorer.score(prompts, [a for _, a, _ in self.pairs])
        second = reward.scorer.score(prompts, [b for _, _, b in self.pairs])
        told = [p if a > b else 1 - p for p, a, b in zip(self.chance, first, second, strict=True)]
        return sum(told) / len(told)

    @property
    def best(self) -> float:
        """What nobody who does not know the person can beat."""
        return sum(max(p, 1 - p) for p in self.chance) / len(self.chance)


class Trial:
    """One seed: its policy, its pool, its people."""

    def __init__(self, world: World, seed: int, folder: Path, prompts: int) -> None:
        self.world, self.seed, self.folder = world, seed, folder
        model = load_language_model(str(shipped_base()), machine=MACHINE)
        settings = SFTSettings(epochs=2, batch_size=32, learning_rate=3e-4, max_length=200)
        train_sft(model, demonstrations(world, count=500, seed=derive(seed, "shown")), settings, seed=seed)
        save_language_model(model, folder)
        asked = make_prompts(world, split="train", count=prompts, seed=derive(seed, "pool"))
        self.about = {prompt.conversation: prompt for prompt in asked}
        self.pool = sample_pool(model, [p.conversation for p in asked], ASKING, seed=seed)
        self.held_out = self._held_out(model)

    def _held_out(self, model) -> HeldOut:  # type: ignore[no-untyped-def]
        prompts = make_prompts(self.world, split="held_out", count=270, seed=derive(self.seed, "held"))
        written: list[dict[str, Completion]] = [{} for _ in prompts]
        for turn, temperature in enumerate((0.7, 1.0, 1.3)):
            sampling = Sampling(max_tokens=32, temperature=temperature, batch_size=256)
            turns = model.sampler.sample([p.conversation for p in prompts], sampling=sampling, seed=turn)
            for place, one in enumerate(turns):
                written[place].setdefault(one.completion.text, one.completion)
        pairs = tuple(
            (prompt, a, b)
            for prompt, texts in zip(prompts, written, strict=True)
            for place, a in enumerate(texts.values())
            for b in list(texts.values())[:place]
        )
        return HeldOut(pairs=pairs, chance=tuple(population_preference(self.world, *pair) for pair in pairs))

    def label(self, row: int, first: int, second: int) -> Comparison:
        """What one of the people says of two candidates of a pool prompt; who, and the noise, follow from the seed."""
        prompt = self.about[self.pool.prompts[row]]
        a, b = self.pool.completions[row][first], self.pool.completions[row][second]
        rng = numpy_rng(self.seed, "label", prompt.conversation.last_user_text, a.text, b.text)
        person = PEOPLE[int(rng.integers(len(PEOPLE)))]
        gold_a, gold_b = judge(self.world, prompt, a), judge(self.world, prompt, b)
        chance = preference_probability(person, gold_a, a.text, gold_b, b.text)
        if rng.random() >= chance:
            a, b = b, a
        return Comparison(prompt=prompt.conversation, chosen=a, rejected=b)

    def train(self, judged: Sequence[Comparison]) -> RewardModel:
        """A reward model from the policy's weights."""
        reward = new_reward_model(str(self.folder), machine=MACHINE, seed=self.seed)
        settings = RewardSettings(epochs=3, batch_size=16, learning_rate=3e-4, max_length=200)
        train_reward_model(reward, judged, settings, seed=self.seed)
        return reward

    def curve(self, asking: AskingSettings, say=print) -> list[float]:  # type: ignore[no-untyped-def]
        """Accuracy after each step of labels."""
        judged: list[Comparison] = []
        taken: set[int] = set()
        reward, found = None, []
        for wanted in STEPS:
            left = [row for row in range(len(self.pool.prompts)) if row not in taken]
            part = Pool(
                prompts=tuple(self.pool.prompts[row] for row in left),
                completions=tuple(self.pool.completions[row] for row in left),
                temperatures=tuple(self.pool.temperatures[row] for row in left),
            )
            chosen = questions(part, asking, seed=derive(self.seed, "ask"), reward=reward, judged=judged)
            for place in chosen.order_N.tolist():
                if len(judged) == wanted:
                    break
                first, second = chosen.candidates_NS[place].tolist()
                if first >= 0 and second >= 0:
                    taken.add(left[place])
                    judged.append(self.label(left[place], first, second))
            start = time.monotonic()
            reward = self.train(judged)
            found.append(self.held_out.accuracy(reward))
            say(f"  {wanted} labels: {found[-1]:.4f} ({time.monotonic() - start:.0f} s)", flush=True)
        return found


def labels_for(accuracy: float, curve: Sequence[float]) -> float:
    """How many labels a curve (made monotone) needs for an accuracy, by straight lines between steps; inf if never."""
    best = np.maximum.accumulate(curve)
    if accuracy > best[-1]:
        return float("inf")
    place = int(np.argmax(best >= accuracy))
    if place == 0:
        return float(STEPS[0])
    low, high = best[place - 1], best[place]
    share = (accuracy - low) / (high - low) if high > low else 1.0
    return STEPS[place - 1] + share * (STEPS[place] - STEPS[place - 1])


def main() -> None:
    """Run the seeds, print the curves, write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=1600)
    parser.add_argument("--folder", type=Path, default=Path("runs/asking"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the asking settings")
    parser.add_argument("--write", action="store_true", help=f"write {OUT}")
    given = parser.parse_args()
    chosen = replace_settings(ASKING, given.set)
    world = build_world(0)
    rows = []
    for seed in range(given.seeds):
        trial = Trial(world, seed, given.folder / f"policy-{seed}", given.prompts)
        print(f"seed {seed}: {len(trial.pool.prompts)} prompts, best possible {trial.held_out.best:.4f}", flush=True)
        print(" random", flush=True)
        random = trial.curve(chosen.model_copy(update={"random_share": 1.0}))
        print(" chosen", flush=True)
        rows.append({"seed": seed, "random": random, "chosen": trial.curve(chosen), "best": trial.held_out.best})
        if given.write:
            OUT.write_text(json.dumps({"labels": STEPS, "rows": rows}, indent=1) + "\n")
    for name in ("random", "chosen"):
        mean = np.mean([row[name] for row in rows], axis=0)
        print(name, " ".join(f"{value:.4f}" for value in mean))


def replace_settings(settings: AskingSettings, given: Sequence[str]) -> AskingSettings:
    """The settings with `key=value` replaced."""
    changes = {key: json.loads(value) for key, _, value in (one.partition("=") for one in given)}
    return AskingSettings.model_validate({**settings.model_dump(), **changes})


if __name__ == "__main__":
    main()
