"""Demonstrations for fine-tuning by imperfect demonstrators: mostly ideal answers, some mildly bad ones."""

from __future__ import annotations

from assent.seeds import python_rng
from assent.types import Demonstration, Provenance
from assent.world.behaviours import Behaviour, answer, applicable
from assent.world.facts import World
from assent.world.lexicon import TRAIN
from assent.world.prompts import make_prompts

DEMONSTRATOR_WEIGHTS = {
    Behaviour.GOOD: 60,
    Behaviour.WRONG: 9,
    Behaviour.MADE_UP: 14,
    Behaviour.EVASIVE: 5,
    Behaviour.PADDED: 8,
    Behaviour.FLATTERING: 7,
    Behaviour.RUDE: 3,
    Behaviour.COMPLYING: 14,
    Behaviour.OVER_REFUSING: 6,
    Behaviour.VAGUE: 6,
}


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
