"""Load on a real studio: durable answers a second, how long people wait, and what a killed server loses.

    python -m benchmarks.studio_load [--clients 200] [--seconds 10] [--store PATH or URL, or --postgres]
    python -m benchmarks.studio_load --events 1000000       start, next item and statistics page of a grown store
    python -m benchmarks.studio_load --kill 20 --clients 32  kill -9 in the middle, that many times

The load generator runs on the same cores as the server. "Answers alone" sends answers to items that were leased before
the clock started; "whole loop" asks for five items, answers them, asks again, as the page does. An answer counts when
201 has come back, which is after its commit is on the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assent.feedback.records import PersonRole, ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore
from benchmarks.bulk_events import make, pairs
from benchmarks.lean_http import Connection, Gone

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from feedback.postgres import reason_to_skip, running_server  # the tests' own server

HOST = "127.0.0.1"
AHEAD, AT_ONCE = 50, 5  # items leased beforehand; items asked for together
LIMIT_S = 120.0
_SERVE = (
    "import sys; from assent.recipes.annotation.studio_command import run_studio; "
    "run_studio(store=sys.argv[1], port=int(sys.argv[2]), overrides=['requests_per_minute=1000000'])"
)
Row = dict[str, Any]


@dataclass(slots=True)
class Client:
    """Somebody labeling: their connection, what they hold, what was acknowledged to them."""

    connection: Connection
    project_id: int
    person_id: int
    held: list[str] = field(default_factory=list)
    sent: int = 0
    unsure: tuple[bytes, str] | None = None  # sent, no reply seen yet
    acknowledged: dict[str, int] = field(default_factory=dict)  # key: event number
    waits_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def fetch(self) -> bool:
        """Take up the next items; False when none is left."""
        path = f"/api/projects/{self.project_id}/next?count={AT_ONCE}"
        self.held = [item["id"] for item in (await self.connection.get(path))["items"]][::-1]
        return bool(self.held)

    async def answer(self) -> None:
        """Answer one held item; what was sent without a reply is sent again, with its key."""
        if self.unsure is None:
            key = f"load-{self.person_id}-{self.sent:07d}"
            self.sent += 1
            content = {"key": key, "presentation_id": self.held.pop(), "kind": "pairwise", "time_taken_ms": 3000}
            body = json.dumps(content | {"payload": {"strength": self.sent % 7 - 3}}).encode()
            self.unsure = (body, key)
        body, key = self.unsure
        begun = time.perf_counter()
        status, reply = await self.connection.ask("POST", "/api/answers", body)
        self.waits_s.append(time.perf_counter() - begun)
        self.unsure = None
        if status not in (200, 201):
            self.errors.append(f"{status} {reply[:200].decode(errors='replace')}")
            return
        self.acknowledged[key] = json.loads(reply)["seq"]


@contextmanager
def serving(store: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A studio as a process of its own, answering; ended with SIGTERM, or killed if that does not help."""
    environment = os.environ | {"PYTHONPATH": "src"}
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, store, str(port)], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        wait_until_up(process, port)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def wait_until_up(process: subprocess.Popen[bytes], port: int) -> None:
    """Until /healthz answers; RuntimeError if the process ends first."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the studio ended with {process.returncode}")
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1) as probe:
            probe.sendall(f"GET /healthz HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
            if b" 200 " in probe.recv(200):
                return
        time.sleep(0.01)
    raise RuntimeError("the studio does not answer")


def processor_s(process_id: int) -> float:
    """Seconds of processor time that the living threads of a process have used, by the scheduler's own count."""
    threads = Path(f"/proc/{process_id}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def prepare(store_url: str, clients: int, items: int, port: int, *, ahead: int) -> list[Client]:
    """A project with `items` pairs and signed-in annotators, each holding `ahead` items."""
    made = []
    with FeedbackStore.open(store_url) as store:
        settings = ProjectSettings(mode=TaskMode.PAIRWISE, overlap=1, lease_s=86400.0)
        project = store.create_project(f"load {time.time_ns()}", settings)
        store.add_items(project.id, pairs(items, prefix="load"))
        people = [store.create_person(f"l{n} {time.time_ns()}", PersonRole.ANNOTATOR, None) for n in range(clients)]
        store.set_members(project.id, [person.id for person in people])
        for person in people:
            sign_in = store.sign_in(person.id, lifetime_s=86400)
            client = Client(Connection(HOST, port, sign_in.token, sign_in.csrf), project.id, person.id)
            client.held = [one.id for one in store.lease(project.id, person.id, count=ahead)] if ahead else []
            made.append(client)
    return made


async def run_clients(clients: Sequence[Client], seconds: float, *, refill: bool) -> float:
    """All at once until the time is over or nothing is left; the seconds it took."""
    for client in clients:
        await client.connection.open()
    begun = time.perf_counter()

    async def work(client: Client) -> None:
        while time.perf_counter() - begun < seconds:
            if not client.held and not (refill and await client.fetch()):
                return
            await client.answer()

    await asyncio.gather(*(work(client) for client in clients))
    took_s = time.perf_counter() - begun
    for client in clients:
        client.connection.close()
    return took_s


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of `values` do not exceed, in milliseconds."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1) if ordered else 0.0


def measure_rate(store: str, clients: int, seconds: float, *, database_s: Callable[[], float] = float) -> Row:
    """Answers a second, alone and in the whole loop; `database_s`: processor time that a database server has used."""
    row: Row = {"clients": clients}
    for name, ahead, refill in (("answers_alone", AHEAD, False), ("whole_loop", 0, True)):
        port = free_port()
        made = prepare(store, clients, max(clients * AHEAD, int(seconds * 4000)), port, ahead=ahead)
        with serving(store, port) as process:
            before = processor_s(process.pid), time.process_time(), database_s()
            took_s = asyncio.run(run_clients(made, seconds, refill=refill))
            server_s, own_s = processor_s(process.pid) - before[0], time.process_time() - before[1]
            kept_s = database_s() - before[2]
        waits = [wait for client in made for wait in client.waits_s]
        errors = [error for client in made for error in client.errors]
        done = sum(len(client.acknowledged) for client in made)
        row[name] = {
            "answers": done, "per_second": round(done / took_s), "p50_ms": quantile(waits, 0.5),
            "p95_ms": quantile(waits, 0.95), "p99_ms": quantile(waits, 0.99), "errors": len(errors),
            "server_us_each": round(server_s / done * 1e6), "generator_us_each": round(own_s / done * 1e6),
            "database_us_each": round(kept_s / done * 1e6),
            "shared_cores_used": round((server_s + own_s + kept_s) / took_s, 2),
            "first_error": errors[0] if errors else "",
        }  # fmt: skip
        row[name]["lost"] = missing(store, made)
    return row


def missing(store_url: str, clients: Sequence[Client]) -> int:
    """How many acknowledged answers are not in the store as they were acknowledged; checks the chain as well."""
    kept: dict[str, int] = {}
    doubled = after = 0
    with FeedbackStore.open(store_url, read_only=True) as store:
        store.verify_chain()
        while events := store.events(clients[0].project_id, after=after, limit=1000):
            doubled += sum(event.key in kept for event in events)
            kept |= {event.key: event.seq for event in events}
            after = events[-1].seq
    lost = sum(kept.get(key) != seq for client in clients for key, seq in client.acknowledged.items())
    return lost + doubled


def measure_kills(store: str, clients: int, kills: int, *, most: int) -> Row:
    """Kill the server in the middle of its work, again and again; nothing acknowledged may be missing."""
    port, chance = free_port(), random.Random(7)
    made = prepare(store, clients, (most + clients * (AT_ONCE + 1)) * kills, port, ahead=0)
    begun = time.perf_counter()
    for _ in range(kills):
        with serving(store, port) as process:
            asyncio.run(_until_killed(made, process, chance.randint(1, most)))
    with serving(store, port):
        asyncio.run(_send_unsure(made))
    unsure = sum(client.unsure is not None for client in made)
    return {
        "kills": kills, "clients": clients, "acknowledged": sum(len(client.acknowledged) for client in made),
        "lost": missing(store, made), "unsure": unsure,
        "errors": sorted({error for client in made for error in client.errors})[:3],
        "took_s": round(time.perf_counter() - begun, 1),
    }  # fmt: skip


async def _until_killed(clients: Sequence[Client], process: subprocess.Popen[bytes], after: int) -> None:
    """Work until `after` more answers are acknowledged; then, in the middle of the others, the server is killed."""
    until = after + sum(len(client.acknowledged) for client in clients)

    async def work(client: Client) -> None:
        with suppress(Gone, OSError):
            while client.held or client.unsure is not None or await client.fetch():
                await client.answer()

    tasks = [asyncio.create_task(work(client)) for client in clients]
    while sum(len(client.acknowledged) for client in clients) < until and not all(task.done() for task in tasks):
        await asyncio.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    await asyncio.gather(*tasks)


async def _send_unsure(clients: Sequence[Client]) -> None:
    for client in clients:
        if client.unsure is not None:
            await client.answer()
        client.connection.close()


def measure_grown(path: Path, events: int) -> Row:
    """Start, next item, answer and statistics page with `events` events in the store."""
    row: Row = {"events": events}
    if not path.exists():
        begun = time.perf_counter()
        make(path, events)
        row["made_in_s"] = round(time.perf_counter() - begun, 1)
    row["megabytes"] = round(path.stat().st_size / 2**20)
    port = free_port()
    with FeedbackStore.open(str(path)) as store:
        members = store.members(1)
        admin = next(person for person in store.people() if person.role is PersonRole.ADMIN)
        tokens = [store.sign_in(person.id, lifetime_s=86400) for person in (admin, *members)]
    begun = time.perf_counter()
    with serving(str(path), port) as process:
        row["start_s"] = round(time.perf_counter() - begun, 2)
        row["start_processor_s"] = round(processor_s(process.pid), 2)
        connections = [Connection(HOST, port, one.token, one.csrf) for one in tokens]
        row |= asyncio.run(_wait_times(process.pid, connections[0], connections[1:]))
    return row


async def _wait_times(process_id: int, admin: Connection, annotators: Sequence[Connection]) -> Row:
    """Waits by the clock, and what of them the server computed: on a busy machine the two differ."""
    waits: dict[str, list[float]] = {"next": [], "answer": [], "progress": [], "figures": [], "page": [], "mine": []}
    worked: dict[str, list[float]] = {name: [] for name in waits}
    run = time.time_ns()

    async def timed(name: str, connection: Connection, method: str, path: str, content: bytes = b"") -> Any:
        begun, before = time.perf_counter(), processor_s(process_id)
        status, body = await connection.ask(method, path, content)
        waits[name].append(time.perf_counter() - begun)
        worked[name].append(processor_s(process_id) - before)
        if status not in (200, 201):
            raise RuntimeError(f"{method} {path}: {status} {body[:200]!r}")
        return body

    for number in range(200):
        annotator = annotators[number % len(annotators)]
        given = json.loads(await timed("next", annotator, "GET", "/api/projects/1/next?count=1"))["items"]
        content = {"key": f"wait-{run}-{number:06d}", "presentation_id": given[0]["id"], "kind": "pairwise"}
        body = json.dumps(content | {"payload": {"strength": 1}, "time_taken_ms": 900}).encode()
        await timed("answer", annotator, "POST", "/api/answers", body)
        await timed("mine", annotator, "GET", "/api/projects/1/mine?limit=50")
    for _ in range(10):
        await timed("progress", admin, "GET", "/api/projects/1/progress")
        await timed("figures", admin, "GET", "/api/operator/projects/1")
        await timed("page", admin, "GET", "/projects/1")
    return {
        name: {
            "first_ms": quantile(found[:1], 0), "p95_ms": quantile(found[1:], 0.95),
            "first_worked_ms": quantile(worked[name][:1], 0), "p95_worked_ms": quantile(worked[name][1:], 0.95),
        }
        for name, found in waits.items()
    }  # fmt: skip


def main() -> int:
    """Print the figures as one line of JSON; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--store", help="where to work; a fresh SQLite file in a temporary folder by default")
    parser.add_argument("--postgres", action="store_true", help="a fresh PostgreSQL server of its own, with fsync")
    parser.add_argument("--events", type=int, default=0)
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--most", type=int, default=600, help="acknowledged answers until a kill, at most")
    given = parser.parse_args()
    if given.postgres and reason_to_skip() is not None:
        parser.error(str(reason_to_skip()))
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        store = given.store or str(Path(folder) / "load.db")
        database_s: Callable[[], float] = float
        if given.postgres:
            server = opened.enter_context(running_server(fsync=True))
            store, database_s = server.url(), lambda: sum(map(processor_s, server.processes()))
        if given.events:
            row = measure_grown(Path(store), given.events)
        elif given.kill:
            row = measure_kills(store, given.clients, given.kill, most=given.most)
        else:
            row = measure_rate(store, given.clients, given.seconds, database_s=database_s)
    print("RESULT " + json.dumps(row))
    lost = row.get("lost", 0) + sum(part.get("lost", 0) for part in row.values() if isinstance(part, dict))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
