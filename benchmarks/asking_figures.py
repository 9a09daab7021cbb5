"""The figures of the asking benchmark: smoothed curves, the saving with its interval over seeds, data and picture.

Smoothing: the mean over seeds, made monotone by pooling adjacent violators (the nearest curve in least squares that
never falls). The saving at N is 1 - n / N, where n is the number of labels at which the chosen curve, by straight lines
between the points, reaches what the random one reaches at N. Intervals: all resamples of the seeds, with replacement.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from math import factorial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.ticker import FuncFormatter

from assent.recipes.annotation.label_savings import write_curve

DATA, PICTURE = Path("docs/asking.json"), Path("docs/asking.svg")
SAVING_AT = (200, 300, 400, 500, 600, 700)
RANDOM, CHOSEN, INK = "#8a8f98", "#2a9d8f", "#7d828b"  # readable on white and on black

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """One seed: accuracy by labels at random and chosen, with all weights by labels, and the best possible."""

    seed: int
    best: float
    random: list[float]
    chosen: list[float]
    all_weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its interval at 95 %."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Rounded."""
        return {"value": round(self.value, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


def never_falling(curve: Floats) -> Floats:
    """The nearest curve in least squares that never falls (pooling adjacent violators)."""
    blocks: list[list[float]] = []  # mean, length
    for value in curve.tolist():
        blocks.append([value, 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (mean, length), (more, count) = blocks[-2], blocks[-1]
            blocks[-2:] = [[(mean * length + more * count) / (length + count), length + count]]
    return np.concatenate([np.full(int(length), mean) for mean, length in blocks])


def labels_for(accuracy: float, labels: Sequence[int], curve: Floats) -> float:
    """The labels at which a curve that never falls reaches an accuracy; beyond its end, infinity."""
    if accuracy > curve[-1]:
        return float("inf")
    place = int(np.argmax(curve >= accuracy))
    if place == 0:
        return float(labels[0])
    low, high = curve[place - 1], curve[place]
    return float(labels[place - 1] + (accuracy - low) / (high - low) * (labels[place] - labels[place - 1]))


def saving(labels: Sequence[int], random_T: Floats, chosen_T: Floats, at: int) -> float:
    """1 - n / N for mean curves; below zero where choosing needs more, at worst what the last point shows."""
    smooth_T = never_falling(random_T)
    needed = labels_for(float(smooth_T[list(labels).index(at)]), labels, never_falling(chosen_T))
    return 1 - min(needed, 2.0 * labels[-1]) / at


def resamples(count: int) -> list[tuple[tuple[int, ...], float]]:
    """Every way to draw `count` of `count` seeds with replacement, with its chance."""
    found = []
    for drawn in combinations_with_replacement(range(count), count):
        ways = factorial(count)
        for one in set(drawn):
            ways //= factorial(drawn.count(one))
        found.append((drawn, ways / count**count))
    return found


def over_seeds(count: int, statistic: Any) -> Interval:
    """The statistic of all seeds, and its percentiles over their resamples."""
    told = sorted((statistic(list(drawn)), chance) for drawn, chance in resamples(count))
    values, chances = np.array([value for value, _ in told]), np.cumsum([chance for _, chance in told])
    low, high = (float(values[np.argmax(chances >= share - 1e-12)]) for share in (0.025, 0.975))
    return Interval(value=float(statistic(list(range(count)))), low=low, high=high)


def document(labels: Sequence[int], curves: Sequence[Curves]) -> dict[str, Any]:
    """All figures as plain data."""
    random_ST, chosen_ST = np.array([one.random for one in curves]), np.array([one.chosen for one in curves])
    count = len(curves)

    def means(value_ST: Floats) -> list[dict[str, float]]:
        return [over_seeds(count, lambda rows, at=at: value_ST[rows, at].mean()).to_json() for at in range(len(labels))]

    told = {
        str(at): over_seeds(
            count, lambda rows, at=at: saving(labels, random_ST[rows].mean(axis=0), chosen_ST[rows].mean(axis=0), at)
        ).to_json()
        for at in SAVING_AT
        if at in labels
    }
    weights = {at: float(np.mean([one.all_weights[at] for one in curves])) for at in curves[0].all_weights}
    return {
        "labels": list(labels), "best_possible": round(float(np.mean([one.best for one in curves])), 4),
        "random": means(random_ST), "chosen": means(chosen_ST), "saving": told,
        "worst_difference": {
            "of_the_means": round(float((chosen_ST - random_ST).mean(axis=0).min()), 4),
            "of_one_seed": round(float((chosen_ST - random_ST).min()), 4),
        },
        "all_weights": {at: round(value, 4) for at, value in weights.items()},
        "seeds": [
            {"seed": one.seed, "random": _rounded(one.random), "chosen": _rounded(one.chosen)} for one in curves
        ],
    }  # fmt: skip


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def write_document(labels: Sequence[int], curves: Sequence[Curves], *, folder: Path, write: bool) -> None:
    """Print the figures; with `write`, also put data and picture into docs and a run folder for the studio."""
    found = document(labels, curves)
    for at, one in found["saving"].items():
        print(f"saving at {at}: {100 * one['value']:.0f} % ({100 * one['low']:.0f} to {100 * one['high']:.0f})")
    print("worst difference", found["worst_difference"], "all weights", found["all_weights"])
    if not write:
        return
    DATA.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, PICTURE)
    rows = [
        {f"accuracy_{name}{end}": found[name][at][key] for name in ("random", "chosen") for end, key in _ENDS}
        for at in range(len(labels))
    ]
    write_curve(folder / "curve", rows, labels=labels)


_ENDS = (("", "value"), ("_low", "low"), ("_high", "high"))


def draw(found: dict[str, Any], path: Path) -> None:
    """Both curves with their intervals over seeds, on no background."""
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "asking", "font.family": "sans-serif"}
    figure, axes = plt.subplots(figsize=(7.2, 4.0))
    labels = found["labels"]
    for name, tone, words in (("random", RANDOM, "asked at random"), ("chosen", CHOSEN, "chosen")):
        value, low, high = ([100 * one[key] for one in found[name]] for key in ("value", "low", "high"))
        axes.fill_between(labels, low, high, color=tone, alpha=0.2, linewidth=0)
        axes.plot(labels, value, color=tone, linewidth=2, marker="o", markersize=3)
        above = found[name][-1]["value"] >= max(found[other][-1]["value"] for other in ("random", "chosen"))
        axes.annotate(
            words, (labels[-1], value[-1]), (8, 6 if above else -6), textcoords="offset points", color=tone, va="center"
        )
    axes.set_xlabel("labels", color=INK)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_title("Accuracy of the reward model on held-out pairs", color=INK, loc="left", fontsize=11)
    axes.tick_params(colors=INK)
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK)
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)
