"""The demo of people who differ at a small size: its figures, and the files that it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assent.cli import main
from assent.recipes.demo.people import NEWCOMERS
from assent.recipes.run.adapters import adapter_base
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_reward_model
from assent.world.annotators import GROUPS

SMALL = ("demonstrations=64", "prompts=40", "evaluation_prompts=18", "questions=4", "members=1", "temperatures=[1,1.3]")


@pytest.mark.slow
def test_it_leaves_a_policy_for_each_group_and_newcomer_and_says_what_each_gains(tmp_path: Path) -> None:
    out = tmp_path / "run"
    sets = [word for one in SMALL for word in ("--set", one)]
    assert main(["demo", "--personal", "--out", str(out), *sets]) == 0
    found = json.loads((out / "report.json").read_text())
    assert [one["judge"] for one in found["measurements"]] == [f"{group} group" for group in GROUPS]
    for one in found["measurements"]:
        assert set(one["values"]) == {"everybody", "newcomer", "own"} and one["counted"] == "prompts"
        difference = one["values"]["own"]["mean"] - one["values"]["everybody"]["mean"]
        assert one["gained"]["mean"] == pytest.approx(difference, abs=1e-9)
    for name in ("everybody", *GROUPS, *NEWCOMERS.values()):
        assert Path(adapter_base(str(out / name)) or "") == (out / "sft").resolve()
    people = load_reward_model(str(out / "reward"), machine=MachineOptions(device="cpu")).role.people
    assert people is not None
    assert people.names == (*(f"{group}-1" for group in GROUPS), *NEWCOMERS.values())
