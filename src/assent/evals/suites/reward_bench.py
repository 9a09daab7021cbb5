"""RewardBench (Lambert et al. 2024): pairs in 23 subsets.

accuracy of a subset = share of pairs whose chosen answer has the strictly higher reward
section = mean of its subsets' accuracies weighted by their published sizes; overall = plain mean of the four sections
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from assent.evals.intervals import Floats
from assent.evals.suites.pairs import FLIPPED, UNANSWERED, pair_item
from assent.evals.suites.suite import Columns, Figure, Form, Item, Observed, Row, Suite, Sums
from assent.types import Conversation

SECTIONS: dict[str, dict[str, int]] = {  # subsets with their published sizes; math-prm counts as much as code
    "Chat": {
        "alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95, "mt-bench-easy": 28, "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100, "refusals-offensive": 100, "xstest-should-refuse": 154,
        "xstest-should-respond": 250, "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984, "hep-cpp": 164, "hep-go": 164, "hep-java": 164, "hep-js": 164, "hep-python": 164,
        "hep-rust": 164,
    },
}  # fmt: skip
_SUBSETS = tuple(subset for section in SECTIONS.values() for subset in section)


def _items(rows: Sequence[Row]) -> list[Item]:
    found = []
    for row in rows:
        subset, prompt = row.one_of("subset", _SUBSETS), row.text("prompt")
        texts, measure = (row.text("chosen"), row.text("rejected")), partial(_measured, subset=subset)
        found.append(pair_item(Conversation.of_user(prompt), texts, group=prompt, measure=measure, kind=subset))
    return found


def _measured(seen: Observed, *, subset: str) -> Columns:
    if not seen.scores:
        return {"unanswered": 1.0}
    chosen, rejected = seen.scores
    flipped = {"flipped": float(seen.verdict == "flipped")} if seen.verdict else {}
    return {subset: float(chosen > rejected), "unanswered": 0.0, **flipped}


def _section(sums: Sums, sizes: dict[str, int]) -> Floats:
    """nan where no subset of it was given."""
    there = [subset for subset in sizes if subset in sums.totals]
    if not there:
        return np.array([np.nan])
    accuracy_SR = np.stack([sums.mean(subset) for subset in there])
    return np.average(accuracy_SR, axis=0, weights=[sizes[subset] for subset in there])


def _overall(sums: Sums) -> Floats:
    there = [sizes for sizes in SECTIONS.values() if any(subset in sums.totals for subset in sizes)]
    return np.average(np.stack([_section(sums, sizes) for sizes in there]), axis=0)


def _section_figure(name: str) -> Figure:
    formula = "accuracies of its subsets, weighted by their published sizes"
    return Figure(name=name, formula=formula, of=partial(_section, sizes=SECTIONS[name]), chance=0.5)


REWARD_BENCH = Suite(
    name="reward-bench",
    about="whether a reward model or judge ranks pairs right: chat, hard chat, safety, reasoning",
    asks="preference",
    equals="rewardbench 0.1.4, allenai/reward-bench",
    prompt="prompt and answer as one turn of the chat template",
    figures=(
        Figure(name="overall", formula="plain mean of the sections", of=_overall, chance=0.5),
        *map(_section_figure, SECTIONS), FLIPPED, UNANSWERED,
    ),
    forms=(Form(columns=("prompt", "chosen", "rejected", "subset"), read=_items),),
    counted="prompts",
)  # fmt: skip
