"""A real model behind the endpoint: its words and numbers are the model's own; the process starts and stops cleanly."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
import torch
from serving.endpoint_fakes import listening

from assent.backends.local.engine import LocalEngine
from assent.errors import ConfigError
from assent.model.flat import flatten
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import PromptTooLong, SamplingParams
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import LanguageModel, load_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.serving import name_of, run_serve
from assent.serving.endpoint import ServedModel, ServingLimits, create_endpoint
from assent.types import Conversation, Message, Role

BASE = Path(__file__).parents[2] / "src" / "assent" / "world" / "base"
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is red?"},
    {"role": "assistant", "content": "A color."},
    {"role": "user", "content": "Tell me about it."},
]
BRIEF = SamplingParams(max_tokens=3)
CONVERSATION = Conversation(messages=tuple(Message(role=Role(one["role"]), content=one["content"]) for one in TALK))


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return load_language_model(str(BASE), machine=MachineOptions(device="cpu"))


@pytest.fixture(scope="module")
def client(model: LanguageModel) -> Iterator[openai.OpenAI]:
    with listening(create_endpoint({"base": ServedModel(engine=LocalEngine(model.role, model.template))})) as url:  # noqa: SIM117
        with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
            yield made


@torch.no_grad()
def own_logps(model: LanguageModel, prompt: tuple[int, ...], written: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities (T, V) of the model at the places of `written`, in one pass over the whole text."""
    batch = flatten([[*prompt, *written]])
    logp_NV = torch.log_softmax(model.role.head.logits(model.role.body.hidden(batch)), -1)
    return logp_NV[len(prompt) - 1 : -1]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_what_is_served_is_what_the_sampler_writes_with_that_seed(
    client: openai.OpenAI, model: LanguageModel, temperature: float
) -> None:
    turn = model.sampler.sample(
        [CONVERSATION], sampling=SamplingParams(max_tokens=40, temperature=temperature), seed=11
    )[0]
    answer = client.chat.completions.create(
        model="base", messages=TALK, temperature=temperature, max_tokens=40, seed=11
    )
    assert answer.choices[0].message.content == turn.completion.text
    assert answer.usage.prompt_tokens == len(turn.prompt_ids)
    assert answer.usage.completion_tokens == len(turn.completion_ids)


def test_log_probabilities_are_the_models_own_recomputed(client: openai.OpenAI, model: LanguageModel) -> None:
    settings = {"temperature": 0.8, "top_p": 0.9, "max_tokens": 30, "seed": 3}
    answer = client.chat.completions.create(model="base", messages=TALK, logprobs=True, top_logprobs=5, **settings)
    sampling = SamplingParams(max_tokens=30, temperature=0.8, top_p=0.9)
    turn = model.sampler.sample([CONVERSATION], sampling=sampling, seed=3)[0]
    content = answer.choices[0].logprobs.content
    ids = [id_ for id_ in turn.completion_ids if id_ not in model.template.end_ids]
    assert "".join(token.token for token in content) == answer.choices[0].message.content and len(content) == len(ids)
    assert b"".join(bytes(token.bytes) for token in content).decode() == answer.choices[0].message.content
    logp_TV = own_logps(model, turn.prompt_ids, turn.completion_ids)
    for place, (id_, token) in enumerate(zip(ids, content, strict=True)):
        assert token.logprob == pytest.approx(float(logp_TV[place, id_]), abs=1e-4)
        top = logp_TV[place].topk(5)
        assert [one.logprob for one in token.top_logprobs] == pytest.approx(top.values.tolist(), abs=1e-4)
        assert token.top_logprobs[0].logprob >= token.logprob - 1e-6


def test_a_stream_of_several_choices_is_the_whole_answer_in_parts(client: openai.OpenAI) -> None:
    asked = {"model": "base", "messages": TALK, "n": 3, "seed": 5, "max_tokens": 40, "logprobs": True}
    whole = client.chat.completions.create(**asked)
    parts = [c for chunk in client.chat.completions.create(**asked, stream=True) for c in chunk.choices]
    assert len({choice.message.content for choice in whole.choices}) == 3
    for choice in whole.choices:
        mine = [part for part in parts if part.index == choice.index]
        assert "".join(part.delta.content or "" for part in mine) == choice.message.content
        tokens = [token.token for part in mine if part.logprobs for token in part.logprobs.content]
        assert tokens == [token.token for token in choice.logprobs.content]
        assert mine[-1].finish_reason == choice.finish_reason


