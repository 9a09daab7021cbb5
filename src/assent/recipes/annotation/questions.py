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

from assent.active_learning.acquisition import Acquisition, Questions, Queue, choose_questions
from assent.active_learning.selection import pair_places
from assent.config import Settings
from assent.feedback.quality.resampling import Integers
from assent.feedback.records import Candidate, NewItem
from assent.model.linear_heads import Floats, HeadExamples, fit_heads
from assent.ports.sampling import Progress, SamplingParams, silent
from assent.recipes.run.features import features_of
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.seeds import derive, numpy_rng
from assent.types import Comparison, Completion, Conversation


class AcquisitionSettings(Settings):
    """How questions are made: samples per prompt, how many of them a question shows, and who chooses.

    `serves` "reward_model" asks what is informative for it, "policy" what differs surely; `random_share` of the
    prompts is asked as a control whatever the reward model says. Without a reward model all is random.
    """

    samples_per_prompt: int = Field(default=6, ge=2, le=32)
    shown: int = Field(default=2, ge=2, le=9)
    temperatures: tuple[float, ...] = (0.7, 1.0, 1.3)
    max_tokens: int = Field(default=128, ge=1)
    serves: Literal["reward_model", "policy"] = "reward_model"
    choose: Literal["thompson", "value"] = "value"
    random_share: float = Field(default=0.15, ge=0, le=1)
    best_share: float = Field(default=0.5, ge=0, le=1)
    novelty: float = Field(default=0.0, ge=0, le=1)
    heads: int = Field(default=32, ge=2)
    prior_spread: float = Field(default=0.0, ge=0)
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
    settings: AcquisitionSettings,
    *,
    seed: int,
    progress: Progress = silent,
) -> Pool:
    """Sample candidates at the temperatures in turn; equal texts count once, prompts with one text are left out."""
    found: list[dict[str, tuple[Completion, float]]] = [{} for _ in prompts]
    for turn in range(settings.samples_per_prompt):
        temperature = settings.temperatures[turn % len(settings.temperatures)]
        sampling = SamplingParams(max_tokens=settings.max_tokens, temperature=temperature)
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Read:
    """Features of a pool's completions, prompt after prompt, and of labelled pairs with P(better wins)."""

    pool_ND: Floats
    better_PD: Floats
    worse_PD: Floats
    probability_P: Floats


def questions(
    pool: Pool,
    settings: AcquisitionSettings,
    *,
    seed: int,
    reward: RewardModel | None = None,
    comparisons: Sequence[Comparison] = (),
) -> Questions:
    """The order of the pool's prompts and which completions to show; all at random without a reward model."""
    if reward is None or not comparisons:
        return questions_at_random(pool, settings, seed=seed)
    pairs = [(prompt, one) for prompt, texts in zip(pool.prompts, pool.completions, strict=True) for one in texts]
    sides = [(one.prompt, one.chosen) for one in comparisons] + [(one.prompt, one.rejected) for one in comparisons]
    feature_ND = features_of(reward, [*pairs, *sides])
    read = Read(
        pool_ND=feature_ND[: len(pairs)],
        better_PD=feature_ND[len(pairs) : len(pairs) + len(comparisons)],
        worse_PD=feature_ND[len(pairs) + len(comparisons) :],
        probability_P=np.array([one.probability for one in comparisons]),
    )
    return questions_by_reading(pool, settings, read, seed=seed)


def questions_at_random(pool: Pool, settings: AcquisitionSettings, *, seed: int) -> Questions:
    """Every prompt in the random arm."""
    place_NK = _places(pool)
    score_HNK = np.where(place_NK < 0, np.nan, np.zeros((2, 1, 1)))
    everyone = Acquisition(size=min(settings.shown, place_NK.shape[1]), random_share=1.0, seed=seed)
    return choose_questions(Queue(keys=[prompt_key(prompt) for prompt in pool.prompts], score_HNK=score_HNK), everyone)


def questions_by_reading(pool: Pool, settings: AcquisitionSettings, read: Read, *, seed: int) -> Questions:
    """The order by what heads on these features would learn from an answer."""
    place_NK = _places(pool)
    count = len(read.probability_P)
    better_P, worse_P = np.arange(count), np.arange(count, 2 * count)
    heads = fit_heads(
        np.concatenate([read.better_PD, read.worse_PD, read.pool_ND]),
        HeadExamples(better_P=better_P, worse_P=worse_P, probability_P=read.probability_P),
        heads=settings.heads, prior_spread=settings.prior_spread, seed=derive(seed, "heads"),
    )  # fmt: skip
    score_HNK = np.where(place_NK < 0, np.nan, heads.rewards(read.pool_ND)[:, place_NK])
    acquisition = Acquisition(
        serves=settings.serves, size=min(settings.shown, place_NK.shape[1]), choose=settings.choose,
        accuracy=settings.accuracy, best_share=settings.best_share, novelty=settings.novelty,
        random_share=settings.random_share, seed=seed,
    )  # fmt: skip
    standard_ND = (read.pool_ND - heads.mean_D) / heads.spread_D
    queue = Queue(
        keys=[prompt_key(prompt) for prompt in pool.prompts], score_HNK=score_HNK,
        feature_ND=standard_ND[place_NK[:, 0]], distance_NP=_distances(standard_ND, place_NK),
    )  # fmt: skip
    return choose_questions(queue, acquisition)


def _distances(feature_ND: Floats, place_NK: Integers) -> Floats:
    """How far apart the two completions of every pair are, [N, P]; 0 where one of them is missing."""
    first_P, second_P = pair_places(place_NK.shape[1])
    found_NP = np.zeros((len(place_NK), len(first_P)))
    for pair, (first, second) in enumerate(zip(first_P, second_P, strict=True)):
        rows = np.flatnonzero((place_NK[:, first] >= 0) & (place_NK[:, second] >= 0))
        apart = feature_ND[place_NK[rows, first]] - feature_ND[place_NK[rows, second]]
        found_NP[rows, pair] = np.linalg.norm(apart, axis=1)
    return found_NP


def _places(pool: Pool) -> Integers:
    """The row of every candidate among all completions, [N, K]; -1 where a prompt has fewer."""
    sizes_N = np.array([len(texts) for texts in pool.completions])
    column_K, first_N = np.arange(sizes_N.max()), np.cumsum(sizes_N) - sizes_N
    return np.where(column_K < sizes_N[:, None], first_N[:, None] + column_K, -1)


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
