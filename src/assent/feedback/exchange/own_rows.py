"""Our own rows: a prompt with completions to be labelled; what `assent sample` writes is such a file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from assent.errors import DataError
from assent.feedback.exchange.fields import (
    Fields,
    candidates_value,
    completion_names,
    conversation_value,
    list_value,
    number_value,
    object_value,
    stop_value,
    text_value,
    truth_value,
    whole_value,
)
from assent.feedback.exchange.imported_items import (
    CALLS_AS_TEXT,
    TOOLS_LEFT_OUT,
    ImportedAnswer,
    ImportedItem,
    ImportLimits,
    answer_of_model,
)
from assent.feedback.records import MOST_OVERLAP, NewItem

_LISTS = ("completions", "candidates", "responses", "answers")
_MOST_WORD = 200


def read_own(fields: Fields, limits: ImportLimits) -> ImportedItem:
    """An item of prompt, completions (a list, or fields completion_1, completion_2, ...) and, where given, models,
    stop_reasons, control_answer, serves, topic, batch, key, priority, overlap and sensitive.

    A model_preference, as `assent constitution judge` writes it, is the answer of a model.
    """
    name = next((one for one in ("prompt", "messages") if one in fields), None)
    if name is None:
        raise DataError('field "prompt" is missing')
    told = _parsed(fields[name]) if name == "messages" else fields[name]
    words: dict[str, Any] = {one: _word(fields, one, limits) for one in ("serves", "topic", "key", "batch")}
    known = _parsed(fields["control_answer"]) if _given(fields, "control_answer") else None
    item = NewItem(
        prompt=conversation_value(told, name, limits),
        candidates=_candidates(fields, limits),
        overlap=whole_value(fields["overlap"], "overlap", 1, MOST_OVERLAP) if _given(fields, "overlap") else None,
        priority=number_value(fields["priority"], "priority") if _given(fields, "priority") else 0.0,
        control_answer=dict(object_value(known, "control_answer")) if known is not None else None,
        sensitive=truth_value(fields["sensitive"], "sensitive") if _given(fields, "sensitive") else False,
        **words,
    )
    messages = told if isinstance(told, list) else []
    calls = any(message.get(key) for message in messages for key in ("tool_calls", "tool_call_id", "name"))
    altered = (TOOLS_LEFT_OUT,) * _given(fields, "tools") + (CALLS_AS_TEXT,) * calls
    answers: tuple[ImportedAnswer, ...] = ()
    if _given(fields, "model_preference"):
        payload = dict(object_value(_parsed(fields["model_preference"]), "model_preference"))
        text_value(payload.get("model") or "", "model_preference.model", limits)
        answers = (answer_of_model(payload),)
    return ImportedItem(item=item, answers=answers, altered=altered)


def _word(fields: Fields, name: str, limits: ImportLimits) -> str:
    if not _given(fields, name):
        return ""
    word = text_value(fields[name], name, limits)
    if len(word) > _MOST_WORD:
        raise DataError(f'field "{name}": {len(word)} characters, at most {_MOST_WORD} can be kept')
    return word


def _candidates(fields: Fields, limits: ImportLimits) -> tuple[Any, ...]:
    name = next((one for one in _LISTS if one in fields), None)
    if name is None:
        numbered = [one for one in completion_names(fields) if _given(fields, one)]
        return candidates_value([fields[one] for one in numbered], "completion", limits)
    candidates = candidates_value(_parsed(fields[name]) or [], name, limits)
    for column in ("models", "stop_reasons"):
        if _given(fields, column):
            values = list_value(_parsed(fields[column]), column)
            if len(values) != len(candidates):
                raise DataError(f'field "{column}": expected {len(candidates)}, one a completion, got {len(values)}')
            candidates = tuple(
                replace(one, model=text_value(value or "", f"models[{place}]", limits, blank=True))
                if column == "models"
                else replace(one, stop=stop_value(value, f"stop_reasons[{place}]"))
                for place, (one, value) in enumerate(zip(candidates, values, strict=True))
            )
    return candidates


def _given(fields: Fields, name: str) -> bool:
    return fields.get(name) is not None and fields[name] != ""


def _parsed(value: object) -> object:
    """A CSV cell that holds JSON, as what it spells."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
