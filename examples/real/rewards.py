"""The rewards and measures of the real jobs: plain functions.

On the command line: `assent ppo --reward examples/real/rewards.py:right --reward examples/real/rewards.py:in_form ...`
"""

from __future__ import annotations

import math
import os
import re
from functools import cache

import assent
from assent.recipes.run.models import RewardModel
from assent.types import Completion, Conversation

FORM = re.compile(r"[^\n]*Answer: (-?\d+)\.?")
FREE_WORDS = 16


def right(completions: list[str], expected: list[int]) -> list[float]:
    """1 where an answer in the right form is the expected number."""
    found = [FORM.fullmatch(text.strip()) for text in completions]
    return [float(one is not None and int(one[1]) == number) for one, number in zip(found, expected, strict=True)]


def in_form(completions: list[str]) -> list[float]:
    """1 for a single line that ends with "Answer: NUMBER"."""
    return [float(FORM.fullmatch(text.strip()) is not None) for text in completions]


def brief(completions: list[str]) -> list[float]:
    """0 up to 16 words, then down to -1 at twice as many."""
    return [-min(1.0, max(0.0, len(text.split()) / FREE_WORDS - 1)) for text in completions]


def words(completions: list[str]) -> list[float]:
    """The length in words."""
    return [float(len(text.split())) for text in completions]


def knows(completions: list[str], expected: list[str]) -> list[float]:
    """1 where the completion names what is expected, in any of the forms that | separates."""
    return [
        float(any(re.search(rf"\b{re.escape(one)}\b", text, re.IGNORECASE) for one in forms.split("|")))
        for text, forms in zip(completions, expected, strict=True)
    ]


@cache
def classifier(folder: str) -> RewardModel:
    """The classifier, loaded once."""
    return assent.load_reward(folder)


def civil(completions: list[str]) -> list[float]:
    """The logit of "neither hateful nor offensive" that the classifier in the folder CLASSIFIER gives.

    It sees the completion alone: it learned single tweets, and the policy is not to blame for the prompt.
    """
    alone = Conversation(messages=())
    return classifier(os.environ["CLASSIFIER"]).scorer.score(
        [alone] * len(completions), [Completion(text=text) for text in completions]
    )


def toxicity(completions: list[str]) -> list[float]:
    """The probability that the classifier gives "hateful or offensive"."""
    return [1 / (1 + math.exp(logit)) for logit in civil(completions)]
