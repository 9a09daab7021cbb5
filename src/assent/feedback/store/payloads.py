"""What an answer may say, by kind: checked field by field and turned from slots as shown to the canonical order.

Fields are those of `records.Answer`. After the turn, `slot` of a correction or flag is the canonical position, and a
negative pairwise strength says that the canonically first completion is better. Ranks become dense (1, 1, 3 is kept
as 1, 1, 2). A chat turn may carry `turn`, `models` and `sampling` (who spoke as a and b, and how) and `goes_on`, a
red-team answer `model` and `sampling`; the server adds them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assent.feedback.records import (
    CHAT_CHOICES,
    FLAGS,
    HIGHEST_RATING,
    SKIP_REASONS,
    STRONGEST,
    EventKind,
    ProjectSettings,
    TaskMode,
)
from assent.feedback.refusals import Invalid, text_of
from assent.types import Role

MOST_MESSAGES = 1000
MOST_NOTE_CHARACTERS = 10_000
WORST_REACHED = 10
_MOST_SETTINGS = 20
_HUGE = 2.0**63  # no setting of a sampler is as large; it also refuses nan and infinity
_BESIDE = frozenset({EventKind.CORRECTION, EventKind.DEMONSTRATION, EventKind.FLAG, EventKind.SKIP})
KINDS_OF_MODE: dict[TaskMode, frozenset[EventKind]] = {
    TaskMode.RANKING: _BESIDE | {EventKind.RANKING, EventKind.MODEL_PREFERENCE},
    TaskMode.PAIRWISE: _BESIDE | {EventKind.PAIRWISE, EventKind.MODEL_PREFERENCE},
    TaskMode.RATING: _BESIDE | {EventKind.RATING},
    TaskMode.GOOD_BAD: _BESIDE | {EventKind.GOOD_BAD},
    TaskMode.DEMONSTRATION: frozenset({EventKind.DEMONSTRATION, EventKind.FLAG, EventKind.SKIP}),
    TaskMode.CHAT: frozenset({EventKind.CHAT_TURN, EventKind.FLAG, EventKind.SKIP}),
    TaskMode.RED_TEAM: frozenset({EventKind.RED_TEAM, EventKind.FLAG, EventKind.SKIP}),
}

Order = Sequence[int]
Payload = Mapping[str, Any]


def canonical(kind: EventKind, payload: Payload, order: Order, settings: ProjectSettings) -> dict[str, Any]:
    """`payload` as it is kept. `order[slot]` is the canonical position of what stood in the slot.

    Raises Invalid, a StoreError whose `where` is the field's path, as in "payload.ranks.2".
    """
    if kind not in KINDS_OF_MODE[settings.mode]:
        kinds = ", ".join(sorted(KINDS_OF_MODE[settings.mode]))
        raise Invalid(f"a project of mode {settings.mode} takes no {kind}", where="kind", now=f"Send one of: {kinds}.")
    if not isinstance(payload, Mapping):
        raise Invalid("expected an object", where="payload", now="Send an object.")
    return _KINDS[kind](payload, order, settings)


def turned(values: Sequence[Any], order: Order) -> list[Any]:
    """A list over slots as a list over canonical positions."""
    result: list[Any] = [None] * len(order)
    for slot, position in enumerate(order):
        result[position] = values[slot]
    return result


def dense(ranks: Sequence[int]) -> list[int]:
    """Ranks without gaps, in the same order."""
    places = {rank: place for place, rank in enumerate(sorted(set(ranks)), 1)}
    return [places[rank] for rank in ranks]


def _ranking(payload: Payload, order: Order, settings: ProjectSettings) -> dict[str, Any]:
    _only(payload, "ranks", "criteria")
    kept: dict[str, Any] = {"ranks": _ranks(_needed(payload, "ranks"), order, "payload.ranks")}
    if payload.get("criteria"):
        each = _by_criterion(payload["criteria"], settings, "payload.criteria")
        kept["criteria"] = {name: _ranks(ranks, order, f"payload.criteria.{name}") for name, ranks in each.items()}
    return kept


def _pairwise(payload: Payload, order: Order, settings: ProjectSettings) -> dict[str, Any]:
    _only(payload, "strength", "criteria")
    sign = 1 if list(order) == [0, 1] else -1
    strength = _whole(_needed(payload, "strength"), -STRONGEST, STRONGEST, "payload.strength")
    kept: dict[str, Any] = {"strength": sign * strength}
    if payload.get("criteria"):
        each = _by_criterion(payload["criteria"], settings, "payload.criteria")
        kept["criteria"] = {
            name: sign * _whole(value, -STRONGEST, STRONGEST, f"payload.criteria.{name}")
            for name, value in each.items()
        }
    return kept


def _rating(payload: Payload, order: Order, settings: ProjectSettings) -> dict[str, Any]:
    _only(payload, "ratings")
    each = _by_criterion(_needed(payload, "ratings"), settings, "payload.ratings")
    if not each:
        raise Invalid("no criterion is rated", where="payload.ratings", now="Rate at least one.")
    kept = {}
    for name, values in each.items():
        path = f"payload.ratings.{name}"
        ratings = _list(values, len(order), path)
        kept[name] = turned([_whole(v, 1, HIGHEST_RATING, f"{path}.{i}") for i, v in enumerate(ratings)], order)
    return {"ratings": kept}


def _good_bad(payload: Payload, order: Order, _: ProjectSettings) -> dict[str, Any]:
    _only(payload, "good", "reasons")
    good = _list(_needed(payload, "good"), len(order), "payload.good")
    for place, value in enumerate(good):
        if value is not None and not isinstance(value, bool):
            raise Invalid("expected true, false or null", where=f"payload.good.{place}", now="Send one of them.")
    if all(value is None for value in good):
        raise Invalid("nothing is called good or bad", where="payload.good", now="Judge at least one, or skip.")
    reasons = _list(payload.get("reasons") or [""] * len(order), len(order), "payload.reasons")
    texts = [_note(reason, f"payload.reasons.{place}") for place, reason in enumerate(reasons)]
    return {"good": turned(good, order), "reasons": turned(texts, order)}


def _correction(payload: Payload, order: Order, _: ProjectSettings) -> dict[str, Any]:
    _only(payload, "slot", "text", "ranks")
    slot = _whole(_needed(payload, "slot"), 0, len(order) - 1, "payload.slot")
    kept: dict[str, Any] = {"slot": order[slot], "text": text_of(_needed(payload, "text"), "payload.text", least=1)}
    if payload.get("ranks") is not None:
        kept["ranks"] = _ranks(payload["ranks"], order, "payload.ranks")
    return kept


def _demonstration(payload: Payload, _: Order, __: ProjectSettings) -> dict[str, Any]:
    _only(payload, "text")
    return {"text": text_of(_needed(payload, "text"), "payload.text", least=1)}


def _chat_turn(payload: Payload, _: Order, __: ProjectSettings) -> dict[str, Any]:
    _only(payload, "conversation", "a", "b", "choice", "turn", "models", "sampling", "goes_on")
    kept: dict[str, Any] = {"conversation": _conversation(_needed(payload, "conversation"))}
    kept["a"] = text_of(_needed(payload, "a"), "payload.a")
    second, choice = payload.get("b"), payload.get("choice")
    kept["b"] = None if second is None else text_of(second, "payload.b")
    kept["choice"] = None if second is None and choice is None else _one_of(choice, CHAT_CHOICES, "payload.choice")
    if payload.get("models") is not None:
        models = _list(payload["models"], 2, "payload.models")
        kept["models"] = [None if m is None else _note(m, f"payload.models.{i}") for i, m in enumerate(models)]
    if payload.get("turn") is not None:
        kept["turn"] = _whole(payload["turn"], 1, MOST_MESSAGES, "payload.turn")
    if payload.get("sampling") is not None:
        pair = _list(payload["sampling"], 2, "payload.sampling")
        kept["sampling"] = [None if s is None else _sampling(s, f"payload.sampling.{i}") for i, s in enumerate(pair)]
    if "goes_on" in payload:
        goes_on = payload["goes_on"]
        kept["goes_on"] = None if goes_on is None else _one_of(goes_on, ("a", "b"), "payload.goes_on")
    return kept


def _red_team(payload: Payload, _: Order, __: ProjectSettings) -> dict[str, Any]:
    _only(payload, "conversation", "reached", "note", "model", "sampling")
    kept: dict[str, Any] = {"conversation": _conversation(_needed(payload, "conversation"))}
    kept["reached"] = _whole(_needed(payload, "reached"), 0, WORST_REACHED, "payload.reached")
    kept["note"] = _note(payload.get("note", ""), "payload.note")
    if payload.get("model") is not None:
        kept["model"] = _note(payload["model"], "payload.model")
    if payload.get("sampling") is not None:
        kept["sampling"] = _sampling(payload["sampling"], "payload.sampling")
    return kept


def _flag(payload: Payload, order: Order, _: ProjectSettings) -> dict[str, Any]:
    _only(payload, "flag", "slot", "note")
    slot = payload.get("slot")
    return {
        "flag": _one_of(_needed(payload, "flag"), FLAGS, "payload.flag"),
        "slot": None if slot is None else order[_whole(slot, 0, len(order) - 1, "payload.slot")],
        "note": _note(payload.get("note", ""), "payload.note"),
    }


def _skip(payload: Payload, _: Order, __: ProjectSettings) -> dict[str, Any]:
    _only(payload, "reason", "note")
    reason = _one_of(_needed(payload, "reason"), SKIP_REASONS, "payload.reason")
    return {"reason": reason, "note": _note(payload.get("note", ""), "payload.note")}


def _model_preference(payload: Payload, order: Order, _: ProjectSettings) -> dict[str, Any]:
    _only(payload, "model", "probability", "verdicts")
    if len(order) != 2:
        raise Invalid("a model compares two completions", where="kind", now="Send it for an item of two.")
    kept: dict[str, Any] = {"model": text_of(_needed(payload, "model"), "payload.model", least=1, most=200)}
    kept["probability"] = _probability(_needed(payload, "probability"), "payload.probability")
    kept["verdicts"] = [_verdict(one, f"payload.verdicts.{n}") for n, one in enumerate(payload.get("verdicts") or ())]
    return kept


def _verdict(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Invalid("expected an object", where=path, now="Send an object.")
    kept: dict[str, Any] = {"principle": text_of(value.get("principle"), f"{path}.principle", least=1, most=200)}
    for name in ("forward", "backward"):
        kept[name] = None if value.get(name) is None else _probability(value[name], f"{path}.{name}")
    return kept


def _probability(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Invalid("expected a number from 0 to 1", where=path, now="Send a probability.")
    return float(value)


_KINDS: dict[EventKind, Callable[[Payload, Order, ProjectSettings], dict[str, Any]]] = {
    EventKind.RANKING: _ranking,
    EventKind.PAIRWISE: _pairwise,
    EventKind.RATING: _rating,
    EventKind.GOOD_BAD: _good_bad,
    EventKind.CORRECTION: _correction,
    EventKind.DEMONSTRATION: _demonstration,
    EventKind.CHAT_TURN: _chat_turn,
    EventKind.RED_TEAM: _red_team,
    EventKind.FLAG: _flag,
    EventKind.SKIP: _skip,
    EventKind.MODEL_PREFERENCE: _model_preference,
}


def _only(payload: Payload, *names: str) -> None:
    for name in payload:
        if name not in names:
            known = ", ".join(names)
            path = f"payload.{str(name)[:40]!a}" if not str(name).isidentifier() else f"payload.{str(name)[:40]}"
            raise Invalid("there is no such field", where=path, now=f"The fields are: {known}.")


def _needed(payload: Payload, name: str) -> Any:
    if payload.get(name) is None:
        raise Invalid("the field is missing", where=f"payload.{name}", now="Send it.")
    return payload[name]


def _whole(value: Any, least: int, most: int, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        shown = json.dumps(value, default=str)[:40]
        raise Invalid(f"expected a whole number from {least} to {most}, got {shown}", where=path, now="Correct it.")
    return value


def _list(value: Any, length: int, path: str) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) != length:
        raise Invalid(f"expected a list of {length}, one for each slot", where=path, now="Send one for each.")
    return list(value)


def _ranks(value: Any, order: Order, path: str) -> list[int]:
    ranks = _list(value, len(order), path)
    return turned(dense([_whole(rank, 1, len(order), f"{path}.{i}") for i, rank in enumerate(ranks)]), order)


def _by_criterion(value: Any, settings: ProjectSettings, path: str) -> Payload:
    if not isinstance(value, Mapping):
        raise Invalid("expected an object by criterion", where=path, now="Send an object.")
    for name in value:
        if name not in settings.criteria:
            known = ", ".join(settings.criteria)
            raise Invalid(f"there is no criterion {str(name)[:40]!a}", where=path, now=f"The criteria are: {known}.")
    return value


def _one_of(value: Any, choices: Sequence[str], path: str) -> str:
    if not isinstance(value, str) or value not in choices:
        raise Invalid("this is none of the choices", where=path, now=f"Send one of: {', '.join(choices)}.")
    return value


def _note(value: Any, path: str) -> str:
    return text_of(value, path, most=MOST_NOTE_CHARACTERS)


def _sampling(value: Any, path: str) -> dict[str, float]:
    """Settings by name, all of them numbers."""
    if not isinstance(value, Mapping) or len(value) > _MOST_SETTINGS:
        raise Invalid("expected an object of numbers", where=path, now="Send an object.")
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < _HUGE:
            raise Invalid("expected a number", where=f"{path}.{str(name)[:40]}", now="Send a number.")
    return {text_of(name, path, most=40): number for name, number in value.items()}


def _conversation(value: Any) -> list[dict[str, str]]:
    path = "payload.conversation"
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_MESSAGES:
        raise Invalid(f"expected a list of 1 to {MOST_MESSAGES} messages", where=path, now="Send the messages.")
    kept = []
    for place, message in enumerate(value):
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            now = 'Send {"role": ..., "content": ...}.'
            raise Invalid("expected a message with role and content", where=f"{path}.{place}", now=now)
        role = _one_of(message["role"], [str(role) for role in Role], f"{path}.{place}.role")
        kept.append({"role": role, "content": text_of(message["content"], f"{path}.{place}.content")})
    return kept
