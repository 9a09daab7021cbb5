"""Writing: completions for a file of prompts, and a chat at the keyboard."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assent.algorithms.best_of_n import Candidates
from assent.backends.local.engine import LocalEngine
from assent.data.load import load_prompts
from assent.durable import write_atomic
from assent.errors import ConfigError
from assent.ports.generation import GenerationRequest
from assent.recipes.run.answer_sampling import answer_defaults, sampling_of
from assent.recipes.run.inputs import model_folder, read_all, refuse_existing, require_data
from assent.recipes.run.job_settings import SampleJob
from assent.recipes.run.models import load_language_model, load_reward_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.run.rewards import Rewards, best_of_n, open_rewards
from assent.recipes.run.skipped_examples import fitting_prompts
from assent.seeds import derive
from assent.types import Completion, Conversation, Message, Role, StopReason, Turn


def run_sample(request: Request, display: Display) -> Path:
    """`assent sample`: one JSON line per prompt, with its completions and why each stopped.

    With `--best-of`, completions are the best ones, and the row has all candidates with their rewards.
    """
    files, settings = request.files, request.settings(SampleJob)
    require_data(files)
    refuse_existing(files)
    data = read_all(
        files.data, load_prompts, files, display, role="prompts", limit=settings.limit, reading=settings.reading
    )
    model = load_language_model(model_folder(files.model), machine=settings.machine)
    prompts = fitting_prompts(data.examples, model, settings, display)
    n, sampling = settings.samples_per_prompt, sampling_of(settings, answer_defaults(model))
    best_of = best_of_n(model.sampler, _rewards(request, prompts, settings), request.own.get("best_of"))
    seed = derive(settings.seed, "sample")
    with display.stage("sample", len(prompts) * n * (best_of.n if best_of else 1), unit="texts") as stage:
        if best_of is None:
            turns = model.sampler.sample(prompts, sampling=sampling, seed=seed, progress=stage.counter, n=n)
            found: list[Candidates] = []
        else:
            asked = [prompt for prompt in prompts for _ in range(n)]
            found = best_of.candidates(asked, sampling=sampling, seed=seed, progress=stage.counter)
            turns = [one.turns[one.best] for one in found]
    places = [slice(place * n, (place + 1) * n) for place in range(len(prompts))]
    rows = [_row(prompt, turns[part], found[part]) for prompt, part in zip(prompts, places, strict=True)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    files.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(files.out, "\n".join(lines) + "\n")
    display.say(f"samples: {files.out}")
    return files.out


def _rewards(request: Request, prompts: Sequence[Conversation], settings: SampleJob) -> Rewards | None:
    """What chooses among completions, if anything does."""
    if not request.rewards:
        return None
    if "best_of" not in request.own:
        raise ConfigError(
            "a reward chooses here, and there is one completion", where="--reward", now="Give --best-of N."
        )
    rewards = open_rewards(
        request.rewards, settings, lambda path, first: load_reward_model(path, machine=settings.machine)
    )
    rewards.check(prompts)
    return rewards


def _row(prompt: Conversation, turns: Sequence[Turn], found: Sequence[Candidates]) -> dict[str, Any]:
    """The completions of a prompt and, where they were chosen, what they were chosen from."""
    row: dict[str, Any] = {
        "prompt": [{"role": str(m.role), "content": m.content} for m in prompt.messages],
        "completions": [turn.completion.text for turn in turns],
        "stop_reasons": [str(turn.completion.stop) for turn in turns],
    }
    if found:
        row["rewards"] = [one.rewards[one.best] for one in found]
        row["candidates"] = [
            [
                {"text": turn.completion.text, "stop_reason": str(turn.completion.stop), "reward": reward}
                for turn, reward in zip(one.turns, one.rewards, strict=True)
            ]
            for one in found
        ]
    return row


def run_chat(request: Request, display: Display) -> None:
    """`assent chat`: read lines, answer word by word, remember the conversation; /new forgets it, /quit leaves."""
    settings, system = request.settings(SampleJob), request.text("system")
    model = load_language_model(model_folder(request.files.model), machine=settings.machine.with_real_clock())
    engine, sampling = LocalEngine(model.role, model.template), sampling_of(settings, answer_defaults(model))
    display.say("Say something. /new starts over, /quit leaves.")
    start = (Message(role=Role.SYSTEM, content=system),) if system else ()
    talk, turn = start, 0
    while True:
        try:
            text = input("you> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if text == "/quit":
            return
        if text == "/new":
            talk = start
        elif text:
            talk = (*talk, Message(role=Role.USER, content=text))
            prompt, seed = Conversation(messages=talk), derive(settings.seed, "chat", turn)
            answer = _written(engine, GenerationRequest(prompt=prompt, sampling=sampling, seed=seed))
            if answer.stop is StopReason.LENGTH:
                display.say(f"[cut at {settings.max_tokens} tokens; --set max_tokens=N allows more]")
            talk, turn = (*talk, Message(role=Role.ASSISTANT, content=answer.text)), turn + 1


def _written(engine: LocalEngine, request: GenerationRequest) -> Completion:
    """Print an answer as its tokens come."""
    engine.add(engine.tokenize(request), [0])
    text = ""
    while True:
        engine.step([0])
        chunk = engine.chunk(0)
        print(chunk.text, end="" if chunk.stop is None else "\n", flush=True)
        text += chunk.text
        if chunk.stop is not None:
            return Completion(text=text, stop=chunk.stop)
