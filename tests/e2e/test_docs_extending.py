"""What the page about extending adds works: in a copy of the package, with nothing changed but what the page shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import rows_of, write_rows

import assent
from assent.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
TRIED = """
import json, sys
import assent
from assent.cli import main
home, small = sys.argv[1], ["iterations=2", "batch_size=4", "max_tokens=4", "normalise_prompts=4", "checkpoint_every=1"]
sets = [word for one in small for word in ("--set", one)]
given = ["--model", home + "/sft", "--reward", home + "/reward", "--data", home + "/world/prompts.jsonl"]
assert main(["opo", *given, "--out", "run", *sets]) == 0
stage = {"kind": "opo", "model": home + "/sft", "reward": home + "/reward", "data": given[-1]}
lines = [f"{key} = {json.dumps(value)}" for key, value in stage.items()]
settings = ", ".join(small)
text = "\\n".join(['out = "line"', "[[stage]]", *lines, f"settings = {{ {settings} }}"])
open("line.toml", "w").write(text)
assert main(["run", "line.toml"]) == 0
rows = []
policy = assent.load(home + "/sft")
assent.opo(policy, ["Hello!"], reward=lambda completions: [len(one) for one in completions], iterations=1,
                 batch_size=4, max_tokens=4, on_step=rows.append)
assert "policy_loss" in rows[0] and "value_loss" not in rows[0]
pairs = ["--data", home + "/world/preferences.jsonl", "--eval-data", home + "/world/held-out.jsonl", "--set", "limit=8"]
assert main(["apo", "--model", home + "/sft", *pairs, "--set", "learning_rate=1e-3", "--out", "apo"]) == 0
pair, pair_rows = {"prompt": "Hello!", "chosen": "Hi.", "rejected": "Go away."}, []
assent.apo(assent.load(home + "/sft"), [pair] * 4, eval_data=[pair], epochs=4, learning_rate=1e-3,
             on_step=pair_rows.append)
assert pair_rows[0]["loss"] == 1 > pair_rows[-1]["eval_loss"]
assert main(["sft", "--model", home + "/base", "--data", "riddles.jsonl", "--out", "riddles"]) == 0
"""


def section(title: str) -> list[tuple[str, str]]:
    """First line and text of every block of Python in a section."""
    part = PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"^```python\n(.*?)^```", part, flags=re.DOTALL | re.MULTILINE)
    return [(block.splitlines()[0], block) for block in blocks]


def extended_package(folder: Path) -> None:
    """The package with the page's algorithms and data format: three files, two entries, and two lines."""
    source = Path(assent.__file__).parent
    (folder / "assent").mkdir()
    for child in source.iterdir():
        if child.name in ("algorithms", "data"):
            shutil.copytree(child, folder / "assent" / child.name)
        elif child.name != "__pycache__":
            (folder / "assent" / child.name).symlink_to(child)
    for first, text in (*section("Add an algorithm"), *section("Add a data format")):
        place, _, what = first.removeprefix("# src/").partition(", ")
        body = text.split("\n", 1)[1]
        path = folder / place
        if not what:
            path.write_text(body)
        elif what == "an entry of METHODS":
            head, rest = path.read_text().split("METHODS: dict[str, Method] = {\n")
            path.write_text(f"{head}METHODS: dict[str, Method] = {{\n{body}{rest}")
        else:
            path.write_text(re.sub(r"^FORMATS: .*\n", body, path.read_text(), flags=re.MULTILINE))


@pytest.mark.slow
def test_a_method_and_a_format_are_a_file_and_an_entry_each(home: Path, own: Path) -> None:
    extended_package(own)
    write_rows(own / "riddles.jsonl", [{"riddle": f"What is {n}?", "solution": f"It is {n}."} for n in range(4)])
    environment = {**os.environ, "PYTHONPATH": str(own)}
    ran = subprocess.run(
        [sys.executable, "-c", TRIED, str(home)], cwd=own, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "4 from riddles.jsonl (riddles)" in ran.stderr
    for run in (own / "run", own / "line" / "opo"):
        assert "trained by OPO" in (run / "model" / "README.md").read_text()
        assert "<h3>OPO</h3>" in (run / "report.html").read_text()
    assert "anchored preference optimisation" in (own / "apo" / "model" / "README.md").read_text()
    assert "The reward implicit in the policy" in (own / "apo" / "report.html").read_text()


def test_a_scorer_is_a_reward(home: Path, own: Path) -> None:
    (own / "my-model").symlink_to(home / "sft")
    (own / "prompts.jsonl").symlink_to(home / "world" / "prompts.jsonl")
    _, (_, text) = section("Add a reward")
    exec(compile(text, "docs/extending.md", "exec"), {})


def test_an_environment_plays_and_is_learned_in(home: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, code), (_, tried) = section("Add an environment")
    (own / first.removeprefix("# ")).write_text(code)
    monkeypatch.syspath_prepend(own)
    exec(compile(tried, "docs/extending.md", "exec"), {})
    (own / "my-model").symlink_to(home / "sft")
    page = PAGE.split("\n## Add an environment\n", 1)[1]
    (command,) = re.findall(r"^assent (.*)$", page, flags=re.MULTILINE)
    small = ["iterations=2", "batch_size=4", "normalise_prompts=4", "missing_eos_penalty=0", "checkpoint_every=1"]
    assert main([*command.split(), *(word for one in small for word in ("--set", one))]) == 0
    assert len(rows_of(own / "runs" / "guessing")) == 2
    assert '"role": "environment"' in (own / "runs" / "guessing" / "lineage.json").read_text()
