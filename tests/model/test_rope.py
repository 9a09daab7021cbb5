"""Rotary embeddings that depend on the length: a sequence has its own frequencies, whoever stands beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from small_models import VOCABULARY, body_of, seeded
from torch import Tensor
from torch.testing import assert_close
from training_jobs import CPU, PROMPTS, train_ppo
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from assent.algorithms.ppo import PPOSettings
from assent.backends.local.features import feature_batches, read_features
from assent.errors import ConfigError
from assent.model.cache import DecodeCache
from assent.model.flat import flatten
from assent.model.roles import ScalarRole, fresh_head
from assent.model.verification import verify_flat
from assent.recipes.run.models import LanguageModel, load_language_model
from assent.text.template import ChatTemplate
from assent.types import Completion

SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3, "bos_token_id": None,
    "eos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
LONG = {
    "rope_type": "longrope", "factor": 4.0, "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip


def llama(rope: dict, places: int) -> Callable[[], PreTrainedModel]:
    config = transformers.LlamaConfig(**SMALL, max_position_embeddings=places, rope_parameters=rope)
    return lambda: transformers.LlamaForCausalLM(config)


def gemma(full: dict) -> Callable[[], PreTrainedModel]:
    """Layers of two kinds, each with its own rotary embedding."""
    small = {**SMALL, "num_hidden_layers": 3, "max_position_embeddings": 16}
    config = transformers.Gemma3TextConfig(
        **small, sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )  # fmt: skip
    return lambda: transformers.Gemma3ForCausalLM(config)


def phi3() -> PreTrainedModel:
    """Rotary embeddings of a part of each head, and a cache that the library drops where the frequencies change."""
    config = transformers.Phi3Config(
        **SMALL, max_position_embeddings=64, original_max_position_embeddings=16, rope_parameters=LONG
    )
    return transformers.Phi3ForCausalLM(config)


MODELS = {
    "dynamic": llama(DYNAMIC, 16), "longrope": llama(LONG, 64), "yarn": llama(YARN, 64), "llama3": llama(LLAMA3, 64),
    "phi3": phi3,
    "gemma dynamic": gemma(DYNAMIC), "gemma default": gemma({"rope_type": "default", "rope_theta": 1e4}),
}  # fmt: skip
UNSTEADY = ("dynamic", "longrope", "phi3", "gemma dynamic")
LENGTHS = (5, 40, 16, 17, 40, 23, 1)


def sequences(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def alone(model: PreTrainedModel, row: list[int], **more: object) -> transformers.utils.ModelOutput:
    """What the library gives for one sequence, by a model that has seen no other."""
    return copy.deepcopy(model)(torch.tensor([row]), output_hidden_states=True, **more)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    made = seeded(MODELS[request.param])
    made.set_attn_implementation("eager")
    return made


def hidden_alone(model: PreTrainedModel, rows: list[list[int]]) -> Tensor:
    return torch.cat([alone(model, row, use_cache=False).hidden_states[-1][0] for row in rows])


@torch.no_grad()
def test_a_sequence_in_a_row_of_others_is_what_it_is_alone(model: PreTrainedModel) -> None:
    rows, body = sequences(), body_of(copy.deepcopy(model))
    true = hidden_alone(model, rows)
    assert_close(body.hidden(flatten(rows)), true, atol=2e-4, rtol=1e-3)
    back = body.hidden(flatten(rows[::-1]))  # in any order, and after other lengths
    assert_close(torch.cat([*back.split([len(row) for row in rows[::-1]])][::-1]), true, atol=2e-4, rtol=1e-3)
    verify_flat(body, "rope")


@torch.no_grad()
@pytest.mark.parametrize("name", UNSTEADY)
def test_the_frequencies_matter_in_these_models(name: str) -> None:
    model, (short, long, *_) = seeded(MODELS[name]), sequences()
    model.set_attn_implementation("eager")
    single, padded = alone(model, short).logits[0], torch.tensor([short + [1] * 35, long])
    mask = (torch.arange(40)[None] < torch.tensor([[5], [40]])).long()
    beside = copy.deepcopy(model)(padded, attention_mask=mask).logits[0, :5]
    assert (single - beside).abs().max() > 1e-2


def test_gradients_in_a_row_are_those_of_the_sequences_alone(model: PreTrainedModel) -> None:
    rows, body = sequences((5, 40, 17)), body_of(copy.deepcopy(model))
    body.hidden(flatten(rows)).sin().sum().backward()
    wanted = dict(model.named_parameters())
    for row in rows:
        one = copy.deepcopy(model)
        one(torch.tensor([row]), output_hidden_states=True, use_cache=False).hidden_states[-1].sin().sum().backward()
        for name, parameter in one.named_parameters():
            if parameter.grad is not None:
                before = wanted[name].grad
                wanted[name].grad = parameter.grad if before is None else before + parameter.grad
    for name, parameter in body.model.named_parameters():
        if parameter.grad is not None:
            scale = float(wanted[name].grad.abs().max())
            assert_close(parameter.grad, wanted[name].grad, atol=2e-4 * max(1.0, scale), rtol=1e-2, msg=name)


@torch.no_grad()
def test_writing_with_a_cache_is_what_the_library_does_with_one_sequence_alone(model: PreTrainedModel) -> None:
    rows, body = sequences((5, 14, 30)), body_of(copy.deepcopy(model))
    batch = flatten(rows)
    cache = DecodeCache(batch.lengths, spare=6)
    body.hidden(batch, batch.last_B, cache=cache)
    position_B, steps = torch.tensor(batch.lengths), []
    for step in range(6):
        steps.append(body.next_hidden(torch.tensor([7 + step] * 3), position_B, cache))
        cache.used += 1
        position_B = position_B + 1
    for place, row in enumerate(rows):
        plain, state = copy.deepcopy(model), None
        state = plain(torch.tensor([row]), use_cache=True).past_key_values
        for step in range(6):
            out = plain(
                torch.tensor([[7 + step]]), past_key_values=state, use_cache=True, output_hidden_states=True,
                position_ids=torch.tensor([[len(row) + step]]),
            )  # fmt: skip
            assert_close(steps[step][place], out.hidden_states[-1][0, 0], atol=2e-4, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_rewards_do_not_depend_on_what_else_is_scored(name: str, template: ChatTemplate) -> None:
    model = seeded(MODELS[name])
    body = body_of(copy.deepcopy(model))
    role = ScalarRole(body, fresh_head(32, seed=0, name="reward"))
    texts = [Completion(text=text) for text in ("yes", "the sun is red " * 4, "the sun is red " * 4 + "no")]
    batches = feature_batches(role, template, [PROMPTS[0]] * 3, texts)
    found = {place: row for one in batches for place, row in zip(one.places, read_features(role, one), strict=True)}
    model.set_attn_implementation("eager")
    for place, text in enumerate(texts):
        ids = list(template.encode_completion(PROMPTS[0], text).ids)
        true = alone(model, ids, use_cache=False).hidden_states[-1][0, -1]
        assert_close(torch.from_numpy(found[place]), true, atol=2e-4, rtol=1e-3)


def loaded(make: Callable[[], PreTrainedModel], tokenizer: PreTrainedTokenizerFast, folder: Path) -> LanguageModel:
    seeded(make).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_language_model(str(folder), machine=CPU)


class _Zero:
    """A reward that is always the same."""

    def score(self, prompts: object, completions: list) -> list[float]:
        return [0.0 for _ in completions]


def test_ppo_refuses_to_write_past_the_length_at_which_the_frequencies_change(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = loaded(llama({**LONG, "original_max_position_embeddings": 32}, 64), tokenizer, tmp_path / "long")
    settings = PPOSettings(iterations=1, batch_size=2, mini_batches=1, max_tokens=20, critic="shared")
    with pytest.raises(ConfigError, match="rotary embeddings change beyond 32 tokens"):
        train_ppo(model, PROMPTS[:2], settings, seed=0, reward=_Zero())
    short = settings.model_copy(update={"max_tokens": 4})
    (row,) = train_ppo(model, PROMPTS[:2], short, seed=0, reward=_Zero())[-1:]
    assert row["sampler_drift"] < 1e-4
    assert loaded(MODELS["yarn"], tokenizer, tmp_path / "yarn").role.body.steady_length is None
