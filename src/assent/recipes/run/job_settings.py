"""Settings of the commands: what an algorithm takes, and what every job shares."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.pretrain import PretrainSettings
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.config import Settings
from assent.recipes.run.models import LoraOptions, MachineOptions
from assent.recipes.run.reading_settings import Learn, Reading

MAY_CHANGE = ("checkpoint_every", "trackers", "project", "machine.threads", "keep_checkpoints")


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

    @model_validator(mode="after")
    def _the_clock_stands(self) -> Self:
        if self.machine.clock == "now":
            raise ValueError("machine.clock: a run's clock stands still; give a date, such as 2026-02-03")
        return self


class PretrainJob(RunSettings, PretrainSettings):
    """`assent pretrain`."""


class SFTJob(RunSettings, SFTSettings):
    """`assent sft`."""

    lora: LoraOptions = LoraOptions()


class RewardJob(RunSettings, RewardSettings):
    """`assent reward`; `learn` says whether comparisons or good/bad labels are learnt (auto: what the file holds)."""

    lora: LoraOptions = LoraOptions()
    learn: Learn = "auto"


class DPOJob(RunSettings, DPOSettings):
    """`assent dpo`."""

    lora: LoraOptions = LoraOptions()


class PPOJob(RunSettings, PPOSettings):
    """`assent ppo`; `positive` names the class of a classifier whose logit is the reward."""

    lora: LoraOptions = LoraOptions()
    positive: str | None = None
    samples_every: int = Field(default=10, ge=1)


class SamplingSettings(Settings):
    """How completions are sampled; temperature 0 is greedy, top_k 0 takes every token."""

    max_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)


class MeasuringSettings(Settings):
    """How a reward model reads held-out judgement."""

    max_length: int = Field(default=1024, ge=2)
    micro_batch_tokens: int = Field(default=8192, ge=1)


class SampleJob(JobSettings, SamplingSettings):
    """`assent sample` and `assent chat`."""

    samples_per_prompt: int = Field(default=1, ge=1)


class EvalJob(JobSettings, SamplingSettings, MeasuringSettings):
    """`assent eval`; intervals at 95 %. `samples_per_prompt` completions a prompt where the gold judge scores them."""

    samples_per_prompt: int = Field(default=1, ge=1)
    positive: str | None = None
    reward_weights: tuple[float, ...] = ()
    learn: Learn = "auto"
