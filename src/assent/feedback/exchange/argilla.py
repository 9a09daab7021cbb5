"""Argilla's exports as items with answers: records (`to_json`), flattened records, and `datasets` of either version.

    records      {"fields": {...}, "responses": {question: [{"value", "user_id", "status"}]}}
    flattened    fields beside "QUESTION.responses", "QUESTION.responses.users", "QUESTION.responses.status"
    version 1    fields beside {question: [{"value", "user_id", "status"}]}, or one object of three lists

A ranking question's value is a list of field names, best first, or of {"value", "rank"}; a label question that names a
field is a choice between two; a rating question belongs to the completion whose number ends its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    whole_value,
    wrong,
)
from assent.feedback.exchange.imported_items import ImportedAnswer, ImportedItem, ImportLimits
from assent.feedback.records import HIGHEST_RATING, Candidate, EventKind, NewItem

_SUBMITTED = (None, "", "submitted", "completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNames:
    """Which fields hold what, where their names do not say it; empty: found by name."""

    prompt: str = ""
    completions: tuple[str, ...] = ()
    criterion: str = "helpful"  # of ratings


@dataclass(frozen=True, slots=True)
class _Response:
    question: str
    user: str
    value: Any


def read_argilla(fields: Fields, limits: ImportLimits, names: FieldNames = FieldNames()) -> ImportedItem:
    """The item of a record and the submitted responses about its completions; DataError."""
    shown = object_value(fields["fields"], "fields") if "fields" in fields else fields
    prompt_name = names.prompt or next((name for name in PROMPT_NAMES if name in shown), "")
    if prompt_name not in shown:
        raise DataError(f'field "{prompt_name or "prompt"}" is missing; name it with --set reading.prompt')
    given = list(names.completions) or completion_names(shown)
    wanted = [name for name in given if names.completions or (name != prompt_name and shown.get(name) is not None)]
    missing = [name for name in wanted if name not in shown]
    if missing:
        raise DataError(f'field "{missing[0]}" is missing')
    candidates = tuple(Candidate(text=text_value(shown[name], name, limits)) for name in wanted)
    if len(candidates) > limits.completions:
        raise DataError(f"{len(candidates)} completions, at most {limits.completions} can be labelled at once")
    item = NewItem(prompt=conversation_value(shown[prompt_name], prompt_name, limits), candidates=candidates)
    answers, skipped = _answers(list(_responses(fields)), wanted, names, limits)
    return ImportedItem(item=item, answers=tuple(answers), skipped=tuple(skipped))


def _responses(fields: Fields) -> Iterator[_Response]:
    nested = fields.get("responses")
    if isinstance(nested, Mapping):
        for question, told in nested.items():
            yield from _of_question(str(question), told)
        return
    if isinstance(nested, list | tuple) and "fields" in fields:
        yield from _of_list(nested)
        return
    for name, value in fields.items():
        if str(name).endswith(".responses"):
            users, states = fields.get(f"{name}.users"), fields.get(f"{name}.status")
            columns = {"value": value, "user_id": users, "status": states}
            yield from _of_question(str(name).removesuffix(".responses"), columns)
        elif any(map(is_column, [value, *(value if isinstance(value, list | tuple) else ())])):
            yield from _of_question(str(name), value)


def is_column(value: object) -> bool:
    """Whether this is a response, or a column of them, as version 1 writes it."""
    return isinstance(value, Mapping) and {"value", "user_id"} <= value.keys()


def _of_list(responses: Sequence[Any]) -> Iterator[_Response]:
    """Responses of the server's own form: one a question, or one a user with the values of all questions."""
    for place, one in enumerate(responses):
        told = object_value(one, f"responses[{place}]")
        if told.get("status") not in _SUBMITTED:
            continue
        if isinstance(told.get("values"), Mapping):
            for question, value in told["values"].items():
                inner = value.get("value") if isinstance(value, Mapping) else value
                yield _Response(str(question), _user(told), inner)
        else:
            yield _Response(str(told.get("question_name", "")), _user(told), told.get("value"))


