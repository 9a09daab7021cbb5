"""The sentences of the report: the headline and what the numbers do and do not show. Plain, and honest both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from assent.evals.arms import arm_name, judge_name
from assent.evals.axes import between, number, per_cent, span
from assent.evals.evidence import Evidence, MetricsRow, OverOptimisation
from assent.evals.gold import AXES
from assent.evals.intervals import Interval
from assent.evals.over_optimisation import CurvePoint, Verdict, gold_at_reward

PPO_ARMS = {"ppo": "With the KL penalty", "no_kl": "With kl_weight 0"}
LOSS_STAGES = (("sft", "SFT"), ("reward", "Reward model"), ("dpo", "DPO"))


CLOSE_TO_BEST = 0.03  # of the accuracy that the noise of the labels allows


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One statement of the summary: a large figure, what it is, and whether it speaks for the run (None: neither)."""

    figure: str
    name: str
    detail: str
    good: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The title line and the sentence below it."""

    title: str
    deck: str


def headline(evidence: Evidence) -> Headline:
    """What this run is about, in numbers, from the strongest evidence it has."""
    start, end = _first(evidence.gold, "base", "sft", "dpo"), _first(evidence.gold, "ppo", "dpo", "sft")
    if start is not None and end is not None and start != end:
        return _gold_headline(evidence, start, end)
    if evidence.win_rates:
        win = evidence.win_rates[0]
        title = f"{arm_name(win.arm)} wins {per_cent(win.rate.mean)} against {arm_name(win.against)}"
        count = win.wins + win.ties + win.losses
        deck = f"Of {count} answers to held-out prompts, judged by {judge_name(win.judge)}, ties counted half; "
        return Headline(title=title, deck=f"{deck}the 95\u00a0% interval is {between(win.rate)}.")
    if evidence.classifier:
        area = evidence.classifier.auc
        deck = f"The area under the ROC curve on {evidence.classifier.count} held-out texts; interval {span(area)}."
        return Headline(title=f"AUC {number(area.mean)}", deck=deck)
    if evidence.reward_model:
        quality = evidence.reward_model
        interval = between(quality.accuracy_interval)
        deck = f"The reward model on {quality.pairs} pairs it never saw; interval {interval}."
        return Headline(title=f"{per_cent(quality.accuracy, 1)} of held-out pairs ranked right", deck=deck)
    return _loss_headline(evidence)


def findings(evidence: Evidence) -> list[Finding]:
    """Up to four statements for the strip below the headline, without what the headline says itself."""
    found = []
    for arm in ("ppo", "dpo"):
        if closed := evidence.gap_closed.get(arm):
            name = f"of the gap closed by {arm_name(arm)}"
            detail = f"from SFT to ideal answers; interval {between(closed)}"
            found.append(Finding(figure=per_cent(closed.mean), name=name, detail=detail, good=closed.low > 0))
    if quality := evidence.reward_model:
        best = quality.best_possible
        detail = f"{quality.pairs} held-out pairs; interval {between(quality.accuracy_interval)}"
        good = None if best is None else best - quality.accuracy <= CLOSE_TO_BEST
        if best is not None:
            off = f"{'within' if good else 'more than'} {100 * CLOSE_TO_BEST:.0f} points off"
            detail = f"best possible under the labels' noise: {per_cent(best, 1)}; {off}"
        figure = per_cent(quality.accuracy, 1)
        found.append(Finding(figure=figure, name="of pairs ranked right", detail=detail, good=good))
    if classifier := evidence.classifier:
        detail = f"{classifier.positives} of {classifier.count} positive; interval {span(classifier.auc)}"
        found.append(Finding(figure=number(classifier.auc.mean), name="AUC", detail=detail))
    if over := evidence.over_optimisation:
        found.extend(_over_finding(over.verdicts))
    title = headline(evidence).title
    return [one for one in found if one.figure not in title][:4]


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
    fall, rise = (f"{number(one.mean)} ({_ends(one)})" for one in (found.gold_fall, found.proxy_rise))
    peak = f"its peak of {number(found.gold_peak)} at iteration {found.gold_peak_step}"
    judged = f"95 % intervals over {found.prompts} held-out prompts."
    if found.over_optimised:
        told = f"gold falls by {fall} after {peak}, while the reward rises by {rise}: the reward is being gamed."
    elif found.gold_fell:
        told = f"gold falls by {fall} after {peak}, but the reward does not rise ({rise}): worse, not gamed."
    else:
        told = f"gold ends at {number(found.gold_end)}. From {peak} it falls by {fall}, which may be noise: not gamed."
    return f"{arm}, {told} {judged}"


def _ends(interval: Interval) -> str:
    return f"{number(interval.low)} to {number(interval.high)}".replace(" ", "\u00a0")


def over_optimisation_sentences(over: OverOptimisation) -> list[str]:
    """The verdicts, and gold of both arms where the free one reaches the reward at which PPO ends, if it does."""
    told = [verdict_sentence(arm, found) for arm, found in over.verdicts.items()]
    end = over.ppo[-1] if over.ppo else None
    free = gold_at_reward(over.no_kl, end.proxy) if end else None
    return told if end is None or free is None else [*told, _at_the_same_reward(end, free)]


def _at_the_same_reward(end: CurvePoint, free: CurvePoint) -> str:
    return (
        f"At the reward at which PPO ends ({number(end.proxy)}), the policy with the KL penalty scores "
        f"{number(end.gold)} in gold at {number(end.kl)} nats; with kl_weight 0 it scores {number(free.gold)} at "
        f"{number(free.kl)} nats."
    )


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, the two largest that count."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _gold_headline(evidence: Evidence, start: str, end: str) -> Headline:
    before, after = evidence.gold[start].overall, evidence.gold[end].overall
    deck = (
        f"The gold judge's score on held-out prompts {'rises' if after.mean > before.mean else 'goes'} from "
        f"{number(before.mean)} ({arm_name(start)}) to {number(after.mean)} ({arm_name(end)})"
    )
    ceiling, closed = evidence.gold.get("ceiling"), evidence.gap_closed.get(end)
    if ceiling and closed:
        deck += (
            f", where ideal answers score {number(ceiling.overall.mean)}. "
            f"{arm_name(end)} closes {per_cent(closed.mean)} of the distance that SFT left open"
        )
    if other := evidence.gap_closed.get("dpo"):
        deck += f"; DPO, from the same pairs, {per_cent(other.mean)}" if end != "dpo" else ""
    return Headline(title=f"From {number(before.mean)} to {number(after.mean)}", deck=deck + ".")


def _over_finding(verdicts: Mapping[str, Verdict]) -> list[Finding]:
    main, control = verdicts.get("ppo"), verdicts.get("no_kl")
    if main is None:
        return []
    figure = "Gamed" if main.over_optimised else "Not gamed"
    detail = "gold fell while the reward rose" if main.over_optimised else "gold did not fall while the reward rose"
    if control is not None:
        detail += f"; with KL weight 0, gold {'falls' if control.gold_fell else 'does not fall'}"
    return [Finding(figure=figure, name="PPO under its KL penalty", detail=detail, good=not main.over_optimised)]


def _loss_headline(evidence: Evidence) -> Headline:
    for stage, name in LOSS_STAGES:
        rows = evidence.curves.get(stage, ())
        for metric, what in (("eval_loss", "held-out loss"), ("loss", "training loss")):
            values = _values(rows, metric)
            if len(values) > 1:
                title = f"{what.capitalize()} from {number(values[0])} to {number(values[-1])}"
                return Headline(title=title, deck=f"{name}, {len(rows)} steps, in {duration(evidence.wall_s)}.")
    if len(values := _values(evidence.curves.get("ppo", ()), "reward")) > 1:
        deck = f"Mean reward of the rollouts over {len(values)} PPO steps, in {duration(evidence.wall_s)}."
        return Headline(title=f"Reward from {number(values[0])} to {number(values[-1])}", deck=deck)
    for stage, name in LOSS_STAGES:
        if values := _values(evidence.curves.get(stage, ()), "loss"):
            return Headline(title=f"Training loss {number(values[0])}", deck=f"{name}, a single step: nothing to draw.")
    return Headline(title=evidence.title, deck="This run left no measurements to show.")


def _values(rows: tuple[MetricsRow, ...], metric: str) -> list[float]:
    return [value for row in rows if (value := row.get(metric)) is not None]


def _first(arms: Iterable[str], *names: str) -> str | None:
    present = set(arms)
    return next((name for name in names if name in present), None)
