"""A queue that waits is ordered anew by a reward model over HTTP, and what it thinks goes with the questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import assent, worked
from serving_processes import PASSWORD, served

from assent.recipes.annotation.simulated_annotators import label_with_simulated_annotators
from assent.recipes.annotation.studio_client import PASSWORD_VARIABLE, StudioClient
from assent.recipes.demo.command import shipped_base
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import new_reward_model, save_reward_model
from assent.world.facts import build_world
from assent.world.prompts import make_prompts

pytestmark = pytest.mark.slow
SMALL = (
    "prompts=16",
    "acquisition.max_tokens=12",
    "acquisition.samples_per_prompt=3",
    "acquisition.shown=2",
    "machine.threads=1",
)


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A studio of its own with an admin called admin."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with served(["studio", "--store", str(tmp_path / "studio.db"), "--port", "0"]) as url:
        yield url


def collect(studio: str, *more: str, settings: tuple[str, ...] = ()) -> list[object]:
    chosen = [flag for setting in (*SMALL, *settings) for flag in ("--set", setting)]
    return ["collect", "--model", shipped_base(), "--data", "world", "--studio", studio, *more, *chosen]


def test_a_refresh_gives_waiting_questions_new_places_and_keeps_what_they_show(studio: str, tmp_path: Path) -> None:
    reward = tmp_path / "reward"
    save_reward_model(
        new_reward_model(str(shipped_base()), machine=MachineOptions(device="cpu", threads=1), seed=1), reward
    )
    adaptive = ("adaptive_overlap=3",)
    worked(*collect(studio, settings=("batch=first", "questions=6", "seed=1", *adaptive)))
    refused = assent(*collect(studio, "--reward", str(reward), settings=("refresh=true",)))
    assert refused.code == 2 and "there are no labels yet" in refused.err
    with StudioClient(studio) as client:
        client.sign_in("admin", PASSWORD)
        project = client.project("preferences")
        world = build_world(0)
        known = make_prompts(world, split="train", count=16, seed=1)
        assert label_with_simulated_annotators(client, project, world, known, seed=0) >= 6
        worked(*collect(studio, "--reward", str(reward), settings=("batch=more", "questions=8", "seed=2", *adaptive)))
        before = list(client.queue(project))
        assert all(len(item["predicted"]) == 2 for item in before if item["key"].startswith("more."))
        worked(*collect(studio, "--reward", str(reward), settings=("refresh=true", *adaptive)))
        after = list(client.queue(project))
    changing = ("priority", "predicted", "overlap")
    assert [_without(item, changing) for item in after] == [_without(item, changing) for item in before]
    assert sorted(item["priority"] for item in after) == list(range(1, len(after) + 1))
    assert all(len(item["predicted"]) == 2 for item in after)


def _without(item: dict[str, object], names: tuple[str, ...]) -> str:
    return json.dumps({name: value for name, value in item.items() if name not in names})


def test_what_a_project_that_is_there_does_not_have_is_refused(studio: str) -> None:
    worked(*collect(studio, settings=("batch=first", "questions=4", "overlap=2")))
    worked(*collect(studio, settings=("batch=second", "questions=4", "seed=2")))  # the project keeps its own
    refused = assent(*collect(studio, settings=("batch=third", "questions=4", "overlap=5")))
    assert refused.code == 2 and "there already, with overlap=2 and not 5" in refused.err
    with StudioClient(studio) as client:
        client.sign_in("admin", PASSWORD)
        assert {item["key"].split(".")[0] for item in client.queue(client.project("preferences"))} == {
            "first",
            "second",
        }


def test_a_wrong_account_is_named(studio: str) -> None:
    refused = assent(*collect(studio, settings=("admin=nora",)))
    assert refused.code == 2 and 'cannot sign in as "nora"' in refused.err and "Traceback" not in refused.err
