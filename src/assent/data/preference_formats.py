"""Rows that compare completions: pairs, votes, ranks and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from assent.data.examples import Example, Format, Kind, Scored, comparison_of, group_of
from assent.data.prompts import PROMPT_NAMES, prompt_name, prompt_of
from assent.data.rows import (
    Fields,
    answer_of,
    answer_value,
    list_of,
    messages_value,
    number_value,
    present,
    prompt_conversation,
    text_value,
    tools_of,
    wrong,
)
from assent.errors import DataError
from assent.text.transcripts import is_transcript, parse_transcript, shared_prompt
from assent.types import Completion, Conversation, Message, Ranking, Role

_LISTS = ("completions", "responses", "answers", "outputs")
_PREDICTIONS = tuple(f"prediction {number}" for number in (1, 2, 3, 4))
_TEXT_OR_MESSAGES = "text or a list of messages"


def read_pair(fields: Fields) -> list[Example]:
    """chosen/rejected as text, transcripts, one message or whole conversations, with or without a prompt."""
    sides = [_side(fields, name) for name in ("chosen", "rejected")]
    name = prompt_name(fields)
    if name and all(len(side) == 1 for side in sides):
        before = prompt_of(fields, name)
        sides = [(*before.messages, *side) for side in sides]
    chosen, rejected = (Conversation(messages=side) for side in sides)
    if not name and len(chosen.messages) == 1:
        raise DataError(f'field "prompt" is missing, and "chosen" is no conversation: it is {_form(fields["chosen"])}')
    prompt = prompt_conversation(shared_prompt(chosen, rejected).messages, name or "chosen", tools_of(fields))
    texts = [
        answer_value(side.messages[-1].content, name) for side, name in ((chosen, "chosen"), (rejected, "rejected"))
    ]
    margin = number_value(fields["margin"], "margin") if fields.get("margin") is not None else 0.0
    if margin < 0:
        raise DataError('field "margin": expected a number of at least 0')
    probability, group = _probability(fields), group_of(fields, prompt)
    return [comparison_of(prompt, texts[0], texts[1], margin=margin, probability=probability, group=group)]


def _probability(fields: Fields) -> float:
    if fields.get("probability") is None:
        return 1.0
    probability = number_value(fields["probability"], "probability")
    if not 0 <= probability <= 1:
        raise DataError('field "probability": expected a number between 0 and 1')
    return probability


def _side(fields: Fields, name: str) -> tuple[Message, ...]:
    value = present(fields, name)
    if isinstance(value, list | Mapping):
        return messages_value(value, name)
    text = text_value(value, name, _TEXT_OR_MESSAGES)
    if is_transcript(text) and not any(context in fields for context in PROMPT_NAMES):
        return parse_transcript(text).messages
    return (Message(role=Role.ASSISTANT, content=text.strip()),)


def _form(value: object) -> str:
    return 'text without "\\n\\nHuman:"' if isinstance(value, str) else "one message"


def read_dsp(fields: Fields) -> list[Example]:
    """text: transcripts of one prompt; score: a number for each."""
    texts, scores = list_of(fields, "text"), _numbers(fields, "score", len(list_of(fields, "text")))
    talks = [parse_transcript(text_value(text, f"text[{place}]")) for place, text in enumerate(texts)]
    prompts = [shared_prompt(talks[0], talk) for talk in talks]
    prompt = prompt_conversation(prompts[0].messages, "text")
    return [_scored(prompt, [talk.messages[-1].content for talk in talks], scores, "text")]


def read_ranked(fields: Fields) -> list[Example]:
    """prompt, completions and ranks: 1 is best, ties allowed."""
    name, texts = _completions(fields)
    key = "ranks" if "ranks" in fields else "ranking"
    ranks = _numbers(fields, key, len(texts))
    if any(rank != int(rank) or rank < 1 for rank in ranks):
        raise DataError(f'field "{key}": expected whole numbers of at least 1 (1 is best)')
    prompt = prompt_of(fields)
    _refuse_contradiction(texts, ranks, name)
    completions = tuple(Completion(text=text) for text in texts)
    ordered = tuple(int(rank) for rank in ranks)
    return [Ranking(prompt=prompt, completions=completions, ranks=ordered, group=group_of(fields, prompt))]


def read_scored(fields: Fields) -> list[Example]:
    """prompt, completions and scores: larger is better."""
    name, texts = _completions(fields)
    return [_scored(prompt_of(fields), texts, _numbers(fields, "scores", len(texts)), name)]


def _completions(fields: Fields) -> tuple[str, list[str]]:
    name = next((name for name in _LISTS if name in fields), _LISTS[0])
    texts = []
    for place, value in enumerate(list_of(fields, name)):
        if isinstance(value, list | Mapping):
            messages = messages_value(value, f"{name}[{place}]")
            if len(messages) != 1 or messages[0].role is not Role.ASSISTANT:
                raise DataError(f'field "{name}[{place}]": expected one message of the assistant')
            value = messages[0].content
        texts.append(answer_value(value, f"{name}[{place}]"))
    if len(texts) < 2:
        raise DataError(f'field "{name}": expected at least two completions, got {len(texts)}')
    return name, texts


def _numbers(fields: Fields, name: str, count: int) -> list[float]:
    numbers = [number_value(value, f"{name}[{place}]") for place, value in enumerate(list_of(fields, name))]
    if len(numbers) != count:
        raise DataError(f'field "{name}": expected {count} numbers, one for each completion, got {len(numbers)}')
    return numbers


def _scored(prompt: Conversation, texts: Sequence[str], scores: Sequence[float], name: str) -> Scored:
    if len(texts) < 2:
        raise DataError(f'field "{name}": expected at least two completions, got {len(texts)}')
    answers = [answer_value(text, f"{name}[{place}]") for place, text in enumerate(texts)]
    _refuse_contradiction(answers, scores, name)
    return Scored(prompt=prompt, completions=tuple(Completion(text=text) for text in answers), scores=tuple(scores))


def _refuse_contradiction(texts: Sequence[str], numbers: Sequence[float], name: str) -> None:
    told = [text.strip() for text in texts]
    if len(set(told)) == 1:
        raise DataError(f'field "{name}": the completions are identical')
    seen = dict(zip(told, numbers, strict=True))
    if any(seen[text] != number for text, number in zip(told, numbers, strict=True)):
        raise DataError(f'field "{name}": identical completions are judged differently')


def read_pandalm(fields: Fields) -> list[Example]:
    """Two responses and votes of annotators (1, 2, or 0 for a tie); the soft label is the mean vote."""
    names = sorted(name for name in fields if str(name).startswith("annotator"))
    votes = [_vote(fields[name], name) for name in names]
    first, second = answer_of(fields, "response1"), answer_of(fields, "response2")
    prompt = prompt_of(fields, "instruction")
    return [comparison_of(prompt, first, second, probability=sum(votes) / len(votes))]


def _vote(value: Any, name: str) -> float:
    vote = {0.0: 0.5, 1.0: 1.0, 2.0: 0.0}.get(number_value(value, name))
    if vote is None:
        raise DataError(f'field "{name}": expected 0 (tie), 1 or 2, got {value}')
    return vote


def read_alpaca_eval(fields: Fields) -> list[Example]:
    """output_1, output_2 and a preference from 1 (first) to 2 (second); 1.5 and 0 are ties."""
    preference = number_value(present(fields, "preference"), "preference")
    if preference != 0 and not 1 <= preference <= 2:
        raise DataError(f'field "preference": expected 1 to 2 (or 0 for a tie), got {preference:g}')
    first, second = answer_of(fields, "output_1"), answer_of(fields, "output_2")
    probability = 0.5 if preference == 0 else 2.0 - preference
    return [comparison_of(prompt_of(fields, "instruction"), first, second, probability=probability)]


def read_fine_grained(fields: Fields) -> list[Example]:
    """Four predictions and the six judgements of their pairs, (1,2) (1,3) (1,4) (2,3) (2,4) (3,4); 0 is a tie."""
    texts = [answer_of(fields, name) for name in _PREDICTIONS]
    pairs = list(combinations(range(len(texts)), 2))
    judged = _numbers(fields, "preference", len(pairs))
    question = prompt_of(fields, "question").messages[-1].content
    passages = [" ".join(str(part) for part in passage) for passage in list_of(fields, "passages") if passage]
    prompt = Conversation.of_user("\n\n".join([*passages, question]))
    compared: list[Example] = []
    for (left, right), preference in zip(pairs, judged, strict=True):
        if texts[left].strip() != texts[right].strip():  # models often agree word for word: nothing to learn there
            vote = _vote(preference, "preference")
            compared.append(comparison_of(prompt, texts[left], texts[right], probability=vote))
    if not compared:
        raise DataError("all predictions are identical")
    return compared


def read_tool_augmented(fields: Fields) -> list[Example]:
    """question, pos_answer and neg_answer, each an object with `answer`."""
    texts = []
    for name in ("pos_answer", "neg_answer"):
        value = present(fields, name)
        if not isinstance(value, Mapping):
            raise wrong(name, "an object with the answer", value)
        texts.append(answer_value(present(value, "answer"), f"{name}.answer"))
    return [comparison_of(prompt_of(fields, "question"), texts[0], texts[1])]


def _has(fields: Fields, *names: str) -> bool:
    return all(name in fields for name in names)


def _is_messages_pair(fields: Fields) -> bool:
    return _has(fields, "chosen", "rejected") and any(
        isinstance(fields[name], list | Mapping) for name in ("chosen", "rejected")
    )


def _has_completions(fields: Fields) -> bool:
    return prompt_name(fields) is not None and any(isinstance(fields.get(name), list) for name in _LISTS)


PREFERENCE_FORMATS = (
    Format(
        name="alpaca-eval",
        kind=Kind.COMPARISONS,
        matches=lambda row: _has(row, "instruction", "output_1", "output_2", "preference"),
        read=read_alpaca_eval,
    ),
    Format(
        name="pandalm",
        kind=Kind.COMPARISONS,
        matches=lambda row: _has(row, "instruction", "response1", "response2", "annotator1"),
        read=read_pandalm,
    ),
    Format(
        name="fine-grained-qa",
        kind=Kind.COMPARISONS,
        matches=lambda row: _has(row, "question", "passages", "preference", *_PREDICTIONS),
        read=read_fine_grained,
    ),
    Format(
        name="tool-augmented",
        kind=Kind.COMPARISONS,
        matches=lambda row: _has(row, "question", "pos_answer", "neg_answer"),
        read=read_tool_augmented,
    ),
    Format(
        name="dsp",
        kind=Kind.RANKINGS,
        matches=lambda row: isinstance(row.get("text"), list) and isinstance(row.get("score"), list),
        read=read_dsp,
    ),
    Format(
        name="ranked",
        kind=Kind.RANKINGS,
        matches=lambda row: _has_completions(row) and ("ranks" in row or "ranking" in row),
        read=read_ranked,
    ),
    Format(
        name="scored",
        kind=Kind.RANKINGS,
        matches=lambda row: _has_completions(row) and "scores" in row,
        read=read_scored,
    ),
    Format(name="preference-messages", kind=Kind.COMPARISONS, matches=_is_messages_pair, read=read_pair),
    Format(
        name="preference",
        kind=Kind.COMPARISONS,
        matches=lambda row: _has(row, "chosen", "rejected") and prompt_name(row) is not None,
        read=read_pair,
    ),
    Format(name="hh", kind=Kind.COMPARISONS, matches=lambda row: _has(row, "chosen", "rejected"), read=read_pair),
)
