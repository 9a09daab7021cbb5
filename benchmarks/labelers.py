"""What bad labelers cost a reward model and how much of that reliability weighting wins back, on the embedded world.

    python -m benchmarks.labelers [--seeds 5] [--pairs 800] [--votes 3] [--out labelers.json]

Fifteen labelers judge pairs of answers to the world's prompts, `--votes` of them each pair. Honest ones follow the
world's gold judge with Bradley-Terry noise whose sharpness is set so that two of them agree on 63 to 77 % of pairs
(what people reach in published studies). In the same votes some labelers are then replaced:

    careless       throws a coin        adversarial    says the opposite of what an honest one would say
    always_left    takes what is shown first, whatever it is

A linear reward model (logistic regression on what can be read off an answer, and on prompt kind) learns from the votes
turned into labels by each consensus and is tested on held-out prompts against the gold judge. The accuracy lost is that
of honest labelers alone less that of unweighted votes ("share"); recovered is what a consensus wins back of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from assent.seeds import derive, python_rng
from assent.types import Completion
from assent.world.annotators import SimulatedAnnotator, preference_probability
from assent.world.behaviours import answer, applicable
from assent.world.facts import World, build_world
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt, make_prompts
from assent.world.reading import read
from benchmarks.crowds import (
    ALWAYS_LEFT,
    CROWDS,
    HONEST,
    LABELERS,
    METHODS,
    Floats,
    Result,
    behaviours_of,
    honest_people,
    labels,
    named_left,
    plain_agreement,
    recovered,
    vote,
)
from benchmarks.labelers_reward import Bench
from benchmarks.labelers_reward import one_seed as with_reward_model

TEST_PAIRS = 2500
LEAST_LOSS = 0.005  # below it there is nothing to win back
KINDS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of answers: features of their difference [P, D], the gold difference [P], P(person m prefers the first)."""

    difference_PD: Floats
    gold_P: Floats
    chance_PM: Floats


def features(prompt: WorldPrompt, text: str, kinds: Mapping[str, int]) -> Floats:
    """What can be read off an answer without knowing the truth, once overall and once for the kind of prompt."""
    reading = read(Completion(text=text))
    asked = set(prompt.conversation.last_user_text.lower().split())
    told = set(text.lower().split())
    plain = np.array([
        1.0, reading.words / 10, reading.clarity, min(len(reading.facts), 3), min(len(reading.tips), 2),
        len(reading.unknowns), reading.refusals, reading.flattery / 3, reading.rude, reading.filler, reading.vague,
        reading.repeats, len(asked & told) / max(1, len(told)),
    ])  # fmt: skip
    by_kind = np.zeros((KINDS, len(plain)))
    by_kind[kinds[prompt.kind]] = plain
    return np.concatenate([plain, by_kind.ravel()])


