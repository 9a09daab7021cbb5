"""ImportedItem judgement in a store: all or nothing, the same again when repeated, attributed to people of its own."""
# ruff: noqa: F811

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from feedback.aggregated import pairs_of, ratings_of
from feedback.store_fixtures import clock, sqlite_store  # noqa: F401

from assent.errors import DataError, StoreError
from assent.feedback.annotation_source import all_items
from assent.feedback.exchange.export import export
from assent.feedback.exchange.export_rows import ROW_FORMATS, ExportOptions
from assent.feedback.exchange.imported_items import ImportedItem, ImportRow, collect
from assent.feedback.exchange.label_studio import read_label_studio
from assent.feedback.exchange.preference_rows import imported_of
from assent.feedback.exchange.store_import import import_items, mode_for
from assent.feedback.records import ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.types import Comparison, Completion, Conversation, Demonstration, Provenance, Ranking, Rating

PROMPT = Conversation.of_user("Why is the sky blue?")


def project(store: FeedbackStore, imported: tuple[ImportedItem, ...], **more: Any) -> int:
    return store.create_project("p", ProjectSettings(**({"mode": mode_for(imported)} | more))).id


def ranking(text: str, ranks: tuple[int, ...], who: str = "ann") -> Ranking:
    completions = tuple(Completion(text=f"{text} {place}") for place in range(len(ranks)))
    return Ranking(
        prompt=Conversation.of_user(text), completions=completions, ranks=ranks, provenance=Provenance(who=who)
    )


def test_answers_enter_as_events_of_people_nobody_can_sign_in_to(sqlite_store: FeedbackStore) -> None:
    judgements = [ranking(f"q{n}", (n % 3 + 1, 2, 3)) for n in range(120)]
    judgements += [ranking(f"q{n}", (3, 2, 1), "bob") for n in range(60, 120)]
    imported = imported_of(judgements, who="file")
    number = project(sqlite_store, imported)
    entered = import_items(sqlite_store, number, imported)
    assert (entered.added, entered.known, entered.answers, entered.people) == (120, 0, 180, 2)
    answered = sqlite_store.answered_items(number)
    by_prompt = {one.item.new.prompt.last_user_text: one for one in answered}
    for n in (0, 61, 119):
        events = by_prompt[f"q{n}"].events
        wanted = [[n % 3 + 1, 2, 3]] + ([[3, 2, 1]] if n >= 60 else [])
        assert [sorted_dense(event.payload["ranks"]) for event in events] == [sorted_dense(ranks) for ranks in wanted]
    assert len(pairs_of(answered, consensus="votes")) == 180 * 3
    people = {person.name: person for person in sqlite_store.people()}
    assert set(people) == {"imported ann", "imported bob"} and not any(person.active for person in people.values())
    assert sqlite_store.check_password("imported ann", "") is None
    assert all(item.new.priority == 0.0 for item in sqlite_store.items(number))
    assert sqlite_store.verify_chain() == 180


def sorted_dense(ranks: list[int]) -> list[int]:
    return [sorted(set(ranks)).index(rank) + 1 for rank in ranks]


def test_importing_again_changes_nothing_and_finishes_what_was_cut_off(sqlite_store: FeedbackStore) -> None:
    imported = imported_of([ranking(f"q{n}", (1, 2)) for n in range(7)], who="file")
    number = project(sqlite_store, imported)
    without = tuple(ImportedItem(item=one.item, answers=one.answers if n < 3 else ()) for n, one in enumerate(imported))
    assert import_items(sqlite_store, number, without).answers == 3
    again = import_items(sqlite_store, number, imported)
    assert (again.added, again.known, again.answers) == (0, 7, 4)
    assert import_items(sqlite_store, number, imported).answers == 0
    assert len(sqlite_store.events(number)) == 7


_IMPORTING = """
import sys
from assent.feedback.exchange.store_import import import_items
from assent.feedback.store.store import FeedbackStore
from feedback.test_importing_into_a_store import many
import_items(FeedbackStore.open(sys.argv[1]), 1, many())
"""


def many() -> tuple[ImportedItem, ...]:
    """More than can be entered before a kill: 1,500 answers of two people."""
    return imported_of([ranking(f"q{n}", (1, 2), who=f"p{n % 2}") for n in range(1500)], who="file")


@pytest.mark.slow
def test_an_import_killed_anywhere_is_finished_by_running_it_again(tmp_path: Path) -> None:
    path = tmp_path / "answered.db"
    with FeedbackStore.open(str(path)) as store:
        number = project(store, many())
    tests = str(Path(__file__).parents[1])
    for answers in (1, 600, 1100):
        importing = subprocess.Popen(
            [sys.executable, "-c", _IMPORTING, str(path)], env=os.environ | {"PYTHONPATH": tests}
        )
        with FeedbackStore.open(str(path), read_only=True) as watching:
            while watching.progress(number).answers < answers and importing.poll() is None:
                time.sleep(0.01)
        importing.kill()
        assert importing.wait() == -signal.SIGKILL, "it was over before the kill"
    with FeedbackStore.open(str(path)) as store:
        entered = import_items(store, number, many())
        events = store.events(number, limit=10_000)
        assert (entered.added, entered.known, len(events)) == (0, 1500, 1500)
        assert len({event.key for event in events}) == 1500
        assert {item.new.priority for item in all_items(store, number)} == {0.0}
        assert not any(person.active for person in store.people() if person.name.startswith("imported"))
        assert store.verify_chain() == 1500


