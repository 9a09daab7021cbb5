"""One base, several names: every adapter says what it says alone, whoever else is being served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import torch
from serving.endpoint_fakes import WordEngine, listening
from training_jobs import CPU, WORDS

from assent.backends.local.engine import LocalEngine
from assent.errors import ConfigError
from assent.ports.sampling import SamplingParams
from assent.recipes.run.machine import LoraOptions
from assent.recipes.run.models import LanguageModel, load_language_model, load_policy_on, save_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.serving import run_serve
from assent.serving.endpoint import ServedModel, ServingLimits, create_endpoint
from assent.types import Conversation

NAMES = ("base", "brief", "warm")
SAMPLING = SamplingParams(max_tokens=12, temperature=1.0)


def shaken(path: Path, folder: Path, seed: int) -> Path:
    """An adapter on the model at `path` that has left its start."""
    model = load_language_model(str(path), machine=CPU, lora=LoraOptions(rank=2 + seed, alpha=8.0))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.role.parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    save_language_model(model, folder)
    return folder


@pytest.fixture(scope="module")
def adapters(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {name: shaken(folders["llama"], root / name, seed) for seed, name in enumerate(NAMES[1:], start=1)}


@pytest.fixture(scope="module")
def client(folders: dict[str, Path], adapters: dict[str, Path]) -> Iterator[openai.OpenAI]:
    base = load_language_model(str(folders["llama"]), machine=CPU)
    models = {"base": base} | {
        name: load_policy_on(base, str(folder), name=f"adapter {name}", clock=CPU) for name, folder in adapters.items()
    }
    assert all(one.role.body is base.role.body for one in models.values())
    served = {name: ServedModel(engine=LocalEngine(one.role, one.template)) for name, one in models.items()}
    with listening(create_endpoint(served, limits=ServingLimits(most_waiting=100))) as url:  # noqa: SIM117
        with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
            yield made


def alone(model: LanguageModel, word: str, seed: int) -> str:
    prompt = Conversation.of_user(word)
    return model.sampler.sample([prompt], sampling=SAMPLING, seed=seed)[0].completion.text


def test_requests_for_several_names_at_once_get_what_each_model_says_alone(
    client: openai.OpenAI, folders: dict[str, Path], adapters: dict[str, Path]
) -> None:
    paths = {"base": folders["llama"], **adapters}
    asked = [(name, word, seed) for seed, word in enumerate(WORDS) for name in NAMES]

    def answer(name: str, word: str, seed: int) -> str:
        said = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": word}], seed=seed, max_tokens=12, temperature=1.0
        )
        assert said.model == name
        return said.choices[0].message.content

    with ThreadPoolExecutor(len(asked)) as threads:
        found = list(threads.map(lambda one: answer(*one), asked))
    models = {name: load_language_model(str(path), machine=CPU) for name, path in paths.items()}
    assert found == [alone(models[name], word, seed) for name, word, seed in asked]
    texts = [{found[place + offset] for offset in range(3)} for place in range(0, len(found), 3)]
    assert sum(len(one) == 3 for one in texts) > len(WORDS) / 2  # they do differ


def test_the_list_has_every_name_and_no_other_is_served(client: openai.OpenAI) -> None:
    assert tuple(one.id for one in client.models.list()) == NAMES
    assert client.models.retrieve("warm").id == "warm"
    with pytest.raises(openai.NotFoundError, match=r"serves 'base', 'brief', 'warm'"):
        client.chat.completions.create(model="formal", messages=[{"role": "user", "content": "one"}])


def test_a_model_that_fails_takes_no_request_of_another_name_with_it() -> None:
    engines = {"one": WordEngine(), "two": WordEngine()}
    served = {name: ServedModel(engine=engine) for name, engine in engines.items()}
    with listening(create_endpoint(served)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="any") as client:

        def answer(name: str, text: str) -> str | None:
            asked = {"model": name, "messages": [{"role": "user", "content": text}]}
            return client.with_options(max_retries=0).chat.completions.create(**asked).choices[0].message.content

        with ThreadPoolExecutor(2) as threads:
            good, bad = threads.submit(answer, "one", "echo a b c"), threads.submit(answer, "two", "break")
            assert good.result() == "a b c "
            with pytest.raises(openai.InternalServerError):
                bad.result()


def test_what_is_no_adapter_on_the_base_is_refused(
    folders: dict[str, Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    base = load_language_model(str(folders["qwen2"]), machine=CPU)
    for path in (adapters["warm"], folders["qwen2"]):
        with pytest.raises(ConfigError, match=r"not an adapter on .*qwen2"):
            load_policy_on(base, str(path), name="other", clock=CPU)


@pytest.mark.parametrize("given", ["brief", "=runs/brief", "brief=", "sft=runs/one"])
def test_a_mistake_in_the_names_is_said_before_a_model_is_loaded(given: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--adapter {given}")):
        run_serve(Request.of({"model": "no-such/sft", "name": "sft", "adapters": [given]}), Display())
