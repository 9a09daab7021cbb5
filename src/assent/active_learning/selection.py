"""What a question would teach, from the scores of an ensemble: the mathematics of asking less.

Heads h of a reward model score the K completions of each item; p_h = sg(s_h(A) - s_h(B)) is head h's P(A > B) and
p = mean_h p_h. All information is in nats.

    BALD       I(answer; head) = H(p) - mean_h H(p_h)                    Houlsby et al. 2011; at most log 2
               an answerer right with probability e says A with  e p + (1 - e)(1 - p)
    gap        max(0, |mean_h d_h| - std_h d_h),  d_h = s_h(A) - s_h(B)   how sure a large difference is, in logits
    novelty    1 - max_taken cos(f, f_taken), in [0, 2]                   of a prompt with features f
    k-center   take the item farthest from all taken ones                 Gonzalez 1985; within twice the best radius
    double Thompson sampling    the first completion is the best one of a random head, the second the best one of
               another random head, drawn anew while it is the same, at last uniform  Wu & Liu 2016, arXiv 2402.00396

Near-ties on which the heads differ teach a reward model (BALD); sure large gaps teach a policy (gap).
Shapes: H heads, N items, K candidates (nan: no such candidate), P pairs of candidates, D features.
"""

from __future__ import annotations

import numpy as np

from assent.errors import DataError
from assent.feedback.quality.crowd_bradley_terry import logistic
from assent.feedback.quality.resampling import Floats, Integers

_TRIES = 30
_TINY = 1e-12


def pair_places(candidates: int) -> tuple[Integers, Integers]:
    """The two candidates of each of the K (K - 1) / 2 pairs, the lower place first."""
    first_P, second_P = np.triu_indices(candidates, 1)
    return first_P.astype(np.int64), second_P.astype(np.int64)


def checked_scores(score_HNK: Floats) -> Floats:
    """The scores as float64; DataError unless there are heads, items and at least two candidates, nan or finite."""
    score_HNK = np.asarray(score_HNK, np.float64)
    if score_HNK.ndim != 3 or score_HNK.shape[0] < 1 or score_HNK.shape[2] < 2:
        raise DataError(f"scores are heads x items x candidates (at least 2), got shape {score_HNK.shape}")
    missing_HNK = np.isnan(score_HNK)
    if np.isinf(score_HNK).any() or (missing_HNK != missing_HNK[:1]).any():
        now = "Use nan in all heads where an item has no candidate."
        raise DataError("scores must be finite in every head", now=now)
    return score_HNK


def preferences(score_HNK: Floats) -> Floats:
    """P(A > B) of every head for every pair of candidates, [H, N, P]; nan where a candidate is missing."""
    first_P, second_P = pair_places(score_HNK.shape[2])
    return logistic(score_HNK[:, :, first_P] - score_HNK[:, :, second_P])


def bald(preference_HNP: Floats, *, accuracy: float = 1.0) -> Floats:
    """What one answer would tell about the heads, [N, P] in nats, from somebody right with probability `accuracy`."""
    if not 0.5 <= accuracy <= 1:
        raise DataError(f"accuracy is in [1/2, 1], got {accuracy}")
    said_HNP = accuracy * preference_HNP + (1 - accuracy) * (1 - preference_HNP)
    return np.asarray(np.maximum(0.0, binary_entropy(said_HNP.mean(axis=0)) - binary_entropy(said_HNP).mean(axis=0)))


def sure_gap(score_HNK: Floats) -> Floats:
    """|mean difference| less its standard deviation over heads, at least 0; [N, P] in logits."""
    first_P, second_P = pair_places(score_HNK.shape[2])
    difference_HNP = score_HNK[:, :, first_P] - score_HNK[:, :, second_P]
    return np.asarray(np.maximum(0.0, np.abs(difference_HNP.mean(axis=0)) - difference_HNP.std(axis=0)))


def binary_entropy(probability: Floats) -> Floats:
    """-p log p - (1 - p) log(1 - p) in nats; 0 at 0 and 1; nan stays nan."""
    sure = np.clip(probability, _TINY, 1 - _TINY)
    return np.asarray(-(sure * np.log(sure) + (1 - sure) * np.log1p(-sure)))


