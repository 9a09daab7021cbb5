"""The headline of the report: what a run is about, in its strongest numbers, with what is known of how they arose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from assent.evals.arms import judge_name
from assent.evals.axes import ends, gain_text, is_a_coin, is_clear, number, per_cent, signed
from assent.evals.evidence import Evidence, Measurement
from assent.evals.intervals import Interval

SMOOTHED_SHARE = 10  # without held-out numbers the first and the last tenth of training are compared,
SMOOTHED_LEAST = 5  # where a tenth is at least so many steps: fewer are the noise of single batches
NOT_MEASURED = "Nothing held out was measured: give --eval-data."


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The title line and the sentence below it."""

    title: str
    deck: str


def headline(evidence: Evidence) -> Headline:
    """What this run is about, in numbers, from the strongest evidence it has."""
    if evidence.parts:
        kinds = Counter(part.title for part in evidence.parts.values())
        deck = ", ".join(f"{count} \u00d7 {kind}" if count > 1 else kind for kind, count in kinds.items())
        return Headline(title=f"{len(evidence.parts)} runs", deck=f"{deck}.")
    if evidence.gold_gained is not None and len(evidence.gold) > 1:
        (other, before), (mine, after) = list(evidence.gold.items())[:2]
        title = f"{evidence.name_of(mine)} scores {signed(evidence.gold_gained.mean)} against {evidence.name_of(other)}"
        deck = f"Gold {number(after.overall.mean)} and {number(before.overall.mean)} on the same held-out prompts; the "
        deck += f"difference, prompt by prompt: {gain_text(evidence.gold_gained, 'prompts')}."
        return Headline(title=title, deck=deck)
    start = next(iter(evidence.gold), evidence.main)
    if evidence.main in evidence.gold and start != evidence.main:
        return _gold_headline(evidence, start, evidence.main)
    for win in evidence.win_rates:
        title = f"{evidence.name_of(win.arm)} wins {per_cent(win.rate.mean)} against {evidence.name_of(win.against)}"
        deck = f"Of {win.rate.n} {_held_out(evidence, 'prompts')}, judged by {judge_name(win.judge)}, ties counted "
        return Headline(title=title, deck=f"{deck}half; {ends(win.rate, share=True)}.{_coin(win.rate)}")
    if evidence.classifier:
        area, count = evidence.classifier.auc, evidence.classifier.count
        deck = f"The area under the ROC curve on {count} {_held_out(evidence, 'texts')}; {ends(area)}."
        return Headline(title=f"AUC {number(area.mean)}", deck=f"{deck}{_coin(area)}")
    if quality := evidence.reward_model:
        exact = " expected over the soft labels" if quality.soft else ""
        deck = f"{evidence.quality_of} on {quality.pairs} {_held_out(evidence, 'pairs')}{exact}; "
        deck += f"{ends(quality.accuracy_interval, share=True)}, n = {quality.accuracy_interval.n} label groups."
        deck += _coin(quality.accuracy_interval)
        return Headline(title=f"{per_cent(quality.accuracy, 1)} of held-out pairs ranked right", deck=deck)
    if evidence.suites:
        return _suites_headline(evidence)
    for found in evidence.measurements:
        return _measured_headline(evidence, found)
    for arm, scores in evidence.gold.items():
        deck = f"{evidence.name_of(arm)} on held-out prompts; {ends(scores.overall)}, n = {scores.overall.n} prompts."
        return Headline(title=f"Gold score {number(scores.overall.mean)}", deck=deck)
    return _training_headline(evidence)


def _coin(share: Interval) -> str:
    return " That is no better than a coin: the interval holds one half." if is_a_coin(share) else ""


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, the two largest that count."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _measured_headline(evidence: Evidence, found: Measurement) -> Headline:
    names, values = list(found.values), list(found.values.values())
    name = f"Held-out {found.name}"
    by = f", judged by {judge_name(found.judge)}" if found.judge else ""
    if found.gained is None:
        n = f"n = {values[-1].n} {_held_out(evidence, found.counted)}"
        deck = f"{evidence.name_of(names[-1])}, {found.unit}{by}; {ends(values[-1])}, {n}."
        return Headline(title=f"{name} {number(values[-1].mean)}", deck=deck)
    gained = gain_text(found.gained, _held_out(evidence, found.counted))
    deck = f"{found.unit[0].upper()}{found.unit[1:]}{by}. "
    deck += "The change" if is_clear(found.gained) else "No clear change"
    if set(names) == {"before", "after"}:
        title = f"{name} from {number(values[0].mean)} to {number(values[-1].mean)}"
        return Headline(title=title, deck=f"{deck}, item by item: {gained}.")
    other, mine = evidence.name_of(names[0]), evidence.name_of(names[-1])
    deck = f"{mine} {number(values[-1].mean)}, {other} {number(values[0].mean)}. {deck}"
    title = f"{name}: {mine} {signed(found.gained.mean)} against {other}"
    return Headline(title=title, deck=f"{deck}, item by item: {gained}.")


