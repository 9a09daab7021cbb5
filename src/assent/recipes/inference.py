"""Writing: completions for a file of prompts, and a chat at the keyboard."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from assent.data.load import load_prompts
from assent.durable import write_atomic
from assent.ports.sampling import Sampling
from assent.recipes.run.inputs import model_folder, read_all, refuse_existing, require_data
from assent.recipes.run.job_settings import SampleJob, SamplingSettings
from assent.recipes.run.models import load_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.run.skipped_examples import fitting_prompts
from assent.seeds import derive
from assent.types import Conversation, Message, Role


def sampling_of(settings: SamplingSettings) -> Sampling:
    """The sampling part of the settings."""
    return Sampling(
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        batch_size=settings.batch_size,
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
    rows: list[list[dict[str, str]]] = [[] for _ in prompts]
    with display.stage("sample", len(prompts) * settings.samples_per_prompt, unit="texts") as stage:
        for turn in range(settings.samples_per_prompt):
            turns = model.sampler.sample(
                prompts, sampling=sampling_of(settings), seed=derive(settings.seed, "sample", turn),
                progress=stage.counter,
            )  # fmt: skip
            for place, one in enumerate(turns):
                rows[place].append({"text": one.completion.text, "stop": str(one.completion.stop)})
    lines = [
        json.dumps(
            {
                "prompt": [{"role": str(m.role), "content": m.content} for m in prompt.messages],
                "completions": [one["text"] for one in row],
                "stop_reasons": [one["stop"] for one in row],
            },
            ensure_ascii=False,
        )
        for prompt, row in zip(prompts, rows, strict=True)
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
