"""Conversations to text by a chat template, cut into pieces by who writes them. No tokens here.

Two accounts of who wrote what: the template's own `{% generation %}` tags; or, where it has none, rendering the
conversation up to each assistant turn and finding that rendering as a prefix of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
from transformers.utils import chat_template_utils

from assent.errors import ConfigError, DataError
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

_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARK = "\ufdd0"  # a code point that Unicode keeps out of text: it marks control tokens spelled out by someone

Span = tuple[int, int]


def has_generation_tags(template: str) -> bool:
    """Whether the template marks by itself what the assistant writes."""
    return _GENERATION_TAG.search(template) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of rendered text by one writer."""

    text: str
    by_assistant: bool


class Rendering:
    """A chat template bound to one tokenizer's special tokens.

    Control tokens spelled out inside a message ("</s>" typed by a user) are marked, so that they become ordinary
    tokens and cannot pass for the end of a turn.
    """

    def __init__(
        self, template: str, variables: Mapping[str, Any], control_tokens: tuple[str, ...], eos_text: str
    ) -> None:
        self.template = template
        self._variables = dict(variables)
        self._control_tokens = sorted(control_tokens, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, self._control_tokens)))
        self._marked = re.compile("(" + "|".join(re.escape(_marked(text)) for text in self._control_tokens) + ")")
        self._end_text = eos_text

    def learn_turn_form(self, probe: Conversation) -> tuple[str, str]:
        """(whitespace the template puts between header and answer, the token text that ends a turn).

        `probe` is a user message and an answer of plain letters. A template that writes no special token after the
        answer gets the tokenizer's end-of-text token.
        """
        answer = probe.messages[-1].content
        prompt, _ = self._render(probe.messages[:-1], generation_prompt=True)
        whole, _ = self._render(probe.messages, generation_prompt=False)
        place = whole.rfind(answer)
        if place < 0:
            raise ConfigError("the chat template does not write what the assistant said", now=_OTHER_TEMPLATE)
        between = whole[len(prompt) : place] if whole.startswith(prompt) else ""
        after = whole[place + len(answer) :]
        found = self._control.search(after)
        self._end_text = found.group() if found else self._end_text
        return (between if between.isspace() else ""), self._end_text

    def pieces(self, conversation: Conversation, *, generation_prompt: bool) -> list[Piece]:
        """The rendered conversation, cut at each border between the assistant's text and the rest; [] if empty."""
        if not conversation.messages:
            return []
        text, tagged = self._render(conversation.messages, generation_prompt=generation_prompt)
        if tagged is None:
            spans = self._spans_by_prefix(conversation.messages, text)
        else:
            spans = [self._with_end_of_turn(text, span) for span in tagged]
        return list(_cut(text, spans))

    def prompt_text(self, conversation: Conversation) -> str:
        """The rendered conversation up to and including the header of the assistant's turn; empty if it is."""
        if not conversation.messages:
            return ""
        return self._render(conversation.messages, generation_prompt=True)[0].replace(_MARK, "")

    def as_plain(self, text: str) -> str:
        """`text` with the control tokens spelled out in it marked."""
        return self._control.sub(lambda match: _marked(match.group()), text)

    def is_marked(self, text: str) -> bool:
        """Whether `as_plain` changed something in this rendered text."""
        return _MARK in text

    def split_marked(self, text: str) -> Iterator[tuple[str, bool]]:
        """Parts of a marked text in order, each with whether it is to be read without control tokens."""
        for place, part in enumerate(self._marked.split(text)):
            if part:
                yield (part.replace(_MARK, "", 1), True) if place % 2 else (part, False)

    def _render(self, messages: tuple[Message, ...], *, generation_prompt: bool) -> tuple[str, list[Span] | None]:
        chat = [{"role": message.role.value, "content": self.as_plain(message.content)} for message in messages]
        tags = has_generation_tags(self.template)
        try:
            # its annotation says text, but it returns a list of texts and a list of lists of spans
            rendered: Any = chat_template_utils.render_jinja_template(
                conversations=[chat],
                chat_template=self.template,
                return_assistant_tokens_mask=tags,
                add_generation_prompt=generation_prompt,
                **self._variables,
            )
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"the chat template is broken ({error})", now=_OTHER_TEMPLATE) from error
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            roles = ", ".join(message.role.value for message in messages)
            raise DataError(
                f"the chat template refuses a conversation with the turns {roles} ({error})", now=_OTHER_TEMPLATE
            ) from error
        texts, spans = rendered
        return texts[0], spans[0] if tags else None

    def _spans_by_prefix(self, messages: tuple[Message, ...], text: str) -> list[Span]:
        spans = []
        for place, message in enumerate(messages):
            if message.role is not Role.ASSISTANT:
                continue
            before = self._render(messages[:place], generation_prompt=True)[0] if place else ""
            content = self.as_plain(message.content).strip()
            start = text.find(content, len(before))
            if start < 0 or not text.startswith(before):
                raise ConfigError(
                    "the chat template does not say which text the assistant wrote: it has no {% generation %} tags "
                    "and it rewrites earlier turns",
                    now="Add {% generation %} tags around the assistant's text in the template.",
                )
            spans.append(self._with_end_of_turn(text, (len(before) if place else start, start + len(content))))
        return spans

    def _with_end_of_turn(self, text: str, span: Span) -> Span:
        """The span with the end-of-turn token that follows it, if it does: the assistant writes that too."""
        start, end = span
        after = text[end:]
        gap = len(after) - len(after.lstrip())
        return (start, end + gap + len(self._end_text)) if after.startswith(self._end_text, gap) else (start, end)


_OTHER_TEMPLATE = "Give the tokenizer another chat_template."


def _marked(control_token: str) -> str:
    return control_token[0] + _MARK + control_token[1:]


def _cut(text: str, spans: list[Span]) -> Iterator[Piece]:
    done = 0
    for start, end in spans:
        if done < start:
            yield Piece(text=text[done:start], by_assistant=False)
        if start < end:
            yield Piece(text=text[start:end], by_assistant=True)
        done = max(done, end)
    if done < len(text):
        yield Piece(text=text[done:], by_assistant=False)
