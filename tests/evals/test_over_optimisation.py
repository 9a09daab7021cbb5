import numpy as np
import pytest

from assent.errors import DataError
from assent.evals.over_optimisation import Evaluation, curve, gold_at_reward, verdict

RISE = np.linspace(0, 1, 12)
HACK = 0.7 + 0.5 * RISE - 0.7 * RISE**2  # rises to 0.79 at a third of the way, ends at 0.5


def path(gold, proxy, *, noise: float = 0.3, prompts: int = 540, seed: int = 0) -> list[Evaluation]:
    """Evaluations whose scores scatter about `gold` and `proxy`: easy and hard prompts, and noise of their own."""
    rng = np.random.default_rng(seed)
    hard_P = rng.normal(0, 0.2, prompts)
    return [
        Evaluation(
            step=4 * i,
            kl=float(i),
            proxy_P=tuple(p + 3 * hard_P + rng.normal(0, noise, prompts)),
            gold_P=tuple(g + hard_P + rng.normal(0, noise, prompts)),
        )
        for i, (g, p) in enumerate(zip(gold, proxy, strict=True))
    ]


def test_proxy_up_and_gold_down_is_over_optimisation():
    found = verdict(path(HACK, 3 * RISE))
    assert found.over_optimised
    assert 12 <= found.gold_peak_step <= 20
    assert found.gold_fall.low <= 0.289 <= found.gold_fall.high  # the parabola's peak less its end
    assert found.prompts == 540


@pytest.mark.parametrize(
    ("gold", "proxy", "fell"),
    [
        (0.6 + 0.3 * RISE, 3 * RISE, False),  # both rise
        (0.6 + 0.3 * np.sqrt(RISE), 3 * np.sqrt(RISE), False),  # both rise and flatten
        (HACK, 1 - RISE, True),  # both fall: training broke, it was not gamed
    ],
)
def test_anything_else_is_not(gold, proxy, fell):
    found = verdict(path(gold, proxy))
    assert not found.over_optimised
    assert found.gold_fell == fell


def test_the_peak_of_noise_alone_is_hardly_ever_called_a_fall():
    alarms = [verdict(path(0 * RISE + 0.8, RISE, prompts=200, seed=s)) for s in range(300)]
    assert sum(found.over_optimised for found in alarms) <= 300 * 0.05
    assert abs(np.mean([found.gold_fall.mean for found in alarms])) < 0.003  # halves make the fall unbiased
    assert np.mean([found.gold_peak - found.gold_end for found in alarms]) > 0.02  # what the plain difference says


def test_a_clear_fall_is_found_through_noise():
    assert all(verdict(path(HACK, 3 * RISE, noise=0.5, seed=s)).over_optimised for s in range(40))


def test_a_fall_needs_evaluations_of_the_same_prompts():
    whole = path(HACK, RISE)
    for broken in ([], whole[:1], [whole[0], *path(HACK, RISE, prompts=9)]):
        with pytest.raises(DataError, match="same prompts"):
            verdict(broken)


def test_a_curve_holds_the_means_and_says_where_a_reward_is_reached():
    points = curve(path(HACK, 3 * RISE, noise=0.0))
    assert [point.step for point in points] == [4 * i for i in range(12)]
    assert np.diff([point.gold for point in points]) == pytest.approx(np.diff(HACK))
    reached = gold_at_reward(points, points[6].proxy)
    assert reached == points[6]
    assert gold_at_reward(points, 100.0) is None
