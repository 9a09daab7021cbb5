"""Rows in the form in which public sets are published: what is read of them, and what is said of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assent.data.columns import Columns
from assent.data.load import (
    ReadOptions,
    load_comparisons,
    load_demonstrations,
    load_prompts,
    load_rankings,
    load_ratings,
    load_texts,
)
from assent.errors import DataError
from assent.types import Conversation

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_lines(*rows: Any) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write_lines


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def told(conversation: Conversation) -> list[tuple[str, str]]:
    return [(str(message.role), message.content) for message in conversation.messages]


ASKED, GOOD, BAD = said("user", "q"), said("assistant", "good"), said("assistant", "bad")
CALL, RESULT = said("assistant", "call"), said("tool", "result")
PKU = {
    "prompt": "q", "response_0": "good", "response_1": "bad", "prompt_source": "x", "response_0_source": "m",
    "is_response_0_safe": False, "is_response_1_safe": True, "response_0_harm_category": {"Violence": True},
    "response_0_severity_level": 2, "better_response_id": 0, "safer_response_id": 1, "response_0_sha256": "x",
}  # fmt: skip
SHP = {
    "post_id": "p", "domain": "d", "upvote_ratio": 0.9, "history": "q", "score_A": 30, "score_B": 9,
    "human_ref_A": "good", "human_ref_B": "bad", "labels": 1, "seconds_difference": 1.0, "score_ratio": 3.0,
}  # fmt: skip
WEBGPT = {
    "question": {"dataset": "eli5", "id": "i", "full_text": "q"}, "quotes_0": {"title": [], "extract": []},
    "answer_0": "bad", "score_0": -0.5, "answer_1": "good", "score_1": 0.5,
}  # fmt: skip
ARENA = {
    "question_id": "x", "model_a": "m", "model_b": "n", "winner": "model_b", "judge": "arena", "turn": 1,
    "conversation_a": [ASKED, BAD], "conversation_b": [ASKED, GOOD], "anony": True, "openai_moderation": {},
}  # fmt: skip
MT_BENCH = ARENA | {
    "conversation_a": [ASKED, BAD, said("user", "and?"), said("assistant", "a")],
    "conversation_b": [ASKED, GOOD, said("user", "and?"), said("assistant", "b")],
}
ARENA_55K = {
    "id": 1, "model_a": "m", "model_b": "n", "prompt": '["q"]', "response_a": '["good"]', "response_b": '["bad"]',
    "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0,
}  # fmt: skip
ULTRAFEEDBACK = {
    "source": "s", "instruction": "q", "models": ["m", "n"], "correct_answers": ["None"],
    "completions": [
        {"model": "m", "response": "bad", "overall_score": 2.0, "annotations": {}, "custom_system_prompt": "x"},
        {"model": "n", "response": "good", "overall_score": 8.5, "annotations": {}, "custom_system_prompt": "y"},
    ],
}  # fmt: skip
NECTAR = {
    "prompt": "\n\nHuman: q\n\nAssistant: ", "turns": 1, "num_responses": 2, "source": ["s"], "good_natured": True,
    "answers": [{"answer": "bad", "model": "m", "rank": 2.0}, {"answer": "good", "model": "n", "rank": 1.0}],
}  # fmt: skip
HELPSTEER_3 = {"context": [ASKED], "response1": "good", "response2": "bad", "overall_preference": -2}
HELPSTEER_2 = {"prompt": "q", "response_1": "bad", "response_2": "good", "preference_strength": 3}
REWARDBENCH = {"prompt": "q", "chosen": "good", "chosen_model": "m", "rejected": "bad", "rejected_model": "n", "id": 1}
STACK = {"qid": 1, "question": "q", "answers": [{"text": "bad", "pm_score": 0}, {"text": "good", "pm_score": 5}]}


@pytest.mark.parametrize(
    ("row", "format_name"),
    [
        (PKU, "pairwise"),
        (SHP, "pairwise"),
        (SHP | {"labels": 0, "human_ref_A": "bad", "human_ref_B": "good"}, "pairwise"),
        (HELPSTEER_2, "pairwise"),
        (HELPSTEER_3, "pairwise"),
        (WEBGPT, "pairwise"),
        (ARENA, "pairwise"),
        (MT_BENCH, "pairwise"),
        (ARENA_55K, "pairwise"),
        ({"prompt": "q", "answer_a": "bad", "answer_b": "good", "preferred": "answer_b"}, "pairwise"),
        ({"prompt": "q", "completion_1": "bad", "completion_2": "good", "choice": 2}, "pairwise"),
        (NECTAR, "ranked"),
        (ULTRAFEEDBACK, "scored"),
        (STACK, "scored"),
        ({"instruction": "q", "generations": ["bad", "good"], "ratings": [2, 4]}, "scored"),
        (REWARDBENCH, "preference"),
        ({"qid": 1, "question": "q", "response_j": "good", "response_k": "bad"}, "preference"),
        ({"prompt": "q", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "score_chosen": 8}, "preference-messages"),
        ({"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "source": "s"}, "preference-messages"),
        ({"prompt": "q", "chosen": ["good"], "rejected": ["bad"], "num_correct": 1}, "good-and-bad"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(list(value)[:3]),
)
def test_a_public_preference_is_read_with_its_better_answer(write: Write, row: Any, format_name: str) -> None:
    dataset = load_comparisons(write(row))
    (pair,) = dataset.examples
    assert dataset.format == format_name
    assert (told(pair.prompt), pair.chosen.text, pair.rejected.text) == ([("user", "q")], "good", "bad")
    assert pair.probability == 1.0


@pytest.mark.parametrize(
    "row",
    [
        ARENA | {"winner": "tie (bothbad)"},
        ARENA_55K | {"winner_model_a": 0, "winner_tie": 1},
        HELPSTEER_3 | {"overall_preference": 0},
        WEBGPT | {"score_0": 0.0, "score_1": 0.0},
    ],
)
def test_ties_are_ties(write: Write, row: Any) -> None:
    assert load_comparisons(write(row)).examples[0].probability == 0.5


def test_the_other_judgement_of_a_file_is_named_and_can_be_taken(write: Write) -> None:
    path = write(PKU)
    assert any("safer_response_id" in note and "is_response_0_safe" in note for note in load_comparisons(path).notes)
    (pair,) = load_comparisons(path, ReadOptions(columns=Columns(label="safer_response_id"))).examples
    assert (pair.chosen.text, pair.rejected.text) == ("bad", "good")


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (PKU | {"better_response_id": 2}, 'field "better_response_id": expected response_0, response_1, 0, 1 or "tie"'),
        (ARENA | {"winner": None}, 'field "winner": expected .*, got null'),
        (ARENA_55K | {"winner_tie": 1}, "expected one of .* to be 1"),
        ({"prompt": "q", "answer_a": "x", "answer_b": "y", "label": 1}, 'a, b or "tie", got 1'),
        (MT_BENCH | {"turn": 2}, '"conversation_a" and "conversation_b" part at message 2'),
    ],
)
def test_a_judgement_that_names_neither_answer_is_a_bad_row(write: Write, row: Any, wanted: str) -> None:
    with pytest.raises(DataError, match=wanted):
        load_comparisons(write(row))


def test_scores_beside_an_answer_make_ratings_and_bad_answers_are_no_demonstrations(write: Write) -> None:
    scored = {"correctness": 0, "coherence": 3, "complexity": 1, "verbosity": 1}
    rows = [
        {"prompt": "q", "response": text, "helpfulness": score} | scored for text, score in (("bad", 1), ("good", 4))
    ]
    path = write(*rows, rows[0] | {"prompt": "alone"})
    dataset = load_ratings(path)
    assert [(one.completion.text, one.score, one.criterion) for one in dataset.examples] == [
        ("bad", 1.0, "helpfulness"), ("good", 4.0, "helpfulness"), ("bad", 1.0, "helpfulness"),
    ]  # fmt: skip
    assert any("correctness" in note for note in dataset.notes)
    assert [told(one.conversation)[-1] for one in load_demonstrations(path).examples] == [("assistant", "good")]
    named = load_ratings(path, ReadOptions(columns=Columns(score="correctness")))
    assert [one.score for one in named.examples] == [0.0, 0.0, 0.0]


def test_several_turns_of_helpsteer_are_turns(write: Write) -> None:
    prompt = "one\n<extra_id_1>Assistant\ntwo\n<extra_id_1>User\nthree"
    (rating,) = load_ratings(write({"prompt": prompt, "response": "r", "helpfulness": 3})).examples
    assert told(rating.prompt) == [("user", "one"), ("assistant", "two"), ("user", "three")]


def test_an_answer_that_is_not_safe_is_no_demonstration(write: Write) -> None:
    rows = [{"prompt": "q", "response": text, "category": {"x": not safe}, "is_safe": safe}
            for text, safe in (("bad", False), ("good", True))]  # fmt: skip
    path = write(*rows)
    assert [(one.completion.text, one.score) for one in load_ratings(path).examples] == [("bad", 0.0), ("good", 1.0)]
    assert [told(one.conversation)[-1][1] for one in load_demonstrations(path).examples] == ["good"]


def tree() -> dict[str, Any]:
    def reply(number: int, text: str, rank: int | None, *replies: Any, **more: Any) -> dict[str, Any]:
        role = "assistant" if text[0] in "gb" else "prompter"
        return {"message_id": f"{number}", "text": text, "role": role, "rank": rank, "replies": list(replies), **more}

    deeper = reply(3, "more?", None, reply(4, "bad2", 2), reply(5, "good2", 0), reply(6, "bad3", 1, deleted=True))
    return {"message_tree_id": "1", "tree_state": "ready_for_export",
            "prompt": reply(0, "q", None, reply(1, "bad", 1), reply(2, "good", 0, deeper))}  # fmt: skip


def flat(node: dict[str, Any], parent: str | None = None) -> list[dict[str, Any]]:
    row = {name: value for name, value in node.items() if name != "replies"} | {"message_tree_id": "1"}
    return [row | {"parent_id": parent}, *(one for reply in node["replies"] for one in flat(reply, node["message_id"]))]


@pytest.mark.parametrize("rows", [[tree()], flat(tree()["prompt"])], ids=["trees", "messages"])
def test_ranked_replies_of_a_message_tree_are_rankings(write: Write, rows: list[Any]) -> None:
    path = write(*rows)
    found = [(told(one.prompt), [c.text for c in one.completions], one.ranks) for one in load_rankings(path).examples]
    deeper = [("user", "q"), ("assistant", "good"), ("user", "more?")]
    assert found == [([("user", "q")], ["bad", "good"], (2, 1)), (deeper, ["bad2", "good2"], (2, 1))]
    assert [told(prompt) for prompt in load_prompts(path).examples] == [[("user", "q")]]
    shown = [told(one.conversation)[-1][1] for one in load_demonstrations(path).examples]
    assert shown == ["good", "good2"]


def test_messages_that_belong_to_no_tree_are_bad_rows(write: Write) -> None:
    rows = flat(tree()["prompt"])
    lost = [rows[1] | {"message_id": "x", "parent_id": "y"}, rows[1] | {"message_id": "y", "parent_id": "x"}]
    dataset = load_rankings(write(*rows, *lost, rows[1]), ReadOptions(on_bad_row="skip"))
    assert len(dataset) == 2
    assert [(row.number, reason) for row, reason in dataset.bad] == [
        (8, 'field "parent_id": the message belongs to no tree of this file'),
        (9, 'field "parent_id": the message belongs to no tree of this file'),
        (10, 'field "message_id": the name occurs twice'),
    ]


@pytest.mark.parametrize(
    ("row", "conversation"),
    [
        ({"conversation": [ASKED, GOOD], "openai_moderation": [{}]}, [ASKED, GOOD]),
        ({"conversation": [{"input": "q", "output": "good"}, {"input": "r", "output": "s"}]},
         [ASKED, GOOD, said("user", "r"), said("assistant", "s")]),
        ({"system_prompt": "s", "question": "q", "response": "good"}, [said("system", "s"), ASKED, GOOD]),
        ({"instruction": "i", "context": "c", "response": "good", "category": "x"}, [said("user", "i\n\nc"), GOOD]),
        ({"context": "c", "question": "q", "answer": "good"}, [said("user", "c\n\nq"), GOOD]),
        ({"messages": [ASKED, GOOD], "system": "s"}, [said("system", "s"), ASKED, GOOD]),
        ({"messages": [said("system", "s"), ASKED, GOOD], "system": "s"}, [said("system", "s"), ASKED, GOOD]),
        ({"prompt": [ASKED], "completion": [GOOD]}, [ASKED, GOOD]),
        ({"prompt": [ASKED], "completion": GOOD}, [ASKED, GOOD]),
        ({"prompt": "q", "completion": [CALL, RESULT, GOOD]}, [ASKED, CALL, RESULT, GOOD]),
        ({"prompt": [said("system", "s")], "completion": [ASKED, GOOD]}, [said("system", "s"), ASKED, GOOD]),
    ],
)  # fmt: skip
def test_a_demonstration_keeps_everything_that_was_said(write: Write, row: Any, conversation: list[Any]) -> None:
    (shown,) = load_demonstrations(write(row)).examples
    assert told(shown.conversation) == [(message["role"], message["content"]) for message in conversation]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": [ASKED], "chosen": [CALL, RESULT, GOOD], "rejected": [CALL, RESULT, BAD]}, [ASKED, CALL, RESULT]),
        ({"chosen": [ASKED, CALL, RESULT, GOOD], "rejected": [ASKED, CALL, RESULT, BAD]}, [ASKED, CALL, RESULT]),
        ({"prompt": "q", "chosen": [CALL, RESULT, GOOD], "rejected": [CALL, RESULT, BAD]}, [ASKED, CALL, RESULT]),
        ({"prompt": [said("system", "s"), ASKED], "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
         [said("system", "s"), ASKED]),
        ({"prompt": [ASKED], "chosen": [said("system", "s"), ASKED, GOOD],
          "rejected": [said("system", "s"), ASKED, BAD]}, [said("system", "s"), ASKED]),
        ({"prompt": [said("system", "s")], "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
         [said("system", "s"), ASKED]),
        ({"system": "s", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, [said("system", "s"), ASKED]),
        ({"prompt": "and?", "chosen": [ASKED, CALL, said("user", "and?"), GOOD],
          "rejected": [ASKED, CALL, said("user", "and?"), BAD]}, [ASKED, CALL, said("user", "and?")]),
        ({"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "\n\nHuman: q\n\nAssistant: good",
          "rejected": "\n\nHuman: q\n\nAssistant: bad"}, [ASKED]),
    ],
)  # fmt: skip
def test_a_pair_keeps_its_whole_prompt_and_has_it_once(write: Write, row: Any, prompt: list[Any]) -> None:
    (pair,) = load_comparisons(write(row)).examples
    assert told(pair.prompt) == [(message["role"], message["content"]) for message in prompt]
    assert (pair.chosen.text, pair.rejected.text) == ("good", "bad")


@pytest.mark.parametrize(
    ("load", "row", "wanted"),
    [
        (load_comparisons, {"prompt": "Speak like a pirate.", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
         'field "chosen": the conversation neither begins with the prompt'),
        (load_comparisons, {"prompt": [ASKED], "chosen": [CALL, RESULT, GOOD], "rejected": [BAD, RESULT, BAD]},
         "part at message 2"),
        (load_ratings, {"prompt": [ASKED], "completion": [CALL, RESULT, GOOD], "label": True},
         'field "completion": one label or score is given for 3 messages'),
        (load_ratings, {"prompt": [ASKED], "completion": [said("user", "x")], "label": True},
         "expected an assistant message, got a message of user"),
        (load_demonstrations, {"prompt": [ASKED], "completion": [CALL, RESULT]}, "must end with the assistant"),
        (load_demonstrations, {"prompt": [ASKED], "completion": []}, "the list of messages is empty"),
        (load_demonstrations, {"messages": [said("system", "s"), ASKED, GOOD], "system": "t"}, "another system prompt"),
        (load_demonstrations, {"prompt": "q", "completion": "a", "system": ["s"]}, 'field "system": expected text'),
        (load_comparisons, {"prompt": "q", "completions": ["a", "b"], "labels": [True, False]},
         "step labels"),
        (load_demonstrations, {"question": {"problem": "q"}, "label": {"steps": []}}, "step labels"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_whole_is_refused_with_the_reason(
    write: Write, load: Callable[..., Any], row: Any, wanted: str
) -> None:
    with pytest.raises(DataError, match=wanted):
        load(write(row))


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([{"question": "q", "good_answer": "g", "bad_answer": "b"}],
         r"The fields are: question, good_answer, bad_answer\..*--set reading.prompt=COLUMN --set reading.chosen="),
        ([{"domain": "d", "original_response": "x", "edited_response": "y"}], "domain, original_response, edited_resp"),
        ([{"prompt": "q", "choosen": "g", "rejected": "b"}], 'Did you mean "choosen"'),
        ([{"task": "t", "trajectory": [ASKED], "chosen": "g", "rejected": "b"}],
         r'"prompt" is missing.*The fields are: task, trajectory, chosen, rejected\. Name another column'),
    ],
)  # fmt: skip
def test_a_refusal_lists_the_fields_and_names_the_way_out(write: Write, rows: list[Any], wanted: str) -> None:
    with pytest.raises(DataError, match=wanted):
        load_comparisons(write(*rows))


def test_a_score_of_one_is_no_praise_on_a_scale_that_goes_on(write: Write) -> None:
    path = write(*({"prompt": f"q{score}", "completion": f"a{score}", "score": score} for score in (1, 3, 5)))
    with pytest.raises(DataError, match="cannot be converted to demonstrations"):
        load_demonstrations(path)
    assert load_texts(path).examples


def test_a_score_does_not_take_the_place_of_the_instruction(write: Write) -> None:
    (rating,) = load_ratings(write({"instruction": "Add.", "input": "2 2", "output": "4", "score": 5})).examples
    assert told(rating.prompt) == [("user", "Add.\n\n2 2")] and rating.completion.text == "4"
