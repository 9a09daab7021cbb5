"""Which answers become battles, and in whose favour."""

from __future__ import annotations

from typing import Any

import pytest

from assent.feedback.quality.arena_ratings import Battle
from assent.feedback.records import AnsweredItem, Candidate, Event, EventKind, Item, NewItem
from assent.studio.arena import battles_of
from assent.types import Conversation


def judged(
    kind: EventKind, payload: dict[str, Any], *, order: tuple[int, ...] = (), models: str = "abc"
) -> AnsweredItem:
    """One answer to one item whose completions come from the models in `models` (a space: not named)."""
    candidates = tuple(Candidate(text=f"text {i}", model=name.strip()) for i, name in enumerate(models))
    item = Item(
        id=7, project_id=1, new=NewItem(prompt=Conversation.of_user("?"), candidates=candidates), created_at=0.0
    )
    event = Event(
        seq=1, key="k", kind=kind, project_id=1, item_id=7, person_id=3, payload=payload,
        order=order or tuple(range(len(models))), repeat=False, time_taken_ms=5, guideline_version=0, created_at=0.0,
    )  # fmt: skip
    return AnsweredItem(item=item, events=(event,))


def told(battles: list[Battle]) -> set[tuple[str, str, str]]:
    return {(one.first, one.second, one.won) for one in battles}


def test_a_ranking_is_one_battle_for_every_pair_in_the_order_shown() -> None:
    battles = list(battles_of(judged(EventKind.RANKING, {"ranks": [2, 1, 2]}, order=(2, 0, 1))))
    assert told(battles) == {("c", "a", "tie"), ("c", "b", "second"), ("a", "b", "second")}
    assert {one.group for one in battles} == {(1, 7)}


@pytest.mark.parametrize(("strength", "won"), [(-3, "first"), (0, "tie"), (1, "second")])
def test_a_pair_goes_to_the_stronger(strength: int, won: str) -> None:
    assert told(list(battles_of(judged(EventKind.PAIRWISE, {"strength": strength}, models="ab")))) == {("a", "b", won)}


def test_completions_of_one_model_or_of_none_fight_no_battle() -> None:
    assert told(list(battles_of(judged(EventKind.RANKING, {"ranks": [1, 2, 3]}, models="a a")))) == set()
    assert told(list(battles_of(judged(EventKind.RANKING, {"ranks": [1, 2, 3]}, models="ab ")))) == {
        ("a", "b", "first")
    }


@pytest.mark.parametrize(("choice", "won"), [("a", "first"), ("b", "second"), ("tie", "tie"), ("both_bad", "tie")])
def test_a_chat_turn_is_a_battle(choice: str, won: str) -> None:
    found = list(battles_of(judged(EventKind.CHAT_TURN, {"choice": choice, "models": ["x", "y"]}, models="")))
    assert told(found) == {("x", "y", won)}
    assert found[0].group == (1, 7, 3)


@pytest.mark.parametrize(
    "payload", [{"choice": None, "models": ["x", None]}, {"choice": "a"}, {"choice": "a", "models": ["x", "x"]}]
)
def test_a_turn_with_one_model_is_none(payload: dict[str, Any]) -> None:
    assert list(battles_of(judged(EventKind.CHAT_TURN, payload, models=""))) == []


@pytest.mark.parametrize("kind", [EventKind.SKIP, EventKind.FLAG])
def test_no_judgement_is_no_battle(kind: EventKind) -> None:
    assert list(battles_of(judged(kind, {"reason": "unclear", "flag": "broken"}))) == []
