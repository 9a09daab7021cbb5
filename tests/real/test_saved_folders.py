"""What is saved says the same in transformers, peft, vLLM and lm-evaluation-harness.

The last two have environments of their own: `benchmarks/make_readers.sh` makes them in the tree, or
ASSENT_VLLM_PYTHON and ASSENT_LM_EVAL_PYTHON name others.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from real.test_decoding import TOKENS, assert_greedy
from torch.testing import assert_close

from assent.ports.learning import Need, Roles
from assent.ports.sampling import SamplingParams
from assent.recipes.run.machine import LoraOptions, MachineOptions
from assent.recipes.run.models import LanguageModel, load_language_model, save_language_model
from assent.text.template import Encoded
from assent.types import Conversation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
QUESTIONS = ["What is the capital of France?", "Name three colours.", "Write a sentence about the sea.", "2 + 2 ="]
TEXTS = [("The capital of France is", " Paris"), ("Water boils at a temperature of", " 100 degrees Celsius"),
         ("Two and two make", " five, as everybody knows")]  # fmt: skip
GREEDY = SamplingParams(temperature=0.0, max_tokens=TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A model in memory and where it was saved: a folder and, if it is one, an adapter on it."""

    model: LanguageModel
    folder: str
    adapter: str | None


@pytest.fixture(params=["all weights", "adapter"])
def saved(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Saved:
    """A model that is a little other than the one it came from."""
    lora = LoraOptions(rank=4) if request.param == "adapter" else None
    model = load_language_model(str(folder), machine=MachineOptions(threads=1), lora=lora)
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.role.parameters().items():
            if lora is None or "lora_B" in name:
                weight.add_(
                    torch.randn(weight.shape, generator=drawn), alpha=0.01 * (weight.std() if lora is None else 1)
                )
    save_language_model(model, tmp_path / "saved")
    place = str(tmp_path / "saved")
    return Saved(model=model, folder=place if lora is None else str(folder), adapter=place if lora else None)


def test_in_transformers_and_peft(saved: Saved) -> None:
    if saved.adapter:
        plain = peft.AutoPeftModelForCausalLM.from_pretrained(saved.adapter)
    else:
        plain = transformers.AutoModelForCausalLM.from_pretrained(saved.folder)
    assert_greedy(plain, saved.model.sampler.sample(asked(), sampling=GREEDY, seed=0))


@pytest.mark.proof
def test_in_vllm(saved: Saved, tmp_path: Path) -> None:
    turns = saved.model.sampler.sample(asked(), sampling=GREEDY, seed=0)
    given = {"prompts": [turn.prompt_ids for turn in turns], "max_tokens": GREEDY.max_tokens}
    assert answered("vllm", saved, given, tmp_path) == [[*turn.completion_ids] for turn in turns]


@pytest.mark.proof
def test_in_lm_evaluation_harness(saved: Saved, tmp_path: Path) -> None:
    tokenizer = saved.model.template.tokenizer
    encoded = []
    for context, rest in TEXTS:
        start, whole = (tokenizer(text)["input_ids"] for text in (context, context + rest))
        mask = (False,) * len(start) + (True,) * (len(whole) - len(start))
        encoded.append(Encoded(ids=tuple(whole), assistant_mask=mask))
    read = saved.model.backend.learner(Roles(policy=saved.model.role)).score(encoded, Need())
    own = torch.stack([outputs["logp"].sum() for outputs in read])
    found = torch.tensor(answered("lm_eval", saved, {"texts": TEXTS}, tmp_path))
    assert_close(found, own, atol=1e-3, rtol=0.0)


def asked() -> list[Conversation]:
    return [Conversation.of_user(question) for question in QUESTIONS]


def answered(name: str, saved: Saved, given: dict[str, Any], place: Path) -> Any:
    """What a reader in an environment of its own makes of the folder."""
    usual = ROOT / f".venv-{name.replace('_', '-')}" / "bin" / "python"
    python = Path(os.environ.get(f"ASSENT_{name.upper()}_PYTHON", usual))
    if not python.is_file():
        pytest.skip(f"no {name} at {python}: make it with benchmarks/make_readers.sh")
    (place / "given.json").write_text(json.dumps({"folder": saved.folder, "adapter": saved.adapter, **given}))
    command = [str(python), str(Path(__file__).with_name("readers.py")), name, "given.json", "found.json"]
    more = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(command, cwd=place, env=os.environ | more, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((place / "found.json").read_text())
