"""`assent world`: files of the embedded world, to try every command on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from assent.config import Settings
from assent.durable import write_atomic
from assent.errors import ConfigError
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.seeds import derive, numpy_rng, python_rng
from assent.types import Completion
from assent.world.annotators import ANNOTATORS, rank
from assent.world.behaviours import answer, applicable
from assent.world.demonstrations import demonstrations
from assent.world.facts import World, build_world
from assent.world.prompts import WorldPrompt, make_prompts

_COMPLETIONS = 4


class WorldFiles(Settings):
    """How many rows to write, from which seed."""

    seed: int = 0
    demonstrations: int = Field(default=500, ge=1)
    rankings: int = Field(default=1000, ge=1)
    held_out: int = Field(default=200, ge=1)


def run_world(request: Request, display: Display) -> Path:
    """Write demonstrations.jsonl, preferences.jsonl, held-out.jsonl and prompts.jsonl."""
    files, settings = request.files, request.settings(WorldFiles)
    if files.out.exists() and not files.out.is_dir():
        raise ConfigError("this is a file, a folder is written", where=str(files.out))
    if files.out.is_dir() and any(files.out.iterdir()) and not files.overwrite:
        raise ConfigError("the folder is not empty", where=str(files.out), now="Give another --out, or --overwrite.")
    files.out.mkdir(parents=True, exist_ok=True)
    world = build_world(0)
    train = make_prompts(world, split="train", count=settings.rankings, seed=derive(settings.seed, "train"))
    held = make_prompts(world, split="held_out", count=settings.held_out, seed=derive(settings.seed, "held"))
    shown = demonstrations(world, count=settings.demonstrations, seed=settings.seed)
    rows: dict[str, Iterable[Mapping[str, Any]]] = {
        "demonstrations.jsonl": (
            {"messages": [{"role": str(m.role), "content": m.content} for m in one.conversation.messages]}
            for one in shown
        ),
        "preferences.jsonl": _rankings(world, train, derive(settings.seed, "rank")),
        "held-out.jsonl": _rankings(world, held, derive(settings.seed, "rank held out")),
        "prompts.jsonl": ({"prompt": prompt.conversation.last_user_text} for prompt in train),
    }
    for name, lines in rows.items():
        write_atomic(files.out / name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        display.say(f"{files.out / name}")
    return files.out


def _rankings(world: World, prompts: list[WorldPrompt], seed: int) -> Iterable[Mapping[str, Any]]:
    """Answers of mixed behaviour, ranked by simulated people in turn."""
    for place, prompt in enumerate(prompts):
        rng = python_rng(seed, "answers", place)
        written = dict.fromkeys(answer(world, prompt, rng.choice(applicable(prompt)), rng) for _ in range(_COMPLETIONS))
        completions = [Completion(text=text) for text in written]
        if len(completions) < 2:
            continue
        annotator = ANNOTATORS[place % len(ANNOTATORS)]
        ranking = rank(world, annotator, prompt, completions, numpy_rng(seed, "rank", place))
        yield {
            "prompt": prompt.conversation.last_user_text,
            "completions": [completion.text for completion in ranking.completions],
            "ranks": list(ranking.ranks),
            "annotator": annotator.name,
        }
