"""What a run was made of, where it ran and what came out: a row for each run of a page, a line where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
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
    machine: str
    kl: str
    measurements: str
    result: str
    interval: str
    time: str


def run_rows(parts: Mapping[str, Evidence]) -> list[RunRow]:
    """A row for each run, in their order."""
    return [_row(name, part) for name, part in parts.items()]


def made_of(part: Evidence) -> list[tuple[str, str]]:
    """Name and value of what people ask first of a run; what is not known is left out."""
    row = _row("", part)
    held_out = ", ".join(_data(one) for one in _entries(part, "data") if one.get("role") == "eval")
    found = (
        ("model", row.model),
        ("data", row.data),
        ("held out", held_out),
        ("reward", row.reward),
        ("on", row.machine),
    )
    return [(name, value) for name, value in found if value]


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
        machine=_machine(part),
        kl=number(kl[-1]) if kl else "",
        measurements=measurements,
        result=result,
        interval=interval,
        time=duration(part.wall_s),
    )


def _machine(part: Evidence) -> str:
    """Device, precision, rank of the adapter and speed: "cpu, bf16, LoRA of rank 16, 92 tokens/s"."""
    lora, precision = part.settings.get("lora"), part.lineage.get("precision")
    rank = lora.get("rank") if isinstance(lora, Mapping) and part.settings.get("train") != "head" else None
    trained = (
        "head alone" if part.settings.get("train") == "head" else f"LoRA of rank {rank}" if rank else "all weights"
    )
    speeds = [value for one in part.training.values() for value in one.values("tokens_per_second")]
    speed = f"{median(speeds):,.0f} tokens/s".replace(",", "\u202f") if speeds else ""
    told = (part.lineage.get("device"), precision, trained if part.training else "", speed)
    return ", ".join(str(one) for one in told if one)


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
    for suite in part.suites:
        figure, value = suite.main, list(suite.main.values.values())[-1]
        shown = per_cent(value.mean, 1) if figure.share else number(value.mean)
        return f"{suite.suite}: {figure.name}", shown, _interval(value, suite.counted, share=figure.share)
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
    kept = found if isinstance(found, list | tuple) else ()
    return [one for one in kept if isinstance(one, Mapping) and "name" in one]


def _is_reward(entry: Mapping[str, Any]) -> bool:
    """The roles of several reward models are "reward", "reward 2", ..."""
    return str(entry.get("role")).startswith("reward")


def _data(source: Mapping[str, Any]) -> str:
    rows = source.get("rows")
    return f"{source['name']} ({rows:,} rows)".replace(",", "\u202f") if isinstance(rows, int) else str(source["name"])
