"""`assent demo --personal`: the job of `people.py` for one or more seeds, its report, and a short table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from rich.table import Table

from assent.algorithms.loop import Watch
from assent.config import as_dict
from assent.evals.arms import Arm
from assent.evals.evidence import Evidence, Measurement, Sample
from assent.evals.intervals import Interval, bootstrap_mean, bootstrap_ratio, paired_difference
from assent.evals.report import write_report
from assent.interrupts import StopRequest
from assent.recipes.demo.people import EVERYBODY, NEWCOMERS, Answered, People, PeopleSettings
from assent.recipes.run.ending import peak_rss_mib
from assent.recipes.run.progress import Display
from assent.runs.folder import RunDir
from assent.runs.lineage import Lineage, parent
from assent.world.annotators import GROUPS, member

OWN, NEW = "own", "newcomer"
ARMS = {
    "sft": Arm(name="SFT", colour="teal"),
    EVERYBODY: Arm(name="Everybody's policy", colour="grey"),
    NEW: Arm(name="A newcomer's policy", colour="purple", setting="From the answers to some questions"),
    OWN: Arm(name="The group's policy", colour="blue"),
}
_SHOWN = 12


def run_people(
    settings: PeopleSettings, base: Path, *, out: Path, seeds: int, display: Display, overwrite: bool
) -> Path:
    """Run seeds 0, 1, ... and write the report; returns the path of report.html."""
    start = time.monotonic()
    lineage = Lineage(
        kind="demo", settings=as_dict(settings), seed=0, parents=(parent(base, role="policy"),),
        device=str(settings.machine.pick()), precision=settings.machine.precision,
    ).to_dict()  # fmt: skip
    found: list[tuple[People, dict[str, Answered]]] = []
    with (
        RunDir.create(
            out, kind="demo", settings=as_dict(settings), lineage=lineage, total=seeds, overwrite=overwrite
        ) as run,
        StopRequest() as stop,
    ):
        run.set_status("running", unit="seeds")
        for seed in range(seeds):
            job = People(settings=settings, out=out if seed == 0 else out / f"seed-{seed}", seed=seed)
            found.append((job, job.run(base, display, Watch(stop=stop))))
            run.set_status("running", step=seed + 1)
            evidence = Evidence(
                title="People differ",
                arms=ARMS,
                command="make demo-personal" if seeds == 1 else f"make demo-personal SEEDS={seeds}",
                seeds=tuple(range(seed + 1)),
                wall_s=time.monotonic() - start,
                peak_rss_mib=peak_rss_mib(),
                measurements=tuple(own_gold_of(group, found) for group in GROUPS),
                samples=_samples(*found[0]),
                notes=tuple(_share_told(group, found) for group in GROUPS),
                settings=lineage["settings"],
                lineage={name: value for name, value in lineage.items() if name != "settings"},
            )
            path = write_report(evidence, out)  # a run that is cut keeps the seeds that are done
        run.set_status("finished")
    _show(evidence, path, display)
    return path


def _scores(group: str, found: Sequence[tuple[People, dict[str, Answered]]]) -> dict[str, list[float]]:
    """How much a member likes what each arm says, the seeds one after the other."""
    who, arms = member(group, group), {"sft": "sft", EVERYBODY: EVERYBODY, NEW: NEWCOMERS[group], OWN: group}
    return {
        arm: list(chain.from_iterable(answered[name].own_gold(who) for _, answered in found))
        for arm, name in arms.items()
    }


def _prompts(found: Sequence[tuple[People, dict[str, Answered]]]) -> list[str]:
    return [prompt.conversation.last_user_text for job, _ in found for prompt in job.held_out]


def own_gold_of(group: str, found: Sequence[tuple[People, dict[str, Answered]]]) -> Measurement:
    """A group's own gold score of every arm; what its policy gains over everybody's is taken prompt by prompt."""
    scores, prompts = _scores(group, found), _prompts(found)
    count = len(dict.fromkeys(prompts))
    return Measurement(
        name="gold by own taste",
        unit="gold score with the taste of the group",
        judge=f"{group} group",
        items=f"{count} held-out prompts of the embedded world, temperature 1",
        counted="prompts",
        values={arm: bootstrap_mean(one, seed=0, groups=prompts) for arm, one in scores.items() if arm != "sft"},
        gained=paired_difference(scores[OWN], scores[EVERYBODY], seed=0, groups=prompts),
    )


def newcomers_share(group: str, found: Sequence[tuple[People, dict[str, Answered]]]) -> Interval | None:
    """The newcomer's gain over everybody's policy, as a share of the group's; None where the group gains nothing."""
    scores = _scores(group, found)
    gains = [[a - b for a, b in zip(scores[arm], scores[EVERYBODY], strict=True)] for arm in (NEW, OWN)]
    return bootstrap_ratio(*gains, seed=0, groups=_prompts(found)) if sum(gains[1]) else None


def _share_told(group: str, found: Sequence[tuple[People, dict[str, Answered]]]) -> str:
    share, questions = newcomers_share(group, found), found[0][0].settings.questions
    if share is None:
        return f"The {group} group's own policy gains nothing over everybody's, so a newcomer gets no share of it."
    told = f"{share.mean:.0%} ({share.low:.0%} to {share.high:.0%})"
    return f"With {questions} answers a newcomer to the {group} group gets {told} of its gain over everybody's policy."


def _samples(job: People, answered: dict[str, Answered]) -> tuple[Sample, ...]:
    """What everybody's policy and those of the groups say to the first held-out prompts."""
    return tuple(
        Sample(
            prompt=prompt.conversation.last_user_text,
            kind=prompt.kind,
            answers={name: answered[name].texts[place] for name in (EVERYBODY, *GROUPS)},
            gold={name: answered[name].gold[place] for name in (EVERYBODY, *GROUPS)},
        )
        for place, prompt in enumerate(job.held_out[:_SHOWN])
    )


def _show(evidence: Evidence, path: Path, display: Display) -> None:
    table = Table(title="Gold score by the taste of each group (and half of its 95 % interval)")
    for column in ("", *(ARMS[arm].name for arm in (EVERYBODY, NEW, OWN)), "gained by the group's"):
        table.add_column(column, justify="right" if column else "left")
    for one in evidence.measurements:
        cells = [one.values[arm] for arm in (EVERYBODY, NEW, OWN)]
        assert one.gained is not None, "it is always measured"
        gained = f"{one.gained.mean:+.3f} ({one.gained.low:+.3f} to {one.gained.high:+.3f})"
        table.add_row(one.judge, *(f"{m.mean:.3f} ± {(m.high - m.low) / 2:.3f}" for m in cells), gained)
    display.console.print(table)
    for note in evidence.notes:
        display.say(note)
    display.say(f"{evidence.wall_s:.0f} s, {evidence.peak_rss_mib:.0f} MiB at most")
    display.say(f"The report: {path}")
