"""Conversations to tokens and back, with the account of who wrote each token: the loss mask.

The text that the template renders is cut where the assistant begins and ends to write, and each piece is tokenised by
itself. So no token straddles the border between what the model reads and what it writes, and the ids of a conversation
in training are the ids it has at sampling time: the prompt's ids, then the ids of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers  # its tokenizers and templates load lazily, and torch with them; this line alone stays light

from assent.errors import ConfigError
from assent.text.rendering import PLAIN_TEMPLATE, Piece, Rendering, has_generation_tags
from assent.types import Completion, Conversation, Message, Role, StopReason

_PROBE = Conversation(messages=(Message(role=Role.USER, content="Zqx"), Message(role=Role.ASSISTANT, content="Wvj")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Token ids, and for each whether the assistant wrote it (the end-of-turn token after its text included)."""

    ids: tuple[int, ...]
    written_by_assistant: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)


class ChatTemplate:
    """A Hugging Face tokenizer with its chat template.

    A tokenizer without a chat template is given `PLAIN_TEMPLATE` (the object passed in is changed, so that saving it
    saves the template) and `used_default` is True, for callers to say so aloud. An encoder's tokenizer without an
    end-of-text token takes its separator as one. `end_id` ends a completion; sampling stops at any of `end_ids`.
    """

    def __init__(self, tokenizer: Any, *, more_end_ids: Iterable[int] = ()) -> None:
        self.tokenizer = tokenizer
        if tokenizer.eos_token_id is None and tokenizer.sep_token is not None:
            tokenizer.eos_token = tokenizer.sep_token
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no end-of-text token, so a completion could never end",
                where=str(tokenizer.name_or_path or "tokenizer"),
                now='Set "eos_token" in its tokenizer_config.json.',
            )
        start = _start_of_text(tokenizer)
        self.used_default = not tokenizer.chat_template
        if self.used_default:
            tokenizer.chat_template = ("{{ " + start + " }}" if start else "") + PLAIN_TEMPLATE
        self._start_ids = (int(getattr(tokenizer, f"{start}_id")),) if start else ()
        self.eos_id = int(tokenizer.eos_token_id)
        self.pad_id = int(self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
        self._rendering = Rendering(
            tokenizer.get_chat_template(),
            dict(tokenizer.special_tokens_map),
            _control_tokens(tokenizer),
            str(tokenizer.eos_token),
        )
        self._prefix, end_text = self._rendering.learn_turn_form(_PROBE)
        self.end_id = int(tokenizer.convert_tokens_to_ids(end_text))
        self.end_ids = frozenset({self.eos_id, self.end_id, *more_end_ids})

    @classmethod
    def load(cls, path_or_name: str | Path) -> ChatTemplate:
        """The tokenizer of a local folder or hub name. Code from the folder is never run."""
        _check_tokenizer_folder(Path(path_or_name), str(path_or_name))
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(path_or_name), trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"no tokenizer can be loaded ({reason})",
                where=str(path_or_name),
                now="Give a folder with tokenizer.json and tokenizer_config.json, or a hub name.",
            ) from error
        return cls(tokenizer, more_end_ids=_generation_end_ids(str(path_or_name)))

    @property
    def has_generation_tags(self) -> bool:
        """Whether the template itself marks what the assistant writes."""
        return has_generation_tags(self._rendering.template)

    @property
    def vocabulary_size(self) -> int:
        """Tokens in the vocabulary, added ones included."""
        return len(self.tokenizer)

    def encode(self, conversation: Conversation) -> Encoded:
        """The whole conversation with its mask. See `encode_many`."""
        return self.encode_many([conversation])[0]

    def encode_many(self, conversations: Sequence[Conversation]) -> list[Encoded]:
        """Whole conversations in one call of the tokenizer's batch interface.

        A template that writes no end token after the assistant is given one at the very end of a conversation that
        the assistant closes: without it a model would never learn to stop.
        """
        pieces_of = [self._rendering.pieces(conversation, generation_prompt=False) for conversation in conversations]
        encoded = self._encode_pieces(pieces_of)
        return [self._closed(one, conversation) for one, conversation in zip(encoded, conversations, strict=True)]

    def encode_prompt(self, conversation: Conversation) -> tuple[int, ...]:
        """A prompt as the policy reads it, up to and including the header of the assistant's turn.

        An empty conversation (a text judged by itself, without a prompt) is the start-of-text token, if there is one.
        """
        return self.encode_prompts([conversation])[0]

    def encode_prompts(self, conversations: Sequence[Conversation]) -> list[tuple[int, ...]]:
        """Prompts in one batch; equal prompts are tokenised once."""
        places = {conversation: place for place, conversation in enumerate(dict.fromkeys(conversations))}
        pieces_of = [self._rendering.pieces(conversation, generation_prompt=True) for conversation in places]
        encoded = self._encode_pieces(pieces_of)
        return [
            encoded[places[conversation]].ids if conversation.messages else self._start_ids
            for conversation in conversations
        ]

    def prompt_text(self, conversation: Conversation) -> str:
        """The text whose tokens `encode_prompt` gives."""
        return self._rendering.prompt_text(conversation)

    def encode_completion(self, prompt: Conversation, completion: Completion) -> Encoded:
        """`encode_prompt(prompt)`, the completion's own tokens and, if it ended by itself, the end token.

        The completion is tokenised by itself and not by rendering the longer conversation: templates that rewrite
        earlier turns or decorate the last one would otherwise score other tokens than the ones that were sampled.
        """
        return self.encode_completions([(prompt, completion)])[0]

    def encode_completions(self, pairs: Sequence[tuple[Conversation, Completion]]) -> list[Encoded]:
        """Prompts with completions, in one batch. See `encode_completion`."""
        prompts = self.encode_prompts([prompt for prompt, _ in pairs])
        prefixes = [self._prefix if prompt.messages else "" for prompt, _ in pairs]
        written = self._completion_ids([completion for _, completion in pairs], prefixes)
        return [
            Encoded(ids=before + after, written_by_assistant=(False,) * len(before) + (True,) * len(after))
            for before, after in zip(prompts, written, strict=True)
        ]

    def completion_ids(self, completions: Sequence[Completion]) -> list[tuple[int, ...]]:
        """The tokens of completions alone; control tokens spelled out in their text stay plain text."""
        return self._completion_ids(completions, [self._prefix] * len(completions))

    def _completion_ids(self, completions: Sequence[Completion], prefixes: Sequence[str]) -> list[tuple[int, ...]]:
        texts = [prefix + one.text if one.text else "" for prefix, one in zip(prefixes, completions, strict=True)]
        written = self._token_ids([self._rendering.as_plain(text) for text in texts])
        return [
            (*ids, self.end_id) if completion.stop is StopReason.END else ids
            for ids, completion in zip(written, completions, strict=True)
        ]

    def text_ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of plain texts that belong to no conversation (documents to pretrain on)."""
        return self._token_ids([self._rendering.as_plain(text) for text in texts])

    def continuation_ids(self, text: str) -> tuple[int, ...]:
        """A plain text that is to be gone on with: the start-of-text token, if there is one, and the text's tokens."""
        return (*self._start_ids, *self.text_ids([text])[0])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a completion's ids, without special tokens and without the template's own leading space."""
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return text.removeprefix(self._prefix)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer and template in Hugging Face form."""
        self.tokenizer.save_pretrained(str(folder))

    def _closed(self, encoded: Encoded, conversation: Conversation) -> Encoded:
        closes = bool(conversation.messages) and conversation.messages[-1].role is Role.ASSISTANT
        if not closes or any(id_ in self.end_ids for id_ in encoded.ids[-4:]):
            return encoded
        return Encoded(ids=(*encoded.ids, self.end_id), written_by_assistant=(*encoded.written_by_assistant, True))

    def _encode_pieces(self, pieces_of: Sequence[Sequence[Piece]]) -> list[Encoded]:
        ids_of = iter(self._token_ids([piece.text for pieces in pieces_of for piece in pieces]))
        encoded = []
        for pieces in pieces_of:
            ids: list[int] = []
            written: list[bool] = []
            for piece in pieces:
                piece_ids = next(ids_of)
                ids.extend(piece_ids)
                written.extend([piece.by_assistant] * len(piece_ids))
            encoded.append(Encoded(ids=tuple(ids), written_by_assistant=tuple(written)))
        return encoded

    def _token_ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        if not texts:
            return []
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        settings = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
        ids_of = self.tokenizer(
            ["" if self._rendering.is_marked(text) else text for text in distinct], verbose=False, **settings
        )["input_ids"]
        return [
            self._marked_ids(text) if self._rendering.is_marked(text) else tuple(ids_of[distinct[text]])
            for text in texts
        ]

    def _marked_ids(self, text: str) -> tuple[int, ...]:
        """Ids of a text in which someone spelled control tokens out: those become ordinary tokens."""
        return tuple(
            id_
            for part, plain in self._rendering.split_marked(text)
            for id_ in self.tokenizer.encode(part, add_special_tokens=False, split_special_tokens=plain)
        )


