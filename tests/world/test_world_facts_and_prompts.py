"""The world and its prompts: the same from a seed, and the two parts share no content."""

from __future__ import annotations

import random
import re
from functools import partial

import pytest

from assent.errors import ConfigError
from assent.seeds import python_rng
from assent.world.facts import build_world, fresh_person, fresh_things, fresh_town, split_of
from assent.world.lexicon import FIRST, HELD_OUT, LAST, TOWN_FIRST, TOWN_LAST, TRAIN
from assent.world.prompts import KINDS, TWO_STEPS, WorldPrompt, draw_prompt, make_prompts
from assent.world.reading import stated_fact

WORLD = build_world(0)
NAMES = re.compile(rf"(?:{'|'.join(FIRST)}) (?:{'|'.join(LAST)})|(?:{'|'.join(TOWN_FIRST)}) (?:{'|'.join(TOWN_LAST)})")


def names_in(text: str) -> set[str]:
    return set(NAMES.findall(text))


def texts(split: str, count: int = 900) -> list[str]:
    prompts = make_prompts(WORLD, split=split, count=count, seed=1)
    return [f"{prompt.conversation.last_user_text} {_without_values(prompt)}" for prompt in prompts]


def _without_values(prompt: WorldPrompt) -> str:
    """The ideal answer less the values of world facts: those are shared between the parts, as jobs are."""
    text = prompt.ideal[0]
    for fact in () if prompt.known else prompt.facts[:1]:
        text = text.replace(fact.value, "")
    return text if len(prompt.facts) < 2 or prompt.split == TRAIN else prompt.facts[0].subject


def test_the_same_seed_gives_the_same_world_and_another_seed_another():
    assert build_world(0) == WORLD
    assert build_world(1).facts != WORLD.facts


def test_the_two_parts_share_no_person_town_or_thing():
    assert not set(WORLD.subjects(TRAIN)) & set(WORLD.subjects(HELD_OUT))
    assert (len(WORLD.people[TRAIN]), len(WORLD.people[HELD_OUT])) == (90, 30)


def test_every_fact_reads_back_from_its_sentence():
    for fact in WORLD.facts:
        assert stated_fact(fact.sentence.lower().rstrip(".")) == fact.key


def test_people_of_either_part_live_in_towns_of_both():
    for split in (TRAIN, HELD_OUT):
        homes = {WORLD.fact(person, "home").value for person in WORLD.people[split]}
        assert homes & set(WORLD.towns[TRAIN]) and homes & set(WORLD.towns[HELD_OUT])


def test_training_prompts_never_say_what_is_true_of_a_held_out_town():
    for prompt in make_prompts(WORLD, split=TRAIN, count=1800, seed=2):
        assert not {fact.subject for fact in prompt.facts} & set(WORLD.towns[HELD_OUT])


def test_no_prompt_is_for_validation_and_for_the_report():
    splits = [
        make_prompts(WORLD, split=split, count=540, seed=seed) for split in ("validation", HELD_OUT) for seed in (1, 2)
    ]
    texts = [{prompt.conversation.last_user_text for prompt in prompts} for prompts in splits]
    assert not (texts[0] | texts[1]) & (texts[2] | texts[3])
    assert {prompt.split for prompts in splits for prompt in prompts} == {HELD_OUT}
    assert texts[0] & texts[1]  # the same pool, drawn twice


def test_train_and_held_out_prompts_share_no_name_of_a_person_or_town():
    shared = set.intersection(
        *({name for text in texts(split) for name in names_in(text)} for split in (TRAIN, HELD_OUT))
    )
    assert shared == set()


def test_names_of_train_prompts_are_of_the_training_part_or_fresh_ones_kept_for_it():
    for name in {name for text in texts(TRAIN) for name in names_in(text)}:
        assert name in WORLD.subjects(TRAIN) or (name not in WORLD.names and split_of(name) == TRAIN)


@pytest.mark.parametrize("split", [TRAIN, HELD_OUT])
def test_prompts_are_all_different_and_balanced_over_the_kinds(split: str):
    prompts = make_prompts(WORLD, split=split, count=9 * 60, seed=3)
    assert len({prompt.conversation for prompt in prompts}) == 9 * 60
    assert {kind: sum(prompt.kind == kind for prompt in prompts) for kind in KINDS} == dict.fromkeys(KINDS, 60)


def test_prompts_are_the_same_from_the_same_seed():
    assert make_prompts(WORLD, split=TRAIN, count=90, seed=4) == make_prompts(WORLD, split=TRAIN, count=90, seed=4)
    assert make_prompts(WORLD, split=TRAIN, count=90, seed=4) != make_prompts(WORLD, split=TRAIN, count=90, seed=5)


def test_both_parts_use_the_same_words_in_other_pairs():
    said = {
        split: set(re.findall("[A-Za-z]+", " ".join(texts(split, count))))
        for split, count in ((TRAIN, 5400), (HELD_OUT, 1800))
    }
    things = set(re.findall("[a-z]+", " ".join(WORLD.things[HELD_OUT])))
    assert len(said[HELD_OUT] - said[TRAIN] - things) <= 2  # of some 600; so many prompts leave hardly a word out
    rng = python_rng(0, "pairs")
    for make in (fresh_things, partial(fresh_person, WORLD), partial(fresh_town, WORLD)):
        made = {split: {make(split, rng) for _ in range(500)} for split in (TRAIN, HELD_OUT)}
        assert not made[TRAIN] & made[HELD_OUT] and not (made[TRAIN] | made[HELD_OUT]) & WORLD.names


def test_prompts_and_ideal_answers_are_short():
    for split in (TRAIN, HELD_OUT):
        for prompt in make_prompts(WORLD, split=split, count=900, seed=1):
            assert len(prompt.conversation.last_user_text.split()) <= 30
            assert all(len(ideal.split()) <= 18 for ideal in prompt.ideal)


def test_every_ideal_answer_of_a_fact_prompt_states_true_facts_only():
    rng = random.Random(0)
    for kind in ("recall", "notes", "two_step", "summary"):
        for _ in range(200):
            prompt = draw_prompt(WORLD, kind, HELD_OUT, rng)
            truths = WORLD.truths | {fact.key for fact in prompt.known}
            assert prompt.facts and all(fact.key in truths for fact in prompt.facts)


def test_two_step_answers_chain_through_the_town():
    rng = random.Random(0)
    for _ in range(100):
        first, second = draw_prompt(WORLD, "two_step", TRAIN, rng).facts
        assert first.value == second.subject and (first.relation, second.relation) in TWO_STEPS


def test_unanswerable_questions_have_no_answer_in_the_world_or_the_notes():
    rng = random.Random(0)
    for _ in range(300):
        prompt = draw_prompt(WORLD, "unanswerable", TRAIN, rng)
        assert prompt.asked
        stated = {key[:2] for key in WORLD.truths} | {fact.key[:2] for fact in prompt.known}
        assert prompt.asked.key[:2] not in stated


def test_asking_for_more_prompts_than_the_world_holds_says_so():
    with pytest.raises(ConfigError, match="Ask for fewer"):
        make_prompts(WORLD, split=HELD_OUT, count=30_000, seed=0)


def test_an_unknown_split_is_named():
    with pytest.raises(ConfigError, match="tomorrow"):
        make_prompts(WORLD, split="tomorrow", count=1, seed=0)
