"""`--best-of`: what is written, what is measured, and mistakes in asking for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_jobs import WORDS

from assent.errors import ConfigError
from assent.recipes.evaluation import run_eval
from assent.recipes.inference import run_sample
from assent.recipes.run.inputs import Files
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request

QUIET = Display(quiet=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    asked = [f"{one} {other}" for one in WORDS for other in WORDS[:5]]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked))
    (tmp_path / "reward.py").write_text("def long(completions):\n    return [len(text) for text in completions]\n")
    return tmp_path


def request(name: str, model: Path, home: Path, *settings: str, **own: object) -> Request:
    files = Files(model=str(model), out=home / name, data=(str(home / "prompts.jsonl"),))
    rewards = (f"{home / 'reward.py'}:long",) if own.pop("reward", True) else ()
    overrides = ("max_tokens=5", "temperature=1.0", "machine.device=cpu", *settings)
    return Request(name=name, files=files, rewards=rewards, overrides=overrides, own=own)


def test_every_candidate_is_kept_with_its_reward(folders: dict[str, Path], home: Path) -> None:
    out = run_sample(request("sample", folders["llama"], home, "samples_per_prompt=2", "limit=3", best_of=3), QUIET)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 3
    for row in rows:
        assert len(row["completions"]) == len(row["candidates"]) == len(row["rewards"]) == 2
        for text, reward, candidates in zip(row["completions"], row["rewards"], row["candidates"], strict=True):
            assert len(candidates) == 3
            assert all(one["reward"] == len(one["text"]) and one["stop_reason"] for one in candidates)
            assert reward == max(one["reward"] for one in candidates) == len(text)


def test_without_best_of_a_row_is_as_it_was(folders: dict[str, Path], home: Path) -> None:
    out = run_sample(request("sample", folders["llama"], home, reward=False), QUIET)
    assert {"prompt", "completions", "stop_reasons"} == json.loads(out.read_text().splitlines()[0]).keys()


def test_an_evaluation_has_the_best_of_n_as_another_model(folders: dict[str, Path], home: Path) -> None:
    run_eval(request("eval", folders["llama"], home, best_of=6), QUIET)
    report = json.loads((home / "eval" / "report.json").read_text())
    (measured,) = [one for one in report["measurements"] if one["name"] == "reward"]
    (plain, best) = measured["values"].values()
    assert [*measured["values"]] == [*report["arms"]] and [*measured["values"]][1].endswith("best of 6")
    assert best["mean"] > plain["mean"] and measured["gained"]["mean"] == pytest.approx(best["mean"] - plain["mean"])
    assert len(report["win_rates"]) == 1 and report["win_rates"][0]["rate"]["mean"] > 0.5


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"best_of": 1}, "no choice"),
        ({"best_of": 4, "reward": False}, "which completion is best"),
        ({}, "one completion"),
    ],
)
def test_what_chooses_nothing_is_refused(
    own: dict[str, object], told: str, folders: dict[str, Path], home: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        run_sample(request("sample", folders["llama"], home, **own), QUIET)
