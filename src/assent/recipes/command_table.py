"""The table of commands: what each does, where it is done, and which flags it has. Starts without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from assent.algorithms.methods import METHODS, Method, Reads

Door = Literal["models", "files", "site"]
"""How a command is entered: with the libraries of models loaded, without them, or with its flags as keywords."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A subcommand: what it does, an example that works, the module and function that do it, and its flags.

    `settings` names the class that --set is read into, or a function that gives it for the command's name.
    """

    help: str
    example: str
    entry: str
    flags: tuple[str, ...]
    door: Door = "models"
    settings: str = ""


_READ = ("model", "data", "out", "set", "settings", "format", "on_bad_row", "overwrite")
_TRAIN = ("data", "eval_data", "out", "set", "settings", "format", "on_bad_row", "resume", "overwrite")


def _training(method: Method) -> Command:
    model = () if method.makes == "model" else ("model",)
    rewards = ("rewards", "watch", "ptx_data", "environment") if method.needs_reward else ()
    cost = ("cost",) if method.needs_cost else ()
    return Command(
        help=method.help, example=method.example, entry="assent.recipes.training.commands:run_method",
        settings="assent.recipes.run.job_settings:job_settings", flags=(*model, *_TRAIN, *rewards, *cost),
    )  # fmt: skip


COMMANDS = {
    **{name: _training(method) for name, method in METHODS.items()},
    "inspect": Command(
        help="show the tokens of a data file: who wrote each token, and what is learned",
        example="assent inspect --model runs/sft --data demonstrations.jsonl --out tokens.html",
        entry="assent.recipes.inspecting:run_inspect",
        settings="assent.recipes.inspecting:InspectJob",
        flags=("model", "data", "page", "first", "format", "on_bad_row", "set", "settings", "overwrite"),
    ),
    "sample": Command(
        help="generate completions for prompts",
        example="assent sample --model runs/sft --data prompts.jsonl --out samples.jsonl --set samples_per_prompt=4",
        entry="assent.recipes.inference:run_sample",
        settings="assent.recipes.run.job_settings:SampleJob",
        flags=(*_READ, "rewards", "best_of"),
    ),
    "eval": Command(
        help="evaluate a policy or a reward model on held-out data or published suites",
        example="assent eval --model runs/ppo --against runs/sft --reward runs/reward --data held-out.jsonl --out eval",
        entry="assent.recipes.evaluation:run_eval",
        settings="assent.recipes.run.job_settings:EvalJob",
        flags=(*_READ, "rewards", "best_of", "against", "suite", "judge", "shots", "constitution"),
    ),
    "chat": Command(
        help="chat with a model",
        example="assent chat --model runs/ppo",
        entry="assent.recipes.inference:run_chat",
        settings="assent.recipes.run.job_settings:SampleJob",
        flags=("model", "system", "set", "settings"),
    ),
    "studio": Command(
        help="open the site where annotators work and where you watch runs",
        example="assent studio --store studio.db --runs runs",
        entry="assent.recipes.annotation.studio_command:run_studio",
        settings="assent.studio.settings:StudioSettings",
        flags=("store", "host", "port", "runs_folder", "studio_settings", "studio_set"),
        door="site",
    ),
    "serve": Command(
        help="serve a model, and adapters on it, at an OpenAI-compatible address",
        example="assent serve runs/ppo --port 8000",
        entry="assent.recipes.serving:run_serve",
        settings="assent.recipes.serving:ServeJob",
        flags=("served", "adapters", "host", "port", "name", "api_key_env", "set", "settings"),
    ),
    "feedback import": Command(
        help="read items and answers from files and other tools into a store",
        example="assent feedback import --store feedback.db --project helpful --data preferences.jsonl",
        entry="assent.recipes.annotation.feedback_commands:run_feedback_import",
        settings="assent.recipes.annotation.feedback_reading:ImportJob",
        flags=("store", "project", "data", "format", "on_bad_row", "set", "settings"),
        door="files",
    ),
    "feedback export": Command(
        help="write a project's preference labels to a file, for training or other tools",
        example="assent feedback export --store feedback.db --project helpful --format trl --out trl.jsonl",
        entry="assent.recipes.annotation.feedback_commands:run_feedback_export",
        settings="assent.recipes.annotation.feedback_commands:ExportJob",
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
        settings="assent.recipes.annotation.feedback_commands:ExportJob",
        flags=("store", "project", "written", "set", "settings", "replace"),
        door="files",
    ),
    "collect": Command(
        help="sample completions and ask annotators about the most informative ones",
        example="assent collect --model runs/sft --data prompts.jsonl --studio http://127.0.0.1:8642",
        entry="assent.recipes.annotation.collect:run_collect",
        settings="assent.recipes.annotation.collect:CollectJob",
        flags=("model", "data", "studio", "reward", "set", "settings", "format", "on_bad_row"),
    ),
    "round": Command(
        help="run one whole round: sample, ask, wait, learn, train, evaluate",
        example="assent round --model runs/sft --data prompts.jsonl --studio http://127.0.0.1:8642 --out rounds",
        entry="assent.recipes.annotation.rounds:run_round",
        settings="assent.recipes.annotation.rounds:RoundJob",
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
        settings="assent.recipes.constitution.generate:GenerateJob",
        flags=("model", "prompts", "helpful", "constitution", *_READ[2:], "resume"),
    ),
    "constitution judge": Command(
        help="let a model compare pairs by principles, in both orders: soft labels",
        example="assent constitution judge --model runs/sft --data pairs.jsonl --out labels",
        entry="assent.recipes.constitution.judge:run_constitution_judge",
        settings="assent.recipes.constitution.judge:JudgeJob",
        flags=("model", "data", "constitution", *_READ[2:], "resume"),
    ),
    "red-team": Command(
        help="let a model write prompts that lead another to harm, and keep those that succeed",
        example="assent red-team --model runs/sft --prompts red-team.jsonl --reward runs/reward --out red-team",
        entry="assent.recipes.constitution.red_team:run_red_team",
        settings="assent.recipes.constitution.red_team:RedTeamJob",
        flags=("model", "prompts", "attacker", "rewards", *_READ[2:], "resume"),
    ),
    "settings": Command(
        help="list the settings of a command with their defaults",
        example="assent settings ppo",
        entry="assent.recipes.settings_command:run_settings",
        flags=("of_command",),
        door="files",
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
        settings="assent.recipes.demo.command:DemoSettings",
        flags=("out", "set", "settings", "overwrite", "seeds", "personal"),
    ),
    "tictactoe": Command(
        help="let a small model learn tic-tac-toe by PPO, and write a page to play against it",
        example="assent tictactoe --out runs/tictactoe",
        entry="assent.recipes.game.command:run_tictactoe",
        settings="assent.recipes.game.command:GameSettings",
        flags=("out", "set", "settings", "overwrite"),
    ),
    "world": Command(
        help="write prompts, demonstrations and rankings of the embedded world as files to try things on",
        example="assent world --out world-data",
        entry="assent.recipes.demo.world_files:run_world",
        settings="assent.recipes.demo.world_files:WorldFiles",
        flags=("out", "set", "overwrite"),
    ),
}


GROUPS = {
    "feedback": "move preference labels into and out of a store",
    "constitution": "criticise, revise and compare answers by written principles",
}


SECTIONS = {
    "start and prepare": ("inspect",),
    "train on preferences, rankings or labels": (),
    "train against a reward": (),
    "use and measure": ("sample", "chat", "serve", "eval", "report"),
    "people": ("studio", "collect", "round", "feedback"),
    "models as judges": ("constitution", "red-team"),
    "try, and put together": ("demo", "tictactoe", "world", "run", "settings"),
}
"""How the list of commands is cut; a method goes where what it reads belongs."""

_METHODS_IN: dict[Reads, int] = {"texts": 0, "demonstrations": 0, "preferences": 0, "prompts": 2}


def sections() -> dict[str, list[str]]:
    """The first words of all commands by the sections of the list, methods first."""
    found: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for name, method in METHODS.items():
        found[list(SECTIONS)[_METHODS_IN.get(method.reads, 1)]].append(name)
    return {section: [*found[section], *names] for section, names in SECTIONS.items()}
