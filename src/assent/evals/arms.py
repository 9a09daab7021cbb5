"""The arms of a run (base, sft, ...): the names people read, their colours and their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_Value = TypeVar("_Value")
ARM_NAMES = {
    "base": "Base",
    "sft": "SFT",
    "dpo": "DPO",
    "ppo": "PPO",
    "no_kl": "No KL",
    "oracle": "Ceiling",
    "ideal": "Ideal",
    "before": "Before",
    "after": "After",
}
_COLOURS = {"before": "base", "after": "ppo"}


def arm_name(arm: str) -> str:
    """The name people read; an unknown arm keeps its own."""
    return ARM_NAMES.get(arm, arm)


def ordered(arms: Mapping[str, _Value]) -> dict[str, _Value]:
    """The arms in the order of training, those with names of their own last."""
    places = list(ARM_NAMES)
    return dict(sorted(arms.items(), key=lambda pair: places.index(pair[0]) if pair[0] in places else len(places)))


def judge_name(judge: str) -> str:
    """The judge as the object of a sentence."""
    return f"the {judge} judge" if judge == "gold" else f"the {judge}" if judge.startswith("reward model") else judge


def colour(arm: str) -> str:
    """The colour class of an arm; unknown arms share one."""
    return _COLOURS.get(arm, arm if arm in ARM_NAMES else "other")
