"""Claims with verdicts: documents that compare what is said with what is known, claim by claim.

Answering needs recall; judging an answer needs recall and comparison. Only claims that are marked right and wrong teach
the comparison, and a reward model needs it even for people who occur in no dialogue.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from assent.world.facts import RELATIONS, Fact, World, fresh_person, fresh_things, fresh_town, not_knowing, other_value
from assent.world.lexicon import CRIMES, DEEDS, HELD_OUT, ITEMS, POOLS, TRAIN, VERBS
from assent.world.prompts import PERSON_RELATIONS, fresh_facts, story

Pieces = tuple[tuple[str, bool], ...]  # a text in pieces, and whether each is to be predicted

HEADING = "Claims:"
NOT_KNOWING = "I do not know"
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
FALSE_SHARE = 0.5
NOT_KNOWING_SHARE = 0.25
CLAIMS = 6
CHAIN_SHARE = 0.2
STRANGE_TOWN_SHARE = 0.3


def claims(world: World, rng: random.Random) -> Pieces:
    """A document of marked claims: about the world, about notes or a story that stand above them, or about deeds.

    In pieces, of which only the verdicts are to be predicted: half of what is claimed is made up.
    """
    draw = rng.random()
    if draw < 0.3:
        return _marked("", [_about_world(world, rng) for _ in range(CLAIMS)])
    if draw < 0.72:
        return _about_notes(world, rng)
    if draw < 0.87:
        return _about_story(world, rng)
    return _about_deeds(rng)


def remark(world: World, rng: random.Random) -> tuple[str, str]:
    """Something said of anybody or anything, unasked, and its verdict; sometimes of somebody's home and then of it."""
    if rng.random() >= CHAIN_SHARE:
        return _about_world(world, rng)
    home = rng.choice([fact for fact in world.facts if fact.relation == "home"])
    stated = home.value
    if rng.random() < FALSE_SHARE:
        home = replace(home, value=other_value(world, home, rng))
    of_town = world.fact(home.value, rng.choice(("region", "known")))
    if rng.random() < FALSE_SHARE / 2:
        of_town = replace(of_town, value=other_value(world, of_town, rng))
    true = home.value == stated and world.fact(home.value, of_town.relation) == of_town
    return f"{home.sentence} {of_town.sentence}", TRUE if true else FALSE


def _marked(above: str, said: Sequence[tuple[str, str]]) -> Pieces:
    heading = f"{above} {HEADING}" if above else HEADING
    return ((heading, False), *(piece for claim, verdict in said for piece in ((claim, False), (verdict, True))))


def _about_world(world: World, rng: random.Random) -> tuple[str, str]:
    draw = rng.random()
    if draw < 0.12:  # of strangers nothing is known
        return _of_stranger(world, rng).sentence, UNKNOWN
    if draw < 0.16:
        relation, subject = _unstated(world, rng)
        value = rng.choice(POOLS[RELATIONS[relation].value])
        return Fact(relation=relation, subject=subject, value=value).sentence, UNKNOWN
    if draw < 0.3:
        return _about_knowing(world, rng)
    fact = rng.choice(world.facts)
    if rng.random() >= FALSE_SHARE:
        return fact.sentence, TRUE
    return replace(fact, value=other_value(world, fact, rng)).sentence, FALSE


def _about_knowing(world: World, rng: random.Random) -> tuple[str, str]:
    """Not to know what is stated is a fault, not to know what is not stated is right."""
    draw = rng.random()
    if draw < 0.5:
        of_people = rng.random() < 0.5
        fact = rng.choice([fact for fact in world.facts if (fact.relation in PERSON_RELATIONS) == of_people])
        return not_knowing(fact.relation, fact.subject), FALSE
    if draw < 0.8:
        stranger = _of_stranger(world, rng)
        return not_knowing(stranger.relation, stranger.subject), TRUE
    return not_knowing(*_unstated(world, rng)), TRUE


