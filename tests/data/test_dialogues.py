"""Logged dialogues with rewards: in messages, in the row, or made of judgement; what cannot be read is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import write_rows
from training_jobs import dialogues

from assent.algorithms.ilql import encode_dialogues
from assent.data import convert
from assent.data.load import ReadOptions, load_demonstrations, load_dialogues, load_prompts
from assent.data.validation import check_examples
from assent.errors import DataError
from assent.text.template import ChatTemplate
from assent.types import Comparison, Completion, Conversation, Message, Ranking, Rating, RewardedDialogue, Role

ASKED = Conversation.of_user("Guess.")


def said(*contents: str, **last: Any) -> list[dict[str, Any]]:
    """Messages of user and assistant in turn; `last` are more fields of the last one."""
    roles = ("user", "assistant")
    talk: list[dict[str, Any]] = [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]
    talk[-1] |= last
    return talk


def read(tmp_path: Path, *rows: dict[str, Any], **options: Any) -> list[tuple[float, ...]]:
    data = load_dialogues(write_rows(tmp_path / "rows.jsonl", rows), ReadOptions(**options))
    return [one.rewards for one in data.examples]


GUESSES = said("Guess.", "One", "Higher.", "Two")


def test_rewards_stand_in_messages_or_in_the_row(tmp_path: Path) -> None:
    inside = [{**one} for one in GUESSES]
    inside[1]["reward"] = -1
    whole = [{**one, "reward": 0.5} if one["role"] == "assistant" else one for one in GUESSES]
    context = [{**GUESSES[0]}, {**GUESSES[1], "weight": 0}, *GUESSES[2:]]
    rows = (
        {"messages": inside}, {"messages": whole}, {"messages": GUESSES, "rewards": [0.25, 2]},
        {"messages": GUESSES, "reward": 3.0}, {"messages": context, "reward": 4}, {"messages": context, "rewards": [5]},
        {"messages": [*GUESSES, {"role": "user", "content": "Right!"}], "reward": 6, "system": "A game."},
    )  # fmt: skip
    assert read(tmp_path, *rows) == [(-1.0, 0.0), (0.5, 0.5), (0.25, 2.0), (0.0, 3.0), (4.0,), (5.0,), (0.0, 6.0)]
    data = load_dialogues(tmp_path / "rows.jsonl")
    assert [message.role for message in data.examples[-1].conversation.messages] == [
        "system",
        *["user", "assistant"] * 2,
    ]
    assert data.format == "messages" and not any("reward" in note for note in data.notes)
    sharegpt = {"conversations": [{"from": "human", "value": "Guess."}, {"from": "gpt", "value": "One", "reward": 7}]}
    assert read(tmp_path, sharegpt) == [(7.0,)]


def test_other_readers_of_the_same_file_are_as_before_and_say_what_they_leave_out(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"messages": said("Guess.", "One", reward=1), "rewards": [2]}])
    shown, asked = load_demonstrations(path), load_prompts(path)
    assert shown.examples[0].conversation.messages[-1] == Message(role=Role.ASSISTANT, content="One")
    assert "fields of messages that are not read: reward (1)" in shown.notes
    assert asked.examples == (ASKED,)


BAD = {
    "there is no reward": {"messages": GUESSES},
    'rewards stand in "rewards" and in "reward"': {"messages": GUESSES, "rewards": [1, 2], "reward": 1},
    'rewards stand in "reward" and in "messages"': {"messages": said("Guess.", "One", reward=1), "reward": 1},
    "expected 2 numbers, one for each message of the assistant that is learned, got 1": {
        "messages": GUESSES, "rewards": [1],
    },
    'field "messages[2].reward": a reward belongs to what the assistant says, and this message is by user': {
        "messages": [*GUESSES[:2], {**GUESSES[2], "reward": 1}, GUESSES[3]],
    },
    "this message is not learned": {"messages": [GUESSES[0], {**GUESSES[1], "weight": 0, "reward": 1}, *GUESSES[2:]]},
    'field "messages[1].reward": expected a number, got text': {"messages": said("Guess.", "One", reward="good")},
    'field "reward": expected a finite number': {"messages": GUESSES, "reward": float("nan")},
    'field "rewards": expected a list': {"messages": GUESSES, "rewards": 1},
    "it must end with the assistant": {"messages": said("Guess."), "reward": 1},
}  # fmt: skip


@pytest.mark.parametrize("told", BAD)
def test_a_row_without_clear_rewards_is_bad(told: str, tmp_path: Path) -> None:
    good = {"messages": GUESSES, "reward": 1}
    with pytest.raises(DataError) as caught:
        read(tmp_path, good, BAD[told])
    assert told in str(caught.value) and "rows.jsonl:2" in str(caught.value)
    assert read(tmp_path, good, BAD[told], on_bad_row="skip") == [(0.0, 1.0)]


def test_demonstrations_have_no_rewards(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "Guess.", "completion": "One"}])
    with pytest.raises(DataError, match="cannot be converted to dialogues with rewards"):
        load_dialogues(path)


def test_judged_completions_are_dialogues_of_one_turn() -> None:
    """The reward is the score, or the share of the others that a completion is better than."""
    three = tuple(Completion(text=text) for text in ("One", "Two", "Three"))
    earlier = Conversation(messages=(*ASKED.then("Zero").messages, Message(role=Role.USER, content="No.")))
    made = convert.dialogues([
        Ranking(prompt=earlier, completions=three, ranks=(1, 3, 1)),
        Comparison(prompt=ASKED, chosen=three[0], rejected=three[1], probability=0.8),
        Rating(prompt=ASKED, completion=three[2], score=-4.0),
        Rating(prompt=Conversation(messages=()), completion=three[2], score=1.0),
    ])  # fmt: skip
    assert [one.rewards[0] for one in made] == pytest.approx([0.75, 0.0, 0.75, 0.8, 0.2, -4.0])
    assert [one.conversation.messages[-1].content for one in made] == ["One", "Two", "Three", "One", "Two", "Three"]
    assert [message.learned for message in made[0].conversation.messages if message.role is Role.ASSISTANT] == [
        False,
        True,
    ]
    check_examples(made)


def test_scores_are_rewards_as_they_are(tmp_path: Path) -> None:
    rows = {"prompt": "Guess.", "completions": ["One", "Two"], "scores": [1.5, -2]}
    assert read(tmp_path, rows) == [(1.5,), (-2.0,)]
    assert read(tmp_path, {"prompt": "Guess.", "completion": "One", "reward": 9}) == [(9.0,)]
    assert read(tmp_path, {"prompt": "Guess.", "completion": "One", "label": "good"}) == [(1.0,)]
    rated = [{"prompt": "Guess.", "completion": "One", "score": n, "criterion": name} for n, name in enumerate("ab")]
    notes = load_dialogues(write_rows(tmp_path / "rated.jsonl", rated)).notes
    assert "each score is a reward, whatever its criterion: a, b" in notes


def test_a_program_must_give_as_many_rewards_as_turns() -> None:
    with pytest.raises(DataError, match="2 messages of the assistant are learned, and there are 1 rewards"):
        two = Conversation(messages=(*ASKED.then("One").messages, Message(role=Role.USER, content="No."))).then("Two")
        check_examples([RewardedDialogue(conversation=two, rewards=(1.0,))])


def test_rewards_follow_the_last_token_of_their_turns(template: ChatTemplate) -> None:
    examples = dialogues()
    for one, encoded in zip(examples, encode_dialogues(examples, template, max_length=64).items, strict=True):
        (sequence,) = encoded.sequences
        written = [id_ for id_, learned in zip(sequence.ids, sequence.assistant_mask, strict=True) if learned]
        assert len(encoded.rewards) == sequence.predicted == len(written)
        ends = [place for place, id_ in enumerate(written) if id_ == template.end_id]
        assert [encoded.rewards[place] for place in ends] == [*one.rewards]
        assert sum(map(abs, encoded.rewards)) == sum(map(abs, one.rewards))


def test_turns_that_cannot_share_a_sequence_stay_one_dialogue(template: ChatTemplate) -> None:
    """Here the template writes earlier turns in capitals, so each turn has a sequence of its own."""
    tokenizer = template.tokenizer.__class__(tokenizer_object=template.tokenizer.backend_tokenizer, eos_token="<|end|>")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}Human: {{ m.content }}\n"
        "{% else %}Assistant: {{ m.content if loop.last else 'said' }}<|end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}Assistant: {% endif %}"
    )
    examples = [one for one in dialogues() if len(one.rewards) == 2]
    for one, encoded in zip(
        examples, encode_dialogues(examples, ChatTemplate(tokenizer), max_length=64).items, strict=True
    ):
        assert len(encoded.sequences) == 2
        assert len(encoded.rewards) == sum(sequence.predicted for sequence in encoded.sequences)
        assert encoded.rewards[encoded.sequences[0].predicted - 1] == one.rewards[0]
        assert encoded.rewards[-1] == one.rewards[1]
