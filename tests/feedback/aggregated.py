"""Training data of answered items, item after item: what the export does, with the choices as keywords."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from assent.feedback.exchange.aggregation import Aggregation
from assent.feedback.exchange.pairs import item_pairs, item_rankings
from assent.feedback.exchange.single_completions import (
    RedTeamTalk,
    item_corrections,
    item_demonstrations,
    item_ratings,
    item_red_team,
)
from assent.feedback.records import AnsweredItem
from assent.types import Comparison, Correction, Demonstration, Ranking, Rating

Answered = Iterable[AnsweredItem]


def pairs_of(answered: Answered, **choices: Any) -> list[Comparison]:
    return [pair for one in answered for pair in item_pairs(one, Aggregation(**choices))]


def rankings_of(answered: Answered, **choices: Any) -> list[Ranking]:
    return [ranking for one in answered for ranking in item_rankings(one, Aggregation(consensus="votes", **choices))]


def mean_rankings_of(answered: Answered) -> list[Ranking]:
    return [ranking for one in answered for ranking in item_rankings(one, Aggregation())]


def ratings_of(answered: Answered) -> list[Rating]:
    return [rating for one in answered for rating in item_ratings(one, Aggregation(consensus="votes"))]


def mean_ratings_of(answered: Answered, **choices: Any) -> list[Rating]:
    return [rating for one in answered for rating in item_ratings(one, Aggregation(**choices))]


def demonstrations_of(answered: Answered) -> list[Demonstration]:
    return [shown for one in answered for shown in item_demonstrations(one, Aggregation())]


def corrections_of(answered: Answered) -> list[Correction]:
    return [correction for one in answered for correction in item_corrections(one, Aggregation())]


def red_team_of(answered: Answered) -> list[RedTeamTalk]:
    return [talk for one in answered for talk in item_red_team(one, Aggregation())]
