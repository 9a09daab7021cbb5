"""Conversations to text by a chat template. No tokens here.

Templates come from model folders and run in a sandbox. Each is asked once, with a probe, in which form it takes
content, thoughts and tool calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import _compile_jinja_template

from assent.errors import ConfigError, DataError
from assent.text.thoughts import CLOSING, OPENING, split_thought, with_thought
from assent.types import Conversation, Message, Role

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '\\n\\nAssistant:' }}{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}"
    "{% elif message['role'] == 'system' %}{{ '\\n\\nSystem: ' + message['content'] }}"
    "{% elif message['role'] == 'tool' %}{{ '\\n\\nTool: ' + message['content'] }}"
    "{% else %}{{ '\\n\\nHuman: ' + message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
)
"""The default for tokenizers without a template: HH transcripts, the end-of-text token after each assistant turn."""

PROBE_WORD = "zqxwvj"  # what no template and hardly any conversation says
OTHER_TEMPLATE = "Give the tokenizer another chat_template."

_MARK = "\ufdd0"  # a code point that Unicode keeps out of text: it marks control tokens spelled out by someone
_THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # the names under which templates read a thought
_RAISED = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
PROBE_CALL = {"id": "abcdefghi", "type": "function", "function": {"name": PROBE_WORD, "arguments": {"key": "value"}}}
_ASKED = {"role": "user", "content": "Zqx"}
_ANSWERED = {"role": "assistant", "content": PROBE_WORD}
_ASSISTANT = {"role": "assistant", "content": "Wvj"}


class Rendering:
    """A chat template bound to one tokenizer's special tokens and to a clock.

    `with_tools` is the template for conversations that come with tools, where the tokenizer has one of its own.

    Control tokens spelled out inside a message ("</s>" typed by a user) are marked, so that they become ordinary
    tokens and cannot pass for the end of a turn; only the tags around an assistant's thought stay what they are.
    """

    def __init__(
        self,
        template: str,
        variables: Mapping[str, Any],
        control_tokens: tuple[str, ...],
        clock: Callable[[], datetime],
        *,
        with_tools: str | None = None,
    ) -> None:
        self._variables = {**variables, "strftime_now": lambda form: clock().strftime(form)}
        longest_first = sorted(control_tokens, key=len, reverse=True)
        self._control = _any_of(longest_first)
        self._control_but_thoughts = _any_of([text for text in longest_first if text not in (OPENING, CLOSING)])
        self._marked = re.compile("(" + "|".join(re.escape(_marked(text)) for text in longest_first) + ")")
        try:
            self._template, self._with_tools = map(_compile_jinja_template, (template, with_tools or template))
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"the chat template is broken ({error})", now=OTHER_TEMPLATE) from error
        self._in_parts = not self._writes(_ANSWERED) and self._writes({**_ANSWERED, "content": _parts(PROBE_WORD)})
        thinking = dict.fromkeys(_THOUGHTS, PROBE_WORD)
        tagged = {**_ASSISTANT, "content": with_thought(PROBE_WORD, PROBE_WORD)}
        own_tags = CLOSING not in template or self._written(tagged).count(OPENING) > 1  # beside those of the answer
        self.splits_thoughts = own_tags and self._writes({**_ASSISTANT, **thinking})
        self.calls_as = self._form_of_calls()

    def __deepcopy__(self, memo: dict[int, Any]) -> Rendering:
        """Itself: nothing in it ever changes, and a compiled template cannot be copied."""
        return self

    def render(self, conversation: Conversation, *, generation_prompt: bool = False) -> str:
        """The conversation as text, with spelled-out control tokens marked."""
        chat = [self._entry(message) for message in conversation.messages]
        tools = self._plain_json(conversation.tools) if conversation.tools else None
        return self._call(chat, tools, generation_prompt=generation_prompt)

    def prompt_text(self, conversation: Conversation) -> str:
        """The rendered conversation up to and including the header of the assistant's turn; empty if it is."""
        if not conversation.messages:
            return ""
        return self.render(conversation, generation_prompt=True).replace(_MARK, "")

    def as_plain(self, text: str) -> str:
        """`text` with the control tokens spelled out in it marked."""
        return self._control.sub(lambda match: _marked(match.group()), text)

    def as_answer(self, text: str) -> str:
        """The same for an assistant's text: the tags around its thought are not marked."""
        return self._control_but_thoughts.sub(lambda match: _marked(match.group()), text)

    def is_marked(self, text: str) -> bool:
        """Whether something in this rendered text is marked."""
        return _MARK in text

    def writers(self, prompt: Conversation, text: str) -> list[Role | None]:
        """Who wrote each character of a prompt's rendering (without marks): a role, or None for the template.

        Words of our own in the place of all contents show what is the template's. Where it changes with the contents,
        nobody is named.
        """
        plain = text.replace(_MARK, "")
        words = [f"{PROBE_WORD}{place}q" for place in range(len(prompt.messages))]
        blank = [replace(m, content=word, tool_calls="") for m, word in zip(prompt.messages, words, strict=True)]
        frame = self.render(replace(prompt, messages=tuple(blank)), generation_prompt=True).replace(_MARK, "")
        parts = re.split("(" + "|".join(words) + ")", frame)
        found = parts[1::2]
        pattern = "(.*?)".join(map(re.escape, parts[::2]))
        match = re.fullmatch(pattern, plain, re.DOTALL) if len(set(found)) == len(found) else None
        writers: list[Role | None] = [None] * (len(plain) + 1)  # a token at the very end stands for no character
        for group, word in enumerate(found, start=1):
            if match is not None:
                start, end = match.span(group)
                writers[start:end] = [prompt.messages[words.index(word)].role] * (end - start)
        return writers

    def split_marked(self, text: str) -> Iterator[tuple[str, bool]]:
        """Parts of a marked text in order, each with whether it is to be read without control tokens."""
        for place, part in enumerate(self._marked.split(text)):
            if part:
                yield part.replace(_MARK, ""), bool(place % 2)

    def _entry(self, message: Message) -> dict[str, Any]:
        """A message in the form in which templates take one."""
        calls = message.tool_calls if self.calls_as else ""
        text: str | None = message.spoken if calls else message.content
        more: dict[str, Any] = {name: getattr(message, name) for name in ("name", "tool_call_id")}
        if message.role is Role.ASSISTANT and self.splits_thoughts:
            thought, answer = split_thought(str(text))
            if thought is not None:
                text, more = answer, {**more, **dict.fromkeys(_THOUGHTS, self.as_plain(thought))}
        mark = self.as_answer if message.role is Role.ASSISTANT else self.as_plain
        content: Any = mark(str(text))
        if self._in_parts:
            content = _parts(content)
        if calls:
            content, more["tool_calls"] = content or None, self._plain_json(calls)
            for call in more["tool_calls"] if self.calls_as == "text" else ():
                call["function"]["arguments"] = json.dumps(call["function"].get("arguments"), ensure_ascii=False)
        return {"role": message.role.value, "content": content} | {name: value for name, value in more.items() if value}

    def _plain_json(self, text: str) -> Any:
        return _each_text(json.loads(text), self.as_plain)

    def _call(self, chat: list[dict[str, Any]], tools: Any, *, generation_prompt: bool) -> str:
        template = self._with_tools if tools else self._template
        given = {"messages": chat, "tools": tools, "documents": None, "add_generation_prompt": generation_prompt}
        try:
            return str(template.render(**given, **self._variables))
        except _RAISED as error:
            turns = ", ".join(str(message["role"]) for message in chat)
            what = f"the chat template refuses a conversation with the turns {turns} ({error})"
            raise DataError(what, now=OTHER_TEMPLATE) from error

    def _writes(self, answer: Mapping[str, Any]) -> bool:
        """Whether the template writes the probe's word, which stands somewhere in this answer."""
        return PROBE_WORD in self._written(answer).lower()

    def _written(self, answer: Mapping[str, Any]) -> str:
        """A question with this answer; empty text where the template refuses it."""
        try:
            return self._call([_ASKED, dict(answer)], None, generation_prompt=False)
        except DataError:
            return ""

    def _form_of_calls(self) -> str:
        """How the template takes the arguments of tool calls: "objects", "text", or not at all (empty text)."""
        function = PROBE_CALL["function"]
        assert isinstance(function, dict)
        spelled = {**PROBE_CALL, "function": {**function, "arguments": json.dumps(function["arguments"])}}
        for form, call in (("objects", PROBE_CALL), ("text", spelled)):
            if self._writes({"role": "assistant", "content": None, "tool_calls": [call]}):
                return form
        return ""


def _any_of(texts: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)) or r"(?!)")


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _marked(control_token: str) -> str:
    return control_token[0] + _MARK + control_token[1:]


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_text(each, change) for each in value]
    if isinstance(value, dict):
        return {change(key): _each_text(each, change) for key, each in value.items()}
    return value
