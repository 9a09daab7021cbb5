import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.errors import DataError
from assent.evals.evidence import Evidence
from assent.evals.intervals import wilson
from assent.evals.panels import accuracy_chart
from assent.evals.reward_quality import (
    ScoredPairs,
    auc,
    best_possible_accuracy,
    calibration_curve,
    classifier_quality,
    expected_calibration_error,
    pooled_pairs,
    reward_quality,
)


def noisy_pairs(count: int, *, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Reward gaps of a model that knows the truth up to `temperature`, and hard labels drawn from the truth."""
    rng = np.random.default_rng(seed)
    gap = rng.normal(0, 1.5, count)
    chosen_first = rng.random(count) < 1 / (1 + np.exp(-gap))
    return np.where(chosen_first, gap, -gap) * temperature, gap


def test_a_model_that_knows_the_noise_is_calibrated_and_reaches_the_best_possible():
    gap, truth = noisy_pairs(20_000, temperature=1.0)
    quality = reward_quality(ScoredPairs(chosen=gap, rejected=np.zeros_like(gap)), seed=0)
    assert quality.ece < 0.015
    best = best_possible_accuracy(1 / (1 + np.exp(-truth)))
    assert quality.accuracy_interval.low <= best <= quality.accuracy_interval.high


def test_an_over_confident_model_has_the_same_accuracy_and_a_worse_calibration():
    right, _ = noisy_pairs(20_000, temperature=1.0)
    hot, _ = noisy_pairs(20_000, temperature=4.0)
    zeros = np.zeros_like(right)
    calibrated = reward_quality(ScoredPairs(chosen=right, rejected=zeros), seed=0)
    confident = reward_quality(ScoredPairs(chosen=hot, rejected=zeros), seed=0)
    assert confident.accuracy == calibrated.accuracy
    assert confident.ece > 0.08
    assert confident.brier > calibrated.brier
    assert confident.log_loss > calibrated.log_loss
    assert confident.margin == pytest.approx(4 * calibrated.margin)


def test_log_loss_is_the_reward_model_loss_of_the_worked_pair():
    quality = reward_quality(ScoredPairs(chosen=[0.8, 0.8], rejected=[0.2, 0.2]), seed=0)
    assert quality.log_loss == pytest.approx(0.437, abs=5e-4)
    assert quality.brier == pytest.approx((1 - 1 / (1 + math.exp(-0.6))) ** 2)


def test_brier_on_soft_labels_is_what_plain_labels_drawn_from_them_give_on_average():
    """E (q - y)^2 over y ~ Bernoulli(p), so figures on a preference compare with figures on people's labels."""
    rng = np.random.default_rng(5)
    gap, share = rng.normal(0, 1.5, 40), rng.random(40)
    soft = reward_quality(ScoredPairs(chosen=gap, rejected=np.zeros(40), probability=share), seed=0)
    drawn = []
    for _ in range(3000):
        label = (rng.random(40) < share).astype(float)
        drawn.append(reward_of_labels(gap, label))
    mean = np.mean(drawn, axis=0)
    assert (soft.accuracy, soft.brier, soft.log_loss) == pytest.approx(tuple(mean), abs=0.01)
    q = 1 / (1 + np.exp(-gap))
    assert soft.squared_error == pytest.approx(np.mean((q - share) ** 2))
    assert soft.brier == pytest.approx(soft.squared_error + np.mean(share * (1 - share)))
    assert soft.soft == 40


def reward_of_labels(gap: np.ndarray, label: np.ndarray) -> tuple[float, float, float]:
    """Accuracy, Brier score and log loss on plain labels, written out."""
    q = 1 / (1 + np.exp(-gap))
    return (
        float(np.mean((gap > 0) == (label == 1))),
        float(np.mean((q - label) ** 2)),
        float(np.mean(-np.log(np.where(label == 1, q, 1 - q)))),
    )


def test_pairs_and_labels_have_one_brier_score():
    """A pair is a label on the difference of its rewards: both measures are the same function of it."""
    logits, labels = np.array([2.0, -1.0, 0.5, -3.0]), np.array([1.0, 1.0, 0.0, 0.0])
    pairs = ScoredPairs(chosen=np.where(labels == 1, logits, -logits), rejected=np.zeros(4))
    quality = reward_quality(pairs, seed=0)
    assert quality.brier == pytest.approx(classifier_quality(logits, labels).brier)
    assert (quality.soft, quality.squared_error) == (0, None)
    assert quality.accuracy_interval.n == 4 and classifier_quality(logits, labels).auc.n == 4


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 1)), min_size=2, max_size=30),
    st.randoms(use_true_random=False),
)
def test_reading_pairs_the_other_way_round_changes_nothing(pairs, random):
    turned = [(b, a, 1 - p) if random.random() < 0.5 else (a, b, p) for a, b, p in pairs]
    first, second = (
        reward_quality(
            ScoredPairs(
                chosen=[a for a, _, _ in rows], rejected=[b for _, b, _ in rows], probability=[p for _, _, p in rows]
            ),
            seed=0,
        )
        for rows in (pairs, turned)
    )
    assert second.accuracy == pytest.approx(first.accuracy)
    assert second.margin == pytest.approx(first.margin, abs=1e-9)
    assert second.brier == pytest.approx(first.brier)
    assert first.accuracy <= best_possible_accuracy([p for _, _, p in pairs]) + 1e-9


