"""What is written is what `transformers` writes, with its log-probabilities, whatever is written at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedConfig, PreTrainedModel

from assent.backends.local import sampler as local_sampler
from assent.model.gguf import from_gguf
from assent.ports.learning import Need, Roles
from assent.ports.sampling import SamplingParams, TurnRequest
from assent.recipes.run.models import LanguageModel, MachineOptions, load_language_model
from assent.text.template import Encoded
from assent.types import Conversation, Demonstration, Turn

pytestmark = pytest.mark.slow
TOKENS, SIDE_BY_SIDE = 24, 20
TIED = 5e-5  # of the largest logit: what two orders of addition in float32 make of equal numbers
SOME, ALL = 40, pytest.param(200, marks=pytest.mark.proof)

SHAPE = {
    "vocab_size": 49152, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    "initializer_range": 0.2, "tie_word_embeddings": False,
}  # fmt: skip
SHAPES: dict[str, Callable[[], PreTrainedConfig]] = {
    "qwen3": lambda: transformers.Qwen3Config(**SHAPE, head_dim=32),
    "mistral": lambda: transformers.MistralConfig(**SHAPE, sliding_window=24),
    "phi3": lambda: transformers.Phi3Config(**SHAPE),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SHAPE, head_dim=32, sliding_window=24),
}


@pytest.fixture
def prompts(demonstrations: list[Demonstration]) -> list[Conversation]:
    """Different questions of people, not the longest ones."""
    asked = {one.conversation.before(1) for one in demonstrations if len(one.conversation.messages) == 2}
    return sorted((one for one in asked if len(one.last_user_text) < 300), key=lambda one: one.last_user_text)


def generated(plain: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Greedy completions by the library's own loop, padded on the left, up to the end token."""
    found = []
    for first in range(0, len(prompts), SIDE_BY_SIDE):
        rows = prompts[first : first + SIDE_BY_SIDE]
        width, pad = max(map(len, rows)), int(plain.generation_config.pad_token_id)
        ids = torch.tensor([[pad] * (width - len(row)) + [*row] for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        written = plain.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=TOKENS)[:, width:].tolist()
        end = int(plain.generation_config.eos_token_id)
        found += [tuple(row[: row.index(end) + 1] if end in row else row) for row in written]
    return found


@torch.no_grad()
def logits_of(plain: PreTrainedModel, turn: Turn) -> Tensor:
    """The logits (T, V) behind every token of a completion, in one plain pass over the whole text."""
    ids = torch.tensor([[*turn.prompt_ids, *turn.completion_ids]])
    logits: Tensor = plain(ids, use_cache=False).logits[0, len(turn.prompt_ids) - 1 : -1]
    return logits


def assert_greedy(plain: PreTrainedModel, turns: Sequence[Turn]) -> None:
    """The same tokens as `generate`. A text may part from it only where the two likeliest tokens tie, one in fifty.

    Such a text is read again whole: each of its tokens must be the likeliest, or one of two that tie.
    """
    texts = generated(plain, [turn.prompt_ids for turn in turns])
    parted = [turn for turn, text in zip(turns, texts, strict=True) if turn.completion_ids != text]
    for turn in parted:
        logits_TV = logits_of(plain, turn)
        own_T = logits_TV.gather(1, torch.tensor(turn.completion_ids)[:, None])[:, 0]
        assert (logits_TV.max(1).values - own_T).max() <= TIED * logits_TV.abs().max()
    assert len(parted) <= len(turns) // 50


@pytest.mark.parametrize("count", [SOME, ALL])
def test_greedy_texts_of_the_real_model_are_those_of_transformers(
    model: LanguageModel, prompts: list[Conversation], count: int
) -> None:
    plain = transformers.AutoModelForCausalLM.from_pretrained(model.path)
    sampling = SamplingParams(temperature=0.0, max_tokens=TOKENS)
    assert_greedy(plain, model.sampler.sample(prompts[:count], sampling=sampling, seed=0))


@pytest.mark.parametrize("count", [SOME, ALL])
@pytest.mark.parametrize("name", SHAPES)
def test_greedy_texts_of_other_architectures_are_those_of_transformers(
    name: str, prompts: list[Conversation], count: int, gguf_file: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    plain = transformers.AutoModelForCausalLM.from_config(SHAPES[name]()).eval()
    plain.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(from_gguf(str(gguf_file))).save_pretrained(tmp_path)
    model = load_language_model(str(tmp_path), machine=MachineOptions(threads=1))
    sampling = SamplingParams(temperature=0.0, max_tokens=TOKENS)
    turns = model.sampler.sample(prompts[:count], sampling=sampling, seed=0)
    assert len({turn.completion_ids for turn in turns}) > count / 2  # random weights say different things too
    assert_greedy(plain, turns)


@pytest.mark.parametrize("count", [8, ALL])
def test_log_probabilities_are_those_of_a_plain_pass(
    model: LanguageModel, prompts: list[Conversation], count: int
) -> None:
    """Those that tokens were drawn with, and those that the learner reads."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(model.path)
    turns = model.sampler.sample(prompts[:count], sampling=SamplingParams(max_tokens=TOKENS), seed=3)
    read = model.backend.learner(Roles(policy=model.role)).score([encoded(turn) for turn in turns], Need())
    for turn, outputs in zip(turns, read, strict=True):
        logp_TV = torch.log_softmax(logits_of(plain, turn), -1)
        true_T = logp_TV.gather(1, torch.tensor(turn.completion_ids)[:, None])[:, 0]
        assert_close(torch.tensor(turn.logps), true_T, atol=1e-4, rtol=0.0)
        assert_close(outputs["logp"], true_T, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("count", [12, pytest.param(64, marks=pytest.mark.proof)])
def test_a_text_follows_from_its_seed_whatever_is_written_beside_it(
    model: LanguageModel, prompts: list[Conversation], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, each alone, in another order, and a few at a time that leave and let others in."""
    sampler, sampling, places = model.sampler, SamplingParams(max_tokens=TOKENS), [*range(count)]
    ids = [sampler.encode(prompt) for prompt in prompts[:count]]

    def texts(groups: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        found = {}
        for group in groups:
            asked = [TurnRequest(key=place, prompt_ids=ids[place], seed=1000 + place) for place in group]
            found |= dict(sampler.stream([asked], sampling=sampling))
        return [found[place].completion_ids for place in places]

    truth = texts([places])
    assert len(set(truth)) == count
    assert texts([[place] for place in places]) == truth
    assert texts([places[::2][::-1], places[1::2]]) == truth
    monkeypatch.setitem(local_sampler._MOST, "cpu", (5, 1 << 16))
    assert texts([places[3:] + places[:3]]) == truth


def encoded(turn: Turn) -> Encoded:
    mask = (False,) * len(turn.prompt_ids) + (True,) * len(turn.completion_ids)
    return Encoded(ids=turn.prompt_ids + turn.completion_ids, assistant_mask=mask)
