"""Reliability without the truth: the published models on random tables, enumeration, intervals, priors, adversaries."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feedback.published import crowdkit, random_comparisons, random_votes, votes_of_table
from scipy.optimize import minimize
from scipy.special import expit, logit

from assent.errors import ConfigError, DataError
from assent.feedback.quality.crowd_bradley_terry import (
    Comparisons,
    CrowdSettings,
    _decided,
    _log_likelihood,
    crowd_bradley_terry,
)
from assent.feedback.quality.reliability import (
    EMSettings,
    Votes,
    dawid_skene,
    one_coin,
    one_coin_intervals,
    posterior_of,
)

TABLES = 1000
PUBLISHED = EMSettings(iterations=200, tolerance=-math.inf, prior_answers=0.0, class_prior="estimated", start="votes")
pytestmark = pytest.mark.filterwarnings("ignore")  # the references warn about their own use of pandas


def frame(votes: Votes) -> pd.DataFrame:
    return pd.DataFrame({"task": votes.item_V, "worker": votes.person_V, "label": votes.label_V})


def side_by_side(tables: list[Votes]) -> Votes:
    """Many tables as one, with items and people of their own: with a fixed class prior each is fitted as if alone."""
    items = np.cumsum([0] + [votes.items for votes in tables])
    people = np.cumsum([0] + [votes.people for votes in tables])
    return Votes(
        item_V=np.concatenate([votes.item_V + at for votes, at in zip(tables, items, strict=False)]),
        person_V=np.concatenate([votes.person_V + at for votes, at in zip(tables, people, strict=False)]),
        label_V=np.concatenate([votes.label_V for votes in tables]),
        items=int(items[-1]), people=int(people[-1]), classes=tables[0].classes,
    )  # fmt: skip


def published_fit(model: Any, votes: Votes, *, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Posterior [N, C] and P(right) [M] by the published steps, from shares of votes, with even classes throughout."""
    data, classes = frame(votes), range(votes.classes)
    even = pd.Series(1 / votes.classes, index=classes)
    share = pd.crosstab(data.task, data.label, normalize="index").reindex(columns=classes, fill_value=0.0)
    posterior, skills = share, None
    for turn in range(iterations + 1):
        found = model._m_step(data, posterior)
        if isinstance(found, pd.Series):  # one coin: a skill for each; the rest is spread evenly
            skills, person = found, np.repeat(found.index, votes.classes)
            said = np.tile(np.arange(votes.classes), len(found))
            wrong = (1 - found.to_numpy().repeat(votes.classes)) / (votes.classes - 1)
            table = np.where(
                said[:, None] == np.arange(votes.classes), found[person].to_numpy()[:, None], wrong[:, None]
            )
            index = pd.MultiIndex.from_arrays([person, said], names=["worker", "label"])
            errors = pd.DataFrame(np.clip(table, 1e-10, 1 - 1e-10), index=index, columns=classes)
        else:
            errors = found
        if turn < iterations:
            posterior = model._e_step(data, even.copy(), errors)
    right = skills if skills is not None else _mean_diagonal(errors, votes)
    return posterior.reindex(index=range(votes.items), columns=classes).to_numpy(), np.asarray(right.sort_index())


def _mean_diagonal(errors: pd.DataFrame, votes: Votes) -> pd.Series:
    every = pd.MultiIndex.from_product([range(votes.people), range(votes.classes)])
    full = errors.reindex(index=every, columns=range(votes.classes), fill_value=0.0)
    tables = full.to_numpy().reshape(votes.people, votes.classes, votes.classes)
    return pd.Series(np.trace(tables, axis1=1, axis2=2) / votes.classes)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "name"), [(dawid_skene, "DawidSkene"), (one_coin, "OneCoinDawidSkene")])
