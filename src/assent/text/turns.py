"""The text that a model generates after a prompt to give a certain answer, up to and including the end of the turn.

The prompt is rendered with the header of the assistant's turn. The turn is what the template writes after it once the
answer is there. Rendering a probe word instead of the answer shows where the answer is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from assent.errors import ConfigError, DataError
from assent.text.rendering import OTHER_TEMPLATE, PROBE_WORD, Rendering
from assent.text.thoughts import CLOSING, OPENING, going_on, open_thought, split_thought, with_thought
from assent.types import Conversation, Message, Role

_PROBE = Conversation.of_user("Zqx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A turn: the text of its prompt, what the model writes then, and the token that ends the turn.

    `text` is empty or goes up to the end token, which is not in it.
    """

    prompt: str
    text: str
    end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """What stands around an answer: all before it, what of that the model writes, and all behind it."""

    before: str
    lead: str
    after: str
    gap: str  # of `after`, what stands before the end token
    end: str


class Turns:
    """The turns of one template.

    `ends` are the token texts that may end a turn, `named` those that the model folder names as ends, the first of
    them the end-of-text token: it closes a turn that the template closes with nothing or with plain text.
    """

    def __init__(self, rendering: Rendering, *, ends: Collection[str], named: Collection[str]) -> None:
        self._rendering, self._named = rendering, list(named)
        self._ends = re.compile("|".join(map(re.escape, sorted(ends, key=len, reverse=True))))
        self._at_the_end = re.compile(rf"(?:\s|{self._ends.pattern})*\Z")
        self._gap, self.end = "", self._named[0]
        prompt = rendering.render(_PROBE, generation_prompt=True)
        before, after = self._around_answer(_PROBE, prompt)
        self._gap, self.end = self._end_of(after) or self._next_header() or ("", self._named[0])
        self._lead = after_header(prompt, before)
        self._after = after
        self.channels = self._channels()

    def written(self, prompt: Conversation, answer: Message, *, ended: bool) -> Written:
        """The turn that gives this answer; one that has not `ended` (it was cut) has no end token."""
        text = self._rendering.as_answer(answer.content)
        if not prompt.messages:
            return Written(prompt="", text=text, end=self.end)
        header = self._rendering.render(prompt, generation_prompt=True)
        if not answer.content:
            return Written(prompt=header, text="", end=self.end)
        if not ended and (begun := self._unfinished_thought(header, text)) is not None:
            return Written(prompt=header, text=begun, end=self.end)
        whole = self._rendering.render(Conversation(messages=(*prompt.messages, answer), tools=prompt.tools))
        if self._lead is not None and whole == f"{header}{self._lead}{text}{self._after}":
            return Written(prompt=header, text=self._lead + text + (self._gap if ended else ""), end=self.end)
        body, gap, end = self._found(prompt, answer, header, whole)
        return Written(prompt=header, text=body + (gap if ended else ""), end=end)

    def reply(self, prompt: Conversation, answer: Message, messages: Sequence[Message]) -> tuple[str, str]:
        """(the token that ends the turn of an answer, the text behind it when messages follow, the next header too).

        What was said before the answer does not matter, and of the answer only its tool calls. Templates that write
        earlier turns in another way later (without their thoughts) do not: a turn stays as it was sampled.
        """
        spoken = answer if answer.tool_calls else Message(role=Role.ASSISTANT, content=PROBE_WORD)
        talk = Conversation(messages=(*_PROBE.messages, spoken), tools=prompt.tools)
        more = replace(talk, messages=(*talk.messages, *messages))
        body, gap, end = self._cut_at_last_end(self._rendering.render(talk))
        whole = self._rendering.render(more, generation_prompt=True)
        if not whole.startswith(body):
            raise ConfigError(
                "the chat template writes an answer in another way once a message follows: there can be no second turn",
                now=OTHER_TEMPLATE,
            )
        return end, whole[len(body) :].removeprefix(gap + end)

    def _unfinished_thought(self, header: str, text: str) -> str | None:
        """The text of a turn that was cut while it thought, or None where it was not."""
        opened = open_thought(header)
        if CLOSING in text or not (opened or text.startswith(OPENING)):
            return None
        if self.channels:
            return self.channels[0] + text.removeprefix(OPENING).lstrip()
        return text.removeprefix(opened)

    def _channels(self) -> tuple[str, str] | None:
        """(what opens a thought, what parts it from the answer) in a template that writes no tags around thoughts."""
        if not self._rendering.splits_thoughts:
            return None
        thought = Message(role=Role.ASSISTANT, content=with_thought(PROBE_WORD, PROBE_WORD))
        header = self._rendering.render(_PROBE, generation_prompt=True)
        whole = self._rendering.render(Conversation(messages=(*_PROBE.messages, thought)))
        parts = whole.removeprefix(header).split(PROBE_WORD)
        return (parts[0], parts[1]) if whole.startswith(header) and len(parts) == 3 else None

    def _found(self, prompt: Conversation, answer: Message, header: str, whole: str) -> tuple[str, str, str]:
        """(text of the turn, what stands before its end, the end) where the template changes the answer."""
        frame = self._frame(prompt, header)
        follows = whole.startswith(header)
        if answer.tool_calls and self._rendering.calls_as and follows:
            return self._cut_at_last_end(whole[len(header) :])
        opened = open_thought(header)
        text = self._rendering.as_answer(answer.content)
        start = len(header) if follows else len(frame.before)
        body = None
        if (follows or (whole.startswith(frame.before) and not opened)) and whole.endswith(frame.after):
            body = ("" if follows else frame.lead) + whole[start : max(start, len(whole) - len(frame.after))]
        if body is None or not _keeps(body.removeprefix(frame.lead), text):
            body = going_on(opened, text) if opened else text if CLOSING in text else frame.lead + text
        return body, frame.gap, frame.end

    def _frame(self, prompt: Conversation, header: str) -> _Frame:
        before, after = self._around_answer(prompt, header)
        lead = after_header(header, before)
        if lead is None and self._lead is not None and before.endswith(self._lead):
            lead = self._lead  # the template writes this prompt in another way once it is answered
        if lead is None and not open_thought(header):
            raise ConfigError(
                "the chat template does not say which text the assistant wrote: before an answer it writes other text "
                "than before the place where one is to come",
                now=OTHER_TEMPLATE,
            )
        gap, end = self._end_of(after) or (self._gap, self.end)
        return _Frame(before=before, lead=lead or "", after=after, gap=gap, end=end)

    def _around_answer(self, prompt: Conversation, header: str) -> tuple[str, str]:
        word = PROBE_WORD
        while word in header.lower():
            word += PROBE_WORD[-1]
        whole = self._rendering.render(prompt.then(word))
        found = list(re.finditer(word, whole, re.IGNORECASE))
        if not found:
            raise ConfigError("the chat template does not write what the assistant said", now=OTHER_TEMPLATE)
        return whole[: found[-1].start()], whole[found[-1].end() :]

    def _end_of(self, after: str) -> tuple[str, str] | None:
        """(what stands before the end token, the end token) of what follows an answer."""
        found = self._ends.search(after)
        return (after[: found.start()], found.group()) if found else None

    def _next_header(self) -> tuple[str, str] | None:
        """The same where the next turn's header ends a turn, and the model folder names it as an end."""
        talk = _PROBE.then(PROBE_WORD)
        more = Conversation(messages=(*talk.messages, Message(role=Role.USER, content="Zqx")))
        try:
            whole = self._rendering.render(more)
        except DataError:
            return None
        found = self._end_of(whole[whole.lower().rfind(PROBE_WORD) + len(PROBE_WORD) :])
        return found if found and not found[0].strip() and found[1] in self._named else None

    def _cut_at_last_end(self, turn: str) -> tuple[str, str, str]:
        """As `_found`, for a turn that ends in tool calls: at the last tokens of the turn, the first known end."""
        run = self._at_the_end.search(turn)
        assert run is not None
        ends = list(self._ends.finditer(run.group()))
        known = [end for end in ends if end.group() in (self.end, *self._named)]
        if not ends:
            return turn[: run.start()], self._gap, self.end
        end = known[0] if known else ends[-1]
        return turn[: run.start()], run.group()[: end.start()], end.group()


def after_header(header: str, before: str) -> str | None:
    """What the template writes between the header of a turn and the answer; None where the one is not in the other."""
    if before.startswith(header):
        return before[len(header) :]
    if opened := open_thought(header):
        return going_on(opened, "") if header.removesuffix(opened) == before else None
    return "" if header.startswith(before) and not header[len(before) :].strip() else None


def _keeps(body: str, text: str) -> bool:
    """Whether all words of an answer and of its thought stand in what the template made of it."""
    kept, *parts = ("".join(part.split()).casefold() for part in (body, *split_thought(text)) if part is not None)
    return all(part in kept for part in parts)
