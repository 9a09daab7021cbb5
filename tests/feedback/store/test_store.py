"""Projects, items, guidelines and reading, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from feedback.store_fixtures import (
    annotators,
    answer,
    clock,
    items,
    postgres_server,
    ranking_project,
    sqlite_store,
    store,
    store_url,
)

from assent.errors import StoreError
from assent.feedback.records import Answer, EventKind, NewItem, ProjectSettings, TaskMode
from assent.feedback.refusals import Invalid, NotFound, Taken
from assent.feedback.store.store import FeedbackStore
from assent.types import Conversation

__all__ = ["clock", "postgres_server", "sqlite_store", "store", "store_url"]


def test_a_project_is_found_by_id_and_by_name(store: FeedbackStore) -> None:
    settings = ProjectSettings(
        mode=TaskMode.RATING, criteria=("clear", "true"), overlap=3, instructions="Read – twice."
    )
    made = store.create_project("weekly", settings)
    assert made.settings == settings
    assert store.project(made.id) == made == store.project_named("weekly")
    assert store.project_named("Weekly") is None
    with pytest.raises(Taken):
        store.create_project("weekly", settings)
    with pytest.raises(NotFound):
        store.project(made.id + 1)


def test_people_see_the_projects_they_are_members_of(store: FeedbackStore) -> None:
    first, second = ranking_project(store, name="first"), ranking_project(store, name="second")
    (person,) = annotators(store, second, 1)
    assert [project.id for project in store.projects()] == [first, second]
    assert [project.id for project in store.projects(person_id=person)] == [second]
    assert [member.id for member in store.members(second)] == [person]
    store.set_members(second, [])
    assert store.projects(person_id=person) == []


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (ProjectSettings(overlap=0), "settings.overlap"),
        (ProjectSettings(lease_s=0.0), "settings.lease_s"),
        (ProjectSettings(lease_s=float("nan")), "settings.lease_s"),
        (ProjectSettings(control_share=1.5), "settings.control_share"),
        (ProjectSettings(control_share=0.6, repeat_share=0.6), "settings.control_share"),
        (ProjectSettings(criteria_share=-0.1), "settings.criteria_share"),
        (ProjectSettings(cost_per_hour=float("inf")), "settings.cost_per_hour"),
        (ProjectSettings(instructions="a\0b"), "settings.instructions"),
        (ProjectSettings(criteria=("",)), "settings.criteria.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(store: FeedbackStore, settings: ProjectSettings, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        store.create_project("p", settings)
    assert caught.value.where == where
    assert store.projects() == []


def test_adding_items_again_by_key_changes_nothing(store: FeedbackStore) -> None:
    project = ranking_project(store)
    assert store.add_items(project, items(5)) == (5, 0)
    assert store.add_items(project, [*items(7), *items(2)]) == (2, 7)
    without_key = NewItem(prompt=Conversation.of_user("q"), candidates=items(1)[0].candidates)
    assert store.add_items(project, [without_key, without_key]) == (2, 0)
    assert [item.id for item in store.items(project)] == list(range(1, 10))
    assert [item.id for item in store.items(project, after=4, limit=2)] == [5, 6]


def test_an_item_comes_back_as_it_was_given(store: FeedbackStore) -> None:
    project = ranking_project(store, overlap=2)
    text = "right-to-left \u202eabc, emoji 👩‍🔬, tab\t, separator \u2028, zero\u200bwidth"
    given = items(1, sensitive=True, topic="health", serves="policy", batch="7", priority=2.5, overlap=4)[0]
    store.add_items(project, [given, NewItem(prompt=Conversation.of_user(text), candidates=given.candidates)])
    first, second = store.items(project)
    assert first.new == given
    assert first == store.item(first.id)
    assert second.new.prompt.last_user_text == text
    assert second.new.overlap == 2


def test_bad_items_are_refused_whole(store: FeedbackStore) -> None:
    project = ranking_project(store)
    good = items(1)[0]
    bad = [
        (NewItem(prompt=good.prompt, candidates=good.candidates[:1]), "items.1.candidates"),
        (NewItem(prompt=good.prompt, candidates=good.candidates, overlap=0), "items.1.overlap"),
        (NewItem(prompt=good.prompt, candidates=good.candidates, priority=float("nan")), "items.1.priority"),
        (NewItem(prompt=Conversation.of_user("a\0"), candidates=good.candidates), "items.1.prompt.0"),
        (NewItem(prompt=Conversation.of_user("\ud800"), candidates=good.candidates), "items.1.prompt.0"),
        (NewItem(prompt=good.prompt, candidates=good.candidates, control_answer={"ranks": [1, 2]}), "payload.ranks"),
    ]
    for item, where in bad:
        with pytest.raises(Invalid) as caught:
            store.add_items(project, [good, item])
        assert caught.value.where == where
    assert store.items(project) == []


def test_guidelines_have_versions_and_answers_say_which(store: FeedbackStore) -> None:
    project = ranking_project(store, count=2)
    (person,) = annotators(store, project, 1)
    assert store.guideline(project) is None
    store.submit(person, answer(store.lease(project, person)[0])).result()
    store.add_guideline(project, "Be kind.", "Ada")
    second = store.add_guideline(project, "Be kind and brief.", "Ada")
    assert store.guideline(project) == second
    assert store.guideline(project, 1).text == "Be kind."
    assert store.guideline(project, 9) is None
    store.submit(person, answer(store.lease(project, person)[0])).result()
    assert [event.guideline_version for event in store.events(project)] == [0, 2]


def test_the_queue_goes_by_priority_and_then_by_age(store: FeedbackStore) -> None:
    project = ranking_project(store, count=6)
    (person,) = annotators(store, project, 1)
    store.set_priorities(project, {4: 2.0, 2: 1.0, 6: 2.0})
    assert [shown.item.id for shown in store.lease(project, person, count=6)] == [4, 6, 2, 1, 3, 5]


def test_overlap_can_grow_for_one_item_and_for_the_project(store: FeedbackStore) -> None:
    project = ranking_project(store, count=2)
    people = annotators(store, project, 3)
    for _ in range(2):
        store.submit(people[0], answer(store.lease(project, people[0])[0])).result()
    assert store.progress(project).finished == 2
    assert store.lease(project, people[1]) == []
    store.set_priorities(project, {}, overlap={2: 3})
    assert (store.progress(project).finished, store.progress(project).labels_wanted) == (1, 4)
    assert [shown.item.id for shown in store.lease(project, people[1], count=9)] == [2]
    store.update_project(project, ProjectSettings(overlap=2))
    assert (store.progress(project).finished, store.progress(project).labels_wanted) == (0, 5)
    assert [shown.item.id for shown in store.lease(project, people[2], count=9)] == [1, 2]


def test_priorities_of_other_projects_items_are_refused(store: FeedbackStore) -> None:
    mine, other = ranking_project(store, count=1, name="mine"), ranking_project(store, count=1, name="other")
    with pytest.raises(NotFound):
        store.set_priorities(mine, {1: 5.0, 2: 1.0})
    with pytest.raises(NotFound):
        store.withdraw_items(mine, [2])
    assert store.item(1).new.priority == 0.0
    assert store.progress(other).items == 1


def test_withdrawn_items_are_not_asked_but_an_open_one_may_be_answered(store: FeedbackStore) -> None:
    project = ranking_project(store, count=3)
    people = annotators(store, project, 2)
    shown = store.lease(project, people[0])[0]
    store.withdraw_items(project, [1, 2])
    assert [p.item.id for p in store.lease(project, people[1], count=9)] == [3]
    event = store.submit(people[0], answer(shown)).result()
    store.undo(people[0], event.seq, "undo").result()
    assert store.lease(project, people[0], count=9) == []
    assert store.progress(project).items == 1
    assert store.item(1).withdrawn


def test_an_archived_project_asks_nobody(store: FeedbackStore) -> None:
    project = ranking_project(store, count=1)
    (person,) = annotators(store, project, 1)
    assert store.archive_project(project).archived
    assert store.lease(project, person) == []
    store.archive_project(project, False)
    assert len(store.lease(project, person)) == 1


def test_judged_pages_hold_every_standing_answer_once(store: FeedbackStore) -> None:
    project = ranking_project(store, count=7, overlap=2)
    for person in annotators(store, project, 2):
        for shown in store.lease(project, person, count=7):
            store.submit(person, answer(shown)).result()
    store.undo(2, 9, "undo").result()
    pages, after = [], 0
    while page := store.answered_items(project, after_item=after, limit=3):
        pages.append([answered.item.id for answered in page])
        after = page[-1].item.id
    assert pages == [[1, 2, 3], [4, 5, 6], [7]]
    everything = store.answered_items(project)
    assert [len(answered.events) for answered in everything] == [2, 1, 2, 2, 2, 2, 2]
    assert all(event.item_id == answered.item.id for answered in everything for event in answered.events)


def test_events_page_by_project_and_person_in_both_directions(store: FeedbackStore) -> None:
    first, second = (ranking_project(store, count=3, name=name) for name in ("first", "second"))
    people = annotators(store, first, 2)
    store.set_members(second, people)
    for person, project in ((people[0], first), (people[1], first), (people[0], second)):
        store.submit(person, answer(store.lease(project, person)[0])).result()
    assert [event.seq for event in store.events()] == [1, 2, 3]
    assert [event.seq for event in store.events(first)] == [1, 2]
    assert [event.seq for event in store.events(person_id=people[0], after=1)] == [3]
    assert [event.seq for event in store.events(first, person_id=people[1])] == [2]
    assert [event.seq for event in store.events(newest_first=True, limit=2)] == [3, 2]


def test_progress_counts_what_stands(store: FeedbackStore) -> None:
    project = ranking_project(store, count=4, overlap=2)
    people = annotators(store, project, 2)
    shown = store.lease(project, people[0], count=4)
    store.submit(people[0], answer(shown[0], time_taken_ms=1000)).result()
    store.submit(people[0], answer(shown[1], time_taken_ms=3000)).result()
    skip = Answer(key="skip", presentation_id=shown[2].id, kind=EventKind.SKIP, payload={"reason": "unclear"})
    event = store.submit(people[0], skip).result()
    progress = store.progress(project)
    assert (progress.items, progress.answers, progress.skipped, progress.leased) == (4, 2, 1, 1)
    assert (progress.labels_wanted, progress.labels_given, progress.finished) == (8, 3, 0)
    assert progress.by_person[people[0]].median_ms == 1000.0
    store.undo(people[0], event.seq, "undo").result()
    after = store.progress(project)
    assert (after.skipped, after.labels_given, after.leased) == (0, 2, 2)
    assert after.by_person[people[0]].median_ms == 2000.0
    assert after.by_person[people[0]].per_hour == pytest.approx(1800.0)


def test_a_copy_made_while_others_write_is_whole(sqlite_store: FeedbackStore, tmp_path: Path) -> None:
    project = ranking_project(sqlite_store, count=300)
    (person,) = annotators(sqlite_store, project, 1)
    waiting = []
    for round_number in range(6):
        waiting += [sqlite_store.submit(person, answer(p)) for p in sqlite_store.lease(project, person, count=50)]
        copy = tmp_path / f"copy-{round_number}.db"
        sqlite_store.backup(copy)
        with FeedbackStore.open(str(copy), read_only=True) as opened:
            assert opened.verify_chain() == opened.progress(project).answers
        waiting = [future for future in waiting if not future.result().seq]
    with pytest.raises(StoreError, match="exists"):
        sqlite_store.backup(tmp_path / "copy-0.db")


def test_a_second_writer_is_refused_and_a_reader_is_not(sqlite_store: FeedbackStore, tmp_path: Path) -> None:
    project = ranking_project(sqlite_store, count=1)
    path = str(tmp_path / "feedback.db")
    with pytest.raises(StoreError, match=r"another process .* only one may"):
        FeedbackStore.open(path)
    with FeedbackStore.open(path, read_only=True) as reader:
        assert reader.project(project).name == "answers"
        with pytest.raises(StoreError, match="reading only"):
            reader.create_project("x", ProjectSettings())


def test_urls_that_are_no_store_are_refused_without_their_password(tmp_path: Path) -> None:
    for url in ("mysql://me:secret@host/db", "sqlite://", "sqlite:///:memory:", "postgresql://me:secret@host:port/db"):
        with pytest.raises(StoreError) as caught:
            FeedbackStore.open(url)
        assert "secret" not in str(caught.value)
    (tmp_path / "text").write_text("no database at all, only text " * 100)
    with pytest.raises(StoreError, match="not a database"):
        FeedbackStore.open(str(tmp_path / "text"))
    with pytest.raises(StoreError):
        FeedbackStore.open(str(tmp_path / "missing.db"), read_only=True)
    assert not (tmp_path / "missing.db").exists()


def test_a_closed_store_refuses_and_what_waited_was_written(tmp_path: Path) -> None:
    store = FeedbackStore.open(str(tmp_path / "a.db"))
    project = ranking_project(store, count=50)
    (person,) = annotators(store, project, 1)
    futures = [store.submit(person, answer(shown)) for shown in store.lease(project, person, count=50)]
    store.close()
    assert sorted(future.result().seq for future in futures) == list(range(1, 51))
    with pytest.raises(StoreError, match="closed"):
        store.create_project("late", ProjectSettings())
