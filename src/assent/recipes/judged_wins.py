"""`assent eval --judge`: a model compares the answers of two others, by a principle at a time and in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from assent.constitution.comparison import PrincipleJudge
from assent.constitution.constitution_file import load_constitution
from assent.errors import RunError
from assent.evals.win_rate import WinRate, win_rate
from assent.recipes.run.chat_models import chat_model
from assent.recipes.run.job_settings import EvalJob
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.runs.lineage import Parent, named
from assent.types import Completion, Conversation


def judged_wins(
    request: Request, settings: EvalJob, prompts: Sequence[Conversation],
    answers: Mapping[str, Sequence[Completion]], display: Display,
) -> tuple[WinRate, Parent]:  # fmt: skip
    """How often the last of two models wins, and who judged.

    Says on how many prompts the order of the answers decided. Prompts on which the judge names neither answer are left
    out and counted. Raises RunError where the judge answers on no prompt at all.
    """
    given = str(request.text("judge"))
    (other, theirs), (mine, ours) = answers.items()
    with chat_model(given, settings.judge.endpoint, settings.machine) as (model, origin):
        path = request.text("constitution")
        constitution = load_constitution(Path(path) if path else settings.judge.path).tagged(settings.judge.tags)
        judge = PrincipleJudge(model, constitution)
        with display.stage("judge", 2 * len(prompts), unit="calls") as stage:
            judged = judge.judge(prompts, ours, theirs, progress=stage.counter)
    kept = [place for place, one in enumerate(judged) if one.probability is not None]
    if not kept:
        now = "Take another judge: this one names neither A nor B."
        raise RunError("the judge answered on no prompt", where=f"--judge {given}", now=now)
    parent = Parent(role="judge", name=origin.name, sha256=origin.sha256)
    orders = [(v.forward, v.backward) for place in kept for v in judged[place].verdicts]
    flips = [(a > 0.5) != (b > 0.5) for a, b in orders if a is not None and b is not None]
    won = win_rate(
        [judged[place].probability or 0.0 for place in kept], names=(mine, other), judge=f"judge {named(parent)}",
        seed=settings.seed, groups=[prompts[place] for place in kept],
        lengths=(letters([ours[place] for place in kept]), letters([theirs[place] for place in kept])),
    )  # fmt: skip
    display.say(f"the order of the answers decided on {sum(flips) / len(flips):.1%} of the prompts")
    if unanswered := len(judged) - len(kept):
        display.say(f"left out, because the judge named neither answer: {unanswered} prompts")
    return won, parent


def letters(answers: Sequence[Completion]) -> list[int]:
    """The lengths of answers, in characters."""
    return [len(answer.text) for answer in answers]
