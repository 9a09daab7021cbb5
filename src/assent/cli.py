"""The command line. Starts without torch: what a command needs is loaded when it runs."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from assent import __version__
from assent.algorithms.methods import METHODS, Method
from assent.errors import AssentError, ConfigError
from assent.recipes.command_flags import FLAGS

_DESCRIPTION = "Align language models with human preferences: labels in, an aligned model and the evidence out."

Door = Literal["models", "files", "site"]
"""How a command is entered: with the libraries of models loaded, without them, or with its flags as keywords."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A subcommand: what it does, an example that works, the module and function that do it, and its flags."""

    help: str
    example: str
    entry: str
    flags: tuple[str, ...]
    door: Door = "models"


_READ = ("model", "data", "out", "set", "settings", "format", "on_bad_row", "overwrite")
_TRAIN = ("data", "eval_data", "out", "set", "settings", "format", "on_bad_row", "resume", "overwrite")


def _training(method: Method) -> Command:
    model = () if method.makes == "model" else ("model",)
    rewards = ("rewards", "environment") if method.needs_reward else ()
    return Command(
        help=method.help, example=method.example, entry="assent.recipes.training.commands:run_method",
        flags=(*model, *_TRAIN, *rewards),
    )  # fmt: skip


COMMANDS = {
    **{name: _training(method) for name, method in METHODS.items()},
    "inspect": Command(
        help="show the tokens of a data file: who wrote each token, and what is learned",
        example="assent inspect --model runs/sft --data demonstrations.jsonl --out tokens.html",
        entry="assent.recipes.inspecting:run_inspect",
        flags=("model", "data", "page", "first", "format", "on_bad_row", "set", "settings", "overwrite"),
    ),
    "sample": Command(
        help="generate completions for prompts",
        example="assent sample --model runs/sft --data prompts.jsonl --out samples.jsonl --set samples_per_prompt=4",
        entry="assent.recipes.inference:run_sample",
        flags=_READ,
    ),
    "eval": Command(
        help="evaluate a policy or a reward model on held-out data",
        example="assent eval --model runs/ppo --against runs/sft --reward runs/reward --data held-out.jsonl --out eval",
        entry="assent.recipes.evaluation:run_eval",
        flags=(*_READ, "rewards", "against"),
    ),
    "chat": Command(
        help="chat with a model",
        example="assent chat --model runs/ppo",
        entry="assent.recipes.inference:run_chat",
        flags=("model", "system", "set", "settings"),
    ),
    "studio": Command(
        help="open the site where annotators work and where you watch runs",
        example="assent studio --store studio.db --runs runs",
        entry="assent.recipes.annotation.studio_command:run_studio",
        flags=("store", "host", "port", "runs_folder", "studio_settings", "studio_set"),
        door="site",
    ),
    "serve": Command(
        help="serve a model at an OpenAI-compatible address",
        example="assent serve runs/ppo --port 8000",
        entry="assent.recipes.serving:run_serve",
        flags=("served", "host", "port", "name", "api_key_env", "set", "settings"),
    ),
    "feedback import": Command(
        help="read items and answers from files and other tools into a store",
        example="assent feedback import --store feedback.db --project helpful --data preferences.jsonl",
        entry="assent.recipes.annotation.feedback_commands:run_feedback_import",
        flags=("store", "project", "data", "format", "on_bad_row", "set", "settings"),
        door="files",
    ),
    "feedback export": Command(
        help="write a project's preference labels to a file, for training or other tools",
        example="assent feedback export --store feedback.db --project helpful --format trl --out trl.jsonl",
        entry="assent.recipes.annotation.feedback_commands:run_feedback_export",
        flags=("store", "project", "written", "written_format", "set", "settings", "replace"),
        door="files",
    ),
    "feedback stats": Command(
        help="show how much was answered, how fast, and how well annotators agree",
        example="assent feedback stats --store feedback.db --project helpful",
        entry="assent.recipes.annotation.feedback_stats:run_feedback_stats",
        flags=("store", "project", "out_file", "overwrite"),
        door="files",
    ),
    "feedback pairs": Command(
        help="write a project's comparisons to train reward models and policies",
        example="assent feedback pairs --store feedback.db --project helpful --out pairs.jsonl",
        entry="assent.recipes.annotation.feedback_commands:run_feedback_pairs",
        flags=("store", "project", "written", "set", "settings", "replace"),
        door="files",
    ),
    "collect": Command(
        help="sample completions and ask annotators about the most informative ones",
        example="assent collect --model runs/sft --data prompts.jsonl --studio http://127.0.0.1:8642",
        entry="assent.recipes.annotation.collect:run_collect",
        flags=("model", "data", "studio", "reward", "set", "settings", "format", "on_bad_row"),
    ),
    "round": Command(
        help="run one whole round: sample, ask, wait, learn, train, evaluate",
        example="assent round --model runs/sft --data prompts.jsonl --studio http://127.0.0.1:8642 --out rounds",
        entry="assent.recipes.annotation.rounds:run_round",
        flags=("model", "data", "eval_data", "studio", "out", "set", "settings", "format", "on_bad_row"),
    ),
    "constitution show": Command(
        help="list the principles of a constitution",
        example="assent constitution show --constitution my-constitution.toml",
        entry="assent.recipes.constitution.show:run_constitution_show",
        flags=("constitution",),
        door="files",
    ),
    "constitution generate": Command(
        help="let a model answer, criticise and revise by principles: demonstrations and pairs",
        example="assent constitution generate --model runs/sft --prompts red-team.jsonl --helpful sft.jsonl --out cai",
        entry="assent.recipes.constitution.generate:run_constitution_generate",
        flags=("model", "prompts", "helpful", "constitution", *_READ[2:], "resume"),
    ),
    "constitution judge": Command(
        help="let a model compare pairs by principles, in both orders: soft labels",
        example="assent constitution judge --model runs/sft --data pairs.jsonl --out labels",
        entry="assent.recipes.constitution.judge:run_constitution_judge",
        flags=("model", "data", "constitution", *_READ[2:], "resume"),
    ),
    "report": Command(
        help="put several runs on one page",
        example="assent report runs/sft runs/reward runs/ppo --out runs/together",
        entry="assent.recipes.reporting:run_report",
        flags=("runs", "out"),
    ),
    "run": Command(
        help="run all stages named in a settings file",
        example="assent run pipeline.toml",
        entry="assent.recipes.training.pipeline:run_pipeline",
        flags=("pipeline", "resume", "overwrite"),
    ),
    "demo": Command(
        help="the whole loop on the embedded world",
        example="assent demo --out runs/demo",
        entry="assent.recipes.demo.command:run_demo_command",
        flags=("out", "set", "settings", "overwrite", "seeds"),
    ),
    "tictactoe": Command(
        help="let a small model learn tic-tac-toe by PPO, and write a page to play against it",
        example="assent tictactoe --out runs/tictactoe",
        entry="assent.recipes.game.command:run_tictactoe",
        flags=("out", "set", "settings", "overwrite"),
    ),
    "world": Command(
        help="write prompts, demonstrations and rankings of the embedded world as files to try things on",
        example="assent world --out world-data",
        entry="assent.recipes.demo.world_files:run_world",
        flags=("out", "set", "overwrite"),
    ),
}


