"""Labels used and accuracy of the consensus: fixed overlap against adaptive, with and without a reward model's word.

python -m benchmarks.overlap [--pairs 1000] [--seeds 3]

Pairs of completions of the embedded world's base are judged by twelve simulated people (three of each kind) through a
real store: each asks for items and answers until nothing is left. The consensus is the share of votes; it is right if
it names the completion that the gold judge likes better, and half right where the votes are even. The reward model is a
linear head on the base's trunk, fitted to 400 votes on pairs of other prompts. Intervals are at 95 % over prompts.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assent.evals.intervals import Interval, bootstrap_mean, paired_difference
from assent.feedback.quality.consensus import soft_labels, vote_table
from assent.feedback.records import Answer, Candidate, EventKind, NewItem, PersonRole, ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.model.linear_heads import HeadExamples, fit_heads
from assent.recipes.annotation.questions import AcquisitionSettings, sample_pool
from assent.recipes.demo.command import shipped_base
from assent.recipes.run.features import features_of
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_language_model, new_reward_model
from assent.seeds import numpy_rng
from assent.types import Completion, Conversation
from assent.world.annotators import ANNOTATORS, preference_probability
from assent.world.facts import build_world
from assent.world.judge import judge
from assent.world.prompts import make_prompts

MACHINE = MachineOptions(device="cpu", threads=1)
LEARNT = 400
ARMS = ((1, 0, False), (2, 0, False), (3, 0, False), (5, 0, False), (2, 3, False), (2, 3, True), (1, 3, True),
        (2, 5, False), (2, 5, True), (1, 5, True))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two completions: whether the first is better, each kind of person's P(first), the model's scores."""

    prompt: Conversation
    texts: tuple[Completion, Completion]
    first_better: bool
    chance: tuple[float, ...]
    scores: tuple[float, float] = (0.0, 0.0)


