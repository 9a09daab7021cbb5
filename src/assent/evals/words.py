"""The sentences of the report: what the numbers do and do not show. Plain, and honest both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assent.evals.arms import arm_name
from assent.evals.axes import ends, is_clear, number, per_cent, signed, span
from assent.evals.evidence import Evidence, Measurement, OverOptimisation
from assent.evals.gold import AXES
from assent.evals.headline import headline
from assent.evals.intervals import Interval
from assent.evals.over_optimisation import CurvePoint, Verdict, gold_at_reward
from assent.evals.reward_quality import RewardQuality

PPO_ARMS = {"ppo": "With the KL penalty", "no_kl": "With kl_coef 0"}
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
    for arm in ("ppo", "dpo"):
        if closed := evidence.gap_closed.get(arm):
            name = f"of the gap closed by {arm_name(arm)}"
            detail = f"from SFT to ideal answers; {ends(closed, share=True)}, n = {closed.n} prompts"
            found.append(Finding(figure=per_cent(closed.mean), name=name, detail=detail, good=closed.low > 0))
    if quality := evidence.reward_model:
        found.append(_accuracy_finding(quality))
    if classifier := evidence.classifier:
        detail = f"{classifier.positives} of {classifier.count} positive; {ends(classifier.auc)}"
        found.append(Finding(figure=number(classifier.auc.mean), name="AUC", detail=detail))
    if over := evidence.over_optimisation:
        found.extend(_over_finding(over.verdicts))
    found.extend(_measured_finding(one, one.gained) for one in evidence.measurements if one.gained)
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
    result = []
    for lower, higher in (("base", "sft"), ("sft", "ppo"), ("sft", "dpo")):
        if lower in evidence.gold and higher in evidence.gold:
            before, after = evidence.gold[lower].overall, evidence.gold[higher].overall
            clear = after.low > before.high
            words = "is above" if clear else "is not clearly above"
            apart = f"{number(after.mean)} and {number(before.mean)}, intervals {'apart' if clear else 'not apart'}"
            result.append((clear, f"{arm_name(higher)} {words} {arm_name(lower)}: {apart}."))
    if "sft" in evidence.gold and "ppo" in evidence.gold:
        before_all, after_all = evidence.gold["sft"], evidence.gold["ppo"]
        fallen = [axis for axis in AXES if after_all.axis(axis).mean < before_all.axis(axis).mean]
        names = ", ".join(fallen)
        words = (
            f"From SFT to PPO these fell: {names}."
            if fallen
            else "Helpful, honest and harmless all rise from SFT to PPO."
        )
        result.append((not fallen, words))
    return result


def verdict_sentence(arm: str, found: Verdict) -> str:
    """What the over-optimisation rule says, with its numbers."""
    arm = PPO_ARMS.get(arm, arm)
    fall, rise = (
        f"{number(one.mean)} ({span(one)})" if one.low < one.high else number(one.mean)
        for one in (found.gold_fall, found.proxy_rise)
    )
    peak = f"its peak of {number(found.gold_peak)} at iteration {found.gold_peak_step}"
    judged = f"95 % intervals, n = {found.prompts} held-out prompts."
    if found.over_optimised:
        told = f"gold falls by {fall} after {peak}, while the reward rises by {rise}: the reward is being gamed."
    elif found.gold_fell:
        told = f"gold falls by {fall} after {peak}, but the reward does not rise ({rise}): worse, not gamed."
    else:
        told = f"gold ends at {number(found.gold_end)}. From {peak} it falls by {fall}, which may be noise: not gamed."
    return f"{arm}, {told} {judged}"


def over_optimisation_sentences(over: OverOptimisation) -> list[str]:
    """The verdicts, and gold of both arms where the free one reaches the reward at which PPO ends, if it does."""
    told = [verdict_sentence(arm, found) for arm, found in over.verdicts.items()]
    end = over.ppo[-1] if over.ppo else None
    free = gold_at_reward(over.no_kl, end.proxy) if end else None
    return told if end is None or free is None else [*told, _at_the_same_reward(end, free)]


def _at_the_same_reward(end: CurvePoint, free: CurvePoint) -> str:
    return (
        f"At the reward at which PPO ends ({number(end.proxy)}), the policy with the KL penalty scores "
        f"{number(end.gold)} in gold at {number(end.kl)} nats; with kl_coef 0 it scores {number(free.gold)} at "
        f"{number(free.kl)} nats."
    )


def _over_finding(verdicts: Mapping[str, Verdict]) -> list[Finding]:
    main, control = verdicts.get("ppo"), verdicts.get("no_kl")
    if main is None:
        return []
    figure = "Gamed" if main.over_optimised else "Not gamed"
    detail = "gold fell while the reward rose" if main.over_optimised else "gold did not fall while the reward rose"
    if control is not None:
        detail += f"; with KL weight 0, gold {'falls' if control.gold_fell else 'does not fall'}"
    return [Finding(figure=figure, name="PPO under its KL penalty", detail=detail, good=not main.over_optimised)]


def _measured_finding(found: Measurement, gained: Interval) -> Finding:
    better = -1 if found.lower_is_better else 1
    last, first = arm_name(list(found.values)[-1]), arm_name(next(iter(found.values)))
    detail = f"{last} less {first}; {ends(gained)}, n = {gained.n} {found.counted}"
    return Finding(
        figure=signed(gained.mean), name=f"held-out {found.name}", detail=detail,
        good=gained.mean * better > 0 if is_clear(gained) else None,
    )  # fmt: skip


def _accuracy_finding(quality: RewardQuality) -> Finding:
    interval, best = quality.accuracy_interval, quality.best_possible
    detail = f"{quality.pairs} held-out pairs; {ends(interval, share=True)}, n = {interval.n} judgements"
    good = None if best is None else best - quality.accuracy <= CLOSE_TO_BEST
    if best is not None:
        short = f"{100 * (best - quality.accuracy):.1f} points below the best possible {per_cent(best, 1)}"
        detail = f"{short} under the labels' noise; {detail}"
    name = "expected accuracy on pairs" if quality.soft else "of pairs ranked right"
    return Finding(figure=per_cent(quality.accuracy, 1), name=name, detail=detail, good=good)
