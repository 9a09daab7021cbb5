"""Settings of the commands: what an algorithm takes, and what every job shares."""

from __future__ import annotations

import functools
from typing import Literal, Self

from pydantic import Field, create_model, model_validator

from assent.algorithms.epochs import TrainSettings
from assent.algorithms.methods import METHODS, Reads, load_named
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.algorithms.pretrain import PretrainSettings
from assent.algorithms.reward import RewardSettings
from assent.config import Settings
from assent.constitution.endpoint import EndpointOptions
from assent.recipes.run.judge_rewards import JudgeOptions
from assent.recipes.run.machine import LoraOptions, MachineOptions
from assent.recipes.run.reading_settings import Learn, Reading

ENDPOINT_MAY_CHANGE = ("concurrency", "requests_per_minute", "timeout_s", "retries", "key_env")
MAY_CHANGE = (
    "checkpoint_every", "trackers", "project", "machine.threads", "keep_checkpoints", "checkpoint_minutes",
    *(f"judge.endpoint.{name}" for name in ENDPOINT_MAY_CHANGE),
)  # fmt: skip


class JobSettings(Settings):
    """What every job shares; `limit` takes the first examples of each data file only."""

    seed: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)
    machine: MachineOptions = MachineOptions()
    reading: Reading = Reading()


class RunSettings(JobSettings):
    """What every training run shares."""

    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    project: str = "assent"
    keep_checkpoints: int = Field(default=2, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    checkpoint_minutes: float = Field(default=10.0, ge=0)

    @model_validator(mode="after")
    def _the_clock_stands(self) -> Self:
        if self.machine.clock == "now":
            raise ValueError("machine.clock: a run's clock stands still; give a date, such as 2026-02-03")
        return self


class FineTuning(RunSettings):
    """What every run shares that starts from a model."""

    lora: LoraOptions = LoraOptions()


class PreferenceJob(FineTuning, RewardSettings):
    """A reward model; `learn` says whether comparisons or good/bad labels are learnt (auto: what the file holds)."""

    learn: Learn = "auto"


class ExamplesJob(FineTuning, TrainSettings):
    """Learning a policy from demonstrations, comparisons, rankings, labels or dialogues."""


class OnPolicyJob(FineTuning, OnPolicySettings):
    """Learning from rewards; `positive` names the class of a classifier whose logit is the reward.

    `annotator` names the annotator, or several with commas between them, whose head of a reward model is. `keep` says
    which weights are saved: the last, or those with the highest reward on held-out prompts (by --watch, if given).
    """

    positive: str | None = None
    annotator: str | None = None
    judge: JudgeOptions = JudgeOptions()
    keep: Literal["last", "best"] = "last"
    samples_every: int = Field(default=10, ge=1)
    checkpoint_every: int = Field(default=10, ge=1)


class PretrainJob(RunSettings, PretrainSettings):
    """A model from nothing."""

    checkpoint_every: int = Field(default=500, ge=1)


_JOBS: dict[Reads, type[RunSettings]] = {
    "texts": PretrainJob, "demonstrations": ExamplesJob, "preferences": PreferenceJob, "comparisons": ExamplesJob,
    "rankings": ExamplesJob, "labels": ExamplesJob, "dialogues": ExamplesJob, "prompts": OnPolicyJob,
}  # fmt: skip


@functools.cache
def job_settings(method: str) -> type[RunSettings]:
    """The settings of a method's command: its own, and those of every run that reads such data."""
    job, own = _JOBS[METHODS[method].reads], load_named(METHODS[method].settings)
    return job if issubclass(job, own) else create_model(f"{own.__name__}OfRun", __base__=(own, job))


class SamplingSettings(Settings):
    """How completions are sampled; temperature 0 is greedy, top_k 0 takes every token."""

    max_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)


class AnswerSettings(Settings):
    """How answers are sampled that people read; what is None is as the model's generation_config.json says."""

    max_tokens: int = Field(default=128, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)


class MeasuringSettings(Settings):
    """How a reward model reads held-out judgement."""

    max_length: int = Field(default=1024, ge=2)
    micro_batch_tokens: int = Field(default=8192, ge=1)


class SampleJob(JobSettings, AnswerSettings):
    """`assent sample` and `assent chat`; rewards are those of --best-of."""

    max_prompt_length: int = Field(default=8192, ge=1)
    samples_per_prompt: int = Field(default=1, ge=1)
    reward_weights: tuple[float, ...] = ()
    judge: JudgeOptions = JudgeOptions()


class EvalJob(JobSettings, SamplingSettings, MeasuringSettings):
    """`assent eval`; intervals at 95 %. `samples_per_prompt` completions a prompt where the gold judge scores them.

    `judge` is for --judge, and for --reward judge:MODEL.
    """

    max_prompt_length: int = Field(default=8192, ge=1)
    samples_per_prompt: int = Field(default=1, ge=1)
    positive: str | None = None
    annotator: str | None = None
    reward_weights: tuple[float, ...] = ()
    judge: JudgeOptions = JudgeOptions()
    learn: Learn = "auto"


class SuiteJob(JobSettings):
    """`assent eval --suite`; `positive` names the class of a classifier that counts as toxic.

    `max_tokens` cuts answers; none: as long as the suite says, which is what its harness does.
    """

    max_tokens: int | None = Field(default=None, ge=1)
    micro_batch_tokens: int = Field(default=8192, ge=1)
    positive: str | None = None
    endpoint: EndpointOptions = EndpointOptions()
