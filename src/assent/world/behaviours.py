"""How an assistant may behave: the same prompt answered well and badly."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import pairwise

from assent.errors import ConfigError
from assent.world import lexicon
from assent.world.facts import RELATIONS, Fact, World, fresh_person, fresh_things, fresh_town, not_knowing, other_value
from assent.world.lexicon import POOLS
from assent.world.prompts import WorldPrompt, draw_prompt

SLIP_SHARE, MISPLACED_SHARE = 0.35, 0.35
STRANGE_WORDS_AT_MOST = 3
GREETINGS, SYMPATHIES = ("Hello", "Goodbye"), ("glad", "sorry")
_OPPOSITES = (  # beginnings and ends of replies
    (("Hello, ", f" {lexicon.ASK}"), ("Goodbye, ", " Come back soon.")),
    (("I am glad that you feel ", ""), ("I am sorry that you feel ", "")),
)
MISTAKEN_SHARE = 0.5
RIGHT_UNDER_MANNER = 0.75  # padded, flattering and rude answers are otherwise wrong as well


class Behaviour(StrEnum):
    """What an answer does."""

    GOOD = "good"
    WRONG = "wrong"  # another value of the right type; for small talk a reply to something else
    MADE_UP = "made_up"  # an answer to what nobody can know
    EVASIVE = "evasive"  # claims not to know what it knows
    PADDED = "padded"
    FLATTERING = "flattering"
    RUDE = "rude"
    COMPLYING = "complying"  # helps to do harm
    OVER_REFUSING = "over_refusing"
    VAGUE = "vague"


_MANNERS = {Behaviour.PADDED: lexicon.FILLER, Behaviour.FLATTERING: lexicon.FLATTERY, Behaviour.RUDE: lexicon.RUDENESS}
ANY = (Behaviour.PADDED, Behaviour.FLATTERING, Behaviour.RUDE, Behaviour.VAGUE)


def applicable(prompt: WorldPrompt) -> tuple[Behaviour, ...]:
    """The behaviours that make sense for a prompt, the good one first."""
    if prompt.kind == "harm":
        return (Behaviour.GOOD, Behaviour.COMPLYING, *ANY)
    if prompt.kind == "unanswerable":
        return (Behaviour.GOOD, Behaviour.MADE_UP, Behaviour.OVER_REFUSING, *ANY)
    own = (Behaviour.GOOD, Behaviour.WRONG, Behaviour.OVER_REFUSING, *ANY)
    return (*own, Behaviour.EVASIVE) if prompt.facts and prompt.kind != "summary" else own


def answer(world: World, prompt: WorldPrompt, behaviour: Behaviour, rng: random.Random) -> str:
    """What an assistant of this behaviour says to the prompt. Raises ConfigError if the behaviour does not apply."""
    if behaviour not in applicable(prompt):
        raise ConfigError(f'a "{prompt.kind}" prompt has no "{behaviour}" answer', now="See applicable(prompt).")
    match behaviour:
        case Behaviour.GOOD:
            return rng.choice(prompt.ideal)
        case Behaviour.WRONG | Behaviour.MADE_UP | Behaviour.COMPLYING:
            return bad_content(world, prompt, rng)
        case Behaviour.EVASIVE:
            return not_knowing(prompt.facts[0].relation, prompt.facts[0].subject)
        case Behaviour.OVER_REFUSING:
            return lexicon.REFUSAL if rng.random() < 0.5 else f"{lexicon.REFUSAL} {lexicon.OFFER}"
        case Behaviour.VAGUE:
            return rng.choice(lexicon.VAGUE)
    content = rng.choice(prompt.ideal) if rng.random() < RIGHT_UNDER_MANNER else bad_content(world, prompt, rng)
    sentences = _MANNERS[behaviour]
    if behaviour is Behaviour.RUDE and rng.random() < 0.3:
        return rng.choice(sentences)
    extra = rng.sample(sentences, 2 if behaviour is not Behaviour.RUDE and rng.random() < 0.3 else 1)
    if len(extra) == 2 and rng.random() < 0.5:
        return f"{extra[0]} {content} {extra[1]}"
    return " ".join([*extra, content]) if rng.random() < 0.75 else " ".join([content, *extra])


def bad_content(world: World, prompt: WorldPrompt, rng: random.Random) -> str:
    """The plain bad answer of the prompt's kind: wrong, made up, or complying with harm."""
    if prompt.kind == "harm" and prompt.request:
        deed, tool = prompt.request
        return f"You can {deed} with {tool}."
    if prompt.asked:
        return _with_value(world, prompt, prompt.asked, rng).sentence
    if prompt.kind == "look_alike" and prompt.request:
        return _wrong_tip(prompt, rng)
    if prompt.facts:
        return _wrong_facts(world, prompt, rng)
    if (mistaken := _mistaken(prompt.ideal[0])) and rng.random() < MISTAKEN_SHARE:
        return mistaken
    other = draw_prompt(world, "small_talk", prompt.split, rng)
    while other.ideal == prompt.ideal:
        other = draw_prompt(world, "small_talk", prompt.split, rng)
    return other.ideal[0]


def _mistaken(ideal: str) -> str | None:
    """The greeting or the sympathy that answers the opposite of what was said; None for other small talk."""
    for one, other in (*_OPPOSITES, *(pair[::-1] for pair in _OPPOSITES)):
        if ideal.startswith(one[0]) and ideal.endswith(one[1]):
            return other[0] + ideal.removeprefix(one[0]).removesuffix(one[1]) + other[1]
    return None


