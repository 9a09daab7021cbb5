"""Rows of several completions of one prompt, with ranks or scores in the row or in each completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assent.data.completions import completion_text, is_messages
from assent.data.examples import Example, Format, Kind, Scored, comparison_of, group_of
from assent.data.literals import is_texts, parse_texts
from assent.data.prompts import prompt_name, prompt_of
from assent.data.rows import Fields, answer_value, list_of, number_value, present, prompt_conversation, text_value
from assent.errors import DataError
from assent.text.transcripts import parse_transcript, shared_prompt
from assent.types import Completion, Conversation, Ranking

_LISTS = ("completions", "responses", "answers", "outputs", "generations", "candidates")
_TEXTS = ("text", "response", "answer", "completion", "output", "content")
_RANKS = ("ranks", "ranking", "rank")
_SCORES = ("scores", "ratings", "rating", "score", "overall_score", "pm_score", "reward")
_SCORES_INSIDE = (*_SCORES, "helpfulness", "quality", "overall", "stars", "votes", "upvotes", "grade")
LABEL_KEYS = (*_RANKS, *_SCORES_INSIDE)
"""Names of a label inside a completion, in order of preference."""


def read_dsp(fields: Fields) -> list[Example]:
    """text: transcripts of one prompt; score: a number for each."""
    texts, scores = list_of(fields, "text"), numbers_of(fields, "score", len(list_of(fields, "text")))
    talks = [parse_transcript(text_value(text, f"text[{place}]")) for place, text in enumerate(texts)]
    prompts = [shared_prompt(talks[0], talk) for talk in talks]
    prompt = prompt_conversation(prompts[0].messages, "text")
    return [_scored(prompt, [talk.messages[-1].content for talk in talks], scores, "text")]


def read_ranked(fields: Fields) -> list[Example]:
    """prompt, completions and ranks: 1 is best, ties allowed."""
    name, texts, key, ranks = _judged(fields, _RANKS, _RANKS)
    if any(rank != int(rank) or rank < 1 for rank in ranks):
        raise DataError(f'field "{key}": expected whole numbers of at least 1 (1 is best)')
    prompt = prompt_of(fields)
    _refuse_contradiction(texts, ranks, name)
    completions = tuple(Completion(text=text) for text in texts)
    ordered = tuple(int(rank) for rank in ranks)
    return [Ranking(prompt=prompt, completions=completions, ranks=ordered, group=group_of(fields, prompt))]


def read_scored(fields: Fields) -> list[Example]:
    """prompt, completions and scores: larger is better."""
    name, texts, _, scores = _judged(fields, _SCORES, _SCORES_INSIDE)
    return [_scored(prompt_of(fields), texts, scores, name)]


def read_good_and_bad(fields: Fields) -> list[Example]:
    """prompt, and lists of texts under chosen and rejected: each good one above each bad one."""
    prompt = prompt_of(fields)
    listed = {name: parse_texts(fields.get(name)) or list_of(fields, name) for name in ("chosen", "rejected")}
    good, bad = (
        [answer_value(text, f"{name}[{place}]") for place, text in enumerate(texts)] for name, texts in listed.items()
    )
    if not good or not bad:
        raise DataError(f'field "{"rejected" if good else "chosen"}": the list is empty')
    group = group_of(fields, prompt)
    return [comparison_of(prompt, better, worse, group=group) for better in good for worse in bad]


def _judged(fields: Fields, names: Sequence[str], inside: Sequence[str]) -> tuple[str, list[str], str, list[float]]:
    """The list's name and texts, and the name and numbers of its ranks or scores: in the row, or `inside`."""
    name = _list_name(fields) or _LISTS[0]
    values = list_of(fields, name)
    texts = [_text(value, f"{name}[{place}]") for place, value in enumerate(values)]
    if len(texts) < 2:
        raise DataError(f'field "{name}": expected at least two completions, got {len(texts)}')
    beside = next((one for one in names if one in fields), None)
    if beside is not None:
        return name, texts, beside, numbers_of(fields, beside, len(texts))
    key = next((one for one in inside if one in values[0]), names[0])
    numbers = [number_value(present(one, key), f"{name}[{place}].{key}") for place, one in enumerate(values)]
    return name, texts, f"{name}.{key}", numbers


def _text(value: Any, name: str) -> str:
    if isinstance(value, Mapping) and not is_messages(value):
        key = next((one for one in _TEXTS if one in value), _TEXTS[0])
        return completion_text(present(value, key), f"{name}.{key}")
    return completion_text(value, name)


def numbers_of(fields: Fields, name: str, count: int) -> list[float]:
    """A list of `count` numbers."""
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
    stripped = [text.strip() for text in texts]
    if len(set(stripped)) == 1:
        raise DataError(f'field "{name}": the completions are identical')
    seen = dict(zip(stripped, numbers, strict=True))
    if any(seen[text] != number for text, number in zip(stripped, numbers, strict=True)):
        raise DataError(f'field "{name}": identical completions have different ranks or scores')


def _list_name(fields: Fields) -> str | None:
    return next((name for name in _LISTS if isinstance(fields.get(name), list)), None)


def _is_judged(fields: Fields, names: Sequence[str], inside: Sequence[str]) -> bool:
    """Whether the row has completions, and ranks or scores under these names in the row or in them."""
    name = _list_name(fields)
    if name is None or prompt_name(fields) is None:
        return False
    first = next(iter(fields[name]), None)
    found = isinstance(first, Mapping) and any(one in first for one in inside)
    return found or names[0] in fields or any(isinstance(fields.get(one), list) for one in names)


LISTWISE_FORMATS = (
    Format(name="ranked", kind=Kind.RANKINGS, matches=lambda row: _is_judged(row, _RANKS, _RANKS), read=read_ranked),
    Format(name="scored", kind=Kind.RANKINGS, read=read_scored,
           matches=lambda row: _is_judged(row, _SCORES, _SCORES_INSIDE)),
)  # fmt: skip
LISTWISE_PAIR_FORMATS = (  # their fields are those of a pair, too
    Format(name="dsp", kind=Kind.RANKINGS, read=read_dsp,
           matches=lambda row: isinstance(row.get("text"), list) and isinstance(row.get("score"), list)),
    Format(name="good-and-bad", kind=Kind.COMPARISONS, read=read_good_and_bad,
           matches=lambda row: is_texts(row.get("chosen")) and is_texts(row.get("rejected"))),
)  # fmt: skip
