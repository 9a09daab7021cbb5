"""Which question comes next: candidates, values, a permanent random arm, and one order of the queue.

    value      reward_model: mean BALD of the pairs asked, for the distance of the two completions where it is known:
               pairs far apart are odd ones, and what is learned there holds for few others
               policy: mean sure gap of the pairs asked
    arm        an item is in the random arm by its key and the seed alone, with probability `random_share`; so it stays
               there at every refresh, whatever the reward model says. Its candidates and its order are random too.
    tiers      chosen items come from the best `best_share` of them in random order, then from the next best, and so on:
               the very best ones alone are odd ones, on which a model learns little about all others
    order      arm and chosen items are merged so that every beginning of the queue holds `random_share` of the arm
    priority   N - place in that order: whole numbers, the highest comes first

The arm measures the saving: what N labels of the arm alone teach against N labels of the rest.
Shapes: H heads, N items, K candidates, D features, S candidates asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assent.active_learning.selection import (
    bald,
    checked_scores,
    diverse_batch,
    pair_places,
    preferences,
    set_value,
    sure_gap,
    thompson_sets,
)
from assent.errors import ConfigError, DataError
from assent.feedback.quality.resampling import Floats, Integers
from assent.seeds import derive, numpy_rng

Serves = Literal["reward_model", "policy"]
Flags = NDArray[np.bool_]
RANDOM = "random"
_FULL = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """How questions are chosen.

    `size` is how many candidates a question shows (None: all). With fewer than all, a reward model's questions take
    them by Thompson sampling ("thompson") or by value ("value"); a policy's always by value. `accuracy` is how often
    annotators are right. The next item is drawn from the best `best_share` of all (0: strictly by value). The first
    `diverse` items of the order are spread over prompts with weight `novelty`.
    """

    serves: Serves = "reward_model"
    size: int | None = 2
    choose: Literal["thompson", "value"] = "thompson"
    accuracy: float = 0.75
    best_share: float = 0.5
    novelty: float = 0.0
    diverse: int = 1000
    random_share: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.serves not in ("reward_model", "policy"):
            raise ConfigError(f'questions serve "reward_model" or "policy", got "{self.serves}"')
        if not all(0 <= share <= 1 for share in (self.random_share, self.best_share, self.novelty)):
            raise ConfigError("random_share, best_share and novelty are shares in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Questions:
    """`order_N` lists items, next first. `candidates_NS` are the places of the candidates to show (-1: fewer).

    `serves` is "reward_model", "policy" or "random" for each item; `value_N` in nats (or logits, for a policy).
    """

    order_N: Integers
    priority_N: Floats
    serves: tuple[str, ...]
    candidates_NS: Integers
    value_N: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Queue:
    """What could be asked: each item's key and its candidates' scores by head [H, N, K].

    `feature_ND` describes prompts, `distance_NP` says how far apart the two completions of each pair are (P pairs as
    `pair_places` lists them).
    """

    keys: Sequence[str]
    score_HNK: Floats
    feature_ND: Floats | None = None
    distance_NP: Floats | None = None


def choose_questions(queue: Queue, acquisition: Acquisition) -> Questions:
    """Candidates, values and the order of all items of the queue."""
    score_HNK = checked_scores(queue.score_HNK)
    items, candidates = score_HNK.shape[1:]
    if len(queue.keys) != items:
        raise DataError(f"{len(queue.keys)} keys came with the scores of {items} items")
    value_NP = _pair_values(score_HNK, queue.distance_NP, acquisition)
    random_N = random_arm(queue.keys, share=acquisition.random_share, seed=acquisition.seed)
    chosen_NS = _candidates(score_HNK, value_NP, acquisition)
    for item in np.flatnonzero(random_N):
        there_K = ~np.isnan(score_HNK[0, item])
        chosen_NS[item] = _random_candidates(queue.keys[int(item)], there_K, chosen_NS.shape[1], acquisition)
    value_N = set_value(value_NP, chosen_NS, candidates)
    arm, rest = np.flatnonzero(random_N), np.flatnonzero(~random_N)
    lots = [derive(acquisition.seed, "random order", queue.keys[int(item)]) for item in arm]
    arm = arm[np.argsort(lots, kind="stable")]
    order_N = _merged(arm, _by_value(rest, value_N, queue, acquisition), acquisition.random_share)
    priority_N = np.empty(items)
    priority_N[order_N] = items - np.arange(items)
    serves = tuple(RANDOM if random else acquisition.serves for random in random_N)
    return Questions(order_N=order_N, priority_N=priority_N, serves=serves, candidates_NS=chosen_NS, value_N=value_N)


def random_arm(keys: Sequence[str], *, share: float, seed: int) -> Flags:
    """Whether each item is in the random arm: a matter of its key and the seed, so it never changes."""
    return np.array([derive(seed, "random arm", key) < share * _FULL for key in keys], np.bool_)


def _pair_values(score_HNK: Floats, distance_NP: Floats | None, acquisition: Acquisition) -> Floats:
    if acquisition.serves == "policy":
        value_NP = sure_gap(score_HNK)
    else:
        value_NP = bald(preferences(score_HNK), accuracy=acquisition.accuracy)
        if distance_NP is not None:
            value_NP = np.where(distance_NP > 0, value_NP / np.where(distance_NP > 0, distance_NP, 1.0), 0.0)
    return np.nan_to_num(value_NP, nan=0.0)


def _candidates(score_HNK: Floats, value_NP: Floats, acquisition: Acquisition) -> Integers:
    candidates = score_HNK.shape[2]
    there_NK = ~np.isnan(score_HNK[0])
    size = candidates if acquisition.size is None else min(acquisition.size, candidates)
    if size == candidates:
        chosen_NS = np.where(there_NK, np.arange(candidates), -1)
    elif size == 2 and (acquisition.serves == "policy" or acquisition.choose == "value"):
        chosen_NS = _best_pairs(value_NP, there_NK)
    else:
        chosen_NS = thompson_sets(score_HNK, size, numpy_rng(acquisition.seed, "candidates"))
    chosen_NS[(chosen_NS >= 0).sum(axis=1) < 2] = -1
    return chosen_NS


def _random_candidates(key: str, there_K: Flags, size: int, acquisition: Acquisition) -> Integers:
    """`size` of an item's candidates by lot; a matter of its key and the seed, like the arm itself."""
    places = np.flatnonzero(there_K)
    chosen_S = np.full(size, -1, np.int64)
    if len(places) >= 2:
        drawn = places[np.argsort([derive(acquisition.seed, "random candidates", key, int(place)) for place in places])]
        drawn = drawn if size < len(there_K) else places  # everything is shown: in its own order
        chosen_S[: len(drawn[:size])] = drawn[:size]
    return chosen_S