def _of_question(question: str, told: object) -> Iterator[_Response]:
    if isinstance(told, Mapping):  # three lists beside each other
        values = list_value(told.get("value") or [], question)
        users, states = told.get("user_id") or [], told.get("status") or []
        for column, name in ((users, "user_id"), (states, "status")):
            if column and len(list_value(column, f"{question}.{name}")) != len(values):
                raise DataError(f'field "{question}.{name}": expected {len(values)} values, got {len(column)}')
        told = [
            {"value": value, "user_id": users[place] if users else None, "status": states[place] if states else None}
            for place, value in enumerate(values)
        ]
    for place, one in enumerate(list_value(told or [], question)):
        response = object_value(one, f"{question}[{place}]")
        if response.get("status") in _SUBMITTED and response.get("value") is not None:
            yield _Response(question, _user(response), response["value"])


def _user(response: Fields) -> str:
    user = response.get("user_id")
    return f"argilla {str(user)[:60]}" if user else "argilla"


def _answers(
    responses: Sequence[_Response], names: Sequence[str], chosen: FieldNames, limits: ImportLimits
) -> tuple[list[ImportedAnswer], list[str]]:
    """The answers, and in words what is none: of a question about something else, or ratings of a part."""
    answers: list[ImportedAnswer] = []
    skipped: list[str] = []
    rated: dict[str, dict[str, dict[int, int]]] = {}  # by user, criterion and completion
    for one in responses:
        if one.value is None:
            continue
        place = _rated_completion(one.question, names)
        ranks = None if place is not None else _ranks(one, names)
        if isinstance(one.value, int | float) and not isinstance(one.value, bool) and place is not None:
            number = whole_value(one.value, one.question, 1, HIGHEST_RATING)
            name = names[place]  # what is asked, without the completion that it is asked of
            suffixed = re.sub(r"[ _.-]?(?:[0-9]+|[a-i])$", "", one.question)
            asked = one.question.replace(name, "") if name in one.question else suffixed
            criterion = asked.strip(" _.-").lower() or "rating"
            rated.setdefault(one.user, {}).setdefault(criterion, {})[place] = number
        elif ranks is not None:
            answers.append(ImportedAnswer(who=one.user, kind=EventKind.RANKING, payload={"ranks": ranks}))
        elif not names and isinstance(one.value, str):
            text = text_value(one.value, one.question, limits)
            answers.append(ImportedAnswer(who=one.user, kind=EventKind.DEMONSTRATION, payload={"text": text}))
        else:
            skipped.append(f'to the question "{one.question[:60]}"')
    for user, criteria in rated.items():
        whole = {name: numbers for name, numbers in criteria.items() if len(numbers) == len(names)}
        skipped += ["ratings of only some of the completions"] * (len(criteria) - len(whole))
        columns = {name: [numbers[place] for place in range(len(names))] for name, numbers in whole.items()}
        if len(columns) == 1 and len(criteria) == 1:
            (column,) = columns.values()
            columns = {chosen.criterion: column}
        if columns:
            answers.append(ImportedAnswer(who=user, kind=EventKind.RATING, payload={"ratings": columns}))
    return answers, skipped


def _ranks(response: _Response, names: Sequence[str]) -> list[int] | None:
    """Ranks by completion, or None for a question about something else."""
    value, question = response.value, response.question
    if isinstance(value, str):
        if len(names) != 2:
            return None
        tie = [1, 1] if value.strip().lower() in TIES else None
        return tie if value not in names else [1, 2] if value == names[0] else [2, 1]
    if isinstance(value, Mapping) and {"rank", "value"} <= value.keys():
        listed = zip(list_value(value["rank"], question), list_value(value["value"], question), strict=False)
        value = [{"rank": rank, "value": name} for rank, name in listed]
    if not isinstance(value, list | tuple) or not value or len(names) < 2:
        return None
    told: dict[str, int] = {}
    for place, one in enumerate(value):
        name = one.get("value") if isinstance(one, Mapping) else one
        if name not in names:
            if told:
                raise wrong(f"{question}[{place}]", f"one of {', '.join(names)}", name)
            return None
        rank = one.get("rank") if isinstance(one, Mapping) else place + 1
        told[str(name)] = whole_value(rank, f"{question}[{place}].rank", 1, 1000)
    missing = [name for name in names if name not in told]
    if missing:
        raise DataError(f'field "{question}": "{missing[0]}" has no rank')
    return [told[name] for name in names]


def _rated_completion(question: str, names: Sequence[str]) -> int | None:
    """Which completion a rating question is about: the one it names, or whose number ends the question's name."""
    for place, name in enumerate(names):
        number = re.search(r"[0-9]+$|(?<=[ _.-])[a-i]$", name)
        if name in question or (number and re.search(rf"[ _.-]{number[0]}$", question)):
            return place
    return None
