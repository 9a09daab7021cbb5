"""What is left of acknowledged answers when the writing process, or PostgreSQL, is killed under load.

    python -m benchmarks.store_kill [--cycles 300] [--annotators 32] [--postgres [--process]]

The process (SQLite, or PostgreSQL with --process): each cycle forks a process in which annotators lease, answer and
sometimes undo; it is killed with SIGKILL at a random moment. Before an answer is sent its key is written to a pipe,
after the acknowledgement its event's number. The next process first sends again whatever was not acknowledged, as a
browser's outbox would. The server (--postgres): one process goes on while the postmaster and all its children are
killed and started again. PostgreSQL runs with fsync. At the end every acknowledged event must be there once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from assent.errors import StoreError
from assent.feedback.records import Answer, Candidate, EventKind, NewItem, PersonRole, ProjectSettings
from assent.feedback.store.store import FeedbackStore
from assent.types import Conversation

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from feedback.postgres import reason_to_skip, running_server  # the tests' own server

OVERLAP, ITEMS_PER_CYCLE = 2, 500
PAYLOAD = {"ranks": [1, 2, 3]}
Log = Callable[[str, int, str, str], None]  # what, person, key, presentation or event number


@dataclass
class Ledger:
    """What was sent and what was acknowledged, as the clients know it."""

    open: dict[tuple[int, str], str] = field(default_factory=dict)
    acknowledged: dict[tuple[int, str], int] = field(default_factory=dict)
    differing: int = 0

    def note(self, what: str, person: int, key: str, value: str) -> None:
        """`s`: sent, `a`: acknowledged."""
        if what == "s":
            self.open[person, key] = value
            return
        self.open.pop((person, key), None)
        if self.acknowledged.setdefault((person, key), int(value)) != int(value):
            self.differing += 1


def prepare(url: str, *, annotators: int, cycles: int) -> None:
    """A project with more items than can be answered."""
    with FeedbackStore.open(url) as store:
        project = store.create_project("campaign", ProjectSettings(overlap=OVERLAP, lease_s=5.0))
        candidates = tuple(Candidate(text=f"answer {place}") for place in range(3))
        prompt = Conversation.of_user("question")
        count = ITEMS_PER_CYCLE * max(cycles, 10)
        store.add_items(project.id, (NewItem(prompt=prompt, candidates=candidates, key=str(n)) for n in range(count)))
        people = [
            store.create_person(f"annotator {number}", PersonRole.ANNOTATOR, None) for number in range(annotators)
        ]
        store.set_members(project.id, [person.id for person in people])


def label(store: FeedbackStore, person: int, outbox: list[tuple[str, str]], log: Log, stop: threading.Event) -> None:
    """One annotator: first what was not acknowledged, then new items for ever."""
    chance = random.Random(f"{person} {os.getpid()}")
    for key, value in outbox:
        _send(store, person, key, value, log)
    while not stop.is_set():
        try:
            shown = store.lease(1, person)
        except StoreError:
            continue
        if not shown:
            return
        key = f"{shown[0].id} {chance.getrandbits(64)}"  # an undone item comes again as the same presentation
        seq = _send(store, person, key, shown[0].id, log)
        if seq is not None and chance.random() < 0.03:
            _send(store, person, f"undo {seq}", f"undo {seq}", log)


def _send(store: FeedbackStore, person: int, key: str, value: str, log: Log) -> int | None:
    log("s", person, key, value)
    while True:
        try:
            if value.startswith("undo "):
                event = store.undo(person, int(value[5:]), key).result()
            else:
                sent = Answer(key=key, presentation_id=value, kind=EventKind.RANKING, payload=PAYLOAD)
                event = store.submit(person, sent).result()
        except StoreError as refusal:
            if refusal.exit_code == 1:  # not now: send again
                time.sleep(0.05)
                continue
            return None
        log("a", person, key, str(event.seq))
        return event.seq


def label_until_killed(url: str, annotators: int, outbox: dict[tuple[int, str], str], pipe: int) -> None:
    """The child: every line to the pipe is one write, so that a kill cannot tear it."""

    def log(what: str, person: int, key: str, value: str) -> None:
        os.write(pipe, f"{what}\t{person}\t{key}\t{value}\n".encode())

    store = FeedbackStore.open(url)
    for person in range(1, annotators + 1):
        own = [(key, value) for (who, key), value in outbox.items() if who == person]
        arguments = (store, person, own, log, threading.Event())
        threading.Thread(target=label, args=arguments, daemon=True).start()
    signal.pause()


def kill_process_campaign(url: str, *, annotators: int, cycles: int) -> Ledger:
    """Fork, label, kill, again."""
    ledger = Ledger()
    chance = random.Random(0)
    for _ in range(cycles):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            label_until_killed(url, annotators, dict(ledger.open), writer)
            os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as lines:
            everything = b""
            while b"\na\t" not in everything:  # until the first acknowledgement
                everything += lines.readline()
            killer = threading.Timer(chance.uniform(0.0, 1.0), os.kill, (child, signal.SIGKILL))
            killer.start()
            everything += lines.read()
            killer.join()
        os.waitpid(child, 0)
        for line in everything.decode().splitlines():
            what, person, key, value = line.split("\t")
            ledger.note(what, int(person), key, value)
    return ledger


def kill_server_campaign(*, annotators: int, cycles: int) -> tuple[Ledger, dict[str, object]]:
    """PostgreSQL: the annotators stay, the server is killed and started again."""
    ledger, lock, chance = Ledger(), threading.Lock(), random.Random(0)

    def log(what: str, person: int, key: str, value: str) -> None:
        with lock:
            ledger.note(what, person, key, value)

    with running_server(fsync=True) as server:
        prepare(server.url(), annotators=annotators, cycles=cycles)
        stop = threading.Event()
        with FeedbackStore.open(server.url()) as store:
            arguments = [(store, person, [], log, stop) for person in range(1, annotators + 1)]
            threads = [threading.Thread(target=label, args=each) for each in arguments]
            for thread in threads:
                thread.start()
            for _ in range(cycles):
                enough, patience = len(ledger.acknowledged) + annotators, time.monotonic() + 10
                while len(ledger.acknowledged) < enough and time.monotonic() < patience:
                    time.sleep(0.01)
                time.sleep(chance.uniform(0.0, 0.3))
                server.crash()
                server.start()
            time.sleep(0.5)
            stop.set()
            for thread in threads:
                thread.join()
        return ledger, check(server.url(), ledger)


def check(url: str, ledger: Ledger) -> dict[str, object]:
    """Compare what the clients know with what the store holds."""
    kept: Counter[tuple[int, str]] = Counter()
    numbers: dict[tuple[int, str], int] = {}
    with FeedbackStore.open(url) as store:
        after = 0
        while page := store.events(after=after, limit=10_000):
            for event in page:
                kept[event.person_id, event.key] += 1
                numbers[event.person_id, event.key] = event.seq
            after = page[-1].seq
        chained = store.verify_chain()
        over = wrong = after = 0
        while items := store.answered_items(1, after_item=after, limit=10_000):
            people = [[event.person_id for event in item.events] for item in items]
            over += sum(len(who) > OVERLAP or len(set(who)) < len(who) for who in people)
            after = items[-1].item.id
        progress = store.progress(1)
    wrong = sum(numbers.get(key) != seq for key, seq in ledger.acknowledged.items())
    return {
        "acknowledged": len(ledger.acknowledged),
        "lost": wrong,
        "duplicate": sum(count > 1 for count in kept.values()) + ledger.differing,
        "kept_but_not_acknowledged": sum(key not in ledger.acknowledged for key in kept),
        "items_over_overlap": over,
        "chained": chained,
        "counted": progress.answers,
    }


@contextmanager
def _store_url(*, postgres: bool) -> Iterator[str]:
    """A fresh place for a store, gone afterwards."""
    if postgres:
        with running_server(fsync=True) as server:
            yield server.url()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "judgement.db")


def main() -> None:
    """Run a campaign and print its figures as one JSON object."""
    parser = argparse.ArgumentParser(description="Kill the store under load and count what is lost.")
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("--annotators", type=int, default=32)
    parser.add_argument("--postgres", action="store_true", help="kill the PostgreSQL server instead of the process")
    parser.add_argument("--process", action="store_true", help="with --postgres: kill the process all the same")
    chosen = parser.parse_args()
    started = time.monotonic()
    reason = reason_to_skip() if chosen.postgres else None
    if reason is not None:
        raise SystemExit(reason)
    if chosen.postgres and not chosen.process:
        kind = "postgresql killed and restarted"
        _, result = kill_server_campaign(annotators=chosen.annotators, cycles=chosen.cycles)
    else:
        kind = "writer killed, postgresql" if chosen.postgres else "sqlite writer killed"
        with _store_url(postgres=chosen.postgres) as url:
            prepare(url, annotators=chosen.annotators, cycles=chosen.cycles)
            ledger = kill_process_campaign(url, annotators=chosen.annotators, cycles=chosen.cycles)
            result = check(url, ledger)
    seconds = round(time.monotonic() - started, 1)
    print(
        json.dumps({"what": kind, "cycles": chosen.cycles, "annotators": chosen.annotators} | result | {"s": seconds})
    )


if __name__ == "__main__":
    main()
