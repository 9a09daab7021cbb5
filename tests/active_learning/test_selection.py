"""Choosing questions: information by enumeration, Thompson sampling by its exact chances, diversity, the random arm."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from assent.active_learning.acquisition import Acquisition, Queue, choose_questions, random_arm
from assent.active_learning.selection import (
    bald,
    binary_entropy,
    checked_scores,
    diverse_batch,
    pair_places,
    preferences,
    set_value,
    sure_gap,
    thompson_sets,
)
from assent.errors import ConfigError, DataError

NAN = math.nan


def scores(seed: int, *, heads: int = 5, items: int = 40, candidates: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(heads, items, candidates))


def test_preferences_are_the_logistic_of_every_pair() -> None:
    score = scores(0)
    first, second = pair_places(4)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    told = preferences(score)
    assert told[3, 7, 4] == pytest.approx(1 / (1 + math.exp(score[3, 7, 3] - score[3, 7, 1])))


def test_bald_is_the_mutual_information_of_answer_and_head_by_enumeration() -> None:
    for accuracy in (1.0, 0.8):
        told = preferences(scores(1, heads=3, items=5))
        found = bald(told, accuracy=accuracy)
        for item in range(5):
            for pair in range(6):
                joint = []  # P(head, answer)
                for head in range(3):
                    yes = accuracy * told[head, item, pair] + (1 - accuracy) * (1 - told[head, item, pair])
                    joint += [(head, True, yes / 3), (head, False, (1 - yes) / 3)]
                answer = {side: sum(p for _, a, p in joint if a is side) for side in (True, False)}
                information = sum(p * math.log(p / (answer[a] / 3)) for _, a, p in joint)
                assert found[item, pair] == pytest.approx(information, abs=1e-12)


def test_bald_is_nothing_where_heads_agree_and_log_two_where_they_are_sure_and_split() -> None:
    agree = np.full((4, 1, 1), 0.5)
    split = np.array([0.0, 0.0, 1.0, 1.0]).reshape(4, 1, 1)
    assert bald(agree)[0, 0] == pytest.approx(0.0, abs=1e-12) and bald(split)[0, 0] == pytest.approx(math.log(2))
    assert bald(split, accuracy=0.5)[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert bald(split, accuracy=0.7)[0, 0] == pytest.approx(math.log(2) - binary_entropy(np.array(0.7)))
    with pytest.raises(DataError):
        bald(split, accuracy=0.3)


def test_sure_gap_is_large_only_where_heads_agree_on_a_large_difference() -> None:
    score = np.array([[[2.0, 0.0], [2.0, 0.0], [0.1, 0.0]], [[2.0, 0.0], [-2.0, 0.0], [0.1, 0.0]]])
    assert sure_gap(score)[:, 0] == pytest.approx([2.0, 0.0, 0.1])


def test_a_diverse_batch_is_the_greedy_one_step_by_step() -> None:
    rng = np.random.default_rng(3)
    value, feature = rng.random(25), rng.normal(size=(25, 4))
    unit = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    taken: list[int] = []
    for _ in range(8):
        novel = 1 - (unit @ unit[taken].T).max(axis=1) if taken else np.ones(25)
        worth = 0.6 * value / value.max() + 0.4 * novel
        worth[taken] = -np.inf
        taken.append(int(worth.argmax()))
    assert diverse_batch(value, feature, 8, weight=0.4).tolist() == taken
    assert diverse_batch(value, feature, 25, weight=0.0).tolist() == np.argsort(-value, kind="stable").tolist()


def test_farthest_first_is_within_twice_the_best_radius() -> None:
    # Gonzalez' bound, for the chord distance sqrt(2 (1 - cos)), by trying all sets of three among nine points
    feature = np.random.default_rng(4).normal(size=(9, 3))
    feature /= np.linalg.norm(feature, axis=1, keepdims=True)

    def radius(centres: list[int]) -> float:
        chord = np.sqrt(np.maximum(0, 2 - 2 * feature @ feature[centres].T))
        return float(chord.min(axis=1).max())

    best = min(radius(list(centres)) for centres in permutations(range(9), 3))
    assert radius(diverse_batch(np.ones(9), feature, 3, weight=1.0).tolist()) <= 2 * best


def test_near_copies_are_not_asked_twice_in_a_row() -> None:
    feature = np.array([[1.0, 0], [1.0, 0.001], [0, 1.0]])
    assert diverse_batch(np.array([1.0, 0.99, 0.6]), feature, 2, weight=0.5).tolist() == [0, 2]


def test_double_thompson_sampling_draws_with_its_exact_chances() -> None:
    score = np.zeros((4, 1, 4))
    for head, best in enumerate((0, 0, 1, 2)):  # shares of being best: 1/2, 1/4, 1/4, 0
        score[head, 0, best] = 1.0
    many = np.repeat(score, 40_000, axis=1)
    drawn = Counter(map(tuple, thompson_sets(many, 2, np.random.default_rng(5)).tolist()))
    share = {0: 0.5, 1: 0.25, 2: 0.25}
    for first, second in permutations(share, 2):  # the second is drawn from the others' shares
        expected = share[first] * share[second] / (1 - share[first])
        assert drawn[first, second] / 40_000 == pytest.approx(expected, abs=0.01)
    assert sum(drawn.values()) == sum(drawn[pair] for pair in permutations(share, 2))


def test_where_all_heads_agree_the_second_one_is_any_other() -> None:
    score = np.zeros((3, 20_000, 4))
    score[:, :, 2] = 1.0
    drawn = thompson_sets(score, 2, np.random.default_rng(6))
    assert (drawn[:, 0] == 2).all() and (drawn[:, 1] != 2).all()
    shares = Counter(drawn[:, 1].tolist())
    assert all(shares[other] / 20_000 == pytest.approx(1 / 3, abs=0.015) for other in (0, 1, 3))


def test_thompson_sets_hold_different_candidates_that_exist() -> None:
    score = scores(7, items=300, candidates=9)
    missing = np.random.default_rng(8).random((300, 9)) < 0.5
    score[:, missing] = NAN
    there = 9 - missing.sum(axis=1)
    for size in (2, 4, 9):
        drawn = thompson_sets(score, size, np.random.default_rng(9))
        for row, gone, count in zip(drawn, missing, there, strict=True):
            kept = row[row >= 0]
            assert len(kept) == (min(size, count) if count >= 2 else 0)
            assert len(set(kept.tolist())) == len(kept) and not gone[kept].any()
    with pytest.raises(DataError):
        thompson_sets(score, 10, np.random.default_rng(0))


def test_the_value_of_a_set_is_the_mean_of_its_pairs() -> None:
    value = np.arange(6, dtype=float)[None].repeat(3, axis=0)  # pairs 01 02 03 12 13 23
    chosen = np.array([[3, 1, 0], [2, 0, -1], [-1, -1, -1]])
    assert set_value(value, chosen, 4).tolist() == [(4 + 2 + 0) / 3, 1.0, 0.0]


def test_scores_that_are_none_are_refused() -> None:
    for bad in (np.zeros((2, 3)), np.zeros((2, 3, 1)), np.full((2, 3, 2), np.inf)):
        with pytest.raises(DataError):
            checked_scores(bad)
    uneven = np.zeros((2, 3, 2))
    uneven[0, 0, 0] = NAN
    with pytest.raises(DataError, match="in every head"):
        checked_scores(uneven)
    with pytest.raises(DataError, match="keys"):
        choose_questions(Queue(keys=["a"], score_HNK=np.zeros((2, 3, 2))), Acquisition())
    with pytest.raises(ConfigError):
        Acquisition(serves="nobody")


def queue(items: int = 2000, *, seed: int = 10, candidates: int = 6) -> Queue:
    rng = np.random.default_rng(seed)
    return Queue(
        keys=[f"item {place}" for place in range(items)],
        score_HNK=scores(seed, items=items, candidates=candidates),
        feature_ND=rng.normal(size=(items, 8)),
    )


def test_the_random_arm_is_permanent_and_of_its_stated_size() -> None:
    keys = [f"item {place}" for place in range(20_000)]
    arm = random_arm(keys, share=0.15, seed=3)
    assert arm.mean() == pytest.approx(0.15, abs=0.01)
    assert (random_arm(keys[::-1], share=0.15, seed=3)[::-1] == arm).all()
    assert (random_arm(keys, share=0.3, seed=3) >= arm).all()  # a larger share only adds items
    assert (random_arm(keys, share=0.15, seed=4) != arm).any()
    assert not random_arm(keys, share=0.0, seed=3).any() and random_arm(keys, share=1.0, seed=3).all()


def test_every_beginning_of_the_queue_holds_the_random_share() -> None:
    found = choose_questions(queue(), Acquisition())
    marks = np.array([found.serves[item] == "random" for item in found.order_N])
    for beginning in (20, 100, 400, 1500):
        assert abs(marks[:beginning].mean() - 0.15) <= 1 / beginning + 0.001
    assert sorted(found.order_N.tolist()) == list(range(2000))
    assert found.priority_N[found.order_N].tolist() == list(range(2000, 0, -1))


def test_the_arm_does_not_depend_on_the_scores() -> None:
    one, other = queue(), queue()
    other = Queue(keys=other.keys, score_HNK=scores(99, items=2000, candidates=6), feature_ND=other.feature_ND)
    first, second = (choose_questions(q, Acquisition()) for q in (one, other))
    assert first.serves == second.serves
    arms = [[item for item in found.order_N if found.serves[item] == "random"] for found in (first, second)]
    assert arms[0] == arms[1]
    assert (first.candidates_NS[arms[0]] == second.candidates_NS[arms[0]]).all()
    ranks = np.argsort(np.argsort(first.value_N[arms[0]]))
    assert abs(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1]) < 0.15  # the arm's order knows nothing of value


def test_what_serves_the_reward_model_is_uncertain_and_what_serves_the_policy_is_sure() -> None:
    asked = Queue(keys=queue().keys, score_HNK=queue().score_HNK)
    model = choose_questions(asked, Acquisition(choose="value", random_share=0.0, best_share=0.0))
    policy = choose_questions(asked, Acquisition(serves="policy", random_share=0.0, best_share=0.0))
    mean = asked.score_HNK.mean(axis=0)

    def gap(found: object) -> float:
        top = found.order_N[:200]
        pair = found.candidates_NS[top]
        return float(np.abs(mean[top, pair[:, 0]] - mean[top, pair[:, 1]]).mean())

    assert gap(model) < 0.6 and gap(policy) > 1.5 and set(policy.serves) == {"policy"}
    values = model.value_N[model.order_N]
    assert (np.diff(values) <= 1e-12).all()
    best = bald(preferences(asked.score_HNK), accuracy=0.75).max(axis=1)
    assert model.value_N == pytest.approx(best)


def test_information_counts_for_the_distance_of_the_two_completions() -> None:
    asked = queue(60, candidates=3)
    plain = choose_questions(asked, Acquisition(choose="value", random_share=0.0))
    distance = np.ones((60, 3))
    distance[:, 1] = 1e9  # places 0 and 2 are far apart in every item
    distance[7] = 0.0  # the same three times
    far = Queue(keys=asked.keys, score_HNK=asked.score_HNK, distance_NP=distance)
    found = choose_questions(far, Acquisition(choose="value", random_share=0.0))
    assert not any(pair == [0, 2] for row, pair in enumerate(found.candidates_NS.tolist()) if row != 7)
    assert any(pair == [0, 2] for pair in plain.candidates_NS.tolist())
    assert found.value_N[7] == 0 and (np.delete(found.value_N, 7) > 0).all()
    policy = [choose_questions(one, Acquisition(serves="policy", random_share=0.0)) for one in (asked, far)]
    assert (policy[0].value_N == policy[1].value_N).all()  # a policy learns from far pairs as well


def test_the_next_question_is_any_of_the_best_share_and_the_best_come_first() -> None:
    asked = queue(400)
    strict = choose_questions(asked, Acquisition(choose="value", random_share=0.0, best_share=0.0))
    found = choose_questions(asked, Acquisition(choose="value", random_share=0.0, best_share=0.25))
    for tier in range(4):
        part = slice(100 * tier, 100 * (tier + 1))
        assert set(found.order_N[part].tolist()) == set(strict.order_N[part].tolist())
        assert found.order_N[part].tolist() != strict.order_N[part].tolist()
    whole = choose_questions(asked, Acquisition(choose="value", random_share=0.0, best_share=1.0))
    places = np.argsort(np.argsort(-whole.value_N))[whole.order_N]
    assert abs(np.corrcoef(np.arange(400), places)[0, 1]) < 0.15  # by lot alone
    with pytest.raises(ConfigError):
        Acquisition(best_share=1.5)


def test_the_same_seed_chooses_the_same_and_all_candidates_can_be_shown() -> None:
    asked = queue(300)
    first, again = choose_questions(asked, Acquisition(seed=5)), choose_questions(asked, Acquisition(seed=5))
    assert (first.order_N == again.order_N).all() and (first.candidates_NS == again.candidates_NS).all()
    whole = choose_questions(asked, Acquisition(size=None))
    assert (whole.candidates_NS == np.arange(6)).all()
    assert whole.value_N == pytest.approx(bald(preferences(asked.score_HNK), accuracy=0.75).mean(axis=1))


def test_ten_thousand_items_of_nine_candidates_are_ordered() -> None:
    asked = queue(10_000, candidates=9)
    found = choose_questions(asked, Acquisition(size=4))
    assert found.candidates_NS.shape == (10_000, 4) and (found.candidates_NS >= 0).all()


def test_active_choice_learns_a_linear_judge_from_fewer_labels_than_random_choice() -> None:
    """Heads from the posterior of a logistic model in 12 dimensions; accuracy after 150 labels, 5 seeds."""
    gains = []
    for seed in range(5):
        rng = np.random.default_rng([31, seed])
        truth, pool, test = rng.normal(size=12) * 2, rng.normal(size=(3000, 12)), rng.normal(size=(4000, 12))
        pool[:2400] *= np.array([1.0] * 2 + [0.1] * 10)  # most questions ask the same thing
        answer = rng.random(3000) < 1 / (1 + np.exp(-pool @ truth))
        reached = {}
        for active in (False, True):
            asked = list(rng.choice(3000, 10, replace=False))
            while len(asked) < 150:
                mean, spread = posterior(pool[asked], answer[asked])
                heads = mean + rng.normal(size=(10, 12)) @ np.linalg.cholesky(spread).T
                told = 1 / (1 + np.exp(-(heads @ pool.T)))
                worth = bald(told[:, :, None])[:, 0] if active else rng.random(3000)
                worth[asked] = -1.0
                asked += np.argsort(-worth)[:10].tolist()
            mean, _ = posterior(pool[asked], answer[asked])
            reached[active] = np.mean((test @ mean > 0) == (test @ truth > 0))
        gains.append(reached[True] - reached[False])
    assert min(gains) > -0.02 and np.mean(gains) > 0.02


def posterior(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Laplace's approximation under a standard normal prior of variance 4."""
    weight = np.zeros(x.shape[1])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-x @ weight))
        curvature = (x * (chance * (1 - chance))[:, None]).T @ x + np.eye(len(weight)) / 4
        weight = weight + np.linalg.solve(curvature, x.T @ (y - chance) - weight / 4)
    return weight, np.linalg.inv(curvature)