def test_fits_equal_the_published_steps_on_a_thousand_tables(model: Any, name: str) -> None:
    published, settings = crowdkit("classification.dawid_skene", name), replace(PUBLISHED, class_prior="even")
    tables = [random_votes(seed) for seed in range(TABLES)]
    for classes in (2, 3):
        same = [votes for votes in tables if votes.classes == classes]
        assert len(same) > 400
        for iterations in (1, 6, 25):
            posterior, right = published_fit(published, side_by_side(same), iterations=iterations)
            ours = [model(votes, replace(settings, iterations=iterations)) for votes in same]
            assert np.abs(np.concatenate([fit.posterior_NC for fit in ours]) - posterior).max() < 1e-6
            assert np.abs(np.concatenate([fit.accuracy_M for fit in ours]) - right).max() < 1e-6


@pytest.mark.parametrize(("model", "name"), [(dawid_skene, "DawidSkene"), (one_coin, "OneCoinDawidSkene")])
def test_whole_fits_equal_the_published_ones(model: Any, name: str) -> None:
    published = crowdkit("classification.dawid_skene", name)
    for seed in range(0, 1000, 200):
        votes = random_votes(seed)
        theirs = published(n_iter=8, tol=-np.inf).fit(frame(votes))
        ours = model(votes, replace(PUBLISHED, iterations=8))
        expected = theirs.probas_.reindex(index=range(votes.items), columns=range(votes.classes), fill_value=0.0)
        assert np.abs(ours.posterior_NC - expected.to_numpy()).max() < 1e-6, seed


def test_control_items_enter_as_in_the_published_model() -> None:
    published = crowdkit("classification.dawid_skene", "DawidSkene")
    for seed in range(8):
        votes = random_votes(seed)
        known = np.full(votes.items, -1)
        known[:3] = [0, 1, 0]
        known_labels = pd.Series(known[:3], index=pd.Index([0, 1, 2], name="task"))
        theirs = published(n_iter=6, tol=-np.inf).fit(frame(votes), true_labels=known_labels).probas_
        ours = dawid_skene(replace(votes, known_N=known), replace(PUBLISHED, iterations=6)).posterior_NC
        expected = theirs.reindex(index=range(votes.items), columns=range(votes.classes), fill_value=0.0)
        assert np.abs(ours - expected.to_numpy()).max() < 1e-6, seed


@pytest.mark.parametrize("model", [dawid_skene, one_coin])
def test_no_iteration_lowers_the_objective(model: Any) -> None:
    for seed in range(60):
        steps = np.diff(model(random_votes(seed), EMSettings(iterations=60, tolerance=-math.inf)).objective)
        assert steps.min() > -1e-9


def test_posterior_is_the_sum_over_every_possible_truth() -> None:
    votes = votes_of_table([[1, 1, 0], [0, np.nan, 1], [1, 0, np.nan]])
    eta = np.array([0.9, 0.6, 0.3])
    confusion = np.stack([np.array([[e, 1 - e], [1 - e, e]]) for e in eta])
    prior = np.array([[0.3, 0.7]])
    joint = {}
    for truth in product((0, 1), repeat=3):
        chance = math.prod(prior[0, t] for t in truth)
        for item, person, label in zip(votes.item_V, votes.person_V, votes.label_V, strict=True):
            chance *= confusion[person, truth[item], label]
        joint[truth] = chance
    posterior, likelihood = posterior_of(votes, confusion, prior)
    assert likelihood == pytest.approx(math.log(sum(joint.values())))
    for item in range(3):
        expected = sum(chance for truth, chance in joint.items() if truth[item]) / sum(joint.values())
        assert posterior[item, 1] == pytest.approx(expected)


def crowd(seed: int, eta: np.ndarray, *, items: int, overlap: int) -> Votes:
    """`overlap` different people judge each item; person k is right with probability eta[k]."""
    rng = np.random.default_rng([11, seed])
    truth, said = rng.integers(0, 2, items), np.full((items, len(eta)), np.nan)
    person = np.argsort(rng.random((items, len(eta))), axis=1)[:, :overlap]
    right = rng.random((items, overlap)) < eta[person]
    np.put_along_axis(said, person, np.where(right, truth[:, None], 1 - truth[:, None]).astype(float), axis=1)
    return votes_of_table(said, classes=2)


