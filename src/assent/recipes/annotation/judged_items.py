"""A model is asked first: what it is sure of, and the reward model does not deny, need not go to people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from assent.constitution.comparison import JudgingPlan, PrincipleJudge
from assent.constitution.constitution_file import load_constitution
from assent.feedback.exchange.imported_items import ImportedItem, answer_of_model
from assent.feedback.records import NewItem
from assent.recipes.run.chat_models import chat_model
from assent.recipes.run.judge_rewards import JudgeOptions
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.progress import Display
from assent.seeds import python_rng


class FirstJudge(JudgeOptions):
    """A model that compares before people do; `model` empty: nobody does. It is `sure` from this probability on.

    `audit_share` of what it settles goes to people too, who do not see what it said.
    """

    model: str = ""
    sure: float = Field(default=0.8, gt=0.5, lt=1)
    audit_share: float = Field(default=0.1, ge=0, le=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Items with the judge's answer where it is sure, and how many were settled, denied and left open."""

    items: tuple[ImportedItem, ...]
    settled: int
    denied: int  # the judge is sure, and the reward model prefers the other
    audited: int


def ask_judge(
    items: Sequence[NewItem], judge: FirstJudge, machine: MachineOptions, display: Display, *, overlap: int, seed: int
) -> Settled:
    """Compare the two completions of each item. Items that the judge settles want one label: its own.

    A reward model's predictions, where items have them, must not prefer the other completion. `overlap` people are
    asked beside the judge where its answer is audited.
    """
    path = judge.path
    constitution = load_constitution(path).tagged(judge.tags)
    constitution.require_comparisons(str(path))
    sides = [(item.prompt, *(candidate.completion for candidate in item.candidates)) for item in items]
    prompts, first, second = zip(*sides, strict=True)
    plan = JudgingPlan(principles=judge.principles or len(constitution.principles), few_shots=0, seed=judge.seed)
    with chat_model(judge.model, judge.endpoint, machine) as (model, origin):
        calls = 2 * min(plan.principles, len(constitution.principles)) * len(items)
        with display.stage("judge", calls, unit="calls") as stage:
            judged = PrincipleJudge(model, constitution, plan).judge(prompts, first, second, progress=stage.counter)
    found, counts = list[ImportedItem](), dict.fromkeys(("settled", "denied", "audited"), 0)
    for item, one in zip(items, judged, strict=True):
        p = one.probability
        sure = p is not None and max(p, 1 - p) >= judge.sure
        denied = sure and p is not None and _denies(item, p)
        if not sure or denied:
            counts["denied"] += denied
            found.append(ImportedItem(item=item))
            continue
        audited = python_rng(seed, "audit", item.key).random() < judge.audit_share
        counts["settled"] += 1
        counts["audited"] += audited
        answer = answer_of_model(one.as_preference(origin.name))
        wanted = replace(item, overlap=1 + overlap if audited else 1)
        found.append(ImportedItem(item=wanted, answers=(answer,)))
    return Settled(items=tuple(found), **counts)


def _denies(item: NewItem, p: float) -> bool:
    if item.predicted is None:
        return False
    first, second = item.predicted
    return (first - second) * (p - 0.5) < 0
