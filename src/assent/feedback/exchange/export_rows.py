"""What the rows of each export format hold: one function per format, from an answered item to plain rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from assent.feedback.exchange.aggregation import Aggregation
from assent.feedback.exchange.pairs import item_pairs, item_rankings
from assent.feedback.exchange.single_completions import (
    item_corrections,
    item_demonstrations,
    item_ratings,
    item_red_team,
)
from assent.feedback.records import AnsweredItem, Event, conversation_to_json, learned_to_json
from assent.feedback.votes import is_prompt, votes_of
from assent.types import Comparison, Completion, Conversation, Provenance, Role

Row = dict[str, Any]
Cell = Literal["text", "number", "integer", "true_false", "texts", "integers", "messages", "learned_messages", "json"]
Columns = Mapping[str, Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What is exported: see `ROW_FORMATS` for the formats. Model names stay out unless `models` is set."""

    format: str = "pairs"
    aggregation: Aggregation = field(default_factory=Aggregation)
    models: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat:
    """A format: its columns, those added with model names, and the rows of one item.

    `from_events` formats run over the whole record, event by event, in place of answered items.
    """

    columns: Columns
    model_columns: Columns = field(default_factory=dict)
    rows: Callable[[AnsweredItem, ExportOptions], Iterator[Row]] | None = None
    from_events: Callable[[Event], Row] | None = None

    def header(self, *, models: bool) -> dict[str, Cell]:
        """All columns in order."""
        return {**self.columns, **(self.model_columns if models else {})}


def plain_text(conversation: Conversation) -> str:
    """One user message as it is; anything longer with a name before each turn."""
    messages = conversation.messages
    if len(messages) == 1 and messages[0].role is Role.USER:
        return messages[0].content
    names = {Role.USER: "Human", Role.ASSISTANT: "Assistant", Role.SYSTEM: "System", Role.TOOL: "Tool"}
    return "".join(f"\n\n{names[message.role]}: {message.content}" for message in messages)


_LINEAGE: Columns = {"source": "text", "who": "text", "detail": "text"}


def _lineage(provenance: Provenance) -> Row:
    return {"source": provenance.source, "who": provenance.who or "", "detail": provenance.detail or ""}


def _models(answered: AnsweredItem) -> dict[str, str]:
    """The model of each text; what people wrote has none."""
    return {one.text.strip(): one.model for one in reversed(answered.item.new.candidates)}


def _said(completion: Completion) -> list[dict[str, str]]:
    return [{"role": str(Role.ASSISTANT), "content": completion.text}]


def _pairs(answered: AnsweredItem, options: ExportOptions) -> Iterator[Row]:
    models = _models(answered)
    for pair in item_pairs(answered, options.aggregation):
        yield pair_row(pair) | _pair_models(pair, models, options)


def pair_row(pair: Comparison) -> Row:
    """A comparison as a row of the format "pairs"."""
    row: Row = {"prompt": conversation_to_json(pair.prompt)}
    row |= {"chosen": _said(pair.chosen), "rejected": _said(pair.rejected)}
    row |= {"probability": pair.probability, "margin": pair.margin, "group": pair.group}
    return row | _lineage(pair.provenance)


def _pair_models(pair: Comparison, models: Mapping[str, str], options: ExportOptions) -> Row:
    if not options.models:
        return {}
    sides = {"chosen_model": pair.chosen, "rejected_model": pair.rejected}
    return {name: models.get(side.text.strip(), "") for name, side in sides.items()}


def _trl(answered: AnsweredItem, options: ExportOptions) -> Iterator[Row]:
    """Ties have no place here."""
    models = _models(answered)
    for pair in item_pairs(answered, options.aggregation):
        if pair.probability != 0.5:
            texts = {"prompt": plain_text(pair.prompt), "chosen": pair.chosen.text, "rejected": pair.rejected.text}
            yield texts | {"margin": pair.margin} | _pair_models(pair, models, options)


def _trl_conversational(answered: AnsweredItem, options: ExportOptions) -> Iterator[Row]:
    for row in _pairs(answered, options):
        if row["probability"] != 0.5:
            yield {name: row[name] for name in row if name in _TRL_CONVERSATIONAL or name in _PAIR_MODELS}


def _rankings(answered: AnsweredItem, options: ExportOptions) -> Iterator[Row]:
    models = _models(answered)
    for ranking in item_rankings(answered, options.aggregation):
        texts = [completion.text for completion in ranking.completions]
        row = {"prompt": conversation_to_json(ranking.prompt), "completions": texts, "ranks": list(ranking.ranks)}
        row |= {"group": ranking.group, **_lineage(ranking.provenance)}
        yield row | ({"models": [models.get(text.strip(), "") for text in texts]} if options.models else {})


def _ratings(answered: AnsweredItem, options: ExportOptions) -> Iterator[Row]:
    models = _models(answered)
    for rating in item_ratings(answered, options.aggregation):
        text = rating.completion.text
        row = {"prompt": conversation_to_json(rating.prompt), "completion": text, "score": rating.score}
        row |= {"criterion": rating.criterion, **_lineage(rating.provenance)}
        yield row | ({"model": models.get(text.strip(), "")} if options.models else {})


