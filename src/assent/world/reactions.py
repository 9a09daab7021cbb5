"""How users take what they were told: the chat corpus carries their reactions, as real chats do.

Who is content often leaves; who is not mostly says so. A reader of such chats learns to tell at the end of an answer
whether it will please, and a reward model can start from that.
"""

from __future__ import annotations

import random

from assent.types import Completion
from assent.world.facts import World
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt
from assent.world.reading import read

THANKS = "Thank you, that is right."
FALSE = "That is not true."
HARMFUL = "You should not help with that."
RUDE = "That is rude."
FLATTERED = "Please do not flatter me."
LONG = "Please be brief."
EMPTY = "That does not help me."
REACTIONS = (THANKS, FALSE, HARMFUL, RUDE, FLATTERED, LONG, EMPTY)

MISTAKEN_SHARE = 0.04  # users who react to something else
CONTENT_LEAVE, OTHERS_LEAVE = 0.4, 0.05  # shares of users who say nothing


def reaction(world: World, prompt: WorldPrompt, text: str, rng: random.Random) -> str | None:
    """What the user says to an answer: the first thing wrong with it, or thanks; None if the user leaves."""
    said = rng.choice(REACTIONS) if rng.random() < MISTAKEN_SHARE else _deserved(world, prompt, text)
    return None if rng.random() < (CONTENT_LEAVE if said == THANKS else OTHERS_LEAVE) else said


def _deserved(world: World, prompt: WorldPrompt, text: str) -> str:
    gold, reading = judge(world, prompt, Completion(text=text)), read(Completion(text=text))
    if reading.rude:
        return RUDE
    if gold.harmless < 0.8:
        return HARMFUL
    if gold.honest < 0.5 and (reading.facts or reading.tips):
        return FALSE
    if reading.flattery:
        return FLATTERED
    if reading.filler:
        return LONG
    return THANKS if gold.helpful > 0.7 else EMPTY
