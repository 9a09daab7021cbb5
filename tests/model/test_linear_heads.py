"""Bootstrapped heads: each is the true minimum, and they disagree where nothing was judged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from assent.errors import DataError
from assent.model.linear_heads import Floats, HeadExamples, evidence, fit_head, fit_heads, fit_reward, fit_with_prior
from assent.seeds import numpy_rng


def _world(seed: int, pairs: int, features: int = 6) -> tuple[Floats, HeadExamples, Floats]:
    rng = np.random.default_rng(seed)
    feature_ND = rng.normal(size=(400, features))
    truth_D = rng.normal(size=features) * 2
    better_P, worse_P = rng.integers(0, 200, pairs), rng.integers(200, 400, pairs)
    chance_P = 1 / (1 + np.exp(-(feature_ND[better_P] - feature_ND[worse_P]) @ truth_D))
    probability_P = (rng.random(pairs) < chance_P).astype(float)
    return feature_ND, HeadExamples(better_P=better_P, worse_P=worse_P, probability_P=probability_P), truth_D


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_head_is_the_minimum_that_a_general_optimiser_finds(seed: int):
    rng = np.random.default_rng(seed)
    difference_PD, probability_P = rng.normal(size=(60, 5)) * 3, rng.random(60)
    count_P, anchor_D = rng.poisson(1.0, 60).astype(float), rng.normal(size=5)

    def loss(at_D: Floats) -> float:
        logit_P = difference_PD @ at_D
        chosen = -probability_P * -np.logaddexp(0, -logit_P) - (1 - probability_P) * -np.logaddexp(0, logit_P)
        return float((count_P * chosen).sum() + ((at_D - anchor_D) ** 2).sum() / (2 * 0.7**2))

    expected = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    found = fit_head(difference_PD, probability_P, count_P, anchor_D, prior_spread=0.7)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_perfectly_separable_judgements_have_finite_heads():
    feature_ND = np.array([[0.0, 1.0], [4.0, 1.5], [1.0, 0.0], [5.0, 0.5]])
    judged = HeadExamples(better_P=np.array([1, 3]), worse_P=np.array([0, 2]), probability_P=np.ones(2))
    heads = fit_heads(feature_ND, judged, heads=8, prior_spread=1.0, seed=0)
    assert np.isfinite(heads.weight_HD).all()
    rewards_HN = heads.rewards(feature_ND)
    assert (rewards_HN[:, 1] - rewards_HN[:, 0]).mean() > 0


def test_heads_agree_where_much_was_judged_and_disagree_where_nothing_was():
    rng = np.random.default_rng(3)
    feature_ND = np.zeros((400, 4))
    feature_ND[:200, :2] = rng.normal(size=(200, 2))  # the judged half lives in the first two features
    feature_ND[200:, 2:] = rng.normal(size=(200, 2))
    better_P, worse_P = rng.integers(0, 200, 600), rng.integers(0, 200, 600)
    probability_P = (feature_ND[better_P, 0] > feature_ND[worse_P, 0]).astype(float)
    heads = fit_heads(
        feature_ND, HeadExamples(better_P=better_P, worse_P=worse_P, probability_P=probability_P), heads=20, seed=1
    )
    rewards_HN = heads.rewards(feature_ND)
    share_N = (rewards_HN - np.roll(rewards_HN, 1, axis=1) > 0).mean(axis=0)
    disagreement_N = share_N * (1 - share_N)
    assert disagreement_N[201:].mean() > 3 * disagreement_N[1:200].mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_more_judgements_bring_the_heads_closer_together_and_to_the_truth(seed: int):
    spreads, errors = [], []
    for pairs in (40, 400, 4000):
        feature_ND, judged, truth_D = _world(seed, pairs)
        heads = fit_heads(feature_ND, judged, heads=16, prior_spread=2.0, seed=seed)
        raw_HD = heads.weight_HD / heads.spread_D
        spreads.append(raw_HD.std(axis=0).mean())
        errors.append(float(np.abs(raw_HD.mean(axis=0) - truth_D).mean()))
    assert spreads[0] > spreads[1] > spreads[2] and errors[0] > errors[2]


def test_the_same_seed_gives_the_same_heads_and_another_seed_others():
    feature_ND, judged, _ = _world(0, 50)
    one, same, other = (fit_heads(feature_ND, judged, heads=3, seed=seed).weight_HD for seed in (0, 0, 1))
    assert (one == same).all() and not np.allclose(one, other)


def test_features_that_are_not_numbers_are_refused():
    feature_ND, judged, _ = _world(0, 10)
    feature_ND[3, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        fit_heads(feature_ND, judged)


@pytest.mark.parametrize("pairs", [3, 40])
def test_the_evidence_is_the_integral_over_the_prior_where_that_can_be_taken_by_hand(pairs: int):
    """One and two weights: the likelihood times the prior, summed over a fine grid."""
    rng = np.random.default_rng(pairs)
    difference_PD, probability_P, spread = rng.normal(size=(pairs, 2)), rng.random(pairs), 0.4
    weight_D = fit_head(difference_PD, probability_P, np.ones(pairs), np.zeros(2), prior_spread=spread)
    axis = np.linspace(-4, 4, 801)
    grid_GD = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    logit_GP = grid_GD @ difference_PD.T
    log_G = -(np.logaddexp(0, logit_GP) - probability_P * logit_GP).sum(axis=1)
    log_G += -0.5 * (grid_GD**2).sum(axis=1) / spread**2 - np.log(2 * np.pi * spread**2)
    truth = float(np.log(np.exp(log_G).sum() * (axis[1] - axis[0]) ** 2))
    assert evidence(difference_PD, probability_P, weight_D, spread) == pytest.approx(truth, abs=0.02)


def test_fewer_pairs_than_features_are_fitted_in_their_span_with_the_same_result():
    rng = np.random.default_rng(8)
    difference_PD, probability_P = rng.normal(size=(9, 30)), rng.random(9)
    found_D, (found, spread) = fit_with_prior(difference_PD, probability_P, spreads=(0.05, 0.2))
    whole_D = fit_head(difference_PD, probability_P, np.ones(9), np.zeros(30), prior_spread=spread)
    np.testing.assert_allclose(found_D, whole_D, atol=1e-6)
    assert found == pytest.approx(evidence(difference_PD, probability_P, whole_D, spread), abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fitted_reward_finds_the_judge_and_reads_features_as_they_are(seed: int):
    feature_ND, judged, truth_D = _world(seed, 400)
    feature_ND = feature_ND * np.array([1.0, 100.0, 0.01, 1.0, 1.0, 1.0]) + 7.0  # scales do not matter
    fitted = fit_reward(feature_ND, judged)
    reward_N = feature_ND @ fitted.weight_D
    true_N = (feature_ND - 7.0) / np.array([1.0, 100.0, 0.01, 1.0, 1.0, 1.0]) @ truth_D
    assert np.corrcoef(reward_N, true_N)[0, 1] > 0.97
    assert fitted.accuracy > 0.8 and fitted.loss < np.log(2)


def test_pure_noise_gets_a_tight_prior_and_a_clear_judge_a_wide_one():
    rng = np.random.default_rng(5)
    difference_PD = rng.normal(size=(300, 20))
    noise_P, clear_P = (rng.random(300) < 0.5).astype(float), (difference_PD[:, 0] > 0).astype(float)
    assert fit_with_prior(difference_PD, noise_P)[1][1] < fit_with_prior(difference_PD, clear_P)[1][1]


def test_heads_of_fewer_pairs_than_features_keep_their_priors_outside_the_span():
    rng = np.random.default_rng(12)
    feature_ND = rng.normal(size=(60, 40))
    judged = HeadExamples(better_P=np.arange(8), worse_P=np.arange(8, 16), probability_P=rng.random(8))
    found = fit_heads(feature_ND, judged, heads=2, prior_spread=0.3, seed=4)
    difference_PD = (feature_ND[:8] - feature_ND[8:16]) / found.spread_D
    for head in range(2):
        draw = numpy_rng(4, "head", head)
        count_P, anchor_D = draw.poisson(1.0, size=8).astype(float), draw.standard_normal(40) * 0.3
        whole_D = fit_head(difference_PD, judged.probability_P, count_P, anchor_D, prior_spread=0.3)
        np.testing.assert_allclose(found.weight_HD[head], whole_D, atol=1e-6)
