"""Figures that outlive the server: shown at once after a restart, then what is new is counted."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from studio.site import Site, key

from assent.feedback.quality import live_figures
from assent.feedback.records import Answer, EventKind
from assent.studio.figures import FigureKeeper, newest_event
from assent.studio.figures_file import Insight
from assent.studio.overview import overview


@pytest.fixture
def worked(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with ten answers, at which ten are worth a file."""
    monkeypatch.setattr(live_figures, "_WORTH_KEEPING", 10)
    _answer(site, 10)
    return site


def _answer(site: Site, count: int) -> None:
    for number in range(count):
        shown = site.lease(site.annotator)
        payload = {"strength": number % 3 - 1}
        answer = Answer(key=key(), presentation_id=shown.id, kind=EventKind.PAIRWISE, payload=payload)
        site.store.submit(site.annotator.id, answer).result()


def _seen(site: Site, keeper: FigureKeeper) -> Insight:
    until = time.monotonic() + 60
    while (found := keeper.insight(site.project, newest_event(site.store, site.project.id))[0]) is None:
        assert time.monotonic() < until
    return found


def _counted(site: Site, keeper: FigureKeeper, answers: int) -> Insight:
    until = time.monotonic() + 60
    while (found := _seen(site, keeper)).figures.answers != answers:
        assert time.monotonic() < until, "what is new is counted"
        time.sleep(0.01)
    return found


def _files(site: Site) -> tuple[Path, Path]:
    found = tuple(site.store.sibling_path(f"figures-{site.project.id}.{ending}") for ending in ("json", "npz"))
    assert found[0] is not None and found[1] is not None
    return found[0], found[1]


def _changed(path: Path, **changes: object) -> None:
    told = json.loads(path.read_text())
    told["figures"] |= {name: value for name, value in changes.items() if name in told["figures"]}
    path.write_text(json.dumps(told | {name: value for name, value in changes.items() if name in told}))


def test_a_restart_shows_what_was_counted_and_then_counts_what_is_new(worked: Site) -> None:
    first = _seen(worked, FigureKeeper(worked.store))
    figures_file, tally_file = _files(worked)
    assert figures_file.is_file() and tally_file.is_file()
    assert _seen(worked, FigureKeeper(worked.store)) == first
    _changed(figures_file, answers=12_345)
    keeper = FigureKeeper(worked.store)
    assert _seen(worked, keeper).figures.answers == 12_345, "it comes from the file"
    _answer(worked, 1)
    later = _counted(worked, keeper, 11)
    tally_file.unlink()
    figures_file.unlink()
    assert later == _seen(worked, FigureKeeper(worked.store)), "as if everything had been read anew"


def test_figures_of_another_store_or_half_a_file_are_not_used(worked: Site) -> None:
    first = _seen(worked, FigureKeeper(worked.store))
    figures_file, _ = _files(worked)
    whole = figures_file.read_text()
    for changes in ({"sha256": "other"}, {"seq": 9}, {"seq": 99}, {"form": 0}, {"agreement": 3}, {"figures": {}}):
        figures_file.write_text(whole)
        _changed(figures_file, **({"answers": 12_345} | changes))
        assert _seen(worked, FigureKeeper(worked.store)) == first, changes
    figures_file.write_text(whole[: len(whole) // 2])
    assert _seen(worked, FigureKeeper(worked.store)) == first


def test_another_cost_of_an_hour_is_seen_at_once(worked: Site) -> None:
    keeper = FigureKeeper(worked.store)
    assert _seen(worked, keeper).figures.cost is None
    settings = worked.project.settings
    dear = worked.store.update_project(worked.project.id, type(settings)(mode=settings.mode, cost_per_hour=30.0))
    found, fresh = keeper.insight(dear, newest_event(worked.store, dear.id))
    assert fresh and found is not None and found.figures.cost is not None


def test_figures_that_are_old_say_so_and_those_of_no_answers_are_none(site: Site) -> None:
    keeper = FigureKeeper(site.store, clock=lambda: 0.0)  # time stands still: nothing is counted again for a while
    newest = newest_event(site.store, site.project.id)
    assert keeper.insight(site.project, newest)[1]
    _answer(site, 1)
    newest = newest_event(site.store, site.project.id)
    first, fresh = keeper.insight(site.project, newest)
    assert (fresh and first is not None and first.figures.answers == 1) or (first is None and not fresh)
    _counted(site, keeper, 1)
    held = keeper._threads.submit(hold := threading.Event().wait)  # the thread that counts is busy
    _answer(site, 2)
    old, fresh = keeper.insight(site.project, newest_event(site.store, site.project.id))
    assert old is not None and old.figures.answers == 1 and not fresh
    text = overview(site.project, site.store.progress(site.project.id), old, fresh=fresh, hours=[], names={}, now=0.0)[
        "text"
    ]
    assert all(
        "being counted" in text[f"{name}_note"] for name in ("agreement", "control", "repeats", "median", "cost")
    )
    assert "being counted" not in text["answers_note"]
    held.cancel()
    hold.__self__.set()


def test_a_folder_that_takes_no_files_costs_only_the_next_start(worked: Site, caplog: pytest.LogCaptureFixture) -> None:
    for path in _files(worked):
        path.mkdir()  # nothing can be put in its place
    assert _seen(worked, FigureKeeper(worked.store)).figures.answers == 10
    assert "could not be kept" in caplog.text
