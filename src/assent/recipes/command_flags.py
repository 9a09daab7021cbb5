"""The flags of the command line, by the names under which commands list them."""

from __future__ import annotations

from typing import Any


def _flag(name: str, told: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """A flag, its help, and whatever else `argparse` wants to know of it."""
    return name, {"help": told, **options}


FLAGS = {
    "model": _flag("--model", "a model, run, GGUF file or hub name", required=True, metavar="MODEL"),
    "data": _flag(
        "--data",
        "JSONL, JSON, CSV, TSV, Parquet, .txt, each also .gz; a folder or a hub data set",
        nargs="+",
        default=[],
        metavar="FILE",
    ),
    "prompts": _flag(
        "--prompts", "prompts to answer, e.g. of a red team", nargs="+", dest="data", metavar="FILE", required=True
    ),
    "attacker": _flag("--attacker", "the model that writes prompts (default: the model itself)", metavar="MODEL"),
    "helpful": _flag("--helpful", "demonstrations of help to mix in", nargs="+", default=[], metavar="FILE"),
    "constitution": _flag("--constitution", "a constitution (default: the one of the package)", metavar="FILE"),
    "eval_data": _flag("--eval-data", "held-out data", nargs="+", default=[], metavar="FILE"),
    "out": _flag("--out", "where the result goes", required=True, metavar="FOLDER"),
    "set": _flag("--set", "one setting, e.g. learning_rate=1e-4", action="append", default=[], metavar="KEY=VALUE"),
    "settings": _flag("--settings", "settings from a TOML file; --set wins", metavar="FILE.toml"),
    "format": _flag("--format", "the data's format, where it is not recognised", metavar="NAME"),
    "on_bad_row": _flag(
        "--on-bad-row", "skip sets bad rows aside and counts them", choices=("stop", "skip"), default="stop"
    ),
    "resume": _flag("--resume", "continue an interrupted run", action="store_true"),
    "overwrite": _flag("--overwrite", "replace a run that is there", action="store_true"),
    "reward": _flag("--reward", "folder of a reward model", metavar="MODEL"),
    "rewards": _flag(
        "--reward",
        "folder of a reward model or classifier, a function FILE.py:NAME, or judge:MODEL; may be given several times",
        action="append",
        metavar="MODEL",
    ),
    "watch": _flag(
        "--watch",
        "a reward that training does not see, to judge held-out answers by; as --reward, trained on other labels",
        action="append",
        metavar="MODEL",
    ),
    "cost": _flag(
        "--cost", "folder of a cost model (a reward model of harm), or a function FILE.py:NAME", metavar="MODEL"
    ),
    "ptx_data": _flag(
        "--ptx-data", "demonstrations to imitate in every update (with ptx_coef)", nargs="+", metavar="FILE"
    ),
    "best_of": _flag(
        "--best-of", "of so many completions of a prompt, take the best by --reward", type=int, metavar="N"
    ),
    "environment": _flag(
        "--environment",
        "what answers the policy turn by turn: tictactoe, or a class FILE.py:NAME; it may bring prompts and rewards",
        metavar="ENVIRONMENT",
    ),
    "against": _flag("--against", "a model to compare with", metavar="MODEL"),
    "suite": _flag(
        "--suite",
        "a published set of questions, e.g. hhh or bbq; may be given several times",
        action="append",
        dest="suites",
        metavar="NAME",
    ),
    "judge": _flag("--judge", "a model, or the address of one (http://.../v1), that reads answers", metavar="MODEL"),
    "shots": _flag("--shots", "worked examples that a suite shows the model first", metavar="FILE"),
    "store": _flag(
        "--store", "file of the store, or postgresql://... (default: studio.db)", default="studio.db", metavar="STORE"
    ),
    "project": _flag("--project", "the project in the store (needed where there are several)", metavar="NAME"),
    "written": _flag("--out", "the file to write: .jsonl, .json, .csv or .parquet", required=True, metavar="FILE"),
    "written_format": _flag(
        "--format",
        "what a row holds: pairs (the default), trl, trl-conversational, rankings, ratings, "
        "demonstrations, corrections, red-team, label-studio, events",
        metavar="NAME",
    ),
    "replace": _flag("--overwrite", "replace a file that is there", action="store_true"),
    "out_file": _flag("--out", "also write the figures here, as JSON", metavar="FILE"),
    "page": _flag("--out", "also write a page to look at in a browser", metavar="PAGE.html"),
    "first": _flag("--limit", "how many examples of each file to show (default: 5)", type=int, default=5, metavar="N"),
    "host": _flag("--host", "address to listen on (default: 127.0.0.1)", metavar="HOST"),
    "port": _flag("--port", "port to listen on", type=int, metavar="PORT"),
    "runs_folder": _flag("--runs", "folder of runs to show", dest="runs", metavar="FOLDER"),
    "studio_settings": _flag(
        "--settings", "settings from a TOML file; --set wins", dest="settings_file", metavar="FILE.toml"
    ),
    "studio_set": _flag("--set", "one setting", dest="overrides", action="append", default=[], metavar="KEY=VALUE"),
    "served": _flag("model", "folder of a model or run, or a hub name", metavar="MODEL"),
    "adapters": _flag(
        "--adapter",
        "an adapter on the model, served under a name of its own; may be given several times",
        action="append",
        dest="adapters",
        metavar="NAME=FOLDER",
    ),
    "name": _flag("--name", "what the model is called (default: its folder)", metavar="NAME"),
    "api_key_env": _flag("--api-key-env", "environment variable that holds the key to ask for", metavar="VARIABLE"),
    "studio": _flag(
        "--studio", "a running studio; its password in ASSENT_STUDIO_PASSWORD", required=True, metavar="URL"
    ),
    "runs": _flag("runs", "run folders", nargs="+", metavar="RUN"),
    "of_command": _flag("of_command", "a command, such as ppo", nargs="+", metavar="COMMAND"),
    "pipeline": _flag("pipeline", "the stages, in order", metavar="SETTINGS.toml"),
    "system": _flag("--system", "a system message that every conversation begins with", metavar="TEXT"),
    "personal": _flag(
        "--personal", "people of different tastes instead, and a policy for each group", action="store_true"
    ),
    "seeds": _flag("--seeds", "how many seeds to run", type=int, default=1, metavar="N"),
}
