"""A tokenizer with tokens that have no row in the model is refused; names that never occur are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from small_models import causal_lm
from training_jobs import CPU

from assent.errors import ConfigError
from assent.recipes.run.machine import LoraOptions
from assent.recipes.run.models import (
    load_language_model,
    load_reward_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)

HEADER = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + eos_token }}{% endfor %}"
HEADER += "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"


def with_tokens(folder: Path, *, template: str | None = None, special: bool = True, tokens: tuple[str, ...]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(tokens), special_tokens=special)
    if template is not None:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["llama"], tmp_path / "model"))


def refused(path: Path, token: str) -> None:
    for load in (load_language_model, lambda path, machine: new_reward_model(path, machine=machine, seed=0)):
        with pytest.raises(ConfigError, match="tokens and the model only 300") as caught:
            load(str(path), machine=CPU)
        assert token in str(caught.value)


def test_headers_that_a_template_puts_together_need_rows(folder: Path) -> None:
    with_tokens(folder, template=HEADER, tokens=("<|user|>", "<|assistant|>"))
    refused(folder, "<|assistant|>")


def test_words_that_were_added_need_rows(folder: Path) -> None:
    with_tokens(folder, special=False, tokens=("zebra",))
    refused(folder, "zebra")


def test_control_tokens_that_a_template_names_need_rows(folder: Path) -> None:
    named = "{{ '<|tools|>' if tools else '' }}" + HEADER.replace("'<|' + m.role + '|>'", "''").replace(
        "<|assistant|>", ""
    )
    with_tokens(folder, template=named, tokens=("<|tools|>",))
    refused(folder, "<|tools|>")


def test_control_tokens_that_are_only_known_by_name_do_not(folder: Path) -> None:
    with_tokens(folder, tokens=("<|image|>",))
    assert load_language_model(str(folder), machine=CPU).template.tokenizer.convert_tokens_to_ids("<|image|>") == 300


def test_adapters_and_reward_models_are_looked_at_too(folders: dict[str, Path], tmp_path: Path) -> None:
    save_language_model(
        load_language_model(str(folders["llama"]), machine=CPU, lora=LoraOptions(rank=2)), tmp_path / "a"
    )
    with_tokens(tmp_path / "a", special=False, tokens=("zebra",))
    refused(tmp_path / "a", "zebra")
    for name, lora in (("full", None), ("adapter", LoraOptions(rank=2))):
        save_reward_model(new_reward_model(str(folders["llama"]), machine=CPU, seed=0, lora=lora), tmp_path / name)
        with_tokens(tmp_path / name, special=False, tokens=("zebra",))
        with pytest.raises(ConfigError, match="zebra"):
            load_reward_model(str(tmp_path / name), machine=CPU)


def test_embeddings_of_another_size_than_the_configuration_says_are_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    model = causal_lm("qwen2")
    wide = model.get_input_embeddings().weight
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(torch.cat([wide, wide[:8]]).detach()))
    model.save_pretrained(tmp_path / "narrow")
    transformers.AutoTokenizer.from_pretrained(folders["llama"]).save_pretrained(tmp_path / "narrow")
    with pytest.raises(ConfigError, match=r'"model.embed_tokens.weight" has the shape \(308, 32\)'):
        load_language_model(str(tmp_path / "narrow"), machine=CPU)


def test_more_rows_than_tokens_are_fine(folder: Path) -> None:
    model = causal_lm("llama")
    model.resize_token_embeddings(320)
    model.save_pretrained(folder)
    assert load_language_model(str(folder), machine=CPU).role.head.weight_VH.shape[0] == 320
