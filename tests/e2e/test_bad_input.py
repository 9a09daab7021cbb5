"""Whatever is wrong with data, settings, flags or places: one readable message, and nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from refusals import Case, check_refused
from running import assent, worked, write_rows

GOOD_PAIR = {"prompt": "one?", "chosen": "yes", "rejected": "no"}
GOOD_DEMONSTRATION = {"prompt": "one?", "completion": "yes"}


STAGE = '[[stage]]\nkind = "sft"\nmodel = "x"\ndata = "world"\n'
CASES: dict[str, Case] = {
    # files
    "file missing": (lambda p: p.sft(p.own / "absent.jsonl"), ("absent.jsonl", "no such file")),
    "file misspelt": (
        lambda p: p.sft(p.home / "world" / "demonstration.jsonl"),
        ("Did you mean", "demonstrations.jsonl"),
    ),
    "folder instead of a file": (lambda p: p.sft(p.own), ("own", "folder")),
    "no data": (lambda p: assent("sft", "--model", p.home / "base", "--out", p.out), ("no data was given", "--data")),
    "empty file": (lambda p: p.sft(p.file("empty.jsonl", "")), ("empty.jsonl", "empty")),
    "blank file": (lambda p: p.sft(p.file("blank.jsonl", "\n\n")), ("blank.jsonl",)),
    "not UTF-8": (
        lambda p: p.sft(p.file("latin.jsonl", '{"text": "café"}\n'.encode("latin-1"))),
        ("latin.jsonl", "UTF-8"),
    ),
    "broken JSON": (
        lambda p: p.sft(p.file("broken.jsonl", json.dumps(GOOD_DEMONSTRATION) + '\n{"prompt": "x", \n')),
        ("broken.jsonl:2", "JSON"),
    ),
    "damaged gzip": (lambda p: p.sft(p.file("data.jsonl.gz", b"\x1f\x8b\x08 not gzip")), ("data.jsonl.gz",)),
    "unknown ending": (lambda p: p.sft(p.file("data.docx", "x")), ("data.docx",)),
    "mixed formats": (
        lambda p: p.dpo(p.rows(GOOD_PAIR, {"messages": []})),
        ("rows.jsonl:1", "mixed formats", "rows.jsonl:2"),
    ),
    "unknown fields": (
        lambda p: p.sft(p.rows({"quesion": "x", "anser": "y"})),
        ("rows.jsonl:1", "quesion", "docs/data.md"),
    ),
    "unknown format": (
        lambda p: p.sft(p.rows(GOOD_DEMONSTRATION), "--format", "alpacca"),
        ("alpacca", 'Did you mean "alpaca"'),
    ),
    "another kind of file": (
        lambda p: p.sft(p.home / "world" / "prompts.jsonl"),
        ("prompts.jsonl", "holds prompts", "Give a file of demonstrations", "--set reading.prompt=COLUMN"),
    ),
    # rows
    "null field": (
        lambda p: p.dpo(p.rows(GOOD_PAIR, GOOD_PAIR | {"rejected": None})),
        ("rows.jsonl:2", '"rejected"', "null"),
    ),
    "missing field": (
        lambda p: p.dpo(p.rows(GOOD_PAIR, {"prompt": "x", "chosen": "y", "rejectd": "z"})),
        ("rows.jsonl:2", '"rejected" is missing', "rejectd"),
    ),
    "number for text": (
        lambda p: p.dpo(p.rows(GOOD_PAIR, GOOD_PAIR | {"chosen": 3})),
        ("rows.jsonl:2", '"chosen"', "a number"),
    ),
    "empty completion": (lambda p: p.dpo(p.rows(GOOD_PAIR | {"chosen": " "})), ("rows.jsonl:1", '"chosen"', "empty")),
    "identical sides": (lambda p: p.dpo(p.rows(GOOD_PAIR | {"rejected": "yes "})), ("rows.jsonl:1", "identical")),
    "unknown role": (
        lambda p: p.sft(p.rows({"messages": [{"role": "usr", "content": "x"}, {"role": "assistant", "content": "y"}]})),
        ("rows.jsonl:1", "messages[0].role", 'did you mean "user"'),
    ),
    "no answer": (
        lambda p: p.sft(p.rows({"messages": [{"role": "user", "content": "x"}]})),
        ("rows.jsonl:1", "assistant"),
    ),
    "all rows bad": (
        lambda p: p.dpo(p.rows(GOOD_PAIR | {"chosen": ""}), "--on-bad-row", "skip"),
        ("rows.jsonl:1", "all 1 rows are bad"),
    ),
    "everything too long": (
        lambda p: p.sft(p.rows({"prompt": "x", "completion": "word " * 200})),
        ("longer than 96 tokens", "max_length"),
    ),
    "prompts too long": (
        lambda p: p.ppo(p.home / "reward", "--set", "max_tokens=95"),
        ("no prompt leaves room for 95",),
    ),
    "held-out data of another kind": (
        lambda p: p.sft(p.home / "world" / "demonstrations.jsonl", "--eval-data", p.home / "world" / "prompts.jsonl"),
        ("prompts.jsonl", "holds prompts"),
    ),
    "labels nobody knows": (
        lambda p: assent(
            "reward",
            "--model",
            p.home / "base",
            "--out",
            p.out,
            "--data",
            p.rows({"text": "a", "label": "zig"}, {"text": "b", "label": "zag"}),
        ),
        ("zig", "reading.positive_labels"),
    ),
    # settings
    "unknown setting": (
        lambda p: p.settings("learnin_rate=1"),
        ("--set learnin_rate=1", 'did you mean "learning_rate"?'),
    ),
    "a setting's old name": (
        lambda p: p.settings("schedule_kind=linear"),
        ("unknown setting", 'did you mean "schedule"?'),
    ),
    "setting of another command": (lambda p: p.settings("kl_coef=1"), ('unknown setting "kl_coef"',)),
    "wrong type": (lambda p: p.settings("batch_size=many"), ("--set batch_size=many", "integer")),
    "out of range": (lambda p: p.settings("epochs=-1"), ("--set epochs=-1", "greater than 0")),
    "not a number": (lambda p: p.settings("learning_rate=nan"), ("learning_rate", "finite")),
    "no equals sign": (lambda p: p.settings("learning_rate"), ("--set learning_rate", "Example")),
    "several at once": (lambda p: p.settings("epochs=0", "batch_size=0"), ("2 settings", "epochs", "batch_size")),
    "unknown choice": (lambda p: p.settings("form=kto", command="dpo"), ("form", "sigmoid", "ipo")),
    "unknown tracker": (lambda p: p.settings('trackers=["neptune"]'), ("trackers", "tensorboard", "neptune")),
    "tracker that is not installed": (lambda p: p.settings('trackers=["wandb"]'), ("wandb", "pip install")),
    "unknown device": (lambda p: p.settings("machine.device=tpu"), ("tpu", '"cpu"')),
    "bad TOML": (lambda p: p.toml("epochs = = 3"), ("settings.toml:1", "not valid TOML")),
    "unknown setting in TOML": (
        lambda p: p.toml("seed = 1\n[lora]\nrnk = 3"),
        ("settings.toml:3", 'did you mean "lora.rank"'),
    ),
    "settings file missing": (
        lambda p: p.sft(p.home / "world" / "demonstrations.jsonl", "--settings", p.own / "no.toml"),
        ("no.toml", "no such"),
    ),
    "useless combination": (
        lambda p: p.ppo(p.home / "reward", "--set", "kl_estimator=k1", "--set", "kl_in=loss"),
        ("k1", "gradient"),
    ),
    "empty mini-batches": (lambda p: p.ppo(p.home / "reward", "--set", "mini_batches=9"), ("9 mini-batches of 2",)),
    "Plackett-Luce on labels": (
        lambda p: assent(
            "reward",
            "--model",
            p.home / "base",
            "--out",
            p.out,
            "--set",
            "loss=plackett_luce",
            "--data",
            p.rows({"text": "a", "label": 1}, {"text": "b", "label": 0}),
        ),
        ("Plackett-Luce needs rankings",),
    ),
    "shape that does not divide": (
        lambda p: assent(
            "pretrain",
            "--data",
            p.home / "world" / "demonstrations.jsonl",
            "--out",
            p.out,
            "--set",
            "shape.hidden_size=33",
        ),
        ("hidden_size 33",),
    ),
    "adapter for pretraining": (
        lambda p: assent("pretrain", "--data", "world", "--out", p.out, "--set", "lora.rank=2"),
        ('unknown setting "lora"',),
    ),
    # places
    "output is a file": (
        lambda p: assent("sft", "--model", "x", "--data", "y", "--out", p.file("o", "")),
        ("this is a file",),
    ),
    "nothing to resume": (
        lambda p: p.sft(p.home / "world" / "demonstrations.jsonl", "--resume"),
        ("no run to resume",),
    ),
    "resume and overwrite": (
        lambda p: p.sft(p.home / "world" / "demonstrations.jsonl", "--resume", "--overwrite"),
        ("exclude each other",),
    ),
    "report of no run": (lambda p: assent("report", p.own, "--out", p.out), ("no run folder",)),
    "report into a run": (
        lambda p: assent("report", p.home / "sft", "--out", p.home / "sft"),
        ("report of its own",),
    ),
    "comparison without a judge": (
        lambda p: assent(
            "eval",
            "--model",
            p.home / "sft",
            "--against",
            p.home / "base",
            "--out",
            p.out,
            "--data",
            p.home / "world" / "prompts.jsonl",
        ),
        ("--against", "--reward"),
    ),
    "nothing to evaluate": (
        lambda p: assent(
            "eval", "--model", p.home / "sft", "--data", p.home / "world" / "prompts.jsonl", "--out", p.out
        ),
        ("nothing to measure",),
    ),
    "chat with a reward model": (lambda p: assent("chat", "--model", p.home / "reward"), ("not a language model",)),
    # flags
    "unknown command": (lambda p: assent("sfft"), ("sfft", '"sft"')),
    "unknown flag": (lambda p: assent("sft", "--modle", "x"), ("--help",)),
    "flag missing": (lambda p: assent("sft", "--data", "x", "--out", p.out), ("--model",)),
    "no trust of remote code": (lambda p: p.settings("machine.trust_remote_code=true"), ("unknown setting",)),
    # pipelines
    "pipeline missing": (lambda p: assent("run", p.own / "no.toml"), ("no.toml",)),
    "pipeline without stages": (lambda p: p.pipeline(""), ("pipeline.toml", '"stage" is missing')),
    "unknown stage kind": (lambda p: p.pipeline('[[stage]]\nkind = "sftt"'), ("kind", "sftt")),
    "unknown stage name": (
        lambda p: p.pipeline(STAGE.replace('"x"', '"@base"')),
        ("stage 1 (sft)", "@base", "no earlier stage"),
    ),
    "two stages of one name": (lambda p: p.pipeline(STAGE + STAGE), ("stage 2 (sft)", 'called "sft"')),
    "stage without a model": (
        lambda p: p.pipeline(STAGE.replace('model = "x"\n', "")),
        ("stage 1 (sft)", "model is missing"),
    ),
    "stage with a wrong setting": (
        lambda p: p.pipeline(STAGE + "settings = { epoch = 3 }"),
        ("stage 1 (sft)", 'did you mean "epochs"?'),
    ),
    "stage with a missing file": (
        lambda p: p.pipeline(STAGE.replace("world", "no.jsonl")),
        ("stage 1 (sft)", "no.jsonl"),
    ),
    "unknown common setting": (lambda p: p.pipeline("common = { sed = 3 }\n" + STAGE), ("common", "sed")),
}
if not torch.cuda.is_available():
    CASES["no CUDA device"] = (lambda p: p.settings("machine.device=cuda"), ("cuda", "cpu"))


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said_in_one_message_and_nothing_is_written(name: str, home: Path, own: Path) -> None:
    check_refused(CASES[name], home, own)


def test_bad_rows_are_set_aside_counted_and_explained_on_demand(home: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [GOOD_PAIR, GOOD_PAIR | {"chosen": ""}, GOOD_PAIR | {"prompt": "two?"}])
    ran = worked(
        "dpo", "--model", home / "base", "--data", data, "--out", tmp_path / "out", "--on-bad-row", "skip",
        "--set", "epochs=1",
    )  # fmt: skip
    assert "train: 2 from" in ran.err and "1 bad rows skipped" in ran.err
    (aside,) = tmp_path.glob("out.bad-rows-*")
    (row,) = [json.loads(line) for line in aside.read_text().splitlines()]
    assert row["line"] == 2 and "empty" in row["reason"] and row["row"]["chosen"] == ""
    assert str(aside) in ran.err


def test_prompts_that_are_too_long_are_left_out_and_counted(home: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "p.jsonl", [{"prompt": "short?"}, {"prompt": "long " * 300}])
    ran = worked("sample", "--model", home / "sft", "--data", data, "--out", tmp_path / "s", "--set", "max_tokens=4")
    assert "1 prompts" in ran.err and (tmp_path / "s").read_text().count("\n") == 1


TIRED = """
calls = []
def reward(prompts, completions):
    calls.append(1)
    return [0.0 for _ in completions if len(calls) < 5]
