"""What the training of every kind is put together from: the data, the policy, and the training itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from assent.algorithms.methods import METHODS
from assent.metrics import Metrics
from assent.recipes.run.adapters import adapter_base
from assent.recipes.run.inputs import LOADS, Files, Read, model_folder, read_all
from assent.recipes.run.job_settings import (
    FineTuning,
    RunSettings,
)
from assent.recipes.run.jobs import Job, Training
from assent.recipes.run.models import (
    LanguageModel,
    load_language_model,
    save_language_model,
)
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.training.prepare import Prepared


def read_data(request: Request, settings: RunSettings, display: Display, *, role: str = "train") -> tuple[Read, Read]:
    """What is trained on and what is held out."""
    files, load = request.files, LOADS[METHODS[request.name].reads]
    read = partial(read_all, load=load, files=files, display=display, limit=settings.limit, reading=settings.reading)
    return read(files.data, role=role), read(files.eval_data, role="eval")


def open_policy(files: Files, settings: FineTuning, display: Display) -> LanguageModel:
    model = load_language_model(model_folder(files.model), machine=settings.machine, lora=settings.lora)
    if model.template.used_default:
        display.say("the tokenizer has no chat template: plain Human/Assistant transcripts are used, and saved with it")
    if settings.lora.rank and adapter_base(model.path) is not None:
        display.say("the model is an adapter: it is trained further as it is, and lora settings are not used")
    return model


def training_of(
    model: LanguageModel, prepared: Prepared[Any], data: Read, held: Read, measure: Callable[[Job], Metrics]
) -> Training:
    return Training(
        prepared=prepared, save=partial(save_language_model, model), measure=measure, examples=data.examples,
        held_out=held.examples, sources=(*data.sources, *held.sources), parents={"policy": model.path},
    )  # fmt: skip
