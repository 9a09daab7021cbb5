"""Before its first step a run says what it will take; the memory is near what is then measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from running import worked, write_rows
from transformers import PreTrainedTokenizerFast

from assent.recipes.run.expectation import expected

SAID = re.compile(r"this will take about (.+) and ([\d.]+) GiB of memory")


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model of 4 M parameters, so that what training takes stands out from what Python takes."""
    folder = tmp_path_factory.mktemp("medium")
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=224, intermediate_size=640, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=0, pad_token_id=1, bos_token_id=None,
        tie_word_embeddings=True,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo", "ppo"])
def test_the_memory_that_is_said_is_near_what_is_taken(method: str, medium: Path, tmp_path: Path) -> None:
    """In a process of its own, whose peak is that of the run."""
    words = "one two three four yes no maybe blue green red " * 18
    rows = [{"prompt": f"what is {i} ?", "chosen": words[i:], "rejected": words[2 * i :]} for i in range(1, 33)]
    if method == "sft":
        rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    data, settings = write_rows(tmp_path / "data.jsonl", rows), ["batch_size=32", "machine.threads=1"]
    if method == "ppo":
        (tmp_path / "rules.py").write_text("def length(completions, prompts):\n    return [*map(len, completions)]\n")
        settings += ["iterations=1", "max_tokens=150", "normalise_prompts=32", "epochs=1", "mini_batches=1"]
    flags = [part for setting in settings for part in ("--set", setting)]
    reward = ["--reward", f"{tmp_path}/rules.py:length"] if method == "ppo" else []
    command = [
        "-m",
        "assent.cli",
        method,
        "--model",
        medium,
        "--data",
        data,
        "--out",
        tmp_path / "run",
        *flags,
        *reward,
    ]
    ran = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    said = SAID.search(ran.stderr)
    assert said is not None, ran.stderr
    measured = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert float(said[2]) == pytest.approx(measured[-1]["peak_memory_mib"] / 1024, rel=0.25)


def test_every_kind_of_method_says_it(home: Path, tmp_path: Path) -> None:
    world = home / "world"
    given = {
        "sft": ("demonstrations.jsonl", "epochs=4"),
        "dpo": ("preferences.jsonl", "epochs=2"),
        "reward": ("preferences.jsonl", "train=head"),
        "grpo": ("preferences.jsonl", "iterations=1"),
    }
    for method, (data, setting) in given.items():
        more = (
            ("--reward", home / "reward", "--set", "max_tokens=4", "--set", "batch_size=2") if method == "grpo" else ()
        )
        arguments = (method, "--model", home / "sft", "--data", world / data, "--out", tmp_path / method, *more)
        ran = worked(*arguments, "--set", setting)
        assert SAID.search(ran.err), ran.err


def test_a_resumed_run_goes_by_the_steps_that_were_done() -> None:
    class Half:
        """A task of ten steps."""

        total, unit = 10, "steps"

    rows = [{"step": step, "seconds": 30.0} for step in range(6)]
    assert expected(Half(), rows, done=4) == "about 3 min 0 s left, by the steps that were done"  # type: ignore[arg-type]
