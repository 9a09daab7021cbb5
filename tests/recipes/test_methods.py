"""The table of methods is all that the other files know of a method: its entries hold, and no other file names one."""

from __future__ import annotations

import ast
import inspect
import shlex
from pathlib import Path

import pytest

import assent
from assent.algorithms.methods import FUNCTIONS, METHODS, POLICY_METHOD, REWARD_METHOD, load_named
from assent.cli import build_parser
from assent.config import Settings, parse
from assent.errors import ConfigError
from assent.evals.curves import METRICS
from assent.recipes.command_table import COMMANDS
from assent.recipes.run.call_settings import call_settings
from assent.recipes.run.job_settings import RunSettings, job_settings
from benchmarks.methods import PLANS

SOURCE = Path(assent.__file__).parent


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_leads_to_settings_a_command_and_a_function(name: str) -> None:
    method = METHODS[name]
    assert issubclass(load_named(method.settings), Settings)
    assert issubclass(job_settings(name), RunSettings) and issubclass(job_settings(name), load_named(method.settings))
    assert job_settings(name)() == job_settings(name).model_validate(load_named(method.settings)().model_dump())
    assert method.needs_reward == ("rewards" in COMMANDS[name].flags)
    build_parser().parse_args(shlex.split(method.example)[1:])
    assert not method.then or method.then in METHODS
    assert {*method.curves, *method.folded} <= METRICS.keys()
    if method.function:
        function = getattr(assent, method.function)
        assert function.__name__ == method.function and function.__doc__.lower().startswith(method.help[:20].lower())
        assert set(load_named(method.settings).model_fields) <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("learning_rat=0.1", "learning_rate"), ("learning_rate=-1", "greater than 0"), ("learning_rate=nan", "finite"),
        ("batch_size=0", "at least 1|greater than or equal to 1"), ("seed=x", "seed"),
    ],
)  # fmt: skip
def test_every_method_refuses_settings_that_make_no_sense(name: str, given: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(job_settings(name), overrides=[given])


def test_a_python_call_has_no_setting_that_does_nothing_there() -> None:
    for name in FUNCTIONS.values():
        assert "checkpoint_every" not in call_settings(name).model_fields
        assert "checkpoint_every" in job_settings(name).model_fields


def test_what_a_round_trains_with_is_in_the_table() -> None:
    assert METHODS[REWARD_METHOD].makes == "reward model" and METHODS[POLICY_METHOD].makes == "policy"


def test_every_method_that_trains_a_policy_is_compared_on_the_same_work() -> None:
    policies = {
        name for name, method in METHODS.items() if method.makes == "policy" and method.reads != "demonstrations"
    }
    assert {plan.method for plan in PLANS.values()} == policies
    for plan in PLANS.values():
        load_named(METHODS[plan.method].settings)(**plan.settings)


def test_no_other_file_names_a_method() -> None:
    demos = (path for folder in ("demo", "game") for path in (SOURCE / "recipes" / folder).glob("*.py"))
    free = {SOURCE / "algorithms" / "methods.py", *demos}
    names = METHODS.keys() - {"reward"}  # which is also a metric, a role and a column
    naming = [
        f"{path.relative_to(SOURCE)}:{node.lineno}: {node.value!r}"
        for path in sorted({*SOURCE.rglob("*.py")} - free)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert not naming, "\n".join(naming)
