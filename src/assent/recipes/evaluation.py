"""`assent eval`: a policy or a reward model on held-out data, or suites; writes the page."""

from __future__ import annotations

import time
from pathlib import Path

from assent.algorithms.reward import RewardSettings
from assent.config import as_dict
from assent.evals.evidence import Evidence
from assent.evals.report import write_report
from assent.recipes.policy_evaluation import WORLD, Findings, evaluate_policy, note_held_out
from assent.recipes.run.annotators import for_annotator
from assent.recipes.run.ending import ending, peak_rss_mib
from assent.recipes.run.held_out import measure_reward
from assent.recipes.run.inputs import Files, model_folder, read_judgement, require_data
from assent.recipes.run.job_settings import EvalJob
from assent.recipes.run.model_checks import is_reward_model
from assent.recipes.run.models import load_reward_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.suites.command import run_suites
from assent.runs.folder import RunDir, check_place
from assent.runs.lineage import Lineage, parent


def run_eval(request: Request, display: Display) -> Path:
    """Evaluate and write report.html and report.json into the output folder."""
    if request.own.get("suites") or request.text("shots"):
        return run_suites(request, display)
    files, settings, start = request.files, request.settings(EvalJob), time.monotonic()
    require_data(files, otherwise=f", or write --data {WORLD} for the embedded world")
    check_place(files.out, resume=False, overwrite=files.overwrite)
    path = model_folder(files.model)
    if is_reward_model(path):
        found = _reward_model(path, files, settings, display)
    else:
        found = evaluate_policy(path, request, settings, display)
    lineage = Lineage(
        kind="eval",
        settings=as_dict(settings),
        seed=settings.seed,
        data=found.sources,
        parents=tuple(found.parents),
        precision=settings.machine.precision,
    )
    document = lineage.to_dict()
    with RunDir.create(
        files.out, kind="eval", settings=as_dict(settings), lineage=document, overwrite=files.overwrite
    ) as run:
        evidence = Evidence(
            title="Evaluation",
            command=files.command,
            seeds=(settings.seed,),
            wall_s=time.monotonic() - start,
            peak_rss_mib=peak_rss_mib(),
            settings=document["settings"],
            lineage={name: value for name, value in document.items() if name != "settings"},
            **found.parts,
        )
        report = write_report(evidence, files.out)
        run.set_status("finished")
    display.say(ending(evidence))
    display.say(f"report: {report}")
    return report


def _reward_model(path: str, files: Files, settings: EvalJob, display: Display) -> Findings:
    reading = settings.reading
    data, _ = read_judgement(files, display, learn=settings.learn, reading=reading, limit=settings.limit, role="eval")
    reward = load_reward_model(path, machine=settings.machine, positive=settings.positive)
    reward = for_annotator(reward, settings.annotator, display)
    scoring = RewardSettings(max_length=settings.max_length, micro_batch_tokens=settings.micro_batch_tokens)
    measurements = measure_reward(reward, data.examples, scoring, display, seed=settings.seed)
    found = Findings(parts=dict(measurements.evidence), sources=data.sources, parents=[parent(path, role="reward")])
    note_held_out(path, data.examples, display, found)
    return found
