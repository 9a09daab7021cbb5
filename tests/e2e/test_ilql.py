"""ILQL from the command line: what it saves is written with by every command, and judged as what is written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from running import assent, worked, write_rows

from assent.backends.local.engine import LocalEngine
from assent.model.action_values import FILE
from assent.ports.generation import GenerationRequest
from assent.ports.learning import Need, Roles
from assent.ports.sampling import SamplingParams
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_language_model
from assent.types import Conversation

ASKED = "Where does Ada live?"
ANSWERS = {"In a town.": 1.0, "I do not know.": -1.0}


@pytest.fixture(scope="module")
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an adapter, on answers of which one is good."""
    folder = tmp_path_factory.mktemp("ilql")
    talks = ([{"role": "user", "content": ASKED}, {"role": "assistant", "content": text}] for text in ANSWERS)
    rows = [{"messages": talk, "reward": reward} for talk, reward in zip(talks, ANSWERS.values(), strict=True)] * 4
    write_rows(folder / "dialogues.jsonl", rows)
    worked(
        "ilql", "--model", home / "sft", "--data", folder / "dialogues.jsonl", "--out", folder / "run",
        *(part for setting in ("epochs=40", "batch_size=8", "learning_rate=1e-2", "target_step=0.3", "lora.rank=4",
                               "beta=30", "gamma=1") for part in ("--set", setting)),
    )  # fmt: skip
    return folder / "run"


def sampled(model: Path, run: Path, out: Path) -> list[str]:
    data, greedy = run.parent / "dialogues.jsonl", ("temperature=0", "max_tokens=12")
    settings = (part for setting in greedy for part in ("--set", setting))
    worked("sample", "--model", model, "--data", data, "--out", out, *settings)
    return [text for line in out.read_text().splitlines() for text in json.loads(line)["completions"]]


def test_sample_chat_and_serve_write_by_the_values_of_the_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, *_ = sampled(run, run, tmp_path / "by-values.jsonl")
    bare = tmp_path / "bare"
    shutil.copytree(run / "model", bare)
    (bare / FILE).unlink()
    plain, *_ = sampled(bare, run, tmp_path / "plain.jsonl")
    assert good != plain
    lines = iter([ASKED, "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    said = worked("chat", "--model", run, "--set", "temperature=0", "--set", "max_tokens=12")
    assert good in said.out
    model = load_language_model(str(run / "model"), machine=MachineOptions(device="cpu"))
    assert "action values" in repr(model)
    engine, text, stop = LocalEngine(model.role, model.template), "", None
    sampling = SamplingParams(temperature=0.0, max_tokens=12)
    engine.add(engine.tokenize(GenerationRequest(prompt=Conversation.of_user(ASKED), sampling=sampling)), [0])
    while stop is None:
        engine.step([0])
        chunk = engine.chunk(0)
        text, stop = text + chunk.text, chunk.stop
    assert text == good


def test_an_evaluation_says_how_likely_the_policy_that_writes_finds_the_answers(run: Path, tmp_path: Path) -> None:
    data = run.parent / "dialogues.jsonl"
    said = worked("eval", "--model", run, "--data", data, "--out", tmp_path / "eval")
    (told,) = re.findall(r"the file's own answers under .*: (\d+\.\d+) nats per token", said.out + said.err)
    model = load_language_model(str(run / "model"), machine=MachineOptions(device="cpu"))
    talks = [Conversation.of_user(ASKED).then(text) for text in ANSWERS]
    encoded = [one for (one,) in model.template.encode_turns(talks)]
    logps = [outputs["logp"] for outputs in model.backend.learner(Roles(policy=model.role)).score(encoded, Need())]
    assert float(told) == pytest.approx(-sum(map(float, map(sum, logps))) / sum(map(len, logps)), abs=1e-3)


def test_another_method_refuses_the_run_and_says_what_to_do(run: Path, home: Path, tmp_path: Path) -> None:
    refused = assent(
        "sft", "--model", run, "--data", home / "world" / "demonstrations.jsonl", "--out", tmp_path / "sft"
    )
    assert refused.code == 2 and f"Copy the folder without {FILE}" in refused.err
