"""One site per test, on a copy of a store that is made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from studio.site import Site, fill, open_site

from assent.feedback.store.store import FeedbackStore


@pytest.fixture(scope="session")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with projects, items and people."""
    path = tmp_path_factory.mktemp("studio") / "studio.db"
    with FeedbackStore.open(str(path)) as store:
        fill(store)
    return path


@pytest.fixture
def site(filled_store: Path, tmp_path: Path) -> Iterator[Site]:
    """A studio of its own."""
    path = tmp_path / "studio.db"
    shutil.copy(filled_store, path)
    with FeedbackStore.open(str(path)) as store:
        yield open_site(store)
