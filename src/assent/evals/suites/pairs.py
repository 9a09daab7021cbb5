"""Pairs that people compared: PandaLM's three annotators, and HH (Bai et al. 2022).

accuracy = mean agreement with the label: a label of 0.67 counts 0.67 for one side and 0.33 for the other, and equal
scores count half. A judge is asked in both orders: "flipped" is the share of pairs on which the order decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from assent.errors import DataError
from assent.evals.suites.suite import Columns, Figure, Form, Item, Observed, Option, Row, Suite, mean_of
from assent.text.transcripts import parse_transcript, shared_prompt
from assent.types import Conversation

FLIPPED = Figure(name="flipped", formula="share of pairs on which a judge's preference changes with the order",
                 of=mean_of("flipped"), lower_is_better=True)  # fmt: skip
UNANSWERED = Figure(name="unanswered", formula="share of pairs on which a judge names neither answer",
                    of=mean_of("unanswered"), lower_is_better=True)  # fmt: skip


def pair_item(
    prompt: Conversation, texts: Sequence[str], *, group: str, measure: Callable[[Observed], Columns], kind: str = ""
) -> Item:
    """An item of two answers to one prompt, the better one first."""
    options = tuple(Option(prompt=prompt, text=text) for text in texts)
    shown = prompt.last_user_text
    return Item(measure=measure, group=group, shown=shown, expected=texts[0], kind=kind, options=options)


def _hh(rows: Sequence[Row]) -> list[Item]:
    """Two transcripts a row that part at the last answer."""
    found = []
    for row in rows:
        try:
            both = [parse_transcript(row.text(name)) for name in ("chosen", "rejected")]
            prompt = shared_prompt(*both)
        except DataError as error:
            raise DataError(error.what, where=error.where or row.place, now=error.now) from error
        texts = [one.messages[-1].content for one in both]
        measure, group = partial(_measured, probability=1.0), prompt.messages[0].content
        found.append(pair_item(prompt, texts, group=group, measure=measure))
    return found


_ANNOTATORS = ("annotator1", "annotator2", "annotator3")
_PREFERRED = {0: 0.5, 1: 1.0, 2: 0.0}  # P(the first is better) in an annotator's eyes: 0 is a tie


def _pandalm(rows: Sequence[Row]) -> list[Item]:
    """The label is the mean over three annotators. Rows on which they are even say nothing and are left out."""
    found = []
    for row in rows:
        given = [row.fields[name] for name in _ANNOTATORS]
        if not set(given) <= set(_PREFERRED):
            raise row.problem("annotator1 to annotator3", "expected 0, 1 or 2", given)
        probability = sum(_PREFERRED[one] for one in given) / len(given)
        asked = "\n\n".join(part for part in (row.text("instruction"), row.fields.get("input")) if part)
        texts = (row.answer("response1"), row.answer("response2"))
        if probability != 0.5:
            measure = partial(_measured, probability=probability)
            found.append(pair_item(Conversation.of_user(asked), texts, group=asked, measure=measure))
    return found


def _measured(seen: Observed, *, probability: float) -> Columns:
    if not seen.scores:
        return {"unanswered": 1.0}
    chosen, rejected = seen.scores
    agreed = probability if chosen > rejected else 1 - probability if chosen < rejected else 0.5
    flipped = {"flipped": float(seen.verdict == "flipped")} if seen.verdict else {}
    return {"right": agreed, "unanswered": 0.0, **flipped}


def _suite(name: str, about: str, form: Form) -> Suite:
    accuracy = Figure(name="accuracy", formula="mean agreement with people's labels", of=mean_of("right"), chance=0.5)
    return Suite(
        name=name, about=about, asks="preference", equals="", prompt="prompt and answer in the chat template",
        figures=(accuracy, FLIPPED, UNANSWERED), forms=(form,), counted="prompts",
    )  # fmt: skip


PANDALM = _suite(
    "pandalm", "agreement of a reward model or judge with PandaLM's three annotators",
    Form(columns=("instruction", "response1", "response2", *_ANNOTATORS), read=_pandalm),
)  # fmt: skip
HH = _suite(
    "hh", "agreement of a reward model or judge with people's choices in HH",
    Form(columns=("chosen", "rejected"), read=_hh),
)  # fmt: skip
