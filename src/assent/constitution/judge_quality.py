"""How far a judge can be trusted: position bias, self-consistency, and agreement with people, with intervals.

    same position   share of verdicts that prefer the same place (A, or B) in both orders         0 is best, and a judge
                    that does not read prefers one place always                                    Lee et al. 2023
    first           share of A among all choices of a letter                                       1/2 is best
    consistency     share of verdicts that say what the pair's mean says; pairs with several principles
    accuracy, kappa agreement with people on pairs where both prefer one side

Pairs are resampled, not verdicts: those of one pair depend on each other. Where all agree, the interval is exact
(Clopper and Pearson). A file may always name the better answer first; sides are drawn for kappa, for which it matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from assent.constitution.comparison import JudgedPair, Verdict
from assent.feedback.quality.agreement import cohen_kappa
from assent.feedback.quality.binomial import exact_share
from assent.feedback.quality.resampling import Estimate, Floats, Resampling, estimate_from_sums
from assent.seeds import python_rng


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipleQuality:
    """One principle's verdicts with both orders, and how they compare with people's labels."""

    verdicts: int
    same_position: Estimate
    accuracy: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeQuality:
    """The figures; `unanswered` counts pairs without a label, `sampled` verdicts made of votes."""

    pairs: int
    unanswered: int
    sampled: int
    same_position: Estimate
    first: Estimate
    consistency: Estimate
    accuracy: Estimate
    kappa: Estimate
    by_principle: dict[str, PrincipleQuality] = field(default_factory=dict)


@dataclass(slots=True)
class _Share:
    """Hits and cases of each pair."""

    rows: list[tuple[int, float, float]] = field(default_factory=list)

    def add(self, pair: int, hit: float) -> None:
        self.rows.append((pair, hit, 1.0))

    def estimate(self, resampling: Resampling, why_undefined: str) -> Estimate:
        table = np.array(self.rows, np.float64).reshape(-1, 3)

        def ratio(sums_RC: Floats) -> Floats:
            with np.errstate(invalid="ignore"):
                return np.asarray(sums_RC[:, 0] / sums_RC[:, 1])

        group_N = table[:, 0].astype(np.int64)
        found = estimate_from_sums(table[:, 1:], ratio, resampling, why_undefined=why_undefined, group_N=group_N)
        if found.value not in (0.0, 1.0):
            return found
        exact = exact_share(round(found.value) * found.count, found.count)  # resamples that all agree have no spread
        return replace(found, low=exact.low, high=exact.high, reason="")


def judge_quality(judged: Sequence[JudgedPair], human: Sequence[float | None], *, seed: int = 0) -> JudgeQuality:
    """The figures of judged pairs; `human` is P(the first is better) as people have it, None where nobody has said."""
    resampling = Resampling(seed=seed)
    same, first, consistent, accuracy = _Share(), _Share(), _Share(), _Share()
    by_principle: dict[str, tuple[_Share, _Share]] = {}
    sides: list[tuple[float, float]] = []
    for pair, (one, label) in enumerate(zip(judged, human, strict=True)):
        turned = python_rng(seed, "side", pair).random() < 0.5
        if one.probability is not None and label is not None and label != 0.5:
            accuracy.add(pair, _agreement(one.probability, label))
            sides.append((_side(one.probability, turned), _side(label, turned)))
        for verdict in one.verdicts:
            mean = verdict.probability(None)
            if mean is None or verdict.forward is None or verdict.backward is None:
                continue
            own_same, own_accuracy = by_principle.setdefault(verdict.principle, (_Share(), _Share()))
            for share in (same, own_same):
                share.add(pair, same_position(verdict))
            for chosen in (verdict.forward, 1.0 - verdict.backward):  # P(A) in either order
                first.add(pair, _agreement(chosen, 1.0))
            if len(one.verdicts) > 1 and one.probability not in (None, 0.5):
                consistent.add(pair, _agreement(mean, one.probability or 0.0))
            if label is not None and label != 0.5:
                own_accuracy.add(pair, _agreement(mean, label))
    ours_N, theirs_N = np.array(sides, np.float64).reshape(-1, 2).T
    no_people = "no pair has a label of people and of the judge"
    return JudgeQuality(
        pairs=len(judged),
        unanswered=sum(one.probability is None for one in judged),
        sampled=sum(verdict.sampled for one in judged for verdict in one.verdicts),
        same_position=same.estimate(resampling, "no verdict has both orders"),
        first=first.estimate(resampling, "no verdict has both orders"),
        consistency=consistent.estimate(resampling, "no pair was judged by several principles"),
        accuracy=accuracy.estimate(resampling, no_people),
        kappa=cohen_kappa(ours_N, theirs_N, resampling=resampling),
        by_principle={
            name: PrincipleQuality(
                verdicts=len(own.rows), same_position=own.estimate(resampling, ""),
                accuracy=right.estimate(resampling, no_people),
            )
            for name, (own, right) in sorted(by_principle.items())
        },
    )  # fmt: skip


def same_position(verdict: Verdict) -> float:
    """1 if the same place is preferred in both orders, 0 if the same answer is, 1/2 if one order is undecided."""
    assert verdict.forward is not None and verdict.backward is not None
    there, back = np.sign(verdict.forward - 0.5), np.sign(verdict.backward - 0.5)
    return float((1 - there * back) / 2)


def _agreement(probability: float, label: float) -> float:
    """1 for the same side, 0 for the other, 1/2 where one of the two is undecided."""
    return float((1 + np.sign(probability - 0.5) * np.sign(label - 0.5)) / 2)


def _side(probability: float, turned: bool) -> float:
    return float(np.sign((0.5 - probability) if turned else (probability - 0.5)))
