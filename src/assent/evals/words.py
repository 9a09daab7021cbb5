"""The sentences of the report: what the numbers do and do not show. Plain, and honest both ways."""

from __future__ import annotations

from dataclasses import dataclass

from assent.evals.arms import Arm
from assent.evals.axes import ends, is_a_coin, is_clear, number, per_cent, signed, span
from assent.evals.evidence import Evidence, Measurement, OverOptimisation
from assent.evals.gold import AXES
from assent.evals.headline import headline
from assent.evals.intervals import Interval
from assent.evals.over_optimisation import Verdict, gold_at_reward
from assent.evals.reward_quality import RewardQuality

HELD_OUT = "held out"  # the kind of samples on held-out prompts
CLOSE_TO_BEST = 0.03  # of the accuracy that the noise of the labels allows


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One statement of the summary: a large figure, what it is, and whether it speaks for the run (None: neither)."""

    figure: str
    name: str
    detail: str
    good: bool | None = None


def findings(evidence: Evidence) -> list[Finding]:
    """Up to four statements for the strip below the headline, without what the headline says itself."""
    found = []
    for arm, closed in evidence.gap_closed.items():
        name, start = f"of the gap closed by {evidence.name_of(arm)}", evidence.name_of(evidence.gap_from)
        detail = f"from {start} to ideal answers; {ends(closed, share=True)}, n = {closed.n} prompts"
        found.append(Finding(figure=per_cent(closed.mean), name=name, detail=detail, good=closed.low > 0))
    if quality := evidence.reward_model:
        found.append(_accuracy_finding(quality))
    if classifier := evidence.classifier:
        detail = f"{classifier.positives} of {classifier.count} positive; {ends(classifier.auc)}"
        found.append(Finding(figure=number(classifier.auc.mean), name="AUC", detail=detail))
    if (over := evidence.over_optimisation) and over.verdicts:
        found.append(_over_finding(evidence, over))
    found.extend(_measured_finding(evidence, one, one.gained) for one in evidence.measurements if one.gained)
    title = headline(evidence).title
    return [one for one in found if one.figure not in title and one.name not in title.lower()][:4]


def warnings(evidence: Evidence) -> list[str]:
    """What the reader must know before believing the numbers."""
    held = evidence.held_out
    if held is None or not held.seen:
        return []
    return [
        f"{held.seen} of the {held.count} held-out prompts are among those that the model was trained on. "
        "The held-out figures flatter the model."
    ]


def provenance(evidence: Evidence) -> str:
    """What is known of whether the held-out examples were really held out, as a sentence; empty where nothing is."""
    held = evidence.held_out
    if held is None:
        return ""
    if held.seen is None:
        return "The held-out file is the one you gave; whether the model was trained on it is not known."
    if held.seen:
        return f"{held.seen} of the {held.count} held-out prompts are in the training data."
    return f"None of the {held.count} held-out prompts is in the training data."


def of_samples(evidence: Evidence) -> str:
    """Which prompts the samples answer and what the number beside an answer is."""
    held_out = any(sample.kind == HELD_OUT or sample.gold for sample in evidence.samples)
    told = f"The same {'held-out prompts' if held_out else 'prompts'}, answered by each model."
    if evidence.samples[-1].kind.startswith("rollout"):
        told += " Further below: what the policy wrote in its first and its last iteration, on prompts of training."
    if any(sample.gold for sample in evidence.samples):
        return f"{told} The number is the gold judge's overall score."
    if any(sample.reward for sample in evidence.samples):
        return f"{told} The number is the reward{f', {evidence.reward_unit}' if evidence.reward_unit else ''}."
    return told


def of_soft_labels(quality: RewardQuality) -> str:
    """What soft labels make of the figures."""
    if quality.best_possible is not None:
        return (
            "Each label is the share of the population that prefers the answer; accuracy, Brier score and log loss "
            "are what is expected of a person drawn at random."
        )
    return (
        f"{quality.soft} of {quality.pairs} labels are soft (ties among them); accuracy, Brier score and log loss are "
        "expectations over them."
    )


def checks(evidence: Evidence) -> list[tuple[bool, str]]:
    """Statements on the gold scores that hold or do not, each with the sign of its truth."""
    overall, by_axis = [], []
    for lower, higher in evidence.comparisons:
        if lower not in evidence.gold or higher not in evidence.gold:
            continue
        first, second = evidence.name_of(lower), evidence.name_of(higher)
        before, after = evidence.gold[lower], evidence.gold[higher]
        clear = after.overall.low > before.overall.high
        apart = f"{number(after.overall.mean)} and {number(before.overall.mean)}, "
        apart += "intervals apart" if clear else "intervals not apart"
        overall.append((clear, f"{second} {'is above' if clear else 'is not clearly above'} {first}: {apart}."))
        if higher == evidence.main:
            fallen = [axis for axis in AXES if after.axis(axis).mean < before.axis(axis).mean]
            told = f"These fall from {first} to {second}: {', '.join(fallen)}."
            rise = f"Helpful, honest and harmless all rise from {first} to {second}."
            by_axis.append((not fallen, told if fallen else rise))
    return [*overall, *by_axis]


def verdict_sentence(arm: Arm, found: Verdict, judge: str = "gold") -> str:
    """What the over-optimisation rule says, with its numbers."""
    fall, rise = (
        f"{number(one.mean)} ({span(one)})" if one.low < one.high else number(one.mean)
        for one in (found.gold_fall, found.proxy_rise)
    )
    peak = f"its peak of {number(found.gold_peak)} at iteration {found.gold_peak_step}"
    judged = f"95 % intervals, n = {found.prompts} held-out prompts."
    if found.over_optimised:
        told = f"{judge} falls by {fall} after {peak}, while the reward rises by {rise}: the reward is being gamed."
    elif found.gold_fell:
        told = f"{judge} falls by {fall} after {peak}, but the reward does not rise ({rise}): worse, not gamed."
    else:
        told = (
            f"{judge} ends at {number(found.gold_end)}. From {peak} it falls by {fall}, which may be noise: not gamed."
        )
    return f"{arm.setting or arm.name}, {told} {judged}"


def over_optimisation_sentences(evidence: Evidence, over: OverOptimisation) -> list[str]:
    """The verdicts, and gold of both arms where the free one reaches the reward at which the other ends, if it does."""
    told = [verdict_sentence(evidence.arm(arm), found, over.judge) for arm, found in over.verdicts.items()]
    kept, free = (*over.curves.values(), (), ())[:2]
    end = kept[-1] if kept else None
    same = gold_at_reward(free, end.proxy) if end else None
    if end is None or same is None:
        return told
    return [
        *told,
        f"At the reward at which training with the KL penalty ends ({number(end.proxy)}), the policy scores "
        f"{number(end.gold)} in gold at {number(end.kl)} nats; with kl_coef 0 it scores {number(same.gold)} at "
        f"{number(same.kl)} nats.",
    ]


def _over_finding(evidence: Evidence, over: OverOptimisation) -> Finding:
    (arm, main), *others = over.verdicts.items()
    figure = "Gamed" if main.over_optimised else "Not gamed"
    fell = "fell" if main.over_optimised else "did not fall"
    detail = f"{over.judge} {fell} while the reward rose"
    for _, control in others[:1]:
        detail += f"; with kl_coef 0, gold {'falls' if control.gold_fell else 'does not fall'}"
    name = f"{evidence.name_of(arm)} under its KL penalty"
    return Finding(figure=figure, name=name, detail=detail, good=not main.over_optimised)


def _measured_finding(evidence: Evidence, found: Measurement, gained: Interval) -> Finding:
    better = -1 if found.lower_is_better else 1
    first, *_, last = (evidence.name_of(arm) for arm in found.values)
    detail = f"{last} less {first}; {ends(gained)}, n = {gained.n} {found.counted}"
    return Finding(
        figure=signed(gained.mean), name=f"held-out {found.name}", detail=detail,
        good=gained.mean * better > 0 if is_clear(gained) else None,
    )  # fmt: skip


def _accuracy_finding(quality: RewardQuality) -> Finding:
    interval, best = quality.accuracy_interval, quality.best_possible
    detail = f"{quality.pairs} held-out pairs; {ends(interval, share=True)}, n = {interval.n} label groups"
    good = None if best is None else best - quality.accuracy <= CLOSE_TO_BEST
    if best is not None:
        short = f"{100 * (best - quality.accuracy):.1f} points below the best possible {per_cent(best, 1)}"
        detail = f"{short} under the labels' noise; {detail}"
    if is_a_coin(interval):
        detail = f"no better than a coin; {detail}"
    name = "expected accuracy on pairs" if quality.soft else "of pairs ranked right"
    return Finding(figure=per_cent(quality.accuracy, 1), name=name, detail=detail, good=good)
