"""`assent demo`: the whole loop on the embedded world for one or more seeds, its report, and a short table."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import count
from pathlib import Path

from rich.table import Table

from assent.algorithms.methods import METHODS
from assent.config import as_dict
from assent.durable import sha256_file
from assent.errors import ConfigError
from assent.evals.arms import ORACLE, Arm
from assent.evals.evidence import Evidence, SeedResult, over_optimisation
from assent.evals.gold import AXES, ArmScores, AxisIntervals, gap_closed, gold_by_kind, gold_means, pooled
from assent.evals.intervals import Interval
from assent.evals.over_optimisation import curve, verdict
from assent.evals.report import write_report
from assent.evals.reward_quality import RewardQuality, best_possible_accuracy, pooled_pairs, reward_quality
from assent.interrupts import StopRequest
from assent.metrics import Metrics
from assent.recipes.demo.experiment import Experiment, ExperimentContext
from assent.recipes.demo.experiment_settings import ExperimentSettings
from assent.recipes.demo.people import PeopleSettings
from assent.recipes.demo.people_command import run_people
from assent.recipes.demo.result import ExperimentResult
from assent.recipes.run.jobs import training_curves
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.runs.folder import RunDir
from assent.runs.lineage import Lineage, parent, write_model_card
from assent.world.facts import build_world

ARMS = {
    "base": Arm(name="Base", colour="grey"),
    "sft": Arm(name="SFT", colour="teal"),
    "dpo": Arm(name="DPO", colour="purple"),
    "ppo": Arm(name="PPO", colour="blue", setting="With the KL penalty"),
    "no_kl": Arm(name="No KL", colour="orange", setting="With kl_coef 0"),
    ORACLE: Arm(name="Ideal answers", colour="ink"),
}
_SCORED = ("base", "sft", "dpo", "ppo", ORACLE)
_SAVED = ("sft", "reward", "ppo", "dpo")

_NOTES = (
    "The arm with kl_coef 0 has the seed of PPO and all its other settings.",
    "The curves of the section on over-optimisation are on held-out prompts at temperature 1, the same ones at every "
    "point. The small charts of training show each iteration's own samples of training prompts, at the temperature of "
    "the rollouts.",
)


def shipped_base() -> Path:
    """The folder of the base model in the package; ConfigError if its files are not the ones that shipped."""
    folder = Path(str(resources.files("assent.world") / "base"))
    for line in (folder / "SHA256").read_text().splitlines():
        expected, name = line.split()
        if not (folder / name).is_file() or sha256_file(folder / name) != expected:
            what = f"{name} of the shipped base model is not the file that shipped"
            now = "Install the package again, or make the base with `make base`."
            raise ConfigError(what, where=str(folder), now=now)
    return folder


def run_demo(
    *, out: Path, seeds: int, settings: ExperimentSettings, machine: MachineOptions, display: Display, overwrite: bool
) -> Path:
    """Run the main job for seeds 0, 1, ... and write the report; returns the path of report.html."""
    start = time.monotonic()
    base = shipped_base()
    lineage = Lineage(
        kind="demo",
        settings=as_dict(settings),
        seed=0,
        parents=(parent(base, role="policy"),),
        device=str(machine.pick()),
        precision=machine.precision,
    )
    jobs: list[Experiment] = []
    with (
        RunDir.create(
            out, kind="demo", settings=as_dict(settings), lineage=lineage.to_dict(),
            total=seeds * settings.ppo.iterations, overwrite=overwrite,
        ) as run,
        StopRequest() as stop,
    ):  # fmt: skip
        iterations = count(1)
        run.set_status("running", unit="iterations")

        def record(row: Metrics) -> None:
            step = next(iterations)
            run.metrics.append(step, row)
            run.set_status("running", step=step)

        for seed in range(seeds):
            if seeds > 1:
                display.say(f"seed {seed + 1} of {seeds}")
            folder = out if seed == 0 else out / f"seed-{seed}"
            context = ExperimentContext(
                world=build_world(0), base=base, machine=machine, out=folder, display=display, stop=stop, record=record
            )
            jobs.append(Experiment(settings, context, seed=seed))
            jobs[-1].run()
            evidence = _evidence(jobs, lineage, wall_s=time.monotonic() - start)
            path = write_report(evidence, out)  # a run that is cut keeps the seeds that are done
        _cards(out, lineage, evidence)
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        run.set_status("finished")
    _show(evidence, path, display)
    return path


def _evidence(jobs: Sequence[Experiment], lineage: Lineage, *, wall_s: float) -> Evidence:
    results, seeds = [job.result for job in jobs], len(jobs)
    scores = {arm: pooled([result.scores[arm] for result in results]) for arm in _SCORED}
    first = results[0]
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Evidence(
        title="Demo",
        arms=ARMS,
        main="ppo",
        comparisons=(("base", "sft"), ("sft", "ppo"), ("sft", "dpo")),
        command="make demo" if seeds == 1 else f"make demo SEEDS={seeds}",
        seeds=tuple(result.seed for result in results),
        wall_s=wall_s,
        stage_s={name: sum(o.stage_s[name] for o in results) for name in first.stage_s},
        concurrent_stages=tuple(first.concurrent_stages),
        peak_rss_mib=(own + 2 * children) / 1024,  # at most: this process, and twice the larger of the two others
        gold={arm: gold_means(scores[arm], seed=0) for arm in _SCORED},
        gap_closed=_gaps(scores),
        gap_from="sft",
        gold_by_kind=by_kind(scores),
        reward_model=_reward_quality(results),
        over_optimisation=over_optimisation(first.optimisation, kl_coef=jobs[0].settings.ppo.kl_coef),
        training={
            arm: training_curves(METHODS["ppo" if arm == "no_kl" else arm], first.curves[arm])
            for arm in ("sft", "reward", "dpo", "ppo", "no_kl")
        },
        reward_unit="raw score of the reward model",
        samples=first.samples(jobs[0].held_out),
        per_seed=tuple(_seed_result(result) for result in results) if len(results) > 1 else (),
        notes=_NOTES,
        settings=lineage.to_dict()["settings"],
        lineage={name: value for name, value in lineage.to_dict().items() if name != "settings"},
    )


def by_kind(scores: Mapping[str, ArmScores]) -> dict[str, dict[str, AxisIntervals]]:
    """Intervals by kind of prompt, then by arm."""
    of_arm = {arm: gold_by_kind(one, seed=0) for arm, one in scores.items()}
    kinds = dict.fromkeys(kind for found in of_arm.values() for kind in found)
    return {kind: {arm: found[kind] for arm, found in of_arm.items() if kind in found} for kind in kinds}


def _reward_quality(results: Sequence[ExperimentResult]) -> RewardQuality | None:
    """Of the reward models of all seeds, each on its own held-out pairs."""
    judged = [result.reward_pairs for result in results if result.reward_pairs is not None]
    if not judged:
        return None
    pairs = pooled_pairs(judged)
    return reward_quality(pairs, seed=0, best_possible=best_possible_accuracy(pairs.probability or ()))


def _gaps(scores: dict[str, ArmScores]) -> dict[str, Interval]:
    return {arm: gap_closed(scores["sft"], scores[arm], scores[ORACLE], seed=0) for arm in ("ppo", "dpo")}


def _seed_result(result: ExperimentResult) -> SeedResult:
    return SeedResult(
        seed=result.seed,
        gold={arm: gold_means(result.scores[arm], seed=0) for arm in _SCORED},
        gap_closed=_gaps(result.scores),
        verdicts={arm: verdict(path) for arm, path in result.optimisation.items()},
        optimisation={arm: curve(path) for arm, path in result.optimisation.items()},
    )


def _cards(out: Path, lineage: Lineage, evidence: Evidence) -> None:
    for name in _SAVED:
        metrics = {"gold score": evidence.gold[name].overall.mean} if name in evidence.gold else {}
        if name == "reward" and evidence.reward_model is not None:
            metrics = {"held-out pair accuracy": evidence.reward_model.accuracy}
        method = METHODS[name]
        write_model_card(out / name, lineage, what=method.card, tags=(*method.tags, name), metrics=metrics)


def _show(evidence: Evidence, path: Path, display: Display) -> None:
    table = Table(title="Gold score on held-out prompts (and half of its 95 % interval)")
    table.add_column("")
    for axis in AXES:
        table.add_column(axis, justify="right")
    for arm in _SCORED:
        means = [getattr(evidence.gold[arm], axis) for axis in AXES]
        table.add_row(arm, *(f"{m.mean:.3f} ± {(m.high - m.low) / 2:.3f}" for m in means))
    display.console.print(table)
    quality = evidence.reward_model
    if quality is not None and quality.best_possible is not None:
        display.say(
            f"reward model: {quality.accuracy:.3f} of held-out pairs right, {quality.best_possible:.3f} possible"
        )
    for arm, gap in evidence.gap_closed.items():
        closed = f"{gap.mean:.0%} ({gap.low:.0%} to {gap.high:.0%})"
        display.say(f"{evidence.name_of(arm)} closes {closed} of the gap between SFT and the ideal answers")
    display.say(f"{evidence.wall_s:.0f} s, {evidence.peak_rss_mib:.0f} MiB at most")
    display.say(f"The report: {path}")


class DemoSettings(ExperimentSettings):
    """`assent demo`."""

    machine: MachineOptions = MachineOptions(device="cpu", threads=1)


def run_demo_command(request: Request, display: Display) -> Path:
    """`assent demo`: see `run_demo`, and with --personal `run_people`."""
    seeds = int(request.text("seeds") or 1)
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: at least one seed is needed")
    if request.own.get("personal"):
        people = request.settings(PeopleSettings, base=PeopleSettings().model_dump(mode="json", exclude_none=True))
        return run_people(
            people, shipped_base(), out=request.files.out, seeds=seeds, display=display,
            overwrite=request.files.overwrite,
        )  # fmt: skip
    settings = request.settings(DemoSettings, base=DemoSettings().model_dump(mode="json", exclude_none=True))
    return run_demo(
        out=request.files.out, seeds=seeds, settings=settings, machine=settings.machine, display=display,
        overwrite=request.files.overwrite,
    )  # fmt: skip
