"""Models, tokenizers and rewards that cannot be used are refused in one message, before anything is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from refusals import Case, ExperimentContext, check_refused
from running import assent, worked
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def _changed(place: ExperimentContext, run: str, change: Callable[[Path], object]) -> Path:
    folder = place.copy(run)
    change(folder)
    return folder


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def _head_called(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights[name] = weights.pop("score.weight")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def _one_token_more(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder)


def _lora(place: ExperimentContext, **changes: object) -> Path:
    """An adapter on the home's base model, whose configuration is changed."""
    model = AutoModelForCausalLM.from_pretrained(place.home / "base" / "model")
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    made = get_peft_model(model, config)
    made.peft_config["default"].base_model_name_or_path = str(place.home / "base" / "model")
    made.save_pretrained(place.own / "lora")
    place.edit_json(place.own / "lora" / "adapter_config.json", **changes)
    return place.own / "lora"


def _adapter(place: ExperimentContext, **changes: object) -> Path:
    folder = place.own / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, **changes}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


CASES: dict[str, Case] = {
    "model missing": (lambda p: p.model(p.own / "absent"), ("absent", "no such model folder")),
    "misspelt run": (lambda p: p.model(f"{p.home}/sfft"), ("sfft", "no such model folder")),
    "hub name without a hub": (lambda p: p.model("nobody/nothing"), ("nobody/nothing", "hub cannot be reached")),
    "no name that a hub could have": (lambda p: p.model("a model"), ("a model",)),
    "model is a file": (lambda p: p.model(p.file("model.bin", "x")), ("model.bin", "a model is a folder")),
    "folder without config": (lambda p: p.model(p.home / "world"), ("world", "no config.json")),
    "damaged config": (
        lambda p: p.model(_changed(p, "base", lambda f: (f / "config.json").write_text("{"))),
        ("config.json", "damaged"),
    ),
    "unknown architecture": (
        lambda p: p.model(_changed(p, "base", lambda f: p.edit_json(f / "config.json", model_type="zorn"))),
        ("zorn",),
    ),
    "weights missing": (
        lambda p: p.model(_changed(p, "base", lambda f: (f / "model.safetensors").unlink())),
        ("no weights",),
    ),
    "weights cut short": (lambda p: p.model(_changed(p, "base", _truncate)), ("copied", "no model can be loaded")),
    "weights of another size": (
        lambda p: p.model(_changed(p, "base", lambda f: p.edit_json(f / "config.json", num_hidden_layers=3))),
        ("copied", "missing"),
    ),
    "code in the model folder": (
        lambda p: p.model(
            _changed(p, "base", lambda f: p.edit_json(f / "config.json", auto_map={"AutoConfig": "x.Y"}))
        ),
        ("code", "never run"),
    ),
    "tokenizer missing": (
        lambda p: p.model(
            _changed(
                p,
                "base",
                lambda f: [one.unlink() for one in f.glob("*token*")] + [(f / "chat_template.jinja").unlink()],
            )
        ),
        ("copied", "tokenizer"),
    ),
    "tokenizer damaged": (
        lambda p: p.model(_changed(p, "base", lambda f: (f / "tokenizer.json").write_text("[1"))),
        ("tokenizer.json", "damaged"),
    ),
    "no end of text": (
        lambda p: p.model(_changed(p, "base", lambda f: p.edit_json(f / "tokenizer_config.json", eos_token=None))),
        ("no end-of-text token", "eos_token"),
    ),
    "tokenizer too big for the model": (
        lambda p: p.model(
            _changed(p, "base", lambda f: shutil.copy(p.home / "big" / "tokenizer.json", f / "tokenizer.json"))
        ),
        ("copied", "tokens and the model only"),
    ),
    "broken chat template": (
        lambda p: p.model(_changed(p, "base", lambda f: (f / "chat_template.jinja").write_text("{% if %}"))),
        ("copied", "template"),
    ),
    "reward model as policy": (lambda p: p.model(p.home / "reward"), ("reward", "not a language model", "--reward")),
    "encoder as policy": (lambda p: p.model(p.home / "encoder"), ("encoder",)),
    "unfinished run as model": (
        lambda p: p.model(
            _changed(p, "base", lambda f: [(f / "config.json").unlink(), (f / "status.json").write_text("{}")])
        ),
        ("not finished",),
    ),
    "adapter without its base": (
        lambda p: p.model(_adapter(p, base_model_name_or_path="/gone/base", task_type="CAUSAL_LM")),
        ("/gone/base", "not there"),
    ),
    "adapter that names no base": (lambda p: p.model(_adapter(p)), ("does not name its base",)),
    "token without a row": (
        lambda p: p.model(_changed(p, "base", _one_token_more)),
        ("copied", "zebra", "tokens and the model only"),
    ),
    "adapter of another kind": (lambda p: p.model(_lora(p, peft_type="IA3")), ("lora", "type IA3")),
    "adapter with a start of its own": (lambda p: p.model(_lora(p, init_lora_weights="pissa")), ("pissa",)),
    "adapter with what is not supported": (
        lambda p: p.model(_lora(p, target_parameters=["x"])),
        ("target_parameters",),
    ),
    "language model's adapter as reward": (lambda p: p.ppo(_lora(p)), ("lora", "not a reward model")),
    "adapter without its head": (
        lambda p: p.ppo(_lora(p, task_type="SEQ_CLS")),
        ("lora", "expected a head (score or classifier) beside the adapter, got nothing"),
    ),
    # rewards
    "head of another name": (
        lambda p: p.ppo(_changed(p, "reward", _head_called("value_head.weight"))),
        ("copied", "trained head is not in the weights", "value_head.weight"),
    ),
    "head of another size": (
        lambda p: p.ppo(_changed(p, "reward", lambda f: p.edit_json(f / "config.json", id2label={"0": "a", "1": "b"}))),
        ("copied", "1 outputs in the weights and 2 in config.json"),
    ),
    "another number of classes": (
        lambda p: assent(
            "reward",
            "--model",
            p.home / "reward",
            "--data",
            p.home / "world" / "preferences.jsonl",
            "--out",
            p.out,
            "--set",
            "classes=2",
        ),
        ("has 1 outputs, and classes is 2",),
    ),
    "no reward": (lambda p: p.ppo(None), ("no reward was given", "--reward")),
    "language model as reward": (lambda p: p.ppo(p.home / "sft"), ("not a reward model", "assent reward")),
    "reward missing": (lambda p: p.ppo(p.own / "absent"), ("absent", "no such model folder")),
    "unknown class": (lambda p: p.ppo(p.home / "reward", "--set", "positive=nice"), ("nice", "LABEL_0")),
    "function's file missing": (lambda p: p.ppo(f"{p.own}/none.py:f"), ("none.py", "no such Python file")),
    "function not named": (lambda p: p.ppo(p.file("f.py", "")), ("f.py", "f.py:NAME")),
    "function missing": (
        lambda p: p.ppo(f"{p.file('f.py', 'def other(p, c): pass')}:reward"),
        ('no function "reward"', "other"),
    ),
    "function's file broken": (lambda p: p.ppo(f"{p.file('f.py', 'def (')}:reward"), ("f.py", "SyntaxError")),
    "module missing": (lambda p: p.ppo("no_such_module:reward"), ("no_such_module", "FILE.py:NAME")),
    "function raises": (lambda p: p.function("return [1 / 0]"), ("own_reward.py:2", "ZeroDivisionError")),
    "function gives too few": (lambda p: p.function("return [1.0]"), ("1 numbers for 2 completions",)),
    "function gives text": (lambda p: p.function("return completions"), ("own_reward.py:1", "gave str")),
    "function gives nothing": (lambda p: p.function("pass"), ("own_reward.py:1", "a list of numbers was expected")),
    "function gives nan": (lambda p: p.function("return [float('nan') for _ in completions]"), ("nan",)),
}


@pytest.fixture(scope="module")
def stocked(home: Path, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home, with an encoder and a tokenizer that is too big."""
    if not (home / "encoder").exists():
        shutil.copytree(folders["bert"], home / "encoder")
        worked(
            "pretrain", "--data", home / "world" / "demonstrations.jsonl", home / "world" / "prompts.jsonl",
            "--out", home / "bigger", "--set", "steps=1", "--set", "batch_size=1", "--set", "shape.layers=1",
            "--set", "shape.hidden_size=16", "--set", "shape.vocabulary_size=500",
        )  # fmt: skip
        shutil.copytree(home / "bigger" / "model", home / "big")
    return home


@pytest.mark.parametrize("name", CASES)
def test_a_model_or_reward_that_cannot_be_used_is_refused(
    name: str, stocked: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://localhost:9")  # nothing listens there
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name_of_proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name_of_proxy, raising=False)
    check_refused(CASES[name], stocked, own)
