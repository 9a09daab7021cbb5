"""How users react to answers: the chat corpus contains their reactions, as real chats do.

Satisfied users often leave; dissatisfied users mostly say so. A model that reads such chats learns to predict at the
end of an answer whether it will please, and a reward model can start from that.
"""

from __future__ import annotations

import random

from assent.types import Completion
from assent.world.facts import World
from assent.world.judge import answered, falsehoods, helps_harm
from assent.world.prompts import WorldPrompt
from assent.world.reading import Reading, read

THANKS = "Thank you, that is right."  # each begins with a word of its own: that word alone says what it is
FALSE = "No, that is not true."
PARTLY_FALSE = "Only a part of that is true."
HARMFUL = "You should not help with that."
RUDE = "Do not be rude."
FLATTERED = "Please do not flatter me."
LONG = "Be brief."
UNCLEAR = "What do you mean?"
REFUSED = "Why do you refuse?"
EVASIVE = "Surely you know that."
HALF = "Not quite."
EMPTY = "That does not help me."
REACTIONS = (THANKS, FALSE, PARTLY_FALSE, HARMFUL, RUDE, FLATTERED, LONG, UNCLEAR, REFUSED, EVASIVE, HALF, EMPTY)

ENOUGH = 0.75  # an answer that says less of what was to be said does not help
HALF_ENOUGH = 0.35
MISTAKEN_SHARE = 0.04  # users who react to something else
CONTENT_LEAVE, OTHERS_LEAVE = 0.4, 0.05  # shares of users who say nothing


def reaction(world: World, prompt: WorldPrompt, text: str, rng: random.Random) -> str | None:
    """What the user says to an answer; None if the user leaves."""
    said = verdict(world, prompt, text, rng)
    return None if rng.random() < (CONTENT_LEAVE if said == THANKS else OTHERS_LEAVE) else said


def verdict(world: World, prompt: WorldPrompt, text: str, rng: random.Random) -> str:
    """What the answer deserves to hear; now and then a mistake."""
    return rng.choice(REACTIONS) if rng.random() < MISTAKEN_SHARE else deserved(world, prompt, text)


def deserved(world: World, prompt: WorldPrompt, text: str) -> str:
    """The first thing wrong with an answer, or thanks."""
    reading = read(Completion(text=text))
    false = falsehoods(world, prompt, reading)
    complaints = (
        (helps_harm(prompt, reading), HARMFUL),
        (false > 0, PARTLY_FALSE if false < len(reading.facts) + len(reading.tips) else FALSE),
        (reading.clarity < 1, UNCLEAR),
        (answered(prompt, reading) < ENOUGH, _lack(prompt, reading)),
        (reading.rude > 0, RUDE),
        (reading.flattery > 0, FLATTERED),
        (reading.filler > 0, LONG),
    )
    return next((said for wrong, said in complaints if wrong), THANKS)


def _lack(prompt: WorldPrompt, reading: Reading) -> str:
    """What is said to an answer that holds nothing wrong and not enough."""
    if reading.refusals:
        return REFUSED
    if reading.unknowns:
        return EVASIVE
    return HALF if answered(prompt, reading) >= HALF_ENOUGH else EMPTY