def _suites_headline(evidence: Evidence) -> Headline:
    """The first figure of each axis, of the last model; else that of the first suite."""
    figures = [(suite, figure) for suite in evidence.suites for figure in suite.figures]
    axes = ("helpful", "honest", "harmless", "over-refusal")
    first = [next((one for one in figures if one[1].axis == axis and not one[1].lower_is_better), None)
             for axis in axes[:3]]  # fmt: skip
    first.append(next((one for one in figures if one[1].axis == axes[3]), None))
    shown = [one for one in first if one is not None]
    told = [f"{figure.axis} {per_cent(list(figure.values.values())[-1].mean)}" for _, figure in shown]
    if not shown:
        suite, figure = figures[0]
        value = list(figure.values.values())[-1].mean
        shown, told = [(suite, figure)], [f"{suite.suite}: {per_cent(value) if figure.share else number(value)}"]
    parts = []
    for suite, figure in shown:
        last = list(figure.values.values())[-1]
        name = f"{suite.suite}, {figure.kind or figure.name}"
        parts.append(f"{name}: {ends(last, share=figure.share)}, n = {last.n} {suite.counted}")
    title = ", ".join(told)
    names = " against ".join(evidence.name_of(arm) for arm in [*evidence.arms][::-1])
    return Headline(title=title[0].upper() + title[1:], deck=f"{names} on published suites. {'; '.join(parts)}.")


def _gold_headline(evidence: Evidence, start: str, end: str) -> Headline:
    before, after = evidence.gold[start].overall, evidence.gold[end].overall
    moved = "rises" if after.mean > before.mean else "goes"
    way = f"from {number(before.mean)} ({evidence.name_of(start)}) to {number(after.mean)} ({evidence.name_of(end)}"
    deck = f"The gold judge's score on held-out prompts {moved} {way}; {ends(after)}, n = {after.n})"
    oracle, closed = evidence.gold.get("oracle"), evidence.gap_closed.get(end)
    if oracle and closed:
        deck += (
            f", where ideal answers score {number(oracle.overall.mean)}. "
            f"{evidence.name_of(end)} closes {per_cent(closed.mean)} of the distance that "
            f"{evidence.name_of(evidence.gap_from)} left open"
        )
        for arm, other in evidence.gap_closed.items():
            deck += f"; {evidence.name_of(arm)} closes {per_cent(other.mean)}" if arm != end else ""
    return Headline(title=f"From {number(before.mean)} to {number(after.mean)}", deck=deck + ".")


def _training_headline(evidence: Evidence) -> Headline:
    """Without held-out numbers: what training itself measured, averaged over enough of it to mean something."""
    for training in evidence.training.values():
        metric, unit, took = training.curves[0], training.unit, duration(evidence.wall_s)
        values = training.values(metric)
        if not values:
            continue
        window = len(values) // SMOOTHED_SHARE
        if window < SMOOTHED_LEAST:
            mean = sum(values) / len(values)
            deck = (
                f"{training.method}: the mean of {len(values)} {unit}, too few to compare beginning and end, in {took}."
            )
            return Headline(title=f"Training {metric} {number(mean)}", deck=f"{deck} {NOT_MEASURED}")
        first, last = (sum(part) / window for part in (values[:window], values[-window:]))
        ends = f"means of the first and the last {window} of {len(values)} {unit}"
        title = f"Training {metric} from {number(first)} to {number(last)}"
        return Headline(title=title, deck=f"{training.method}: {ends}, on training data, in {took}. {NOT_MEASURED}")
    return Headline(title=evidence.title, deck="This run left no measurements to show.")


def _held_out(evidence: Evidence, what: str) -> str:
    """ "held-out pairs", with what is known of whether the model saw them."""
    held = evidence.held_out
    if held is None:
        return f"held-out {what}"
    if held.seen is None:
        return f"{what} of the file given as held-out"
    if held.seen:
        return f"{what}, some of them seen in training"
    return f"{what} that {'are not in' if what == 'prompts' else 'share no prompt with'} its training data"
