"""Figures of projects that are kept up to date, and on disk for the next start."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from assent.errors import RunError
from assent.feedback.annotation_source import AnnotationSource
from assent.feedback.quality.statistics import Figures, figures
from assent.feedback.quality.tally import Tally
from assent.feedback.quality.tally_files import load_tally, save_tally

_log = logging.getLogger(__name__)
_WORTH_KEEPING = 2000  # new events after which the tally is written to disk again


class LiveFigures:
    """Figures of projects that are kept up to date: the first look reads all events, later ones what is new.

    `file_of` says where what was read of a project is kept, if anywhere: after a restart a first look then reads only
    what came since.
    """

    def __init__(self, source: AnnotationSource, *, file_of: Callable[[int], Path | None] = lambda _: None) -> None:
        """Nothing is read yet."""
        self._source, self._file_of = source, file_of
        self._tallies: dict[int, Tally] = {}
        self._written: dict[int, int] = {}  # how many events the file holds
        self._lock = threading.Lock()

    def of(self, project_id: int) -> Figures:
        """The project's figures now; StoreError for an unknown project."""
        project = self._source.project(project_id)
        tally = self._tally(project_id)
        tally.refresh()
        self._write(tally)
        return figures(tally, project)

    def head(self, project_id: int) -> tuple[int, str]:
        """The number and the hash of the newest event that was read; (0, "") before the first."""
        tally = self._tally(project_id)
        with tally.lock:
            return tally.last_seq, tally.last_sha256

    def _tally(self, project_id: int) -> Tally:
        with self._lock:
            if project_id not in self._tallies:
                path = self._file_of(project_id)
                kept = load_tally(self._source, project_id, path) if path is not None and path.is_file() else None
                self._tallies[project_id] = kept or Tally(self._source, project_id)
                self._written[project_id] = len(kept.columns.seq) if kept else 0
            return self._tallies[project_id]

    def _write(self, tally: Tally) -> None:
        path, count = self._file_of(tally.project_id), len(tally.columns.seq)
        if path is None or not worth_keeping(count, self._written[tally.project_id]):
            return
        self._written[tally.project_id] = count
        try:
            save_tally(tally, path)
        except (RunError, OSError) as error:  # figures do without: they are read again after a restart
            _log.warning("figures could not be kept for the next start: %s", error)


def worth_keeping(events: int, kept: int) -> bool:
    """Whether so many events, of which `kept` are in a file, are worth a new file: twenty files while it doubles."""
    return events - kept >= max(_WORTH_KEEPING, kept // 20)
