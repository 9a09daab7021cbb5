"""Accounts, sign-ins and invitations, on both databases."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from feedback.postgres import Server
from feedback.store_fixtures import (
    Clock,
    annotators,
    clock,
    postgres_server,
    ranking_project,
    sqlite_store,
    store,
    store_url,
)

from assent.errors import StoreError
from assent.feedback.records import PersonRole
from assent.feedback.refusals import Invalid, NotFound, Taken
from assent.feedback.store.store import FeedbackStore

__all__ = ["clock", "postgres_server", "sqlite_store", "store", "store_url"]


def test_a_password_opens_its_own_account_only(store: FeedbackStore) -> None:
    ada = store.create_person("Ada", PersonRole.ADMIN, "correct horse")
    store.create_person("Bob", PersonRole.ANNOTATOR, "battery staple")
    silent = store.create_person("Cyd", PersonRole.VIEWER, None)
    assert store.check_password("ada", "correct horse") == ada
    assert store.check_password("ADA ", "correct horse") == ada
    for name, password in (("Ada", "battery staple"), ("Ada", ""), ("Cyd", ""), ("Eve", "x"), ("\ud800\0", "x")):
        assert store.check_password(name, password) is None
    store.set_password(silent.id, "new one")
    assert store.check_password("cyd", "new one") == silent
    store.create_person("Dot", PersonRole.ADMIN, "staple horse")
    store.update_person(ada.id, active=False)
    assert store.check_password("Ada", "correct horse") is None


@pytest.mark.parametrize("same", ["ada", "ADA", " Ada ", "\uff21da"])
def test_names_that_look_alike_are_one_name(store: FeedbackStore, same: str) -> None:
    store.create_person("Ada", PersonRole.ANNOTATOR, None)
    with pytest.raises(Taken):
        store.create_person(same, PersonRole.ANNOTATOR, None)
    assert store.person_named(same).name == "Ada"


@pytest.mark.parametrize("double", ["\u0430nn", "a\u0578\u0578", "\u0410NN", " \uff41\uff4e\uff4e", "\u0251nn", "ann "])
def test_nobody_joins_as_a_double_of_somebody(store: FeedbackStore, double: str) -> None:
    store.create_person("Ann", PersonRole.ANNOTATOR, None)
    token = store.invite(PersonRole.ANNOTATOR, ())
    with pytest.raises(Taken) as caught:
        store.accept_invitation(token, double, "a long password")
    assert caught.value.where == "name"
    assert store.accept_invitation(token, "Anna", "a long password").name == "Anna"


@pytest.mark.parametrize(
    "hidden", ["\u200b", "\u202e", "\u2066", "\u00ad", "\ufeff", "\u200d", "\u3164", "\ufe0f", "\U000e0041", "\n"]
)
@pytest.mark.parametrize("place", [1, 2])
def test_nobody_joins_under_a_name_with_what_cannot_be_seen(
    sqlite_store: FeedbackStore, hidden: str, place: int
) -> None:
    name = "Bob"[:place] + hidden + "Bob"[place:]
    with pytest.raises(Invalid, match=f"U\\+{ord(hidden):04X}"):
        sqlite_store.create_person(name, PersonRole.ANNOTATOR, "a long password")
    assert sqlite_store.people() == []


@pytest.mark.parametrize("leave", [{"role": PersonRole.ANNOTATOR}, {"role": PersonRole.VIEWER}, {"active": False}])
def test_two_admins_who_end_each_other_at_once_leave_one(store: FeedbackStore, leave: dict[str, object]) -> None:
    for attempt in range(10):
        pair = [store.create_person(f"admin {attempt} {side}", PersonRole.ADMIN, None) for side in "ab"]
        for other in store.people()[:-2]:
            if other.active and other.role is PersonRole.ADMIN:
                store.update_person(other.id, active=False)
        together = threading.Barrier(2)
        refused: list[Taken] = []

        def end(person_id: int, together: threading.Barrier = together, refused: list[Taken] = refused) -> None:
            together.wait()
            try:
                store.update_person(person_id, **leave)  # type: ignore[arg-type]
            except Taken as error:
                refused.append(error)

        threads = [threading.Thread(target=end, args=(person.id,)) for person in reversed(pair)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1 and "last admin" in refused[0].what
        left = [one for one in store.people() if one.active and one.role is PersonRole.ADMIN]
        assert len(left) == 1


def test_two_processes_on_one_database_leave_an_admin_too(postgres_server: Server) -> None:
    url = postgres_server.fresh_schema("two_admins")
    with FeedbackStore.open(url) as one, FeedbackStore.open(url) as other:
        pair = [one.create_person(name, PersonRole.ADMIN, None).id for name in ("ada", "bob")]
        for _ in range(10):
            together, refused = threading.Barrier(2), []

            def end(
                store: FeedbackStore,
                person_id: int,
                together: threading.Barrier = together,
                refused: list[int] = refused,
            ) -> None:
                together.wait()
                try:
                    store.update_person(person_id, role=PersonRole.VIEWER)
                except Taken:
                    refused.append(person_id)

            threads = [threading.Thread(target=end, args=sides) for sides in zip((one, other), pair, strict=True)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(refused) == 1
            for person_id in pair:
                one.update_person(person_id, role=PersonRole.ADMIN)


def test_an_admin_who_cannot_sign_in_is_no_last_admin(store: FeedbackStore) -> None:
    ada = store.create_person("Ada", PersonRole.ADMIN, "a long password")
    imported = store.create_person("imported bob", PersonRole.ANNOTATOR, None)
    store.update_person(imported.id, role=PersonRole.ADMIN)
    with pytest.raises(Taken, match="last admin"):
        store.update_person(ada.id, role=PersonRole.VIEWER)
    assert store.can_be_run()
    store.set_password(imported.id, "another long one")
    store.update_person(ada.id, role=PersonRole.VIEWER)
    assert store.can_be_run()


@pytest.mark.parametrize("name", ["", "   ", "a\0b", "\ud800", "x" * 101])
def test_names_that_cannot_be_kept_are_refused(store: FeedbackStore, name: str) -> None:
    with pytest.raises(Invalid):
        store.create_person(name, PersonRole.ANNOTATOR, None)
    assert store.people() == []


def test_only_hashes_of_passwords_and_tokens_are_in_the_file(sqlite_store: FeedbackStore, tmp_path: Path) -> None:
    ada = sqlite_store.create_person("Ada", PersonRole.ADMIN, "correct horse")
    token = sqlite_store.sign_in(ada.id, lifetime_s=60).token
    invitation = sqlite_store.invite(PersonRole.ANNOTATOR, [])
    sqlite_store.backup(tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        everything = "\n".join(connection.iterdump())
    assert "$argon2id$" in everything
    for secret in ("correct horse", token, invitation):
        assert secret not in everything


def test_a_sign_in_ends_by_time_by_leaving_and_with_the_account(store: FeedbackStore, clock: Clock) -> None:
    ada = store.create_person("Ada", PersonRole.ANNOTATOR, None)
    first, second = (store.sign_in(ada.id, lifetime_s=60) for _ in range(2))
    assert first.token != second.token
    assert first.csrf != second.csrf
    assert store.sign_in_of(first.token) == first
    assert store.sign_in_of("") is store.sign_in_of("\ud800") is None
    store.sign_out(first.token)
    assert store.sign_in_of(first.token) is None
    clock.now += 59
    assert store.sign_in_of(second.token) == second
    clock.now += 1
    assert store.sign_in_of(second.token) is None
    third = store.sign_in(ada.id, lifetime_s=60)
    store.update_person(ada.id, active=False)
    assert store.sign_in_of(third.token) is None
    with pytest.raises(NotFound):
        store.sign_in(ada.id, lifetime_s=60)
    store.update_person(ada.id, active=True)
    assert store.sign_in_of(third.token) is None


def test_a_new_password_ends_every_sign_in(store: FeedbackStore) -> None:
    ada = store.create_person("Ada", PersonRole.ADMIN, None)
    signed_in = store.sign_in(ada.id, lifetime_s=60)
    store.set_password(ada.id, "another")
    assert store.sign_in_of(signed_in.token) is None


def test_an_invitation_makes_one_account_in_its_projects(store: FeedbackStore, clock: Clock) -> None:
    projects = [ranking_project(store, name=name) for name in ("one", "two")]
    token = store.invite(PersonRole.ANNOTATOR, projects, lifetime_s=100)
    assert store.invitation(token).project_ids == tuple(projects)
    store.create_person("Bob", PersonRole.ANNOTATOR, None)
    with pytest.raises(Taken):
        store.accept_invitation(token, "bob", "password")
    bea = store.accept_invitation(token, "Bea", "password")
    assert bea.role is PersonRole.ANNOTATOR
    assert [project.id for project in store.projects(person_id=bea.id)] == projects
    assert store.invitation(token) is None
    with pytest.raises(NotFound):
        store.accept_invitation(token, "Cyd", "password")
    late = store.invite(PersonRole.ADMIN, [], lifetime_s=100)
    clock.now += 100
    with pytest.raises(NotFound):
        store.accept_invitation(late, "Cyd", "password")
    with pytest.raises(NotFound):
        store.invite(PersonRole.ANNOTATOR, [99])


def test_one_invitation_used_by_many_at_once_makes_one_account(store: FeedbackStore) -> None:
    token = store.invite(PersonRole.ANNOTATOR, [])
    outcomes: list[str] = []

    def accept(name: str) -> None:
        try:
            outcomes.append(store.accept_invitation(token, name, "password").name)
        except StoreError:
            outcomes.append("refused")

    threads = [threading.Thread(target=accept, args=(f"name {n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[1:] == ["refused"] * 4
    assert len(store.people()) == 1


def test_people_change_and_unknown_people_are_refused(store: FeedbackStore) -> None:
    project = ranking_project(store)
    (person,) = annotators(store, project, 1)
    changed = store.update_person(person, role=PersonRole.VIEWER, topics_declined=("a", "b", "a"))
    assert (changed.role, changed.topics_declined) == (PersonRole.VIEWER, ("a", "b"))
    assert store.person(person) == changed
    assert store.update_person(person) == changed
    for refused in (
        lambda: store.person(99),
        lambda: store.set_members(project, [99]),
        lambda: store.set_password(9, "p"),
    ):
        with pytest.raises(NotFound):
            refused()
    assert [member.id for member in store.members(project)] == [person]
