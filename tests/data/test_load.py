"""The rules for good and bad rows, one test each; docs/data.md has them as a table."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assent.data.load import (
    ReadOptions,
    load_comparisons,
    load_demonstrations,
    load_prompts,
    load_rankings,
    load_ratings,
    load_texts,
)
from assent.errors import ConfigError, DataError
from assent.types import Conversation, Role

PAIR = {"prompt": "Two plus two?", "chosen": "Four.", "rejected": "Five."}
SKIP = ReadOptions(on_bad_row="skip")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_lines(*rows: Any, name: str = "train.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write_lines


def message_of(load: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_a_null_field_is_named_with_file_line_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.gz"
    rows = [PAIR | {"prompt": str(place)} for place in range(117)] + [PAIR | {"rejected": None}]
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    assert message_of(load_comparisons, path) == (
        'train.jsonl.gz:118: field "rejected": expected text or a list of messages, got null. '
        "Give --on-bad-row skip to set such rows aside."
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({**PAIR, "chosen": ""}, 'field "chosen": the completion is empty'),
        ({**PAIR, "rejected": " \n"}, 'field "rejected": the completion is empty'),
        ({**PAIR, "rejected": "Four. "}, "the two completions are identical"),
        ({**PAIR, "chosen": 4}, 'field "chosen": expected text or a list of messages, got a number'),
        ({**PAIR, "prompt": None}, 'field "prompt": expected text or a list of messages, got null'),
        ({**PAIR, "prompt": "  "}, 'field "prompt": the prompt is empty'),
        ({**PAIR, "margin": -1}, 'field "margin": expected a number of at least 0'),
        ({**PAIR, "chosen": "\ud800"}, 'field "chosen": broken Unicode'),
        ({"prompt": "a", "chosen": "b"}, 'field "rejected" is missing'),
        (
            {"prompt": "a", "chosen": "b", "rejectd": "c"},
            'field "rejected" is missing; the row has "rejectd"; did you mean that',
        ),
        ('{"prompt": "a", ', "broken JSON: Expecting property name enclosed in double quotes at column 17"),
        ("[1, 2]", "expected a JSON object, got a list"),
        ("[" * 100_000, "broken JSON"),
    ],
)
def test_a_bad_row_stops_the_reading_with_its_reason(write: Write, bad: Any, said: str) -> None:
    path = write(PAIR, bad, PAIR)
    message = message_of(load_comparisons, path)
    assert message.startswith(f"train.jsonl:2: {said}") and message.endswith("set such rows aside.")


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "asistant", "content": "hi"}], 'field "messages[0].role": unknown role "asistant"; did you mean'),
        ([{"role": "wizard", "content": "hi"}], "known are system, user, assistant, tool"),
        ([{"role": "user", "content": "hi"}], "the conversation ends with user; it must end with the assistant"),
        ([{"role": "user", "content": None}], 'field "messages[0].content": expected text, got null'),
        ([{"content": "hi"}], 'field "role" is missing'),
        ([{"role": "user", "content": [{"type": "image"}]}], "only text parts can be read"),
        (["hi"], 'field "messages[0]": expected a message with role and content, got text'),
        ([], 'field "messages": the list of messages is empty'),
        ("hi", 'field "messages": expected a list of messages, got text'),
        (
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " "}],
            'field "messages": the completion is empty',
        ),
    ],
)
def test_a_wrong_message_is_named_by_its_place(write: Write, messages: Any, said: str) -> None:
    assert said in message_of(load_demonstrations, write({"messages": messages}))


def test_skipped_rows_are_counted_and_written_beside_the_output(write: Write, tmp_path: Path) -> None:
    aside = tmp_path / "out" / "bad_rows.jsonl"
    path = write(PAIR, {**PAIR, "chosen": ""}, "{", {"prompt": "a", "chosen": "b", "rejected": "c"})
    dataset = load_comparisons(path, ReadOptions(on_bad_row="skip", bad_rows_to=aside))
    assert (len(dataset), dataset.bad_rows) == (2, 2)
    assert dataset.notes[0] == "2 bad rows skipped"
    written = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [row["line"] for row in written] == [2, 3]
    assert written[0]["reason"] == 'field "chosen": the completion is empty'
    assert written[0]["row"] == {**PAIR, "chosen": ""}
    assert [child.name for child in aside.parent.iterdir()] == ["bad_rows.jsonl"]


def test_a_file_of_bad_rows_only_is_an_error_even_when_skipping(write: Write) -> None:
    path = write({**PAIR, "chosen": ""}, {**PAIR, "chosen": ""})
    assert "all 2 rows are bad" in message_of(lambda file: load_comparisons(file, SKIP), path)


def test_mixed_formats_name_a_line_of_each(write: Write) -> None:
    path = write(PAIR, PAIR, {"instruction": "a", "output": "b"})
    message = message_of(load_comparisons, path)
    assert "train.jsonl:1: mixed formats: this row is preference" in message and "train.jsonl:3 is alpaca" in message


def test_another_format_far_down_the_file_is_said_to_be_one(write: Write) -> None:
    path = write(*[PAIR | {"prompt": str(place)} for place in range(150)], {"instruction": "a", "output": "b"})
    message = message_of(load_comparisons, path)
    assert message.startswith("train.jsonl:151: mixed formats: this row is alpaca, the file is read as preference")


def test_unknown_fields_are_listed_with_near_misses(write: Write) -> None:
    message = message_of(load_comparisons, write({"promt": "a", "choosen": "b", "rejectd": "c"}))
    assert "no known format has these fields: promt, choosen, rejectd" in message
    assert '"chosen" for "choosen"' in message


def test_an_unknown_format_name_suggests_one(write: Write) -> None:
    with pytest.raises(ConfigError, match='Did you mean "preference"'):
        load_comparisons(write(PAIR), ReadOptions(format="preferense"))


def test_the_wrong_kind_says_what_the_file_holds_and_how_its_columns_are_named(write: Write) -> None:
    message = message_of(load_comparisons, write({"instruction": "a", "input": "", "output": "b"}))
    assert "holds demonstrations (format alpaca), and they cannot be converted to comparisons" in message
    assert "name their columns: --set reading.prompt=COLUMN --set reading.chosen=COLUMN" in message


@pytest.mark.parametrize("half", ["chosen", "rejected"])
def test_pairs_without_one_side_are_told_which(write: Write, half: str) -> None:
    message = message_of(load_comparisons, write(*({"prompt": str(place), half: "b"} for place in range(3))))
    assert f'A pair has "chosen" and "rejected"; these rows have only "{half}".' in message


def test_double_rows_are_kept_and_counted(write: Write) -> None:
    dataset = load_comparisons(write(PAIR, PAIR, PAIR))
    assert len(dataset) == 3 and dataset.notes == ("2 rows occur more than once (kept)",)


def test_blank_lines_are_no_rows(write: Write) -> None:
    assert len(load_comparisons(write(PAIR, "", "   ", PAIR))) == 2


def test_a_limit_takes_the_first_examples(write: Write) -> None:
    dataset = load_comparisons(write(PAIR, {**PAIR, "prompt": "b"}), ReadOptions(limit=1))
    assert [pair.prompt.last_user_text for pair in dataset.examples] == ["Two plus two?"]


def test_a_transcript_prompt_and_explicit_answers_make_one_conversation(write: Write) -> None:
    prompt = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    (pair,) = load_comparisons(write({"prompt": prompt, "chosen": " d", "rejected": " e"})).examples
    assert [message.content for message in pair.prompt.messages] == ["a", "b", "c"]
    assert (pair.chosen.text, pair.rejected.text) == ("d", "e")


def test_message_lists_share_their_prompt_explicit_or_implicit(write: Write) -> None:
    user, good, bad = (
        {"role": role, "content": text} for role, text in [("user", "q"), ("assistant", "g"), ("assistant", "b")]
    )
    implicit = {"chosen": [user, good], "rejected": [user, bad]}
    explicit = {"prompt": [user], "chosen": [good], "rejected": [bad]}
    text_prompt = {"prompt": "q", "chosen": [user, good], "rejected": [user, bad]}
    pairs = [load_comparisons(write(row)).examples[0] for row in (implicit, explicit, text_prompt)]
    assert len(set(pairs)) == 1
    assert pairs[0].prompt == Conversation.of_user("q")


def test_answers_that_part_before_the_end_are_a_bad_row(write: Write) -> None:
    row = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: x\n\nAssistant: c"}
    assert "part at message 1" in message_of(load_comparisons, write(row))


def test_ranks_become_all_pairs_in_one_group_with_ties_at_one_half(write: Write) -> None:
    path = write({"prompt": "q", "completions": ["a", "b", "c"], "ranks": [2, 1, 2]})
    pairs = load_comparisons(path).examples
    assert [(pair.chosen.text, pair.rejected.text, pair.probability) for pair in pairs] == [
        ("b", "a", 1.0),
        ("a", "c", 0.5),
        ("b", "c", 1.0),
    ]
    assert len({pair.group for pair in pairs}) == 1 and pairs[0].group
    assert len(load_comparisons(path, ReadOptions(keep_ties=False))) == 2
    assert load_rankings(path).examples[0].ranks == (2, 1, 2)


def test_scores_become_ranks_margins_and_ratings(write: Write) -> None:
    path = write({"prompt": "q", "responses": ["a", "b", "c"], "scores": [0.5, 2.0, 0.5]})
    assert load_rankings(path).examples[0].ranks == (2, 1, 2)
    pairs = load_comparisons(path, ReadOptions(margin_per_score=2.0)).examples
    assert [pair.margin for pair in pairs] == [3.0, 0.0, 3.0]
    assert all(pair.margin == 0.0 for pair in load_comparisons(path).examples)
    assert [rating.score for rating in load_ratings(path).examples] == [0.5, 2.0, 0.5]
    assert load_demonstrations(path).examples[0].conversation.messages[-1].content == "b"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"completions": ["a", "b"], "ranks": [1]}, 'field "ranks": expected 2 numbers'),
        ({"completions": ["a", "b"], "ranks": [0, 1]}, "whole numbers of at least 1"),
        ({"completions": ["a", "b"], "scores": [1, float("nan")]}, "expected a finite number"),
        ({"completions": ["a"], "ranks": [1]}, "at least two completions"),
        ({"completions": ["a", "a"], "ranks": [1, 1]}, "the completions are identical"),
        ({"completions": ["a", "a", "b"], "ranks": [1, 2, 3]}, "identical completions have different ranks or scores"),
        ({"completions": ["a", ""], "ranks": [1, 2]}, 'field "completions[1]": the completion is empty'),
    ],
)
def test_a_wrong_ranking_is_a_bad_row(write: Write, row: dict[str, Any], said: str) -> None:
    assert said in message_of(load_rankings, write({"prompt": "q", **row}))


def test_good_and_bad_labels_are_one_and_zero(write: Write) -> None:
    rows = [{"prompt": "q", "completion": text, "label": label} for text, label in [("a", True), ("b", False)]]
    path = write(*rows)
    assert [rating.score for rating in load_ratings(path).examples] == [1.0, 0.0]
    (pair,) = load_comparisons(path).examples
    assert (pair.chosen.text, pair.rejected.text) == ("a", "b")
    assert [one.conversation.messages[-1].content for one in load_demonstrations(path).examples] == ["a"]


def test_labels_nobody_knows_must_be_named(write: Write) -> None:
    path = write({"text": "a", "label": "spam"}, {"text": "b", "label": "ham"})
    assert "it is unclear which of the labels are good: ham, spam" in message_of(load_ratings, path)
    named = load_ratings(path, ReadOptions(positive_labels=("Ham",)))
    assert [rating.score for rating in named.examples] == [0.0, 1.0]
    with pytest.raises(DataError, match='no row has the label "eggs"'):
        load_ratings(path, ReadOptions(positive_labels=("eggs",)))


def test_labels_that_are_named_neither_good_nor_bad_are_left_out(write: Write) -> None:
    path = write(*[{"text": word, "label": word} for word in ("noHate", "hate", "idk/skip")])
    assert [one.score for one in load_ratings(path, ReadOptions(positive_labels=("noHate",))).examples] == [1, 0, 0]
    both = ReadOptions(positive_labels=("noHate",), negative_labels=("hate",))
    assert [one.score for one in load_ratings(path, both).examples] == [1, 0]


def test_numbered_classes_are_not_taken_for_good_and_bad(write: Write) -> None:
    path = write(*[{"text": f"t{place}", "label": place} for place in range(3)])
    assert "it is unclear" in message_of(load_ratings, path)


def test_votes_become_a_soft_label(write: Write) -> None:
    votes = {"annotator1": 2, "annotator2": 2, "annotator3": 0}
    (pair,) = load_comparisons(write({"instruction": "q", "response1": "a", "response2": "b", **votes})).examples
    assert (pair.chosen.text, pair.rejected.text) == ("b", "a")
    assert pair.probability == pytest.approx(5 / 6)


def test_tool_calls_system_and_tool_turns_are_read(write: Write) -> None:
    call = {"function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
    messages = [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": [{"type": "text", "text": "2+2?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "Four."},
    ]
    (shown,) = load_demonstrations(write({"messages": messages})).examples
    roles = [message.role for message in shown.conversation.messages]
    assert roles == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL, Role.ASSISTANT]
    assert json.loads(shown.conversation.messages[2].content) == [call]


def test_sharegpt_and_openai_messages_are_the_same(write: Write) -> None:
    turns = [("system", "s"), ("human", "q"), ("gpt", "a")]
    sharegpt = {"conversations": [{"from": who, "value": text} for who, text in turns]}
    openai_turns = zip(("system", "user", "assistant"), "sqa", strict=True)
    openai = {"messages": [{"role": role, "content": text} for role, text in openai_turns]}
    assert load_demonstrations(write(sharegpt)).examples == load_demonstrations(write(openai)).examples


def test_alpaca_input_follows_its_instruction(write: Write) -> None:
    row = {"instruction": "Add.", "input": "2 2", "output": "4", "system": "Be short."}
    messages = load_demonstrations(write(row)).examples[0].conversation.messages
    assert [message.content for message in messages] == ["Be short.", "Add.\n\n2 2", "4"]


def test_prompts_come_from_every_kind_once_each(write: Write) -> None:
    assert len(load_prompts(write(PAIR, {**PAIR, "chosen": "4"}))) == 1
    open_ended = {"messages": [{"role": "user", "content": "q"}]}
    answered = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert load_prompts(write(open_ended, answered)).examples == (Conversation.of_user("q"),) * 2
    assert len(load_prompts(write("one question?", "", "and another?", name="prompts.txt"))) == 2


def test_texts_come_whole_or_as_transcripts(write: Write) -> None:
    assert load_texts(write("one", "", "two", name="book.txt")).examples == ("one\n\ntwo\n",)
    assert load_texts(write({"text": "hi"})).examples == ("hi",)
    assert load_texts(write(PAIR)).examples == ("\n\nHuman: Two plus two?\n\nAssistant: Four.",)


def test_lineage_is_the_hash_of_the_bytes_on_disk(write: Write) -> None:
    first, second = load_texts(write({"text": "hi"})), load_texts(write({"text": "ho"}))
    assert len(first.sha256) == 64 and first.sha256 != second.sha256
