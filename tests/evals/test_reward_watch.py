"""The watch: figures by hand, each alarm on its own case, silence on honest runs, fits that find what made a curve."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from assent.evals.reward_watch import Watched, alarms, best_step, distinct_2, repetition
from assent.evals.scaling_fits import best_of_n_kl, fit_best_of_n, fit_rl, fitted_rl

PROMPTS = 64
RNG = np.random.default_rng(0)
NOISE = RNG.normal(0.0, 0.5, PROMPTS)


def seen(step: int, *, reward: float = 0.0, held_out: float | None = 0.0, **changed: object) -> Watched:
    """An evaluation whose prompts differ by the same noise at every step."""
    noise = NOISE + np.random.default_rng(step).normal(0.0, 0.1, PROMPTS)
    plain = Watched(
        step=step, kl=float(step), entropy=None if step == 0 else 2.0, reward_P=tuple(reward + noise),
        held_out_P=() if held_out is None else tuple(held_out + noise[::-1]), length_P=tuple(40 + 5 * noise),
        repetition_P=tuple(0.05 + 0.02 * np.abs(noise)), distinct_2=0.5,
    )  # fmt: skip
    return replace(plain, **changed)  # type: ignore[arg-type]


def names(*evaluations: Watched, **options: float) -> set[str]:
    return {alarm.name for alarm in alarms(evaluations, **options)}


def test_an_honest_run_raises_no_alarm_and_neither_does_the_start() -> None:
    honest = [seen(step, reward=0.05 * step, held_out=0.04 * step) for step in range(8)]
    assert names(*honest) == set() and names(honest[0]) == set()
    assert best_step(honest) == 7


def test_a_reward_that_rises_while_the_held_out_one_falls_is_gamed() -> None:
    path = [seen(step, reward=0.1 * step, held_out=0.3 * step - 0.05 * step**2) for step in range(8)]
    assert names(*path) == {"gamed"}
    (alarm,) = alarms(path)
    assert alarm.step == 7 and "since iteration 3" in alarm.reason and "gamed" in alarm.reason
    assert best_step(path) == 3
    blind = [replace(one, held_out_P=()) for one in path]
    assert names(*blind) == set() and best_step(blind) == 7, "without a held-out reward nobody can tell"


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("longer", {"length_P": tuple(70 + NOISE)}),
        ("longer", {"length_P": tuple(20 + NOISE)}),
        ("repeats", {"repetition_P": (0.4,) * PROMPTS}),
        ("same_words", {"distinct_2": 0.2}),
        ("certain", {"entropy": 0.3}),
        ("beyond", {"reward_P": tuple(5 + NOISE)}),
    ],
)
def test_each_alarm_has_its_own_cause(name: str, changed: dict[str, object]) -> None:
    start, middle, end = seen(0), seen(1), seen(2)
    assert names(start, middle, end) == set()
    assert names(start, middle, replace(end, **changed)) == {name}  # type: ignore[arg-type]


def test_small_or_uncertain_changes_are_not_alarms() -> None:
    start, end = seen(0), seen(2)
    uncertain = replace(end, length_P=(40.0,) * (PROMPTS - 1) + (4000.0,))  # one answer is very long
    assert names(start, uncertain) == set()
    assert names(start, replace(end, length_P=tuple(50 + NOISE))) == set()


def test_a_spent_kl_budget_is_an_alarm() -> None:
    assert names(seen(0), seen(3), kl_budget=2.5) == {"kl_budget"} and names(seen(0), seen(3), kl_budget=3.5) == set()


def test_text_figures_by_hand() -> None:
    assert repetition("a b c d") == 0.0 and repetition("") == 0.0
    assert repetition("a b c d a b c d") == pytest.approx(1 - 4 / 5)  # abcd bcda cdab dabc abcd
    assert repetition("No. No. No. No.") == pytest.approx(1 - 2 / 5)
    assert distinct_2(["a b a b", "a b"]) == pytest.approx(2 / 4) and distinct_2(["a", ""]) == 1.0


def test_the_fits_find_the_law_that_made_the_points() -> None:
    kl = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 9.0])
    d = np.sqrt(kl)
    with np.errstate(divide="ignore", invalid="ignore"):
        rl = 0.3 + np.where(d > 0, d * (1.2 - 0.7 * np.log(d)), 0.0)
    found = fit_rl(kl, rl)
    assert found is not None and (found.alpha, found.beta, found.r_squared) == pytest.approx((1.2, 0.7, 1.0))
    assert found.peak_kl == pytest.approx(math.exp(1.2 / 0.7 - 1) ** 2)
    assert fitted_rl(found, kl.tolist()) == pytest.approx(rl.tolist())
    best = fit_best_of_n(kl, 0.3 + d * (1.2 - 0.2 * d))
    assert best is not None and (best.alpha, best.beta) == pytest.approx((1.2, 0.2))
    assert best.peak_kl == pytest.approx((1.2 / 0.4) ** 2)
    rising = fit_rl(kl[1:], 0.3 + d[1:] * (1.0 + 0.2 * np.log(d[1:])))
    assert rising is not None and rising.beta < 0 and rising.peak_kl is None, "it bends upwards"
    assert fit_rl([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]) is None


def test_the_kl_of_best_of_n_is_that_of_an_enumeration() -> None:
    """The closed form is for continuous rewards: the best of n uniform draws has the density n u^(n - 1)."""
    grid = (np.arange(200_000) + 0.5) / 200_000
    for n in (1, 2, 4, 16):
        density = n * grid ** (n - 1)
        assert best_of_n_kl(n) == pytest.approx(float((density * np.log(density)).mean()), abs=1e-4)
    counts = [max(draw) for draw in itertools.product(range(6), repeat=3)]
    share = np.bincount(counts) / 6**3
    discrete = float((share * np.log(share * 6)).sum())
    assert discrete < best_of_n_kl(3), "with ties the closed form is an upper bound"
