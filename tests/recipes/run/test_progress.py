import io
import itertools
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from assent.algorithms.methods import METHODS
from assent.config import parse
from assent.evals.evidence import Evidence
from assent.recipes.run.ending import ending, next_command
from assent.recipes.run.inputs import Files
from assent.recipes.run.job_settings import EvalJob, job_settings
from assent.recipes.run.jobs import training_curves
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request


def test_a_stage_counts_in_its_unit_and_tells_its_last_line_once() -> None:
    told = io.StringIO()
    display = Display(Console(file=told))
    with display.stage("PPO", 3, unit="iterations") as stage:
        for tick in range(2):
            stage.on_tick(tick + 1, 3, {"reward": 0.5})
    (line,) = told.getvalue().splitlines()
    assert line.startswith("PPO: 2/3 iterations, ") and line.endswith("reward 0.500")


def test_a_run_that_measured_nothing_held_out_says_so() -> None:
    rows = tuple({"step": i, "loss": 2.0} for i in range(3))
    training = {"sft": training_curves(METHODS["sft"], rows)}
    bare = Evidence(title="SFT", seeds=(0,), wall_s=75.0, peak_rss_mib=1530.0, training=training)
    assert ending(bare) == (
        "done in 1 min 15 s, 1,530 MiB at most; Training loss 2.00 (nothing held out was measured: give --eval-data)"
    )
    assert (
        next_command(Request(name="sft", files=files("my runs/sft")), job_settings("sft")())
        == "assent chat --model 'my runs/sft'"
    )


def files(out: str, **more: tuple[str, ...]) -> Files:
    return Files(model="runs/sft", out=Path(out), data=("prompts.jsonl",), **more)


@pytest.mark.parametrize(
    ("kind", "held", "reward", "command"),
    [
        ("reward", (), None, "assent ppo --model runs/sft --reward runs/x --data prompts.jsonl --out runs/ppo"),
        ("pretrain", (), None, "assent sft --model runs/x --data DEMONSTRATIONS --out runs/sft"),
        ("dpo", ("h.jsonl",), None, "assent chat --model runs/x"),
        ("ppo", (), "runs/reward", "assent chat --model runs/x"),
        (
            "ppo",
            ("h.jsonl",),
            "runs/reward",
            "assent eval --model runs/x --against runs/sft --reward runs/reward --data h.jsonl --out runs/x-eval "
            "--set max_tokens=64",
        ),
    ],
)
def test_the_next_command_is_ready_to_paste(kind: str, held: tuple[str, ...], reward: str | None, command: str) -> None:
    request = Request(name=kind, files=files("runs/x", eval_data=held), rewards=(reward,) if reward else ())
    assert next_command(request, job_settings(kind)()) == command


def test_the_next_evaluation_reads_samples_and_judges_as_the_run_did() -> None:
    chosen = {
        "max_tokens": 8, "temperature": 0.7, "limit": 5, "positive": "very rude", "reward_weights": (1, 0.01),
        "reading": {"prompt": "question"}, "seed": 3, "batch_size": 2,
    }  # fmt: skip
    rewards = ("clf", "rules.py:short")
    request = Request(name="ppo", files=files("runs/x", eval_data=("h.jsonl",)), rewards=rewards)
    command = next_command(request, job_settings("ppo").model_validate(chosen))
    words = shlex.split(command)
    settings = parse(EvalJob, overrides=[after for word, after in itertools.pairwise(words) if word == "--set"])
    wanted = {name: value for name, value in chosen.items() if name not in ("seed", "batch_size")}
    assert settings == EvalJob.model_validate(wanted)
    assert [after for word, after in itertools.pairwise(words) if word == "--reward"] == ["clf", "rules.py:short"]
