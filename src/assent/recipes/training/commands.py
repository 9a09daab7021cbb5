"""The training commands, one for each method: files in, a run folder with model, metrics, checkpoints and report out.

What a method reads decides how it is prepared and measured. Everything is read and checked first; the run folder is
made when nothing that the user gave can be wrong any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from assent.algorithms.methods import METHODS, Reads, load_named
from assent.metrics import Metrics
from assent.recipes.run.held_out import BEFORE, HeldOutAnswers, change, measure_reward, said_of_scores
from assent.recipes.run.inputs import model_folder, read_all, read_judgement, require_data
from assent.recipes.run.job_settings import (
    ExamplesJob,
    PreferenceJob,
    job_settings,
)
from assent.recipes.run.jobs import Job, Training, check_output, open_job
from assent.recipes.run.models import (
    save_reward_model,
)
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.run.skipped_examples import say_prepared
from assent.recipes.training.from_rewards import from_rewards
from assent.recipes.training.parts import open_policy, read_data, training_of
from assent.recipes.training.prepare import prepare_offline
from assent.recipes.training.pretraining import WORLD, prepare_pretraining
from assent.recipes.training.reward_start import reward_to_train
from assent.recipes.training.shown_answers import ShownAnswers


def run_method(request: Request, display: Display) -> Path:
    """`assent METHOD`: train, save, measure what is held out, and write the report; returns the report's path."""
    method, files = METHODS[request.name], request.files
    settings = request.settings(job_settings(request.name))
    if request.environment is None:
        require_data(
            files, otherwise=f", or write --data {WORLD} for the embedded world" if method.makes == "model" else ""
        )
    check_output(files, settings)
    training = _PREPARATIONS[method.reads](request, settings, display)
    say_prepared(display, training.prepared)
    with open_job(request, settings, display, training) as job:
        if training.examples:
            job.note_prompts(training.examples, training.held_out)
        training.begin(job)
        last = job.train(training.prepared.task)
        training.save(job.model_folder)
        shown = [name for curve in method.curves[:3] for name in (curve, f"eval_{curve}")]
        metrics = {name: last[name] for name in shown if name in last}
        return job.finish(metrics | training.measure(job))


def _from_examples(request: Request, settings: ExamplesJob, display: Display) -> Training:
    """A policy from demonstrations (or the chosen side of comparisons), or from judgement without a reward model."""
    method, seed = METHODS[request.name], settings.seed
    shown = method.reads == "demonstrations"
    data, held = read_data(request, settings, display)
    model = open_policy(request.files, settings, display)
    prepared = prepare_offline(
        load_named(method.algorithm), model, data.examples, settings, seed=seed, held_out=held.examples, display=display
    )
    answers = HeldOutAnswers(model, held.examples, settings, display) if shown and held.examples else None
    written = None if shown else ShownAnswers(model, data.examples, held.examples, display)

    def measure(job: Job) -> Metrics:
        if written is not None:
            job.evidence["samples"] = written.samples()
        if prepared.scored is not None:
            found = said_of_scores(prepared.scored(), display, seed=seed)
            job.evidence |= found.evidence | {"quality_of": "The reward implicit in the policy"}
            return found.metrics
        if answers is not None:
            loss = answers.measurement(held.sources, seed=seed)
            display.say(change(loss))
            job.evidence["measurements"] = (loss,)
            if not settings.evaluate_every:
                job.first_rows = ({"step": 0, "eval_loss": loss.values[BEFORE].mean},)
        return {}

    return training_of(model, prepared, data, held, measure)


def _from_preferences(request: Request, settings: PreferenceJob, display: Display) -> Training:
    """A reward model from comparisons and rankings, or from good/bad labels."""
    files, reading, limit = request.files, settings.reading, settings.limit
    ranked = settings.loss == "plackett_luce"
    data, load = read_judgement(files, display, learn=settings.learn, reading=reading, limit=limit, ranked=ranked)
    held = read_all(files.eval_data, load, files, display, role="eval", limit=limit, reading=reading)
    reward = reward_to_train(
        model_folder(files.model), settings, machine=settings.machine, seed=settings.seed, lora=settings.lora,
        names=reading.class_names,
    )  # fmt: skip

    def measure(job: Job) -> Metrics:
        if not held.examples:
            return {}
        found = measure_reward(reward, held.examples, settings, display, seed=settings.seed)
        job.evidence |= found.evidence
        return found.metrics

    return Training(
        prepared=prepare_offline(
            load_named(METHODS[request.name].algorithm), reward, data.examples, settings, seed=settings.seed,
            held_out=held.examples, display=display,
        ),
        save=partial(save_reward_model, reward), measure=measure, examples=data.examples, held_out=held.examples,
        sources=(*data.sources, *held.sources), parents={"policy": reward.path},
    )  # fmt: skip


_PREPARATIONS: dict[Reads, Callable[[Request, Any, Display], Training]] = {
    "texts": prepare_pretraining,
    "demonstrations": _from_examples,
    "preferences": _from_preferences,
    "comparisons": _from_examples,
    "rankings": _from_examples,
    "labels": _from_examples,
    "dialogues": _from_examples,
    "prompts": from_rewards,
}
