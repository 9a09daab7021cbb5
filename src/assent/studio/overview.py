"""The words and numbers of a project's page: one view for the first sight and for every refresh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assent.feedback.quality.resampling import Estimate
from assent.feedback.quality.statistics import Figures, PersonFigures
from assent.feedback.records import Project, TaskMode
from assent.feedback.store.progress import PersonProgress, Progress
from assent.studio import wording
from assent.studio.figures import COMPARING
from assent.studio.figures_file import Insight
from assent.studio.wording import NOTHING

FIGURES = (
    ("agreement", "Agreement"),
    ("control", "Control items"),
    ("repeats", "Self-agreement"),
    ("answers", "Answers"),
    ("median", "Time per answer"),
    ("cost", "Cost per useful label"),
)
PEOPLE_HEAD = (
    "Name", "Answers", "Median time", "An hour", "Skips", "Flags", "Control items", "Repeats", "Reliability",
    "Last answer", "Habits",
)  # fmt: skip
PURPOSES = {
    "reward_model": "for the reward model",
    "policy": "for the policy",
    "random": "random arm",
    "": "not chosen",
}
_COUNTING = "being counted"
_MOST_COHEN = 6


def overview(
    project: Project,
    progress: Progress,
    insight: Insight | None,
    *,
    fresh: bool,
    hours: list[tuple[int, int]],
    names: Mapping[int, str],
    now: float,
) -> dict[str, Any]:
    """The view: `text` by name, `value` of progress bars (0 to 1000), `rows`, `facts`, and the bars of `hours`.

    Without `fresh` the insight is of before the latest answers, and what comes of it says so.
    """
    day = sum(answers for start, answers in hours if start >= now - 86400)
    figures = insight.figures if insight else None
    refusals = _refusals(progress, figures)
    return {
        "text": {
            "finished": wording.count(progress.finished),
            "finished_of": f"of {wording.counted(progress.items, 'item')} finished",
            "outlook": _outlook(progress, hours, now) + _adaptive(project, progress),
            "answers": wording.count(progress.answers),
            "answers_note": f"{wording.count(day)} in the last day; {wording.count(progress.leased)} being answered",
            **_marked(_quality(project, insight), insight, fresh=fresh),
            **_marked(_effort(project, progress, figures), insight, fresh=fresh),
            "people_note": _people_note(project, figures),
            "saved": _saved(figures),
        },
        "value": {"done": done(progress.finished, progress.items)},
        "rows": {"people": _people(progress, insight, names, now)},
        "facts": {"agreement": _agreement_facts(insight, names), "refusals": refusals, "arms": _arms(figures)},
        "hours": [list(hour) for hour in hours],
    }


def _marked(texts: dict[str, str], insight: Insight | None, *, fresh: bool) -> dict[str, str]:
    if fresh or insight is None:
        return texts
    return {name: f"{text}; {_COUNTING}" if name.endswith("_note") else text for name, text in texts.items()}


def project_row(project: Project, progress: Progress, *, members: int, now: float) -> dict[str, Any]:
    """A project in the list."""
    latest = max((one.last_at for one in progress.by_person.values()), default=None)
    finished = f"{wording.count(progress.finished)} of {wording.counted(progress.items, 'item')} finished"
    pace = f"{'answer' if progress.answers == 1 else 'answers'}, the last {wording.ago(latest, now)}"
    row = {"id": project.id, "name": project.name, "mode_name": wording.MODE_NAMES[project.settings.mode]}
    row |= {"people": wording.counted(members, "member"), "done": done(progress.finished, progress.items)}
    row |= {"items": finished if progress.items else "no items yet", "answers": wording.count(progress.answers)}
    return row | {"pace": pace if latest else "answers"}


def rows_view(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The list of projects as its page refreshes it."""
    kept = ("people", "items", "answers", "pace")
    return {
        "text": {f"{row['id']}_{name}": row[name] for row in rows for name in kept},
        "value": {f"{row['id']}_done": row["done"] for row in rows},
    }


def done(part: int, whole: int) -> int:
    """A share for a progress bar, in thousandths."""
    return min(1000, round(1000 * part / whole)) if whole else 0


def _outlook(progress: Progress, hours: list[tuple[int, int]], now: float) -> str:
    left = max(0, progress.labels_wanted - progress.labels_given)
    if not progress.items:
        return "There are no items yet. Import some."
    if not left:
        return "All labels have been given."
    day = sum(answers for start, answers in hours if start >= now - 86400)
    wanted = f"{wording.counted(left, 'label')} still wanted"
    if not day:
        return f"{wanted}; nobody has answered in the last day."
    days = left / day
    when = f"about {wording.counted(max(1, round(days)), 'day')}" if days >= 0.9 else "within a day"
    return f"{wanted}: {when} at the pace of the last day."


def _adaptive(project: Project, progress: Progress) -> str:
    least, most = project.settings.overlap, project.settings.adaptive_overlap
    if most <= least or not progress.items:
        return ""
    more = wording.counted(max(0, progress.labels_wanted - least * progress.items), "label")
    return f" Items get {least} to {most} labels; {more} added because annotators or the model disagree."


def _quality(project: Project, insight: Insight | None) -> dict[str, str]:
    figures = insight.figures if insight else None
    told = {
        "agreement": _agreement(project, insight),
        "control": _rate(figures.control if figures else None, "control item"),
        "repeats": _rate(figures.self_agreement if figures else None, "silent repeat"),
    }
    values = {name: value for name, (value, _) in told.items()}
    return values | {f"{name}_note": note for name, (_, note) in told.items()}


