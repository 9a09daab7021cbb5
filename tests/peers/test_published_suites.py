"""Our suites and lm-eval's own tasks on the same small model and files: log-likelihoods, texts and figures agree."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import suite_files
from running import worked, write_rows
from suite_files import figures_of, items_of, small_policy

from assent.evals.suites.result import suite_result
from assent.evals.suites.reward_bench_2 import REWARD_BENCH_2
from assent.evals.suites.suite import Asked, Observed, Row

pytestmark = [pytest.mark.peers, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
TASKS = {  # ours: lm-eval's file, its split, our rows
    "hhh": ("bigbench/multiple_choice/hhh_alignment.yaml", "default", suite_files.HHH),
    "truthfulqa-mc1": ("truthfulqa/truthfulqa_mc1.yaml", "validation", suite_files.TRUTHFULQA),
    "truthfulqa-mc2": ("truthfulqa/truthfulqa_mc2.yaml", "validation", suite_files.TRUTHFULQA),
    "bbq": ("bbq/bbq_multiple_choice.yaml", "test", suite_files.bbq()),
    "crows-pairs": ("crows_pairs/crows_pairs_english.yaml", "test", suite_files.CROWS_PAIRS),
    "gsm8k": ("gsm8k/gsm8k.yaml", "test", suite_files.GSM8K[:3]),
}
FIGURES = {  # (suite, figure): the metric of lm-eval
    ("hhh", "accuracy"): "acc,none",
    ("truthfulqa-mc1", "mc1"): "acc,none",
    ("truthfulqa-mc2", "mc2"): "acc,none",
    ("bbq", "accuracy"): "acc,none",
    ("bbq", "accuracy, ambiguous"): "accuracy_amb,none",
    ("bbq", "accuracy, disambiguated"): "accuracy_disamb,none",
    ("bbq", "bias, ambiguous"): "amb_bias_score,none",
    ("bbq", "bias, disambiguated"): "disamb_bias_score,none",
    ("crows-pairs", "stereotype"): "pct_stereotype,none",
    ("crows-pairs", "likelihood difference"): "likelihood_diff,none",
    ("gsm8k", "exact match"): "exact_match,strict-match",
    ("gsm8k", "exact match, flexible"): "exact_match,flexible-extract",
}


@dataclass(frozen=True, slots=True)
class Both:
    """A run of ours, and what lm-eval found."""

    run: Path
    theirs: dict[str, Any]


def python() -> Path:
    path = Path(os.environ.get("ASSENT_LM_EVAL_PYTHON", ROOT / ".venv-lm-eval" / "bin" / "python"))
    if not path.is_file():
        pytest.skip(f"no lm-eval at {path}: make it with benchmarks/make_lm_eval.sh, or set ASSENT_LM_EVAL_PYTHON")
    return path


def asked(model: str | Path, given: Any, folder: Path) -> dict[str, Any]:
    """What lm_eval_figures.py answers."""
    (folder / "given.json").write_text(json.dumps(given))
    script, out = Path(__file__).with_name("lm_eval_figures.py"), folder / "found.json"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    command = [str(python()), str(script), str(model), str(folder / "given.json"), str(out)]
    done = subprocess.run(command, env=offline, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module", params=["chatml", "llama3"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """A tokenizer without a start-of-text token, and one that writes it."""
    python()
    folder = tmp_path_factory.mktemp(request.param)
    model = small_policy(folder / "model", request.param)
    train = write_rows(folder / "train.jsonl", suite_files.GSM8K[3:])
    given, files = {}, []
    for name, (yaml, split, rows) in TASKS.items():
        path = write_rows(folder / f"{name}.jsonl", rows)
        given[name] = {"yaml": yaml, "data": {split: str(path)}}
        files += [path] if name != "truthfulqa-mc2" else []
    given["gsm8k"] |= {"shots": 5, "data": {**given["gsm8k"]["data"], "train": str(train)}}
    run = folder / "run"
    suites = [part for name in TASKS if name != "gsm8k" for part in ("--suite", name)]
    worked("eval", "--model", model, *suites, "--data", *[one for one in files if one.stem != "gsm8k"], "--out", run)
    worked("eval", "--model", model, "--suite", "gsm8k", "--shots", train, "--data", folder / "gsm8k.jsonl",
           "--out", folder / "run-gsm8k")  # fmt: skip
    yield Both(run, asked(model, given, folder))


def test_every_option_has_the_log_likelihood_that_lm_eval_gives_it(both: Both) -> None:
    for name, items in items_of(both.run).items():
        ours = [score for item in items for score in next(iter(item["models"].values()))["scores"]]
        theirs = [response[0][0] for one in both.theirs["samples"][name] for response in one["responses"]]
        np.testing.assert_allclose(ours, [float(score) for score in theirs], rtol=1e-4, err_msg=name)


def test_the_decoder_writes_what_lm_eval_reads_after_the_same_shots(both: Both) -> None:
    ours = [
        next(iter(item["models"].values()))["answer"] for item in items_of(both.run.with_name("run-gsm8k"))["gsm8k"]
    ]
    assert ours == [one["responses"][0][0] for one in both.theirs["samples"]["gsm8k"]][: len(ours)]
    assert any(ours)


def test_figures_are_those_of_lm_eval(both: Both) -> None:
    ours = figures_of(both.run) | figures_of(both.run.with_name("run-gsm8k"))
    for place, metric in FIGURES.items():
        assert ours[place] == pytest.approx(both.theirs["results"][place[0]][metric], rel=1e-4, abs=1e-6), place


def test_the_score_of_ties_is_that_of_rewardbench(tmp_path: Path) -> None:
    rng, rows = random.Random(0), []
    for number in range(40):
        for kind, right in (("ref", 1), ("tied", rng.randint(1, 4))):
            rows.append({"id": f"{kind}:{number}", "num_correct": right,
                         "scores": [rng.choice([1.0, 2.0, rng.gauss(1.5, 1)]) for _ in range(right)]
                         + [rng.gauss(0, 1) for _ in range(3)]})  # fmt: skip
    rows = rows[:-1]  # a question without its tied form
    theirs = asked("ties", rows, tmp_path)["ties"]
    given = [
        Row(place=f"ties:{place}", fields={
            "id": row["id"], "prompt": f"{row['id']}?", "subset": "Ties", "num_correct": row["num_correct"],
            "chosen": ["right"] * row["num_correct"], "rejected": ["wrong"] * 3,
        })
        for place, row in enumerate(rows)
    ]  # fmt: skip
    items = REWARD_BENCH_2.forms[0].read(given)
    by_id = {row["id"]: row["scores"] for row in rows}
    seen = [
        Observed(scores=tuple(score for id_ in dict.fromkeys(str(option.prompt.messages[0].content)[:-1]  # type: ignore
                                                             for option in item.options) for score in by_id[id_]))
        for item in items
    ]  # fmt: skip
    result = suite_result(Asked(suite=REWARD_BENCH_2, items=tuple(items)), {"m": seen}, judge="", date="", seed=0)
    assert result.main.values["m"].mean == pytest.approx(theirs, abs=1e-12)
