"""Conversations to tokens and back, with the loss mask.

There is one way to tokens. A prompt is rendered with the header of the assistant's turn. An answer is what the template
writes after that header, up to and including the token that ends the turn. The model generates all of that, so all of
it is learned, and sampling and training see the same ids.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import transformers  # its tokenizers and templates load lazily, and torch with them; this line alone stays light

from assent.errors import ConfigError
from assent.text.decoding import Decoder
from assent.text.encoding import TextEncoder
from assent.text.rendering import PLAIN_TEMPLATE, PROBE_CALL, PROBE_WORD, Rendering
from assent.text.template_notes import template_notes
from assent.text.thoughts import CLOSING, OPENING, with_thought
from assent.text.tokenizer import chat_templates, control_tokens, start_of_text
from assent.text.tokenizer_folder import check_tokenizer_folder, generation_end_ids
from assent.text.tool_calls import calls_at_end
from assent.text.turns import Turns
from assent.types import Completion, Conversation, Message, Role, StopReason

PINNED = datetime(2025, 1, 1)
"""The default time for templates that write the time, so that equal runs have equal tokens."""

_PROBE = Conversation.of_user("Zqx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Token ids, and for each whether the assistant wrote it and it is learned (the end of its turn included)."""

    ids: tuple[int, ...]
    assistant_mask: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """Itself: alone it is an example to learn from."""
        return (self,)

    @property
    def predicted(self) -> int:
        """How many tokens are predicted; the first has nothing before it."""
        return sum(self.assistant_mask[1:])


def joined_turns(turns: Iterable[Encoded]) -> tuple[Encoded, ...]:
    """The turns of a conversation, those that continue the one before with its very ids in one example with it."""
    joined: list[Encoded] = []
    for turn in turns:
        continues = joined and turn.ids[: len(joined[-1])] == joined[-1].ids
        earlier = joined.pop().assistant_mask if continues else ()
        joined.append(replace(turn, assistant_mask=earlier + turn.assistant_mask[len(earlier) :]))
    return tuple(joined)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """An answer to be encoded behind its prompt."""

    prompt: Conversation
    answer: Message
    ended: bool = True


