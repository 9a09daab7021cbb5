"""Every command does its work at a tiny scale, and what it leaves behind is what people can use."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import transformers
from running import assent, worked, write_rows

SMALL_PPO = ("--set", "iterations=2", "--set", "batch_size=4", "--set", "max_tokens=4", "--set", "normalise_prompts=4")
LORA = ("--set", "lora.rank=2")
CHECKED = """
def right(completions, street, prompts):
    # an odd street counts, so that rewards differ whatever is written
    assert all(isinstance(one, int) and str(one) in prompt for one, prompt in zip(street, prompts))
    return [len(text) + one for text, one in zip(completions, street)]




def wrong_column(completions, strete):
    return [0.0 for _ in completions]


def none(prompts, completions):
    return [None for _ in completions]
"""
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
    assert re.search(
        r"held-out reward: \S+ before, \S+ after, raw score; change \S+ \((\S+ to \S+|no interval: all are equal), "
        r"n = 8 prompts\)",
        ran.err,
    )
    rows = [json.loads(line) for line in (tmp_path / "ppo" / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2]
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-6), "the policy starts as its own reference"
    report = report_of(tmp_path / "ppo")
    (measurements,) = report["measurements"]
    assert set(measurements["values"]) == {"before", "after"} and measurements["judge"].startswith(
        "reward model reward ("
    )
    assert [set(one["answers"]) for one in report["samples"]] == [{"before", "after"}] * 8 + [{"ppo"}] * 8
    assert {one["kind"] for one in report["samples"][8:]} == {"rollout of iteration 1", "rollout of iteration 2"}
    status = json.loads((tmp_path / "ppo" / "status.json").read_text())
    assert (status["step"], status["total"], status["unit"]) == (2, 2, "iterations")
    assert "PPO: 2/2 iterations" in ran.err
    assert f"next: assent eval --model {tmp_path}/ppo --against {home}/sft --reward {home}/reward" in ran.err


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


def test_before_after_and_eval_are_of_one_scale(home: Path, tmp_path: Path) -> None:
    """The raw scale of the reward model: the same model, prompts, seed and sampling give the same number everywhere."""
    data = home / "world"
    worked(
        "ppo", "--model", home / "sft", "--reward", home / "reward", "--data", data / "prompts.jsonl",
        "--eval-data", data / "held-out.jsonl", "--out", tmp_path / "ppo", *SMALL_PPO,
    )  # fmt: skip
    worked(
        "eval", "--model", tmp_path / "ppo", "--against", home / "sft", "--reward", home / "reward",
        "--data", data / "held-out.jsonl", "--out", tmp_path / "eval", "--set", "max_tokens=4",
    )  # fmt: skip
    run, later = report_of(tmp_path / "ppo"), report_of(tmp_path / "eval")
    (before, after), (other, mine) = (list(values_of(one)["reward"].values()) for one in (run, later))
    assert (other, mine) == (before, after)
    assert "Training maximises (reward - " in run["notes"][0]


def values_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a report measured on held-out prompts: the values by model, by the name of the quantity."""
    return {one["name"]: one["values"] for one in report["measurements"] if one["counted"] == "prompts"}


