"""A reward model learns from a crowd with bad annotators what it would have learned from the good ones alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from training_jobs import train_reward_model

from assent.algorithms.reward import RewardSettings
from assent.feedback.quality.consensus import ItemPair, Method, VoteTable, comparisons_of, soft_labels
from assent.feedback.votes import Table
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import new_reward_model
from assent.types import Completion, Conversation

WORDS = ("red", "blue", "green", "yes", "no", "maybe", "four", "sun")  # the first is the best, the last the worst
PAIRS = list(combinations(range(len(WORDS)), 2))
ITEMS_A_PAIR = 8
HONEST = (0.85,) * 10
SPOILT = (0.85,) * 5 + (0.15,) * 3 + (0.5,) * 2  # three say the opposite, two throw coins: right in 57.5 % of all
PROMPT = Conversation.of_user("what is it ?")


def crowd(right: Sequence[float], seed: int) -> VoteTable:
    """One to three of ten annotators on each item; each is right as often as `right` says."""
    rng = np.random.default_rng(seed)
    items = [pair for pair in PAIRS for _ in range(ITEMS_A_PAIR)]
    votes = [
        (item, int(person), float(rng.random() < right[person]))
        for item in range(len(items))
        for person in rng.permutation(len(right))[: rng.integers(1, 4)]
    ]
    item_V, person_V, vote_V = (np.array(column) for column in zip(*votes, strict=True))
    texts = [Table(completions=[Completion(text=WORDS[place]) for place in pair]) for pair in items]
    return VoteTable(
        pairs=tuple(ItemPair(item_id=item, first=0, second=1) for item in range(len(items))),
        people=tuple(range(len(right))), pair_V=item_V, person_V=person_V, vote_V=vote_V,
        known_P=np.full(len(items), np.nan), tables={item: (PROMPT, table) for item, table in enumerate(texts)},
    )  # fmt: skip


def share_right(table: VoteTable, method: Method, folder: Path, seed: int) -> float:
    """Pairs of words that a reward model, trained on the labels, tells right."""
    reward = new_reward_model(str(folder), machine=MachineOptions(device="cpu"), seed=seed)
    settings = RewardSettings(epochs=3, batch_size=16, learning_rate=3e-3)
    train_reward_model(reward, comparisons_of(table, soft_labels(table, method=method)), settings, seed=seed)
    scores = reward.scorer.score([PROMPT] * len(WORDS), [Completion(text=word) for word in WORDS])
    return sum(scores[better] > scores[worse] for better, worse in PAIRS) / len(PAIRS)


@pytest.mark.slow
def test_weighing_by_reliability_wins_back_what_bad_annotators_cost_and_beats_majority(
    folders: dict[str, Path],
) -> None:
    seeds, folder = range(4), folders["llama"]
    honest = sum(share_right(crowd(HONEST, seed), "share", folder, seed) for seed in seeds)
    share, majority, weighed = (
        sum(share_right(crowd(SPOILT, seed), method, folder, seed) for seed in seeds)
        for method in ("share", "majority", "reliability")
    )
    assert honest - share > 0.2, "the crowd costs too little to tell"
    assert weighed - share > 0.5 * (honest - share)
    assert weighed > majority
