"""Demonstrations for fine-tuning by imperfect demonstrators: mostly ideal answers, some mildly bad ones."""

from __future__ import annotations

from assent.seeds import python_rng
from assent.types import Demonstration, Provenance
from assent.world.behaviours import Behaviour, answer, applicable
from assent.world.facts import World
from assent.world.lexicon import TRAIN
from assent.world.prompts import make_prompts

DEMONSTRATOR_WEIGHTS = dict(zip(Behaviour, (60, 9, 14, 5, 8, 7, 3, 14, 6, 6), strict=True))


def demonstrations(world: World, *, count: int, seed: int) -> list[Demonstration]:
    """`count` answered training prompts, all different; about three in five are answered ideally."""
    rng = python_rng(seed, "demonstrations")
    shown = []
    for prompt in make_prompts(world, split=TRAIN, count=count, seed=seed):
        choices = applicable(prompt)
        behaviour = rng.choices(choices, weights=[DEMONSTRATOR_WEIGHTS[choice] for choice in choices])[0]
        text = answer(world, prompt, behaviour, rng)
        who = Provenance(source="simulated", who="demonstrator", detail=str(behaviour))
        shown.append(Demonstration(conversation=prompt.conversation.then(text), provenance=who))
    return shown
