"""Every command in the README and on the pages runs, in order, at a tiny scale; every `make` target exists."""

from __future__ import annotations

import math
import re
import shlex
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import suite_files
from chat_server import Answer, Messages, chat_server
from running import TINY_SHAPE, worked, write_rows
from serving_processes import PASSWORD, served
from suite_files import small_policy

from assent.algorithms.methods import METHODS
from assent.cli import build_parser
from assent.recipes.annotation.studio_client import PASSWORD_VARIABLE, StudioClient
from assent.recipes.command_table import COMMANDS, GROUPS

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
SMALL = ("max_tokens=4",)
ON_POLICY = ("iterations=1", "batch_size=4", *SMALL, "normalise_prompts=4", "limit=6")
SCALED_DOWN = {
    "world": ("demonstrations=12", "rankings=12", "held_out=6"),
    "pretrain": ("steps=2", "batch_size=2", *TINY_SHAPE[1::2]),
    **{name: ON_POLICY for name, method in METHODS.items() if method.reads == "prompts"},
    "sample": (*SMALL, "limit=3"),
    "chat": ("max_tokens=4",), "red-team": ("tries=2", "limit=4", *SMALL),
    "eval": ("limit=18", *SMALL),
    "tictactoe": ("practice=64", "iterations=2", "games=9"),
    "sft": ("epochs=1",), "reward": ("epochs=1",), "dpo": ("epochs=1",), "ilql": ("epochs=1",),
    "collect": ("prompts=6", "questions=4", "acquisition.max_tokens=4", "acquisition.temperatures=[2.0]"),
    "round": (
        "prompts=18", "questions=4", "acquisition.max_tokens=4", "acquisition.temperatures=[2.0]", "reward.epochs=1",
        "policy.iterations=1", "policy.batch_size=4", "policy.max_tokens=4", "policy.normalise_prompts=4",
        "evaluation.limit=18", "evaluation.max_tokens=4",
    ),
}  # fmt: skip
SERVERS = ("studio", "serve")  # they run beside the commands that follow, on a port of their own


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True))[:1] == ["assent"]]


def named_files(page: str) -> dict[str, str]:
    """Blocks whose first line is a comment with a file's name, at the scale of a test, and files named before them."""
    named = r"`([\w-]+\.(?:csv|jsonl))`:\n\n```(?:csv|json)\n(.*?)^```"
    found = dict(re.findall(named, (ROOT / page).read_text(), re.DOTALL | re.MULTILINE))
    for block in blocks(page, "(?:python|toml)"):
        if match := re.match(r"# ([\w.-]+\.(?:py|toml))\n", block):
            found[match[1]] = re.sub(r"\b(iterations|max_tokens) = \d+", r"\1 = 2", block)
    return found


LONG_PAGES = ("docs/commands.md", "docs/rounds.md")


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page in LONG_PAGES)) for page in PAGES if commands(page)],
)
def test_every_command_of_a_page_runs(page: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda prompt="": (_ for _ in ()).throw(EOFError))
    if page == "docs/evaluation.md":
        published_suites()
    else:
        Path("my-model").symlink_to(home / "base" / "model")
    for name in ("preferences", "held-out", "prompts", "demonstrations"):
        shutil.copy(home / "world" / f"{name}.jsonl", f"{name}.jsonl")
    for name, text in named_files(page).items():
        Path(name).write_text(text)
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with ExitStack() as running:
        studio = ""
        for command in commands(page):
            small = [part for setting in SCALED_DOWN.get(command[0], ()) for part in ("--set", setting)]
            if command[0] in SERVERS:
                studio = running.enter_context(served([*command, "--port", "0"])) or studio
                continue
            if any(word.endswith("/v1") for word in command):
                chat = running.enter_context(chat_server(chatting, models=("my-model",))).url
                command = [re.sub(r"http\S+/v1$", chat, word) for word in command]
            worked(
                *(
                    studio if word.startswith("http://127.0.0.1") and not word.endswith("/v1") else word
                    for word in command
                ),
                *small,
            )
            if command[0] == "collect" and page == "README.md":
                _answer_what_was_collected(studio)


def published_suites() -> None:
    """Models that hold the suites' prompts, and small files in the suites' forms."""
    for seed, (name, classes) in enumerate({"model": 0, "start": 0, "reward": 1, "classifier": 2}.items()):
        small_policy(Path(f"my-{name}"), seed=seed, classes=classes)
    for name, rows in suite_files.FILES.items():
        write_rows(Path(f"{name}.jsonl"), rows)


def chatting(messages: Messages) -> Answer:
    """What a model behind an address says that follows its instructions: the shorter answer is better."""
    last = messages[-1]["content"]
    if "Answer with one letter" in last:
        first, second = last.split("\n(A) ")[1].split("\n\n(B) ")
        p = 0.8 if len(first) < len(second.rsplit("\n\n", 1)[0]) else 0.2
        return "A", {"A": math.log(p), "B": math.log(1 - p)}
    if "one number from 1" in last:
        return "7", {"7": 0.0}
    if "nothing to criticise" in last:
        return "It could be kinder."
    if "GRADE:" in last:
        return "GRADE: C"
    return "Here is the revised answer: gladly." if "new answer alone" in last else "no"


def _answer_what_was_collected(studio: str) -> None:
    """What people do between two commands of the README."""
    with StudioClient(studio) as client:
        client.sign_in("admin")
        project = client.project("preferences")
        for number in range(4):
            (shown, *_), _left = client.next_items(project)
            client.answer(
                shown, "pairwise", {"strength": 1 + number % 3}, key=f"between-{number:08d}", time_taken_ms=900
            )


def test_the_page_of_commands_shows_every_command() -> None:
    lines = commands("docs/commands.md")
    shown = {" ".join(line[:2]) if line[0] in GROUPS else line[0] for line in lines} | {"demo"}
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_in_a_commands_help_is_one_that_its_parser_takes(name: str) -> None:
    words = shlex.split(COMMANDS[name].example)
    assert " ".join(words).startswith(f"assent {name} ")
    build_parser().parse_args(words[1:])


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    pages = [ROOT / page for page in (*PAGES, "CONTRIBUTING.md")]
    named = {
        target for page in pages for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"demo", "test", "check"} <= named <= targets


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert not [link for link in links if "://" not in link and not (folder / link).exists()]
