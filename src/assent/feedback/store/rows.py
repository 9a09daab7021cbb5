"""Records to and from the text that the tables hold."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
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
from assent.feedback.store.session import Row
from assent.types import StopReason

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


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
    candidates = [
        {
            "text": candidate.text,
            "stop": str(candidate.stop),
            "model": candidate.model,
            "checkpoint_sha256": candidate.checkpoint_sha256,
            "sampling": dict(candidate.sampling),
        }
        for candidate in new.candidates
    ]
    return to_json(
        {
            "prompt": learned_to_json(new.prompt),
            "candidates": candidates,
            "control_answer": None if new.control_answer is None else dict(new.control_answer),
            "serves": new.serves,
            "sensitive": new.sensitive,
            "batch": new.batch,
            **({} if new.predicted is None else {"predicted": list(new.predicted)}),
        }
    )


def item_of(row: Row) -> Item:
    """An item of `ITEM_COLUMNS`."""
    item_id, project_id, key, topic, priority, overlap, withdrawn, created_at, content = row
    values: Mapping[str, Any] = json.loads(content)
    new = NewItem(
        prompt=conversation_from_json(values["prompt"]),
        candidates=tuple(Candidate(**{**c, "stop": StopReason(c["stop"])}) for c in values["candidates"]),
        overlap=overlap,
        priority=priority,
        control_answer=values["control_answer"],
        serves=values["serves"],
        topic=topic,
        sensitive=values["sensitive"],
        key=key,
        batch=values["batch"],
        predicted=None if values.get("predicted") is None else tuple(values["predicted"]),
    )
    return Item(id=item_id, project_id=project_id, new=new, created_at=created_at, withdrawn=bool(withdrawn))


def project_of(row: Row) -> Project:
    """A project of `PROJECT_COLUMNS`."""
    project_id, name, settings, guideline_version, archived, created_at = row
    return Project(
        id=project_id,
        name=name,
        settings=settings_from_json(settings),
        guideline_version=guideline_version,
        created_at=created_at,
        archived=bool(archived),
    )


def person_of(row: Row) -> Person:
    """A person of `PERSON_COLUMNS`."""
    person_id, name, role, active, topics_declined, created_at = row
    return Person(
        id=person_id,
        name=name,
        role=PersonRole(role),
        active=bool(active),
        topics_declined=tuple(json.loads(topics_declined)),
        created_at=created_at,
    )


def event_of(row: Row) -> Event:
    """An event of all columns of its table."""
    seq, key, kind, project_id, item_id, person_id, payload, shown, repeat, taken, guideline, at, undone, sha256 = row
    return Event(
        seq=seq,
        key=key,
        kind=EventKind(kind),
        project_id=project_id,
        item_id=item_id,
        person_id=person_id,
        payload=json.loads(payload),
        order=tuple(json.loads(shown)),
        repeat=bool(repeat),
        time_taken_ms=taken,
        guideline_version=guideline,
        created_at=at,
        undone_seq=undone,
        sha256=sha256,
    )


def event_values(event: Event) -> dict[str, Any]:
    """The reverse of `event_of`, by column."""
    return {
        "seq": event.seq,
        "key": event.key,
        "kind": str(event.kind),
        "project_id": event.project_id,
        "item_id": event.item_id,
        "person_id": event.person_id,
        "payload": to_json(event.payload),
        "shown": to_json(list(event.order)),
        "repeat": int(event.repeat),
        "time_taken_ms": event.time_taken_ms,
        "guideline_version": event.guideline_version,
        "created_at": event.created_at,
        "undone_seq": event.undone_seq,
        "sha256": event.sha256,
    }


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