def _agreement(project: Project, insight: Insight | None) -> tuple[str, str]:
    if project.settings.mode not in COMPARING:
        return NOTHING, f"not defined for {wording.MODE_NAMES[TaskMode(project.settings.mode)].lower()}"
    if insight is None:
        return NOTHING, _COUNTING
    share = insight.figures.agreement
    if share.value is None:
        return NOTHING, share.reason
    return wording.share(share.value), f"{_between(share)} of pairs, on {wording.counted(share.count, 'item')}"


def _agreement_facts(insight: Insight | None, names: Mapping[int, str]) -> list[list[str]]:
    """Each measure with its value, interval and number of items."""
    if insight is None:
        return [[_COUNTING, ""]]
    found = insight.agreement
    rows = [("Krippendorff's α", found.alpha), ("Fleiss' κ", found.fleiss)]
    for pair in found.cohen[:_MOST_COHEN]:
        who = " and ".join(names.get(person, f"person {person}") for person in (pair.first, pair.second))
        rows.append((f"Cohen's κ, {who}", pair.kappa))
    return [[name, _measure(one)] for name, one in rows]


def _measure(one: Estimate) -> str:
    if one.value is None:
        return one.reason
    ends = wording.span(one.low, one.high)
    return f"{wording.figure(one.value)}{f' ({ends})' if ends else ''}, {wording.counted(one.count, 'item')}"


def _between(estimate: Estimate) -> str:
    return wording.span(estimate.low, estimate.high, digits=0, per_cent=True) or "interval unknown"


def _rate(share: Estimate | None, what: str) -> tuple[str, str]:
    if share is None:
        return NOTHING, _COUNTING
    if share.value is None:
        return NOTHING, f"no {what} answered yet"
    return wording.share(share.value), f"{_between(share)} of pairs, on {wording.counted(share.count, what)}"


def _effort(project: Project, progress: Progress, figures: Figures | None) -> dict[str, str]:
    if figures is None:
        return {"median": NOTHING, "median_note": _COUNTING, "cost": NOTHING, "cost_note": _COUNTING}
    note = "set the cost of an hour to see it"
    if figures.cost is not None:
        spent = wording.seconds(3600 * figures.hours)
        note = f"{wording.counted(figures.useful, 'useful label')} in {spent} of answering"
    pace = [one.per_hour for one in progress.by_person.values() if one.per_hour]
    each = f"{wording.figure(sum(pace) / len(pace), 0)} an hour per annotator" if pace else "no time known yet"
    median = wording.seconds(figures.median_ms / 1000 if figures.median_ms else None)
    cost = wording.figure(figures.cost_per_useful_label)
    return {"median": median, "median_note": each, "cost": cost, "cost_note": note}


def _people(progress: Progress, insight: Insight | None, names: Mapping[int, str], now: float) -> list[list[str]]:
    ordered = sorted(progress.by_person.items(), key=lambda pair: (-pair[1].answers, pair[0]))
    rows = []
    for person, one in ordered:
        found = insight.figures.people.get(person) if insight else None
        habits = insight.habits.get(person, "") if insight else ""
        reliability = _reliability(insight.agreement.reliability.get(person)) if insight else NOTHING
        name, last = names.get(person, f"person {person}"), wording.ago(one.last_at, now)
        rows.append([name, *_person(one, found), reliability, last, habits])
    return rows


def _reliability(one: Estimate | None) -> str:
    if one is None or one.value is None:
        return NOTHING
    return f"{wording.share(one.value)} ({wording.span(one.low, one.high, digits=0, per_cent=True)})"


def _person(one: PersonProgress, found: PersonFigures | None) -> list[str]:
    return [
        wording.count(one.answers),
        wording.seconds(one.median_ms / 1000) if one.median_ms else NOTHING,
        wording.figure(one.per_hour, 0) if one.per_hour else NOTHING,
        wording.count(one.skipped),
        wording.count(one.flagged),
        _brief(found.control, found.control_answers) if found else NOTHING,
        _brief(found.self_agreement, found.repeats) if found else NOTHING,
    ]


def _brief(share: float | None, count: int) -> str:
    return NOTHING if share is None else f"{wording.share(share)} of {count}"


def _people_note(project: Project, figures: Figures | None) -> str:
    if figures is None or project.settings.mode not in COMPARING:
        return ""
    return (
        "Control items and repeats: the share of pairs labelled alike, and the number of items. "
        "A habit is named only if chance does not explain it. "
        "Reliability: how often an annotator's label is right, estimated from all labels together; 50 % is chance."
    )


def _refusals(progress: Progress, figures: Figures | None) -> list[list[str]]:
    rows = [["skipped", wording.count(progress.skipped)], ["flagged", wording.count(progress.flagged)]]
    if figures is None:
        return rows
    skips = [[f"skipped: {_plain(name)}", wording.count(n)] for name, n in _largest(figures.skips)]
    flags = [[f"flagged: {_plain(name)}", wording.count(n)] for name, n in _largest(figures.flags)]
    return (skips or rows[:1]) + (flags or rows[1:])


def _arms(figures: Figures | None) -> list[list[str]]:
    if figures is None:
        return [[_COUNTING, ""]]
    rows = [
        [PURPOSES.get(name, name), f"{wording.counted(round(share * figures.useful), 'label')}, {wording.share(share)}"]
        for name, share in figures.serves.items()
    ]
    return rows or [["no labels yet", ""]]


def _saved(figures: Figures | None) -> str:
    if figures is None or "random" not in figures.serves or len(figures.serves) < 2:
        return "How many labels active learning saves is known only if some items are asked at random."
    return 'The random arm is the control. The run "label-savings" of "assent round" shows what choosing saved.'


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:6]


def _plain(name: str) -> str:
    return name.replace("_", " ")
