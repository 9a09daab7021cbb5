"""`assent report`: the evidence of several runs on one page, a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assent.errors import RunError
from assent.evals.evidence import Evidence, from_json
from assent.evals.report import write_report
from assent.recipes.run.names import unique_names
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.runs.folder import read_status
from assent.runs.lock import is_held

REPORT, _STATUS, _CONFIG = "report.json", "status.json", "config.json"


def run_report(request: Request, display: Display) -> Path:
    """Put runs on one page; a folder of runs stands for all runs in it that have a report."""
    out = request.files.out
    if (out / _STATUS).is_file():
        raise RunError("this is a run with a report of its own", where=str(out), now="Give another --out.")
    folders = [found for run in request.own["runs"] for found in _runs_of(Path(run), display)]
    folders = list({folder.resolve(): folder for folder in folders}.values())
    path = write_report(joined([read_evidence(folder) for folder in folders], folders), out)
    display.say(f"{len(folders)} {'run' if len(folders) == 1 else 'runs'}: {', '.join(unique_names(folders))}")
    display.say(f"report: {path}")
    return path


def _runs_of(folder: Path, display: Display) -> list[Path]:
    """The folder, if it is a run, or else the runs in it, the earliest first; those without a report are named."""
    if (folder / REPORT).is_file() or (folder / _STATUS).is_file() or not folder.is_dir():
        return [folder]
    inside = [one for one in folder.iterdir() if (one / _STATUS).is_file()]
    inside.sort(key=lambda one: (one / _CONFIG).stat().st_mtime if (one / _CONFIG).is_file() else 0.0)
    for run in inside:
        if not (run / REPORT).is_file():
            display.say(f"skipped, because it has no report: {run} ({read_status(run).state})")
    return [run for run in inside if (run / REPORT).is_file()] or [folder]


def read_evidence(folder: Path) -> Evidence:
    """The report.json of a run folder."""
    file = folder / REPORT
    if not file.is_file():
        if (folder / "status.json").is_file():
            status = read_status(folder)
            state = status.state if status.state != "running" or is_held(folder) else "cut off"
            what = f"the run of {status.kind} is {state} after {status.done} and has no report"
            raise RunError(what, where=str(folder), now="Finish it with --resume.")
        what = "this is no run folder, and no folder of runs with a report"
        raise RunError(what, where=str(folder), now="Name run folders, or a folder of runs.")
    return from_json(file.read_text(encoding="utf-8"), where=str(file))


def joined(parts: Sequence[Evidence], folders: Sequence[Path]) -> Evidence:
    """The page of several runs; a page of several among them gives its runs."""
    named: dict[str, Evidence] = {}
    for name, part in zip(unique_names(folders), parts, strict=True):
        named |= {f"{name}/{inner}": one for inner, one in part.parts.items()} if part.parts else {name: part}
    return Evidence(
        title=", ".join(named),
        seeds=tuple(dict.fromkeys(seed for part in parts for seed in part.seeds)),
        wall_s=sum(part.wall_s for part in parts),
        peak_rss_mib=max(part.peak_rss_mib for part in parts),
        parts=named,
    )
