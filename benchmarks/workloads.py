"""What both sides work on: two model sizes, a tokenizer, texts of log-normal length, batch sizes. Imports no trainer.

python benchmarks/workloads.py        writes the models to bench-models/ (random weights, a tokenizer of their own)
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

MODELS = Path(__file__).resolve().parents[1] / "bench-models"
SEED = 20
WORDS, ZIPF_TEXTS, WORDS_A_TEXT = 20_000, 12_000, 50
END, PAD = "<|end|>", "<|pad|>"
# The template adds nothing but the end token, so that both sides see the same tokens.
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)

SHAPES = {
    "tiny": {"vocab_size": 2048, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "heads": 4},
    "small": {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "heads": 8},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Items of an optimiser step; steps to warm up, then `blocks` timed blocks of `block` steps."""

    items: int
    warmup: int
    blocks: int
    block: int

    @property
    def total(self) -> int:
        return self.warmup + self.blocks * self.block


SFT_ITEMS, PAIRS, MAX_LENGTH, BETA = 16, 8, 512, 0.1
PPO_PROMPTS, PPO_TOKENS, PPO_EPOCHS, PPO_MINI_BATCHES = 64, 64, 4, 4
GENERATE_BATCH, GENERATE_TOKENS, GENERATE_REPEATS = 64, 128, 3


def steps(size: str, items: int, *, quick: bool) -> Steps:
    """Few steps of the small model: one of them takes the peer ten seconds."""
    if size == "tiny":
        return Steps(items=items, warmup=2, blocks=1 if quick else 3, block=3)
    return Steps(items=items, warmup=1, blocks=1, block=1 if quick else 2)


def ppo_updates(size: str, *, quick: bool) -> tuple[int, int]:
    """(iterations to warm up, iterations timed)."""
    return (1, 1 if quick else 3) if size == "tiny" else (0, 1)


class Texts:
    """Zipf-distributed invented words, cut at a wanted number of tokens."""

    def __init__(self, size: str) -> None:
        tokenizer = Tokenizer.from_file(str(MODELS / size / "tokenizer.json"))
        self._rng = np.random.default_rng(SEED)
        self._words = invented_words()
        self._cost = [len(found.ids) for found in tokenizer.encode_batch([" " + word for word in self._words])]
        self._share = zipf(len(self._words))

    def text(self, tokens: int) -> str:
        """`tokens` tokens, or a few more: words are not cut."""
        chosen: list[str] = []
        left = tokens
        for place in self._rng.choice(len(self._words), size=tokens, p=self._share):
            if left <= 0:
                break
            left -= self._cost[place]
            chosen.append(self._words[place])
        return " " + " ".join(chosen)

    def lengths(self, count: int, median: float, sigma: float, low: int, high: int) -> list[int]:
        """Log-normal token counts."""
        drawn = np.exp(self._rng.normal(np.log(median), sigma, count))
        return [int(length) for length in np.clip(drawn, low, high)]

    def documents(self, count: int) -> list[str]:
        """Texts of 16 to 505 tokens, median 110."""
        return [self.text(length) for length in self.lengths(count, 110, 0.75, 16, 500)]

    def pairs(self, count: int) -> list[dict[str, str]]:
        """Prompts of 8 to 120 tokens with two completions of 8 to 380."""
        sides = [
            self.lengths(count, 40, 0.5, 8, 120),
            self.lengths(count, 80, 0.75, 8, 380),
            self.lengths(count, 80, 0.75, 8, 380),
        ]
        names = ("prompt", "chosen", "rejected")
        return [dict(zip(names, map(self.text, row), strict=True)) for row in zip(*sides, strict=True)]

    def prompts(self, count: int) -> list[str]:
        """Prompts of about 32 tokens."""
        return [self.text(int(length)) for length in self._rng.integers(26, 35, count)]


def invented_words() -> list[str]:
    """Different words of 2 to 9 letters."""
    rng = np.random.default_rng(SEED)
    letters = np.array(list(string.ascii_lowercase))
    found: dict[str, None] = {}
    while len(found) < WORDS:
        found["".join(rng.choice(letters, size=int(rng.integers(2, 10))))] = None
    return list(found)


def zipf(count: int) -> np.ndarray:
    """Shares proportional to 1 / rank."""
    share = 1.0 / np.arange(1, count + 1)
    return share / share.sum()


def build(size: str) -> None:
    """Write the causal model and the one-output classifier of a size, if they are not there."""
    if (MODELS / f"{size}-reward" / "model.safetensors").is_file():
        return
    shape = dict(SHAPES[size])
    heads = shape.pop("heads")
    words, rng = invented_words(), np.random.default_rng(SEED)
    places = rng.choice(WORDS, size=(ZIPF_TEXTS, WORDS_A_TEXT), p=zipf(WORDS))
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape["vocab_size"], special_tokens=[PAD, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    plain.train_from_iterator((" " + " ".join(words[place] for place in row) for row in places), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token=PAD, eos_token=END)
    tokenizer.chat_template = TEMPLATE
    more = {"num_attention_heads": heads, "num_key_value_heads": heads, "max_position_embeddings": 1024}
    config = LlamaConfig(
        **shape, **more, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None, num_labels=1
    )
    for kind, name in ((LlamaForCausalLM, size), (LlamaForSequenceClassification, f"{size}-reward")):
        torch.manual_seed(SEED)
        kind(config).save_pretrained(MODELS / name)
        tokenizer.save_pretrained(MODELS / name)


if __name__ == "__main__":
    for each in SHAPES:
        build(each)
