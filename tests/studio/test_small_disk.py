"""The studio on a real file system of eight megabytes: filled to the brim by answers, refusing cleanly, and back again.

Mounting needs rights that not every machine gives; the other tests of full disks do without.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studio.site import key
from studio.test_server import ask, studio

from assent.feedback.records import NewItem, PersonRole, ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.types import Conversation

SIZE, BALLAST, TEXT, ITEMS = 8 << 20, 3 << 20, 190_000, 20
pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of SIZE bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount here")
    command = [mount, "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _prepared(path: Path) -> tuple[str, str]:
    with FeedbackStore.open(str(path)) as store:
        project = store.create_project("write", ProjectSettings(mode=TaskMode.DEMONSTRATION))
        store.add_items(project.id, [NewItem(prompt=Conversation.of_user(f"write {n}")) for n in range(ITEMS)])
        person = store.create_person("ada", PersonRole.ANNOTATOR, None)
        store.set_members(project.id, [person.id])
        sign_in = store.sign_in(person.id, lifetime_s=3600)
    return sign_in.token, sign_in.csrf


def _written(presentation: str, name: str) -> dict[str, Any]:
    text = f"{name} " + "x" * TEXT
    return {"key": name, "presentation_id": presentation, "kind": "demonstration", "payload": {"text": text}}


def test_a_disk_filled_by_answers_refuses_cleanly_and_goes_on_when_there_is_room(disk: Path) -> None:
    waiting: list[dict[str, Any]] = []
    path, acknowledged = disk / "studio.db", list[str]()
    token = _prepared(path)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(BALLAST))
    with studio(path) as (process, _, port):
        refused = None
        while refused is None and len(acknowledged) < ITEMS:
            status, given = ask(port, "GET", "/api/projects/1/next?count=5", token)
            waiting = given["items"] if status == 200 else waiting  # those at hand stay leased
            answer = _written(waiting.pop(0)["id"], key())
            status, body = ask(port, "POST", "/api/answers", token, answer)
            if status == 201:
                acknowledged.append(answer["key"])
            else:
                refused = answer
        assert refused is not None and len(acknowledged) > 3
        for _ in range(5):
            status, body = ask(port, "POST", "/api/answers", token, refused)
            assert status == 503 and "the store cannot be used now" in body["error"]["what"], body
            assert "safe" in body["error"]["now"] and str(disk) not in json.dumps(body)
        assert ask(port, "GET", "/api/projects/1/mine", token)[0] == 200, "reading goes on"
        status, body = ask(port, "GET", "/healthz", token)
        assert status == 503 and "full" in body["what"], body
        ballast.unlink()
        assert ask(port, "GET", "/healthz", token)[0] == 200
        status, body = ask(port, "POST", "/api/answers", token, refused)
        assert status == 201, body
        acknowledged.append(refused["key"])
        _fill(ballast)
        process.kill()
        process.wait()
    ballast.unlink()
    with studio(path) as (_, _, port):
        assert ask(port, "GET", "/api/projects/1/next?count=1", token)[0] == 200
    with FeedbackStore.open(str(path)) as store:
        assert [event.key for event in store.events()] == acknowledged
        assert store.verify_chain() == len(acknowledged)


def _fill(path: Path) -> None:
    """Let the file take all that is left."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
