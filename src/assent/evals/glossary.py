"""What the words of the report mean; a page explains the words that it uses, and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from assent.evals.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A term, its meaning in a sentence or two, and whether a page uses it."""

    word: str
    meaning: str
    used: Callable[[Evidence], bool]


def glossary(evidence: Evidence) -> list[Term]:
    """The terms that the page of one or several runs uses, in the order of the list."""
    return [term for term in TERMS if any(term.used(part) for part in evidence.each.values())]


def meaning(word: str) -> str:
    """The meaning of a word that the page shows on hover."""
    return next(term.meaning for term in TERMS if term.word == word)


def _intervals(part: Evidence) -> bool:
    return bool(part.gold or part.measurements or part.win_rates or part.reward_model or part.classifier)


def _kl(part: Evidence) -> bool:
    return part.over_optimisation is not None or part.has_metric("kl")


def _curve(metric: str) -> Callable[[Evidence], bool]:
    return lambda part: part.has_metric(metric)


TERMS = (
    Term(
        word="95 % interval, n",
        meaning="If the measurement were repeated with other examples of the same kind, 95 of 100 such intervals would "
        "contain the true value. n counts the independent examples. Means and win rates use a bootstrap that resamples "
        "whole prompts (for pairs: whole label groups). Bins of a calibration chart, and rates on which all examples "
        "agree, use Wilson's interval. AUC uses DeLong's, or Newcombe's where DeLong's shows no spread. A single "
        "example or equal values give no interval. No interval covers the luck of the training seed.",
        used=_intervals,
    ),
    Term(
        word="Gold judge",
        meaning="The true reward of the embedded world. It knows the right answers and scores an answer from 0 to 1. "
        "It stands for what people really want. Training never sees its scores.",
        used=lambda part: bool(part.gold) or bool(part.over_optimisation),
    ),
    Term(
        word="Proxy",
        meaning="What training maximises instead: the score of a reward model. The reward model learned from a limited "
        "number of labels and is wrong in places.",
        used=_kl,
    ),
    Term(
        word="Reference",
        meaning="A frozen copy of the model that training started from.",
        used=lambda part: _kl(part) or part.has_metric("chosen_reward"),
    ),
    Term(
        word="KL, nats",
        meaning="How far the policy's distribution is from the reference's: the mean of log(policy / reference) over "
        "the policy's own completions, with the natural logarithm. At 1 nat a typical completion is 2.7 times as "
        "likely under the policy as under the reference, at 5 nats 150 times.",
        used=_kl,
    ),
    Term(
        word="KL penalty",
        meaning="kl_coef times KL. It is subtracted from the reward of a completion, in the units of the reward that "
        "training uses.",
        used=_kl,
    ),
    Term(
        word="Gap closed",
        meaning="(model - start) / (ideal answers - start), in gold score, where the start is the model that training "
        "began with: 0 % is no better than the start, 100 % is as good as the ideal answers.",
        used=lambda part: bool(part.gap_closed),
    ),
    Term(
        word="Nats per token",
        meaning="Mean of -log(probability) that the model gives the tokens of the held-out answers, with the natural "
        "logarithm. 0 is certainty; log(vocabulary size) is guessing.",
        used=lambda part: any(one.unit == "nats per token" for one in part.measurements),
    ),
    Term(
        word="Accuracy",
        meaning="Share of pairs in which the preferred answer gets the higher reward; equal rewards count half. With "
        "soft labels it is the expected share: a label of 0.8 counts 0.8 for one side and 0.2 for the other.",
        used=lambda part: part.reward_model is not None,
    ),
    Term(
        word="Margin",
        meaning="Mean reward of the preferred answer minus that of the other, in the reward model's units. A margin "
        "of m means that the model gives the preferred answer a probability of 1 / (1 + exp(-m)).",
        used=lambda part: part.reward_model is not None,
    ),
    Term(
        word="ECE",
        meaning="Expected calibration error: the mean distance between how sure the model is and how often it is "
        "right, over ten bins, weighted by how many examples are in each. 0 is perfect.",
        used=lambda part: part.reward_model is not None or part.classifier is not None,
    ),
    Term(
        word="Brier score",
        meaning="Mean squared distance of the predicted probability to the label, which is 0 or 1; with soft labels "
        "its expected value. 0 is perfect, 0.25 is a coin. Where annotators disagree, no model reaches 0.",
        used=lambda part: part.reward_model is not None or part.classifier is not None,
    ),
    Term(
        word="Squared error against the preference",
        meaning="Mean squared distance of the predicted probability to the share of annotators who prefer the answer. "
        "Unlike the Brier score, it is 0 for a model that knows how much annotators disagree.",
        used=lambda part: part.reward_model is not None and part.reward_model.squared_error is not None,
    ),
    Term(
        word="Log loss",
        meaning="Mean of -log(predicted probability of the label), in nats per pair. 0 is perfect, 0.69 is a coin.",
        used=lambda part: part.reward_model is not None,
    ),
    Term(
        word="AUC",
        meaning="Probability that a positive example scores above a negative one; equal scores count half. 0.5 is a "
        "coin.",
        used=lambda part: part.classifier is not None,
    ),
    Term(
        word="Entropy",
        meaning="How undecided the policy is about the next token, in nats per token. Near 0, it always says the same.",
        used=_curve("entropy"),
    ),
    Term(
        word="Clip fraction",
        meaning="Share of tokens whose policy ratio (probability now / probability when sampled) left the clip range. "
        "They no longer push in that direction.",
        used=_curve("clip_fraction"),
    ),
    Term(
        word="Critic, explained variance",
        meaning="The critic predicts the reward still to come at each token. Explained variance says how much of the "
        "returns' variance it predicts: 1 is all of it, 0 is no more than their mean, and below 0 it misleads.",
        used=_curve("explained_variance"),
    ),
)
