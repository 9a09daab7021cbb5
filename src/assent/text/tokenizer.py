"""A byte-level BPE tokenizer of our own, trained from text (Sennrich et al. 2016), with its chat template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocabulary_size: int,
    special_tokens: Sequence[str],
    end: str,
    pad: str,
    chat_template: str,
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
