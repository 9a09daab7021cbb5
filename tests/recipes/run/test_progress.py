import io
import itertools
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from assent.config import parse
from assent.evals.evidence import Evidence
from assent.recipes.run.ending import ending, next_command
from assent.recipes.run.inputs import Files
from assent.recipes.run.job_settings import DPOJob, EvalJob, PPOJob, RewardJob, SFTJob
from assent.recipes.run.progress import Display


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
    bare = Evidence(title="SFT", seeds=(0,), wall_s=75.0, peak_rss_mib=1530.0, curves={"sft": rows})
    assert ending(bare) == (
        "done in 1 min 15 s, 1,530 MiB at most; Training loss 2.00 (nothing held out was measured: give --eval-data)"
    )
    assert next_command("sft", files("my runs/sft"), SFTJob()) == "assent chat --model 'my runs/sft'"


def files(out: str, **more: tuple[str, ...]) -> Files:
    return Files(model="runs/sft", out=Path(out), data=("prompts.jsonl",), **more)


@pytest.mark.parametrize(
    ("kind", "held", "reward", "command"),
    [
        ("reward", (), None, "assent ppo --model runs/sft --reward runs/x --data prompts.jsonl --out runs/ppo"),
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
    job = {"reward": RewardJob, "dpo": DPOJob, "ppo": PPOJob}[kind]()
    assert next_command(kind, files("runs/x", eval_data=held), job, [reward] if reward else []) == command


def test_the_next_evaluation_reads_samples_and_judges_as_the_run_did() -> None:
    chosen = {
        "max_tokens": 8, "temperature": 0.7, "limit": 5, "positive": "very rude", "reward_weights": (1, 0.01),
        "reading": {"prompt": "question"}, "seed": 3, "batch_size": 2,
    }  # fmt: skip
    given = files("runs/x", eval_data=("h.jsonl",))
    command = next_command("ppo", given, PPOJob.model_validate(chosen), ["clf", "rules.py:short"])
    words = shlex.split(command)
    settings = parse(EvalJob, overrides=[after for word, after in itertools.pairwise(words) if word == "--set"])
    wanted = {name: value for name, value in chosen.items() if name not in ("seed", "batch_size")}
    assert settings == EvalJob.model_validate(wanted)
    assert [after for word, after in itertools.pairwise(words) if word == "--reward"] == ["clf", "rules.py:short"]
