"""`assent tictactoe`: a model of random weights learns the game by PPO, and a page lets people play against it.

random legal games -> novice -> PPO in the environment `tictactoe` -> games against perfect and random play -> the page
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from assent.algorithms.loop import Watch
from assent.config import Settings, as_dict
from assent.durable import write_atomic
from assent.environments.games.board import open_positions
from assent.evals.game_page import Contestant, Result, render_game
from assent.model.checkpoints import CheckpointStore, load_tree
from assent.recipes.game.matches import play_matches
from assent.recipes.game.novice import fresh_model, prepare_novice
from assent.recipes.game.policy_table import legal_share, policy_table
from assent.recipes.run.inputs import Files
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import LanguageModel, load_language_model, save_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.training.commands import run_method
from assent.runs.folder import RunDir
from assent.runs.lineage import Lineage

_SHOWN = 6  # checkpoints on the page, the start among them
PPO: dict[str, Any] = {
    "batch_size": 256, "learning_rate": 2e-3, "max_tokens": 2, "max_turns": 5, "epochs": 2, "mini_batches": 4,
    "critic": "shared", "value_coef": 1.0, "kl_coef": 0.1, "normalise_reward": False, "normalise_prompts": 64,
    "missing_eos_penalty": 0.0,
}  # fmt: skip


class GameSettings(Settings):
    """`games` are played on each side against each opponent, with the policy's likeliest moves."""

    seed: int = Field(default=0, ge=0)
    practice: int = Field(default=8192, ge=64)
    iterations: int = Field(default=400, ge=1)
    games: int = Field(default=504, ge=9, multiple_of=9)


def run_tictactoe(request: Request, display: Display) -> Path:
    """Train, measure and write OUT/tictactoe.html; returns its path."""
    settings, out, command = request.settings(GameSettings), request.files.out, request.files.command
    document = as_dict(settings)
    lineage = Lineage(kind="tictactoe", settings=document, seed=settings.seed, threads=torch.get_num_threads())
    with RunDir.create(
        out, kind="tictactoe", settings=document, lineage=lineage.to_dict(), overwrite=request.files.overwrite
    ) as run:
        model = fresh_model(seed=settings.seed)
        prepared = prepare_novice(model, seed=settings.seed, games=settings.practice)
        with display.stage("random games", prepared.task.total, unit="steps") as stage:
            prepared.run(Watch(on_tick=stage.on_tick))
        save_language_model(model, out / "novice")
        _train(settings, out, command, display)
        results, contestants = [], []
        for iteration, policy in _checkpoints(out, settings.iterations):
            table = policy_table(policy)
            contestants.append(Contestant(iteration=iteration, rows=list(table.values())))
            if iteration in (0, settings.iterations):
                display.say(
                    f"iteration {iteration}: {legal_share(table):.1%} of its moves are legal, over all positions"
                )
                results += _measure(iteration, policy, settings, display)
        write_atomic(out / "result.json", json.dumps([asdict(one) for one in results], indent=2) + "\n")
        page = out / "tictactoe.html"
        boards = list(open_positions())
        write_atomic(page, render_game(boards, contestants, results, report="ppo/report.html", command=command))
        run.set_status("finished")
    display.say(f"play against it: {page}")
    return page


def _train(settings: GameSettings, out: Path, command: str, display: Display) -> None:
    """`assent ppo --environment tictactoe`, with a checkpoint for each that the page shows."""
    every = max(settings.iterations // (_SHOWN - 1), 1)
    given = {
        "iterations": settings.iterations,
        "seed": settings.seed,
        "checkpoint_every": every,
        "keep_checkpoints": 99,
    }
    files = Files(model=str(out / "novice"), out=out / "ppo", command=command, overwrite=True)
    base = {**PPO, **given, "checkpoint_minutes": 0.0, "machine": {"device": "cpu"}}
    run_method(Request(name="ppo", files=files, environment="tictactoe", base=base), display)


@torch.no_grad()
def _checkpoints(out: Path, last: int) -> Iterator[tuple[int, LanguageModel]]:
    """The policy before training and at every checkpoint that was kept, one after the other in the same model."""
    model = load_language_model(str(out / "novice"), machine=MachineOptions(device="cpu"))
    yield 0, model
    folder = out / "ppo" / "checkpoints"
    for step in sorted(step for step in CheckpointStore(folder).steps() if 0 < step <= last):
        weights = load_tree(folder / f"step-{step:08d}")["weights"]
        for name, parameter in model.role.parameters().items():
            parameter.copy_(weights[f"policy.{name}"])
        yield step, model


def _measure(iteration: int, policy: LanguageModel, settings: GameSettings, display: Display) -> list[Result]:
    found = []
    for one in play_matches(policy.sampler, games=settings.games, temperature=0.0, seed=settings.seed):
        display.say(f"  {one.told()}")
        shares = {"won": one.won / one.games, "drawn": one.drawn / one.games, "lost": one.lost / one.games}
        found.append(Result(iteration=iteration, opponent=one.opponent, side=one.side, games=one.games, **shares))
    return found
