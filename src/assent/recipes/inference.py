"""Writing: completions for a file of prompts, and a chat at the keyboard."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from assent.data.load import load_prompts
from assent.durable import write_atomic
from assent.ports.sampling import SamplingParams
from assent.recipes.run.inputs import model_folder, read_all, refuse_existing, require_data
from assent.recipes.run.job_settings import SampleJob, SamplingSettings
from assent.recipes.run.models import load_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.run.skipped_examples import fitting_prompts
from assent.seeds import derive
from assent.types import Conversation, Message, Role


def sampling_of(settings: SamplingSettings) -> SamplingParams:
    """The sampling part of the settings."""
    return SamplingParams(
        max_tokens=settings.max_tokens, temperature=settings.temperature, top_p=settings.top_p, top_k=settings.top_k
    )


def run_sample(request: Request, display: Display) -> Path:
    """`assent sample`: one JSON line per prompt, with its completions and why each stopped."""
    files, settings = request.files, request.settings(SampleJob)
    require_data(files)
    refuse_existing(files)
    data = read_all(
        files.data, load_prompts, files, display, role="prompts", limit=settings.limit, reading=settings.reading
    )
    model = load_language_model(model_folder(files.model), machine=settings.machine)
    prompts = fitting_prompts(data.examples, model, settings.max_tokens, display)
    n = settings.samples_per_prompt
    with display.stage("sample", len(prompts) * n, unit="texts") as stage:
        turns = model.sampler.sample(
            prompts, sampling=sampling_of(settings), seed=derive(settings.seed, "sample"), progress=stage.counter, n=n
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
    """`assent chat`: read lines, answer, remember the conversation; /new forgets it, /quit or end-of-input leaves."""
    settings = request.settings(SampleJob)
    model = load_language_model(model_folder(request.files.model), machine=settings.machine.with_real_clock())
    display.say("Say something. /new starts over, /quit leaves.")
    messages: list[Message] = []
    turn = 0
    while True:
        try:
            text = input("you> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if text == "/quit":
            return
        if text == "/new":
            messages = []
        elif text:
            messages.append(Message(role=Role.USER, content=text))
            seed = derive(settings.seed, "chat", turn)
            (answer,) = model.sampler.sample(
                [Conversation(messages=tuple(messages))], sampling=sampling_of(settings), seed=seed
            )
            messages.append(Message(role=Role.ASSISTANT, content=answer.completion.text))
            turn += 1
            print(answer.completion.text, flush=True)
