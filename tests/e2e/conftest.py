"""A small home with data and models, made once by the command line itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import TINY_SHAPE, worked


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the world (in `world`), and the runs `base`, `sft` and `reward` of a tiny model."""
    root = tmp_path_factory.mktemp("home")
    sizes = ("demonstrations=24", "rankings=16", "held_out=8")
    worked("world", "--out", root / "world", *(part for size in sizes for part in ("--set", size)))
    world = root / "world"
    worked(
        "pretrain", "--data", world / "demonstrations.jsonl", "--out", root / "base", *TINY_SHAPE,
        "--set", "steps=4", "--set", "batch_size=8",
    )  # fmt: skip
    worked("sft", "--model", root / "base", "--data", world / "demonstrations.jsonl", "--out", root / "sft")
    worked("reward", "--model", root / "sft", "--data", world / "preferences.jsonl", "--out", root / "reward")
    return root


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
