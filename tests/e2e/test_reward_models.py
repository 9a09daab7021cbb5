"""Reward models by the command line: trained on from their head, and classifiers whose classes have names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import assent, worked, write_rows
from transformers import AutoConfig

from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_reward_model
from assent.types import Completion, Conversation


def score(folder: Path, positive: str | None = None) -> float:
    reward = load_reward_model(str(folder / "model"), machine=MachineOptions(device="cpu"), positive=positive)
    return reward.scorer.score([Conversation.of_user("What is red?")], [Completion(text="A colour.")])[0]


def test_a_reward_model_given_as_model_is_trained_on_and_that_is_said(home: Path, own: Path) -> None:
    given = ("reward", "--model", home / "reward", "--data", home / "world" / "preferences.jsonl", "--out")
    ran = worked(*given, own / "on", "--set", "learning_rate=1e-12")
    assert f"{home / 'reward' / 'model'} is a reward model: its head is trained on" in ran.err
    assert score(own / "on") == pytest.approx(score(home / "reward"), abs=1e-5)
    ran = worked(*given, own / "fitted", "--set", "train=head")
    assert "its head is fitted anew" in ran.err
    ran = worked("reward", "--model", home / "sft", *given[3:], own / "fresh", "--set", "learning_rate=1e-12")
    assert "is a reward model" not in ran.err


@pytest.mark.parametrize("lora", [(), ("--set", "lora.rank=2")])
def test_the_labels_named_for_reading_name_the_classes_of_the_reward(lora: tuple, home: Path, own: Path) -> None:
    rows = [
        {"prompt": f"Say {word}.", "completion": text, "label": label}
        for word in ("red", "blue", "green", "one")
        for text, label in (("A colour it is.", "lovely"), ("No.", "dreadful"))
    ]
    data = write_rows(own / "labels.jsonl", rows)
    worked(
        "reward", "--model", home / "sft", "--data", data, "--out", own / "judge", *lora, "--set", "classes=2",
        "--set", 'reading.positive_labels=["lovely"]', "--set", 'reading.negative_labels=["dreadful"]',
        "--set", "epochs=2",
    )  # fmt: skip
    assert AutoConfig.from_pretrained(own / "judge" / "model").id2label == {0: "dreadful", 1: "lovely"}
    ppo = (
        "ppo", "--model", home / "sft", "--reward", own / "judge", "--data", home / "world" / "prompts.jsonl",
        "--set", "iterations=1", "--set", "batch_size=4", "--set", "max_tokens=4", "--set", "normalise_prompts=4",
    )  # fmt: skip
    worked(*ppo, "--out", own / "ppo", "--set", "positive=lovely")
    assert "reward" in json.loads((own / "ppo" / "metrics.jsonl").read_text().splitlines()[0])
    ran = assent(*ppo, "--out", own / "none", "--set", "positive=nice")
    assert ran.code == 2 and 'no class is called "nice"; there are: dreadful, lovely' in ran.err
    assert score(own / "judge", "lovely") != score(own / "judge", "dreadful")
    assert score(own / "judge", "lovely") == score(own / "judge")
