"""SmolLM2-135M-Instruct is loaded from its GGUF file, for whatever it is to be, with any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from assent.model.gguf import from_gguf
from assent.ports.sampling import SamplingParams
from assent.recipes.run.models import MachineOptions, load_language_model
from assent.types import Conversation

pytestmark = pytest.mark.slow
LOAD = """
import sys, torch
from assent.model.loading import load_causal_lm, load_trunk
load_causal_lm(sys.argv[1], device=torch.device("cpu"))
load_trunk(sys.argv[1], labels=1, device=torch.device("cpu"))
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_it_is_accepted_as_language_model_and_as_reward_trunk(gguf_file: Path, threads: str) -> None:
    """In a process of its own: on a busy machine two threads that wait actively cost minutes."""
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-c", LOAD, from_gguf(str(gguf_file))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_knows_the_capital_of_france(gguf_file: Path) -> None:
    model = load_language_model(str(gguf_file), machine=MachineOptions(threads=1))
    greedy = SamplingParams(temperature=0.0, max_tokens=24)
    (turn,) = model.sampler.sample([Conversation.of_user("What is the capital of France?")], sampling=greedy, seed=0)
    assert turn.completion.text == "The capital of France is Paris."
