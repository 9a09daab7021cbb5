"""The questions that wait in a studio, ordered anew by a reward model; and what it says of them, for the overlap."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from assent.errors import StoreError
from assent.feedback.records import NewItem, conversation_from_json
from assent.recipes.annotation.questions import AcquisitionSettings, Pool, questions
from assent.recipes.annotation.studio_client import StudioClient
from assent.recipes.run.models import RewardModel
from assent.types import Comparison, Completion, Conversation, StopReason


def refresh(
    studio: StudioClient,
    project: int,
    settings: AcquisitionSettings,
    *,
    seed: int,
    reward: RewardModel,
    comparisons: Sequence[Comparison],
) -> int:
    """Give every item of the project's queue its place by what its answer would teach; returns how many there are.

    What an item shows stays as it is. With the `seed` of its acquisition, the random arm stays too.
    """
    items = [item for item in studio.queue(project) if len(item["candidates"]) >= 2]
    if not items:
        raise StoreError("no questions wait there", where=studio.url, now="Fill the queue with `assent collect`.")
    pool = Pool(
        prompts=tuple(_prompt(item) for item in items),
        completions=tuple(_completions(item) for item in items),
        temperatures=tuple((1.0,) * len(item["candidates"]) for item in items),
    )
    widest = max(map(len, pool.completions))
    settings = settings.model_copy(update={"shown": widest})
    asked = questions(pool, settings, seed=seed, reward=reward, comparisons=comparisons)
    places = zip(items, asked.priority_N.tolist(), strict=True)
    studio.set_priorities(project, {item["id"]: float(place) for item, place in places})
    return len(items)


def predict(studio: StudioClient, project: int, reward: RewardModel) -> int:
    """Tell the studio what the reward model thinks of every item's candidates; returns of how many items."""
    items = [item for item in studio.queue(project) if item["candidates"]]
    scores = scores_of(reward, [(_prompt(item), _completions(item)) for item in items])
    studio.set_predictions(project, {item["id"]: row for item, row in zip(items, scores, strict=True)})
    return len(items)


def with_predictions(items: Sequence[NewItem], reward: RewardModel) -> list[NewItem]:
    """The items with what the reward model thinks of their candidates."""
    pairs = [(item.prompt, tuple(candidate.completion for candidate in item.candidates)) for item in items]
    scores = scores_of(reward, pairs)
    return [dataclasses.replace(item, predicted=tuple(row)) for item, row in zip(items, scores, strict=True)]


def scores_of(reward: RewardModel, kept: list[tuple[Conversation, tuple[Completion, ...]]]) -> list[tuple[float, ...]]:
    """The reward of each completion of each prompt, in logits, to four places."""
    flat = [(prompt, completion) for prompt, completions in kept for completion in completions]
    scored = iter(reward.scorer.score([prompt for prompt, _ in flat], [completion for _, completion in flat]))
    return [tuple(round(next(scored), 4) for _ in completions) for _, completions in kept]


def _prompt(item: Mapping[str, Any]) -> Conversation:
    return conversation_from_json(item["prompt"])


def _completions(item: Mapping[str, Any]) -> tuple[Completion, ...]:
    return tuple(Completion(text=one["text"], stop=StopReason(one["stop"])) for one in item["candidates"])
