"""Records to and from the text that the tables hold."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

from assent.feedback.records import (
    Candidate,
    Event,
    EventKind,
    Item,
    NewItem,
    Person,
    PersonRole,
    Presentation,
    Project,
    ProjectSettings,
    TaskMode,
    conversation_from_json,
    learned_to_json,
)
from assent.feedback.store.schema import events
from assent.feedback.store.session import Row
from assent.types import StopReason

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


_EVENT_COLUMNS = tuple(column.name for column in events.columns)


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys: equal values are equal text."""
    return _ENCODER.encode(value)


def settings_to_json(settings: ProjectSettings) -> str:
    """The settings of a project."""
    return to_json(dataclasses.asdict(settings))


@functools.lru_cache(maxsize=1024)
def settings_from_json(text: str) -> ProjectSettings:
    """The reverse of `settings_to_json`; what an older version did not write has its default."""
    values = json.loads(text)
    values["mode"] = TaskMode(values["mode"])
    for name in ("criteria", "endpoints"):
        values[name] = tuple(values.get(name, ()))
    return ProjectSettings(**values)


def item_to_json(new: NewItem) -> str:
    """The cold half of an item."""
    content = {name: getattr(new, name) for name in ("serves", "sensitive", "batch")}
    content["prompt"] = learned_to_json(new.prompt)
    content["candidates"] = [
        {name: getattr(one, name) for name in Candidate.__slots__} | {"sampling": dict(one.sampling)}
        for one in new.candidates
    ]
    content["control_answer"] = None if new.control_answer is None else dict(new.control_answer)
    if new.predicted is not None:
        content["predicted"] = new.predicted
    return to_json(content)


def item_of(row: Row) -> Item:
    """An item of `ITEM_COLUMNS`."""
    item_id, project_id, key, topic, priority, overlap, withdrawn, created_at, content = row
    values: dict[str, Any] = json.loads(content)
    values |= {
        "prompt": conversation_from_json(values["prompt"]),
        "candidates": tuple(Candidate(**{**c, "stop": StopReason(c["stop"])}) for c in values["candidates"]),
        "predicted": None if values.get("predicted") is None else tuple(values["predicted"]),
    }
    new = NewItem(**values, key=key, topic=topic, priority=priority, overlap=overlap)
    return Item(id=item_id, project_id=project_id, new=new, created_at=created_at, withdrawn=bool(withdrawn))


def project_of(row: Row) -> Project:
    """A project of `PROJECT_COLUMNS`."""
    project_id, name, settings, version, archived, at = row
    kept = settings_from_json(settings)
    return Project(
        id=project_id, name=name, settings=kept, guideline_version=version, created_at=at, archived=bool(archived)
    )


def person_of(row: Row) -> Person:
    """A person of `PERSON_COLUMNS`."""
    person_id, name, role, active, topics, at = row
    declined = tuple(json.loads(topics))
    return Person(
        id=person_id, name=name, role=PersonRole(role), active=bool(active), topics_declined=declined, created_at=at
    )


def event_of(row: Row) -> Event:
    """An event of all columns of its table."""
    values = dict(zip(_EVENT_COLUMNS, row, strict=True))
    values |= {"kind": EventKind(values["kind"]), "payload": json.loads(values["payload"])}
    values |= {"order": tuple(json.loads(values.pop("shown"))), "repeat": bool(values["repeat"])}
    return Event(**values)


def event_values(event: Event) -> dict[str, Any]:
    """The reverse of `event_of`, by column."""
    told: dict[str, Any] = {"kind": str(event.kind), "payload": to_json(event.payload), "shown": to_json(event.order)}
    told["repeat"] = int(event.repeat)
    return {name: told[name] if name in told else getattr(event, name) for name in _EVENT_COLUMNS}


def presentation_of(row: Row, item: Item) -> Presentation:
    """A presentation of `PRESENTATION_COLUMNS`."""
    presentation_id, person_id, shown, criteria, guideline_version, repeat, expires_at = row
    return Presentation(
        id=presentation_id,
        item=item,
        person_id=person_id,
        order=tuple(json.loads(shown)),
        criteria=tuple(json.loads(criteria)),
        guideline_version=guideline_version,
        repeat=bool(repeat),
        expires_at=expires_at,
    )
