"""`assent eval`: a policy by reward, win rate, likelihood and (embedded world) gold; a reward model by its pairs."""

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
from assent.data.load import ReadOptions, load_demonstrations, load_prompts
from assent.errors import ConfigError, DataError
from assent.evals.evidence import Evidence, Sample
from assent.evals.gold import arm_scores, gold_means
from assent.evals.intervals import paired_difference
from assent.evals.report import write_report
from assent.evals.win_rate import win_rate
from assent.lineage import Lineage, parent
from assent.ports.sampling import Scorer
from assent.recipes.demo import by_kind
from assent.recipes.inference import sampling_of
from assent.recipes.inputs import Files, model_folder, read_all, read_judgement, require_data
from assent.recipes.job_settings import EvalJob
from assent.recipes.left_out import fitting_prompts
from assent.recipes.measured import measure_policy, measure_reward, write_answers
from assent.recipes.models import LanguageModel, load_language_model, load_reward_model
from assent.recipes.progress import Display
from assent.recipes.request import Request
from assent.recipes.rewards import function_reward, is_function
from assent.rundir import RunDir, check_place
from assent.types import Conversation
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
    require_data(files, otherwise=f", or write --data {WORLD} for the embedded world")
    check_place(files.out, resume=False, overwrite=files.overwrite)
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
    reading = settings.reading
    data, _ = read_judgement(files, display, learn=settings.learn, reading=reading, limit=settings.limit, role="eval")
    reward = load_reward_model(path, machine=settings.machine, positive=settings.positive)
    scoring = RewardSettings(max_length=settings.max_length, micro_batch_tokens=settings.micro_batch_tokens)
    measured = measure_reward(reward, data.examples, scoring, display, seed=settings.seed)
    return Found(parts=measured.evidence, sources=data.sources, parents={"reward": path})


def _policy(path: str, request: Request, settings: EvalJob, display: Display) -> Found:
    files, reward, against = request.files, request.text("reward"), request.text("against")
    if against and not reward and files.data != (WORLD,):
        raise ConfigError("a comparison needs a judge", where="--against", now="Give --reward as well.")
    found = Found(parents={"policy": path})
    prompts = None
    if files.data != (WORLD,):
        prompts = read_all(
            files.data, load_prompts, files, display, role="prompts", limit=settings.limit, reading=settings.reading
        )
        found.sources = prompts.sources
    models = {"policy": load_language_model(path, machine=settings.machine)}
    if against:
        found.parents["against"] = model_folder(against)
        models["against"] = load_language_model(found.parents["against"], machine=settings.machine)
    if prompts is None:
        _gold(models, settings, display, found)
        return found
    scorer = _scorer(reward, settings, found) if reward else None
    measured = _likelihood(models["policy"], files, settings, display)
    if scorer is not None:
        _rewards(models, prompts.examples, scorer, settings, display, found)
    elif not measured:
        raise ConfigError("there is nothing to measure: the file has prompts and no answers", now="Give --reward.")
    return found


def _scorer(reward: str, settings: EvalJob, found: Found) -> Scorer:
    if is_function(reward):
        function = function_reward(reward)
        found.sources = (*found.sources, function.source)
        return function.scorer
    found.parents["reward"] = model_folder(reward)
    return load_reward_model(found.parents["reward"], machine=settings.machine, positive=settings.positive).scorer


def _likelihood(model: LanguageModel, files: Files, settings: EvalJob, display: Display) -> bool:
    """Say how likely the model finds the file's own answers; False where it has none."""
    options = ReadOptions(
        format=files.format, on_bad_row="skip", limit=settings.limit, columns=settings.reading.columns
    )
    try:
        data = [one for path in files.data for one in load_demonstrations(path, options).examples]
    except DataError:
        return False
    room = min(settings.max_length, model.role.body.max_length or settings.max_length)
    encoded = encode_demonstrations(data, model.template, max_length=room)
    loss = supervised_score(LocalLearner(policy=model.role), encoded.items, settings.micro_batch_tokens)
    display.say(f"the file's own answers: {loss:.4f} nats per token over {len(encoded.items)} conversations")
    return True


def _rewards(
    models: dict[str, LanguageModel], data: Sequence[Conversation], scorer: Scorer, settings: EvalJob,
    display: Display, found: Found,
) -> None:  # fmt: skip
    prompts = fitting_prompts(data, models["policy"], settings.max_tokens, display)
    written = {
        name: measure_policy(name, model, prompts, scorer, sampling_of(settings), display, seed=settings.seed)
        for name, model in models.items()
    }
    found.parts["reward"] = {name: one.mean for name, one in written.items()}
    if "against" in written:
        won = win_rate(
            written["policy"].scores, written["against"].scores, names=("policy", "against"), judge="reward",
            seed=settings.seed,
        )  # fmt: skip
        found.parts["win_rates"] = (won,)
        display.say(f"wins against the other: {won.rate.mean:.3f} ({won.rate.low:.3f} to {won.rate.high:.3f})")
    found.parts["samples"] = tuple(
        Sample(
            prompt=prompt.last_user_text,
            kind="held out",
            answers={name: one.completions[place].text for name, one in written.items()},
        )
        for place, prompt in enumerate(prompts[:_SHOWN_SAMPLES])
    )


def _gold(models: dict[str, LanguageModel], settings: EvalJob, display: Display, found: Found) -> None:
    """The embedded world's own judge on its held-out prompts."""
    world = build_world(0)
    prompts = make_prompts(world, split="held_out", count=settings.limit or 540, seed=settings.seed)
    prompts = [prompt for prompt in prompts for _ in range(settings.samples_per_prompt)]
    arms = {}
    for name, model in models.items():
        conversations = [prompt.conversation for prompt in prompts]
        written = write_answers(name, model, conversations, sampling_of(settings), display, seed=settings.seed)
        golds = [judge(world, prompt, text) for prompt, text in zip(prompts, written, strict=True)]
        arms[name] = arm_scores(
            [prompt.conversation.last_user_text for prompt in prompts], [prompt.kind for prompt in prompts], golds
        )
        overall = gold_means(arms[name], seed=settings.seed).overall
        display.say(f"gold score of {name}: {overall.mean:.3f} ({overall.low:.3f} to {overall.high:.3f})")
    if "against" in arms:
        mine, other = arms["policy"], arms["against"]
        gained = paired_difference(mine.overall, other.overall, seed=settings.seed, groups=mine.prompts)
        found.parts["gold_gained"] = gained
        display.say(f"gold score gained: {gained.mean:+.3f} ({gained.low:+.3f} to {gained.high:+.3f})")
    found.parts["gold"] = {name: gold_means(arm, seed=settings.seed) for name, arm in arms.items()}
    found.parts["gold_by_kind"] = by_kind(arms)
