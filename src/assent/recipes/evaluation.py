"""`assent eval`: a policy by reward, win rate, likelihood and (on the embedded world) gold; a reward model by its pairs."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import encode_demonstrations, supervised_score
from assent.backends.local.learner import LocalLearner
from assent.config import as_dict
from assent.data.load import load_comparisons, load_demonstrations, load_prompts, load_ratings
from assent.errors import ConfigError, DataError
from assent.evals.evidence import Evidence, Sample
from assent.evals.gold import arm_scores, gold_means
from assent.evals.intervals import bootstrap_mean
from assent.evals.report import write_report
from assent.evals.reward_quality import classifier_quality, reward_quality
from assent.evals.win_rate import win_rate
from assent.lineage import Lineage, parent
from assent.ports.sampling import Scorer
from assent.recipes.commands import fitting_prompts, say_classifier, say_pairs
from assent.recipes.demo import by_kind
from assent.recipes.inference import sampling_of
from assent.recipes.inputs import Files, Read, model_folder, read_all
from assent.recipes.job_settings import EvalJob
from assent.recipes.models import LanguageModel, load_language_model, load_reward_model
from assent.recipes.progress import Display
from assent.recipes.request import Request
from assent.recipes.rewards import function_scorer, is_function
from assent.recipes.training import score_judged
from assent.rundir import RunDir
from assent.seeds import derive
from assent.types import Completion, Conversation
from assent.world.facts import build_world
from assent.world.judge import judge
from assent.world.prompts import make_prompts

WORLD = "world"
_SHOWN_SAMPLES = 12


@dataclass(slots=True)
class Found:
    """What an evaluation found, as parts of the evidence and lines for the person watching."""

    parts: dict[str, Any] = field(default_factory=dict)
    sources: tuple[Any, ...] = ()
    parents: dict[str, str] = field(default_factory=dict)


def run_eval(request: Request, display: Display) -> Path:
    """Evaluate and write report.html and report.json into the output folder."""
    files, settings, start = request.files, request.settings(EvalJob), time.monotonic()
    if not files.data:
        raise ConfigError("no data was given", now=f'Name files with --data, or "{WORLD}" for the embedded world.')
    path = model_folder(files.model)
    if is_reward_model(path):
        found = _reward_model(path, files, settings, display)
    else:
        found = _policy(path, request, settings, display)
    lineage = Lineage(
        kind="eval",
        settings=as_dict(settings),
        seed=settings.seed,
        data=found.sources,
        parents=tuple(parent(folder, role=role) for role, folder in found.parents.items()),
        precision=settings.machine.precision,
    )
    document = lineage.to_dict()
    with RunDir.create(
        files.out, kind="eval", settings=as_dict(settings), lineage=document, overwrite=files.overwrite
    ) as run:
        evidence = Evidence(
            title="Evaluation",
            seeds=(settings.seed,),
            wall_s=time.monotonic() - start,
            peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            settings=document["settings"],
            lineage={name: value for name, value in document.items() if name != "settings"},
            **found.parts,
        )
        report = write_report(evidence, files.out)
        run.set_status("finished")
    display.say(f"report: {report}")
    return report


def is_reward_model(path: str) -> bool:
    """Whether a folder holds a sequence classifier (or an adapter for one)."""
    for name, key in (("adapter_config.json", "task_type"), ("config.json", "architectures")):
        file = Path(path) / name
        if file.is_file():
            return any(mark in str(json.loads(file.read_text()).get(key)) for mark in ("SequenceCl", "SEQ_CLS"))
    return False


def _reward_model(path: str, files: Files, settings: EvalJob, display: Display) -> Found:
    reward = load_reward_model(path, machine=settings.machine, positive=settings.positive)
    scoring = RewardSettings(max_length=settings.max_length, micro_batch_tokens=settings.micro_batch_tokens)
    found = Found(parents={"reward": path})
    try:
        data: Read = read_all(files.data, load_comparisons, files, display, role="eval", limit=settings.limit)
    except DataError:
        data = read_all(files.data, load_ratings, files, display, role="eval", limit=settings.limit)
    found.sources = data.sources
    scored = score_judged(reward, data.examples, scoring)
    if scored.judgements[0].label is not None:
        quality = classifier_quality(
            [values[0] for values in scored.rewards], [one.label or 0.0 for one in scored.judgements]
        )
        say_classifier(quality, display)
        found.parts["classifier"] = quality
    else:
        pairs = reward_quality(scored.pairs, seed=settings.seed)
        say_pairs(pairs, display)
        found.parts["reward_model"] = pairs
    return found


def _policy(path: str, request: Request, settings: EvalJob, display: Display) -> Found:
    files = request.files
    found = Found(parents={"policy": path})
    models = {"policy": load_language_model(path, machine=settings.machine)}
    against = request.text("against")
    if against:
        found.parents["against"] = model_folder(against)
        models["against"] = load_language_model(found.parents["against"], machine=settings.machine)
    if files.data == (WORLD,):
        _gold(models, settings, display, found)
        return found
    prompts = read_all(files.data, load_prompts, files, display, role="prompts", limit=settings.limit)
    found.sources = prompts.sources
    _likelihood(models["policy"], files, settings, display)
    reward = request.text("reward")
    if reward:
        scorer: Scorer = function_scorer(reward) if is_function(reward) else load_reward_model(
            model_folder(reward), machine=settings.machine, positive=settings.positive
        ).scorer  # fmt: skip
        if not is_function(reward):
            found.parents["reward"] = model_folder(reward)
        _rewards(models, prompts.examples, scorer, settings, display, found)
    elif against:
        raise ConfigError("a comparison needs a judge", now="Give --reward as well.")
    return found


def _likelihood(model: LanguageModel, files: Files, settings: EvalJob, display: Display) -> None:
    """Say how likely the model finds the file's own answers, where it has any."""
    try:
        data = read_all(files.data, load_demonstrations, files, Display(quiet=True), role="eval", limit=settings.limit)
    except DataError:
        return
    room = min(settings.max_length, model.role.body.max_length or settings.max_length)
    encoded = encode_demonstrations(data.examples, model.template, max_length=room)
    loss = supervised_score(LocalLearner(policy=model.role), encoded.items, settings.micro_batch_tokens)
    display.say(f"the file's own answers: {loss:.4f} nats per token over {len(encoded.items)} conversations")


