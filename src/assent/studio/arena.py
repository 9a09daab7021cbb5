"""The arena: battles between models from people's answers, and their standings as the page shows them.

A chat turn with two models is one battle; a ranking or a pairwise answer is one for every pair of completions that
came from different models. Flags, skips and answers taken back are none, and "both bad" counts as a tie.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from assent.feedback.annotation_source import AnnotationSource, all_answered
from assent.feedback.quality.arena_ratings import Battle, Island, Matchup, Outcome, Rating, Standings, standings
from assent.feedback.records import AnsweredItem, Event, EventKind
from assent.feedback.votes import worth_of
from assent.studio import wording

MOST_BATTLES = 200_000  # the latest; more would make a page wait
RESAMPLES = 400
RESAMPLES_OF_MANY = 150
MANY = 20_000
_COMPARING = (EventKind.RANKING, EventKind.PAIRWISE)


def battles_of(answered: AnsweredItem) -> Iterator[Battle]:
    """Every comparison of two different models in the standing answers to one item; the item is their group."""
    for event in answered.events:
        if event.kind is EventKind.CHAT_TURN:
            battle = _chat_battle(event)
            if battle is not None:
                yield battle
        elif event.kind in _COMPARING:
            yield from _answer_battles(answered, event)


class Arena:
    """Standings of projects, computed again only when answers have come; safe in threads."""

    def __init__(self, source: AnnotationSource) -> None:
        self._source = source
        self._kept: dict[tuple[int, ...], tuple[tuple[int, ...], Standings]] = {}  # by projects: the state, its table
        self._lock = threading.Lock()

    def table(self, project_ids: Sequence[int], state: tuple[int, ...]) -> Standings:
        """The standings over all of `project_ids`; `state` is anything that changes when an answer comes."""
        key = tuple(sorted(project_ids))
        with self._lock:  # one at a time: two people looking at the page do not make it count twice
            kept = self._kept.get(key)
            if kept is None or kept[0] != state:
                kept = state, self._counted(key)
                self._kept = {**dict(list(self._kept.items())[-20:]), key: kept}
            return kept[1]

    def _counted(self, project_ids: Sequence[int]) -> Standings:
        battles = [
            battle
            for project_id in project_ids
            for answered in all_answered(self._source, project_id)
            for battle in battles_of(answered)
        ][-MOST_BATTLES:]
        return standings(battles, resamples=RESAMPLES_OF_MANY if len(battles) > MANY else RESAMPLES)


def arena_view(table: Standings) -> dict[str, Any]:
    """The table as the page and its script show it; `version` changes when anything of it does."""
    view = {
        "islands": [_island(island) for island in table.islands if island.rated],
        "alone": [island.ratings[0].model for island in table.islands if not island.rated],
        "reasons": list(table.reasons),
        "comparable": table.comparable,
        "battles": wording.count(table.battles),
        "groups": wording.count(table.groups),
        "first_share": wording.share(table.first_won[0] / table.first_won[1]) if table.first_won[1] else "",
        "matrix": _matrix(table),
    }
    return {**view, "version": hashlib.sha256(json.dumps(view, sort_keys=True).encode()).hexdigest()[:16]}


def _island(island: Island) -> dict[str, Any]:
    return {
        "rows": [_row(rating) for rating in island.ratings],
        "dots": [
            {
                "name": one.model,
                "value": round(one.rating),  # as the table beside it has it
                "low": None if one.low is None else round(one.low),
                "high": None if one.high is None else round(one.high),
            }
            for one in island.ratings
        ],
    }


def _row(rating: Rating) -> dict[str, str]:
    best, worst = rating.places
    low = "open" if rating.low is None else wording.figure(rating.low, 0)
    high = "open" if rating.high is None else wording.figure(rating.high, 0)
    return {
        "model": rating.model,
        "place": str(best) if best == worst else f"{best}{wording.DASH}{worst}",
        "rating": wording.figure(rating.rating, 0),
        "interval": f"{low}{wording.DASH}{high}",
        "battles": wording.count(rating.battles),
        "won": wording.share((rating.wins + rating.ties / 2) / rating.battles),
        "wins": wording.count(rating.wins),
        "ties": wording.count(rating.ties),
        "losses": wording.count(rating.losses),
    }


def _matrix(table: Standings) -> dict[str, Any]:
    """Shares of decided and tied comparisons that the row won against the column (a tie is half)."""
    names = [rating.model for island in table.islands for rating in island.ratings]
    cells: dict[tuple[str, str], tuple[float, int]] = {}
    for pair in table.pairs:
        met = pair.won + pair.tied + pair.lost
        cells[pair.first, pair.second] = (_points(pair) / met, met)
        cells[pair.second, pair.first] = (1 - _points(pair) / met, met)
    rows = [{"model": name, "cells": [_cell(cells.get((name, other))) for other in names]} for name in names]
    return {"names": names, "rows": rows}


def _points(pair: Matchup) -> float:
    return pair.won + pair.tied / 2


def _cell(known: tuple[float, int] | None) -> dict[str, Any]:
    if known is None:
        return {"text": "", "met": "", "tone": -1}
    won, met = known
    return {"text": wording.share(won), "met": wording.count(met), "tone": round(10 * won)}


def _chat_battle(event: Event) -> Battle | None:
    models, choice = event.payload.get("models"), event.payload.get("choice")
    if not isinstance(models, Sequence) or len(models) != 2 or not all(models) or models[0] == models[1] or not choice:
        return None
    won: Outcome = "first" if choice == "a" else "second" if choice == "b" else "tie"
    group = (event.project_id, event.item_id, event.person_id)
    return Battle(first=str(models[0]), second=str(models[1]), won=won, group=group)


def _answer_battles(answered: AnsweredItem, event: Event) -> Iterator[Battle]:
    candidates = answered.item.new.candidates
    worth = worth_of(event, len(candidates))
    slots = {position: slot for slot, position in enumerate(event.order)}
    for one, other in combinations(sorted(worth, key=lambda position: slots.get(position, position)), 2):
        first, second = candidates[one].model, candidates[other].model
        if first and second and first != second:
            gain = worth[one] - worth[other]
            won: Outcome = "first" if gain > 0 else "second" if gain < 0 else "tie"
            yield Battle(first=first, second=second, won=won, group=(event.project_id, event.item_id))
