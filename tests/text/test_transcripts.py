from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.errors import DataError
from assent.text.transcripts import format_transcript, is_transcript, parse_transcript, shared_prompt
from assent.types import Conversation, Message, Role

BODY = st.text(max_size=40).map(str.strip).filter(lambda text: ":" not in text)


@st.composite
def talks(draw: st.DrawFn) -> Conversation:
    bodies = draw(st.lists(BODY, min_size=1, max_size=6))
    writers = [Role.USER, Role.ASSISTANT]
    return Conversation(
        messages=tuple(Message(role=writers[place % 2], content=body) for place, body in enumerate(bodies))
    )


@given(talks())
def test_a_transcript_reads_back_as_the_conversation_it_was(talk: Conversation) -> None:
    assert parse_transcript(format_transcript(talk)) == talk


@given(st.text(max_size=200))
def test_any_text_is_a_transcript_or_a_data_error(text: str) -> None:
    try:
        assert parse_transcript(text).messages
    except DataError:
        assert not is_transcript(text)


def test_both_header_forms_are_read() -> None:
    plain = parse_transcript("\n\nHuman: hi\n\nAssistant: hello\nyou")
    hashed = parse_transcript("## Human:\nhi\n\n## Assistant:\nhello\nyou")
    assert plain == hashed
    assert [message.content for message in plain.messages] == ["hi", "hello\nyou"]


def test_two_turns_of_one_writer_in_a_row_are_one() -> None:
    talk = parse_transcript("\n\nHuman: a\n\nAssistant: b\n\nAssistant: c")
    assert [message.content for message in talk.messages] == ["a", "b\n\nc"]


def test_an_empty_last_answer_is_kept_as_an_empty_message() -> None:
    assert parse_transcript("\n\nHuman: a\n\nAssistant:").messages[-1] == Message(role=Role.ASSISTANT, content="")


def test_the_shared_prompt_is_what_comes_before_the_last_answers() -> None:
    chosen = parse_transcript("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: good")
    rejected = parse_transcript("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: bad")
    assert [m.content for m in shared_prompt(chosen, rejected).messages] == ["a", "b", "c"]


def test_answers_to_different_questions_share_no_prompt() -> None:
    chosen = parse_transcript("\n\nHuman: a\n\nAssistant: b")
    rejected = parse_transcript("\n\nHuman: x\n\nAssistant: b")
    with pytest.raises(DataError, match="part at message 1"):
        shared_prompt(chosen, rejected)
    with pytest.raises(DataError, match='"rejected" does not end with the assistant'):
        shared_prompt(chosen, parse_transcript("\n\nHuman: a"))