def pairs_of(count: int) -> list[Pair]:
    """`count` pairs that the gold judge tells apart, with what the reward model says of them."""
    world = build_world(0)
    asked = make_prompts(world, split="train", count=(count + LEARNT) // 2 + 60, seed=11)
    about = {prompt.conversation: prompt for prompt in asked}
    model = load_language_model(str(shipped_base()), machine=MACHINE)
    sampling = AcquisitionSettings(samples_per_prompt=3, temperatures=(0.7, 1.0, 1.3), max_tokens=32)
    pool = sample_pool(model, [prompt.conversation for prompt in asked], sampling, seed=3)
    found: list[Pair] = []
    for prompt, texts in zip(pool.prompts, pool.completions, strict=True):
        for a, b in ((0, 1), (1, 2), (0, 2))[: 1 if len(texts) == 2 else 3]:
            first, second = texts[a], texts[b]
            golds = judge(world, about[prompt], first), judge(world, about[prompt], second)
            if abs(golds[0].overall - golds[1].overall) > 1e-9:
                chance = tuple(
                    preference_probability(person, golds[0], first.text, golds[1], second.text) for person in ANNOTATORS
                )
                better = golds[0].overall > golds[1].overall
                found.append(Pair(prompt=prompt, texts=(first, second), first_better=better, chance=chance))
    return predicted(found)[LEARNT:][:count]


def predicted(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with the scores of a head fitted to one vote on each of the first LEARNT."""
    reward = new_reward_model(str(shipped_base()), machine=MACHINE, seed=0)
    feature_ND = features_of(reward, [(pair.prompt, pair.texts[side]) for side in (0, 1) for pair in pairs])
    rng = numpy_rng(0, "votes to learn from")
    vote_P = np.array(
        [rng.random() < pair.chance[int(rng.integers(len(ANNOTATORS)))] for pair in pairs[:LEARNT]], float
    )
    first_P = np.arange(LEARNT)
    learnt = HeadExamples(better_P=first_P, worse_P=first_P + len(pairs), probability_P=vote_P)
    score_N = fit_heads(feature_ND, learnt, heads=8, seed=0).rewards(feature_ND).mean(axis=0)
    both = zip(pairs, score_N[: len(pairs)].tolist(), score_N[len(pairs) :].tolist(), strict=True)
    return [
        Pair(prompt=p.prompt, texts=p.texts, first_better=p.first_better, chance=p.chance, scores=(a, b))
        for p, a, b in both
    ]


def judged(pairs: Sequence[Pair], least: int, most: int, model: bool, *, seed: int) -> tuple[float, list[list[float]]]:
    """Labels a pair, and whether the consensus of each pair is right: by share of votes, by reliability."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, FeedbackStore.open(f"{folder}/store.db") as store:
        settings = ProjectSettings(mode=TaskMode.PAIRWISE, overlap=least, adaptive_overlap=most)
        project = store.create_project("pairs", settings).id
        store.add_items(
            project,
            [
                NewItem(
                    prompt=pair.prompt, candidates=tuple(Candidate(text=one.text) for one in pair.texts),
                    key=str(place), predicted=pair.scores if model else None,
                )
                for place, pair in enumerate(pairs)
            ],
        )  # fmt: skip
        people = [store.create_person(f"p{n}", PersonRole.ANNOTATOR, None).id for n in range(3 * len(ANNOTATORS))]
        store.set_members(project, people)
        labels = sum(iter(lambda: _turn(store, project, people, pairs, seed), 0))
        table = vote_table(store.answered_items(project, limit=len(pairs)))
        shares = [soft_labels(table, method="share"), soft_labels(table)]
        item_of = [int(store.item(pair.item_id).new.key) for pair in table.pairs]
        right = [[0.0] * len(pairs) for _ in shares]
        for found, share in zip(right, shares, strict=True):
            for place, one in zip(item_of, share.tolist(), strict=True):
                found[place] = 0.5 if abs(one - 0.5) < 1e-9 else float((one > 0.5) == pairs[place].first_better)
    return labels / len(pairs), right


def _turn(store: FeedbackStore, project: int, people: Sequence[int], pairs: Sequence[Pair], seed: int) -> int:
    """Everybody takes one item and answers it; how many did."""
    order, answers = numpy_rng(seed, "order", store.progress(project).answers).permutation(len(people)), 0
    for place in order.tolist():
        for shown in store.lease(project, people[place]):
            number = int(shown.item.new.key)
            first = numpy_rng(seed, place, number).random() < pairs[number].chance[place % len(ANNOTATORS)]
            strength = -2 if first == (shown.order[0] == 0) else 2
            key = f"{place}.{number}"
            answer = Answer(key=key, presentation_id=shown.id, kind=EventKind.PAIRWISE, payload={"strength": strength})
            store.submit(people[place], answer).result()
            answers += 1
    return answers


def told(one: Interval, sign: str = "") -> str:
    """An interval in percent."""
    return f"{100 * one.mean:{sign}.1f} [{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"


def main() -> None:
    """Run the arms, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    pairs = pairs_of(given.pairs)
    agrees = np.mean([(pair.scores[0] > pair.scores[1]) == pair.first_better for pair in pairs])
    alone = np.mean([np.mean(pair.chance) if pair.first_better else 1 - np.mean(pair.chance) for pair in pairs])
    print(f"{len(pairs)} pairs; one person is right in {alone:.1%}, the reward model in {agrees:.1%}", flush=True)
    kept: dict[tuple[int, int, bool], list[float]] = {}
    for least, most, model in ARMS:
        runs = [judged(pairs, least, most, model, seed=seed) for seed in range(given.seeds)]
        share, weighed = ([value for _, right in runs for value in right[kind]] for kind in (0, 1))
        groups = [pair.prompt for _ in runs for pair in pairs]
        kept[least, most, model] = share
        name = f"fixed {least}" if not most else f"{least} to {most}{' with the model' if model else ''}"
        labels = np.mean([used for used, _ in runs])
        line = f"{name:<24}{labels:.2f} labels  {told(bootstrap_mean(share, seed=0, groups=groups))} % by share"
        line += f"  {100 * float(np.mean(weighed)):.1f} % by reliability"
        if (3, 0, False) in kept and most:
            line += (
                f"  against fixed 3: {told(paired_difference(share, kept[3, 0, False], seed=0, groups=groups), '+')}"
            )
        print(line, flush=True)


if __name__ == "__main__":
    main()