MIXED = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.3])
TYPICAL = np.array([0.77, 0.75, 0.75, 0.73, 0.7, 0.68, 0.68, 0.65, 0.5, 0.5])


def coverage(eta: np.ndarray, *, items: int, overlap: int, repetitions: int) -> float:
    hits = 0.0
    for seed in range(repetitions):
        votes = crowd(seed, eta, items=items, overlap=overlap)
        ends = one_coin_intervals(votes, one_coin(votes))
        hits += float(np.mean((ends[:, 0] <= eta) & (eta <= ends[:, 1])))
    return hits / repetitions


@pytest.mark.slow
@pytest.mark.parametrize(("eta", "items", "overlap"), [(MIXED, 400, 3), (TYPICAL, 600, 2)])
def test_intervals_of_reliability_cover_the_truth_within_two_points(eta: np.ndarray, items: int, overlap: int) -> None:
    assert abs(coverage(eta, items=items, overlap=overlap, repetitions=150) - 0.95) <= 0.02


def test_intervals_of_reliability_narrow_with_answers_and_stay_in_bounds() -> None:
    few, many = (crowd(1, MIXED, items=items, overlap=4) for items in (60, 2000))
    wide, narrow = (one_coin_intervals(votes, one_coin(votes)) for votes in (few, many))
    assert (wide >= 0).all() and (wide <= 1).all() and (wide[:, 0] < wide[:, 1]).all()
    assert np.mean(narrow[:, 1] - narrow[:, 0]) < 0.35 * np.mean(wide[:, 1] - wide[:, 0])
    perfect = votes_of_table(np.tile(np.arange(40)[:, None] % 2, (1, 5)).astype(float))
    sure = one_coin_intervals(perfect, one_coin(perfect))
    assert (sure[:, 0] > 0.8).all() and (sure[:, 1] > 0.98).all()
    with pytest.raises(DataError, match="two classes"):
        one_coin_intervals(replace(perfect, classes=3), one_coin(perfect))


def test_with_the_truth_known_reliability_is_the_plain_share_of_right_answers() -> None:
    votes = crowd(3, MIXED, items=300, overlap=3)
    truth = np.random.default_rng([11, 3]).integers(0, 2, 300)
    fitted = one_coin(replace(votes, known_N=truth), EMSettings(prior_answers=0))
    right = votes.label_V == truth[votes.item_V]
    for person in range(votes.people):
        assert fitted.accuracy_M[person] == pytest.approx(right[votes.person_V == person].mean(), abs=1e-9)


def test_a_annotator_with_few_answers_stays_near_the_prior() -> None:
    table = np.full((200, 4), np.nan)
    table[:, :3] = np.random.default_rng(0).integers(0, 2, 200)[:, None]
    table[0, 3] = 1 - table[0, 0]  # one answer, against everybody
    newcomer = one_coin(votes_of_table(table), EMSettings(prior_answers=8, prior_accuracy=0.75)).accuracy_M[3]
    assert newcomer == pytest.approx((8 * 0.75) / 9, abs=0.01)
    assert one_coin(votes_of_table(table), EMSettings(prior_answers=0)).accuracy_M[3] < 0.01


def test_somebody_who_never_voted_has_the_prior_and_an_item_without_votes_is_even() -> None:
    votes = Votes(item_V=np.array([0]), person_V=np.array([0]), label_V=np.array([1]), items=2, people=2)
    fitted = one_coin(votes)
    assert fitted.accuracy_M[1] == pytest.approx(0.75) and fitted.posterior_NC[1].tolist() == [0.5, 0.5]
    assert dawid_skene(votes).posterior_NC[1].tolist() == [0.5, 0.5]


def test_adversaries_are_found_and_control_items_turn_a_crowd_that_is_mostly_wrong() -> None:
    eta = np.array([0.85, 0.85, 0.8, 0.8, 0.2, 0.15])
    fitted = one_coin(crowd(5, eta, items=400, overlap=5))
    assert np.abs(fitted.accuracy_M - eta).max() < 0.08
    mostly_wrong = crowd(6, 1 - eta, items=400, overlap=5)
    truth = np.random.default_rng([11, 6]).integers(0, 2, 400)
    known = np.where(np.arange(400) < 40, truth, -1)
    assert np.abs(one_coin(replace(mostly_wrong, known_N=known)).accuracy_M - (1 - eta)).max() < 0.1


