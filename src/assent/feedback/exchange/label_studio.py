"""Label Studio's JSON export as items with answers: the Pairwise tag, the Ranker tag, and choices that name a side.

    pairwise   {"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": "left"}}
    ranker     {"type": "ranker", "value": {"ranker": {"rank": [ids]}}}, ids of a list of {"id", "body"} in the data
    choices    {"type": "choices", "value": {"choices": ["left"]}}, or a field's name, or "tie"

Several buckets of a ranker have an order only if it is given (`buckets`, best first); completions of one bucket tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assent.errors import DataError
from assent.feedback.exchange.fields import (
    PROMPT_NAMES,
    TIES,
    Fields,
    completion_names,
    conversation_value,
    list_value,
    object_value,
    text_value,
    wrong,
)
from assent.feedback.exchange.imported_items import ImportedAnswer, ImportedItem, ImportLimits
from assent.feedback.records import Candidate, EventKind, NewItem

_BODIES = ("body", "text", "title", "html")
_SIDES = {"left": 0, "right": 1, "a": 0, "b": 1, "first": 0, "second": 1}
_LONGEST_ANSWER_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNames:
    """Which data fields hold what, where their names do not say it; empty: found. `buckets` are best first."""

    prompt: str = ""
    completions: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Shown:
    """The completions of a task by the names under which results speak of them."""

    names: tuple[str, ...]
    candidates: tuple[Candidate, ...]


def read_label_studio(fields: Fields, limits: ImportLimits, names: TaskNames = TaskNames()) -> ImportedItem:
    """The item of a task and the answers in its annotations (cancelled ones are none); DataError."""
    data = object_value(fields.get("data"), "data")
    annotations = list_value(fields.get("annotations", fields.get("completions")) or [], "annotations")
    told = [_results(one, f"annotations[{place}]") for place, one in enumerate(annotations)]
    shown = _shown(data, [result for _, results in told for result in results], names, limits)
    prompt_name = names.prompt or next((name for name in PROMPT_NAMES if name in data and name not in shown.names), "")
    if prompt_name not in data:
        raise DataError(f'field "data.{prompt_name or "prompt"}" is missing; name it with --set reading.prompt')
    prompt = conversation_value(data[prompt_name], f"data.{prompt_name}", limits)
    answered = [(one, result, _ranks(result, shown, names)) for one, results in told for result in results]
    return ImportedItem(
        item=NewItem(prompt=prompt, candidates=shown.candidates),
        answers=tuple(_answer(one, result, ranks) for one, result, ranks in answered if ranks is not None),
        skipped=tuple(f"of type {str(result.get('type'))[:40]}" for _, result, ranks in answered if ranks is None),
    )


def _results(annotation: object, path: str) -> tuple[Fields, list[Fields]]:
    fields = object_value(annotation, path)
    if fields.get("was_cancelled") is True or fields.get("skipped") is True:
        return fields, []
    results = list_value(fields.get("result") or [], f"{path}.result")
    return fields, [object_value(one, f"{path}.result[{place}]") for place, one in enumerate(results)]


def _shown(data: Fields, results: Sequence[Fields], names: TaskNames, limits: ImportLimits) -> _Shown:
    lists = {name: value for name, value in data.items() if isinstance(value, list | tuple)}
    listed = next(
        (n for n, them in lists.items() if any(isinstance(one, Mapping) and "id" in one for one in them)), None
    )
    if listed is not None and not names.completions:
        items = [(str(one["id"]), one) for one in data[listed] if isinstance(one, Mapping) and "id" in one]
        if len({identity for identity, _ in items}) < len(items):
            raise DataError(f'field "data.{listed}": two entries have the same id')
        bodies = [(next((body for body in _BODIES if one.get(body)), "body"), one) for _, one in items]
        texts = [text_value(one.get(name), f"data.{listed}.{name}", limits) for name, one in bodies]
        found = _Shown(tuple(identity for identity, _ in items), tuple(Candidate(text=text) for text in texts))
    else:
        chosen = names.completions or _compared(data, results) or tuple(completion_names(data))
        missing = [name for name in chosen if name not in data]
        if missing:
            raise DataError(f'field "data.{missing[0]}" is missing')
        candidates = [Candidate(text=text_value(data[name], f"data.{name}", limits)) for name in chosen]
        found = _Shown(tuple(chosen), tuple(candidates))
    if not 2 <= len(found.names) <= limits.completions:
        told = f"expected 2 to {limits.completions} completions, found {len(found.names)}"
        raise DataError(f'field "data": {told}; name them with completions=')
    return found


def _compared(data: Fields, results: Sequence[Fields]) -> tuple[str, ...]:
    """The two fields that a pairwise result names, if they are fields of the task."""
    for result in results:
        if result.get("type") == "pairwise":
            told = result.get("to_name")
            parts = told.split(",") if isinstance(told, str) else told if isinstance(told, list | tuple) else []
            names = tuple(str(part).strip() for part in parts)
            if len(names) == 2 and all(name in data for name in names):
                return names
    return ()


def _answer(annotation: Fields, result: Fields, ranks: list[int]) -> ImportedAnswer:
    taken_s = annotation.get("lead_time")
    if isinstance(taken_s, bool) or not isinstance(taken_s, int | float) or not 0 <= taken_s <= _LONGEST_ANSWER_S:
        taken_s = 0
    who, payload, taken_ms = _who(annotation, result), {"ranks": ranks}, round(taken_s * 1000)
    return ImportedAnswer(who=who, kind=EventKind.RANKING, payload=payload, time_taken_ms=taken_ms)


def _ranks(result: Fields, shown: _Shown, names: TaskNames) -> list[int] | None:
    """Ranks by completion, or None for a result about something else."""
    kind = result.get("type")
    if kind not in ("pairwise", "ranker", "choices"):
        return None
    value = object_value(result.get("value"), f"{kind}.value")
    if kind == "ranker":
        return _ranked(value.get("ranker"), shown, names)
    if kind == "choices":
        choices = list_value(value.get("choices") or [], "choices")
        side = _side(choices[0], shown) if len(choices) == 1 else None
        return [1, 1] if len(choices) == 1 and str(choices[0]).lower() in TIES and len(shown.names) == 2 else side
    side = _side(value.get("selected"), shown)
    if side is None:
        raise wrong("pairwise.selected", "left or right", value.get("selected"))
    return side


def _side(value: object, shown: _Shown) -> list[int] | None:
    if len(shown.names) != 2 or not isinstance(value, str):
        return None
    place = shown.names.index(value) if value in shown.names else _SIDES.get(value.strip().lower())
    return None if place is None else [1, 2] if place == 0 else [2, 1]


def _ranked(value: object, shown: _Shown, names: TaskNames) -> list[int]:
    columns = value if isinstance(value, Mapping) else {"": value}
    lists = {str(name): [str(one) for one in list_value(ids, f"ranker.{name}")] for name, ids in columns.items()}
    filled = {name: ids for name, ids in lists.items() if ids}
    if len(filled) == 1 and not names.buckets:
        groups = [[one] for one in next(iter(filled.values()))]
    else:
        unknown = [name for name in filled if name not in names.buckets]
        if unknown:
            told = ", ".join(filled) or "none"
            now = "give buckets=, best first"
            raise DataError(f'field "ranker": the order of its buckets ({told}) is not known; {now}')
        groups = [filled[name] for name in names.buckets if name in filled]
    rank = {one: place for place, group in enumerate(groups, start=1) for one in group}
    strange = [one for one in rank if one not in shown.names]
    if strange:
        raise DataError(f'field "ranker": no entry has the id {strange[0][:40]!a}')
    missing = [name for name in shown.names if name not in rank]
    if missing:
        raise DataError(f'field "ranker": "{missing[0][:40]}" has no rank')
    return [rank[name] for name in shown.names]


def _who(annotation: Fields, result: Fields) -> str:
    """The annotator; what came from a studio and went through Label Studio keeps its person."""
    meta = result.get("meta")
    if isinstance(meta, Mapping) and isinstance(meta.get("person"), int):
        return f"studio {meta['person']}"
    by = annotation.get("completed_by")
    by = by.get("email") or by.get("id") if isinstance(by, Mapping) else by
    return f"label-studio {str(by)[:60]}" if by else "label-studio"