def test_a_tie_of_rewards_is_half_right():
    assert reward_quality(ScoredPairs(chosen=[1.0, 1.0], rejected=[1.0, 0.0]), seed=0).accuracy == 0.75


def test_a_reward_that_is_the_length_shows_as_length_bias():
    rng = np.random.default_rng(1)
    chosen_length, rejected_length = rng.integers(5, 50, 500), rng.integers(5, 50, 500)
    pairs = ScoredPairs(
        chosen=chosen_length / 10,
        rejected=rejected_length / 10,
        chosen_length=chosen_length,
        rejected_length=rejected_length,
    )
    bias = reward_quality(pairs, seed=0).length_bias
    assert bias is not None
    assert bias.correlation == pytest.approx(1.0)
    assert bias.longer_wins == 1.0
    assert abs(bias.longer_wins_in_labels - 0.5) < 0.1


def test_accuracy_is_told_apart_by_whether_people_chose_the_longer_answer():
    """The second pair is labelled the other way round, and the last label says nothing."""
    pairs = ScoredPairs(
        chosen=[2.0, 0.0, 1.0, 3.0, 1.0], rejected=[1.0, 1.0, 2.0, 1.0, 0.0], probability=[1.0, 0.0, 1.0, 1.0, 0.5],
        chosen_length=[9, 4, 9, 3, 7], rejected_length=[5, 8, 2, 6, 2], groups=["a", "b", "c", "d", "e"],
    )  # fmt: skip
    quality = reward_quality(pairs, seed=0)
    bias = quality.length_bias
    assert bias is not None and bias.longer_chosen is not None and bias.shorter_chosen is not None
    assert (bias.longer_chosen.mean, bias.longer_chosen.n) == (pytest.approx(2 / 3), 3)  # a and b right, c wrong
    assert (bias.shorter_chosen.mean, bias.shorter_chosen.n) == (1.0, 1)
    chart = accuracy_chart(
        Evidence(title="Reward model", seeds=(0,), wall_s=1.0, peak_rss_mib=1.0, reward_model=quality)
    )
    assert chart is not None
    assert [row.name for row in chart.rows] == ["Accuracy", "longer chosen", "shorter chosen"]


def test_equal_lengths_and_no_lengths_give_no_length_bias():
    assert reward_quality(ScoredPairs(chosen=[1.0, 2.0], rejected=[0.0, 0.0]), seed=0).length_bias is None
    same = ScoredPairs(chosen=[1.0], rejected=[0.0], chosen_length=[4], rejected_length=[4])
    assert reward_quality(same, seed=0).length_bias is None


def test_auc_equals_the_count_over_all_pairs_with_ties():
    rng = np.random.default_rng(2)
    scores, labels = rng.integers(0, 6, 80).astype(float), rng.integers(0, 2, 80)
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a in scores[labels == 1].tolist()
        for b in scores[labels == 0].tolist()
    ]
    assert auc(scores, labels).mean == pytest.approx(sum(wins) / len(wins))