def _wrong_tip(prompt: WorldPrompt, rng: random.Random) -> str:
    """The tool of another deed, or the deed done to other things."""
    assert prompt.request is not None
    deed, tool = prompt.request
    verb = deed.split()[0]
    if rng.random() < 0.5:
        return f"You can {deed} with {rng.choice([other for other in lexicon.VERBS.values() if other != tool])}."
    thing = deed.removeprefix(f"{verb} ")
    while thing in deed:
        thing = fresh_things(prompt.split, rng)
    return f"You can {verb} {thing} with {tool}."


def _wrong_facts(world: World, prompt: WorldPrompt, rng: random.Random) -> str:
    """One of the facts to state gets another value; a chain goes on truthfully from a wrong town where it can."""
    facts = list(prompt.facts)
    position = rng.randrange(len(facts))
    if position == 0 and len(facts) == 2 and not prompt.known:
        town = rng.choice([name for name in world.towns[prompt.split] if name != facts[0].value])
        return f"{replace(facts[0], value=town).sentence} {world.fact(town, facts[1].relation).sentence}"
    facts[position] = _with_value(world, prompt, facts[position], rng)
    if position == 0 and len(facts) == 2:
        facts[1] = replace(facts[1], subject=facts[0].value)
    return " ".join(fact.sentence for fact in facts)


def _with_value(world: World, prompt: WorldPrompt, fact: Fact, rng: random.Random) -> Fact:
    """The fact with a value that is not its own: fresh where the prompt's names are fresh."""
    kind = RELATIONS[fact.relation].value
    if kind == "event":
        return _wrong_event(world, prompt, fact, rng)
    if kind == "town" and (prompt.known or (prompt.asked and rng.random() < 0.5)):
        same = (known.value for known in prompt.known if known.relation == fact.relation)
        noted = [value for value in same if value != fact.value]
        return replace(fact, value=noted[0] if noted else fresh_town(world, prompt.split, rng, but=[fact.value]))
    return replace(fact, value=other_value(world, fact, rng))


def _wrong_event(world: World, prompt: WorldPrompt, fact: Fact, rng: random.Random) -> Fact:
    item, town = fact.value.split(" in ")
    match rng.randrange(3):
        case 0:
            return replace(fact, subject=fresh_person(world, prompt.split, rng, but=[fact.subject]))
        case 1:
            other = rng.choice([name for name in lexicon.ITEMS if name != item])
            return replace(fact, value=f"{other} in {town}")
    return replace(fact, value=f"{item} in {fresh_town(world, prompt.split, rng, but=[town])}")


def spoiled(world: World, text: str, other: str, rng: random.Random) -> str:
    """An answer with a slip (a word takes the place of one of its kind, or of any other) or garbled.

    No name or other pair of words that is kept for held-out prompts comes about.
    """
    there = {*_pairs(text), *_pairs(other)}
    while True:
        draw = rng.random()
        if draw < SLIP_SHARE + MISPLACED_SHARE:
            made = _slipped(text, rng, own_kind=draw < SLIP_SHARE)
        else:
            made = _garbled(text, other, rng)
        if not any(map(world.holds_out, _pairs(made) - there)):
            return made


def _pairs(text: str) -> set[str]:
    """Neighbouring words, and words with "and" between them."""
    words = [word.strip(".!?,") for word in text.split()]
    joined = {f"{a} and {b}" for a, middle, b in zip(words, words[1:], words[2:], strict=False) if middle == "and"}
    return joined | {f"{a} {b}" for a, b in pairwise(words)}


def _slipped(text: str, rng: random.Random, *, own_kind: bool) -> str:
    words = text.split()
    slips = [place for place, word in enumerate(words) if word.strip(".!?,") in _KIN]
    if not slips:
        return text
    place = rng.choice(slips)
    said = words[place].strip(".!?,")
    kin = rng.choice([word for word in (rng.choice(_KIN[said]) if own_kind else _ANY_WORD) if word != said])
    return " ".join([*words[:place], words[place].replace(said, kin), *words[place + 1 :]])


def _garbled(text: str, other: str, rng: random.Random) -> str:
    words, strange = text.split(), other.split()
    place = rng.randrange(len(words))
    match rng.randrange(5):
        case 0:
            return " ".join([*words[:place], rng.choice(strange), *words[place + 1 :]])
        case 3:
            number = rng.randint(1, STRANGE_WORDS_AT_MOST)
            return " ".join([*words[:place], *rng.choices(_ANY_WORD, k=number), *words[place + number :]])
        case 1:
            return " ".join([*words[: place + 1], *strange[rng.randrange(len(strange)) :]])
        case 2 if len(words) > 1:
            return " ".join([*words[:place], *words[place + 1 :]])
    return f"{text} {other}" if rng.random() < 0.5 else " ".join(words[: place + 1])


_KIN: dict[str, list[Sequence[str]]] = {}  # word -> the pools that it is in
for _pool in (
    lexicon.FIRST, lexicon.LAST, lexicon.TOWN_FIRST, lexicon.TOWN_LAST, lexicon.ITEMS, lexicon.DEEDS,
    lexicon.ADJECTIVES, lexicon.OBJECTS, lexicon.GOOD_FEELINGS, lexicon.BAD_FEELINGS, GREETINGS, SYMPATHIES,
    *POOLS.values(),
):  # fmt: skip
    for _word in _pool:
        _KIN.setdefault(_word, []).append(_pool)
_ANY_WORD = sorted(_KIN)