GROUPS = {
    "feedback": "move preference labels into and out of a store",
    "constitution": "criticise, revise and compare answers by written principles",
}


class _Parser(argparse.ArgumentParser):
    """Errors in the house's form: what, and what now."""

    def error(self, message: str) -> Any:
        """Print one line and exit with code 2."""
        self.exit(2, f"assent: {message}. Try: {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(prog="assent", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"assent {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    groups: dict[str, Any] = {}
    for name, command in COMMANDS.items():
        group, _, action = name.rpartition(" ")
        if group and group not in groups:
            whole = commands.add_parser(group, help=GROUPS[group], description=f"{GROUPS[group].capitalize()}.")
            groups[group] = whole.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)
        one = (groups[group] if group else commands).add_parser(
            action,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for flag in command.flags:
            name, options = FLAGS[flag]
            one.add_argument(name, **options)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors people can mend are one line on stderr, never a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parsed = build_parser().parse_args(given)
    parsed.typed = shlex.join(["assent", *given])
    action = getattr(parsed, "action", None)
    try:
        _enter(COMMANDS[f"{parsed.command} {action}" if action else parsed.command], parsed)
    except AssentError as error:
        print(f"assent: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("assent: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    return 0


def _enter(command: Command, parsed: argparse.Namespace) -> None:
    module, function = command.entry.split(":")
    if command.door == "models":
        _imported("assent.recipes.run.terminal").run(module, function, parsed)
    elif command.door == "files":
        request = _imported("assent.recipes.run.request").Request.of(vars(parsed))
        getattr(_imported(module), function)(request, _imported("assent.recipes.run.progress").Display())
    else:
        keywords = {name: value for name, value in vars(parsed).items() if name not in ("command", "action", "typed")}
        getattr(_imported(module), function)(**keywords)


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("assent"):
            raise
        now = 'Install the extra: pip install "assent[studio]".'
        raise ConfigError(f"the library {error.name} is not installed", now=now) from error


if __name__ == "__main__":
    sys.exit(main())
