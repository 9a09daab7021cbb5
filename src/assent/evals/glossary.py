"""What the words of the report mean; a page explains the words that it uses, and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from assent.evals.evidence import Evidence


def glossary(evidence: Evidence) -> dict[str, str]:
    """The words that the page of one or several runs uses, with their meanings."""
    parts = evidence.each.values()
    return {word: told for word, (told, used) in TERMS.items() if any(map(used, parts))}


def meaning(word: str) -> str:
    """The meaning of a word that the page shows on hover."""
    return TERMS[word][0]


def _kl(part: Evidence) -> bool:
    return part.over_optimisation is not None or part.has_metric("kl")


def _curve(metric: str) -> Callable[[Evidence], bool]:
    return lambda part: part.has_metric(metric)


TERMS: Mapping[str, tuple[str, Callable[[Evidence], bool]]] = {  # the meaning, and whether a page uses the word
    "95 % interval, n": (
        "If the measurement were repeated with other examples of the same kind, 95 of 100 such intervals would "
        "contain the true value. n counts the independent examples. Means and win rates use a bootstrap that resamples "
        "whole prompts (for pairs: whole label groups). Bins of a calibration chart, and rates on which all examples "
        "agree, use Wilson's interval. AUC uses DeLong's, or Newcombe's where DeLong's shows no spread. A single "
        "example or equal values give no interval. No interval covers the luck of the training seed.",
        lambda part: bool(
            part.gold or part.measurements or part.win_rates or part.reward_model or part.classifier or part.suites
        ),
    ),
    "Gold judge": (
        "The true reward of the embedded world. It knows the right answers and scores an answer from 0 to 1. "
        "It stands for what people really want. Training never sees its scores.",
        lambda part: bool(part.gold) or bool(part.over_optimisation),
    ),
    "Proxy": (
        "What training maximises instead: the score of a reward model. The reward model learned from a limited "
        "number of labels and is wrong in places.",
        _kl,
    ),
    "Reference": (
        "A frozen copy of the model that training started from.",
        lambda part: _kl(part) or part.has_metric("chosen_reward"),
    ),
    "KL, nats": (
        "How far the policy's distribution is from the reference's: the mean of log(policy / reference) over "
        "the policy's own completions, with the natural logarithm. At 1 nat a typical completion is 2.7 times as "
        "likely under the policy as under the reference, at 5 nats 150 times.",
        _kl,
    ),
    "KL penalty": (
        "kl_coef times KL. It is subtracted from the reward of a completion, in the units of the reward that "
        "training uses.",
        _kl,
    ),
    "Gap closed": (
        "(model - start) / (ideal answers - start), in gold score, where the start is the model that training "
        "began with: 0 % is no better than the start, 100 % is as good as the ideal answers.",
        lambda part: bool(part.gap_closed),
    ),
    "Nats per token": (
        "Mean of -log(probability) that the model gives the tokens of the held-out answers, with the natural "
        "logarithm. 0 is certainty; log(vocabulary size) is guessing.",
        lambda part: any(one.unit == "nats per token" for one in part.measurements),
    ),
    "Accuracy": (
        "Share of pairs in which the preferred answer gets the higher reward; equal rewards count half. With "
        "soft labels it is the expected share: a label of 0.8 counts 0.8 for one side and 0.2 for the other.",
        lambda part: part.reward_model is not None,
    ),
    "Margin": (
        "Mean reward of the preferred answer minus that of the other, in the reward model's units. A margin "
        "of m means that the model gives the preferred answer a probability of 1 / (1 + exp(-m)).",
        lambda part: part.reward_model is not None,
    ),
    "ECE": (
        "Expected calibration error: the mean distance between how sure the model is and how often it is "
        "right, over ten bins, weighted by how many examples are in each. 0 is perfect.",
        lambda part: part.reward_model is not None or part.classifier is not None,
    ),
    "Brier score": (
        "Mean squared distance of the predicted probability to the label, which is 0 or 1; with soft labels "
        "its expected value. 0 is perfect, 0.25 is a coin. Where annotators disagree, no model reaches 0.",
        lambda part: part.reward_model is not None or part.classifier is not None,
    ),
    "Squared error against the preference": (
        "Mean squared distance of the predicted probability to the share of annotators who prefer the answer. "
        "Unlike the Brier score, it is 0 for a model that knows how much annotators disagree.",
        lambda part: part.reward_model is not None and part.reward_model.squared_error is not None,
    ),
    "Log loss": (
        "Mean of -log(predicted probability of the label), in nats per pair. 0 is perfect, 0.69 is a coin.",
        lambda part: part.reward_model is not None,
    ),
    "AUC": (
        "Probability that a positive example scores above a negative one; equal scores count half. 0.5 is a coin.",
        lambda part: part.classifier is not None,
    ),
    "Entropy": (
        "How undecided the policy is about the next token, in nats per token. Near 0, it always says the same.",
        _curve("entropy"),
    ),
    "Clip fraction": (
        "Share of tokens whose policy ratio (probability now / probability when sampled) left the clip range. "
        "They no longer push in that direction.",
        _curve("clip_fraction"),
    ),
    "Critic, explained variance": (
        "The critic predicts the reward still to come at each token. Explained variance says how much of the "
        "returns' variance it predicts: 1 is all of it, 0 is no more than their mean, and below 0 it misleads.",
        _curve("explained_variance"),
    ),
}
