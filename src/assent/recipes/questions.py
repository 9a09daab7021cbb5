"""Questions for people: sample candidates from a policy, and choose what the reward model in training would learn most
from. Bootstrapped heads on its trunk say where it does not know; a permanent random arm measures what that saves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from assent.algorithms.heads import Floats, Heads, Judged, fit_heads
from assent.config import Settings
from assent.feedback.asking import Asking, Questions, Queue, choose_questions
from assent.feedback.records import Candidate, NewItem
from assent.ports.sampling import Progress, Sampling, silent
from assent.recipes.features import features_of
from assent.recipes.models import LanguageModel, RewardModel
from assent.seeds import derive, numpy_rng
from assent.types import Comparison, Completion, Conversation

RANDOM = "random"


class AskingSettings(Settings):
    """How questions are made: samples per prompt, how many of them a question shows, and who chooses.

    `serves` "reward_model" asks what is informative for it, "policy" what differs surely; `random_share` of the
    prompts is asked as a control whatever the reward model says. Without a reward model all is random.
    """

    samples_per_prompt: int = Field(default=6, ge=2, le=32)
    shown: int = Field(default=2, ge=2, le=9)
    temperatures: tuple[float, ...] = (0.7, 1.0, 1.3)
    max_tokens: int = Field(default=128, ge=1)
    batch_size: int = Field(default=128, ge=1)
    serves: Literal["reward_model", "policy"] = "reward_model"
    choose: Literal["thompson", "value"] = "value"
    random_share: float = Field(default=0.15, ge=0, le=1)
    novelty: float = Field(default=0.3, ge=0, le=1)
    heads: int = Field(default=12, ge=2)
    prior_spread: float = Field(default=0.3, gt=0)
    accuracy: float = Field(default=0.75, ge=0.5, le=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Prompts with their different sampled completions; `temperature_of` goes with them."""

    prompts: tuple[Conversation, ...]
    completions: tuple[tuple[Completion, ...], ...]
    temperatures: tuple[tuple[float, ...], ...]


def sample_pool(
    model: LanguageModel,
    prompts: Sequence[Conversation],
    settings: AskingSettings,
    *,
    seed: int,
    progress: Progress = silent,
) -> Pool:
    """Sample candidates at the temperatures in turn; equal texts count once, prompts with one text are left out."""
    found: list[dict[str, tuple[Completion, float]]] = [{} for _ in prompts]
    for turn in range(settings.samples_per_prompt):
        temperature = settings.temperatures[turn % len(settings.temperatures)]
        sampling = Sampling(max_tokens=settings.max_tokens, temperature=temperature, batch_size=settings.batch_size)
        written = model.sampler.sample(prompts, sampling=sampling, seed=derive(seed, "pool", turn), progress=progress)
        for place, one in enumerate(written):
            if one.completion.text.strip():
                found[place].setdefault(one.completion.text.strip(), (one.completion, temperature))
    kept = [place for place, texts in enumerate(found) if len(texts) >= 2]
    return Pool(
        prompts=tuple(prompts[place] for place in kept),
        completions=tuple(tuple(completion for completion, _ in found[place].values()) for place in kept),
        temperatures=tuple(tuple(heat for _, heat in found[place].values()) for place in kept),
    )


def questions(
    pool: Pool,
    settings: AskingSettings,
    *,
    seed: int,
    reward: RewardModel | None = None,
    judged: Sequence[Comparison] = (),
) -> Questions:
    """The order of the pool's prompts and which completions to show; all at random without a reward model."""
    keys = [prompt_key(prompt) for prompt in pool.prompts]
    widest = max(map(len, pool.completions))
    asking = Asking(
        serves=settings.serves, size=min(settings.shown, widest), choose=settings.choose, accuracy=settings.accuracy,
        novelty=settings.novelty, random_share=settings.random_share, seed=seed,
    )  # fmt: skip
    there = [(row, place) for row, texts in enumerate(pool.completions) for place in range(len(texts))]
    if reward is None or not judged:
        score_HNK = np.full((2, len(keys), widest), np.nan)
        for row, place in there:
            score_HNK[:, row, place] = 0.0
        everyone = Asking(size=asking.size, random_share=1.0, seed=seed)
        return choose_questions(Queue(keys=keys, score_HNK=score_HNK), everyone)
    flat = [(pool.prompts[row], pool.completions[row][place]) for row, place in there]
    feature_ND = features_of(reward, flat)
    heads = _heads(reward, judged, feature_ND, settings, seed)
    score_HNK = np.full((settings.heads, len(keys), widest), np.nan)
    reward_HN = heads.rewards(feature_ND)
    for column, (row, place) in enumerate(there):
        score_HNK[:, row, place] = reward_HN[:, column]
    first = {row: column for column, (row, place) in reversed(list(enumerate(there))) if place == 0}
    prompt_ND = (feature_ND[[first[row] for row in range(len(keys))]] - heads.mean_D) / heads.spread_D
    return choose_questions(Queue(keys=keys, score_HNK=score_HNK, feature_ND=prompt_ND), asking)


def _heads(
    reward: RewardModel, judged: Sequence[Comparison], pool_ND: Floats, settings: AskingSettings, seed: int
) -> Heads:
    sides = [(one.prompt, one.chosen) for one in judged] + [(one.prompt, one.rejected) for one in judged]
    judged_ND = features_of(reward, sides)
    count = len(judged)
    places = Judged(
        better_P=np.arange(count), worse_P=np.arange(count, 2 * count),
        probability_P=np.array([one.probability for one in judged]),
    )  # fmt: skip
    return fit_heads(
        np.concatenate([judged_ND, pool_ND]), places, heads=settings.heads, prior_spread=settings.prior_spread,
        seed=derive(seed, "heads"),
    )  # fmt: skip


def new_items(pool: Pool, asked: Questions, *, count: int, batch: str, model: str, sha256: str) -> list[NewItem]:
    """The first `count` questions as items of a queue; a key makes asking the same twice harmless."""
    items = []
    for row in asked.order_N[:count].tolist():
        shown = [place for place in asked.candidates_NS[row].tolist() if place >= 0]
        if len(shown) < 2:
            continue
        candidates = tuple(
            Candidate(
                text=pool.completions[row][place].text, stop=pool.completions[row][place].stop, model=model,
                checkpoint_sha256=sha256, sampling={"temperature": pool.temperatures[row][place]},
            )
            for place in shown
        )  # fmt: skip
        items.append(
            NewItem(
                prompt=pool.prompts[row], candidates=candidates, priority=float(asked.priority_N[row]),
                serves=asked.serves[row], key=f"{batch}.{prompt_key(pool.prompts[row])}", batch=batch,
            )
        )  # fmt: skip
    return items


def prompt_key(prompt: Conversation) -> str:
    """A short name of a prompt that depends on its text alone."""
    text = "\0".join(f"{message.role}\0{message.content}" for message in prompt.messages)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def shuffled(prompts: Sequence[Conversation], *, seed: int) -> list[Conversation]:
    """The prompts in a random order of their own."""
    order = numpy_rng(seed, "prompts").permutation(len(prompts))
    return [prompts[int(place)] for place in order]