def _control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The texts of the special tokens, whitespace ones excepted: templates write those as ordinary text."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(text for text in dict.fromkeys([*tokenizer.all_special_tokens, *added]) if text.strip())


def _start_of_text(tokenizer: Any) -> str:
    """The name of the token that this tokenizer puts at the start of a text by itself, or empty text."""
    first = tokenizer("x")["input_ids"][:1]
    starts = (name for name in ("bos_token", "cls_token") if first == [getattr(tokenizer, f"{name}_id")])
    return next(starts, "")


def _check_tokenizer_folder(folder: Path, given: str) -> None:
    """Say plainly what is wrong with a local folder, before a library guesses that it is a hub name."""
    if not folder.exists() and (given.startswith(("/", ".", "~")) or given.count("/") > 1):
        raise ConfigError("there is no such folder", where=given, now="Give a model folder or a hub name.")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            try:
                content = json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError as error:
                raise ConfigError(
                    f"the file is damaged ({error})", where=str(folder / name), now="Copy the model folder again."
                ) from error
            if not isinstance(content, dict):
                raise ConfigError("expected a JSON object", where=str(folder / name))


def _generation_end_ids(path_or_name: str) -> tuple[int, ...]:
    """The end tokens that a local folder's generation_config.json names besides the tokenizer's own."""
    path = Path(path_or_name) / "generation_config.json"
    if not path.is_file():
        return ()
    try:
        named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"the file is damaged ({error})", where=str(path)) from error
    listed = named if isinstance(named, list) else [named]
    return tuple(id_ for id_ in listed if isinstance(id_, int))