def test_an_item_that_others_have_filled_gets_room_for_the_imported_answer(sqlite_store: FeedbackStore) -> None:
    number = project(sqlite_store, imported_of([ranking("q", (1, 2))], who="file"))
    for who in ("ann", "bob", "cy"):
        assert import_items(sqlite_store, number, imported_of([ranking("q", (1, 2), who)], who="file")).answers == 1
    assert len(sqlite_store.answered_items(number)[0].events) == 3


@pytest.mark.parametrize(
    ("judgement", "mode", "payload"),
    [
        (ranking("q", (2, 1)), "pairwise", {"strength": 3}),
        (Comparison(prompt=PROMPT, chosen=Completion(text="a"), rejected=Completion(text="b"), probability=2 / 3),
         "pairwise", {"strength": -1}),
        (Comparison(prompt=PROMPT, chosen=Completion(text="a"), rejected=Completion(text="b"), probability=0.5),
         "ranking", {"ranks": [1, 1]}),
        (ranking("q", (7, 3, 7)), "ranking", {"ranks": [2, 1, 2]}),
        (Demonstration(conversation=PROMPT.then("It scatters.")), "demonstration", {"text": "It scatters."}),
    ],
)  # fmt: skip
def test_judgement_is_kept_as_the_mode_of_the_project_has_it(
    judgement: Any,
    mode: str,
    payload: dict,
    sqlite_store: FeedbackStore,
) -> None:
    imported = imported_of([judgement], who="file")
    number = project(sqlite_store, imported, mode=TaskMode(mode))
    import_items(sqlite_store, number, imported)
    (event,) = sqlite_store.events(number)
    assert dict(event.payload) == payload


def test_labels_and_ratings_enter_with_their_own_modes(sqlite_store: FeedbackStore) -> None:
    labels = [
        Rating(prompt=PROMPT, completion=Completion(text=text), score=score) for text, score in (("a", 1), ("b", 0))
    ]
    imported = imported_of(labels, who="file")
    assert mode_for(imported) is TaskMode.GOOD_BAD
    number = project(sqlite_store, imported)
    import_items(sqlite_store, number, imported)
    assert sorted((r.completion.text, r.score) for r in ratings_of(sqlite_store.answered_items(number))) == [
        ("a", 1.0),
        ("b", 0.0),
    ]


def test_what_the_mode_cannot_take_is_refused_before_anything_is_kept(sqlite_store: FeedbackStore) -> None:
    good = [ranking(f"q{n}", (1, 2)) for n in range(2500)]
    number = project(sqlite_store, imported_of(good, who="file"), mode=TaskMode.PAIRWISE)
    with pytest.raises(DataError, match="needs 2 completions, not 3"):
        import_items(sqlite_store, number, imported_of([*good, ranking("last", (1, 2, 3))], who="file"))
    with pytest.raises(DataError, match="needs 2 completions, not 0"):
        shown = Demonstration(conversation=PROMPT.then("x"))
        import_items(sqlite_store, number, imported_of([*good, shown], who="file"))
    assert sqlite_store.items(number) == [] and sqlite_store.people() == []


def test_judgement_can_become_control_items(sqlite_store: FeedbackStore) -> None:
    imported = imported_of([ranking("q", (2, 1))], who="file")
    number = project(sqlite_store, imported)
    assert import_items(sqlite_store, number, imported, as_controls=True).answers == 0
    (item,) = sqlite_store.items(number)
    assert item.new.control_answer == {"ranks": [2, 1]} and sqlite_store.events(number) == []


def test_label_studio_tasks_that_we_wrote_come_back_as_the_same_pairs(
    sqlite_store: FeedbackStore,
    tmp_path: Path,
) -> None:
    imported = imported_of([ranking("q", (1, 2, 3)), ranking("r", (2, 1), "bob")], who="file")
    number = project(sqlite_store, imported)
    import_items(sqlite_store, number, imported)
    export(sqlite_store, number, tmp_path / "tasks.json", ExportOptions(format="label-studio"))
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    back = collect([ImportRow(place="tasks.json", fields=one) for one in tasks], read_label_studio)
    other = sqlite_store.create_project("back", ProjectSettings(mode=TaskMode.PAIRWISE)).id
    assert import_items(sqlite_store, other, back.imported).answers == 4
    wanted = {(p.chosen.text, p.rejected.text, p.probability) for p in pairs_of(sqlite_store.answered_items(number))}
    assert {
        (p.chosen.text, p.rejected.text, p.probability) for p in pairs_of(sqlite_store.answered_items(other))
    } == wanted


def test_every_format_can_be_exported_from_a_real_store(sqlite_store: FeedbackStore, tmp_path: Path) -> None:
    imported = imported_of([ranking("q", (1, 2, 3))], who="file")
    number = project(sqlite_store, imported)
    import_items(sqlite_store, number, imported)
    for name in ROW_FORMATS:
        try:
            assert export(sqlite_store, number, tmp_path / f"{name}.jsonl", ExportOptions(format=name)) > 0
        except StoreError as error:
            assert name in ("ratings", "demonstrations", "corrections", "red-team"), error
