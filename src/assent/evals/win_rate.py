"""Pairwise win rates: how often a judge prefers arm A's answer to arm B's, ties counted half."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from assent.evals.intervals import Interval, bootstrap_rate, finite
from assent.evals.length_control import length_controlled_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """`rate` in [0, 1] is the share of prompts on which `arm` beats `against`; a tie is half a win.

    `judge` says who compared: "gold", "reward model", or a person's name for a source of labels. `length_controlled` is
    the rate that answers of equal length would have.
    """

    arm: str
    against: str
    judge: str
    rate: Interval
    wins: int
    ties: int
    losses: int
    length_controlled: Interval | None = None


def win_rate(
    preferences: ArrayLike, *, names: tuple[str, str], judge: str, seed: int,
    groups: Sequence[Hashable] | None = None, lengths: tuple[Sequence[int], Sequence[int]] | None = None,
) -> WinRate:  # fmt: skip
    """From P(the arm's answer is better), answer by answer; `names` are (arm, against), `groups` the prompts.

    `lengths` of both answers, in characters, give the length-controlled rate too.
    """
    controlled = None
    if lengths is not None:
        prompts = range(len(lengths[0])) if groups is None else groups
        controlled = length_controlled_rate(preferences, *lengths, seed=seed, groups=prompts)
    won_N = 0.5 + 0.5 * np.sign(finite(preferences, "preferences") - 0.5)
    return WinRate(
        arm=names[0],
        against=names[1],
        judge=judge,
        rate=bootstrap_rate(won_N, seed=seed, groups=groups),
        wins=int((won_N == 1).sum()),
        ties=int((won_N == 0.5).sum()),
        losses=int((won_N == 0).sum()),
        length_controlled=controlled,
    )