def test_a_vote_of_weight_two_is_two_votes_and_of_weight_nought_none() -> None:
    votes = crowd(2, MIXED, items=50, overlap=3)
    doubled = Votes(
        item_V=np.repeat(votes.item_V, 2), person_V=np.repeat(votes.person_V, 2), label_V=np.repeat(votes.label_V, 2),
        items=votes.items, people=votes.people,
    )  # fmt: skip
    weighted = replace(votes, weight_V=np.full(len(votes.item_V), 2.0))
    settings = EMSettings(iterations=40, tolerance=-math.inf)
    assert np.allclose(one_coin(doubled, settings).posterior_NC, one_coin(weighted, settings).posterior_NC)
    without = replace(votes, weight_V=(votes.person_V != 4).astype(float))
    assert one_coin(without).answers_M[4] == 0


def test_votes_that_name_nobody_are_refused() -> None:
    with pytest.raises(DataError, match="person"):
        Votes(item_V=np.array([0]), person_V=np.array([3]), label_V=np.array([1]), items=1, people=2)
    with pytest.raises(ConfigError, match="class_prior"):
        EMSettings(class_prior="guess")
    with pytest.raises(ConfigError, match="penalty"):
        CrowdSettings(penalty=0)
    with pytest.raises(DataError, match="crosses groups"):
        Comparisons(
            first_V=np.array([0]), second_V=np.array([1]), person_V=np.array([0]), won_V=np.array([1.0]),
            group_S=np.array([0, 1]), people=1,
        )  # fmt: skip


def published_likelihood(answers: Comparisons, score: np.ndarray, eta: np.ndarray, habit: np.ndarray) -> float:
    """The log-likelihood as the published model computes it; its penalty is left out."""
    model = crowdkit("pairwise.noisy_bt", "NoisyBradleyTerry")
    chosen = np.where(answers.won_V == 1, answers.first_V, answers.second_V)
    data = np.stack([answers.first_V, answers.second_V, chosen], axis=1) + 1
    parameters = np.concatenate([[0.0], score, logit(habit), logit(eta)])
    return -model._compute_log_likelihood(parameters, data, answers.person_V, len(score), answers.people, 0.0)


def test_likelihood_of_habits_equals_the_published_one_on_a_thousand_tables() -> None:
    for seed in range(TABLES):
        answers, rng = random_comparisons(seed), np.random.default_rng([1, seed])
        score = rng.normal(size=len(answers.group_S)) * 2
        eta, habit = rng.uniform(0.01, 0.99, (2, answers.people))
        ours = _log_likelihood(_decided(answers), score, eta, habit, "habit")
        assert ours == pytest.approx(published_likelihood(answers, score, eta, habit), abs=1e-9)


def test_likelihood_of_the_crowd_model_is_the_published_one_at_even_habits_on_a_thousand_tables() -> None:
    # eta sg(d) + (1 - eta) sg(-d) = (2 eta - 1) sg(d) + (1 - eta): attention 2 eta - 1 and a fair coin otherwise
    for seed in range(TABLES):
        answers, rng = random_comparisons(seed), np.random.default_rng([2, seed])
        score, eta = rng.normal(size=len(answers.group_S)), rng.uniform(0.51, 0.99, answers.people)
        half = np.full(answers.people, 0.5)
        ours = _log_likelihood(_decided(answers), score, eta, half, "crowd")
        assert ours == pytest.approx(published_likelihood(answers, score, 2 * eta - 1, half), abs=1e-9)


CLOSE = {"iterations": 20_000, "tolerance": 1e-11}