def test_rewards_are_added_up_and_functions_see_the_columns_of_the_data(home: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(CHECKED)
    rows = [{"prompt": f"Where is house {number}?", "street": number, "held": True} for number in range(6)]
    data = write_rows(tmp_path / "streets.jsonl", rows)
    rewards = ("--reward", f"{tmp_path}/rules.py:right", "--reward", home / "reward")
    ran = worked(
        "ppo", "--model", home / "sft", *rewards, "--data", data, "--eval-data", data, "--out", tmp_path / "ppo",
        "--set", "reward_weights=[2, 0.5]", *SMALL_PPO,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "ppo" / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["reward"] == pytest.approx(2 * row["reward/right"] + 0.5 * row["reward/reward"])
        assert row["kl_penalty"] == pytest.approx(0.05 * row["kl"])
    lineage = json.loads((tmp_path / "ppo" / "lineage.json").read_text())
    assert [one["role"] for one in lineage["parents"]] == ["policy", "reward"]
    assert [one["name"] for one in lineage["data"] if one["role"] == "reward"] == ["rules.py:right"]
    report = report_of(tmp_path / "ppo")
    found = values_of(report)
    assert set(found) == {"reward", "reward right", "reward reward"} and "  right: " in ran.err
    judges = {one["name"]: re.sub(r"[0-9a-f]{8}", "-", one["judge"]) for one in report["measurements"]}
    assert judges["reward"] == "2 * rules.py:right (-) + 0.5 * reward model reward (-)"
    assert (judges["reward right"], judges["reward reward"]) == ("rules.py:right (-)", "reward model reward (-)")
    assert "--set max_tokens=4 --set 'reward_weights=[2.0, 0.5]'" in ran.err
    page = (tmp_path / "ppo" / "report.html").read_text()
    assert "Reward: right" in page and "Penalty against reward" in page
    worked(
        "eval", "--model", tmp_path / "ppo", *rewards, "--data", data, "--out", tmp_path / "eval",
        "--set", "max_tokens=4", "--set", "reward_weights=[2, 0.5]",
    )  # fmt: skip
    later = values_of(report_of(tmp_path / "eval"))
    for name, (_, after) in ((name, one.values()) for name, one in found.items()):
        assert list(later[name].values()) == [after]


def test_two_reward_adapters_on_the_policys_own_base_do_not_take_each_others_place(home: Path, tmp_path: Path) -> None:
    data = home / "world"
    for name, seed in (("one", 1), ("two", 2)):
        worked(
            "reward", "--model", home / "sft", "--data", data / "preferences.jsonl", "--out", tmp_path / name,
            "--set", f"seed={seed}", *LORA,
        )  # fmt: skip
    rows = {}
    for names in (("one",), ("two",), ("one", "two")):
        rewards = [part for name in names for part in ("--reward", tmp_path / name)]
        worked(
            "ppo", "--model", home / "sft", *rewards, "--data", data / "prompts.jsonl", "--out",
            tmp_path / "-".join(("ppo", *names)), *LORA, *SMALL_PPO,
        )  # fmt: skip
        lines = (tmp_path / "-".join(("ppo", *names)) / "metrics.jsonl").read_text().splitlines()
        rows[names] = json.loads(lines[0])
    both = rows["one", "two"]
    assert both["reward/one"] == pytest.approx(rows["one",]["reward"], abs=1e-5)
    assert both["reward/two"] == pytest.approx(rows["two",]["reward"], abs=1e-5)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (("--reward", "rules.py:wrong_column"), 'rules.py:10: the reward function rules.py:wrong_column asks for the '
         'column "strete", which the data does not have. Did you mean "street"?'),
        (("--reward", "rules.py:right", "--set", "reward_weights=[1, 2]"), "there are 1 rewards and 2 weights"),
        (("--reward", "rules.py:right", "--set", "reward_weights=[0]"), "weight 0"),
        (("--reward", "rules.py:none"), "rules.py:14: the reward function rules.py:none gave None"),
    ],
)  # fmt: skip
def test_rewards_that_cannot_be_had_are_refused_before_a_folder_is_made(
    more: tuple[str, ...], match: str, home: Path, own: Path
) -> None:
    (own / "rules.py").write_text(CHECKED)
    data = write_rows(own / "streets.jsonl", [{"prompt": "Where is house 1?", "street": 1}])
    ran = assent("ppo", "--model", home / "sft", "--data", data, "--out", own / "ppo", *more, *SMALL_PPO)
    assert ran.code == 2 and match in ran.err and "Traceback" not in ran.err, ran.err
    assert not (own / "ppo").exists()


def test_dpo_says_how_many_held_out_pairs_the_policy_has_right(home: Path, tmp_path: Path) -> None:
    data = home / "world"
    ran = worked(
        "dpo", "--model", home / "sft", "--data", data / "preferences.jsonl", "--eval-data", data / "held-out.jsonl",
        "--out", tmp_path / "dpo",
    )  # fmt: skip
    assert "held out: 0." in ran.err
    report = report_of(tmp_path / "dpo")
    assert report["reward_model"]["pairs"] > 8 and report["quality_of"] == "The reward implicit in the policy"


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
    assert len(rows) == 5 and all(len(row["completions"]) == len(row["stop_reasons"]) == 3 for row in rows)
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
    ran = worked(
        "eval", "--model", home / "sft", "--against", home / "base", "--reward", home / "reward",
        "--data", home / "world" / "held-out.jsonl", "--out", tmp_path / "eval", "--set", "max_tokens=4",
    )  # fmt: skip
    assert f"reward of {home}/sft: " in ran.err and f"{home}/sft wins " in ran.err and "policy" not in ran.err
    report = report_of(tmp_path / "eval")
    assert list(report["measurements"][0]["values"]) == ["base", "sft"]
    assert (report["win_rates"][0]["arm"], report["win_rates"][0]["against"]) == ("sft", "base")
    assert report["win_rates"][0]["judge"].startswith("reward model reward (")
    page = (tmp_path / "eval" / "report.html").read_text()
    assert re.search(r"<h1>sft wins \d+\u00a0% against base</h1>", page)
    worked("report", home / "sft", home / "reward", tmp_path / "eval", "--out", tmp_path / "all")
    assert list(report_of(tmp_path / "all")["parts"]) == ["sft", "reward", "eval"]
    for name in ("sft", "reward", "base"):
        shutil.copytree(home / name, tmp_path / "runs" / name)
    ran = worked("report", tmp_path / "runs", "--out", tmp_path / "whole")
    assert list(report_of(tmp_path / "whole")["parts"]) == ["base", "sft", "reward"], "in the order of their start"
    assert "3 runs: base, sft, reward" in ran.err