def test_the_auc_interval_covers_the_truth():
    rng = np.random.default_rng(3)
    truth = 0.5 * (1 + math.erf(1 / 2))  # P(N(1,1) > N(0,1)) = Phi(1 / sqrt 2)
    hits = 0
    for _ in range(600):
        labels = np.repeat([0, 1], [80, 40])
        interval = auc(rng.normal(labels, 1.0), labels)
        hits += interval.low <= truth <= interval.high
    assert 0.92 < hits / 600 < 0.98


def test_two_labels_tell_little_of_the_auc():
    """With one of each class Newcombe's variance is A (1 - A), and the interval Wilson's of one trial."""
    for right, scores in ((1, [2.0, 1.0]), (0, [1.0, 2.0])):
        found, alone = auc(scores, [1, 0]), wilson(right, 1)
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=2e-5)


def test_a_perfect_auc_has_an_interval_that_narrows_with_the_labels():
    few, many = (auc([1.0] * n + [0.0] * n, [1] * n + [0] * n) for n in (3, 300))
    assert (few.mean, few.high, many.mean, many.high) == (1.0, 1.0, 1.0, 1.0)
    assert 0.3 < few.low < 0.7 and 0.97 < many.low < 1.0


@pytest.mark.parametrize(("positives", "negatives"), [(1, 20), (4, 4)])
def test_the_auc_interval_of_few_covers_the_truth(positives, negatives):
    rng, truth = np.random.default_rng(4), 0.5 * (1 + math.erf(1.5))  # N(3,1) against N(0,1): Phi(3 / sqrt 2)
    labels, hits = [1] * positives + [0] * negatives, 0
    for _ in range(300):
        found = auc(rng.normal([3.0 * label for label in labels], 1.0), labels)
        hits += found.low <= truth <= found.high
    assert hits / 300 > 0.9


def test_pairs_all_right_or_all_wrong_have_an_interval():
    for gap, rate in ((1.0, 10), (-1.0, 0)):
        quality = reward_quality(ScoredPairs(chosen=[gap] * 10, rejected=[0.0] * 10), seed=0)
        assert quality.accuracy_interval == wilson(rate, 10)


def test_a_classifier_needs_both_classes():
    with pytest.raises(DataError, match="positives and negatives"):
        classifier_quality([0.1, 0.2], [1, 1])


def test_a_classifier_that_separates_is_perfect():
    quality = classifier_quality([4.0, 5.0, -4.0, -5.0], [1, 1, 0, 0])
    assert (quality.auc.mean, quality.accuracy, quality.positives) == (1.0, 1.0, 2)
    assert quality.ece < 0.02


def test_calibration_bins_hold_every_prediction_once():
    predicted = np.array([0.0, 0.05, 0.5, 0.5, 0.99, 1.0])
    curve = calibration_curve(predicted, np.array([0, 0, 1, 0, 1, 1]), low=0.0)
    assert [part.count for part in curve] == [2, 2, 2]
    assert expected_calibration_error(curve) == pytest.approx((2 * 0.025 + 0 + 2 * 0.005) / 6)


@pytest.mark.parametrize("bad", [{"probability": [1.5]}, {"rejected": [0.0, 1.0]}, {"chosen": [math.nan]}])
def test_scores_that_do_not_fit_are_refused(bad):
    with pytest.raises(DataError):
        reward_quality(ScoredPairs(**{"chosen": [1.0], "rejected": [0.0], **bad}), seed=0)


def test_pooled_pairs_are_all_pairs_and_keep_the_prompts_of_different_parts_apart():
    one = ScoredPairs(
        chosen=[1.0, 2.0], rejected=[0.0, 3.0], chosen_length=[3, 4], rejected_length=[5, 6], groups=["a", "b"]
    )
    other = ScoredPairs(chosen=[0.5], rejected=[0.1], chosen_length=[7], rejected_length=[8], groups=["a"])
    both = pooled_pairs([one, other])
    assert (both.chosen, both.rejected, both.chosen_length) == ([1.0, 2.0, 0.5], [0.0, 3.0, 0.1], [3, 4, 7])
    assert len(set(both.groups or ())) == 3 and both.probability is None
    assert reward_quality(both, seed=0).accuracy == 2 / 3
    assert pooled_pairs([one, ScoredPairs(chosen=[1.0], rejected=[0.0])]).groups is None
