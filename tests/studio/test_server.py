"""The studio as a process: how it starts, what stands in its way, how it stops, what a kill or a full disk costs."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from studio.site import PASSWORD, Site, items, key

from assent.errors import ConfigError, StoreError
from assent.feedback.records import Person, PersonRole, ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.recipes.annotation.studio_command import run_studio
from assent.studio.server import bind, first_admin_path
from assent.studio.settings import StudioSettings

ROOT = Path(__file__).parents[2]
SERVE = (
    "import sys; from assent.recipes.annotation.studio_command import run_studio; "
    "run_studio(store=sys.argv[1], port=0, overrides=sys.argv[2:])"
)
CHUNKED = (
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\n1\r\na\r\n0\r\n"
)


@contextmanager
def studio(store: Path, *overrides: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A studio process on a free port, its first line, its port."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", SERVE, str(store), *overrides], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r":(\d+)\s", line)
        assert found is not None, f"{line!r} {process.poll()}"
        yield process, line, int(found[1])
    finally:
        process.kill()
        process.wait()


def ask(port: int, method: str, path: str, token: tuple[str, str], body: object = None) -> tuple[int, Any]:
    """One request of somebody signed in."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Cookie": f"assent={token[0]}", "X-CSRF-Token": token[1], "Origin": f"http://127.0.0.1:{port}"}
    connection.request(
        method, path, None if body is None else json.dumps(body), headers | {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content)


def prepared(path: Path, *, count: int = 20) -> tuple[Person, tuple[str, str]]:
    """A store with an annotator who is signed in."""
    with FeedbackStore.open(str(path)) as store:
        project = store.create_project("pairs", ProjectSettings(mode=TaskMode.PAIRWISE))
        store.add_items(project.id, items(count))
        person = store.create_person("ada", PersonRole.ANNOTATOR, None)
        store.set_members(project.id, [person.id])
        sign_in = store.sign_in(person.id, lifetime_s=3600)
    return person, (sign_in.token, sign_in.csrf)


def test_a_port_in_use_is_said_plainly() -> None:
    first = bind(StudioSettings(port=0))
    port = first.listener.getsockname()[1]
    with first.listener, pytest.raises(ConfigError, match=f"port {port} is in use.*--port"):
        bind(StudioSettings(port=port))


def test_a_host_that_is_not_ours_is_said_plainly() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:0: cannot listen there"):
        bind(StudioSettings(host="192.0.2.1", port=0))


def test_a_store_that_another_process_has_is_said_plainly(site: Site, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"another process .*{os.getpid()}.* has the store open"):
        run_studio(store=str(tmp_path / "studio.db"), port=0)


def test_bad_settings_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sign_in_atempts.*sign_in_attempts"):
        run_studio(store=str(tmp_path / "new.db"), overrides=["sign_in_atempts=3"])
    assert not (tmp_path / "new.db").exists()


def test_a_link_is_given_only_while_there_is_no_admin(site: Site) -> None:
    path = first_admin_path(site.store)  # there is an admin, but none with a password
    assert path is not None and site.store.invitation(path.removeprefix("/join/")) is not None
    site.store.set_password(site.admin.id, PASSWORD)
    assert first_admin_path(site.store) is None


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_studio_starts_says_its_link_and_stops_in_order(tmp_path: Path, end: signal.Signals) -> None:
    with studio(tmp_path / "new.db") as (process, line, port):
        assert line == f"the studio answers at http://127.0.0.1:{port}\n"
        assert process.stdout is not None
        assert re.search(rf"http://127\.0\.0\.1:{port}/join/\S{{40,}}$", process.stdout.readline())
        assert "new, empty store" in process.stdout.readline()
        status, body = ask(port, "GET", "/healthz", ("", ""))
        assert (status, body) == (200, {"ok": True})
        process.send_signal(end)
        rest = process.stdout.read()
        assert process.wait(30) == 0
        assert "stopped" in rest and "Traceback" not in rest
    with FeedbackStore.open(str(tmp_path / "new.db")) as store:
        assert store.people() == []


@pytest.mark.slow
def test_a_disk_that_takes_nothing_more_refuses_cleanly_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "full.db"
    person, token = prepared(path)
    with studio(path) as (process, _, port):
        _, given = ask(port, "GET", "/api/projects/1/next?count=5", token)

        def answer(place: int, name: str) -> tuple[int, Any]:
            body = {"key": name, "presentation_id": given["items"][place]["id"], "kind": "pairwise"}
            return ask(port, "POST", "/api/answers", token, body | {"payload": {"strength": 1}})

        names = [key() for _ in range(5)]
        assert answer(0, names[0])[0] == 201
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        for _ in range(3):
            status, body = answer(1, names[1])
            assert status == 503, body
            assert "the store cannot be used now" in body["error"]["what"] and "acknowledged" in body["error"]["now"]
            assert str(tmp_path) not in json.dumps(body)
        assert ask(port, "GET", "/api/projects/1/mine", token)[0] == 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert [answer(place, names[place])[0] for place in range(1, 5)] == [201] * 4
    with FeedbackStore.open(str(path), read_only=True) as store:
        assert [event.key for event in store.events(person_id=person.id)] == names
        assert store.verify_chain() == 5


@pytest.mark.slow
def test_a_killed_server_loses_nothing_that_it_acknowledged() -> None:
    command = [sys.executable, "-m", "benchmarks.studio_load", "--kill", "2", "--clients", "32", "--most", "300"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    row = json.loads(done.stdout.split("RESULT ", 1)[1])
    assert row["lost"] == 0 and row["unsure"] == 0 and row["errors"] == []
    assert row["acknowledged"] > 2


@pytest.mark.parametrize("ending", [b"X-Long: " + b"a" * 200_000, b"".join(b"X-%d: a\r\n" % n for n in range(9000))])
@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: localhost\r\n", CHUNKED])
def test_a_head_or_a_trailer_without_end_is_cut_off(tmp_path: Path, start: bytes, ending: bytes) -> None:
    _, token = prepared(tmp_path / "studio.db")
    with studio(tmp_path / "studio.db") as (_, _, port), socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(start)
        with suppress(ConnectionError):  # cut off while still sending
            for at in range(0, len(ending), 10_000):
                client.sendall(ending[at : at + 10_000])
        told = b""
        with suppress(ConnectionError):
            while part := client.recv(65_536):
                told += part
        assert not told or re.match(rb"HTTP/1.1 40[034] ", told)
        assert ask(port, "GET", "/api/me", token)[0] == 200


def test_a_usual_head_and_a_large_body_pass(tmp_path: Path) -> None:
    _, token = prepared(tmp_path / "studio.db")
    with studio(tmp_path / "studio.db") as (_, _, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Cookie": f"assent={token[0]}", "X-Filler": "a" * 20_000}
        for _ in range(3):  # on one connection: the count begins anew with every request
            connection.request("GET", "/", headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status in (200, 303)
        connection.close()
        assert ask(port, "POST", "/api/nothing", token, {"text": "a" * 500_000})[0] == 404


def test_half_sent_heads_of_one_address_leave_room_for_everybody(tmp_path: Path) -> None:
    _, token = prepared(tmp_path / "studio.db")
    with studio(tmp_path / "studio.db", "connections_per_address=20", "head_timeout_s=600") as (_, _, port):
        heads = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(120)]
        for head in heads:
            with suppress(ConnectionError):
                head.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert ask(port, "GET", "/api/me", token)[0] == 200
        for head in heads[:100]:
            with suppress(ConnectionError):
                assert head.recv(1000) == b""
        for head in heads:
            head.close()


def test_a_half_sent_head_is_timed_out(tmp_path: Path) -> None:
    prepared(tmp_path / "studio.db")
    limit = "head_timeout_s=0.3"
    with (
        studio(tmp_path / "studio.db", limit) as (_, _, port),
        socket.create_connection(("127.0.0.1", port), 20) as head,
    ):
        head.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert head.recv(1000).startswith(b"HTTP/1.1 408 ")
