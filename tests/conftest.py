"""One small tokenizer and model folders, made once."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch
import transformers
from small_models import CAUSAL, VOCABULARY, bert_config, causal_lm, seeded
from transformers import PreTrainedTokenizerFast

from assent.text.rendering import PLAIN_TEMPLATE
from assent.text.template import ChatTemplate
from assent.text.tokenizer import train_tokenizer

END, PAD = "<|end|>", "<|pad|>"
TEXTS = ["Human: what is red ? Assistant: the sun is red .", "blue green one two three four", "yes no maybe " * 3]

# The same examples in every run: a change is judged by what it changed. HYPOTHESIS_PROFILE=default draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The tests' models are far too small for more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Our own small tokenizer: end and pad have ids 0 and 1."""
    return train_tokenizer(
        TEXTS, vocabulary_size=VOCABULARY, special_tokens=[END, PAD], end=END, pad=PAD, chat_template=PLAIN_TEMPLATE
    )


@pytest.fixture(scope="session")
def template(tokenizer: PreTrainedTokenizerFast) -> ChatTemplate:
    """The chat template of the small tokenizer."""
    return ChatTemplate(tokenizer)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    """Model folders by architecture, as a user would have them, plus "bert" as a classifier."""
    root = tmp_path_factory.mktemp("models")
    for name in CAUSAL:
        causal_lm(name).save_pretrained(root / name)
    seeded(lambda: transformers.BertForSequenceClassification(bert_config())).save_pretrained(root / "bert")
    for folder in root.iterdir():
        tokenizer.save_pretrained(folder)
    return {folder.name: folder for folder in root.iterdir()}