class ChatTemplate:
    """A Hugging Face tokenizer with its chat template.

    A tokenizer without a chat template is given `PLAIN_TEMPLATE` (the object passed in is changed, so that saving it
    saves the template) and `used_default` is True, so that callers can say so. An encoder's tokenizer without an
    end-of-text token takes its separator as one. `end_id` ends a completion; sampling stops at any of `end_ids`.
    `clock` is what a template that writes the time reads.
    """

    def __init__(
        self, tokenizer: Any, *, more_end_ids: Iterable[int] = (), clock: Callable[[], datetime] = lambda: PINNED
    ) -> None:
        self.tokenizer = tokenizer
        if tokenizer.eos_token_id is None and tokenizer.sep_token is not None:
            tokenizer.eos_token = tokenizer.sep_token
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no end-of-text token, so a completion could never end",
                where=str(tokenizer.name_or_path or "tokenizer"),
                now='Set "eos_token" in its tokenizer_config.json.',
            )
        start = start_of_text(tokenizer)
        self.used_default = not tokenizer.chat_template
        if self.used_default:
            tokenizer.chat_template = ("{{ " + start + " }}" if start else "") + PLAIN_TEMPLATE
        self._start_ids = (int(getattr(tokenizer, f"{start}_id")),) if start else ()
        self.eos_id = int(tokenizer.eos_token_id)
        self.pad_id = int(self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
        control = control_tokens(tokenizer)
        template, with_tools = chat_templates(tokenizer)
        variables = dict(tokenizer.special_tokens_map)
        self._rendering = Rendering(template, variables, control, clock, with_tools=with_tools)
        self._encoder = TextEncoder(tokenizer, self._rendering)
        named = [self.eos_id, *more_end_ids]
        added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip())
        ends, names = {*control, *added} - {OPENING, CLOSING}, map(str, tokenizer.convert_ids_to_tokens(named))
        self._turns = Turns(self._rendering, ends=ends, named=list(names))
        self.end_id = int(tokenizer.convert_tokens_to_ids(self._turns.end))
        self.end_ids = frozenset({*named, self.end_id, *self._end_of_calls()})
        thought = self._probe_ids(with_thought(PROBE_WORD, PROBE_WORD)) if self._turns.channels else None
        self._decoder = Decoder(
            tokenizer, control, self.end_ids, answer=self._probe_ids(PROBE_WORD), thought_and_answer=thought
        )

    @classmethod
    def load(
        cls, path_or_name: str | Path, *, ends_of: Iterable[str] = (), clock: Callable[[], datetime] = lambda: PINNED
    ) -> ChatTemplate:
        """The tokenizer of a local folder or hub name, with the end tokens that the models `ends_of` name as well.

        Code from the folder is never run.
        """
        check_tokenizer_folder(Path(path_or_name), str(path_or_name))
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(path_or_name), trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            reason = str(error).strip().partition("\n")[0]
            now = "Give a folder with tokenizer.json and tokenizer_config.json, or a hub name."
            raise ConfigError(f"no tokenizer can be loaded ({reason})", where=str(path_or_name), now=now) from error
        named = {id_ for model in (str(path_or_name), *ends_of) for id_ in generation_end_ids(model)}
        return cls(tokenizer, more_end_ids=named, clock=clock)

    @property
    def vocabulary_size(self) -> int:
        """Tokens in the vocabulary, added ones included."""
        return len(self.tokenizer)

    def encode(self, conversation: Conversation) -> Encoded:
        """The last of a conversation's training examples; all its ids, none of them learned, where there is none."""
        (examples,) = self.encode_turns([conversation])
        if examples:
            return examples[-1]
        (ids,) = self.conversation_ids([conversation])
        return Encoded(ids=ids, assistant_mask=(False,) * len(ids))

    def encode_turns(self, conversations: Sequence[Conversation]) -> list[tuple[Encoded, ...]]:
        """The training examples of each conversation: every learned turn of the assistant as it would be sampled.

        Turns share an example where each stands in the next one's prompt with the very ids that it is written with.
        Templates that write earlier turns in another way (without their thoughts, with another end) part them.
        """
        return [joined_turns(turns) for turns in self.encode_each_turn(conversations)]

    def encode_each_turn(self, conversations: Sequence[Conversation]) -> list[list[Encoded]]:
        """Every learned turn of each conversation, each behind all that came before it."""
        asked = [
            (number, _Asked(prompt=conversation.before(place), answer=message))
            for number, conversation in enumerate(conversations)
            for place, message in enumerate(conversation.messages)
            if message.role is Role.ASSISTANT and message.learned
        ]
        turns: list[list[Encoded]] = [[] for _ in conversations]
        for (number, _), encoded in zip(asked, self._encode_answers([one for _, one in asked]), strict=True):
            turns[number].append(encoded)
        return turns

    def conversation_ids(self, conversations: Sequence[Conversation]) -> list[tuple[int, ...]]:
        """Whole conversations, whoever has the last word; the assistant's is closed by the end token."""
        written = self._encoder.ids([self._rendering.render(conversation) for conversation in conversations])
        return [
            (*ids, self.end_id)
            if conversation.messages[-1].role is Role.ASSISTANT and self.end_ids.isdisjoint(ids[-4:])
            else ids
            for ids, conversation in zip(written, conversations, strict=True)
        ]

    def encode_prompt(self, conversation: Conversation) -> tuple[int, ...]:
        """A prompt as the policy reads it, up to and including the header of the assistant's turn.

        An empty conversation (a text judged by itself, without a prompt) is the start-of-text token, if there is one.
        """
        return self.encode_prompts([conversation])[0]

    def encode_prompts(self, conversations: Sequence[Conversation]) -> list[tuple[int, ...]]:
        """Prompts in one batch; equal prompts are rendered and tokenised once."""
        distinct = [conversation for conversation in dict.fromkeys(conversations) if conversation.messages]
        texts = [self._rendering.render(conversation, generation_prompt=True) for conversation in distinct]
        ids_of = dict(zip(distinct, self._encoder.ids(texts), strict=True))
        return [ids_of.get(conversation, self._start_ids) for conversation in conversations]

    def prompt_text(self, conversation: Conversation) -> str:
        """The text whose tokens `encode_prompt` gives."""
        return self._rendering.prompt_text(conversation)

    def encode_completion(self, prompt: Conversation, completion: Completion) -> Encoded:
        """`encode_prompt(prompt)`, what the model writes to give this completion and, if it ended, the end token."""
        return self.encode_completions([(prompt, completion)])[0]

    def encode_completions(self, pairs: Sequence[tuple[Conversation, Completion]]) -> list[Encoded]:
        """Prompts with completions, in one batch. See `encode_completion`."""
        answers = [Message(role=Role.ASSISTANT, content=completion.text) for _, completion in pairs]
        ended = [completion.stop is StopReason.END for _, completion in pairs]
        asked = zip((prompt for prompt, _ in pairs), answers, ended, strict=True)
        return self._encode_answers([_Asked(prompt=prompt, answer=one, ended=end) for prompt, one, end in asked])

    def encode_reply(self, prompt: Conversation, answer: Message, reply: Sequence[Message]) -> tuple[int, ...]:
        """Messages behind the end of an answer's turn, up to and including the header of the assistant's next turn."""
        return self._encoder.ids_behind(*self._turns.reply(prompt, answer, reply))

    def text_ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of plain texts that belong to no conversation (documents to pretrain on)."""
        return self._encoder.ids([self._rendering.as_plain(text) for text in texts])

    def continuation_ids(self, text: str) -> tuple[int, ...]:
        """A plain text that is to be gone on with: the start-of-text token, if there is one, and the text's tokens."""
        return (*self._start_ids, *self.text_ids([text])[0])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a completion's ids: the answer, without what the template writes around it.

        A thought stands before its answer as `<think>...</think>`; one that the prompt opened goes without its opening.
        """
        return self._decoder.decode(ids)

    @property
    def decodes_in_pieces(self) -> bool:
        """Whether the text of later ids does not depend on how a completion began."""
        return self._decoder.in_pieces

    def notes(self, conversations: Iterable[Conversation]) -> tuple[str, ...]:
        """What the template leaves out of these conversations, or writes as plain text, in sentences for people."""
        return template_notes(self._rendering, conversations)

    def prompt_writers(self, prompt: Conversation) -> list[Role | None]:
        """Who wrote each token of a prompt: a role, or None for the template (and if it is unknown)."""
        text = self._rendering.render(prompt, generation_prompt=True)
        writers, ids = self._rendering.writers(prompt, text), self.encode_prompt(prompt)
        found: list[Role | None] = []
        start = 0
        for part, plain in self._rendering.split_marked(text):
            settings = {"add_special_tokens": False, "split_special_tokens": plain, "return_offsets_mapping": True}
            found += [writers[start + first] for first, _ in self.tokenizer(part, **settings)["offset_mapping"]]
            start += len(part)
        return found if len(found) == len(ids) else [None] * len(ids)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer and template in Hugging Face form."""
        self.tokenizer.save_pretrained(str(folder))

    def _encode_answers(self, asked: Sequence[_Asked]) -> list[Encoded]:
        """Answers behind their prompts, tokenised together unless a token would straddle the border between the two."""
        answers = [  # an answer whose text ends in tool calls as JSON is those calls, wherever it came from
            one.answer
            if one.answer.tool_calls or not self._rendering.calls_as
            else replace(one.answer, tool_calls=calls_at_end(one.answer.content))
            for one in asked
        ]
        both = zip(asked, answers, strict=True)
        turns = [self._turns.written(one.prompt, answer, ended=one.ended) for one, answer in both]
        before = self._encoder.ids([turn.prompt for turn in turns])
        whole = self._encoder.ids([turn.prompt + turn.text for turn in turns])
        parts = zip(turns, before, whole, strict=True)
        straddling = {turn.text for turn, head, ids in parts if ids[: len(head)] != head}
        apart = {text: self._encoder.marked_ids(text, first=False) for text in straddling}
        encoded = list[Encoded]()
        for one, turn, head, ids in zip(asked, turns, before, whole, strict=True):
            written = apart[turn.text] if ids[: len(head)] != head else ids[len(head) :]
            if one.ended:
                written = (*written, int(self.tokenizer.convert_tokens_to_ids(turn.end)))
            prompt = head if one.prompt.messages else self._start_ids
            mask = (False,) * len(prompt) + (True,) * len(written)
            encoded.append(Encoded(ids=prompt + written, assistant_mask=mask))
        return encoded

    def _end_of_calls(self) -> tuple[int, ...]:
        """The token that ends a turn of tool calls, where the template has a form for them."""
        if not self._rendering.calls_as:
            return ()
        calls = json.dumps([PROBE_CALL], ensure_ascii=False)
        answer = Message(role=Role.ASSISTANT, content=calls, tool_calls=calls)
        try:
            return self._encode_answers([_Asked(prompt=_PROBE, answer=answer)])[0].ids[-1:]
        except ConfigError:
            return ()

    def _probe_ids(self, text: str) -> tuple[int, ...]:
        """What the model writes to answer a question with this text; the text itself under a template that hides it.

        Such a template is refused where answers are learned or scored; prompts need no account of who wrote what.
        """
        try:
            return self.encode_completion(_PROBE, Completion(text=text)).ids[len(self.encode_prompt(_PROBE)) :]
        except ConfigError:
            return self._encoder.ids([text])[0]
