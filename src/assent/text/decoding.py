"""Ids of a completion to its text. A probe shows what the template writes around an answer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from assent.text.rendering import PROBE_WORD
from assent.text.thoughts import CLOSING, OPENING


class Decoder:
    """The reverse of encoding an answer.

    `answer` are the ids of the probe's word as an answer, `thought_and_answer` those of a thought and an answer where
    the template parts the two by control tokens and not by tags.
    """

    def __init__(
        self,
        tokenizer: Any,
        control: Sequence[str],
        end_ids: Collection[int],
        *,
        answer: Sequence[int],
        thought_and_answer: Sequence[int] | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._line_end: list[int] = tokenizer.encode("\n", add_special_tokens=False)
        ids, spoken = (tokenizer.convert_tokens_to_ids(texts) for texts in (list(control), [OPENING, CLOSING]))
        self._silent = frozenset([*ids, *end_ids]) - frozenset(spoken)
        self._control = re.compile("|".join(map(re.escape, control)))
        self._lead, _ = _around(self._spelled(answer, control=True))
        self._plain_lead, self._gap = _around(self._spelled(answer))
        self._channels: tuple[str, str] | None = None
        if thought_and_answer is not None:
            opening, rest = _around(self._spelled(thought_and_answer, control=True))
            parting = _around(rest)[0]
            self._channels = (opening, parting) if opening and parting else None  # None: no token spells the probe
        self._leads_by_control = self._channels is not None or self._lead != self._plain_lead

    @property
    def in_pieces(self) -> bool:
        """Whether the text of later ids does not depend on the first ones."""
        return self._channels is None

    def decode(self, ids: Iterable[int]) -> str:
        """The answer, with its thought in tags before it; of a completion under way, what is settled."""
        ids = list(ids)
        spelled = self._spelled(ids, control=self._leads_by_control)
        if self._channels is not None and spelled.startswith(self._channels[0]):
            return self._of_channels(spelled, *self._channels)
        if any(lead.startswith(spelled) for lead in (self._lead, *(self._channels or ())[:1])):
            return ""  # no more than the beginning of what stands before an answer
        text = self._spelled(ids) if self._leads_by_control else spelled
        if spelled.startswith(self._lead):
            text = text.removeprefix(self._plain_lead)
        begun = next((n for n in range(len(self._gap), 0, -1) if text.endswith(self._gap[:n])), 0)
        return text[: len(text) - begun]

    def _spelled(self, ids: Iterable[int], *, control: bool = False) -> str:
        """The text of ids; without `control`, control tokens are left out, but not the tags around a thought.

        They are decoded behind the end of a line, where no decoder takes a blank away.
        """
        kept = [id_ for id_ in ids if control or id_ not in self._silent]
        settings = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        text = str(self._tokenizer.decode([*self._line_end, *kept], **settings))
        return text.removeprefix(str(self._tokenizer.decode(self._line_end, **settings)))

    def _of_channels(self, spelled: str, opening: str, parting: str) -> str:
        """A thought and an answer as text with tags; a thought that is not over has no closing tag."""
        thought, closed, answer = spelled.removeprefix(opening).partition(parting)
        thought, answer = self._control.split(thought)[0], self._control.sub("", answer)
        return f"{OPENING}\n{thought}" + (f"\n{CLOSING}\n\n{answer}" if closed else "")


def _around(text: str) -> tuple[str, str]:
    """What stands before and behind the probe's word, however the template spells it; nothing if no token spells it."""
    parts = re.split(PROBE_WORD, text, maxsplit=1, flags=re.IGNORECASE)
    return (parts[0], parts[1]) if len(parts) == 2 else ("", "")
