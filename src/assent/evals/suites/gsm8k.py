"""GSM8K (Cobbe et al. 2021): word problems with a number as answer, as lm-eval scores what the model writes.

exact match, strict = the number after "#### " equals the answer's; flexible = the last number of the text does
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from assent.evals.suites.suite import Answering, Columns, Figure, Form, Item, Observed, Row, Suite, mean_of

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = tuple(re.compile(one) for one in (",", r"\$", r"(?s).*#### ", r"\.$"))
_INVALID = "[invalid]"


def strict(text: str) -> str:
    """The first number behind "#### "."""
    found = _STRICT.findall(text)
    return found[0].strip() if found else _INVALID


def flexible(text: str) -> str:
    """The last number."""
    found = _FLEXIBLE.findall(text)
    return next((one for one in found[-1] if one), _INVALID).strip() if found else _INVALID


def _bare(text: str) -> str:
    for pattern in _IGNORED:
        text = pattern.sub("", text)
    return text.lower()


def _items(rows: Sequence[Row]) -> list[Item]:
    found = []
    for row in rows:
        question, answer = row.text("question"), _bare(_worked(row))
        found.append(Item(
            measure=partial(_measured, answer=answer), group=question, shown=question, expected=answer,
            prompt=f"Question: {question}\nAnswer:",
        ))  # fmt: skip
    return found


def _worked(row: Row) -> str:
    """The worked answer, which ends in "#### 18"."""
    answer = row.text("answer")
    if not _STRICT.search(answer):
        raise row.problem("answer", 'expected "#### " and a number', answer)
    return answer


def _measured(seen: Observed, *, answer: str) -> Columns:
    return {
        "strict": float(_bare(strict(seen.answer)) == answer), "flexible": float(_bare(flexible(seen.answer)) == answer)
    }  # fmt: skip


GSM8K = Suite(
    name="gsm8k",
    about="whether word problems are solved",
    asks="answer",
    equals="lm-eval 0.4.13, gsm8k 3.0",
    prompt="worked examples (with --shots, five drawn as lm-eval draws them), Question: {question}, Answer:; "
    "no chat template",
    figures=(
        Figure(name="exact match", formula='share of problems whose number after "#### " is right',
               of=mean_of("strict"), axis="helpful"),
        Figure(name="exact match, flexible", formula="share of problems whose last number is right",
               of=mean_of("flexible")),
    ),
    forms=(Form(columns=("question", "answer"), read=_items),),
    answering=Answering(
        max_tokens=256, stop=("Question:", "</s>", "<|im_end|>"),
        shot=lambda row: f"Question: {row.text('question')}\nAnswer: {_worked(row)}\n\n",
    ),
    counted="problems",
)  # fmt: skip
