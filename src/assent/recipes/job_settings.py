"""Settings of the commands: what an algorithm takes, and what every job shares."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.pretrain import PretrainSettings
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.config import Settings
from assent.recipes.models import LoraOptions, MachineOptions

MAY_CHANGE = ("checkpoint_every", "trackers", "machine.threads", "keep_checkpoints")


class JobSettings(Settings):
    """What every job shares."""

    seed: int = 0
    limit: int | None = Field(default=None, ge=1)
    machine: MachineOptions = MachineOptions()
    lora: LoraOptions = LoraOptions()
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    project: str = "assent"
    keep_checkpoints: int = Field(default=2, ge=1)


class PretrainJob(JobSettings, PretrainSettings):
    """`assent pretrain`."""


class SFTJob(JobSettings, SFTSettings):
    """`assent sft`."""


class RewardJob(JobSettings, RewardSettings):
    """`assent reward`; `labels` learns good/bad labels instead of comparisons."""

    learn: Literal["auto", "comparisons", "labels"] = "auto"


class DPOJob(JobSettings, DPOSettings):
    """`assent dpo`."""


class PPOJob(JobSettings, PPOSettings):
    """`assent ppo`; `positive` names the class of a classifier whose logit is the reward."""

    positive: str | None = None
    normalise_prompts: int = Field(default=256, ge=2)
    samples_every: int = Field(default=10, ge=1)


class SampleJob(JobSettings):
    """`assent sample` and `assent chat`; temperature 0 is greedy."""

    max_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    batch_size: int = Field(default=64, ge=1)
    samples_per_prompt: int = Field(default=1, ge=1)


class EvalJob(SampleJob):
    """`assent eval`."""

    max_length: int = Field(default=1024, ge=2)
    micro_batch_tokens: int = Field(default=8192, ge=1)
    positive: str | None = None
    level: float = Field(default=0.95, gt=0, lt=1)