def make_pairs(
    world: World, *, split: str, count: int, seed: int, people: Sequence[SimulatedAnnotator] = (), each: int = 1
) -> Pairs:
    """Pairs of different answers to prompts of one split; `each` to a prompt, only those that gold tells apart."""
    prompts = make_prompts(world, split=split, count=count * 3 // 2 // each, seed=seed)
    kinds = {kind: place for place, kind in enumerate(sorted({prompt.kind for prompt in prompts}))}
    differences: list[Floats] = []
    golds: list[float] = []
    chances: list[list[float]] = []
    for place, prompt in enumerate(prompts):
        rng = python_rng(seed, "answers", split, place)
        for _ in range(each):
            a, b = (answer(world, prompt, rng.choice(applicable(prompt)), rng) for _ in range(2))
            gold_a, gold_b = (judge(world, prompt, Completion(text=text)) for text in (a, b))
            if gold_a.overall != gold_b.overall and len(golds) < count:
                differences.append(features(prompt, a, kinds) - features(prompt, b, kinds))
                golds.append(gold_a.overall - gold_b.overall)
                chances.append([preference_probability(person, gold_a, a, gold_b, b) for person in people])
    return Pairs(difference_PD=np.array(differences), gold_P=np.array(golds), chance_PM=np.array(chances, np.float64))


def train(difference_PD: Floats, label_P: Floats, *, ridge: float = 1.0) -> Floats:
    """Weights of the linear reward model: logistic regression on soft labels by Newton's method."""
    weight_D = np.zeros(difference_PD.shape[1])
    for _ in range(30):
        chance_P = 1 / (1 + np.exp(-np.clip(difference_PD @ weight_D, -30, 30)))
        gradient_D = difference_PD.T @ (label_P - chance_P) - ridge * weight_D
        curvature_DD = (difference_PD * (chance_P * (1 - chance_P))[:, None]).T @ difference_PD
        step_D = np.linalg.solve(curvature_DD + ridge * np.eye(len(weight_D)), gradient_D)
        weight_D += step_D
        if np.abs(step_D).max() < 1e-8:
            break
    return weight_D


def accuracy(weight_D: Floats, pairs: Pairs) -> float:
    """Share of pairs on which the reward model and gold name the same answer; ties count half."""
    return float(np.mean((1 + np.sign(pairs.difference_PD @ weight_D) * np.sign(pairs.gold_P)) / 2))


def one_seed(crowd: str, *, seed: int, count: int, votes: int) -> Result:
    """One crowd with one seed: the same pairs and people, once all honest and once with the bad ones."""
    world, people, behaviour = build_world(), honest_people(seed), behaviours_of(crowd)
    learn = make_pairs(world, split="train", count=count, seed=derive(seed, "learn"), people=people)
    test = make_pairs(world, split="held_out", count=TEST_PAIRS, seed=derive(seed, "test"), each=2)
    clean, _ = vote(learn.chance_PM, [HONEST] * LABELERS, votes=(votes, votes), seed=seed)
    spoilt, slot_V = vote(learn.chance_PM, behaviour, votes=(votes, votes), seed=seed)
    return Result(
        crowd=crowd,
        seed=seed,
        agreement=plain_agreement(clean),
        honest={m: accuracy(train(learn.difference_PD, labels(clean, m)), test) for m in METHODS},
        accuracy={m: accuracy(train(learn.difference_PD, labels(spoilt, m)), test) for m in METHODS},
        named_left=named_left(spoilt, slot_V),
        is_left=tuple(place for place, kind in enumerate(behaviour) if kind == ALWAYS_LEFT),
    )


def main() -> None:
    """Run all crowds and print what was lost and won back."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=800)
    parser.add_argument("--votes", type=int, default=3, help="of a pair, with the linear reward model")
    parser.add_argument("--crowds", nargs="+", choices=CROWDS, default=list(CROWDS), metavar="CROWD")
    parser.add_argument("--reward-model", action="store_true", help="train the real one, on completions of a policy")
    parser.add_argument("--base", type=Path, help="another base model than the one that ships")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--folder", type=Path, default=Path("runs/labelers"), help="for what the policy wrote")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results: list[Result] = []
    bench = Bench(build_world(), given.folder, base=given.base) if given.reward_model else None
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        for crowd in given.crowds:
            if bench is not None:
                count, methods = given.pairs, given.methods
                results.append(with_reward_model(bench, crowd, seed=seed, count=count, methods=methods, say=_say))
            else:
                results.append(one_seed(crowd, seed=seed, count=given.pairs, votes=given.votes))
        if given.out:
            given.out.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    for crowd in given.crowds:
        print("\n".join(summary([result for result in results if result.crowd == crowd])))


def _say(line: str) -> None:
    print(line, flush=True)


def summary(results: Sequence[Result]) -> list[str]:
    """Lines about one crowd: accuracy by consensus, the share of the loss won back, with intervals over seeds."""
    agreement = [result.agreement for result in results]
    lines = [
        f"{results[0].crowd}: {len(results)} seeds, honest people agree {min(agreement):.3f} to {max(agreement):.3f}",
        f"  always-left named {sum(r.named_left == r.is_left for r in results)} of {len(results)}, nobody else",
        f"  honest, share     {np.mean([r.honest['share'] for r in results]):.4f}",
    ]
    for method in results[0].accuracy:
        found = np.array([result.accuracy[method] for result in results])
        lost = np.array([result.honest["share"] - result.accuracy["share"] for result in results])
        won = found - np.array([result.accuracy["share"] for result in results])
        line = f"  {method:<17} {found.mean():.4f}   won {won.mean():+.4f} of {lost.mean():.4f} lost"
        if lost.mean() >= LEAST_LOSS:
            share = recovered(won, lost)
            line += f"   recovered {share.value or 0:.2f} [{share.low or 0:.2f}, {share.high or 0:.2f}]"
        lines.append(line)
    return lines


if __name__ == "__main__":
    main()