"""


def test_a_reward_that_fails_in_the_middle_keeps_what_was_done(home: Path, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(TIRED)
    arguments = (
        "ppo", "--model", home / "sft", "--reward", f"{tmp_path}/f.py:reward",
        "--data", home / "world" / "prompts.jsonl",
        "--out", tmp_path / "out", "--set", "iterations=6", "--set", "batch_size=2", "--set", "max_tokens=4",
        "--set", "checkpoint_every=1",
    )  # fmt: skip
    ran = assent(*arguments)
    assert ran.code == 2 and "0 numbers for 2 completions" in ran.err and "Traceback" not in ran.err
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "failed"
    assert (tmp_path / "out" / "metrics.jsonl").read_text().count("\n") == 2
    again = assent(*arguments, "--resume")
    assert "other settings or data" not in again.err


@pytest.fixture
def finished(home: Path, tmp_path: Path) -> tuple:
    arguments = (
        "sft", "--model", home / "base", "--data", home / "world" / "demonstrations.jsonl", "--out", tmp_path / "run",
    )  # fmt: skip
    worked(*arguments)
    return arguments


def test_a_finished_run_is_neither_resumed_nor_replaced_unasked(finished: tuple, tmp_path: Path) -> None:
    before = (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    again, resumed = assent(*finished), assent(*finished, "--resume")
    assert again.code == resumed.code == 2
    assert "finished run of sft" in again.err and "--overwrite" in again.err
    assert "is finished" in resumed.err
    assert (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns == before
    worked(*finished, "--overwrite")
    assert (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns > before


def test_wrong_input_with_overwrite_leaves_the_old_run_alone(finished: tuple, home: Path, tmp_path: Path) -> None:
    ran = assent(*finished, "--overwrite", "--set", "max_length=2")
    assert ran.code == 2 and (tmp_path / "run" / "report.html").is_file()


def test_resuming_with_other_settings_or_data_shows_the_difference(finished: tuple, home: Path, tmp_path: Path) -> None:
    status = tmp_path / "run" / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "interrupted"}))
    other = assent(*finished, "--resume", "--set", "learning_rate=0.5")
    assert other.code == 2 and "learning_rate: 0.0001 -> 0.5" in other.err
    data = home / "world" / "preferences.jsonl"
    changed = assent(*finished[:4], data, *finished[5:], "--resume")
    assert changed.code == 2 and "data.1 (train)" in changed.err
    worked(*finished, "--resume", "--set", "checkpoint_every=7")  # what decides no number may change


def test_a_folder_that_is_no_run_is_never_emptied(home: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    data = home / "world" / "demonstrations.jsonl"
    ran = assent("sft", "--model", home / "base", "--data", data, "--out", tmp_path / "precious", "--overwrite")
    assert ran.code == 2 and "holds no run" in ran.err
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "mine"