def minus_objective(x: np.ndarray, answers: Comparisons, settings: CrowdSettings) -> float:
    """The penalised likelihood written down once more, from the probabilities; eta as a logit."""
    size = len(answers.group_S)
    score, eta = x[:size], expit(x[size:])
    better = expit(score[answers.first_V] - score[answers.second_V])
    e = eta[answers.person_V]
    chance = e * better + (1 - e) * (1 - better)
    value = np.log(np.where(answers.won_V == 1, chance, 1 - chance)).sum()
    value += settings.penalty * np.log(expit(score) * expit(-score)).sum()
    right = settings.prior_answers * settings.prior_accuracy
    return -(value + (right * np.log(eta) + (settings.prior_answers - right) * np.log1p(-eta)).sum())


@pytest.mark.slow
def test_the_crowd_model_stands_at_an_optimum_of_its_likelihood_on_a_thousand_tables() -> None:
    settings, step = CrowdSettings(**CLOSE), 1e-5
    for seed in range(TABLES):
        answers = random_comparisons(seed)
        fit = crowd_bradley_terry(answers, settings)
        x = np.concatenate([fit.score_S, logit(fit.reliability_M)])
        shifts = step * np.eye(len(x))
        slope = [
            (minus_objective(x + s, answers, settings) - minus_objective(x - s, answers, settings)) / (2 * step)
            for s in shifts
        ]
        assert np.abs(slope).max() < 0.01, seed  # of a curvature of about 5


def test_a_general_optimiser_finds_nothing_better_from_there_or_from_the_start() -> None:
    settings = CrowdSettings(**CLOSE)
    for seed in range(25):
        answers = random_comparisons(seed)
        fit = crowd_bradley_terry(answers, settings)
        best = -fit.objective[-1]
        start = np.concatenate([np.zeros(len(fit.score_S)), np.full(answers.people, logit(settings.prior_accuracy))])
        for x in (start, np.concatenate([fit.score_S, logit(fit.reliability_M)])):
            assert minimize(minus_objective, x, args=(answers, settings)).fun > best - 1e-3, seed


def test_the_published_fit_of_habits_reaches_no_higher_likelihood() -> None:
    # its gradient overwrites sums and is off by one place, so it stops short of the optimum
    model = crowdkit("pairwise.noisy_bt", "NoisyBradleyTerry")
    for seed in range(12):
        answers = random_comparisons(seed)
        chosen = np.where(answers.won_V == 1, answers.first_V, answers.second_V)
        told = {"worker": answers.person_V, "left": answers.first_V, "right": answers.second_V, "label": chosen}
        theirs = model(n_iter=100).fit(pd.DataFrame(told))
        people = range(answers.people)
        score = np.clip(logit(theirs.scores_.reindex(range(len(answers.group_S))).to_numpy()), -30, 30)
        eta, habit = (np.clip(s.reindex(people).to_numpy(), 1e-9, 1 - 1e-9) for s in (theirs.skills_, theirs.biases_))
        ours = crowd_bradley_terry(answers, CrowdSettings(kind="habit", penalty=1e-3, prior_answers=0, iterations=2000))
        reached = _log_likelihood(_decided(answers), ours.score_S, ours.reliability_M, ours.first_habit_M, "habit")
        assert reached > _log_likelihood(_decided(answers), score, eta, habit, "habit")


@pytest.mark.slow
def test_without_annotators_it_is_the_published_bradley_terry_on_a_thousand_tables() -> None:
    model = crowdkit("pairwise.bradley_terry", "BradleyTerry")
    for seed in range(TABLES):
        answers = random_comparisons(seed)
        chosen = np.where(answers.won_V == 1, answers.first_V, answers.second_V)
        told = pd.DataFrame({"left": answers.first_V, "right": answers.second_V, "label": chosen})
        strength = model(n_iter=400, tol=0.0).fit_predict(told).to_numpy()  # with a tolerance it stops after two steps
        fit = crowd_bradley_terry(answers, CrowdSettings(kind="plain", penalty=1e-7, iterations=3000, tolerance=1e-13))
        ours = np.exp(fit.score_S - fit.score_S.max())
        assert np.abs(ours / ours.sum() - strength).max() < 1e-4, seed


