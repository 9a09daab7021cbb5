"""Every command does its work at a tiny scale, and what it leaves behind is what people can use."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import transformers
from running import assent, worked, write_rows

SMALL_PPO = ("--set", "iterations=2", "--set", "batch_size=4", "--set", "max_tokens=4", "--set", "normalise_prompts=4")
LORA = ("--set", "lora.rank=2")
REWARD_FILE = "def short(prompts, completions):\n    return [-len(text) for text in completions]\n"


def report_of(run: Path) -> dict:
    return json.loads((run / "report.json").read_text())


def test_a_trained_model_loads_in_plain_transformers_and_has_its_card(home: Path) -> None:
    for run, kind in (("base", "CausalLM"), ("sft", "CausalLM"), ("reward", "SequenceClassification")):
        loader = getattr(transformers, f"AutoModelFor{kind}")
        model, report = loader.from_pretrained(home / run / "model", output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"], run
        tokenizer = transformers.AutoTokenizer.from_pretrained(home / run / "model")
        assert len(tokenizer) <= model.config.vocab_size and tokenizer.chat_template
        card = (home / run / "model" / "README.md").read_text()
        assert f"# {run}" in card and "Seed 0" in card and "sha256" in card
        assert list((home / run / "tensorboard").iterdir()), "TensorBoard is the default tracker"
        assert (home / run / "report.html").is_file()
    lineage = json.loads((home / "sft" / "lineage.json").read_text())
    assert [(one["role"], one["name"]) for one in lineage["parents"]] == [("policy", "base")]
    assert [(one["role"], one["rows"]) for one in lineage["data"]] == [("train", 24)]


def test_ppo_trains_against_a_reward_model_and_measures_before_and_after(home: Path, tmp_path: Path) -> None:
    data = home / "world"
    ran = worked(
        "ppo", "--model", home / "sft", "--reward", home / "reward", "--data", data / "prompts.jsonl",
        "--eval-data", data / "held-out.jsonl", "--out", tmp_path / "ppo", *SMALL_PPO,
    )  # fmt: skip
    assert "reward of before" in ran.err and "reward of after" in ran.err
    rows = [json.loads(line) for line in (tmp_path / "ppo" / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2]
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-6), "the policy starts as its own reference"
    assert set(report_of(tmp_path / "ppo")["reward"]) == {"before", "after"}
    assert (tmp_path / "ppo" / "samples.jsonl").read_text().count("\n") == 4


def test_ppo_takes_a_python_function_as_reward_and_remembers_which(home: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(REWARD_FILE)
    worked(
        "ppo", "--model", home / "sft", "--reward", f"{tmp_path}/rules.py:short",
        "--data", home / "world" / "prompts.jsonl", "--out", tmp_path / "ppo", *SMALL_PPO,
    )  # fmt: skip
    sources = json.loads((tmp_path / "ppo" / "lineage.json").read_text())["data"]
    assert [(one["role"], one["name"]) for one in sources] == [
        ("prompts", "prompts.jsonl"),
        ("reward", "rules.py:short"),
    ]


def test_dpo_says_how_many_held_out_pairs_the_policy_has_right(home: Path, tmp_path: Path) -> None:
    data = home / "world"
    ran = worked(
        "dpo", "--model", home / "sft", "--data", data / "preferences.jsonl", "--eval-data", data / "held-out.jsonl",
        "--out", tmp_path / "dpo",
    )  # fmt: skip
    assert "held out: 0." in ran.err
    assert report_of(tmp_path / "dpo")["reward_model"]["pairs"] > 8


def test_labels_make_a_classifier_whose_class_can_be_the_reward(home: Path, tmp_path: Path) -> None:
    rows = [{"text": f"number {i} is {'fine' if i % 2 else 'awful'}", "label": i % 2} for i in range(24)]
    data = write_rows(tmp_path / "labels.jsonl", rows)
    ran = worked(
        "reward", "--model", home / "base", "--data", data, "--eval-data", data, "--out", tmp_path / "classifier",
        "--set", "classes=2",
    )  # fmt: skip
    assert "AUC" in ran.err
    for positive in ("bad", "1"):
        worked(
            "ppo", "--model", home / "sft", "--reward", tmp_path / "classifier",
            "--data", home / "world" / "prompts.jsonl", "--out", tmp_path / f"ppo-{positive}",
            "--set", f"positive={positive}", *SMALL_PPO,
        )  # fmt: skip
    first, second = (
        json.loads((tmp_path / f"ppo-{name}" / "metrics.jsonl").read_text().splitlines()[0])["reward"]
        for name in ("bad", "1")
    )
    assert first != second


def test_plackett_luce_reads_whole_rankings(home: Path, tmp_path: Path) -> None:
    ran = worked(
        "reward", "--model", home / "base", "--data", home / "world" / "preferences.jsonl", "--out", tmp_path / "rm",
        "--set", "loss=plackett_luce",
    )  # fmt: skip
    assert "comparisons made of" not in ran.err


def test_adapters_go_through_the_whole_loop_and_load_in_plain_peft(home: Path, tmp_path: Path) -> None:
    data, base = home / "world", home / "base"
    worked("sft", "--model", base, "--data", data / "demonstrations.jsonl", "--out", tmp_path / "sft", *LORA)
    worked("reward", "--model", tmp_path / "sft", "--data", data / "preferences.jsonl", "--out", tmp_path / "rm", *LORA)
    worked(
        "ppo", "--model", tmp_path / "sft", "--reward", tmp_path / "rm", "--data", data / "prompts.jsonl",
        "--out", tmp_path / "ppo", *SMALL_PPO,
    )  # fmt: skip
    worked("dpo", "--model", tmp_path / "sft", "--data", data / "preferences.jsonl", "--out", tmp_path / "dpo", *LORA)
    worked("eval", "--model", tmp_path / "rm", "--data", data / "held-out.jsonl", "--out", tmp_path / "eval")
    for run, kind in (("sft", "CausalLM"), ("ppo", "CausalLM"), ("dpo", "CausalLM"), ("rm", "SequenceClassification")):
        folder = tmp_path / run / "model"
        named = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert Path(named) == (base / "model").resolve(), "found from any folder"
        more = {} if kind == "CausalLM" else {"num_labels": 1}
        plain = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(named, **more)
        peft.PeftModel.from_pretrained(plain, folder)


def test_bf16_trains(home: Path, tmp_path: Path) -> None:
    data = home / "world" / "demonstrations.jsonl"
    worked("sft", "--model", home / "base", "--data", data, "--out", tmp_path / "b", "--set", "machine.precision=bf16")


def test_models_of_other_architectures_and_without_a_chat_template_work(
    home: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    rows = [
        {"prompt": "one two", "chosen": "red sun", "rejected": "no"},
        {"prompt": "no", "chosen": "a", "rejected": "b"},
    ]
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    worked("sft", "--model", folders["gpt2"], "--data", data, "--out", tmp_path / "sft")
    ran = worked("reward", "--model", folders["bert"], "--data", data, "--eval-data", data, "--out", tmp_path / "rm")
    assert "held out" in ran.err
    worked(
        "ppo", "--model", tmp_path / "sft", "--reward", tmp_path / "rm", "--data", data, "--out", tmp_path / "ppo",
        *SMALL_PPO,
    )  # fmt: skip


def test_sample_writes_a_line_per_prompt_that_reads_as_rankable_data(home: Path, tmp_path: Path) -> None:
    worked(
        "sample", "--model", home / "sft", "--data", home / "world" / "prompts.jsonl", "--out", tmp_path / "s.jsonl",
        "--set", "samples_per_prompt=3", "--set", "max_tokens=4", "--set", "limit=5",
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert len(rows) == 5 and all(len(row["completions"]) == len(row["stops"]) == 3 for row in rows)
    again = assent(
        "sample", "--model", home / "sft", "--data", home / "world" / "prompts.jsonl", "--out", tmp_path / "s.jsonl"
    )
    assert again.code == 2 and "exists" in again.err


def test_chat_answers_every_line_and_forgets_on_demand(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["hello there", "", "/new", "hello there", "/quit", "never read"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    ran = worked("chat", "--model", home / "sft", "--set", "max_tokens=4", "--set", "temperature=0")
    first, second = ran.out.splitlines()
    assert first == second and next(lines) == "never read"


def test_eval_compares_two_policies_and_a_report_joins_runs(home: Path, tmp_path: Path) -> None:
    worked(
        "eval", "--model", home / "sft", "--against", home / "base", "--reward", home / "reward",
        "--data", home / "world" / "held-out.jsonl", "--out", tmp_path / "eval", "--set", "max_tokens=4",
    )  # fmt: skip
    assert set(report_of(tmp_path / "eval")["reward"]) == {"policy", "against"}
    worked("report", home / "sft", home / "reward", tmp_path / "eval", "--out", tmp_path / "all")
    joined = report_of(tmp_path / "all")
    assert set(joined["settings"]) == {"sft", "reward", "eval"} and set(joined["curves"]) == {"sft", "reward"}


def test_the_embedded_world_judges_any_model(home: Path, tmp_path: Path) -> None:
    ran = worked(
        "eval", "--model", home / "sft", "--against", home / "base", "--data", "world", "--out", tmp_path / "eval",
        "--set", "limit=18", "--set", "max_tokens=4",
    )  # fmt: skip
    assert "gold score of policy" in ran.err
    assert set(report_of(tmp_path / "eval")["gold"]) >= {"policy", "against"}


PIPELINE = """
out = "{out}"
common = {{ seed = 3, max_length = 96 }}
[[stage]]
kind = "sft"
model = "{home}/base"
data = "{home}/world/demonstrations.jsonl"
[[stage]]
kind = "reward"
model = "@sft"
data = "{home}/world/preferences.jsonl"
[[stage]]
kind = "ppo"
model = "@sft"
reward = "@reward"
data = "{home}/world/prompts.jsonl"
settings = {{ iterations = 1, batch_size = 4, max_tokens = 4 }}
[[stage]]
kind = "eval"
model = "@ppo"
against = "@sft"
reward = "@reward"
data = "{home}/world/held-out.jsonl"
settings = {{ max_tokens = 4 }}
"""


def test_a_pipeline_runs_its_stages_and_on_resume_only_what_is_left(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.toml"
    file.write_text(PIPELINE.format(home=home, out=tmp_path / "out"))
    worked("run", file)
    assert {run.name for run in (tmp_path / "out").iterdir() if run.is_dir()} == {"sft", "reward", "ppo", "eval"}
    assert json.loads((tmp_path / "out" / "ppo" / "config.json").read_text())["seed"] == 3
    assert (tmp_path / "out" / "report.html").is_file()
    assert assent("run", file).code == 2
    ran = worked("run", file, "--resume")
    assert ran.err.count("finished before") == 4
