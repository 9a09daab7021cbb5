"""Preferences in our own vocabulary (a preference file, read elsewhere) as items with answers or known answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assent.errors import DataError
from assent.feedback.exchange.fields import text_value
from assent.feedback.exchange.imported_items import (
    CALLS_AS_TEXT,
    TOOLS_LEFT_OUT,
    ImportedAnswer,
    ImportedItem,
    ImportLimits,
    merge,
    with_key,
)
from assent.feedback.records import HIGHEST_RATING, STRONGEST, Candidate, EventKind, NewItem
from assent.feedback.votes import is_prompt
from assent.types import Comparison, Completion, Conversation, Demonstration, Ranking, Rating, Role

_Scores = dict[Completion, dict[str, float]]  # by criterion
_SAME_PROBABILITY = 0.005  # people write 0.83 or 0.8333 for 5/6
_Whole = Comparison | Ranking | Demonstration
EncodedPreference = _Whole | Rating


def imported_of(
    preferences: Sequence[EncodedPreference], *, who: str, limits: ImportLimits = ImportLimits()
) -> tuple[ImportedItem, ...]:
    """Items with the answers in `preferences`; `who` is the name of those whose provenance names nobody.

    Ratings of one prompt by one person become one answer. Scores that are all 0 or 1 are labels; among others, one that
    is no whole number from 1 to 7 is a DataError: a rating is not rounded unasked.
    """
    others = [one for one in preferences if not isinstance(one, Rating)]
    found = [_imported(one, who, limits) for one in _in_one_order(others)]
    found += _rated([one for one in preferences if isinstance(one, Rating)], who, limits)
    if not found:
        raise DataError("there is nothing to import", now="Give a file with at least one row.")
    return merge([with_key(one) for one in found], limits)


def _in_one_order(preferences: Sequence[_Whole]) -> list[_Whole]:
    """The preferences, with the same completions always in the order of the first one, so that they are one item."""
    first: dict[tuple[Conversation, frozenset[Completion]], tuple[Completion, ...]] = {}
    found: list[_Whole] = []
    for one in preferences:
        if isinstance(one, Comparison):
            pair = (one.chosen, one.rejected)
            if first.setdefault((one.prompt, frozenset(pair)), pair) != pair:
                one = replace(one, chosen=one.rejected, rejected=one.chosen, probability=1 - one.probability)
        elif isinstance(one, Ranking) and len(set(one.completions)) == len(one.completions):
            order = first.setdefault((one.prompt, frozenset(one.completions)), one.completions)
            ranks = dict(zip(one.completions, one.ranks, strict=True))
            one = replace(one, completions=order, ranks=tuple(ranks[completion] for completion in order))
        found.append(one)
    return found


def _imported(one: _Whole, who: str, limits: ImportLimits) -> ImportedItem:
    name = one.provenance.who or who
    if isinstance(one, Demonstration):
        return _demonstrated(one.conversation, name, limits)
    if isinstance(one, Ranking):
        answer = ImportedAnswer(who=name, kind=EventKind.RANKING, payload={"ranks": list(one.ranks)})
        return _with_answer(one.prompt, one.completions, answer, limits)
    strength = -round((one.probability - 0.5) * 2 * STRONGEST)  # the nearest step of the scale
    if strength == 0 and one.probability != 0.5:
        shown = max(one.probability, 1 - one.probability)
        what = f"a probability of {shown:g} lies below all strengths of a preference and would become a tie"
        now = "Nothing was imported. Give ties the probability 0.5, and preferences 0.59 or more."
        raise DataError(what, now=now)
    rounded = abs(0.5 - strength / (2 * STRONGEST) - one.probability) > _SAME_PROBABILITY
    altered = ("probabilities rounded to 1/2, 2/3, 5/6 or 1",) * rounded + ("margins left out",) * (one.margin != 0)
    answer = ImportedAnswer(who=name, kind=EventKind.PAIRWISE, payload={"strength": strength})
    return _with_answer(one.prompt, (one.chosen, one.rejected), answer, limits, altered)


def _demonstrated(conversation: Conversation, who: str, limits: ImportLimits) -> ImportedItem:
    """The last message is the demonstration, an answer to all before it."""
    messages = conversation.messages
    if not messages or messages[-1].role is not Role.ASSISTANT:
        raise DataError("a demonstration does not end with the assistant")
    if not messages[-1].learned:
        shown = messages[-1].content[:40]
        what = f'a conversation ends with a message of weight 0, which is not to be learned: "{shown}"'
        now = "Nothing was imported. End it with the last message that is to be learned."
        raise DataError(what, now=now)
    answer = ImportedAnswer(who=who, kind=EventKind.DEMONSTRATION, payload={"text": messages[-1].content})
    altered = ("tool calls of answers kept as text",) * bool(messages[-1].tool_calls)
    return _with_answer(replace(conversation, messages=messages[:-1]), (), answer, limits, altered)


def _with_answer(
    prompt: Conversation,
    completions: Sequence[Completion],
    answer: ImportedAnswer,
    limits: ImportLimits,
    altered: tuple[str, ...] = (),
) -> ImportedItem:
    """The item of a prompt and its completions. Of tools, a store keeps what stands in the text."""
    tools = (TOOLS_LEFT_OUT,) * bool(prompt.tools)
    calls = (CALLS_AS_TEXT,) * any(one.tool_calls or one.tool_call_id or one.name for one in prompt.messages)
    return ImportedItem(item=_item(prompt, completions, limits), answers=(answer,), altered=(*altered, *tools, *calls))


def _rated(ratings: Sequence[Rating], who: str, limits: ImportLimits) -> list[ImportedItem]:
    """Answers to whole items, as far as a person rated the completions of a prompt together.

    What a person says a second time of the same completion belongs to another answer of theirs.
    """
    order: dict[Conversation, dict[Completion, None]] = {}
    together: dict[tuple[Conversation, str], list[_Scores]] = {}
    label = _are_labels(ratings)
    for one in ratings:
        if not label and not (1 <= one.score <= HIGHEST_RATING and one.score.is_integer()):
            now = "Bring the scores to that scale, or import rankings."
            raise DataError(f"a rating of {one.score:g} is none of 1 to {HIGHEST_RATING}", now=now)
        order.setdefault(one.prompt, {})[one.completion] = None
        answers = together.setdefault((one.prompt, one.provenance.who or who), [])
        answer = next((each for each in answers if one.criterion not in each.get(one.completion, {})), None)
        if answer is None:
            answers.append(answer := {})
        answer.setdefault(one.completion, {})[one.criterion] = one.score
    found = []
    for (prompt, name), answers in together.items():
        for answer in answers:
            scores = {completion: answer[completion] for completion in order[prompt] if completion in answer}
            kept = _labels(scores, name) if label else _ratings(scores, name)
            found.append(_with_answer(prompt, tuple(scores), kept, limits))
    return found


def _are_labels(ratings: Sequence[Rating]) -> bool:
    """Whether scores are 1 (good) and 0 (bad): all of them overall, or by one criterion that calls something bad."""
    scores, criteria = {one.score for one in ratings}, {one.criterion for one in ratings}
    return scores <= {0.0, 1.0} and (criteria == {"overall"} or (len(criteria) == 1 and 0.0 in scores))


def _labels(scores: _Scores, who: str) -> ImportedAnswer:
    good = [bool(score) for of_one in scores.values() for score in of_one.values()]
    return ImportedAnswer(who=who, kind=EventKind.GOOD_BAD, payload={"good": good, "reasons": [""] * len(good)})


def _ratings(scores: _Scores, who: str) -> ImportedAnswer:
    criteria = {criterion for of_one in scores.values() for criterion in of_one}
    if any(criteria != set(of_one) for of_one in scores.values()):
        raise DataError("the completions of a prompt are not all rated on the same criteria")
    columns = {
        "helpful" if name == "overall" else name: [int(of_one[name]) for of_one in scores.values()]
        for name in sorted(criteria)
    }
    return ImportedAnswer(who=who, kind=EventKind.RATING, payload={"ratings": columns})


def _item(prompt: Conversation, completions: Sequence[Completion], limits: ImportLimits) -> NewItem:
    if not is_prompt(prompt):
        raise DataError("a prompt is empty or ends with the assistant")
    if len(completions) > limits.completions:
        most = f"at most {limits.completions} can be labelled at once"
        raise DataError(f"an item has {len(completions)} completions, {most}")
    for message in prompt.messages:
        text_value(message.content, "prompt", limits, blank=True)
    candidates = tuple(Candidate(text=text_value(one.text, "completion", limits), stop=one.stop) for one in completions)
    return NewItem(prompt=prompt, candidates=candidates)