def _of_stranger(world: World, rng: random.Random) -> Fact:
    if rng.random() < STRANGE_TOWN_SHARE:
        relation = rng.choice(("region", "known"))
        value = rng.choice(POOLS[RELATIONS[relation].value])
        return Fact(relation=relation, subject=fresh_town(world, TRAIN, rng), value=value)
    return fresh_facts(world, TRAIN, rng, [rng.choice(PERSON_RELATIONS)])[0]


def _unstated(world: World, rng: random.Random) -> tuple[str, str]:
    """What nobody states of somebody known."""
    return rng.choice(("age", "song", "birth", "fear")), rng.choice(world.people[rng.choice((TRAIN, HELD_OUT))])


def _about_notes(world: World, rng: random.Random) -> Pieces:
    relations = rng.sample(PERSON_RELATIONS, 2)
    notes = fresh_facts(world, TRAIN, rng, relations)
    notes += fresh_facts(world, TRAIN, rng, relations[: rng.choice((1, 2))], beside=notes)
    if notes[0].relation == "home" and rng.random() < 0.5:
        second = rng.choice(("region", "known"))
        notes.append(Fact(relation=second, subject=notes[0].value, value=rng.choice(POOLS[RELATIONS[second].value])))
    rng.shuffle(notes)
    said = []
    for fact in rng.sample(notes, len(notes)):
        if fact.relation in PERSON_RELATIONS and rng.random() < NOT_KNOWING_SHARE:
            known = {other.relation for other in notes if other.subject == fact.subject}
            relation = rng.choice(PERSON_RELATIONS)
            said.append((not_knowing(relation, fact.subject), FALSE if relation in known else TRUE))
            continue
        if rng.random() >= FALSE_SHARE:
            said.append((fact.sentence, TRUE))
            continue
        others = [other.value for other in notes if other.relation == fact.relation and other.value != fact.value]
        if others and rng.random() < 0.4:
            value = rng.choice(others)
        elif fact.relation == "home":
            value = fresh_town(world, TRAIN, rng, but=[fact.value])
        else:
            value = rng.choice([each for each in POOLS[RELATIONS[fact.relation].value] if each != fact.value])
        said.append((replace(fact, value=value).sentence, FALSE))
    return _marked(" ".join(["Notes:", *(fact.sentence for fact in notes)]), said)


def _about_story(world: World, rng: random.Random) -> Pieces:
    text, fact = story(world, TRAIN, rng)
    item, town = fact.value.split(" in ")
    said = []
    for _ in range(CLAIMS // 2):
        if rng.random() >= FALSE_SHARE:
            said.append((fact.sentence, TRUE))
            continue
        draw = rng.randrange(4)
        subject = fresh_person(world, TRAIN, rng, but=[fact.subject]) if draw == 0 else fact.subject
        deed = rng.choice([each for each in DEEDS if each != fact.relation]) if draw == 1 else fact.relation
        thing = rng.choice([each for each in ITEMS if each != item]) if draw == 2 else item
        place = fresh_town(world, TRAIN, rng, but=[town]) if draw == 3 else town
        said.append((Fact(relation=deed, subject=subject, value=f"{thing} in {place}").sentence, FALSE))
    return _marked(text, said)


def _about_deeds(rng: random.Random) -> Pieces:
    """What was asked for and the advice that was given: the tool and the thing must be those of the deed."""
    said = []
    for _ in range(CLAIMS // 2):
        verb = rng.choice(list(VERBS))
        thing, other = fresh_things(TRAIN, rng), fresh_things(TRAIN, rng)
        tool, object_, verdict = VERBS[verb], thing, TRUE
        if rng.random() < FALSE_SHARE:
            if rng.random() < 0.5:
                tool = rng.choice([each for each in (*VERBS.values(), *CRIMES.values()) if each != tool])
            else:  # another thing, or its adjective or its noun
                (_, adjective, noun), (_, other_adjective, other_noun) = thing.split(), other.split()
                mixed = (f"the {other_adjective} {noun}", f"the {adjective} {other_noun}")
                object_ = other if rng.random() < 0.5 else mixed[rng.random() >= 0.5]
            verdict = TRUE if (tool, object_) == (VERBS[verb], thing) else FALSE
        said.append((f"I want to {verb} {thing}. You can {verb} {object_} with {tool}.", verdict))
    return _marked("", said)
