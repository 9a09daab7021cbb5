"""Annotators' own heads by the command line: trained, updated, evaluated, and chosen as a reward."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from running import assent, rows_of, worked, write_rows

from assent.model.personal_heads import PersonalHeads
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_reward_model
from assent.types import Completion, Conversation

CPU = MachineOptions(device="cpu")
PPO = ("--set", "iterations=1", "--set", "batch_size=4", "--set", "max_tokens=4", "--set", "normalise_prompts=4")


def opinions(home: Path, file: str, *names: str) -> list[dict[str, object]]:
    """Rankings of the world's answers: those called "long..." like long ones and all others short ones."""
    rows = [json.loads(line) for line in (home / "world" / file).read_text().splitlines()]
    made = []
    for name in names:
        for row in rows:
            order = sorted(row["completions"], key=len, reverse=name.startswith("long"))
            made.append(row | {"ranks": [1 + order.index(text) for text in row["completions"]], "annotator": name})
    return made


@pytest.fixture(scope="module")
def labels(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(
        tmp_path_factory.mktemp("labels") / "labels.jsonl", opinions(home, "preferences.jsonl", "long", "short")
    )


@pytest.fixture(scope="module")
def people(home: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model of two annotators, each with a head of their own."""
    out = tmp_path_factory.mktemp("people") / "reward"
    worked(
        "reward", "--model", home / "sft", "--data", labels, "--out", out, "--set", "train=head", "--set",
        "personal_rank=1",
    )  # fmt: skip
    return out


def heads(run: Path) -> PersonalHeads:
    found = load_reward_model(str(run / "model"), machine=CPU).role.people
    assert found is not None
    return found


def score(run: Path) -> float:
    reward = load_reward_model(str(run / "model"), machine=CPU)
    return reward.scorer.score([Conversation.of_user("What is red?")], [Completion(text="A colour.")])[0]


def test_heads_of_annotators_leave_that_of_the_population_as_it_was(
    people: Path, home: Path, labels: Path, own: Path
) -> None:
    assert set(heads(people).names) == {"long", "short"}
    worked("reward", "--model", home / "sft", "--data", labels, "--out", "plain", "--set", "train=head")
    assert score(own / "plain") == score(people)
    assert not (own / "plain" / "model" / "annotators").exists()
    row = rows_of(people)[-1]
    assert row["people"] == 2 and row["personal_accuracy"] > row["population_accuracy"] + 0.1


def test_an_evaluation_tells_what_own_heads_are_worth_and_whose_head_is_used(
    people: Path, home: Path, own: Path
) -> None:
    held = write_rows(own / "held.jsonl", opinions(home, "held-out.jsonl", "long", "short", "longer"))
    ran = worked("eval", "--model", people, "--data", held, "--out", "all")
    assert "each known annotator by their own head: " in ran.err
    one = ("eval", "--model", people, "--data", held, "--out")
    assert "no labels of" not in worked(*one, "careful", "--set", "annotator=long,short").err
    ran = worked(*one, "nobody", "--set", "annotator=anna")
    assert "has no labels of anna: the head of the population is used" in ran.err
    figures = [json.loads((own / name / "report.json").read_text())["reward_model"] for name in ("all", "nobody")]
    assert figures[0] == figures[1]
    ran = assent("eval", "--model", home / "reward", "--data", held, "--out", "none", "--set", "annotator=long")
    assert ran.code == 2 and "this reward model knows no annotators" in ran.err


def test_a_newcomer_is_taken_in_from_few_labels_and_nobody_else_changes(people: Path, home: Path, own: Path) -> None:
    labels = write_rows(own / "longer.jsonl", opinions(home, "held-out.jsonl", "longer"))
    worked("reward", "--model", people, "--data", labels, "--out", "updated", "--set", "train=people")
    before, after = heads(people), heads(own / "updated")
    assert after.names == (*before.names, "longer")
    assert after.shift(["longer"]) @ after.shift(["long"]) > 0 > after.shift(["longer"]) @ after.shift(["short"])
    torch.testing.assert_close(after.shift(["long"]), before.shift(["long"]), rtol=0, atol=0)
    assert score(own / "updated") == score(people)
    ran = assent("reward", "--model", home / "reward", "--data", labels, "--out", "no", "--set", "train=people")
    assert ran.code == 2 and "no heads of annotators to update" in ran.err


def test_labels_without_annotators_are_refused_and_a_column_can_be_named(home: Path, own: Path) -> None:
    rows = [json.loads(line) for line in (home / "world" / "preferences.jsonl").read_text().splitlines()]
    plain = [{name: value for name, value in row.items() if name != "annotator"} for row in rows]
    given = ("reward", "--model", home / "sft", "--set", "train=head", "--set", "personal_rank=1", "--data")
    ran = assent(*given, write_rows(own / "plain.jsonl", plain), "--out", "refused")
    assert ran.code == 2 and "the pairs name 0 annotators" in ran.err and "reading.annotator" in ran.err
    named = [row | {"team": f"t{place % 2}"} for place, row in enumerate(plain)]
    worked(*given, write_rows(own / "named.jsonl", named), "--out", "named", "--set", "reading.annotator=team")
    assert set(heads(own / "named").names) == {"t0", "t1"}


@pytest.mark.parametrize("lora", [(), ("--set", "lora.rank=2")])
def test_a_policy_is_trained_against_the_head_of_one_annotator(
    lora: tuple[str, ...], people: Path, home: Path, own: Path
) -> None:
    given = ("ppo", "--model", home / "sft", "--reward", people, "--data", home / "world" / "prompts.jsonl", *PPO)
    worked(*given, *lora, "--out", "population")
    worked(*given, *lora, "--out", "own", "--set", "annotator=long")
    rewards = [rows_of(own / name)[0]["reward"] for name in ("population", "own")]
    assert rewards[0] != rewards[1]
    evidence = json.loads((own / "own" / "report.json").read_text())
    assert ": long" in evidence["reward_unit"]


def test_a_whole_training_fits_people_at_its_end_and_a_resumed_one_has_the_same(
    home: Path, labels: Path, own: Path
) -> None:
    given = ("reward", "--model", home / "sft", "--data", labels, "--set", "personal_rank=1")
    worked(*given, "--out", "whole")
    worked(*given, "--out", "cut")
    for name in ("model", "report.json"):  # cut between the last step and the last file
        path = own / "cut" / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    status = json.loads((own / "cut" / "status.json").read_text())
    (own / "cut" / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    worked(*given, "--out", "cut", "--resume")
    one, other = heads(own / "whole"), heads(own / "cut")
    torch.testing.assert_close(one.shift(["long"]), other.shift(["long"]), rtol=0, atol=0)
    assert rows_of(own / "whole")[-1].keys() >= {"personal_accuracy", "population_accuracy"}


def test_an_export_of_single_votes_keeps_whose_they_are(home: Path, labels: Path, own: Path) -> None:
    store = ("--store", own / "feedback.db", "--project", "people")
    worked("feedback", "import", *store, "--data", labels)
    worked("feedback", "export", *store, "--out", "votes.jsonl", "--set", "consensus=votes")
    voters = {json.loads(line)["who"] for line in (own / "votes.jsonl").read_text().splitlines()}
    assert len(voters) == 2 and all(who.startswith("person ") for who in voters)
    given = ("reward", "--model", home / "sft", "--data", "votes.jsonl", "--set", "train=head")
    worked(*given, "--out", "voted", "--set", "personal_rank=1")
    assert set(heads(own / "voted").names) == voters
