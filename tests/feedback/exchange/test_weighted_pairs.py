"""Pairs weighed by reliability: nearer to the truth than plain shares, in rows that training reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assent.data.load import load_comparisons
from assent.errors import StoreError
from assent.feedback.exchange.export import export
from assent.feedback.exchange.export_rows import ExportOptions
from assent.feedback.exchange.weighted_pairs import export_weighted
from assent.feedback.records import Answer, Candidate, EventKind, NewItem, PersonRole, ProjectSettings, TaskMode
from assent.feedback.store.store import FeedbackStore
from assent.types import Conversation

ITEMS = 60
RIGHT = {"ann": 0.9, "ben": 0.85, "cas": 0.5, "dan": 0.1}  # how often each says the truth


@pytest.fixture
def answered(tmp_path: Path) -> tuple[FeedbackStore, int]:
    """Four people on sixty pairs, of which the first completion is the better one."""
    store = FeedbackStore.open(str(tmp_path / "answered.db"))
    project = store.create_project("pairs", ProjectSettings(mode=TaskMode.PAIRWISE, overlap=len(RIGHT)))
    items = [
        NewItem(
            prompt=Conversation.of_user(f"question {n}"), candidates=(Candidate(text="good"), Candidate(text="bad")),
            key=f"item {n}",
        )
        for n in range(ITEMS)
    ]  # fmt: skip
    store.add_items(project.id, items)
    rng = np.random.default_rng(5)
    for name, right in RIGHT.items():
        person = store.create_person(name, PersonRole.ANNOTATOR, None)
        store.set_members(project.id, [*(one.id for one in store.members(project.id)), person.id])
        while shown := store.lease(project.id, person.id, count=5):
            for one in shown:
                first_is_good = one.shown[0].text == "good"
                says_first = first_is_good == (rng.random() < right)
                payload = {"strength": -3 if says_first else 3}
                answer = Answer(key=f"key-{one.id}", presentation_id=one.id, kind=EventKind.PAIRWISE, payload=payload)
                store.submit(person.id, answer).result()
    return store, project.id


def _share_right(path: Path) -> float:
    pairs = load_comparisons(path).examples
    assert len(pairs) == ITEMS
    return (
        sum(0.5 if p.probability == 0.5 else (p.chosen.text == "good") == (p.probability > 0.5) for p in pairs) / ITEMS
    )


def test_weighed_labels_are_nearer_to_the_truth_than_shares_and_people_are_told_apart(
    answered: tuple[FeedbackStore, int], tmp_path: Path
):
    store, project = answered
    found = export_weighted(store, project, tmp_path / "weighed.jsonl")
    export(store, project, tmp_path / "shares.jsonl", ExportOptions(format="pairs"))
    assert found.pairs == ITEMS
    assert _share_right(tmp_path / "weighed.jsonl") > _share_right(tmp_path / "shares.jsonl") + 0.03
    names = {person.id: person.name for person in store.people()}
    accuracy = {names[one.person_id]: one.accuracy for one in found.people}
    assert accuracy["ann"] > 0.75 and accuracy["dan"] < 0.25 and 0.3 < accuracy["cas"] < 0.7
    assert all(one.low <= one.accuracy <= one.high for one in found.people)
    store.close()


def test_nothing_compared_is_said(tmp_path: Path):
    with FeedbackStore.open(str(tmp_path / "empty.db")) as store:
        project = store.create_project("empty", ProjectSettings())
        with pytest.raises(StoreError, match="nobody has compared"):
            export_weighted(store, project.id, tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()