@pytest.mark.parametrize("kind", ["crowd", "habit", "plain"])
def test_no_step_of_bradley_terry_lowers_the_objective(kind: str) -> None:
    for seed in range(30):
        fit = crowd_bradley_terry(
            random_comparisons(seed), CrowdSettings(kind=kind, iterations=60, tolerance=-math.inf)
        )
        assert np.diff(fit.objective).min() > -1e-9


def test_groups_of_different_sizes_are_fitted_as_if_alone_when_annotators_are_given_up() -> None:
    parts = [random_comparisons(seed) for seed in (1, 2, 5)]
    offsets = np.cumsum([0] + [len(part.group_S) for part in parts])
    joined = Comparisons(
        first_V=np.concatenate([part.first_V + at for part, at in zip(parts, offsets, strict=False)]),
        second_V=np.concatenate([part.second_V + at for part, at in zip(parts, offsets, strict=False)]),
        person_V=np.concatenate([part.person_V for part in parts]),
        won_V=np.concatenate([part.won_V for part in parts]),
        group_S=np.concatenate([np.full(len(part.group_S), 7 - at) for at, part in enumerate(parts)]),
        people=max(part.people for part in parts),
    )
    settings = CrowdSettings(kind="plain", **CLOSE)
    alone = np.concatenate([crowd_bradley_terry(part, settings).score_S for part in parts])
    assert np.abs(crowd_bradley_terry(joined, settings).score_S - alone).max() < 1e-4


def test_a_tie_is_half_an_answer_each_way() -> None:
    answers = random_comparisons(4)
    tied = replace(answers, won_V=np.where(np.arange(len(answers.won_V)) % 3, answers.won_V, 0.5))
    fit = crowd_bradley_terry(tied, CrowdSettings(**CLOSE))
    assert np.isfinite(fit.score_S).all() and fit.answers_M.sum() == pytest.approx(len(tied.won_V))
    only_ties = crowd_bradley_terry(
        replace(answers, won_V=np.full(len(answers.won_V), 0.5)), CrowdSettings(kind="plain")
    )
    assert np.abs(only_ties.score_S).max() < 1e-9


def test_crowd_bradley_terry_finds_scores_and_annotators_in_simulation() -> None:
    rng = np.random.default_rng(8)
    eta, groups, size, votes = np.array([0.95, 0.9, 0.8, 0.5, 0.1]), 120, 5, 6000
    score = rng.normal(size=groups * size) * 2
    first = rng.integers(0, groups * size, votes)
    second = first // size * size + (first + rng.integers(1, size, votes)) % size
    person = rng.integers(0, 5, votes)
    better = expit(score[first] - score[second])
    won = rng.random(votes) < eta[person] * better + (1 - eta[person]) * (1 - better)
    answers = Comparisons(
        first_V=first[first != second], second_V=second[first != second], person_V=person[first != second],
        won_V=won[first != second].astype(float), group_S=np.repeat(np.arange(groups), size), people=5,
    )  # fmt: skip
    fit = crowd_bradley_terry(answers)
    assert np.abs(fit.reliability_M - eta).max() < 0.15  # optimistic: scores of few answers fit some of the noise
    told = fit.probability(first, second)
    assert np.mean((told > 0.5) == (better > 0.5)) > 0.88


def test_the_habit_of_taking_the_first_is_found() -> None:
    rng = np.random.default_rng(9)
    score, votes = rng.normal(size=40) * 2, 3000
    first = rng.integers(0, 40, votes)
    second = (first + rng.integers(1, 40, votes)) % 40
    person = rng.integers(0, 4, votes)
    won = np.where(person == 3, True, rng.random(votes) < expit(score[first] - score[second]))
    fit = crowd_bradley_terry(
        Comparisons(
            first_V=first,
            second_V=second,
            person_V=person,
            won_V=won.astype(float),
            group_S=np.zeros(40, int),
            people=4,
        ),
        CrowdSettings(kind="habit"),
    )
    assert fit.reliability_M[3] < 0.1 and fit.first_habit_M[3] > 0.95 and fit.reliability_M[:3].min() > 0.85