def test_writing_ends_before_a_stop_sequence(client: openai.OpenAI) -> None:
    asked = {"model": "base", "messages": TALK, "seed": 2, "max_tokens": 60, "temperature": 0}
    text = client.chat.completions.create(**asked).choices[0].message.content
    stop = text[len(text) // 2 : len(text) // 2 + 4]
    cut = client.chat.completions.create(**asked, stop=[stop, "never said"]).choices[0]
    assert cut.message.content == text[: text.index(stop)] and cut.finish_reason == "stop"
    streamed = client.chat.completions.create(**asked, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == text[: text.index(stop)]


def test_the_seed_decides_the_text_whoever_else_is_being_served(client: openai.OpenAI) -> None:
    def text(seed: int) -> str | None:
        asked = [{"role": "user", "content": f"{'Tell me more. ' * (seed % 5)}What is blue?"}]
        answer = client.chat.completions.create(model="base", messages=asked, seed=seed, max_tokens=40)
        return answer.choices[0].message.content

    alone = [text(seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(text, range(12))) == alone
    assert len(set(alone)) > 8


def test_a_plain_text_is_gone_on_with(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="base", prompt="The color of", max_tokens=5, logprobs=2, seed=1)
    choice = answer.choices[0]
    assert choice.text == "".join(choice.logprobs.tokens) and answer.usage.completion_tokens <= 5
    assert all(len(top) in (2, 3) for top in choice.logprobs.top_logprobs)


def test_what_does_not_fit_into_the_model_is_refused_with_its_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="the model holds 256") as refused:
        client.chat.completions.create(model="base", messages=[{"role": "user", "content": "word " * 400}])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="250 are to come"):
        client.chat.completions.create(model="base", messages=TALK, max_tokens=250)


def test_a_run_is_called_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "sft" / "model").mkdir(parents=True)
    assert name_of(str(tmp_path / "sft" / "model")) == "sft" and name_of(str(tmp_path / "sft")) == "sft"
    assert name_of("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"


SERVE = """
import argparse, sys
from assent.recipes.run.terminal import run
parser = argparse.ArgumentParser()
parser.add_argument("model")
for flag in ("--host", "--port", "--name", "--api-key-env"):
    parser.add_argument(flag)
parser.add_argument("--set", action="append", default=[])
from assent.errors import AssentError
try:
    run("assent.recipes.serving", "run_serve", parser.parse_args())
except AssentError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def served(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, str(BASE), "--port", "0", *arguments], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(BASE.parents[2]), **environment},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_is_and_stops_cleanly_in_the_middle_of_a_stream(number: signal.Signals) -> None:
    process = served("--api-key-env", "SERVE_KEY", "--set", "machine.threads=1", SERVE_KEY="secret")
    try:
        line = process.stdout.readline()
        assert line.startswith('serving "base" at http://127.0.0.1:'), line + process.stdout.read()
        url = line.split(" at ")[1].strip()
        assert httpx.get(f"{url}/models").status_code == 401
        with openai.OpenAI(base_url=url, api_key="secret", max_retries=0) as client:
            asked = [{"role": "user", "content": "What is red?"}]
            stream = client.chat.completions.create(model="base", messages=asked, stream=True, n=8, seed=1)
            next(stream)
            process.send_signal(number)
            process.wait(100)
        assert process.returncode == 0 and process.stdout.read() == "stopped\n"
    finally:
        process.kill()


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = served("--port", str(taken.getsockname()[1]))
        out, _ = process.communicate(timeout=200)
    assert process.returncode == ConfigError.exit_code and "cannot listen there" in out and "Traceback" not in out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"api_key_env": "NO_SUCH_KEY"}, "--api-key-env NO_SUCH_KEY"),
        ({"port": "high"}, "--port"),
        ({"port": "65536"}, "--port"),
        ({"set": ["most_rows=0"]}, "most_rows"),
    ],
)
def test_a_key_that_is_not_set_and_other_mistakes_are_said_before_the_model_is_loaded(
    flags: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        run_serve(Request.of({"model": "no-such-model", **flags}), Display())


class Untouchable:
    """A tokenizer's stand-in for prompts that must not reach it."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the tokenizer was asked for {name}")


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("word", ["word ", " ", "<|end|>", "\U0001f469\u200d"])
def test_what_cannot_fit_is_refused_before_it_is_tokenised(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, chat: bool, word: str
) -> None:
    engine = LocalEngine(model.role, model.template)
    monkeypatch.setattr(engine._reader, "tokenizer", Untouchable())
    text = word * (1_900_000 // len(word))
    with pytest.raises(PromptTooLong, match=r"at least \d+ tokens, 3 are to come, the model holds 256"):
        engine.tokenize(GenerationRequest(prompt=Conversation.of_user(text) if chat else text, sampling=BRIEF))


def test_prompts_are_read_by_a_tokenizer_of_their_own(model: LanguageModel) -> None:
    """A text that spells a control token out is encoded with another setting of the tokenizer, on another thread."""
    engine = LocalEngine(model.role, model.template)
    end = str(model.template.tokenizer.eos_token)
    tokenized = engine.tokenize(GenerationRequest(prompt=Conversation.of_user(f"say {end}"), sampling=BRIEF))
    assert tokenized.prompt_ids == model.template.encode_prompt(Conversation.of_user(f"say {end}"))
    assert engine._reader.tokenizer is not model.template.tokenizer


def test_memory_that_is_full_is_a_memory_error_and_the_next_step_goes_on(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LocalEngine(model.role, model.template)
    greedy = SamplingParams(max_tokens=5, temperature=0.0)
    engine.add(engine.tokenize(GenerationRequest(prompt=CONVERSATION, sampling=greedy)), [7])
    with monkeypatch.context() as patched:
        patched.setattr(engine._decoder, "_step", lambda: torch.empty(1 << 60))
        with pytest.raises(MemoryError):
            engine.step([7])
    chunks = []
    while not chunks or chunks[-1].stop is None:
        engine.step([7])
        chunks.append(engine.chunk(7))
    turn = model.sampler.sample([CONVERSATION], sampling=greedy, seed=0)[0]
    assert "".join(chunk.text for chunk in chunks) == turn.completion.text
    engine.check_health()


@pytest.mark.parametrize("name", ["", "\udcff"])
def test_a_name_or_a_key_that_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SERVE_KEY", "schlüssel")
    flags = {"name": name} if name else {"api_key_env": "SERVE_KEY"}
    with pytest.raises(ConfigError, match="UTF-8" if name else "printable ASCII"):
        run_serve(Request.of({"model": "no-such-model", **flags}), Display())


def test_the_page_names_every_setting_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    table = page.split("\n## Settings\n")[1].split("\n## ")[0]
    written = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", table, flags=re.MULTILINE))
    assert written == {
        name: str(field.default).removesuffix(".0") for name, field in ServingLimits.model_fields.items()
    }