def unit_features(feature_ND: Floats) -> Floats:
    """Rows scaled to length 1; a row of zeros stays and is as far from everything as a right angle."""
    length_N = np.linalg.norm(feature_ND, axis=1, keepdims=True)
    return np.asarray(feature_ND / np.where(length_N > 0, length_N, 1.0), np.float64)


def diverse_batch(value_N: Floats, feature_ND: Floats, count: int, *, weight: float = 0.3) -> Integers:
    """`count` items one by one: the highest (1 - weight) * value / greatest value + weight * novelty.

    Novelty is 1 - the largest cosine with what is already taken. With weight 1 this is k-center by cosine.
    """
    if not 0 <= weight <= 1:
        raise DataError(f"the weight of novelty is in [0, 1], got {weight}")
    count = min(count, len(value_N))
    unit_ND, novel_N = unit_features(feature_ND), np.ones(len(feature_ND))
    highest = float(value_N.max()) if len(value_N) else 0.0
    worth_N = (1 - weight) * value_N / (highest if highest > 0 else 1.0)
    taken = np.empty(count, np.int64)
    free_N = np.ones(len(value_N), np.bool_)
    for turn in range(count):
        taken[turn] = best = int(np.argmax(np.where(free_N, worth_N + weight * novel_N, -np.inf)))
        free_N[best] = False
        np.minimum(novel_N, 1 - unit_ND @ unit_ND[best], out=novel_N)
    return taken


def thompson_sets(score_HNK: Floats, size: int, rng: np.random.Generator) -> Integers:
    """`size` different candidates of each item, each the best one of a random head; [N, size], -1 where none is left.

    A draw that is taken already is drawn anew, 30 times at most; then any candidate that is left, all alike.
    """
    heads, items, candidates = score_HNK.shape
    if not 2 <= size <= candidates:
        raise DataError(f"a set holds 2 to {candidates} candidates, got {size}")
    there_NK = ~np.isnan(score_HNK[0])
    best_HN = np.argmax(np.where(np.isnan(score_HNK), -np.inf, score_HNK), axis=2)
    taken_NK, chosen_NS, row_N = np.zeros_like(there_NK), np.full((items, size), -1), np.arange(items)
    for place in range(size):
        open_N = row_N[(there_NK & ~taken_NK).any(axis=1)]
        for _ in range(_TRIES):
            drawn = best_HN[rng.integers(0, heads, len(open_N)), open_N]
            fresh = ~taken_NK[open_N, drawn]
            chosen_NS[open_N[fresh], place] = drawn[fresh]
            open_N = open_N[~fresh]
            if not len(open_N):
                break
        lottery = np.where((there_NK & ~taken_NK)[open_N], rng.random((len(open_N), candidates)), -1.0)
        chosen_NS[open_N, place] = lottery.argmax(axis=1)
        filled_N = row_N[chosen_NS[:, place] >= 0]
        taken_NK[filled_N, chosen_NS[filled_N, place]] = True
    chosen_NS[chosen_NS[:, 1] < 0] = -1
    return chosen_NS


def set_value(value_NP: Floats, chosen_NS: Integers, candidates: int) -> Floats:
    """The mean value of the pairs within each item's chosen candidates, [N]; 0 where fewer than two are chosen."""
    place_KK = np.zeros((candidates, candidates), np.int64)
    first_P, second_P = pair_places(candidates)
    place_KK[first_P, second_P] = place_KK[second_P, first_P] = np.arange(len(first_P))
    total_N, count_N = np.zeros(len(chosen_NS)), np.zeros(len(chosen_NS))
    for a, b in zip(*pair_places(chosen_NS.shape[1]), strict=True):
        there_N = np.flatnonzero((chosen_NS[:, a] >= 0) & (chosen_NS[:, b] >= 0))
        pair_N = place_KK[chosen_NS[there_N, a], chosen_NS[there_N, b]]
        total_N[there_N] += value_NP[there_N, pair_N]
        count_N[there_N] += 1
    return np.asarray(total_N / np.maximum(count_N, 1))
