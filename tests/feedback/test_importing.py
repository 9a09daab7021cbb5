"""Imports: what other tools exported becomes items with answers; a bad row is named by its line and field."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from feedback.store_fixtures import Clock, clock, sqlite_store  # noqa: F401
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assent.errors import DataError
from assent.feedback.exchange.argilla import FieldNames, read_argilla
from assent.feedback.exchange.imported_items import ImportedItem, ImportLimits, ImportRow, collect
from assent.feedback.exchange.label_studio import TaskNames, read_label_studio
from assent.feedback.exchange.own_rows import read_own
from assent.feedback.exchange.preference_rows import imported_of
from assent.types import Comparison, Completion, Conversation, Provenance, Ranking, Rating

LIMITS = ImportLimits()
PROMPT = Conversation.of_user("Why is the sky blue?")
READERS = {"own": read_own, "argilla": read_argilla, "label-studio": read_label_studio}


def rows(*fields: dict[str, Any]) -> list[ImportRow]:
    return [ImportRow(place=f"file.jsonl:{number}", fields=one) for number, one in enumerate(fields, start=1)]


def said(imported: ImportedItem) -> list[tuple[str, str, Any]]:
    return [(one.who, str(one.kind), next(iter(one.payload.values()))) for one in imported.answers]


def texts(imported: ImportedItem) -> list[str]:
    return [candidate.text for candidate in imported.item.candidates]


def test_own_rows_of_every_shape_are_items() -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "x"},
    ]
    listed = read_own({"prompt": messages, "completions": ["a", {"text": "b", "model": "m", "stop": "length"}]}, LIMITS)
    assert len(listed.item.prompt.messages) == 3 and texts(listed) == ["a", "b"]
    assert (listed.item.candidates[1].model, str(listed.item.candidates[1].stop)) == ("m", "length")
    numbered = {"prompt": "p", "completion_2": "b", "completion_1": "a", "completion_10": "j", "priority": "2.5"}
    assert texts(read_own(numbered, LIMITS)) == ["a", "b", "j"] and read_own(numbered, LIMITS).item.priority == 2.5
    cells = {
        "prompt": "p",
        "completions": '["a", "b"]',
        "control_answer": '{"ranks": [1, 2]}',
        "sensitive": "true",
        "topic": "t",
    }
    item = read_own(cells, LIMITS).item
    assert (item.control_answer, item.sensitive, item.topic) == ({"ranks": [1, 2]}, True, "t")
    sampled = read_own({"prompt": "p", "completions": ["a", "b"], "stop_reasons": ["end", "length"]}, LIMITS)
    assert [str(one.stop) for one in sampled.item.candidates] == ["end", "length"]
    assert read_own({"prompt": "only"}, LIMITS).item.candidates == ()


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, 'field "prompt" is missing'),
        ({"prompt": 3}, 'field "prompt": expected a list'),
        ({"prompt": "  "}, 'field "prompt": the text is empty'),
        ({"prompt": [{"role": "king", "content": "x"}]}, r'field "prompt\[0\].role"'),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "ends with the assistant"),
        ({"prompt": "p", "completions": ["a", None]}, r'field "completions\[1\]": expected an object, got nothing'),
        ({"prompt": "p", "completions": ["a"] * 10}, "10 completions, at most 9"),
        ({"prompt": "p", "completions": ["\ud800"]}, "broken Unicode"),
        ({"prompt": "p", "completions": ["a\0b"]}, "NUL"),
        ({"prompt": "p" * 200_001}, "200,001 characters"),
        ({"prompt": "p", "completions": ["a", "b"], "models": ["m"]}, 'field "models": expected 2'),
        ({"prompt": "p", "priority": "high"}, 'field "priority": expected a number'),
        ({"prompt": "p", "overlap": 0}, 'field "overlap"'),
        ({"prompt": "p", "topic": "t" * 201}, 'field "topic": 201 characters'),
    ],
)
def test_a_bad_row_is_named_by_line_and_field(fields: dict, wanted: str) -> None:
    with pytest.raises(DataError, match=wanted) as caught:
        collect(rows({"prompt": "good"}, fields), read_own)
    assert "file.jsonl:2" in str(caught.value) and "Nothing was imported" in str(caught.value)


def test_many_bad_rows_are_listed_or_set_aside() -> None:
    bad = rows(*({"prompt": number} for number in range(8)), {"prompt": "good"})
    with pytest.raises(DataError, match="8 rows are bad") as caught:
        collect(bad, read_own)
    assert "file.jsonl:5" in str(caught.value) and "and 3 more" in str(caught.value)
    collected = collect([*bad, ImportRow(place="file.jsonl:10", problem="broken JSON")], read_own, on_bad_row="skip")
    assert len(collected.imported) == 1 and len(collected.bad) == 9 and "9 bad rows" in collected.notes[0]
    with pytest.raises(DataError, match="more than 3 rows"):
        collect(bad, read_own, limits=ImportLimits(rows=3), on_bad_row="skip")


ARGILLA = {
    "records": {
        "id": "1", "fields": {"instruction": "Why?", "response-1": "a", "response-2": "b", "response-3": "c"},
        "metadata": {}, "suggestions": {"ranking": {"value": ["response-2"], "agent": "model"}}, "vectors": {},
        "responses": {
            "ranking": [
                {"value": ["response-2", "response-1", "response-3"], "user_id": "u1"},
                {"value": ["response-1", "response-2", "response-3"], "user_id": "u2", "status": "discarded"},
            ]
        },
    },
    "flattened": {
        "instruction": "Why?", "response-1": "a", "response-2": "b", "response-3": "c",
        "ranking.responses": [["response-2", "response-1", "response-3"]], "ranking.responses.users": ["u1"],
        "ranking.responses.status": ["submitted"], "ranking.suggestion": None,
    },
    "version 1": {
        "instruction": "Why?", "response-1": "a", "response-2": "b", "response-3": "c", "metadata": "{}",
        "ranking": [
            {
                "user_id": "u1", "status": "submitted",
                "value": [
                    {"rank": 1, "value": "response-2"}, {"rank": 2, "value": "response-1"},
                    {"rank": 3, "value": "response-3"},
                ],
            }
        ],
    },
    "version 1, lists": {
        "instruction": "Why?", "response-1": "a", "response-2": "b", "response-3": "c",
        "ranking": {
            "user_id": ["u1"], "status": ["submitted"],
            "value": [{"rank": [1, 2, 3], "value": ["response-2", "response-1", "response-3"]}],
        },
    },
    "server": {
        "fields": {"instruction": "Why?", "response-1": "a", "response-2": "b", "response-3": "c"},
        "responses": [
            {
                "user_id": "u1", "status": "submitted",
                "values": {"ranking": {"value": [
                    {"rank": 1, "value": "response-2"}, {"rank": 2, "value": "response-1"},
                    {"rank": 3, "value": "response-3"},
                ]}},
            }
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("form", ARGILLA)
def test_every_form_of_an_argilla_ranking_is_read_the_same(form: str) -> None:
    imported = read_argilla(ARGILLA[form], LIMITS)
    assert imported.item.prompt.last_user_text == "Why?" and texts(imported) == ["a", "b", "c"]
    assert said(imported) == [("argilla u1", "ranking", [2, 1, 3])]


def test_argilla_choices_ratings_ties_and_texts_are_answers() -> None:
    pair = {"fields": {"prompt": "p", "response_a": "x", "response_b": "y"}}
    chosen = {"better": [{"value": "response_b", "user_id": "u"}, {"value": "tie", "user_id": "v"}]}
    assert said(read_argilla(pair | {"responses": chosen}, LIMITS)) == [
        ("argilla u", "ranking", [2, 1]), ("argilla v", "ranking", [1, 1]),
    ]  # fmt: skip
    numbered = {"fields": {"prompt": "p", "response-1": "x", "response-2": "y"}}
    rated = {"quality-1": [{"value": 6, "user_id": "u"}], "quality-2": [{"value": 2, "user_id": "u"}]}
    assert said(read_argilla(numbered | {"responses": rated}, LIMITS)) == [("argilla u", "rating", {"helpful": [6, 2]})]
    written = {"fields": {"prompt": "p"}, "responses": {"answer": [{"value": "text", "user_id": "u"}]}}
    assert said(read_argilla(written, LIMITS)) == [("argilla u", "demonstration", "text")]
    named = FieldNames(prompt="q", completions=("one", "two"))
    assert texts(read_argilla({"fields": {"q": "p", "one": "x", "two": "y"}}, LIMITS, named)) == ["x", "y"]


def task(result: dict[str, Any], **annotation: Any) -> dict[str, Any]:
    data = {"prompt": "p", "answer1": "x", "answer2": "y"}
    return {
        "id": 1,
        "data": data,
        "annotations": [{"completed_by": 7, "lead_time": 4.2, "result": [result], **annotation}],
    }


RANKER = {
    "data": {"prompt": "p", "items": [{"id": "m", "body": "x"}, {"id": "n", "body": "y"}, {"id": "o", "title": "z"}]},
    "annotations": [
        {"completed_by": {"id": 3, "email": "e@x"}, "result": [
            {"type": "ranker", "value": {"ranker": {"rank": ["o", "m", "n"]}}},
        ]},
    ],
}  # fmt: skip


def test_label_studio_pairs_rankers_and_choices_are_answers() -> None:
    pairwise = {"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": "right"}}
    (answer,) = read_label_studio(task(pairwise), LIMITS).answers
    assert (answer.who, answer.payload, answer.time_taken_ms) == ("label-studio 7", {"ranks": [2, 1]}, 4200)
    tie = {"type": "choices", "value": {"choices": ["Tie"]}}
    assert said(read_label_studio(task(tie), LIMITS)) == [("label-studio 7", "ranking", [1, 1])]
    assert read_label_studio(task(pairwise, was_cancelled=True), LIMITS).answers == ()
    assert said(read_label_studio(RANKER, LIMITS)) == [("label-studio e@x", "ranking", [2, 3, 1])]
    buckets = {"type": "ranker", "value": {"ranker": {"bad": ["m"], "good": ["n", "o"], "_": []}}}
    bucketed = RANKER | {"annotations": [{"result": [buckets]}]}
    with pytest.raises(DataError, match="order of its buckets"):
        read_label_studio(bucketed, LIMITS)
    ordered = read_label_studio(bucketed, LIMITS, TaskNames(buckets=("good", "bad")))
    assert said(ordered) == [("label-studio", "ranking", [2, 1, 1])]


@pytest.mark.parametrize(
    ("reader", "fields", "wanted"),
    [
        ("argilla", {"fields": {"response-1": "x"}}, 'field "prompt" is missing'),
        ("argilla", {"fields": {"prompt": "p", "response-1": None}, "responses": 3}, ""),
        ("argilla", ARGILLA["records"] | {"responses": {"r": [{"value": ["response-1"], "user_id": "u"}]}},
         "has no rank"),
        ("argilla", ARGILLA["flattened"] | {"ranking.responses.users": ["u", "v"]}, "expected 1 values, got 2"),
        ("label-studio", {"data": {"prompt": "p"}}, "expected 2 to 9 completions"),
        ("label-studio", {"data": None}, 'field "data": expected an object'),
        ("label-studio", task({"type": "pairwise", "value": {"selected": "up"}}), "expected left or right"),
        ("label-studio", task({"type": "pairwise", "value": None}), "pairwise.value"),
        ("label-studio", RANKER | {"annotations": [{"result": [
            {"type": "ranker", "value": {"ranker": {"rank": ["o", "m"]}}}]}]}, '"n" has no rank'),
        ("label-studio", RANKER | {"annotations": [{"result": [
            {"type": "ranker", "value": {"ranker": {"rank": ["o", "m", "n", "q"]}}}]}]}, "no entry has the id"),
    ],
)  # fmt: skip
def test_a_bad_record_of_another_tool_is_named(reader: str, fields: dict, wanted: str) -> None:
    if not wanted:
        assert READERS[reader](fields, LIMITS).answers == ()
        return
    with pytest.raises(DataError, match=wanted):
        READERS[reader](fields, LIMITS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["a", "left", "1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        "prompt",
        "instruction",
        "messages",
        "completions",
        "completion_1",
        "response-1",
        "response-2",
        "fields",
        "responses",
        "ranking",
        "value",
        "user_id",
        "ranking.responses",
        "ranking.responses.users",
        "status",
        "rank",
        "data",
        "annotations",
        "result",
        "type",
        "items",
        "id",
        "body",
        "models",
        "stop_reasons",
        "control_answer",
        "overlap",
        "priority",
        "sensitive",
        "key",
        "values",
    ]
)
SHAPED = st.recursive(
    JSON,
    lambda inner: st.dictionaries(NAMES, inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=20,
)


def mutated(valid: Any, draw: Any) -> Any:
    """A valid row with one place of it replaced by something else."""
    copy = json.loads(json.dumps(valid))
    node, parent, name = copy, None, None
    while isinstance(node, dict | list) and node and draw(st.booleans()):
        parent, name = node, draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        node = parent[name]
    if parent is not None:
        parent[name] = draw(SHAPED)
    return copy


@pytest.mark.parametrize("reader", READERS)
@given(fields=st.dictionaries(NAMES, SHAPED, max_size=8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_row_holds_only_a_data_error_comes_out(reader: str, fields: dict) -> None:
    read_or_refused(reader, fields)


@pytest.mark.parametrize(
    ("reader", "valid"),
    [
        *(("argilla", one) for one in ARGILLA.values()),
        ("label-studio", task({"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": "left"}})),
        ("label-studio", RANKER),
        ("own", {"prompt": [{"role": "user", "content": "x"}], "completions": ["a", {"text": "b", "model": "m"}],
                 "models": ["m", None], "stop_reasons": ["end", "end"], "control_answer": {"ranks": [1, 2]},
                 "overlap": 2}),
    ],
)  # fmt: skip
@given(data=st.data())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_good_row_with_one_place_changed_is_read_or_refused(reader: str, valid: dict, data: Any) -> None:
    read_or_refused(reader, mutated(valid, data.draw))


def read_or_refused(reader: str, fields: Any) -> None:
    try:
        collected = collect([ImportRow(place="x:1", fields=fields)], READERS[reader])
    except DataError as error:
        assert "x:1" in str(error)
        return
    for imported in collected.imported:
        assert len(imported.item.candidates) <= 9 and imported.item.key
        json.dumps([dict(answer.payload) for answer in imported.answers])


SCORES = st.floats() | st.integers(-1, 9).map(float)
TEXTS = st.text(max_size=5)
JUDGEMENTS = st.lists(
    st.builds(
        Comparison, prompt=st.builds(Conversation.of_user, TEXTS), chosen=st.builds(Completion, text=TEXTS),
        rejected=st.builds(Completion, text=TEXTS), probability=st.floats(0, 1), provenance=st.just(Provenance()),
    )
    | st.builds(
        Rating, prompt=st.builds(Conversation.of_user, TEXTS), completion=st.builds(Completion, text=TEXTS),
        score=SCORES, criterion=st.sampled_from(["overall", "helpful"]), provenance=st.just(Provenance()),
    )
    | st.builds(
        Ranking, prompt=st.builds(Conversation.of_user, TEXTS), provenance=st.just(Provenance()), group=st.just(""),
        completions=st.just((Completion(text="a"), Completion(text="b"))),
        ranks=st.tuples(st.integers(), st.integers()),
    ),
    max_size=5,
)  # fmt: skip


@pytest.mark.parametrize("score", [math.inf, -math.inf, math.nan, 2.5, 8.0, -1.0])
def test_a_score_that_is_no_whole_number_from_one_to_seven_is_refused(score: float) -> None:
    rating = Rating(
        prompt=Conversation.of_user("?"), completion=Completion(text="!"), score=score, provenance=Provenance()
    )
    with pytest.raises(DataError, match="is none of 1 to 7"):
        imported_of([rating], who="file")


@given(JUDGEMENTS)
@settings(max_examples=40, deadline=None)
def test_whatever_judgement_is_handed_in_only_a_data_error_comes_out(judgements: list) -> None:
    with contextlib.suppress(DataError):
        assert imported_of(judgements, who="file")
