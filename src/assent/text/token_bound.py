"""A lower bound on the number of tokens of a text, from its length alone, without tokenising."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from assent.text.token_texts import BYTE_LETTERS

_KEEPS_LETTERS = {"NFC", "Prepend", "Sequence", "ByteLevel"}  # normalizers that take no letter away
_KEEPS_SPACES = {"ByteLevel", "Split", "Digits", "Metaspace", "Sequence"}  # pre-tokenizers that take no space away
_MOST_COMPOSED = 4  # letters that NFC can join to one


class TokenBound:
    """`least(text)` is never more than the number of the text's tokens.

    Byte-level and byte-fallback BPE, the kinds of nearly all language models, spell every letter, so a token covers no
    more letters than the longest one in the vocabulary has. White space counts unless the tokenizer may drop it. Of a
    tokenizer that can drop or join letters nothing is known, and the bound is 0.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        parts = json.loads(backend.to_str()) if backend is not None else {}
        vocabulary = tokenizer.get_vocab()
        self._letters = 0
        if _spells_everything(parts, vocabulary):
            known = max(map(len, vocabulary))
            composes = any(one["type"] == "NFC" for one in _inside(parts["normalizer"]))
            self._letters = known * (_MOST_COMPOSED if composes else 1)
        self._keeps_spaces = _keeps_spaces(parts)

    def least(self, text: str) -> int:
        """Tokens that `text` has at the least."""
        if not self._letters or len(text) < self._letters:
            return 0
        return (len(text) if self._keeps_spaces else sum(map(len, text.split()))) // self._letters


def _spells_everything(parts: dict[str, Any], vocabulary: Mapping[str, int]) -> bool:
    model, normalizers, splitters = (parts.get(name) or {} for name in ("model", "normalizer", "pre_tokenizer"))
    bytewise = any(one["type"] == "ByteLevel" for one in (*_inside(normalizers), *_inside(splitters)))
    spelled = list(BYTE_LETTERS) if bytewise else [f"<0x{byte:02X}>" for byte in range(256)]
    return (
        model.get("type") == "BPE"
        and (bytewise or bool(model.get("byte_fallback")))
        and all(letter in vocabulary for letter in spelled)
        and all(one["type"] in _KEEPS_LETTERS or _swaps_spaces(one) for one in _inside(normalizers))
        and not any("removed" in str(one.get("behavior", "")).lower() for one in _inside(splitters))
        and not any(one["type"] == "CharDelimiterSplit" for one in _inside(splitters))
    )


def _keeps_spaces(parts: dict[str, Any]) -> bool:
    swaps = [one for one in _inside(parts.get("normalizer")) if one["type"] == "Replace"]
    return (
        all(one["type"] in _KEEPS_SPACES for one in _inside(parts.get("pre_tokenizer")))
        and all(one["pattern"] == {"String": " "} and one["content"] for one in swaps)
        and not any(one["lstrip"] or one["rstrip"] for one in parts.get("added_tokens", ()))
    )


def _swaps_spaces(normalizer: dict[str, Any]) -> bool:
    return normalizer["type"] == "Replace" and not str(normalizer["pattern"].get("String", "x")).strip()


def _inside(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A normalizer or pre-tokenizer, and those that it is a sequence of."""
    if part:
        yield part
        for inner in (*part.get("normalizers", ()), *part.get("pretokenizers", ())):
            yield from _inside(inner)