def _demonstrations(answered: AnsweredItem, options: ExportOptions) -> Iterator[Row]:
    for shown in item_demonstrations(answered, options.aggregation):
        yield {"messages": learned_to_json(shown.conversation), **_lineage(shown.provenance)}


def _corrections(answered: AnsweredItem, options: ExportOptions) -> Iterator[Row]:
    models = _models(answered)
    for one in item_corrections(answered, options.aggregation):
        original = one.original.text
        row = {"prompt": conversation_to_json(one.prompt), "original": original, "edited": one.edited.text}
        row |= _lineage(one.provenance)
        yield row | ({"model": models.get(original.strip(), "")} if options.models else {})


def _red_team(answered: AnsweredItem, options: ExportOptions) -> Iterator[Row]:
    for talk in item_red_team(answered, options.aggregation):
        said = {"conversation": conversation_to_json(talk.conversation), "reached": talk.reached}
        yield said | {"note": talk.note, "topic": talk.topic, **_lineage(talk.provenance)}


def _label_studio(answered: AnsweredItem, options: ExportOptions) -> Iterator[Row]:
    """A task for each pair of completions, with an annotation for each person who preferred one; it knows no ties."""
    prompt = answered.item.new.prompt
    if not is_prompt(prompt):
        return
    table, votes = votes_of(answered, options.aggregation.included_events(answered), strengths="margin")
    models = _models(answered)
    for first, second in dict.fromkeys((vote.first, vote.second) for vote in votes):
        left, right = table.completions[first], table.completions[second]
        data = {"prompt": plain_text(prompt), "answer1": left.text, "answer2": right.text}
        if options.models:
            data |= {"model1": models.get(left.text.strip(), ""), "model2": models.get(right.text.strip(), "")}
        annotations = [
            _annotation(vote.event, "left" if vote.probability > 0.5 else "right", answered.item.id, (first, second))
            for vote in votes
            if (vote.first, vote.second) == (first, second) and vote.probability != 0.5
        ]
        yield {"data": {**data, "item": answered.item.id}, "annotations": annotations}


def _annotation(event: Event, side: str, item_id: int, pair: tuple[int, int]) -> Row:
    result = {
        "id": f"{event.seq}-{pair[0]}-{pair[1]}",
        "from_name": "comparison",
        "to_name": "answer1,answer2",
        "type": "pairwise",
        "value": {"selected": side},
        "meta": {"person": event.person_id, "event": event.seq, "item": item_id},
    }
    taken_s = event.time_taken_ms / 1000
    return {"result": [result], "lead_time": taken_s, "was_cancelled": False, "ground_truth": False}


def _event(event: Event) -> Row:
    told: Row = {"kind": str(event.kind), "item": event.item_id, "person": event.person_id}
    told |= {"payload": dict(event.payload), "order": list(event.order)}
    return {name: told[name] if name in told else getattr(event, name) for name in _EVENT}


_PAIR: Columns = {"prompt": "messages", "chosen": "messages", "rejected": "messages"}
_PAIRS: Columns = {**_PAIR, "probability": "number", "margin": "number", "group": "text", **_LINEAGE}
_TRL: Columns = {"prompt": "text", "chosen": "text", "rejected": "text", "margin": "number"}
_TRL_CONVERSATIONAL: Columns = {**_PAIR, "margin": "number"}
_PAIR_MODELS: Columns = {"chosen_model": "text", "rejected_model": "text"}
_RANKING: Columns = {"prompt": "messages", "completions": "texts", "ranks": "integers", "group": "text", **_LINEAGE}
_RATING: Columns = {"prompt": "messages", "completion": "text", "score": "number", "criterion": "text", **_LINEAGE}
_CORRECTION: Columns = {"prompt": "messages", "original": "text", "edited": "text", **_LINEAGE}
_RED_TEAM: Columns = {"conversation": "messages", "reached": "integer", "note": "text", "topic": "text", **_LINEAGE}
_EVENT: Columns = {
    "seq": "integer", "key": "text", "kind": "text", "item": "integer", "person": "integer", "payload": "json",
    "order": "integers", "repeat": "true_false", "time_taken_ms": "integer", "guideline_version": "integer",
    "created_at": "number", "undone_seq": "integer", "sha256": "text",
}  # fmt: skip
_MODEL: Columns = {"model": "text"}
ROW_FORMATS = {
    "pairs": RowFormat(columns=_PAIRS, model_columns=_PAIR_MODELS, rows=_pairs),
    "trl": RowFormat(columns=_TRL, model_columns=_PAIR_MODELS, rows=_trl),
    "trl-conversational": RowFormat(columns=_TRL_CONVERSATIONAL, model_columns=_PAIR_MODELS, rows=_trl_conversational),
    "rankings": RowFormat(columns=_RANKING, model_columns={"models": "texts"}, rows=_rankings),
    "ratings": RowFormat(columns=_RATING, model_columns=_MODEL, rows=_ratings),
    "demonstrations": RowFormat(columns={"messages": "learned_messages", **_LINEAGE}, rows=_demonstrations),
    "corrections": RowFormat(columns=_CORRECTION, model_columns=_MODEL, rows=_corrections),
    "red-team": RowFormat(columns=_RED_TEAM, rows=_red_team),
    "label-studio": RowFormat(columns={"data": "json", "annotations": "json"}, rows=_label_studio),
    "events": RowFormat(columns=_EVENT, from_events=_event),
}
