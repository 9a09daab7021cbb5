"""Writing: completions for a file of prompts, and a chat at the keyboard."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from assent.backends.local.engine import LocalEngine
from assent.data.load import load_prompts
from assent.durable import write_atomic
from assent.ports.generation import GenerationRequest
from assent.recipes.run.answer_sampling import answer_defaults, sampling_of
from assent.recipes.run.inputs import model_folder, read_all, refuse_existing, require_data
from assent.recipes.run.job_settings import SampleJob
from assent.recipes.run.models import load_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.run.skipped_examples import fitting_prompts
from assent.seeds import derive
from assent.types import Completion, Conversation, Message, Role, StopReason


def run_sample(request: Request, display: Display) -> Path:
    """`assent sample`: one JSON line per prompt, with its completions and why each stopped."""
    files, settings = request.files, request.settings(SampleJob)
    require_data(files)
    refuse_existing(files)
    data = read_all(
        files.data, load_prompts, files, display, role="prompts", limit=settings.limit, reading=settings.reading
    )
    model = load_language_model(model_folder(files.model), machine=settings.machine)
    prompts = fitting_prompts(data.examples, model, settings, display)
    n, sampling = settings.samples_per_prompt, sampling_of(settings, answer_defaults(model))
    with display.stage("sample", len(prompts) * n, unit="texts") as stage:
        turns = model.sampler.sample(
            prompts, sampling=sampling, seed=derive(settings.seed, "sample"), progress=stage.counter, n=n
        )
    lines = [
        json.dumps(
            {
                "prompt": [{"role": str(m.role), "content": m.content} for m in prompt.messages],
                "completions": [turn.completion.text for turn in turns[place * n : (place + 1) * n]],
                "stop_reasons": [str(turn.completion.stop) for turn in turns[place * n : (place + 1) * n]],
            },
            ensure_ascii=False,
        )
        for place, prompt in enumerate(prompts)
    ]
    files.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(files.out, "\n".join(lines) + "\n")
    display.say(f"samples: {files.out}")
    return files.out


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
