from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from assent.config import fingerprint
from assent.runs.lineage import (
    DataSource,
    Lineage,
    Parent,
    machine,
    parent,
    sha256_folder,
    versions,
    write_model_card,
)


def lineage(*, base: str = "org/base", settings: dict[str, object] | None = None) -> Lineage:
    return Lineage(
        kind="ppo",
        settings=settings or {"seed": 3, "learning_rate": 0.001},
        seed=3,
        data=(DataSource(role="train", name="pairs|1.jsonl", sha256="a" * 64, rows=12, format="hh"),),
        parents=(Parent(role="policy", name=base, sha256="b" * 64), Parent(role="reward", name="rm", sha256="c" * 64)),
    )


def card(folder: Path, config: dict[str, object], *, name: str = "config.json", base: str = "org/base") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(config))
    write_model_card(folder, lineage(base=base), what="A policy.", tags=("rlhf",), metrics={"gold": 0.81234567})
    return (folder / "README.md").read_text()


def test_a_folder_hash_sees_names_and_bytes_and_not_places(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "a.txt").write_text("x")
        (tmp_path / name / "sub" / "b.txt").write_text("y")
    assert sha256_folder(tmp_path / "one") == sha256_folder(tmp_path / "two")
    (tmp_path / "two" / "sub" / "b.txt").write_text("z")
    changed = sha256_folder(tmp_path / "two")
    (tmp_path / "one" / "a.txt").rename(tmp_path / "one" / "c.txt")
    assert len({sha256_folder(tmp_path / "one"), changed, sha256_folder(tmp_path / "two", ("a.txt",))}) == 3


def test_parents_are_known_by_content(tmp_path: Path) -> None:
    model = tmp_path / "policy"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "README.md").write_text("words")
    before = parent(model, role="policy")
    assert (before.name, len(before.sha256)) == ("policy", 64)
    (model / "README.md").write_text("other words")
    assert parent(model, role="policy") == before
    (model / "model.safetensors").write_bytes(b"weightz")
    assert parent(model, role="policy") != before
    assert parent("org/base", role="policy") == Parent(role="policy", name="org/base", sha256="")


def test_the_record_is_json_and_carries_versions_and_fingerprint() -> None:
    record = json.loads(json.dumps(lineage().to_dict()))
    assert record["settings_sha256"] == fingerprint({"learning_rate": 0.001, "seed": 3})
    assert record["data"][0]["rows"] == 12
    assert record["versions"] == versions()
    assert {"python", "torch", "transformers"} <= versions().keys()


def test_the_record_names_processor_and_commit() -> None:
    record, root = lineage().to_dict(), Path(__file__).parents[1]
    assert platform.machine() in record["machine"]
    if Path("/proc/cpuinfo").is_file() and "model name" in (told := Path("/proc/cpuinfo").read_text()):
        assert next(line for line in told.splitlines() if line.startswith("model name")).split(": ")[1] in machine()
    if not (root / ".git").exists():
        pytest.skip("this is no checkout")
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert record["commit"].removesuffix("-dirty") == head.stdout.strip()


def test_versions_are_read_without_importing_the_packages() -> None:
    program = (
        "import sys, assent.runs.lineage as l; l.versions(); print({'torch', 'transformers'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_the_card_says_how_the_folder_loads(tmp_path: Path) -> None:
    text = card(tmp_path / "policy", {"architectures": ["LlamaForCausalLM"]})
    assert text.startswith('---\nlibrary_name: transformers\npipeline_tag: text-generation\nbase_model: "org/base"\n')
    assert '\ntags:\n- "assent"\n- "rlhf"\n---\n' in text and "A policy. Trained with Assent." in text
    assert 'AutoModelForCausalLM.from_pretrained("policy")' in text
    assert "| data: train | pairs\\|1.jsonl | 12 | hh | " + "a" * 64 in text
    assert "| gold | 0.8123 |" in text
    assert '"learning_rate": 0.001' in text
    reward = card(tmp_path / "reward", {"architectures": ["LlamaForSequenceClassification"]})
    assert 'AutoModelForSequenceClassification.from_pretrained("reward")' in reward
    assert "pipeline_tag: text-classification" in reward


def test_the_card_of_an_adapter_loads_its_base_first(tmp_path: Path) -> None:
    text = card(tmp_path / "lora", {"task_type": "CAUSAL_LM"}, name="adapter_config.json")
    assert "library_name: peft" in text
    assert 'base = AutoModelForCausalLM.from_pretrained("org/base")' in text
    assert 'PeftModel.from_pretrained(base, "lora")' in text


def test_a_local_base_is_not_claimed_as_a_hub_name(tmp_path: Path) -> None:
    text = card(tmp_path / "policy", {"architectures": ["LlamaForCausalLM"]}, base="my-model")
    assert "base_model" not in text
    assert "| parent: policy | my-model |" in text
