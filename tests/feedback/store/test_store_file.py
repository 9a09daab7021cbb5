"""A file that is deleted, moved, replaced, cut or overwritten under an open store is noticed, and told truly."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from feedback.store_fixtures import Clock, annotators, answer, clock, ranking_project, sqlite_store

from assent.errors import StoreError
from assent.feedback.records import Presentation
from assent.feedback.refusals import Unavailable
from assent.feedback.store.store import FeedbackStore

__all__ = ["clock", "sqlite_store"]
UNTIL = "2027-01-15 08:00:00 UTC"  # the clock of the fixture


@pytest.fixture
def shown(sqlite_store: FeedbackStore) -> list[Presentation]:
    """Six leases; the first two are answered."""
    project = ranking_project(sqlite_store, count=20)
    annotators(sqlite_store, project, 1)
    given = sqlite_store.lease(project, 1, count=6)
    for one in given[:2]:
        sqlite_store.submit(1, answer(one)).result()
    return given


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "feedback.db"


def refused(store: FeedbackStore, presentation: Presentation) -> Unavailable:
    """What the store says, of an answer and of its health alike."""
    with pytest.raises(Unavailable) as caught:
        store.submit(1, answer(presentation)).result()
    with pytest.raises(Unavailable) as asked:
        store.check()
    assert asked.value.what == caught.value.what
    assert "safe" not in str(caught.value)
    return caught.value


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    FeedbackStore.open(str(other)).close()
    other.replace(path)


def replace_by_its_copy(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.db"))
    path.with_name("copy.db").replace(path)


@pytest.mark.parametrize("lose", [delete, move, replace, replace_by_its_copy])
def test_a_file_that_is_not_in_its_place_takes_nothing_and_is_saved_at_the_end(
    sqlite_store: FeedbackStore, shown: list[Presentation], path: Path, lose: Callable[[Path], None]
) -> None:
    kept = sqlite_store.events()
    lose(path)
    there = path.exists()
    error = refused(sqlite_store, shown[2])
    assert ("another file" if there else "gone") in error.what
    assert UNTIL in str(error.now) and "Put that very file back" in str(error.now)
    assert path.exists() == there, "no empty store is made in its place"
    told = sqlite_store.parting()
    assert "everything that was acknowledged is saved" not in told
    copy = Path(re.search(r"is at (\S+)$", told).group(1))  # type: ignore[union-attr]
    with FeedbackStore.open(str(copy)) as rescued:
        assert rescued.events() == kept and rescued.verify_chain() == 2


def test_a_file_that_comes_back_is_gone_on_with(
    sqlite_store: FeedbackStore, shown: list[Presentation], path: Path
) -> None:
    move(path)
    refused(sqlite_store, shown[2])
    path.with_suffix(".moved").rename(path)
    sqlite_store.check()
    assert sqlite_store.submit(1, answer(shown[2])).result().seq == 3
    assert sqlite_store.parting() == "everything that was acknowledged is saved"


def cut_to_12_kib(path: Path) -> None:
    os.truncate(path, 12 << 10)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite_the_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(60_000))


def overwrite_the_beginning(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"this is no database any more")


def overwrite_by_another_store(path: Path) -> None:
    other = path.with_name("other.db")
    with FeedbackStore.open(str(other)) as store:
        ranking_project(store, count=20)
    with path.open("r+b") as file:
        file.write(other.read_bytes().ljust(path.stat().st_size, b"\0"))


@pytest.fixture
def checkpointed(sqlite_store: FeedbackStore, shown: list[Presentation], path: Path) -> Iterator[None]:
    """All that was written stands in the file itself, as after a thousand pages."""
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)")
    other.close()
    sqlite_store.check()
    yield


@pytest.mark.parametrize(
    "damage",
    [cut_to_12_kib, empty, overwrite_the_middle, overwrite_the_beginning, overwrite_by_another_store],
)
def test_a_damaged_file_takes_nothing_and_nothing_is_called_safe(
    sqlite_store: FeedbackStore,
    shown: list[Presentation],
    path: Path,
    checkpointed: None,
    damage: Callable[[Path], None],
) -> None:
    damage(path)
    error = refused(sqlite_store, shown[2])
    assert re.search("cut short|overwritten|damaged|malformed", error.what)
    assert UNTIL in str(error.now) and "may be lost" in str(error.now) and "backup" in str(error.now)
    assert "may be lost" in sqlite_store.parting()
    refused(sqlite_store, shown[3])


def test_a_file_that_was_only_touched_goes_on(
    sqlite_store: FeedbackStore, shown: list[Presentation], path: Path
) -> None:
    os.utime(path)
    assert sqlite_store.submit(1, answer(shown[2])).result().seq == 3
    sqlite_store.check()


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_without_its_log_nothing_is_taken_and_an_ordered_end_keeps_what_was(
    tmp_path: Path, clock: Clock, ending: str
) -> None:
    path = tmp_path / "log.db"
    with FeedbackStore.open(str(path), clock=clock) as store:
        project = ranking_project(store, count=5)
        annotators(store, project, 1)
        given = store.lease(project, 1, count=3)
        store.submit(1, answer(given[0])).result()
        Path(f"{path}{ending}").unlink()
        error = refused(store, given[1])
        assert "Ctrl-C" in str(error.now)
        assert "everything" not in store.parting()
    with FeedbackStore.open(str(path)) as store:
        assert store.verify_chain() == 1


def test_a_damaged_store_is_not_opened(sqlite_store: FeedbackStore, shown: list[Presentation], path: Path) -> None:
    sqlite_store.close()
    overwrite_the_middle(path)
    with pytest.raises(StoreError, match=r"damaged|malformed") as caught:
        FeedbackStore.open(str(path))
    assert "safe" not in str(caught.value)


def test_a_full_disk_is_told_by_health_and_what_was_saved_is_saved(
    sqlite_store: FeedbackStore, shown: list[Presentation], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.statvfs_result((4096, 4096, 100, 3, 3, 10, 10, 10, 0, 255))
    monkeypatch.setattr("assent.feedback.store.store_file.os.statvfs", lambda _: full)
    with pytest.raises(Unavailable, match="disk is full"):
        sqlite_store.check()
    assert sqlite_store.parting() == "everything that was acknowledged is saved"


def test_a_missing_folder_is_no_new_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder") as caught:
        FeedbackStore.open(str(tmp_path / "not mounted" / "studio.db"))
    assert "mounted" in str(caught.value.now)
    assert list(tmp_path.iterdir()) == []


def test_a_store_says_whether_it_was_made_just_now(path: Path) -> None:
    for new in (True, False):
        with FeedbackStore.open(str(path)) as store:
            assert store.is_new is new


def test_a_backup_takes_text_and_a_path(sqlite_store: FeedbackStore, tmp_path: Path) -> None:
    for copy in (str(tmp_path / "one.db"), tmp_path / "two.db"):
        sqlite_store.backup(copy)
        with FeedbackStore.open(str(copy), read_only=True) as opened:
            assert opened.events() == []
