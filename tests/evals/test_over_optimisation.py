import numpy as np
import pytest

from assent.evals.over_optimisation import CurvePoint, point_noise, root_kl, verdict


def curve(gold, proxy, noise: float = 0.0, seed: int = 0) -> list[CurvePoint]:
    rng = np.random.default_rng(seed)
    return [
        CurvePoint(
            step=10 * i, kl=float(i), proxy=float(p + rng.normal(0, noise)), gold=float(g + rng.normal(0, noise))
        )
        for i, (g, p) in enumerate(zip(gold, proxy, strict=True))
    ]


RISE = np.linspace(0, 1, 30)
HACK = 0.7 + 0.5 * RISE - 1.0 * RISE**2


def test_proxy_up_and_gold_down_is_over_optimisation():
    found = verdict(curve(HACK, 3 * RISE, noise=0.01))
    assert found.judged
    assert found.over_optimised
    assert found.gold_fall > found.gold_bar
    assert 50 <= found.gold_peak_step <= 130  # the parabola's top is at a quarter of 290


@pytest.mark.parametrize(
    ("gold", "proxy"),
    [
        (0.6 + 0.3 * RISE, 3 * RISE),  # both rise
        (0.6 + 0.3 * np.sqrt(RISE), 3 * np.sqrt(RISE)),  # both rise and flatten
        (HACK, 1 - RISE),  # both fall: training broke, it was not gamed
        (0.8 - 0.015 * RISE, 3 * RISE),  # a fall too small to speak of
    ],
)
def test_anything_else_is_not(gold, proxy):
    assert not verdict(curve(gold, proxy, noise=0.002)).over_optimised


def test_noise_alone_is_hardly_ever_called_over_optimisation():
    alarms = sum(verdict(curve(0 * RISE + 0.8, 0.2 * RISE, noise=0.05, seed=s)).over_optimised for s in range(400))
    assert alarms <= 8


def test_a_clear_fall_is_found_through_noise():
    found = sum(verdict(curve(HACK, 3 * RISE, noise=0.04, seed=s)).over_optimised for s in range(100))
    assert found >= 95


def test_short_curves_and_curves_without_gold_are_not_judged():
    assert not verdict(curve(HACK[:5], RISE[:5])).judged
    assert not verdict([CurvePoint(step=i, kl=0.0, proxy=0.0, gold=None) for i in range(20)]).judged
    assert not verdict([]).judged


def test_point_noise_is_the_deviation_about_any_straight_trend():
    noisy = np.random.default_rng(0).normal(0, 0.3, 20_000) + np.arange(20_000) * 5.0
    assert point_noise(noisy) == pytest.approx(0.3, rel=0.02)


def test_root_kl_takes_sampling_noise_below_zero_as_zero():
    assert (root_kl(4.0), root_kl(-0.01)) == (2.0, 0.0)
