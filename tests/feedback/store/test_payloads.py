"""What may be answered, kind by kind: every good payload turned round, every bad one named by its field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.feedback.records import EventKind, ProjectSettings, TaskMode
from assent.feedback.refusals import Invalid
from assent.feedback.store.payloads import canonical, dense, turned

ORDER = (2, 0, 1)  # slot 0 shows the completion with canonical position 2
MODES = {
    EventKind.RANKING: TaskMode.RANKING,
    EventKind.PAIRWISE: TaskMode.PAIRWISE,
    EventKind.RATING: TaskMode.RATING,
    EventKind.GOOD_BAD: TaskMode.GOOD_BAD,
    EventKind.CORRECTION: TaskMode.RANKING,
    EventKind.DEMONSTRATION: TaskMode.DEMONSTRATION,
    EventKind.CHAT_TURN: TaskMode.CHAT,
    EventKind.RED_TEAM: TaskMode.RED_TEAM,
    EventKind.FLAG: TaskMode.RANKING,
    EventKind.SKIP: TaskMode.RANKING,
}
TALK = [{"role": "user", "content": "hello"}]


def check(kind: EventKind, payload: Any) -> dict[str, Any]:
    order = (1, 0) if kind is EventKind.PAIRWISE else ORDER
    return canonical(kind, payload, order, ProjectSettings(mode=MODES[kind]))


@pytest.mark.parametrize(
    ("kind", "payload", "kept"),
    [
        ("ranking", {"ranks": [1, 2, 3]}, {"ranks": [2, 3, 1]}),
        ("ranking", {"ranks": [1, 1, 3]}, {"ranks": [1, 2, 1]}),
        ("ranking", {"ranks": [3, 3, 3], "criteria": {}}, {"ranks": [1, 1, 1]}),
        (
            "ranking",
            {"ranks": [1, 2, 3], "criteria": {"honest": [2, 1, 2]}},
            {"ranks": [2, 3, 1], "criteria": {"honest": [1, 2, 2]}},
        ),
        ("pairwise", {"strength": -3}, {"strength": 3}),
        ("pairwise", {"strength": 0}, {"strength": 0}),
        ("pairwise", {"strength": 1, "criteria": {"helpful": -2}}, {"strength": -1, "criteria": {"helpful": 2}}),
        ("rating", {"ratings": {"helpful": [1, 7, 4]}}, {"ratings": {"helpful": [7, 4, 1]}}),
        (
            "good_bad",
            {"good": [True, False, None], "reasons": ["a", "b", "c"]},
            {"good": [False, None, True], "reasons": ["b", "c", "a"]},
        ),
        ("good_bad", {"good": [True, None, None]}, {"good": [None, None, True], "reasons": ["", "", ""]}),
        ("correction", {"slot": 0, "text": "new"}, {"slot": 2, "text": "new"}),
        (
            "correction",
            {"slot": 1, "text": "new", "ranks": [1, 2, 3]},
            {"slot": 0, "text": "new", "ranks": [2, 3, 1]},
        ),
        ("demonstration", {"text": "an answer"}, {"text": "an answer"}),
        (
            "chat_turn",
            {"conversation": TALK, "a": "x", "b": "y", "choice": "both_bad"},
            {"conversation": TALK, "a": "x", "b": "y", "choice": "both_bad"},
        ),
        (
            "chat_turn",
            {"conversation": TALK, "a": "x", "b": None, "models": ["m", None]},
            {"conversation": TALK, "a": "x", "b": None, "choice": None, "models": ["m", None]},
        ),
        ("red_team", {"conversation": TALK, "reached": 10}, {"conversation": TALK, "reached": 10, "note": ""}),
        ("flag", {"flag": "harmful", "slot": 2}, {"flag": "harmful", "slot": 1, "note": ""}),
        ("flag", {"flag": "broken", "slot": None, "note": "n"}, {"flag": "broken", "slot": None, "note": "n"}),
        ("skip", {"reason": "unclear"}, {"reason": "unclear", "note": ""}),
    ],
)
def test_good_payloads_are_kept_in_canonical_order(kind: str, payload: dict[str, Any], kept: dict[str, Any]) -> None:
    assert check(EventKind(kind), payload) == kept


@pytest.mark.parametrize(
    ("kind", "payload", "where"),
    [
        ("ranking", {}, "payload.ranks"),
        ("ranking", [], "payload"),
        ("ranking", {"ranks": None}, "payload.ranks"),
        ("ranking", {"ranks": [1, 2]}, "payload.ranks"),
        ("ranking", {"ranks": [1, 2, 3, 4]}, "payload.ranks"),
        ("ranking", {"ranks": "123"}, "payload.ranks"),
        ("ranking", {"ranks": [0, 1, 2]}, "payload.ranks.0"),
        ("ranking", {"ranks": [1, 2, 4]}, "payload.ranks.2"),
        ("ranking", {"ranks": [1, True, 2]}, "payload.ranks.1"),
        ("ranking", {"ranks": [1, 1.5, 2]}, "payload.ranks.1"),
        ("ranking", {"ranks": [1, float("nan"), 2]}, "payload.ranks.1"),
        ("ranking", {"ranks": [1, {}, 2]}, "payload.ranks.1"),
        ("ranking", {"ranks": [1, 2, 3], "extra": 1}, "payload.extra"),
        ("ranking", {"ranks": [1, 2, 3], "criteria": {"charm": [1, 2, 3]}}, "payload.criteria"),
        ("ranking", {"ranks": [1, 2, 3], "criteria": [1]}, "payload.criteria"),
        ("ranking", {"ranks": [1, 2, 3], "criteria": {"honest": [1, 2]}}, "payload.criteria.honest"),
        ("pairwise", {"strength": 4}, "payload.strength"),
        ("pairwise", {"strength": -4}, "payload.strength"),
        ("pairwise", {"strength": 10**400}, "payload.strength"),
        ("pairwise", {"strength": "1"}, "payload.strength"),
        ("pairwise", {"strength": 1, "criteria": {"helpful": 9}}, "payload.criteria.helpful"),
        ("rating", {"ratings": {}}, "payload.ratings"),
        ("rating", {"ratings": {"helpful": [0, 1, 1]}}, "payload.ratings.helpful.0"),
        ("rating", {"ratings": {"helpful": [1, 8, 1]}}, "payload.ratings.helpful.1"),
        ("rating", {"ratings": {"helpful": [1, 1]}}, "payload.ratings.helpful"),
        ("good_bad", {"good": [None, None, None]}, "payload.good"),
        ("good_bad", {"good": [1, 0, None]}, "payload.good.0"),
        ("good_bad", {"good": [True, True, True], "reasons": ["x"]}, "payload.reasons"),
        ("good_bad", {"good": [True, True, True], "reasons": ["x", 1, ""]}, "payload.reasons.1"),
        ("correction", {"slot": 3, "text": "x"}, "payload.slot"),
        ("correction", {"slot": -1, "text": "x"}, "payload.slot"),
        ("correction", {"slot": 0}, "payload.text"),
        ("correction", {"slot": 0, "text": ""}, "payload.text"),
        ("correction", {"slot": 0, "text": "x", "ranks": [1]}, "payload.ranks"),
        ("demonstration", {"text": ""}, "payload.text"),
        ("demonstration", {"text": "x" * 200_001}, "payload.text"),
        ("demonstration", {"text": "a\0"}, "payload.text"),
        ("demonstration", {"text": "\ud800"}, "payload.text"),
        ("chat_turn", {"conversation": [], "a": "x", "b": "y", "choice": "a"}, "payload.conversation"),
        ("chat_turn", {"conversation": TALK, "a": "x", "b": "y"}, "payload.choice"),
        ("chat_turn", {"conversation": TALK, "a": "x", "b": "y", "choice": "c"}, "payload.choice"),
        ("chat_turn", {"conversation": TALK, "a": "x", "b": "y", "choice": []}, "payload.choice"),
        (
            "chat_turn",
            {"conversation": [{"role": "robot", "content": ""}], "a": "x", "b": None},
            "payload.conversation.0.role",
        ),
        ("chat_turn", {"conversation": [{"role": "user"}], "a": "x", "b": None}, "payload.conversation.0"),
        ("chat_turn", {"conversation": ["hi"], "a": "x", "b": None}, "payload.conversation.0"),
        ("red_team", {"conversation": TALK, "reached": 11}, "payload.reached"),
        ("red_team", {"conversation": TALK}, "payload.reached"),
        ("red_team", {"conversation": TALK, "reached": 1, "sampling": {"t": 10**400}}, "payload.sampling.t"),
        ("red_team", {"conversation": TALK, "reached": 1, "sampling": {"t": float("inf")}}, "payload.sampling.t"),
        ("flag", {"flag": "boring"}, "payload.flag"),
        ("flag", {"flag": "harmful", "slot": 3}, "payload.slot"),
        ("flag", {"flag": "harmful", "note": "x" * 10_001}, "payload.note"),
        ("skip", {"reason": ""}, "payload.reason"),
        ("skip", {"reason": {"a": 1}}, "payload.reason"),
        ("skip", {"reason": "other", "note": None}, "payload.note"),
        ("skip", {"reason": "other", "\ud800": None}, "payload.'\\ud800'"),
    ],
)
def test_bad_payloads_are_refused_with_the_path_of_the_field(kind: str, payload: Any, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(EventKind(kind), payload)
    assert caught.value.where == where
    str(caught.value).encode()


@pytest.mark.parametrize("kind", ["pairwise", "chat_turn", "undo"])
def test_kinds_that_the_mode_does_not_ask_for_are_refused(kind: str) -> None:
    with pytest.raises(Invalid) as caught:
        canonical(EventKind(kind), {}, ORDER, ProjectSettings(mode=TaskMode.RANKING))
    assert caught.value.where == "kind"


@given(st.permutations(range(6)), st.lists(st.integers(1, 6), min_size=6, max_size=6))
def test_whatever_the_order_shown_the_same_judgement_is_kept(order: list[int], ranks: list[int]) -> None:
    as_shown = [ranks[position] for position in order]
    settings = ProjectSettings(mode=TaskMode.RANKING)
    assert canonical(EventKind.RANKING, {"ranks": as_shown}, order, settings) == {"ranks": dense(ranks)}
    assert turned(as_shown, order) == ranks


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["ranks", "criteria", "strength", "ratings", "good", "reasons", "slot", "text", "conversation", "a", "b"]
) | st.sampled_from(["choice", "models", "turn", "sampling", "goes_on", "reached", "note", "model", "flag", "reason"])


@given(st.sampled_from(sorted(MODES)), st.dictionaries(FIELDS | st.text(max_size=5), JSON, max_size=6) | JSON)
def test_nothing_that_json_can_say_does_more_than_be_refused(kind: EventKind, payload: Any) -> None:
    try:
        check(kind, payload)
    except Invalid as refusal:
        assert refusal.where
