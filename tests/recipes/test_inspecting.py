"""`assent inspect`, and what the training commands say of a template."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
from chat_templates import FAMILIES, Family, tokenizer_of
from running import assent, worked, write_rows
from small_models import seeded

ASKED = {"role": "user", "content": "What is red?"}
ANSWERED = {"role": "assistant", "content": "A colour."}
TALK = {"messages": [ASKED, ANSWERED, {"role": "user", "content": "<b>More"}, {"role": "assistant", "content": "No."}]}


def model_of(folder: Path, family: Family) -> Path:
    tokenizer = tokenizer_of(family)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    seeded(lambda: transformers.LlamaForCausalLM(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of(tmp_path_factory.mktemp("model"), FAMILIES["qwen3"])


def bracketed(told: str) -> list[str]:
    return re.findall("\u27e6(.*?)\u27e7", told.split("\n", 1)[1], flags=re.DOTALL)


EMPTY = "<think>\u21b5\n\u21b5\n</think>\u21b5\n\u21b5\n"


def test_what_is_learned_of_demonstrations_stands_in_brackets(model: Path, tmp_path: Path) -> None:
    told = worked("inspect", "--model", model, "--data", write_rows(tmp_path / "d.jsonl", [TALK])).out
    assert bracketed(told) == [f"{EMPTY}A colour.<|im_end|>", f"{EMPTY}No.<|im_end|>"]
    assert "d.jsonl, 1, example 2 of 2: " in told


def test_pairs_and_prompts_and_ratings_are_shown(model: Path, tmp_path: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", [{"prompt": "Red?", "chosen": "Yes.", "rejected": "No."}] * 9)
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": "Red?"}])
    rated = write_rows(tmp_path / "rated.jsonl", [{"prompt": "Red?", "completion": "Yes.", "label": True}])
    told = worked("inspect", "--model", model, "--data", pairs, prompts, rated, "--limit", 2).out
    yes, no = f"{EMPTY}Yes.<|im_end|>", f"{EMPTY}No.<|im_end|>"
    assert bracketed(told) == [yes, no, yes, no, yes]
    assert "pairs.jsonl, 2: rejected" in told and re.search(r"prompts.jsonl, 1: \d+ tokens, 0 learned", told)


def test_what_sft_trains_is_shown_even_if_no_prompt_could_be_made_of_it(model: Path, tmp_path: Path) -> None:
    row = {"talk": [ASKED, ANSWERED, {"role": "assistant", "content": "Truly."}]}
    data = write_rows(tmp_path / "d.jsonl", [row])
    told = worked("inspect", "--model", model, "--data", data, "--set", "reading.messages=talk").out
    assert bracketed(told) == [f"{EMPTY}A colour.<|im_end|>", f"{EMPTY}Truly.<|im_end|>"]


def test_the_page_holds_the_tokens_and_loads_nothing(model: Path, tmp_path: Path) -> None:
    data, page = write_rows(tmp_path / "d.jsonl", [TALK]), tmp_path / "folder" / "tokens.html"
    worked("inspect", "--model", model, "--data", data, "--out", page)
    text = page.read_text(encoding="utf-8")
    assert (
        "default-src &#39;none&#39;" in text and "<script" not in text and "http:" not in text and "https:" not in text
    )
    learned = re.findall(r'class="t assistant learned" title="[^"]*">([^<]*)<', text)
    assert "".join(learned).replace("\u21b5\n", "\n") == (
        "&lt;think&gt;\n\n&lt;/think&gt;\n\nA colour.&lt;|im_end|&gt;"
        "&lt;think&gt;\n\n&lt;/think&gt;\n\nNo.&lt;|im_end|&gt;"
    )
    user = re.findall(r'class="t user" title="[^"]*">([^<]*)<', text)
    assert "".join(user) == "What is red?" * 2 + "&lt;b&gt;More"
    again = assent("inspect", "--model", model, "--data", data, "--out", page)
    assert again.code == 2 and "the file exists" in again.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "texts.jsonl"], "the file holds texts"),
        (["--data", "absent.jsonl"], "there is no such file"),
        (["--data", "d.jsonl", "--limit", "0"], "at least 1"),
        (["--data", "d.jsonl", "--set", "machine.clock=soon"], "expected a date"),
        ([], "no data was given"),
    ],
)
def test_mistakes_are_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("texts.jsonl"), [{"text": "Once."}])
    write_rows(Path("d.jsonl"), [TALK])
    ran = assent("inspect", "--model", model, *arguments)
    assert ran.code == 2 and reason in ran.err


def test_training_says_when_turns_are_learned_apart_and_what_is_left_out(model: Path, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    data = write_rows(tmp_path / "d.jsonl", [TALK, {**TALK, "tools": tools}])
    said = worked("sft", "--model", model, "--data", data, "--out", tmp_path / "run").err
    assert "2 conversations give 4 examples" in said and "the tools of 1 conversations are left out" in said


def test_equal_runs_have_equal_bits_under_a_template_that_writes_the_time(tmp_path: Path) -> None:
    family = replace(FAMILIES["chatml"], text="{{ strftime_now('%H:%M:%S.%f') }}" + FAMILIES["chatml"].text)
    model, data = model_of(tmp_path / "model", family), write_rows(tmp_path / "d.jsonl", [TALK] * 4)
    losses = []
    for name, more in (("a", []), ("b", []), ("c", ["--set", "machine.clock=2026-02-03T10:11:12"])):
        worked("sft", "--model", model, "--data", data, "--out", tmp_path / name, *more)
        losses.append(json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["loss"])
        lineage = json.loads((tmp_path / name / "lineage.json").read_text())
        assert lineage["settings"]["machine"]["clock"] == (more[1].split("=")[1] if more else "2025-01-01")
    assert losses[0] == losses[1] != losses[2]
    moving = assent("sft", "--model", model, "--data", data, "--out", tmp_path / "d", "--set", "machine.clock=now")
    assert moving.code == 2 and "a run's clock stands still" in moving.err
