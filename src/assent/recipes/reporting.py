"""`assent report`: the evidence of several runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assent.errors import RunError
from assent.evals.evidence import Evidence, from_json
from assent.evals.report import write_report
from assent.recipes.progress import Display
from assent.recipes.request import Request
from assent.rundir import is_held, read_status

_JOINED = ("stage_s", "gold", "gap_closed", "gold_by_kind", "reward", "reward_parts", "curves")
_FIRST = ("reward_model", "classifier", "over_optimisation")


def run_report(request: Request, display: Display) -> Path:
    """Join the reports of runs; later runs win where two say the same thing."""
    folders = [Path(run) for run in request.texts("runs")]
    out = request.files.out
    if (out / "status.json").is_file():
        raise RunError("this is a run with a report of its own", where=str(out), now="Give another --out.")
    path = write_report(joined([read_evidence(folder) for folder in folders], folders), out)
    display.say(f"report: {path}")
    return path


def read_evidence(folder: Path) -> Evidence:
    """The report.json of a run folder."""
    file = folder / "report.json"
    if not file.is_file():
        if (folder / "status.json").is_file():
            status = read_status(folder)
            state = status.state if status.state != "running" or is_held(folder) else "cut off"
            raise RunError(
                f"the run of {status.kind} is {state} at step {status.step} of {status.total} and has no report",
                where=str(folder),
                now="Finish it with --resume.",
            )
        raise RunError("this is no run folder: it holds no report.json", where=str(folder), now="Name run folders.")
    return from_json(file.read_text(encoding="utf-8"), where=str(file))


def joined(parts: list[Evidence], folders: list[Path]) -> Evidence:
    """One evidence of several."""
    together: dict[str, Any] = {
        name: {key: value for part in parts for key, value in getattr(part, name).items()} for name in _JOINED
    }
    for name in _FIRST:
        together[name] = next((getattr(part, name) for part in reversed(parts) if getattr(part, name)), None)
    names = [folder.resolve().name for folder in folders]
    return Evidence(
        title=" · ".join(dict.fromkeys(part.title for part in parts)),
        seeds=tuple(dict.fromkeys(seed for part in parts for seed in part.seeds)),
        wall_s=sum(part.wall_s for part in parts),
        peak_rss_mib=max(part.peak_rss_mib for part in parts),
        win_rates=tuple(win for part in parts for win in part.win_rates),
        samples=tuple(sample for part in parts for sample in part.samples),
        settings={name: dict(part.settings) for name, part in zip(names, parts, strict=True)},
        lineage={name: dict(part.lineage) for name, part in zip(names, parts, strict=True)},
        notes=tuple(note for part in parts for note in part.notes),
        **together,
    )
