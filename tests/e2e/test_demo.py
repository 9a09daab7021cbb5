"""The demo at a small size: the shipped base, the whole main job, and the report's promised keys."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from safetensors import safe_open

from assent.cli import main
from assent.durable import sha256_file
from assent.recipes.demo.command import shipped_base

ARM = ("iterations=6", "batch_size=16", "mini_batches=2", "max_tokens=32")
SMALL = (
    "demonstrations=64",
    "ranked_prompts=72",
    "ranked_held_out=36",
    "evaluation_prompts=54",
    "machine.threads=1",
    *(f"ppo.{one}" for one in ARM),
    "judge_every=2",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A small demo's folder and report.json."""
    out = tmp_path_factory.mktemp("demo") / "run"
    sets = [word for one in SMALL for word in ("--set", one)]
    assert main(["demo", "--out", str(out), *sets]) == 0
    return out, json.loads((out / "report.json").read_text())


@pytest.mark.slow
def test_the_report_has_the_promised_keys(report: tuple[Path, dict]) -> None:
    out, found = report
    for arm in ("base", "sft", "dpo", "ppo", "oracle"):
        for axis in ("overall", "helpful", "honest", "harmless"):
            interval = found["gold"][arm][axis]
            assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1
    assert {"accuracy", "best_possible", "ece"} <= set(found["reward_model"])
    assert len(found["over_optimisation"]["curves"]["ppo"]) == len(found["over_optimisation"]["curves"]["no_kl"]) == 4
    assert found["settings"]["ppo"]["temperature"] == 1.2  # setting one key leaves the others as they were
    assert found["seeds"] == [0] and found["wall_s"] > 0 and found["peak_rss_mib"] > 100
    assert (out / "report.html").stat().st_size > 50_000


@pytest.mark.slow
def test_the_ceiling_is_the_gold_score_of_ideal_answers_and_nothing_beats_it(report: tuple[Path, dict]) -> None:
    gold = report[1]["gold"]
    assert gold["oracle"]["overall"]["mean"] > 0.95
    assert all(gold[arm]["overall"]["mean"] < gold["oracle"]["overall"]["mean"] for arm in ("base", "sft", "ppo"))


@pytest.mark.slow
def test_every_model_of_the_demo_is_left_with_a_card(report: tuple[Path, dict]) -> None:
    for name in ("sft", "reward", "ppo", "dpo"):
        assert (report[0] / name / "model.safetensors").is_file() and (report[0] / name / "README.md").is_file()


@pytest.mark.slow
def test_the_demo_can_be_watched_as_a_run(report: tuple[Path, dict]) -> None:
    rows = [json.loads(line) for line in (report[0] / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6] and all(
        {"reward", "kl", "gold"} <= set(row) for row in rows
    )
    status = json.loads((report[0] / "status.json").read_text())
    assert (status["state"], status["step"], status["total"]) == ("finished", 6, 6)


@pytest.mark.slow
def test_a_second_demo_over_the_first_needs_overwrite(
    report: tuple[Path, dict], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(report[0]), "--set", "machine.threads=1"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_shipped_base_is_small_and_is_what_its_hash_and_recipe_say() -> None:
    folder = shipped_base()
    recipe = tomllib.loads((folder / "recipe.toml").read_text())
    config = json.loads((folder / "config.json").read_text())
    assert (folder / "model.safetensors").stat().st_size <= 10 * 2**20
    assert config["hidden_size"] == recipe["shape"]["hidden_size"]
    assert config["num_hidden_layers"] == recipe["shape"]["layers"]
    with safe_open(folder / "model.safetensors", "pt") as weights:
        count = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    assert 1_000_000 <= count <= 4_000_000
    assert sha256_file(folder / "model.safetensors") in (folder / "SHA256").read_text()


@pytest.mark.slow
def test_pretraining_on_the_world_gives_the_same_bits_each_time(tmp_path: Path) -> None:
    sets = ("steps=3", "batch_size=8", "shape.hidden_size=16", "shape.intermediate_size=32", "shape.layers=1",
            "machine.threads=1", "machine.device=cpu", "trackers=[]")  # fmt: skip
    hashes = []
    for name in ("one", "two"):
        words = [word for one in sets for word in ("--set", one)]
        assert main(["pretrain", "--data", "world", "--out", str(tmp_path / name), *words]) == 0
        (weights,) = (tmp_path / name).rglob("model.safetensors")
        hashes.append(sha256_file(weights))
    assert hashes[0] == hashes[1]
