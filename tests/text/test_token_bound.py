"""The bound is never more than the number of tokens, whatever the text; of tokenizers that drop letters it is 0."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from assent.text.token_bound import TokenBound

TEXTS = ["what is red ? " * 3, "the sun is red and blue " * 3, "ắ ế ῂ é " * 9, "        " * 9, "한국어 👩‍👩‍👧"] * 3
BYTES = pre_tokenizers.ByteLevel.alphabet()


def bytewise(
    normalizer: Any = None, splitter: Any = None, alphabet: list[str] | None = None, strips: bool = False
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = level if splitter is None else pre_tokenizers.Sequence([splitter, level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=450, show_progress=False, initial_alphabet=BYTES if alphabet is None else alphabet
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken("<|user|>", rstrip=strips), AddedToken("<|end|>", lstrip=strips)])
    return tokenizer


def with_byte_fallback() -> Tokenizer:
    letters = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehinorstuw", "th", "the", "▁the"]
    vocabulary = {text: place for place, text in enumerate(letters)}
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    model = models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "red": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


KNOWN: dict[str, Callable[[], Tokenizer]] = {
    "bytes": bytewise, "NFC": lambda: bytewise(normalizers.NFC()), "byte fallback": with_byte_fallback,
    "strips": lambda: bytewise(strips=True),
    "splits at spaces": lambda: bytewise(splitter=pre_tokenizers.WhitespaceSplit()),
    "squeezes": lambda: bytewise(normalizers.Replace("  ", " ")),
    "digits": lambda: bytewise(splitter=pre_tokenizers.Digits(individual_digits=True)),
}  # fmt: skip
UNKNOWN: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": wordpiece,
    "lossy": lambda: bytewise(normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
    "removes": lambda: bytewise(splitter=pre_tokenizers.Split(Regex("[aeiou]"), "removed")),
    "unspelled": lambda: bytewise(alphabet=["a", "b"]),
    "replaces": lambda: bytewise(normalizers.Replace(Regex("a+"), "a")),
}  # fmt: skip


@cache
def known(name: str) -> tuple[PreTrainedTokenizerFast, TokenBound]:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=KNOWN[name]())
    return tokenizer, TokenBound(tokenizer)


@pytest.mark.parametrize("name", KNOWN)
@given(st.text() | st.text(alphabet="the éắῂ\u0301\u0306 <|user|>12 \n").map(lambda text: text * 20))
@example("α\u0313\u0300\u0345" * 200)
@example("ắ" * 300)
@example(" " * 5000)
@example("a " * 500 + " " * 5000 + "<|end|>")
@example("<|user|>" * 60 + " " * 900)
@example("\ud7a3👩‍👩‍👧" * 90)
def test_no_text_has_fewer_tokens_than_the_bound(name: str, text: str) -> None:
    tokenizer, bound = known(name)
    assert bound.least(text) <= len(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", KNOWN)
def test_a_long_text_has_a_bound(name: str) -> None:
    tokenizer, bound = known(name)
    longest = max(map(len, tokenizer.get_vocab()))
    assert bound.least("xy z" * 9000) >= 9000 * 3 // (4 * longest) > 50
    assert (bound.least(" " * 90_000) > 50) == (name in ("bytes", "NFC", "byte fallback", "digits"))


@pytest.mark.parametrize("name", UNKNOWN)
def test_of_a_tokenizer_that_may_drop_letters_nothing_is_known(name: str) -> None:
    bound = TokenBound(PreTrainedTokenizerFast(tokenizer_object=UNKNOWN[name]()))
    assert bound.least("a" * 100_000) == 0
