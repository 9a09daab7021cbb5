"""Where writing ends: what the base's generation_config names holds for its adapters, and goes with what is saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import transformers
from training_jobs import CPU, comparisons, demonstrations, train_dpo, train_sft

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.sft import SFTSettings
from assent.recipes.run.machine import LoraOptions
from assent.recipes.run.models import load_language_model, save_language_model
from assent.text.template import ChatTemplate

LORA = LoraOptions(rank=2)


@pytest.fixture
def base(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A model whose generation_config.json names tokens 7 and 9 beside the tokenizer's own end, 0."""
    folder = Path(shutil.copytree(folders["llama"], tmp_path / "base"))
    name_ends(folder, [0, 7, 9])
    return folder


def name_ends(folder: Path, ends: object, file: str = "generation_config.json") -> None:
    known = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
    (folder / file).write_text(json.dumps({**known, "eos_token_id": ends}))


def ends_of(path: Path) -> frozenset[int]:
    return load_language_model(str(path), machine=CPU).template.end_ids


@pytest.mark.parametrize("lora", [None, LORA])
def test_what_is_trained_ends_where_its_base_ends(lora: LoraOptions | None, base: Path, tmp_path: Path) -> None:
    model = load_language_model(str(base), machine=CPU, lora=lora)
    train_sft(model, demonstrations()[:2], SFTSettings(epochs=1, batch_size=2), seed=0)
    save_language_model(model, tmp_path / "sft")
    again = load_language_model(str(tmp_path / "sft"), machine=CPU)
    train_dpo(again, comparisons()[:2], DPOSettings(epochs=1, batch_size=2), seed=0)
    save_language_model(again, tmp_path / "dpo")
    for folder in (base, tmp_path / "sft", tmp_path / "dpo"):
        assert ends_of(folder) == {0, 7, 9}
        assert transformers.GenerationConfig.from_pretrained(folder).eos_token_id == [0, 7, 9]


def test_an_adapter_folder_of_others_has_its_bases_ends_and_may_name_more(base: Path, tmp_path: Path) -> None:
    save_language_model(load_language_model(str(base), machine=CPU, lora=LORA), tmp_path / "adapter")
    for file in ("generation_config.json", "config.json"):
        (tmp_path / "adapter" / file).unlink(missing_ok=True)  # as peft leaves it
    assert ends_of(tmp_path / "adapter") == {0, 7, 9}
    name_ends(tmp_path / "adapter", 11)
    assert ends_of(tmp_path / "adapter") == {0, 7, 9, 11}
    for file in (tmp_path / "adapter").glob("*token*"):
        file.unlink()  # an adapter without a tokenizer of its own
    assert ends_of(tmp_path / "adapter") == {0, 7, 9, 11}


def test_without_a_generation_config_the_ends_are_those_of_the_models_configuration(base: Path) -> None:
    (base / "generation_config.json").unlink()
    name_ends(base, [0, 12], file="config.json")
    assert ends_of(base) == {0, 12}


def test_a_hub_names_ends_are_read_from_where_its_files_lie(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub" / "models--someone--base"
    shutil.copytree(base, cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    save_language_model(load_language_model(str(base), machine=CPU, lora=LORA), tmp_path / "adapter")
    (tmp_path / "adapter" / "generation_config.json").unlink()
    assert ChatTemplate.load(tmp_path / "adapter", ends_of=["someone/base"]).end_ids == {0, 7, 9}
    assert ChatTemplate.load("someone/base").end_ids == {0, 7, 9}
    assert ChatTemplate.load(tmp_path / "adapter", ends_of=["someone/absent"]).end_ids == {0}


def test_sampling_defaults_that_contradict_each_other_do_not_stop_an_adapter_from_being_saved(
    base: Path, tmp_path: Path
) -> None:
    file = base / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "do_sample": False, "temperature": 0.2, "top_p": 0.9}))
    save_language_model(load_language_model(str(base), machine=CPU, lora=LORA), tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "generation_config.json").read_text())["temperature"] == 0.2
