"""Rendered text to token ids, in which control tokens that someone spelled out become ordinary tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assent.text.rendering import Rendering


class TextEncoder:
    """The ids of rendered texts."""

    def __init__(self, tokenizer: Any, rendering: Rendering) -> None:
        self._tokenizer, self._rendering = tokenizer, rendering
        self._line_end: list[int] = tokenizer.encode("\n", add_special_tokens=False)

    def ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of several texts; equal ones are tokenised once."""
        if not texts:
            return []
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        settings = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
        ids_of = self._tokenizer(
            ["" if self._rendering.is_marked(text) else text for text in distinct], verbose=False, **settings
        )["input_ids"]
        return [
            self.marked_ids(text) if self._rendering.is_marked(text) else tuple(ids_of[distinct[text]])
            for text in texts
        ]

    def marked_ids(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        """Ids of one text with marked control tokens; `first` says that nothing stands before it."""
        found: list[int] = []
        for part, plain in self._rendering.split_marked(text):
            begins = first and not found
            ids = self._part_ids(part, first=begins, split_special_tokens=plain)
            if plain and len(ids) == 1:  # one that the tokenizer does not call special
                ids = [id_ for half in (part[0], part[1:]) for id_ in self._part_ids(half, first=begins)]
            found += ids
        return tuple(found)

    def ids_behind(self, control: str, text: str) -> tuple[int, ...]:
        """Ids of a marked text that stands behind a control token."""
        (ids,), id_ = self.ids([control + text]), int(self._tokenizer.convert_tokens_to_ids(control))
        if id_ not in ids[:2]:  # some tokenizers put a blank before a text
            return self.marked_ids(text, first=False)
        return ids[ids.index(id_) + 1 :]

    def _part_ids(self, part: str, *, first: bool, **settings: bool) -> list[int]:
        """Ids of a part of a text; if it is not the first, without the blank that some tokenizers put before a text."""
        plain: list[int] = self._tokenizer.encode(part, add_special_tokens=False, **settings)
        behind = self._tokenizer.encode("\n" + part, add_special_tokens=False, **settings)
        count = len(self._line_end)
        return plain if first or behind[:count] != self._line_end else behind[count:]
