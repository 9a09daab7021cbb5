"""`assent feedback stats`: a project's figures and how far its annotators agree, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from assent.durable import write_atomic
from assent.feedback.quality.live_figures import LiveFigures
from assent.feedback.quality.project_agreement import (
    ItemOpinions,
    ProjectAgreement,
    completion_scores,
    item_opinions,
    project_agreement,
)
from assent.feedback.quality.resampling import Estimate, Resampling
from assent.feedback.quality.statistics import Figures, PersonFigures
from assent.feedback.records import EventKind, Project
from assent.feedback.store.answered_sample import answered_sample
from assent.feedback.store.store import FeedbackStore
from assent.recipes.annotation.opened_store import chosen_project, open_store
from assent.recipes.run.inputs import refuse_existing
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request

_EXPLAINED = """
alpha and kappa: 1 is full agreement, 0 is chance; labels of pairs of completions, intervals over items
  Krippendorff's alpha   all annotators, with gaps; a tie is half a disagreement
  Fleiss' kappa          all annotators; a tie is a label of its own
  Cohen's kappa          two annotators, on the items that both labelled
reliability: how often an annotator's label is right, estimated from all labels together; 50 % is chance"""


def run_feedback_stats(request: Request, display: Display) -> Figures:
    """Figures of the project on standard output; with --out also as JSON, with a score for each completion.

    StoreError where the record of events is not as it was written.
    """
    out = request.text("out")
    if out:
        refuse_existing(request.files)
    with open_store(request, writing=False) as store:
        project = chosen_project(store, request)
        events = store.verify_chain()
        figures = LiveFigures(store).of(project.id)
        opinions = _opinions(store, project, figures, display)
        agreement = project_agreement(opinions, Resampling(resamples=600))
        names = {person.id: person.name for person in store.people()}
    lines = lines_of(figures, agreement, project, lambda person: names.get(person, f"person {person}"))
    print("\n".join([*lines, f"record              {events:,} events in the store, none altered"]), flush=True)
    if out:
        scores = completion_scores(opinions)
        told = asdict(figures) | {"annotator_agreement": asdict(agreement), "completion_scores": scores}
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(Path(out), json.dumps(told, indent=1) + "\n")
        display.say(f"figures: {out}")
    return figures


def _opinions(store: FeedbackStore, project: Project, figures: Figures, display: Display) -> list[ItemOpinions]:
    """What annotators think of the items, control items left out."""
    found: list[ItemOpinions] = []
    with display.stage("agreement", figures.answers, unit="answers") as stage:
        for answered in answered_sample(store, project.id, answers=figures.answers):
            stage.advance(sum(event.kind not in (EventKind.SKIP, EventKind.FLAG) for event in answered.events))
            if answered.item.new.control_answer is None:
                found.append(item_opinions(answered))
    return found


def lines_of(found: Figures, agreement: ProjectAgreement, project: Project, name_of: Callable[[int], str]) -> list[str]:
    """The figures as text for a terminal."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.by_kind.items())
    serves = {word or "unnamed": share for word, share in found.serves.items()}
    shares = f"   ({', '.join(f'{word} {share:.0%}' for word, share in serves.items())})" if len(serves) > 1 else ""
    lines = [
        f'project "{project.name}" ({project.settings.mode})',
        f"answers             {found.answers:,}   (all that stands: {kinds or 'nothing'}; {found.undone:,} undone)",
        f"median time         {found.median_ms / 1000:.1f} s, {found.per_hour:.0f} an hour in {found.hours:.1f} hours",
        f"useful labels       {found.useful:,}{shares}",
        f"agreement           {_share(found.agreement)}",
        f"control items       {_share(found.control)}",
        f"silent repeats      {_share(found.self_agreement)}",
        f"best one stood first {_percent(found.position.first)}, by chance {_percent(found.position.expected)}",
    ]
    if found.cost is not None:
        each = f", {found.cost_per_useful_label:.2f} a useful label" if found.cost_per_useful_label is not None else ""
        lines.append(f"cost                {found.cost:.2f}{each}")
    for title, told in (("skipped", found.skips), ("flagged", found.flags)):
        if told:
            lines.append(f"{title:<19} {', '.join(f'{count:,} {word}' for word, count in told.items())}")
    if found.people:
        heads = "".join(f"{head:>9}" for head in ("answers", "median", "an hour", "control", "self", "first"))
        lines += ["", f"{'annotator':<24}{heads}  reliability"]
        reliability = agreement.reliability
        lines += [_person(name_of(person), one, reliability.get(person)) for person, one in found.people.items()]
    return [*lines, "", *_agreement_lines(agreement, name_of), ""]


def _agreement_lines(found: ProjectAgreement, name_of: Callable[[int], str]) -> list[str]:
    measures: Mapping[str, Estimate] = {
        "Krippendorff's alpha": found.alpha,
        "Fleiss' kappa": found.fleiss,
        **{f"Cohen's kappa, {name_of(pair.first)} and {name_of(pair.second)}": pair.kappa for pair in found.cohen},
    }
    return [*(f"{name:<48}{_figure(one)}" for name, one in measures.items()), *_EXPLAINED.strip().splitlines()]


def _person(name: str, one: PersonFigures, reliability: Estimate | None) -> str:
    shares = (one.control, one.self_agreement, one.position.first)
    shown = f"{name[:23]:<24}{one.answers:>9,}{one.median_ms / 1000:>7.1f} s{one.per_hour:>9.0f}"
    return shown + "".join(f"{_percent(share):>9}" for share in shares) + f"  {_share(reliability)}"


def _share(one: Estimate | None) -> str:
    if one is None or one.value is None:
        return "-" if one is None else f"- ({one.reason})"
    between = f" [{_percent(one.low)}, {_percent(one.high)}]" if one.low is not None else ""
    return f"{_percent(one.value)}{between} of {one.count:,}"


def _figure(one: Estimate) -> str:
    if one.value is None:
        return f"- ({one.reason})"
    between = f" [{one.low:.2f}, {one.high:.2f}]" if one.low is not None and one.high is not None else ""
    return f"{one.value:.2f}{between} of {one.count:,} items"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
