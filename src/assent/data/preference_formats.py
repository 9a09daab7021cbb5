"""Rows that compare completions: pairs, votes, ranks and scores."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from assent.data.completions import after_prompt, answer_messages, begins, split_last_answers
from assent.data.examples import Example, Format, Kind, comparison_of, group_of, has
from assent.data.listwise_formats import LISTWISE_FORMATS, LISTWISE_PAIR_FORMATS, numbers_of
from assent.data.pairwise_formats import PAIRWISE_FORMATS
from assent.data.prompts import prompt_messages, prompt_name, prompt_of, whole_prompt, with_system
from assent.data.rows import Fields, answer_of, answer_value, list_of, number_value, present, text_value, wrong
from assent.errors import DataError
from assent.text.transcripts import is_transcript, parse_transcript
from assent.types import Conversation, Message

_PAIRS = (
    ("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_j", "response_k"),
    ("better", "worse"), ("preferred", "dispreferred"),
)  # fmt: skip
_PREDICTIONS = tuple(f"prediction {number}" for number in (1, 2, 3, 4))


def read_pair(fields: Fields) -> list[Example]:
    """chosen/rejected as text, transcripts, one message or whole conversations, with or without a prompt."""
    names = _pair_names(fields) or _PAIRS[0]
    prompt, texts = split_last_answers(_conversations(fields, names), names)
    margin = number_value(fields["margin"], "margin") if fields.get("margin") not in (None, "") else 0.0
    if margin < 0:
        raise DataError('field "margin": expected a number of at least 0')
    probability, group = _probability(fields), group_of(fields, prompt)
    return [comparison_of(prompt, texts[0], texts[1], margin=margin, probability=probability, group=group)]


def _pair_names(fields: Fields) -> tuple[str, str] | None:
    return next((names for names in _PAIRS if has(*names)(fields)), None)


def _conversations(fields: Fields, names: tuple[str, str]) -> list[tuple[Message, ...]]:
    """Both sides with the prompt before them; the prompt is a field, or the beginning of both."""
    name = prompt_name(fields)
    sides = [_side(fields, one, name) for one in names]
    if name is None:
        if any(len(side) == 1 for side in sides):
            single = names[[len(side) == 1 for side in sides].index(True)]
            form = 'text without "\\n\\nHuman:"' if isinstance(fields[single], str) else "one message"
            raise DataError(f'field "prompt" is missing, and "{single}" is not a conversation but {form}')
        return [with_system(side, fields) for side in sides]
    if all(len(side) == 1 for side in sides):
        before = prompt_of(fields, name).messages
        return [(*before, *side) for side in sides]
    before = whole_prompt(fields, name)
    return [after_prompt(before, side, one) for side, one in zip(sides, names, strict=True)]


def _side(fields: Fields, name: str, prompt: str | None) -> tuple[Message, ...]:
    """What follows the prompt, or a whole transcript if there is no prompt or if it begins with the prompt."""
    value = present(fields, name)
    if isinstance(value, str) and is_transcript(value):
        talk = parse_transcript(text_value(value, name)).messages
        if prompt is None or begins(talk, prompt_messages(fields[prompt], prompt)):
            return talk
    return answer_messages(value, name)


def _probability(fields: Fields) -> float:
    if fields.get("probability") in (None, ""):
        return 1.0
    probability = number_value(fields["probability"], "probability")
    if not 0 <= probability <= 1:
        raise DataError('field "probability": expected a number between 0 and 1')
    return probability


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
    """Four predictions and labels of their six pairs, (1,2) (1,3) (1,4) (2,3) (2,4) (3,4); 0 is a tie."""
    texts = [answer_of(fields, name) for name in _PREDICTIONS]
    pairs = list(combinations(range(len(texts)), 2))
    judged = numbers_of(fields, "preference", len(pairs))
    question = prompt_of(fields, "question").messages[-1].content
    passages = [" ".join(str(part) for part in passage) for passage in list_of(fields, "passages") if passage]
    prompt = Conversation.of_user("\n\n".join([*passages, question]))
    compared: list[Example] = []
    for (left, right), preference in zip(pairs, judged, strict=True):
        if texts[left].strip() != texts[right].strip():  # equal answers teach nothing
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


def _is_messages_pair(fields: Fields) -> bool:
    names = _pair_names(fields)
    return names is not None and any(isinstance(fields[name], list | Mapping) for name in names)


PREFERENCE_FORMATS = (
    Format(name="alpaca-eval", kind=Kind.COMPARISONS, read=read_alpaca_eval,
           matches=has("instruction", "output_1", "output_2", "preference")),
    Format(name="pandalm", kind=Kind.COMPARISONS, read=read_pandalm,
           matches=has("instruction", "response1", "response2", "annotator1")),
    Format(name="fine-grained-qa", kind=Kind.COMPARISONS, read=read_fine_grained,
           matches=has("question", "passages", "preference", *_PREDICTIONS)),
    Format(name="tool-augmented", kind=Kind.COMPARISONS, read=read_tool_augmented,
           matches=has("question", "pos_answer", "neg_answer")),
    *LISTWISE_PAIR_FORMATS,
    Format(name="preference-messages", kind=Kind.COMPARISONS, matches=_is_messages_pair, read=read_pair),
    Format(name="preference", kind=Kind.COMPARISONS, read=read_pair,
           matches=lambda row: _pair_names(row) is not None and prompt_name(row) is not None),
    Format(name="hh", kind=Kind.COMPARISONS, matches=has("chosen", "rejected"), read=read_pair),
    *LISTWISE_FORMATS,
    *PAIRWISE_FORMATS,
)  # fmt: skip
