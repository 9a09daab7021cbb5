"""The text and bytes of single tokens, as interfaces with log-probabilities show them."""

from __future__ import annotations

import re
from typing import Any

_UNFINISHED = "\ufffd"
_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """The letters by which byte-level vocabularies spell bytes: printable ones stand for themselves (GPT-2)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTE_LETTERS = _byte_alphabet()


class TokenTexts:
    """Texts of a tokenizer's tokens, each looked up once.

    A token is decoded after another one, so that the space before a word is kept. A part of a character has no text of
    its own: it is written `bytes:\\xe2\\x82`, and its bytes say what it is. Control tokens go by their names.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._control = frozenset(tokenizer.all_special_ids)
        letters = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._before: list[int] = [id_ for id_ in letters if id_ not in self._control]
        self._found: dict[tuple[int, bool], tuple[str, bytes]] = {}

    def of(self, id_: int, *, first: bool = False) -> tuple[str, bytes]:
        """(text, UTF-8 bytes) of a token; a `first` one goes without the space that decoding takes from a text."""
        if (id_, first) not in self._found:
            self._found[id_, first] = self._look_up(id_, [] if first else self._before)
        return self._found[id_, first]

    def _look_up(self, id_: int, context: list[int]) -> tuple[str, bytes]:
        name = str(self._tokenizer.convert_ids_to_tokens(id_))
        if id_ in self._control:
            return name, name.encode()
        text = self._decode([*context, id_]).removeprefix(self._decode(context))
        if _UNFINISHED not in text:
            return text, text.encode()
        if fallback := _BYTE_FALLBACK.fullmatch(name):
            part = bytes([int(fallback[1], 16)])
        elif all(letter in BYTE_LETTERS for letter in name):
            part = bytes(BYTE_LETTERS[letter] for letter in name)
        else:
            return text, text.encode()
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in part), part

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
