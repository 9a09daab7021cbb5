"""The list of settings, and what is said to somebody who types a setting as a flag or a command wrongly."""

from __future__ import annotations

import pytest
from running import assent, worked

from assent.recipes.command_table import COMMANDS, SECTIONS
from assent.recipes.run.job_settings import job_settings
from assent.recipes.settings_command import fields_of

WITH_SETTINGS = [name for name, command in COMMANDS.items() if command.settings]


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_every_setting_of_a_command_is_listed(name: str) -> None:
    assert worked("settings", *name.split()).out.startswith("setting ")


def test_a_row_says_the_default_and_what_is_taken() -> None:
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in worked("settings", "ppo").out.splitlines() if line}
    assert rows["learning_rate"] == ["1e-05", "float, > 0"]
    assert rows["kl_in"] == ["reward", "reward or loss"] and rows["whiten_advantages"] == ["true", "true or false"]
    assert {path for path, _ in fields_of(job_settings("ppo"))} <= set(rows)


def test_commands_that_take_settings_name_them() -> None:
    assert {name for name, command in COMMANDS.items() if {"set", "studio_set"} & set(command.flags)} == set(
        WITH_SETTINGS
    )


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--learning_rate", "1e-4"], "Write --set learning_rate=1e-4."),
        (["--learning-rate=1e-4"], "Write --set learning_rate=1e-4."),
        (["--rank", "8"], "Write --set lora.rank=8."),
        (["--learnin_rate", "1"], "Write --set learning_rate=1."),
        (["--nonsense", "1"], "--nonsense is no argument of this command. Try: assent sft --help"),
        (["extra"], "extra is no argument of this command"),
    ],
)
def test_a_setting_typed_as_a_flag_is_answered_with_its_spelling(typed: list[str], told: str) -> None:
    ran = assent("sft", "--model", "m", "--out", "o", *typed)
    assert ran.code == 2 and told in ran.err and "Traceback" not in ran.err


def test_a_misspelt_command_is_answered_with_the_one_that_was_meant() -> None:
    assert (ran := assent("ppoo")).code == 2 and 'Did you mean "ppo"?' in ran.err
    assert (ran := assent("qqqqqq")).code == 2 and "assent --help" in ran.err
    assert (ran := assent("settings", "pppo")).code == 2 and 'Did you mean "ppo"?' in ran.err
    assert "there are no settings" in assent("settings", "report").err


def test_help_lists_every_command_once() -> None:
    told = assent("--help").out
    names = {name.split()[0] for name in COMMANDS}
    listed = [line.split()[0] for line in told.splitlines() if line.startswith("  ") and line[2] != " "]
    assert sorted(listed) == sorted(names) and all(f"{section}:" in told for section in SECTIONS)
    assert max(map(len, told.splitlines())) <= 80
