"""Ratings of the arena against closed forms, a general optimiser and their own coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from assent.feedback.quality.arena_ratings import MEAN_RATING, PER_NAT, Battle, standings
from assent.feedback.quality.bradley_terry import fit
from assent.seeds import numpy_rng


def battles_of(table: dict[tuple[str, str], tuple[int, int, int]]) -> list[Battle]:
    """Battles from {(first, second): (won, tied, lost)}; each its own group."""
    battles = []
    for (first, second), outcomes in table.items():
        for won, count in zip(("first", "tie", "second"), outcomes, strict=True):
            battles += [
                Battle(first=first, second=second, won=won, group=(first, second, won, i)) for i in range(count)
            ]
    return battles


def simulated(strengths: dict[str, float], nu: float, count: int, rng: np.random.Generator) -> list[Battle]:
    pairs = list(itertools.combinations(strengths, 2))
    battles = []
    for i in range(count):
        first, second = pairs[i % len(pairs)]
        win, tie = tie_and_win(strengths[first] - strengths[second], nu)
        draw = rng.random()
        won = "first" if draw < win else "tie" if draw < win + tie else "second"
        battles.append(Battle(first=first, second=second, won=won, group=i))
    return battles


def tie_and_win(difference: float, nu: float) -> tuple[float, float]:
    up, down = math.exp(difference / 2), math.exp(-difference / 2)
    return up / (up + down + nu), nu / (up + down + nu)


def by_name(table) -> dict[str, float]:
    return {one.model: one.rating for island in table.islands for one in island.ratings}


def test_two_models_without_ties_differ_by_the_log_odds_of_winning() -> None:
    # P = 1 / (1 + exp(-d)) has its maximum where P is the observed share: d = ln(won / lost).
    ratings = by_name(standings(battles_of({("a", "b"): (30, 0, 10)}), resamples=20))
    assert ratings["a"] - ratings["b"] == pytest.approx(PER_NAT * math.log(3), rel=1e-8)
    assert sum(ratings.values()) / 2 == pytest.approx(MEAN_RATING)


def test_two_models_with_ties_meet_davidsons_closed_form() -> None:
    # Two free parameters, two free shares: exp(d) = won / lost and nu = tied / sqrt(won * lost).
    table = standings(battles_of({("a", "b"): (18, 12, 8)}), resamples=20)
    ratings = by_name(table)
    assert ratings["a"] - ratings["b"] == pytest.approx(PER_NAT * math.log(18 / 8), rel=1e-8)
    assert table.islands[0].tie_weight == pytest.approx(12 / math.sqrt(18 * 8), rel=1e-8)


def test_a_tree_of_comparisons_has_the_sum_of_its_log_odds() -> None:
    # Without a cycle every pair is fitted exactly: a - b = ln 2, b - c = ln 4.
    ratings = by_name(standings(battles_of({("a", "b"): (20, 0, 10), ("b", "c"): (40, 0, 10)}), resamples=20))
    assert ratings["a"] - ratings["c"] == pytest.approx(PER_NAT * (math.log(2) + math.log(4)), rel=1e-8)


def test_nothing_but_ties_makes_everybody_equal() -> None:
    table = standings(battles_of({("a", "b"): (0, 5, 0), ("b", "c"): (0, 5, 0)}), resamples=20)
    assert set(by_name(table).values()) == {MEAN_RATING}
    assert math.isinf(table.islands[0].tie_weight)


def _minus_log_likelihood(parameters: np.ndarray, battles: list[Battle], names: list[str]) -> float:
    strength = dict(zip(names, parameters[:-1], strict=True))
    total = 0.0
    for battle in battles:
        difference, nu = strength[battle.first] - strength[battle.second], math.exp(parameters[-1])
        weights = {"first": math.exp(difference / 2), "tie": nu, "second": math.exp(-difference / 2)}
        total -= math.log(weights[battle.won] / sum(weights.values()))
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_maximum_is_the_one_a_general_optimiser_finds(seed: int) -> None:
    strengths = {"a": 0.9, "b": 0.3, "c": -0.2, "d": -1.1}
    battles = simulated(strengths, 0.6, 240, numpy_rng(seed, "optimiser"))
    names = sorted(strengths)
    start = np.zeros(len(names) + 1)
    found = minimize(_minus_log_likelihood, start, args=(battles, names), method="BFGS", options={"gtol": 1e-7}).x
    ours = by_name(standings(battles, resamples=20))
    theirs = MEAN_RATING + PER_NAT * (found[:-1] - found[:-1].mean())
    assert [ours[name] for name in names] == pytest.approx(theirs.tolist(), abs=0.01)


def test_a_grid_finds_no_higher_likelihood() -> None:
    battles = battles_of({("a", "b"): (7, 3, 4), ("b", "c"): (6, 1, 5), ("a", "c"): (5, 2, 6)})
    names, table = ["a", "b", "c"], standings(battles, resamples=20)
    ours = by_name(table)
    point = [(ours[name] - MEAN_RATING) / PER_NAT for name in names] + [math.log(table.islands[0].tie_weight)]
    best = _minus_log_likelihood(np.array(point), battles, names)
    for shift in itertools.product((-0.02, 0.0, 0.02), repeat=4):
        if any(abs(value) > 0 for value in shift):
            assert _minus_log_likelihood(np.array(point) + shift, battles, names) >= best - 1e-9


def test_many_tables_at_once_give_what_each_gives_alone() -> None:
    rng = numpy_rng(0, "batched")
    wins = rng.integers(1, 9, size=(5, 4, 4)).astype(float) * (1 - np.eye(4))
    upper = np.triu(rng.integers(0, 4, size=(5, 4, 4)), 1).astype(float)
    upper[2] = 0  # one table without ties among others with them
    ties = upper + upper.transpose(0, 2, 1)
    together, nu = fit(wins, ties)
    for row in range(5):
        alone, alone_nu = fit(wins[row : row + 1], ties[row : row + 1])
        assert alone[0] == pytest.approx(together[row], abs=1e-9)
        assert alone_nu[0] == pytest.approx(nu[row], abs=1e-9)


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    strengths = {"a": 0.8, "b": 0.2, "c": -0.3, "d": -0.7}
    truth = {name: MEAN_RATING + PER_NAT * strength for name, strength in strengths.items()}
    held = trials = 0
    for trial in range(120):
        table = standings(simulated(strengths, 0.5, 300, numpy_rng(trial, "coverage")), seed=trial, resamples=200)
        for one in table.islands[0].ratings:
            assert one.low is not None and one.high is not None
            held += one.low <= truth[one.model] <= one.high
            trials += 1
    # 95 % of 480 (four to a trial, not independent): five standard deviations of the rate over 120 trials are 10 %.
    assert 0.90 <= held / trials <= 0.99


def test_battles_of_one_group_count_as_one_draw() -> None:
    battles = simulated({"a": 0.3, "b": 0.0}, 0.3, 60, numpy_rng(1, "groups"))
    copied = [
        Battle(first=one.first, second=one.second, won=one.won, group=one.group) for one in battles for _ in range(9)
    ]
    single, many = standings(battles, seed=3), standings(copied, seed=3)
    for alone, copy in zip(single.islands[0].ratings, many.islands[0].ratings, strict=True):
        assert copy.rating == pytest.approx(alone.rating)
        assert (copy.low, copy.high) == (pytest.approx(alone.low), pytest.approx(alone.high))


def test_models_never_compared_stand_on_islands_of_their_own() -> None:
    table = standings(battles_of({("a", "b"): (5, 1, 4), ("c", "d"): (2, 0, 3)}), resamples=20)
    assert not table.comparable
    assert [[one.model for one in island.ratings] for island in table.islands] == [["a", "b"], ["d", "c"]]
    assert table.reasons == ("c, d: never compared with the others",)


def test_one_that_always_won_has_no_rating_among_the_others() -> None:
    table = standings(battles_of({("a", "b"): (5, 1, 4), ("c", "b"): (3, 0, 0)}), resamples=20)
    assert [[one.model for one in island.ratings] for island in table.islands] == [["a", "b"], ["c"]]
    assert table.reasons == ("c: won every comparison with the others, so no upper bound is known",)
    assert not table.islands[1].rated


def test_a_resample_in_which_somebody_wins_everything_opens_the_interval() -> None:
    table = standings(battles_of({("a", "b"): (9, 0, 1)}), resamples=300)
    best, worst = table.islands[0].ratings
    assert best.high is None and worst.low is None
    assert best.low is not None


def test_places_tell_apart_only_what_the_data_tell_apart() -> None:
    table = standings(battles_of({("a", "b"): (90, 5, 10), ("b", "c"): (12, 3, 11), ("a", "c"): (80, 5, 9)}))
    assert {one.model: one.places for one in table.islands[0].ratings} == {"a": (1, 1), "b": (2, 3), "c": (2, 3)}


def test_order_of_battles_changes_nothing() -> None:
    battles = simulated({"a": 0.3, "b": 0.0, "c": 0.1}, 0.3, 90, numpy_rng(1, "order"))
    table, backwards = standings(battles), standings(battles[::-1])
    assert by_name(table) == pytest.approx(by_name(backwards), abs=1e-6)
    assert table.pairs == backwards.pairs


def test_no_battles_give_an_empty_table() -> None:
    table = standings([Battle(first="a", second="a", won="tie", group=1)])
    assert (table.islands, table.pairs, table.battles) == ((), (), 0)
    assert table.comparable


def test_the_share_of_first_places_is_kept() -> None:
    table = standings(battles_of({("a", "b"): (6, 2, 4)}), resamples=20)
    assert table.first_won == (6, 10)