def _best_pairs(value_NP: Floats, there_NK: Flags) -> Integers:
    first_P, second_P = pair_places(there_NK.shape[1])
    there_NP = np.logical_and(there_NK[:, first_P], there_NK[:, second_P])
    best_N = np.where(there_NP, value_NP, -1.0).argmax(axis=1)
    pair_N2 = np.stack([first_P[best_N], second_P[best_N]], axis=1)
    return np.where(there_NP.any(axis=1, keepdims=True), pair_N2, -1)


def _by_value(rest: Integers, value_N: Floats, queue: Queue, acquisition: Acquisition) -> Integers:
    value_N = _by_tier(rest, value_N, queue, acquisition)
    by_value = rest[np.argsort(-value_N[rest], kind="stable")]
    if queue.feature_ND is None or not acquisition.novelty or not len(rest):
        return by_value
    feature_MD, count = queue.feature_ND[by_value], acquisition.diverse
    picked = diverse_batch(value_N[by_value], feature_MD, count, weight=acquisition.novelty)
    left = np.ones(len(by_value), np.bool_)
    left[picked] = False
    return np.concatenate([by_value[picked], by_value[left]])


def _by_tier(rest: Integers, value_N: Floats, queue: Queue, acquisition: Acquisition) -> Floats:
    """The value of an item's tier, in (0, 1], and less than a tier more by lot; a matter of its key and the seed."""
    if not acquisition.best_share:
        return value_N
    place_M = np.empty(len(rest))
    place_M[np.argsort(-value_N[rest], kind="stable")] = np.arange(len(rest)) / max(1, len(rest))
    lot_M = np.array([derive(acquisition.seed, "lot", queue.keys[int(item)]) / _FULL for item in rest])
    tiers = np.ceil(1 / acquisition.best_share)
    tiered_N = np.zeros(len(value_N))
    tiered_N[rest] = (tiers - 1 - np.floor(place_M / acquisition.best_share) + lot_M) / tiers
    return tiered_N


def _merged(arm: Integers, rest: Integers, share: float) -> Integers:
    """Both in their own order, so that any beginning holds `share` of the arm as long as both last."""
    due_arm = (np.arange(len(arm)) + 0.5) / max(share, 1e-9)
    due_rest = (np.arange(len(rest)) + 0.5) / max(1 - share, 1e-9)
    both = np.concatenate([arm, rest]).astype(np.int64)
    return both[np.argsort(np.concatenate([due_arm, due_rest]), kind="stable")]
