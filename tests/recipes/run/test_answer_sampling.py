"""People read answers sampled as the model's configuration says; what is set wins."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from transformers import GenerationConfig

from assent.config import parse
from assent.ports.sampling import SamplingParams
from assent.recipes.inference import run_chat
from assent.recipes.run.answer_sampling import answer_defaults, sampling_of
from assent.recipes.run.job_settings import EvalJob, SampleJob
from assent.recipes.run.models import LanguageModel, MachineOptions, load_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.serving.openai_requests import ChatRequest
from assent.types import Conversation, Message, Role


@pytest.fixture
def model(folders: dict[str, Path]) -> LanguageModel:
    return load_language_model(str(folders["llama"]), machine=MachineOptions(threads=1))


STATED: dict[str, tuple[dict[str, float], tuple[float, float, int]]] = {
    "nothing": ({}, (0.7, 0.95, 0)),
    "all": ({"temperature": 0.6, "top_p": 0.8, "top_k": 20}, (0.6, 0.8, 20)),
    "the temperature": ({"temperature": 0.3}, (0.3, 1.0, 0)),
}


@pytest.mark.parametrize("stated", STATED)
def test_the_generation_config_of_a_folder_says_how_answers_are_sampled(
    stated: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    given, (temperature, top_p, top_k) = STATED[stated]
    folder = tmp_path / "model"
    folder.mkdir()
    for file in folders["llama"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    GenerationConfig(do_sample=True, eos_token_id=0, **given).save_pretrained(folder)
    loaded = load_language_model(str(folder), machine=MachineOptions(threads=1))
    assert answer_defaults(loaded) == SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k)


def test_what_is_set_wins_and_evaluation_samples_from_the_model_itself() -> None:
    defaults = SamplingParams(temperature=0.6, top_p=0.8, top_k=20)
    set_ = parse(SampleJob, overrides=["temperature=0", "top_k=0", "max_tokens=9"])
    assert sampling_of(set_, defaults) == SamplingParams(max_tokens=9, temperature=0.0, top_p=0.8, top_k=0)
    assert sampling_of(EvalJob()) == SamplingParams(max_tokens=128)


def test_a_served_request_that_says_nothing_has_the_defaults_of_the_model() -> None:
    defaults = SamplingParams(temperature=0.6, top_p=0.8, top_k=20)
    sent = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert ChatRequest(**sent).generation_request(1, defaults).sampling == replace(defaults, max_tokens=None)
    said = ChatRequest(**sent, temperature=0, top_p=1, top_k=0).generation_request(1, defaults).sampling
    assert said == SamplingParams(max_tokens=None, temperature=0.0)


def chat(monkeypatch: pytest.MonkeyPatch, lines: str, folder: Path, *overrides: str, **flags: str) -> str:
    """What the person at the keyboard is told beside the answers."""
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    told = io.StringIO()
    request = Request.of({"model": str(folder), "set": overrides, **flags})
    run_chat(request, Display(Console(file=told, width=200)))
    return told.getvalue()


def test_a_chat_gives_the_answers_of_the_sampler_and_marks_those_that_are_cut(
    model: LanguageModel, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = chat(monkeypatch, "red\n/new\nblue\n/quit\n", folders["llama"], "max_tokens=6", "temperature=0")
    prompts = [Conversation.of_user(text) for text in ("red", "blue")]
    greedy = SamplingParams(max_tokens=6, temperature=0.0, top_p=0.95)
    turns = model.sampler.sample(prompts, sampling=greedy, seed=0)
    assert capsys.readouterr().out == "".join(f"{turn.completion.text}\n" for turn in turns)
    assert told.count("cut at 6 tokens") == sum(turn.completion.stop == "length" for turn in turns) > 0


def test_a_system_message_begins_every_conversation(
    model: LanguageModel, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chat(monkeypatch, "red\n/new\nred\n", folders["llama"], "max_tokens=6", "temperature=0", system="one two")
    prompt = Conversation(
        messages=(Message(role=Role.SYSTEM, content="one two"), Message(role=Role.USER, content="red"))
    )
    greedy = SamplingParams(max_tokens=6, temperature=0.0, top_p=0.95)
    (turn,) = model.sampler.sample([prompt], sampling=greedy, seed=0)
    assert capsys.readouterr().out == f"{turn.completion.text}\n" * 2
