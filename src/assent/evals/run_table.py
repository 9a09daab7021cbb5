"""One row for each run of a page: its inputs, its result, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assent.evals.axes import gain_text, number, per_cent, signed, span
from assent.evals.evidence import Evidence, Measurement
from assent.evals.headline import duration, headline
from assent.evals.intervals import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """The cells of a run, as text; missing values are empty. `kl` is in nats per completion."""

    name: str
    kind: str
    model: str
    data: str
    reward: str
    kl: str
    measurements: str
    result: str
    interval: str
    time: str


def run_rows(parts: Mapping[str, Evidence]) -> list[RunRow]:
    """A row for each run, in their order."""
    return [_row(name, part) for name, part in parts.items()]


def _row(name: str, part: Evidence) -> RunRow:
    parents, sources = _entries(part, "parents"), _entries(part, "data")
    kl = [value for training in part.training.values() for value in training.values("kl")]
    measurements, result, interval = _result(part)
    rewards = [one["name"] for one in (*parents, *sources) if _is_reward(one)]
    return RunRow(
        name=name,
        kind=part.title,
        model=" against ".join(one["name"] for one in parents if not _is_reward(one)),
        data=", ".join(dict.fromkeys(_data(one) for one in sources if one.get("role") not in ("reward", "eval"))),
        reward=", ".join(rewards),
        kl=number(kl[-1]) if kl else "",
        measurements=measurements,
        result=result,
        interval=interval,
        time=duration(part.wall_s),
    )


def _result(part: Evidence) -> tuple[str, str, str]:
    """The strongest result of a run: what was measured, the value, and its interval with n."""
    if part.gold_gained is not None:
        other, mine = list(part.gold)[:2]
        gained = gain_text(part.gold_gained, "prompts")
        return f"gold of {part.name_of(mine)} against {part.name_of(other)}", signed(part.gold_gained.mean), gained
    if part.gold:
        arm = part.main if part.main in part.gold else next(iter(part.gold))
        overall = part.gold[arm].overall
        return f"gold score of {part.name_of(arm)}", number(overall.mean), _interval(overall, "prompts")
    if part.win_rates:
        win = part.win_rates[0]
        what = f"{part.name_of(win.arm)} wins against {part.name_of(win.against)}"
        return what, per_cent(win.rate.mean), _interval(win.rate, "prompts", share=True)
    if part.classifier:
        return "AUC on held-out labels", number(part.classifier.auc.mean), _interval(part.classifier.auc, "labels")
    if quality := part.reward_model:
        interval = _interval(quality.accuracy_interval, "label groups", share=True)
        return "held-out pairs ranked right", per_cent(quality.accuracy, 1), interval
    for found in part.measurements:
        what = f"held-out {found.name}, {found.unit}"
        if found.gained is not None:
            return what, _several(part, found), f"change {gain_text(found.gained, found.counted)}"
        return what, _several(part, found), _interval(list(found.values.values())[-1], found.counted)
    return "nothing held out was measured", headline(part).title if part.training else "", ""


def _several(part: Evidence, found: Measurement) -> str:
    """Before and after as an arrow; models side by side by their names."""
    if set(found.values) == {"before", "after"}:
        return " \u2192 ".join(number(value.mean) for value in found.values.values())
    if len(found.values) == 1:
        return number(next(iter(found.values.values())).mean)
    return ", ".join(f"{part.name_of(arm)} {number(value.mean)}" for arm, value in found.values.items())


def _interval(interval: Interval, counted: str, *, share: bool = False) -> str:
    return f"{span(interval, share=share)}, n\u00a0=\u00a0{interval.n} {counted}"


def _entries(part: Evidence, name: str) -> list[Mapping[str, Any]]:
    found = part.lineage.get(name)
    return [one for one in found if isinstance(one, Mapping) and "name" in one] if isinstance(found, list) else []


def _is_reward(entry: Mapping[str, Any]) -> bool:
    """The roles of several reward models are "reward", "reward 2", ..."""
    return str(entry.get("role")).startswith("reward")


def _data(source: Mapping[str, Any]) -> str:
    rows = source.get("rows")
    return f"{source['name']} ({rows:,} rows)".replace(",", "\u202f") if isinstance(rows, int) else str(source["name"])
