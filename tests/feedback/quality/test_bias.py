"""Habits of annotators: position, self-agreement, control items, speed; exact shares against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from feedback.memory_source import MemorySource
from scipy import stats

from assent.errors import DataError
from assent.feedback.quality.bias import (
    first_p_value,
    position_bias,
    slot_of_best,
    speed,
)
from assent.feedback.quality.binomial import beta_quantile, binomial_p_value, exact_share, holm, incomplete_beta


def test_exact_intervals_and_tests_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        count = int(rng.integers(1, 400))
        successes, level = int(rng.integers(0, count + 1)), float(rng.choice([0.8, 0.95, 0.99]))
        theirs = stats.binomtest(successes, count).proportion_ci(level, method="exact")
        ours = exact_share(successes, count, level=level)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
        assert binomial_p_value(successes, count) == pytest.approx(stats.binomtest(successes, count).pvalue, abs=1e-9)


def test_incomplete_beta_holds_from_tiny_to_large_parameters() -> None:
    for a, b, x in [
        (0.5, 0.5, 0.3),
        (1, 1, 0.7),
        (300, 2, 0.99),
        (5e4, 5e4, 0.501),
        (1e6, 10, 0.99999),
        (2, 3, 0),
        (2, 3, 1),
    ]:
        assert incomplete_beta(a, b, x) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-7, abs=1e-12)
    assert beta_quantile(0.2, 3.5, 8.5) == pytest.approx(stats.beta.ppf(0.2, 3.5, 8.5), rel=1e-9)


def test_exact_intervals_cover_at_least_at_their_rate_for_every_share() -> None:
    count = 30
    ends = [exact_share(k, count) for k in range(count + 1)]
    for truth in np.linspace(0.02, 0.98, 25):
        mass = stats.binom.pmf(np.arange(count + 1), count, truth)
        assert sum(m for m, share in zip(mass, ends, strict=True) if share.low <= truth <= share.high) >= 0.95


def test_shares_of_nothing_and_impossible_ones() -> None:
    assert exact_share(0, 0).value is None and (exact_share(0, 0).low, exact_share(0, 0).high) == (0.0, 1.0)
    with pytest.raises(DataError):
        exact_share(3, 2)
    with pytest.raises(DataError):
        binomial_p_value(1, 2, chance=0.0)


def test_holm_is_the_step_down_of_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_p_value_with_different_numbers_of_slots_is_that_of_all_outcomes_counted() -> None:
    shown = [2, 3, 3, 4]
    chances: dict[int, float] = {}
    for mask in range(16):
        hits = [bool(mask >> place & 1) for place in range(4)]
        chance = math.prod(1 / k if hit else 1 - 1 / k for hit, k in zip(hits, shown, strict=True))
        chances[sum(hits)] = chances.get(sum(hits), 0.0) + chance
    for first in range(5):
        upper = sum(chance for hits, chance in chances.items() if hits >= first)
        lower = sum(chance for hits, chance in chances.items() if hits <= first)
        assert first_p_value(first, shown) == pytest.approx(min(1.0, 2 * min(upper, lower)))


def test_the_one_who_always_takes_the_first_is_named_and_nobody_else() -> None:
    rng = np.random.default_rng(4)
    slots = {person: [(int(rng.random() < 0.5), 2) for _ in range(60)] for person in range(20)}
    slots[7] = [(int(rng.random() < 0.03), 2) for _ in range(60)]
    slots[9] = [(int(rng.random() < 0.2), 2) for _ in range(120)]
    found = position_bias(slots)
    assert {one.person_id: one.verdict for one in found if one.verdict} == {
        7: "always the first",
        9: "leans to the first",
    }
    assert found[0].person_id == 7 and found[0].first.low > 0.85 and found[0].expected == 0.5
    assert found[0].adjusted == pytest.approx(20 * found[0].p_value)


@pytest.mark.slow
def test_false_alarms_stay_below_the_stated_rate() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(120):
        slots = {person: [(int(s), 2) for s in rng.integers(0, 2, 40)] for person in range(15)}
        alarms += any(one.verdict for one in position_bias(slots))
    assert alarms <= 0.05 * 120


def test_position_is_read_from_the_order_of_presentation() -> None:
    kept = MemorySource()
    for turn in range(24):
        item = kept.add("a", "b", "c")
        order = [(0, 1, 2), (2, 0, 1), (1, 2, 0)][turn % 3]
        ranks = [3, 3, 3]
        ranks[order[0]] = 1  # likes whatever stands first
        kept.say(item, 1, "ranking", {"ranks": ranks}, order=order)
        kept.say(item, 2, "ranking", {"ranks": [1, 2, 3]}, order=order)
        kept.say(item, 3, "ranking", {"ranks": [1, 1, 2]}, order=order)  # a tie for the best says nothing
    slots: dict[int, list[tuple[int, int]]] = {}
    for event in (event for one in kept.answered_items(1) for event in one.events):
        if (slot := slot_of_best(event)) is not None:
            slots.setdefault(event.person_id, []).append((slot, 3))
    found = {one.person_id: one for one in position_bias(slots)}
    assert found[1].verdict == "always the first" and found[1].expected == pytest.approx(1 / 3)
    assert found[2].verdict == "" and found[2].first.value == pytest.approx(1 / 3) and 3 not in found


def test_the_slot_of_the_best_one_is_where_it_was_shown() -> None:
    kept = MemorySource()
    item = kept.add("a", "b")
    kept.say(item, 1, "pairwise", {"strength": -2}, order=(1, 0))  # canonical: the first completion is better
    kept.say(item, 2, "pairwise", {"strength": 0}, order=(1, 0))
    kept.say(item, 3, "skip", {"reason": "unclear"}, order=(1, 0))
    kept.say(item, 4, "good_bad", {"good": [False, True], "reasons": []}, order=(1, 0))
    assert [slot_of_best(event) for event in kept.one(item).events] == [1, None, None, 0]


def test_who_is_far_faster_than_others_on_the_same_items_is_named() -> None:
    rng = np.random.default_rng(6)
    times = []
    for item in range(40):
        length = rng.lognormal(0, 0.8)  # items differ by far more than people
        for person in rng.choice(8, 4, replace=False):
            pace = 0.12 if person == 3 else 1.0 + 0.1 * person / 8
            times.append((int(person), item, 20_000 * length * pace * rng.lognormal(0, 0.25)))
    found = speed(times)
    assert [one.person_id for one in found if one.verdict] == [3] and found[0].verdict == "fast"
    assert 0.07 < found[0].factor < 0.2 and found[0].z < -3.5


def test_speed_names_nobody_among_few_people_or_answers_and_of_one_there_is_a_median() -> None:
    assert speed([]) == []
    few = [(person, item, 100.0 if person == 0 else 20_000.0) for person in range(3) for item in range(20)]
    assert all(one.verdict == "" for one in speed(few))
    (only,) = speed([(2, 1, 4000.0)])
    assert only.person_id == 2 and only.median_ms == pytest.approx(4000)
