"""Sizes and settings of the main job on the embedded world."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.ppo import PPOSettings
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.config import Settings

MAX_TOKENS = 32  # of an answer; the longest ideal answer has fewer


class ExperimentSettings(Settings):
    """Sizes and settings of the main job; the defaults are the demo's.

    Settings are chosen with `evaluation_split` "validation", so that no held-out prompt of a report had a part in it.
    Every `judge_every` iterations PPO answers the held-out prompts, and gold judge and reward model score the answers.
    """

    demonstrations: int = Field(default=500, ge=1)
    ranked_prompts: int = Field(default=3600, ge=10)
    ranked_held_out: int = Field(default=900, ge=1)
    temperatures: tuple[float, ...] = (0.7, 1.0, 1.0, 1.3)
    top_p: float = Field(default=0.95, gt=0, le=1)
    evaluation_prompts: int = Field(default=540, ge=9)
    evaluation_split: Literal["held_out", "validation"] = "held_out"
    sft: SFTSettings = SFTSettings(epochs=2, batch_size=32, learning_rate=3e-4, max_length=200)
    reward: RewardSettings = RewardSettings(epochs=1, batch_size=16, learning_rate=1.5e-4, max_length=200)
    dpo: DPOSettings = DPOSettings(epochs=1, batch_size=64, learning_rate=3e-5, beta=0.4, max_length=200)
    ppo: PPOSettings = PPOSettings(
        iterations=60, batch_size=256, mini_batches=4, epochs=2, learning_rate=3e-4, schedule="constant",
        max_tokens=MAX_TOKENS, temperature=1.2, kl_coef=0.1, critic="shared",
    )  # fmt: skip
    judge_every: int = Field(default=6, ge=1)

    @property
    def no_kl(self) -> PPOSettings:
        """PPO's settings with a KL weight of 0, and nothing else changed."""
        return self.ppo.model_copy(update={"kl_coef": 0.0})
