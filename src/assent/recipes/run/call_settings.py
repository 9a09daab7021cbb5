"""Settings of the calls of the Python API: what the algorithm takes, and how the data is read."""

from __future__ import annotations

import functools
from typing import Literal

from pydantic import Field, create_model

from assent.algorithms.methods import METHODS, load_named
from assent.config import Settings
from assent.recipes.run.job_settings import AnswerSettings, MeasuringSettings, SamplingSettings
from assent.recipes.run.machine import MOST_RANKS, MOST_THREADS, MachineOptions
from assent.recipes.run.reading_settings import Reading


class Call(Settings):
    """What every call of the Python API takes beside its settings, for files and for rows in memory alike."""

    seed: int = Field(default=0, ge=0)
    format: str | None = None
    on_bad_row: Literal["stop", "skip"] = "stop"
    limit: int | None = Field(default=None, ge=1)
    reading: Reading = Reading()


class AdapterCall(Call):
    """A call that may put a fresh adapter on its model."""

    lora_rank: int = Field(default=0, ge=0, le=MOST_RANKS)


class OnPolicyCall(Call):
    """A call that learns from rewards. What is no setting is taken out of the keywords before these are read."""

    ptx_data: object = None


class CostCall(OnPolicyCall):
    """A call with a cost beside the reward."""

    cost: object = None


@functools.cache
def call_settings(method: str) -> type[Call]:
    """The settings of a method's function: its own, and those of every call."""
    own, entry = load_named(METHODS[method].settings), METHODS[method]
    shared = CostCall if entry.needs_cost else OnPolicyCall if entry.needs_reward else Call
    if entry.makes == "reward model":
        shared = AdapterCall
    return create_model(f"{own.__name__}OfCall", __base__=(shared, own))


class SampleCall(Call, AnswerSettings):
    """`assent.sample`."""


class JudgeCall(Call, SamplingSettings):
    """`assent.evaluate` of a policy."""

    reward_weights: tuple[float, ...] = ()


class MeasureCall(Call, MeasuringSettings):
    """`assent.evaluate` of a reward model."""


class EvaluateCall(JudgeCall, MeasureCall):
    """All that `assent.evaluate` takes."""


class LoadCall(MachineOptions):
    """`assent.load`."""

    lora_rank: int = Field(default=0, ge=0, le=MOST_RANKS)


class ThreadCall(Settings):
    """`assent.set_threads`."""

    threads: int = Field(ge=1, le=MOST_THREADS)
