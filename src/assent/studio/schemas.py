"""The shapes of what comes in and goes out. Unknown fields are refused, text is text that every database can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path as InPath
from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from assent.feedback.records import (
    ANSWER_KINDS,
    CRITERIA,
    Answer,
    Event,
    EventKind,
    Guideline,
    Person,
    PersonRole,
    Presentation,
    Project,
    ProjectSettings,
    TaskMode,
    conversation_to_json,
)

HIGHEST_ID = 2**31 - 1
_LONGEST_TEXT = 200_000
# the server writes the other kinds: it knows who said what
_SENT_KINDS = ANSWER_KINDS - {EventKind.CHAT_TURN, EventKind.RED_TEAM, EventKind.MODEL_PREFERENCE}


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("the text holds a NUL character")
    return text


def _kind_of_answer(kind: EventKind) -> EventKind:
    if kind not in _SENT_KINDS:
        raise ValueError(f"expected one of {', '.join(sorted(_SENT_KINDS))}")
    return kind


Text = Annotated[str, StringConstraints(max_length=_LONGEST_TEXT), AfterValidator(_storable)]
Word = Annotated[str, StringConstraints(max_length=200), AfterValidator(_storable)]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=80, strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Password = Annotated[str, StringConstraints(min_length=10, max_length=1000), AfterValidator(_storable)]
GivenPassword = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_storable)]
Token = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]
Key = Annotated[str, StringConstraints(min_length=8, max_length=100, pattern=r"^[A-Za-z0-9_.:-]+$")]
Number = Annotated[float, Field(ge=-1e12, le=1e12)]
Criterion = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,39}$")]
Share = Annotated[float, Field(ge=0, le=1)]

Id = Annotated[int, InPath(ge=1, le=HIGHEST_ID)]
OneId = Annotated[int, Field(ge=1, le=HIGHEST_ID)]
TokenInPath = Annotated[str, InPath(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]
After = Annotated[int, Query(ge=0, le=HIGHEST_ID)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Version = Annotated[int | None, Query(ge=1, le=HIGHEST_ID)]


class Incoming(BaseModel):
    """A body: nothing unknown in it, no infinite numbers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class AnswerIn(Incoming):
    """An answer as the page sends it; the payload's own form depends on `kind` and is checked by the store."""

    key: Key
    presentation_id: Token
    kind: Annotated[EventKind, AfterValidator(_kind_of_answer)]
    payload: dict[str, Any]
    time_taken_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 0

    def answer(self) -> Answer:
        """The same in the store's words."""
        return Answer(
            key=self.key, presentation_id=self.presentation_id, kind=self.kind, payload=self.payload,
            time_taken_ms=self.time_taken_ms,
        )  # fmt: skip


class UndoIn(Incoming):
    """Take an answer back."""

    key: Key


class SignInIn(Incoming):
    """A name and a password."""

    name: Word
    password: GivenPassword


class JoinIn(Incoming):
    """Accept an invitation."""

    token: Token
    name: Name
    password: Password


class MeIn(Incoming):
    """What people may change about themselves."""

    topics_declined: Annotated[list[Word], Field(max_length=200)]


class PasswordIn(Incoming):
    """A new password, against the old one."""

    old: GivenPassword
    new: Password


class NewPasswordIn(Incoming):
    """A new password for somebody who forgot theirs."""

    new: Password


class InvitationIn(Incoming):
    """Whom to invite: the role and the projects they will be a member of."""

    role: PersonRole
    project_ids: Annotated[list[OneId], Field(max_length=1000)] = []
    lifetime_s: Annotated[float, Field(ge=60, le=90 * 86400)] = 7 * 86400.0


class PersonIn(Incoming):
    """What an admin may change about somebody; what is absent stays."""

    role: PersonRole | None = None
    active: bool | None = None


class MembersIn(Incoming):
    """Everybody who works on a project."""

    person_ids: Annotated[list[OneId], Field(max_length=10_000)]


class GuidelineIn(Incoming):
    """The next version of a project's guidelines, in Markdown."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_TEXT), AfterValidator(_storable)]


class ProjectSettingsIn(Incoming):
    """How a project asks; see `ProjectSettings`."""

    mode: TaskMode = TaskMode.RANKING
    criteria: Annotated[list[Criterion], Field(max_length=9)] = [*CRITERIA]
    criteria_share: Share = 0.0
    overlap: Annotated[int, Field(ge=1, le=100)] = 1
    lease_s: Annotated[float, Field(ge=10, le=86400)] = 900.0
    control_share: Share = 0.0
    repeat_share: Share = 0.0
    instructions: Text = ""
    endpoints: Annotated[list[Word], Field(max_length=20)] = []
    cost_per_hour: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    adaptive_overlap: Annotated[int, Field(ge=0, le=100)] = 0

    def settings(self) -> ProjectSettings:
        """The same in the store's words."""
        given = self.model_dump()
        given |= {"criteria": tuple(dict.fromkeys(self.criteria)), "endpoints": tuple(self.endpoints)}
        return ProjectSettings(**given)


class NewProjectIn(Incoming):
    """A project to be made."""

    name: Name
    settings: ProjectSettingsIn = ProjectSettingsIn()


class ProjectIn(Incoming):
    """What to change about a project; what is absent stays."""

    settings: ProjectSettingsIn | None = None
    archived: bool | None = None


def person_out(person: Person) -> dict[str, Any]:
    """A person as others may see them."""
    return {
        "id": person.id, "name": person.name, "role": str(person.role), "active": person.active,
        "topics_declined": list(person.topics_declined), "created_at": person.created_at,
    }  # fmt: skip


def project_out(project: Project, *, whole: bool) -> dict[str, Any]:
    """A project; its settings in `whole` only for those who run it: annotators learn neither models nor shares."""
    shown: dict[str, Any] = {
        "id": project.id, "name": project.name, "mode": str(project.settings.mode),
        "guideline_version": project.guideline_version, "instructions": project.settings.instructions,
        "archived": project.archived,
    }  # fmt: skip
    if whole:
        settings = project.settings
        shown["created_at"] = project.created_at
        shown["settings"] = {name: _plain(getattr(settings, name)) for name in ProjectSettings.__slots__}
    return shown


def presentation_out(presentation: Presentation, project: Project) -> dict[str, Any]:
    """An item as its annotator may see it: no model, no known answer, no mark of a repeat, no number that tells one."""
    new = presentation.item.new
    return {
        "id": presentation.id, "project_id": presentation.item.project_id,
        "mode": str(project.settings.mode), "prompt": conversation_to_json(new.prompt),
        "shown": [{"slot": slot, "text": candidate.text} for slot, candidate in enumerate(presentation.shown)],
        "criteria": list(presentation.criteria), "guideline_version": presentation.guideline_version,
        "sensitive": new.sensitive, "topic": new.topic, "expires_at": presentation.expires_at,
    }  # fmt: skip


def guideline_out(guideline: Guideline) -> dict[str, Any]:
    """One version of the guidelines."""
    return {
        "version": guideline.version, "text": guideline.text, "author": guideline.author,
        "created_at": guideline.created_at,
    }  # fmt: skip


def own_event_out(event: Event, presentation_id: str | None) -> dict[str, Any]:
    """One line of a person's own history; `presentation_id` is None for an answer that was taken back."""
    return {
        "seq": event.seq, "kind": str(event.kind), "presentation_id": presentation_id,
        "created_at": event.created_at, "undone": presentation_id is None,
    }  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
