"""Tokenizers: one of our own, a byte-level BPE trained from text (Sennrich et al. 2016), and what any holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from assent.errors import ConfigError


def train_tokenizer(
    texts: Iterable[str], *, vocabulary_size: int, special_tokens: Sequence[str], end: str, pad: str, chat_template: str
) -> transformers.PreTrainedTokenizerFast:
    """Train on `texts`. `special_tokens` get the first ids; a leading space is added to and taken from every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token=pad,
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
    )


_CONTROL_FORM = re.compile(r"<[|｜].+[|｜]>")  # a token like <|end|> that a tokenizer does not call special


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The texts of the special tokens and of those that look like some; not whitespace, which templates just write."""
    every = tokenizer.added_tokens_decoder.values()
    added = (token.content for token in every if token.special or _CONTROL_FORM.fullmatch(token.content))
    return tuple(text for text in dict.fromkeys([*tokenizer.all_special_tokens, *added]) if text.strip())


def start_of_text(tokenizer: Any) -> str:
    """The name of the token that this tokenizer puts at the start of a text by itself, or empty text."""
    first = tokenizer("x")["input_ids"][:1]
    starts = (name for name in ("bos_token", "cls_token") if first == [getattr(tokenizer, f"{name}_id")])
    return next(starts, "")


def chat_templates(tokenizer: Any) -> tuple[str, str | None]:
    """The chat template, and the one for conversations with tools where the tokenizer has several."""
    try:
        return str(tokenizer.get_chat_template()), str(tokenizer.get_chat_template(tools=[{}]))
    except ValueError as error:
        names = ", ".join(tokenizer.chat_template) if isinstance(tokenizer.chat_template, dict) else "no names"
        raise ConfigError(
            f'the tokenizer has several chat templates ({names}) and none that is called "default"',
            where=str(tokenizer.name_or_path or "tokenizer"), now="Name one of them default in its chat_template.",
        ) from error  # fmt: skip
