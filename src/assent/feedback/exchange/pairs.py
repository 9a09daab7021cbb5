"""Standing answers -> training data: comparisons, rankings, ratings, demonstrations, corrections, red-team rows.

Consensus of P people on a pair of completions, with v_p = P(first is better) as person p has it and weight w_p:

    votes      one comparison an answer
    soft       one comparison with probability  sum_p w_p v_p / sum_p w_p          disagreement becomes a soft label
    majority   one comparison with probability  1, 1/2 or 0 by the sign of  sum_p w_p (v_p - 1/2)

Control items and silent repeats are left out unless asked for: they are there to measure people.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from assent.feedback.exchange.aggregation import Aggregation, mean_of, provenance_of_all
from assent.feedback.records import CHAT_CHOICES, AnsweredItem, Event, EventKind, conversation_from_json
from assent.feedback.votes import Table, Vote, is_prompt, table_of, unreadable, votes_of, worth_of
from assent.types import Comparison, Completion, Ranking

_ROUNDING = 1e-12  # votes that balance but for the last bit are a tie


def item_pairs(answered: AnsweredItem, aggregation: Aggregation) -> list[Comparison]:
    """The comparisons of one item: of its completions and what people made of them, and of the turns of chats."""
    events = aggregation.included_events(answered)
    made: list[Comparison] = []
    if is_prompt(answered.item.new.prompt):
        table, votes = votes_of(answered, events, strengths=aggregation.strengths, criterion=aggregation.criterion)
        made += [_comparison(answered, table, vote) for vote in _agreed(votes, aggregation)]
    if not aggregation.criterion:
        made += [pair for event in events if (pair := _chat_pair(event)) is not None]
    if aggregation.labels == "binary":
        return [replace(pair, probability=1.0, margin=0.0) for pair in made if pair.probability != 0.5]
    return made


def item_rankings(answered: AnsweredItem, aggregation: Aggregation) -> list[Ranking]:
    """The rankings of one item; `aggregation.consensus` "votes": one an answer, else one by the weighted mean rank."""
    if not is_prompt(answered.item.new.prompt):
        return []
    table, places = table_of(answered)
    told: list[tuple[Event, dict[int, float]]] = []
    for event in aggregation.included_events(answered):
        if event.kind is EventKind.GOOD_BAD or (event.kind is EventKind.CORRECTION and not event.payload.get("ranks")):
            continue
        worth = worth_of(event, len(answered.item.new.candidates), criterion=aggregation.criterion)
        worth_of_place = {places[position]: value for position, value in worth.items() if position in places}
        if len(worth_of_place) >= 2:
            told.append((event, worth_of_place))
    if aggregation.consensus == "votes":
        return [_ranking(answered, table, worth, [event]) for event, worth in told]
    mean = _mean_ranks(told, aggregation)
    return [_ranking(answered, table, mean, [event for event, _ in told])] if len(mean) >= 2 else []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Agreed:
    first: int
    second: int
    probability: float
    margin: float
    events: tuple[Event, ...]


def _agreed(votes: Sequence[Vote], aggregation: Aggregation) -> Iterator[_Agreed]:
    """The votes by consensus; in a mean, a person's votes on one pair count as one."""
    gathered: dict[tuple[int, ...], list[Vote]] = {}
    for vote in votes:
        answer = (vote.event.seq,) if aggregation.consensus == "votes" else ()
        gathered.setdefault((*answer, vote.first, vote.second), []).append(vote)
    for told in gathered.values():
        events = tuple({vote.event.seq: vote.event for vote in told}.values())
        of_person = Counter(vote.event.person_id for vote in told)
        weights = [aggregation.weight(vote.event.person_id) / of_person[vote.event.person_id] for vote in told]
        probability = mean_of([(vote.probability, weight) for vote, weight in zip(told, weights, strict=True)])
        margin = mean_of([(vote.margin, weight) for vote, weight in zip(told, weights, strict=True)])
        if math.isclose(probability, 0.5, abs_tol=_ROUNDING):
            probability = 0.5
        if aggregation.consensus == "majority":
            probability = 0.5 if probability == 0.5 else float(probability > 0.5)
        yield _Agreed(first=told[0].first, second=told[0].second, probability=probability, margin=margin, events=events)


def _comparison(answered: AnsweredItem, table: Table, agreed: _Agreed) -> Comparison:
    """Turned so that `chosen` is better with probability at least one half."""
    first, second = table.completions[agreed.first], table.completions[agreed.second]
    turned = agreed.probability < 0.5
    margin = -agreed.margin if turned else agreed.margin
    return Comparison(
        prompt=answered.item.new.prompt,
        chosen=second if turned else first,
        rejected=first if turned else second,
        probability=1.0 - agreed.probability if turned else agreed.probability,
        margin=max(0.0, margin) if agreed.probability != 0.5 else 0.0,
        group=f"item {answered.item.id}",
        provenance=provenance_of_all(agreed.events),
    )


def _chat_pair(event: Event) -> Comparison | None:
    """The comparison of a turn with two answers; none where both were bad, alike, or only one was asked for."""
    if event.kind is not EventKind.CHAT_TURN:
        return None
    try:
        prompt = conversation_from_json(event.payload["conversation"])
        first, second, choice = event.payload["a"], event.payload.get("b"), event.payload.get("choice")
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(event) from error
    if choice not in CHAT_CHOICES or choice == "both_bad" or not isinstance(first, str) or not isinstance(second, str):
        return None
    if first.strip() == second.strip() or not first.strip() or not second.strip() or not is_prompt(prompt):
        return None
    chosen, rejected = (second, first) if choice == "b" else (first, second)
    return Comparison(
        prompt=prompt, chosen=Completion(text=chosen), rejected=Completion(text=rejected),
        probability=0.5 if choice == "tie" else 1.0, group=f"turn {event.seq}", provenance=provenance_of_all([event]),
    )  # fmt: skip


def _mean_ranks(told: Sequence[tuple[Event, Mapping[int, float]]], aggregation: Aggregation) -> dict[int, float]:
    """Minus the weighted mean rank of each place that everybody ranked; ranks of ties are their middle."""
    shared = set.intersection(*(set(worth) for _, worth in told)) if told else set()
    ranks: dict[int, list[tuple[float, float]]] = {place: [] for place in sorted(shared)}
    for event, worth in told:
        for place in ranks:
            above = sum(worth[other] > worth[place] for other in shared)
            level = sum(worth[other] == worth[place] for other in shared)
            ranks[place].append((above + (level + 1) / 2, aggregation.weight(event.person_id)))
    return {place: -mean_of(given) for place, given in ranks.items()}


def _ranking(answered: AnsweredItem, table: Table, worth: Mapping[int, float], events: Sequence[Event]) -> Ranking:
    places, group = sorted(worth), f"item {answered.item.id}"
    texts = tuple(table.completions[place] for place in places)
    ranks = tuple(1 + sum(worth[other] > worth[place] for other in places) for place in places)
    prompt, provenance = answered.item.new.prompt, provenance_of_all(events)
    return Ranking(prompt=prompt, completions=texts, ranks=ranks, group=group, provenance=provenance)
