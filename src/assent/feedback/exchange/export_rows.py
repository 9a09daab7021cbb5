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
class RowOptions:
    """How rows are made: from which answers, with the models' names or without.

    `as_text` writes a conversation of several messages where a format has room for one text only.
    """

    aggregation: Aggregation = field(default_factory=Aggregation)
    models: bool = False
    as_text: Callable[[Conversation], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat:
    """A format: its columns, those added with model names, and the rows of one item.

    `from_events` formats run over the whole record, event by event, in place of answered items.
    """

    name: str
    columns: Columns
    model_columns: Columns = field(default_factory=dict)
    rows: Callable[[AnsweredItem, RowOptions], Iterator[Row]] | None = None
    from_events: Callable[[Event], Row] | None = None

    def header(self, *, models: bool) -> dict[str, Cell]:
        """All columns in order."""
        return {**self.columns, **(self.model_columns if models else {})}


_LINEAGE: Columns = {"source": "text", "who": "text", "detail": "text"}


def _lineage(provenance: Provenance) -> Row:
    return {"source": provenance.source, "who": provenance.who or "", "detail": provenance.detail or ""}


def _models(answered: AnsweredItem) -> dict[str, str]:
    """The model of each text; what people wrote has none."""
    return {one.text.strip(): one.model for one in reversed(answered.item.new.candidates)}


def _said(completion: Completion) -> list[dict[str, str]]:
    return [{"role": str(Role.ASSISTANT), "content": completion.text}]


def _pairs(answered: AnsweredItem, options: RowOptions) -> Iterator[Row]:
    models = _models(answered)
    for pair in item_pairs(answered, options.aggregation):
        yield pair_row(pair) | _pair_models(pair, models, options)


def pair_row(pair: Comparison) -> Row:
    """A comparison as a row of the format "pairs"."""
    return {
        "prompt": conversation_to_json(pair.prompt),
        "chosen": _said(pair.chosen),
        "rejected": _said(pair.rejected),
        "probability": pair.probability,
        "margin": pair.margin,
        "group": pair.group,
        **_lineage(pair.provenance),
    }


def _pair_models(pair: Comparison, models: Mapping[str, str], options: RowOptions) -> Row:
    if not options.models:
        return {}
    sides = {"chosen_model": pair.chosen, "rejected_model": pair.rejected}
    return {name: models.get(side.text.strip(), "") for name, side in sides.items()}


def _trl(answered: AnsweredItem, options: RowOptions) -> Iterator[Row]:
    """Ties have no place here."""
    for pair in item_pairs(answered, options.aggregation):
        if pair.probability != 0.5:
            texts = {
                "prompt": options.as_text(pair.prompt),
                "chosen": pair.chosen.text,
                "rejected": pair.rejected.text,
                "margin": pair.margin,
            }
            yield texts | _pair_models(pair, _models(answered), options)


def _trl_conversational(answered: AnsweredItem, options: RowOptions) -> Iterator[Row]:
    for pair in item_pairs(answered, options.aggregation):
        if pair.probability != 0.5:
            messages: Row = {
                "prompt": conversation_to_json(pair.prompt),
                "chosen": _said(pair.chosen),
                "rejected": _said(pair.rejected),
                "margin": pair.margin,
            }
            yield messages | _pair_models(pair, _models(answered), options)


def _rankings(answered: AnsweredItem, options: RowOptions) -> Iterator[Row]:
    models = _models(answered)
    for ranking in item_rankings(answered, options.aggregation):
        row = {
            "prompt": conversation_to_json(ranking.prompt),
            "completions": [completion.text for completion in ranking.completions],
            "ranks": list(ranking.ranks),
            "group": ranking.group,
            **_lineage(ranking.provenance),
        }
        if options.models:
            row["models"] = [models.get(completion.text.strip(), "") for completion in ranking.completions]
        yield row


def _ratings(answered: AnsweredItem, options: RowOptions) -> Iterator[Row]:
    models = _models(answered)
    for rating in item_ratings(answered, options.aggregation):
        row = {
            "prompt": conversation_to_json(rating.prompt),
            "completion": rating.completion.text,
            "score": rating.score,
            "criterion": rating.criterion,
            **_lineage(rating.provenance),
        }
        if options.models:
            row["model"] = models.get(rating.completion.text.strip(), "")
        yield row


def _demonstrations(answered: AnsweredItem, options: RowOptions) -> Iterator[Row]:
    for shown in item_demonstrations(answered, options.aggregation):
        yield {"messages": learned_to_json(shown.conversation), **_lineage(shown.provenance)}


def _corrections(answered: AnsweredItem, options: RowOptions) -> Iterator[Row]:
    models = _models(answered)
    for one in item_corrections(answered, options.aggregation):
        row = {
            "prompt": conversation_to_json(one.prompt),
            "original": one.original.text,
            "edited": one.edited.text,
            **_lineage(one.provenance),
        }
        if options.models:
            row["model"] = models.get(one.original.text.strip(), "")
        yield row


def _red_team(answered: AnsweredItem, options: RowOptions) -> Iterator[Row]:
    for talk in item_red_team(answered, options.aggregation):
        yield {
            "conversation": conversation_to_json(talk.conversation),
            "reached": talk.reached,
            "note": talk.note,
            "topic": talk.topic,
            **_lineage(talk.provenance),
        }


def _label_studio(answered: AnsweredItem, options: RowOptions) -> Iterator[Row]:
    """A task for each pair of completions, with an annotation for each person who preferred one; it knows no ties."""
    prompt = answered.item.new.prompt
    if not is_prompt(prompt):
        return
    table, votes = votes_of(answered, options.aggregation.included_events(answered), strengths="margin")
    models = _models(answered)
    for first, second in dict.fromkeys((vote.first, vote.second) for vote in votes):
        left, right = table.completions[first], table.completions[second]
        data = {"prompt": options.as_text(prompt), "answer1": left.text, "answer2": right.text}
        if options.models:
            data |= {"model1": models.get(left.text.strip(), ""), "model2": models.get(right.text.strip(), "")}
        annotations = [
            _annotation(vote.event, "left" if vote.probability > 0.5 else "right", answered.item.id, (first, second))
            for vote in votes
            if (vote.first, vote.second) == (first, second) and vote.probability != 0.5
        ]
        yield {"data": {**data, "item": answered.item.id}, "annotations": annotations}


def _annotation(event: Event, side: str, item_id: int, pair: tuple[int, int]) -> Row:
    return {
        "result": [
            {
                "id": f"{event.seq}-{pair[0]}-{pair[1]}",
                "from_name": "comparison",
                "to_name": "answer1,answer2",
                "type": "pairwise",
                "value": {"selected": side},
                "meta": {"person": event.person_id, "event": event.seq, "item": item_id},
            }
        ],
        "lead_time": event.time_taken_ms / 1000,
        "was_cancelled": False,
        "ground_truth": False,
    }


def _event(event: Event) -> Row:
    return {
        "seq": event.seq,
        "key": event.key,
        "kind": str(event.kind),
        "item": event.item_id,
        "person": event.person_id,
        "payload": dict(event.payload),
        "order": list(event.order),
        "repeat": event.repeat,
        "time_taken_ms": event.time_taken_ms,
        "guideline_version": event.guideline_version,
        "created_at": event.created_at,
        "undone_seq": event.undone_seq,
        "sha256": event.sha256,
    }


_PAIR: Columns = {"prompt": "messages", "chosen": "messages", "rejected": "messages"}
_PAIR_MODELS: Columns = {"chosen_model": "text", "rejected_model": "text"}
_EVENT: Columns = {
    "seq": "integer", "key": "text", "kind": "text", "item": "integer", "person": "integer", "payload": "json",
    "order": "integers", "repeat": "true_false", "time_taken_ms": "integer", "guideline_version": "integer",
    "created_at": "number", "undone_seq": "integer", "sha256": "text",
}  # fmt: skip

ROW_FORMATS: dict[str, RowFormat] = {
    one.name: one
    for one in (
        RowFormat(
            name="pairs",
            columns={**_PAIR, "probability": "number", "margin": "number", "group": "text", **_LINEAGE},
            model_columns=_PAIR_MODELS,
            rows=_pairs,
        ),
        RowFormat(
            name="trl",
            columns={"prompt": "text", "chosen": "text", "rejected": "text", "margin": "number"},
            model_columns=_PAIR_MODELS,
            rows=_trl,
        ),
        RowFormat(
            name="trl-conversational",
            columns={**_PAIR, "margin": "number"},
            model_columns=_PAIR_MODELS,
            rows=_trl_conversational,
        ),
        RowFormat(
            name="rankings",
            columns={"prompt": "messages", "completions": "texts", "ranks": "integers", "group": "text", **_LINEAGE},
            model_columns={"models": "texts"},
            rows=_rankings,
        ),
        RowFormat(
            name="ratings",
            columns={"prompt": "messages", "completion": "text", "score": "number", "criterion": "text", **_LINEAGE},
            model_columns={"model": "text"},
            rows=_ratings,
        ),
        RowFormat(name="demonstrations", columns={"messages": "learned_messages", **_LINEAGE}, rows=_demonstrations),
        RowFormat(
            name="corrections",
            columns={"prompt": "messages", "original": "text", "edited": "text", **_LINEAGE},
            model_columns={"model": "text"},
            rows=_corrections,
        ),
        RowFormat(
            name="red-team",
            columns={"conversation": "messages", "reached": "integer", "note": "text", "topic": "text", **_LINEAGE},
            rows=_red_team,
        ),
        RowFormat(name="label-studio", columns={"data": "json", "annotations": "json"}, rows=_label_studio),
        RowFormat(name="events", columns=_EVENT, from_events=_event),
    )
}
