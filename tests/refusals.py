"""Cases of bad input: where they work, what they run, and how what comes of it is judged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from running import Ran, assent, write_rows


@dataclass(frozen=True, slots=True)
class ExperimentContext:
    """Where a case works: the home with good data and models, and an empty folder of its own."""

    home: Path
    own: Path

    @property
    def out(self) -> Path:
        return self.own / "out"

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.own / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def rows(self, *rows: dict) -> Path:
        return write_rows(self.own / "rows.jsonl", rows)

    def copy(self, run: str) -> Path:
        return Path(shutil.copytree(self.home / run / "model", self.own / "copied"))

    def edit_json(self, path: Path, **changes: object) -> None:
        document = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))

    def sft(self, data: object, *more: object, model: object = None) -> Ran:
        return assent("sft", "--model", model or self.home / "base", "--data", data, "--out", self.out, *more)

    def dpo(self, data: object, *more: object) -> Ran:
        return assent("dpo", "--model", self.home / "base", "--data", data, "--out", self.out, *more)

    def settings(self, *settings: str, command: str = "sft") -> Ran:
        data = self.home / "world" / ("demonstrations.jsonl" if command == "sft" else "preferences.jsonl")
        flags = [part for setting in settings for part in ("--set", setting)]
        return assent(command, "--model", self.home / "base", "--data", data, "--out", self.out, *flags)

    def toml(self, text: str) -> Ran:
        data = self.home / "world" / "demonstrations.jsonl"
        return self.sft(data, "--settings", self.file("settings.toml", text))

    def model(self, path: object) -> Ran:
        return self.sft(self.home / "world" / "demonstrations.jsonl", model=path)

    def ppo(self, reward: object, *more: object, model: object = None) -> Ran:
        flags = () if reward is None else ("--reward", reward)
        return assent(
            "ppo", "--model", model or self.home / "sft", "--data", self.home / "world" / "prompts.jsonl",
            "--out", self.out, *flags, "--set", "iterations=1", "--set", "batch_size=2", "--set", "max_tokens=4",
            *more,
        )  # fmt: skip

    def function(self, body: str) -> Ran:
        self.file("own_reward.py", f"def reward(prompts, completions):\n    {body}\n")
        return self.ppo(f"{self.own}/own_reward.py:reward")

    def pipeline(self, text: str) -> Ran:
        return assent("run", self.file("pipeline.toml", f'out = "{self.out}"\n{text}'))


Case = tuple[Callable[[ExperimentContext], Ran], tuple[str, ...]]


def check_refused(case: Case, home: Path, own: Path) -> None:
    """Exit code 2, one readable message with the wanted parts, no traceback, nothing written."""
    run, wanted = case
    ran = run(ExperimentContext(home, own))
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err
    message = ran.err[ran.err.index("assent: ") :]
    assert message.count("\n") <= 5, message
    for part in wanted:
        assert part in message, message
    assert not (own / "out").exists(), "the output folder was made"
    assert not list(own.glob("*.new")) and not list(own.glob("*bad-rows*.tmp"))
