"""What the real jobs share: their arguments, a pipeline of Assent's own commands, and the figures of its reports."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from assent.cli import main
from assent.evals.evidence import Evidence
from assent.evals.intervals import Interval
from assent.recipes.reporting import read_evidence

COMMON = {"machine": {"precision": "bf16"}, "trackers": []}

T = TypeVar("T")
Stage = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Where a job reads and writes; `short` is a cut of it that takes seconds and shows nothing but that it runs."""

    data: Path
    out: Path
    short: bool = False
    resume: bool = False

    def cut(self, items: Iterable[T], most: int = 1) -> list[T]:
        """All of them, or at most so many in a cut of the job."""
        return list(items)[: most if self.short else None]

    def file(self, name: str, rows: Iterable[Mapping[str, Any]]) -> str:
        """Write a file of the job's own and give its path; eight rows are enough for a cut."""
        path = self.out / "data" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in self.cut(rows, 8)]
        path.write_text("".join(lines), encoding="utf-8")
        return str(path)

    def run(self, stages: Sequence[Stage]) -> None:
        """Run the stages as `assent run` does."""
        pipeline = self.out / "pipeline.toml"
        lines = [f"out = {_toml(str(self.out / 'runs'))}", f"common = {_toml(COMMON)}"]
        for stage in stages:
            lines += ["[[stage]]", *(f"{key} = {_toml(value)}" for key, value in stage.items())]
        pipeline.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _command("run", pipeline, "--resume" if self.resume else "--overwrite")

    def report(self, *more: Path) -> dict[str, Any]:
        """One page of all runs and `more`, and figures.json with every number that they measured."""
        runs = sorted((self.out / "runs").glob("*/report.json"), key=lambda file: file.stat().st_mtime)
        _command("report", *(file.parent for file in runs), *more, "--out", self.out)
        page = read_evidence(self.out)
        found = {name: figures(part) for name, part in page.parts.items()}
        found["all"] = {"seconds": page.wall_s, "peak_memory_mib": page.peak_rss_mib}
        (self.out / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        for name, part in found.items():
            print(name, *(f"  {what}: {_shown(value)}" for what, value in part.items()), sep="\n")
        return found


def arguments(name: str, doc: str | None) -> Job:
    """The job that the command line asks for."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder of data sets; docs/real-jobs.md lists them"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/real") / name)
    parser.add_argument("--short", action="store_true", help="a cut that shows nothing but that the job runs")
    parser.add_argument("--resume", action="store_true", help="finished stages stay as they are")
    return Job(**vars(parser.parse_args()))


def reward(name: str) -> str:
    """A function of rewards.py as `--reward` takes it."""
    return f"examples.real.rewards:{name}"


def figures(evidence: Evidence) -> dict[str, Any]:
    """Every number that a run measured: means with the ends of their 95 % intervals and n."""
    found: dict[str, Any] = {}
    for one in evidence.measurements:
        found |= {f"{one.name} {model}": _ends(value) for model, value in one.values.items()}
        if one.gained is not None:
            first, *_, last = one.values
            found[f"{one.name} {last} - {first}"] = _ends(one.gained)
    for win in evidence.win_rates:
        found[f"{win.arm} wins against {win.against}"] = _ends(win.rate)
    if (quality := evidence.reward_model) is not None:
        found |= {"accuracy": _ends(quality.accuracy_interval), "calibration error": quality.ece}
        if (bias := quality.length_bias) is not None:
            found |= {"accuracy, longer chosen": _ends(bias.longer_chosen), "shorter": _ends(bias.shorter_chosen)}
    if evidence.classifier is not None:
        found |= {"AUC": _ends(evidence.classifier.auc), "calibration error": evidence.classifier.ece}
    for curves in evidence.training.values():
        found |= {"kl": kl[-1]} if (kl := curves.values("kl")) else {}
    return found | {"seconds": evidence.wall_s, "peak_memory_mib": evidence.peak_rss_mib}


def _ends(value: Interval) -> list[float]:
    return [value.mean, value.low, value.high, value.n]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        mean, low, high, n = value
        return f"{mean:.3f} ({low:.3f} to {high:.3f}, n = {n})"
    return f"{value:,.3f}" if value < 100 else f"{value:,.0f}"


def _command(*words: object) -> None:
    if code := main([str(word) for word in words]):
        sys.exit(code)


def _toml(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)
