from __future__ import annotations

import ast
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import assent
from assent.errors import RunError
from assent.model.checkpoints import CheckpointStore, Restored, load_state, save_state
from assent.model.state import State

KILLS = int(os.environ.get("ASSENT_TEST_KILLS", "30"))
FILES = ("manifest.json", "state.json", "tensors.safetensors")


def state_of(step: int) -> State:
    weights = torch.full((300,), float(step))
    return State(tensors={"weights": weights, "tied": weights, "rng": torch.tensor([step])}, values={"step": step})


def saved(store: CheckpointStore, step: int, state: State | None = None) -> None:
    store.save(step, lambda folder: save_state(folder, state or state_of(step)))


def is_whole(found: Restored, step: int) -> bool:
    state = load_state(found.folder)
    tensors = state.tensors
    return (
        state.values == {"step": step}
        and tensors.keys() == {"weights", "tied", "rng"}
        and all(bool((tensor == step).all()) for tensor in tensors.values())
        and tensors["tied"].data_ptr() == tensors["weights"].data_ptr()
    )


def two_saved(folder: Path) -> CheckpointStore:
    store = CheckpointStore(folder)
    saved(store, 1)
    saved(store, 2)
    return store


def unfinished(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def every_folder_is_complete(store: CheckpointStore, folder: Path) -> bool:
    return all({file.name for file in (folder / f"step-{step:08d}").iterdir()} == set(FILES) for step in store.steps())


def test_the_newest_is_read_back_and_only_as_many_as_asked_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    assert store.newest() is None
    for step in (1, 5, 20, 100_000_000):
        saved(store, step)
    found = CheckpointStore(tmp_path).newest()
    assert found is not None
    assert (found.step, found.skipped) == (100_000_000, ())
    assert is_whole(found, 100_000_000)
    assert store.steps() == [5, 20, 100_000_000]


def truncated(data: bytes) -> Iterator[bytes]:
    yield from (data[:length] for length in range(0, len(data), 1 + len(data) // 200))


def flipped(data: bytes) -> Iterator[bytes]:
    for place in range(0, len(data), 1 + len(data) // 400):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def extended(data: bytes) -> Iterator[bytes]:
    yield data + b"\0"


@pytest.mark.parametrize("damage", [truncated, flipped, extended])
@pytest.mark.parametrize("name", FILES)
def test_any_damage_to_any_file_falls_back_and_is_named(
    tmp_path: Path, name: str, damage: Callable[[bytes], Iterator[bytes]]
) -> None:
    store = two_saved(tmp_path)
    file = tmp_path / "step-00000002" / name
    whole = file.read_bytes()
    for broken in damage(whole):
        file.write_bytes(broken)
        found = store.newest()
        assert found is not None
        assert found.step == 1
        assert is_whole(found, 1)
        assert len(found.skipped) == 1
        assert f"{file.parent} is skipped: {name} " in found.skipped[0]
    file.write_bytes(whole)
    assert (store.newest() or found).step == 2


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_falls_back_and_is_named(tmp_path: Path, name: str) -> None:
    store = two_saved(tmp_path)
    (tmp_path / "step-00000002" / name).unlink()
    found = store.newest()
    assert found is not None
    assert found.step == 1
    assert f"{name} is missing" in found.skipped[0]


def test_a_checkpoint_under_the_name_of_another_step_is_not_believed(tmp_path: Path) -> None:
    store = two_saved(tmp_path)
    (tmp_path / "step-00000002").rename(tmp_path / "step-00000009")
    found = store.newest()
    assert found is not None
    assert found.step == 1


def test_when_every_checkpoint_is_broken_the_error_names_them_all(tmp_path: Path) -> None:
    store = two_saved(tmp_path)
    for step in (1, 2):
        (tmp_path / f"step-0000000{step}" / "state.json").write_bytes(b"{}")
    with pytest.raises(RunError) as caught:
        store.newest()
    assert "step-00000001" in str(caught.value)
    assert "step-00000002" in str(caught.value)


def test_a_broken_one_never_counts_among_those_kept(tmp_path: Path) -> None:
    two_saved(tmp_path)
    (tmp_path / "step-00000002" / "state.json").write_bytes(b"{}")
    store = CheckpointStore(tmp_path, keep=2)
    saved(store, 3)
    assert store.steps() == [1, 3]


def test_saving_after_falling_back_replaces_the_future_that_was_lost(tmp_path: Path) -> None:
    store = two_saved(tmp_path)
    (tmp_path / "step-00000002" / "manifest.json").write_bytes(b"")
    assert (store.newest() or pytest.fail("nothing found")).step == 1
    saved(store, 2)
    found = store.newest()
    assert found is not None
    assert is_whole(found, 2)
    saved(store, 1)
    assert store.steps() == [1]


def test_the_state_read_is_independent_of_the_files(tmp_path: Path) -> None:
    store = two_saved(tmp_path)
    found = store.newest()
    assert found is not None
    state = load_state(found.folder)
    os.truncate(found.folder / "tensors.safetensors", 0)
    assert bool((state.tensors["weights"] == 2).all())


class Saver:
    """The process of saver_process.py."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("saver_process.py")
        command = [sys.executable, str(program)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, folder: Path, *, keep: int, lines: int = 0) -> int:
        assert self._process.stdin is not None
        print(folder, keep, lines, file=self._process.stdin, flush=True)
        return int(self._answer())

    def ended(self) -> str:
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def saver() -> Iterator[Saver]:
    process = Saver()
    yield process
    process.close()


@pytest.mark.slow
def test_kill_nine_at_any_moment_leaves_a_whole_checkpoint_and_never_an_older_one(tmp_path: Path, saver: Saver) -> None:
    moments = random.Random(0)
    latest = 0
    for _ in range(KILLS):
        child = saver.start(tmp_path, keep=1)
        time.sleep(moments.uniform(0.0, 0.08))
        os.kill(child, signal.SIGKILL)
        assert saver.ended() == "dead"
        found = CheckpointStore(tmp_path, keep=1).newest()
        if found:
            assert found.step >= latest
            assert found.skipped == ()
            assert is_whole(found, found.step)
            latest = found.step
        else:
            assert latest == 0
        assert unfinished(tmp_path) == []
    assert latest > KILLS // 2, "the kills must fall into running saves"


@pytest.mark.slow
def test_death_at_every_line_of_a_save_leaves_a_whole_checkpoint(tmp_path: Path, saver: Saver) -> None:
    seen: list[int] = []
    for lines in range(1, 100_000, 5):
        folder = tmp_path / str(lines)
        saver.start(folder, keep=1, lines=lines)
        ended = saver.ended()
        store = CheckpointStore(folder, keep=1)
        found = store.newest()
        seen.append(found.step if found else 0)
        assert found is None or (is_whole(found, found.step) and found.skipped == ())
        assert unfinished(folder) == []
        assert every_folder_is_complete(store, folder)
        if ended == "done":
            break
        saved(store, 3)
        assert store.steps() == [3]
    assert seen == sorted(seen), "once there, a checkpoint stays until a newer one is whole"
    assert set(seen) == {0, 1, 2, 3}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 5, 80, 1000, 1300])
@pytest.mark.parametrize("step", [2, 3])
def test_without_space_a_save_is_refused_and_what_was_saved_stays(tmp_path: Path, size: int, step: int) -> None:
    store = two_saved(tmp_path)
    with files_of_at_most(size), pytest.raises(RunError, match="no space left") as caught:
        saved(store, step, State(tensors={"x": torch.zeros(400)}))
    assert f"step-0000000{step}" in str(caught.value)
    assert "The earlier checkpoints are intact" in str(caught.value)
    assert (store.steps(), unfinished(tmp_path)) == ([1, 2], [])
    found = store.newest()
    assert found is not None
    assert is_whole(found, 2)
    saved(store, 3)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_every_checkpoint_that_was_whole(small_disk: Path) -> None:
    folder = small_disk / "checkpoints"
    store = CheckpointStore(folder, keep=1000)
    count = 0
    with pytest.raises(RunError, match="no space left"):
        while True:
            saved(store, count + 1)
            count += 1
    assert count > 3
    assert (store.steps(), unfinished(folder)) == (list(range(1, count + 1)), [])
    found = store.newest()
    assert found is not None
    assert is_whole(found, count)


def test_values_that_would_not_come_back_the_same_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for value in ((1, 2), {1: 2}, {"a": {2}}, torch.tensor(1)):
        with pytest.raises(TypeError):
            saved(store, 1, State(values={"value": value}))  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_the_package_reads_or_writes_pickles() -> None:
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    calls = {("torch", "load"), ("torch", "save")}
    loading = {"np.load", "numpy.load"}  # only with the word that forbids pickles
    for file in Path(assent.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not forbidden & {alias.name.split(".")[0] for alias in node.names}, file
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in forbidden, file
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in calls, file
            if isinstance(node, ast.Call) and ast.unparse(node.func) in loading:
                assert any(f"{word.arg}={ast.unparse(word.value)}" == "allow_pickle=False" for word in node.keywords), (
                    file
                )