def _rewards(
    models: dict[str, LanguageModel], data: Sequence[Conversation], scorer: Scorer, settings: EvalJob,
    display: Display, found: Found,
) -> None:  # fmt: skip
    prompts = fitting_prompts(data, models["policy"], settings.max_tokens, display)
    scores: dict[str, list[float]] = {}
    texts: dict[str, list[Completion]] = {}
    for name, model in models.items():
        texts[name] = _write(name, model, prompts, settings, display)
        scores[name] = scorer.score(prompts, texts[name])
        interval = bootstrap_mean(scores[name], seed=settings.seed)
        found.parts.setdefault("reward", {})[name] = interval
        display.say(f"reward of {name}: {interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})")
    if "against" in scores:
        won = win_rate(
            scores["policy"], scores["against"], names=("policy", "against"), judge="reward", seed=settings.seed
        )
        found.parts["win_rates"] = (won,)
        rate = won.rate
        display.say(f"wins against the other: {rate.mean:.3f} ({rate.low:.3f} to {rate.high:.3f})")
    found.parts["samples"] = tuple(
        Sample(
            prompt=prompt.last_user_text,
            kind="held out",
            answers={name: texts[name][place].text for name in texts},
        )
        for place, prompt in enumerate(prompts[:_SHOWN_SAMPLES])
    )


def _write(
    name: str, model: LanguageModel, prompts: Sequence[Conversation], settings: EvalJob, display: Display
) -> list[Completion]:
    with display.stage(f"sample {name}", len(prompts), unit="texts") as stage:
        turns = model.sampler.sample(
            prompts, sampling=sampling_of(settings), seed=derive(settings.seed, "eval"), progress=stage.counter
        )
    return [turn.completion for turn in turns]


def _gold(models: dict[str, LanguageModel], settings: EvalJob, display: Display, found: Found) -> None:
    """The embedded world's own judge on its held-out prompts."""
    world = build_world(0)
    prompts = make_prompts(world, split="held_out", count=settings.limit or 540, seed=settings.seed)
    arms = {}
    for name, model in models.items():
        written = _write(name, model, [prompt.conversation for prompt in prompts], settings, display)
        golds = [judge(world, prompt, text) for prompt, text in zip(prompts, written, strict=True)]
        arms[name] = arm_scores(
            [prompt.conversation.last_user_text for prompt in prompts], [prompt.kind for prompt in prompts], golds
        )
        overall = gold_means(arms[name], seed=settings.seed).overall
        display.say(f"gold score of {name}: {overall.mean:.3f} ({overall.low:.3f} to {overall.high:.3f})")
    found.parts["gold"] = {name: gold_means(arm, seed=settings.seed) for name, arm in arms.items()}
    found.parts["gold_by_kind"] = by_kind(arms)
