"""Studios for browsers: a store filled beforehand, served by a process that can be killed, read from beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assent.feedback.exchange.imported_items import ImportedItem, answer_of_model
from assent.feedback.exchange.store_import import import_items
from assent.feedback.records import Candidate, Event, EventKind, NewItem, PersonRole, Project, ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.types import Conversation

SCRIPT = Path(__file__).parent / "serve_process.py"
SOURCE = Path(__file__).parents[3] / "src"
START_S = 60.0


class Studio:
    """One store, its people's sign-ins, and the process that serves it."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.path = folder / "studio.db"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        self.process: subprocess.Popen[str] | None = None
        self.tokens: dict[str, str] = {}
        self.people: dict[str, int] = {}
        self.projects: dict[str, Project] = {}
        self.endpoints: dict[str, str] = {}  # addresses of models by name; before it is started
        with FeedbackStore.open(str(self.path)) as store:
            for name in names or ("Ana",):
                person = store.create_person(name, PersonRole.ANNOTATOR, "a long password")
                self.people[name] = person.id
                self.tokens[name] = store.sign_in(person.id, lifetime_s=86_400).token

    def add_project(self, name: str, settings: ProjectSettings, items: list[NewItem], guideline: str = "") -> Project:
        """A project of everybody; only while nothing serves."""
        assert self.process is None
        with FeedbackStore.open(str(self.path)) as store:
            project = store.create_project(name, settings)
            store.set_members(project.id, list(self.people.values()))
            store.add_items(project.id, items)
            if guideline:
                store.add_guideline(project.id, guideline, "an admin")
            self.projects[name] = store.project(project.id)
        return self.projects[name]

    def add_judged_project(
        self, name: str, settings: ProjectSettings, items: list[NewItem], preference: dict[str, Any]
    ) -> None:
        """A project with items of which a model has said what it prefers."""
        self.add_project(name, settings, [])
        answers = (answer_of_model(preference),)
        with FeedbackStore.open(str(self.path)) as store:
            judged = [ImportedItem(item=item, answers=answers) for item in items]
            import_items(store, self.projects[name].id, judged)

    def start(self) -> None:
        """Serve; returns once the studio answers."""
        environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(self.path), str(self.port), json.dumps(self.endpoints)],
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/healthz", timeout=2).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"the studio did not start: {self.process.stdout and self.process.stdout.read()}")

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In order."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        self.process.wait(timeout=30)
        if self.process.stdout:
            self.process.stdout.close()
        self.process = None

    @contextmanager
    def reading(self) -> Iterator[FeedbackStore]:
        """The store as it is on the disk, beside the process that serves it."""
        with FeedbackStore.open(str(self.path), read_only=True) as store:
            yield store

    def events(self, name: str) -> list[Event]:
        """Every event of a project, oldest first."""
        with self.reading() as store:
            return store.events(self.projects[name].id)

    def standing(self, name: str) -> list[Event]:
        """The answers of a project that were not taken back, oldest first."""
        events = self.events(name)
        undone = {event.undone_seq for event in events}
        return [event for event in events if event.kind is not EventKind.UNDO and event.seq not in undone]


def as_shown(event: Event, field: str) -> list[object]:
    """A list of the payload in the order in which the annotator saw the answers."""
    return [event.payload[field][position] for position in event.order]


def items(count: int, answers: int = 2, **more: Any) -> list[NewItem]:
    """Items with telling texts."""
    texts = ["The Moon pulls the sea.", "The wind pushes the sea, I think.", "Fish do it.", "It is a mystery."]
    return [
        NewItem(
            prompt=Conversation.of_user(f"Question {number}: why are there tides?"),
            candidates=tuple(Candidate(text=f"{texts[i % 4]} ({number}.{i})", model=f"m{i}") for i in range(answers)),
            key=f"item-{number}", **more,
        )
        for number in range(count)
    ]  # fmt: skip


def settings(mode: TaskMode, **more: Any) -> ProjectSettings:
    """Settings of a project without surprises."""
    return ProjectSettings(mode=mode, **more)
