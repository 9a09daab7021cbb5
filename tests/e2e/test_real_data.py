"""The commands on real files: preference transcripts and labelled tweets, a few steps of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import TINY_SHAPE, worked

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "open"
PAIRS = SHARED / "preference" / "hh_rlhf_harmless_base.train.jsonl.gz"
HELD_OUT = SHARED / "preference" / "hh_rlhf_harmless_base.test.jsonl.gz"
TWEETS = SHARED / "harm" / "davidson_hate_offensive.train.csv.gz"
LIMIT = ("--set", "limit=48")
PPO = (
    *LIMIT,
    "--set",
    "iterations=1",
    "--set",
    "batch_size=4",
    "--set",
    "max_tokens=8",
    "--set",
    "normalise_prompts=8",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAIRS.is_file(), reason="shared data folder is absent"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model pretrained on the transcripts."""
    out = tmp_path_factory.mktemp("real") / "base"
    sizes = ("--set", "shape.context=512", "--set", "steps=3", "--set", "batch_size=4", "--set", "limit=200")
    files = ("--data", PAIRS, "--eval-data", HELD_OUT, "--on-bad-row", "skip")
    worked("pretrain", *files, "--out", out, *TINY_SHAPE, *sizes)
    return out


def test_the_whole_loop_runs_on_real_transcripts(base: Path, tmp_path: Path) -> None:
    sft, reward, ppo, dpo = (tmp_path / name for name in ("sft", "reward", "ppo", "dpo"))
    skip = ("--on-bad-row", "skip")  # real files hold empty answers
    held = ("--eval-data", HELD_OUT, *skip, *LIMIT)
    ran = worked("sft", "--model", base, "--data", PAIRS, *held, "--out", sft)
    assert "train: 48 from" in ran.err and "(hh)" in ran.err
    ran = worked("reward", "--model", sft, "--data", PAIRS, *held, "--out", reward)
    assert "held out: 0." in ran.err
    worked("ppo", "--model", sft, "--reward", reward, "--data", PAIRS, "--out", ppo, *skip, *PPO)
    worked("dpo", "--model", sft, "--data", PAIRS, *held, "--out", dpo)
    worked(
        "eval", "--model", ppo, "--against", dpo, "--reward", reward, "--data", HELD_OUT, "--out", tmp_path / "eval",
        *skip, *LIMIT, "--set", "max_tokens=8",
    )  # fmt: skip
    worked("eval", "--model", reward, "--data", HELD_OUT, "--out", tmp_path / "eval-reward", *skip, *LIMIT)
    report = json.loads((tmp_path / "eval" / "report.json").read_text())
    assert len(report["measurements"][0]["values"]) == 2


def test_a_classifier_of_tweets_becomes_the_reward(base: Path, tmp_path: Path) -> None:
    classifier = tmp_path / "classifier"
    held = ("--eval-data", str(TWEETS).replace(".train.", ".test."))
    more = ("--set", "limit=96", "--set", "classes=2")
    ran = worked("reward", "--model", base, "--data", TWEETS, *held, "--out", classifier, *more)
    assert "(davidson)" in ran.err and "AUC" in ran.err
    worked(
        "ppo", "--model", base, "--reward", classifier, "--data", PAIRS, "--on-bad-row", "skip",
        "--out", tmp_path / "ppo", *PPO, "--set", "positive=good",
    )  # fmt: skip