def test_sft_measures_its_held_out_loss_before_and_after_and_draws_it(home: Path, tmp_path: Path) -> None:
    data = home / "world"
    ran = worked(
        "sft", "--model", home / "base", "--data", data / "demonstrations.jsonl",
        "--eval-data", data / "held-out.jsonl", "--out", tmp_path / "sft",
    )  # fmt: skip
    *_, result, done, report, then = ran.err.splitlines()
    assert re.fullmatch(
        r"held-out loss: \S+ before, \S+ after, nats per token; change \S+ \(\S+ to \S+, n = 8 conversations\)", result
    )
    assert re.fullmatch(rf"done in \d+ s, [\d,]+ MiB at most; model: {tmp_path}/sft/model", done)
    assert (report, then) == (
        f"report: {tmp_path}/sft/report.html",
        f"next: assent chat --model {tmp_path}/sft",
    )
    found = report_of(tmp_path / "sft")
    (measurements,) = found["measurements"]
    before, after = measurements["values"]["before"]["mean"], measurements["values"]["after"]["mean"]
    drawn = [row["eval_loss"] for row in found["training"]["sft"]["rows"] if "eval_loss" in row]
    assert drawn == [before, pytest.approx(after, rel=1e-5)]
    assert found["held_out"] == {"count": 8, "seen": 0} and found["command"].startswith("assent sft --model ")
    assert f"<h1>Held-out loss from {before:.2f} to {after:.2f}</h1>" in (tmp_path / "sft" / "report.html").read_text()


def test_what_a_model_was_trained_on_is_not_called_held_out(home: Path, tmp_path: Path) -> None:
    trained, fresh = home / "world" / "preferences.jsonl", home / "world" / "held-out.jsonl"
    ran = worked("eval", "--model", home / "reward", "--data", trained, "--out", tmp_path / "trained")
    assert "warning: 16 of 16 held-out prompts are among those that the model is trained on" in ran.err
    assert "16 of the 16 held-out prompts" in (tmp_path / "trained" / "report.html").read_text()
    ran = worked("eval", "--model", home / "reward", "--data", fresh, "--out", tmp_path / "fresh")
    assert "warning" not in ran.err
    assert "that share no prompt with its training data" in (tmp_path / "fresh" / "report.html").read_text()


def test_a_model_is_not_compared_with_itself(home: Path, tmp_path: Path) -> None:
    ran = assent(
        "eval",
        "--model",
        home / "sft",
        "--against",
        home / "sft" / "model",
        "--data",
        "world",
        "--out",
        tmp_path / "eval",
    )
    assert ran.code == 2 and "the model under evaluation itself" in ran.err


def test_the_embedded_world_judges_any_model(home: Path, tmp_path: Path) -> None:
    ran = worked(
        "eval", "--model", home / "sft", "--against", home / "base", "--data", "world", "--out", tmp_path / "eval",
        "--set", "limit=18", "--set", "max_tokens=4",
    )  # fmt: skip
    assert f"gold score of {home}/sft: " in ran.err and "n = 18 prompts" in ran.err
    report = report_of(tmp_path / "eval")
    assert list(report["gold"]) == ["base", "sft"]
    (won,) = report["win_rates"]
    assert (won["arm"], won["against"], won["judge"]) == ("sft", "base", "gold")
    assert won["wins"] + won["ties"] + won["losses"] == 18 and "judged by the gold judge" in ran.err


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


def test_dpo_shows_answers_before_and_after(home: Path, tmp_path: Path) -> None:
    data = home / "world"
    worked(
        "dpo", "--model", home / "sft", "--data", data / "preferences.jsonl", "--eval-data", data / "held-out.jsonl",
        "--out", tmp_path / "dpo", "--set", "evaluate_every=1", "--set", "limit=8",
    )  # fmt: skip
    samples = report_of(tmp_path / "dpo")["samples"]
    assert 1 <= len(samples) <= 4
    assert all(set(one["answers"]) == {"before", "after"} and one["kind"] == "held out" for one in samples)
    first = json.loads((tmp_path / "dpo" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 0 and first["eval_loss"] == pytest.approx(0.6931, abs=1e-4)
