"""Consensus apart from votes: posteriors by enumeration, caps, control items, replay, adaptive overlap, simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from feedback.memory_source import MemorySource

from assent.errors import ConfigError
from assent.feedback.quality.bias import position_bias
from assent.feedback.quality.consensus import (
    ItemPair,
    VoteTable,
    comparisons_of,
    influence_caps,
    log_odds_weights,
    reliabilities,
    soft_labels,
    vote_table,
)
from assent.feedback.quality.overlap import need_of_pairs

NAN = math.nan


def table_of_votes(rows: Sequence[Sequence[float]]) -> VoteTable:
    """Pairs x people: 1 the first is better, 0, 1/2 a tie, nan no vote; each pair an item of its own."""
    said = np.array(rows, np.float64)
    pair, person = np.nonzero(~np.isnan(said))
    return VoteTable(
        pairs=tuple(ItemPair(item_id=place + 1, first=0, second=1) for place in range(len(said))),
        people=tuple(range(10, 10 + said.shape[1])), pair_V=pair, person_V=person, vote_V=said[pair, person],
        known_P=np.full(len(said), NAN), tables={},
    )  # fmt: skip


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_soft_labels_are_the_posterior_of_the_annotator_model() -> None:
    table, eta = table_of_votes([[1, 1, 0], [0, NAN, 0.5], [NAN, NAN, 1]]), (0.9, 0.7, 0.6)
    weights = {10 + place: logit(e) for place, e in enumerate(eta)}
    labels = soft_labels(table, weights=weights)
    for_first, for_second = 0.9 * 0.7 * (1 - 0.6), 0.1 * 0.3 * 0.6
    assert labels == pytest.approx([for_first / (for_first + for_second), 0.1, 0.6])


def test_share_and_majority_count_votes_and_ties() -> None:
    table = table_of_votes([[1, 1, 0], [0, 1, NAN], [0.5, NAN, NAN], [1, 0.5, NAN]])
    assert soft_labels(table, method="share") == pytest.approx([2 / 3, 0.5, 0.5, 0.75])
    assert soft_labels(table, method="majority").tolist() == [1.0, 0.5, 0.5, 1.0]
    with pytest.raises(ConfigError):
        soft_labels(table, method="loudest")


def test_the_votes_of_an_adversary_are_turned_round() -> None:
    weight = log_odds_weights(np.array([0.9, 0.5, 0.2]))
    assert weight == pytest.approx([logit(0.9), 0.0, logit(0.2)])
    table = table_of_votes([[NAN, NAN, 1]])
    assert soft_labels(table, weights=dict(zip(table.people, weight, strict=True)))[0] == pytest.approx(0.2)
    assert log_odds_weights(np.array([1.0, 0.0])) == pytest.approx([math.log(99), -math.log(99)])


def test_the_cap_holds_for_everybody_and_is_the_least_that_does() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        influence = rng.lognormal(0, 2, rng.integers(3, 12))
        cap = float(rng.uniform(1 / len(influence) + 0.01, 0.9))
        factor = influence_caps(influence, cap)
        held = influence * factor
        assert (factor <= 1).all() and held.max() <= cap * held.sum() * (1 + 1e-9)
        if (factor < 1).any():  # whoever is cut stands exactly at the cap, the others are as they were
            assert held[factor < 1] == pytest.approx(cap * held.sum())


def test_a_cap_that_cannot_be_kept_makes_all_alike() -> None:
    assert influence_caps(np.array([4.0, 2.0, 0.0]), 0.3) * np.array([4, 2, 0]) == pytest.approx([2, 2, 0])
    assert influence_caps(np.zeros(3), 0.3).tolist() == [1, 1, 1]
    with pytest.raises(ConfigError):
        influence_caps(np.ones(2), 0.0)


def test_the_cap_shrinks_the_labels_of_the_one_who_answered_nearly_everything() -> None:
    rows = [[1, NAN, NAN]] * 40 + [[NAN, 1, NAN]] * 5 + [[NAN, NAN, 1]] * 5
    table, weights = table_of_votes(rows), {10: 2.0, 11: 2.0, 12: 2.0}
    capped, free = (soft_labels(table, weights=weights, cap=cap) for cap in (0.4, None))
    assert capped[0] < free[0] and capped[45] == free[45]
    assert logit(capped[0]) * 40 == pytest.approx(0.4 * (logit(capped[0]) * 40 + 2.0 * 10))


def kept_with_everything() -> MemorySource:
    kept = MemorySource()
    first = kept.add("a", "b", "c")
    kept.say(first, 1, "ranking", {"ranks": [1, 2, 3]})
    kept.say(first, 2, "ranking", {"ranks": [2, 1, 2]})
    kept.say(first, 1, "ranking", {"ranks": [3, 2, 1]}, repeat=True)
    second = kept.add("d", "e")
    kept.say(second, 2, "pairwise", {"strength": -3})
    kept.say(second, 3, "skip", {"reason": "unclear"})
    control = kept.add("f", "g", control_answer={"strength": 2})
    kept.say(control, 1, "pairwise", {"strength": 1})
    kept.say(control, 2, "pairwise", {"strength": -1})
    return kept


def test_judged_items_become_a_table_of_votes_without_repeats() -> None:
    table = vote_table(kept_with_everything().answered_items(1))
    assert table.people == (1, 2)
    rows = np.full((len(table.pairs), len(table.people)), NAN)
    rows[table.pair_V, table.person_V] = table.vote_V
    said = {(pair.item_id, pair.first, pair.second): row for pair, row in zip(table.pairs, rows.tolist(), strict=True)}
    assert said[1, 0, 1] == [1, 0] and said[1, 0, 2] == [1, 0.5] and said[1, 1, 2] == [1, 1]
    assert np.isnan(said[2, 0, 1][0]) and said[2, 0, 1][1] == 1 and said[3, 0, 1] == [0, 1]
    assert table.known_P[[pair.item_id for pair in table.pairs].index(3)] == 0.0
    assert vote_table([]).pairs == () and reliabilities(vote_table([])) == []


def test_control_items_tell_the_reliable_from_the_unreliable() -> None:
    kept = MemorySource()
    for turn in range(30):
        item = kept.add("f", "g", control_answer={"strength": 2 if turn % 2 else -2})
        right = 1 if turn % 2 else -1
        kept.say(item, 1, "pairwise", {"strength": right})
        kept.say(item, 2, "pairwise", {"strength": -right})
    good, bad = reliabilities(vote_table(kept.answered_items(1)))
    assert good.accuracy > 0.9 and good.weight > 0 and bad.accuracy < 0.15 and bad.weight < 0
    assert good.low < good.accuracy < good.high and good.answers == 30


def test_consensus_becomes_comparisons_with_probabilities() -> None:
    table = vote_table(kept_with_everything().answered_items(1))
    probability = np.array([0.2 if pair.item_id == 1 else 0.9 for pair in table.pairs])
    made = comparisons_of(table, probability)
    told = {(one.chosen.text, one.rejected.text): one for one in made}
    assert set(told) == {("b", "a"), ("c", "a"), ("c", "b"), ("d", "e")}  # the control item trains nothing
    assert told["b", "a"].probability == pytest.approx(0.8) and told["b", "a"].group == "item 1"
    assert told["b", "a"].provenance.who == "consensus of 2" and told["d", "e"].provenance.who == "consensus of 1"
    assert told["b", "a"].prompt == made[0].prompt
    even = np.full(len(table.pairs), 0.5)
    assert comparisons_of(table, even, keep_ties=False) == [] and len(comparisons_of(table, even)) == 4


def test_need_is_nothing_where_all_agree_and_the_sum_of_entropy_and_divergence_else() -> None:
    table = table_of_votes([[1, 0, NAN, NAN], [1, 1, 1, 1]])
    assert need_of_pairs(table) == pytest.approx([math.log(2) * 2 / 3, 0.0])
    mean, model = 4.5 / 5, 0.2
    divergence = mean * math.log(mean / model) + (1 - mean) * math.log((1 - mean) / (1 - model))
    assert need_of_pairs(table, np.array([0.5, model]))[1] == pytest.approx(divergence)


def simulated(seed: int) -> tuple[VoteTable, np.ndarray, dict[int, list[tuple[int, int]]]]:
    """600 pairs, 3 of 12 people each; honest ones right in 78 %, two careless, two adversarial, one always left."""
    rng = np.random.default_rng([21, seed])
    truth = rng.random(600) < 0.5
    said, slots = np.full((600, 12), NAN), {}
    for pair in range(600):
        for person in rng.choice(12, 3, replace=False):
            left = rng.random() < 0.5
            vote = truth[pair] if rng.random() < 0.78 else not truth[pair]
            vote = {0: rng.random() < 0.5, 1: rng.random() < 0.5, 2: not vote, 3: not vote, 4: left}.get(
                int(person), vote
            )
            said[pair, person] = float(vote)
            slots.setdefault(10 + int(person), []).append((0 if vote == left else 1, 2))
    return table_of_votes(said), truth, slots


def test_weighting_wins_back_what_bad_annotators_cost_and_the_always_left_one_is_named() -> None:
    for seed in range(5):
        table, truth, slots = simulated(seed)
        right = {
            method: float(np.mean(np.where(labels == 0.5, 0.5, (labels > 0.5) == truth)))
            for method in ("majority", "reliability")
            for labels in [soft_labels(table, method=method)]
        }
        honest = {10 + person for person in range(5, 12)}
        only_honest = soft_labels(table, weights={person: float(person in honest) for person in table.people})
        best = float(np.mean(np.where(only_honest == 0.5, 0.5, (only_honest > 0.5) == truth)))
        assert right["reliability"] > right["majority"] + 0.5 * (best - right["majority"]), seed
        assert [one.person_id for one in position_bias(slots) if one.verdict == "always the first"] == [14]


def test_labels_are_calibrated_in_simulation() -> None:
    probability, truth = (
        np.concatenate(parts)
        for parts in zip(*[(soft_labels(t), y) for t, y, _ in map(simulated, range(8))], strict=True)
    )
    for low, high in ((0.0, 0.15), (0.15, 0.4), (0.6, 0.85), (0.85, 1.0)):
        here = (probability >= low) & (probability <= high)
        assert abs(truth[here].mean() - probability[here].mean()) < 0.06
