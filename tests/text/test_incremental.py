"""Text that comes token by token is the text of the whole, and never shows part of a stop sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assent.text.incremental import TextStream
from assent.text.template import ChatTemplate
from assent.text.token_texts import TokenTexts

ALPHABET = "ab€🙂 "
BYTES = st.text(alphabet=ALPHABET, max_size=60).map(lambda text: list(text.encode()))
STOPS = st.lists(st.text(alphabet="ab€", min_size=1, max_size=3), max_size=3)


def of_bytes(ids) -> str:
    """A tokenizer whose tokens are bytes."""
    return bytes(ids).decode("utf-8", errors="replace")


def cut(text: str, stop_sequences: list[str]) -> str:
    """The text before the stop sequence that ends first (of several, the longest): by looking at every end."""
    for end in range(1, len(text) + 1):
        here = [stop for stop in stop_sequences if text[:end].endswith(stop)]
        if here:
            return text[: end - max(map(len, here))]
    return text


def streamed(ids: list[int], stop_sequences: list[str], decode=of_bytes) -> tuple[list[str], int, bool]:
    stream, texts, tokens = TextStream(decode, stop_sequences), [], 0
    for id_ in ids:
        released = stream.add(id_)
        texts.append(released.text)
        tokens += released.tokens
        if released.stopped:
            return texts, tokens, True
    released = stream.close()
    return [*texts, released.text], tokens + released.tokens, released.stopped


@given(ids=BYTES, stop_sequences=STOPS)
def test_joined_pieces_are_the_text_before_the_first_stop(ids: list[int], stop_sequences: list[str]) -> None:
    texts, _, stopped = streamed(ids, stop_sequences)
    whole = of_bytes(ids)
    assert "".join(texts) == cut(whole, stop_sequences)
    assert stopped == (cut(whole, stop_sequences) != whole)


@given(ids=BYTES, stop_sequences=STOPS)
def test_no_piece_holds_half_a_character_and_tokens_come_with_their_text(
    ids: list[int], stop_sequences: list[str]
) -> None:
    texts, tokens, stopped = streamed(ids, stop_sequences)
    assert not any("\ufffd" in text for text in texts)
    assert tokens == (len("".join(texts).encode()) if stopped else len(ids))


@given(ids=st.lists(st.integers(0, 255), max_size=90))
def test_even_broken_bytes_come_out_as_the_whole_decodes(ids: list[int]) -> None:
    assert "".join(streamed(ids, [])[0]) == of_bytes(ids)


@given(ids=st.lists(st.integers(2, 290), max_size=120))
def test_a_real_tokenizer_streams_what_it_decodes(template: ChatTemplate, ids: list[int]) -> None:
    texts, tokens, _ = streamed(ids, [], template.decode)
    assert "".join(texts) == template.decode(ids) and tokens == len(ids)


@given(text=st.text(max_size=30))
def test_the_bytes_of_tokens_are_the_bytes_of_the_text(template: ChatTemplate, text: str) -> None:
    texts = TokenTexts(template.tokenizer)
    ids = template.text_ids([text])[0]
    parts = [texts.of(id_, first=place == 0)[1] for place, id_ in enumerate(ids)]
    assert b"".join(parts).decode("utf-8", errors="replace") == template.tokenizer.decode(ids)


def test_control_tokens_go_by_their_names(template: ChatTemplate) -> None:
    assert TokenTexts(template.tokenizer).of(template.end_id) == ("<|end|>", b"<|end|>")
