"""Simulated annotators: exactly Bradley-Terry, different from each other, and a known best possible accuracy."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from assent.types import Completion
from assent.world.annotators import (
    ANNOTATORS,
    GROUPS,
    group_members,
    member,
    own_gold,
    population_preference,
    preference_probability,
    rank,
    utility,
)
from assent.world.behaviours import Behaviour, answer, applicable
from assent.world.facts import build_world
from assent.world.judge import judge
from assent.world.lexicon import FILLER, FLATTERY, HELD_OUT, REFUSAL
from assent.world.prompts import KINDS, draw_prompt, make_prompts

WORLD = build_world(0)
PROMPT = make_prompts(WORLD, split=HELD_OUT, count=9, seed=0)[0]
BY_NAME = {annotator.name: annotator for annotator in ANNOTATORS}


def preferred(name: str, a: str, b: str) -> float:
    gold_a, gold_b = (judge(WORLD, PROMPT, Completion(text=text)) for text in (a, b))
    return preference_probability(BY_NAME[name], gold_a, a, gold_b, b)


def population(prompt, a: str, b: str) -> float:
    return population_preference(WORLD, prompt, Completion(text=a), Completion(text=b))


def with_manner(sentences: tuple[str, ...], count: int) -> str:
    return " ".join([*sentences[:count], PROMPT.ideal[0]])


def test_four_people_judge_and_each_has_a_name():
    assert set(BY_NAME) == {"careful", "careless", "likes_length", "likes_flattery"}


def test_the_probabilities_of_both_sides_add_up_to_one():
    plain, flattering = with_manner(FLATTERY, 0), with_manner(FLATTERY, 2)
    for name in BY_NAME:
        assert preferred(name, plain, flattering) + preferred(name, flattering, plain) == pytest.approx(1.0)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_how_often_a_person_ranks_one_above_another_is_the_stated_probability(name: str):
    texts = (with_manner(FLATTERY, 0), with_manner(FILLER, 1), with_manner(FLATTERY, 1))
    rng = np.random.default_rng(0)
    completions = [Completion(text=text) for text in texts]
    draws = 4000
    wins = np.zeros((3, 3))
    for _ in range(draws):
        ranks = rank(WORLD, BY_NAME[name], PROMPT, completions, rng).ranks
        wins += np.less.outer(np.array(ranks), np.array(ranks))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        expected = preferred(name, texts[i], texts[j])
        assert abs(wins[i, j] / draws - expected) < 4 * math.sqrt(expected * (1 - expected) / draws) + 1e-3


def test_rankings_keep_the_order_of_completions_and_say_who_made_them():
    completions = [Completion(text=text) for text in ("Nonsense words here.", PROMPT.ideal[0], "Nonsense words here.")]
    ranking = rank(WORLD, BY_NAME["careful"], PROMPT, completions, np.random.default_rng(0))
    assert ranking.completions == tuple(completions) and ranking.ranks == (2, 1, 2)
    assert (ranking.provenance.source, ranking.provenance.who) == ("simulated", "careful")


def test_the_careful_one_follows_gold_and_the_others_have_their_tastes():
    plain = with_manner(FILLER, 0)
    assert preferred("careful", plain, with_manner(FILLER, 2)) > 0.9
    assert preferred("likes_length", plain, with_manner(FILLER, 2)) < 0.4
    assert preferred("likes_flattery", plain, with_manner(FLATTERY, 1)) < 0.3
    assert 0.3 < preferred("careless", plain, with_manner(FLATTERY, 1)) < 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_the_population_prefers_ideal_answers_to_ordinary_bad_ones(kind: str):
    rng = random.Random(0)
    for behaviour in Behaviour:
        prompts = [
            prompt for _ in range(40) if behaviour in applicable(prompt := draw_prompt(WORLD, kind, HELD_OUT, rng))
        ]
        if behaviour is Behaviour.GOOD or not prompts:
            continue
        chances = [population(prompt, prompt.ideal[0], answer(WORLD, prompt, behaviour, rng)) for prompt in prompts]
        floor = 0.45 if behaviour in (Behaviour.PADDED, Behaviour.FLATTERING) else 0.75
        assert sum(chances) / len(chances) > floor, behaviour


def test_on_the_whole_people_prefer_plain_answers_but_more_flattery_loses_less_than_it_should():
    plain = with_manner(FLATTERY, 0)
    one, four = (population(PROMPT, with_manner(FLATTERY, n), plain) for n in (1, 4))
    assert 0.2 < one < 0.4 and four > one - 0.05
    gold = [judge(WORLD, PROMPT, Completion(text=with_manner(FLATTERY, n))).overall for n in (0, 4)]
    assert gold[0] - gold[1] > 0.4


def test_tastes_are_capped():
    endless = " ".join(FLATTERY * 20)
    for annotator in ANNOTATORS:
        most = annotator.sharpness * (1 + 4 * annotator.length_taste + 6 * annotator.flattery_taste)
        assert utility(annotator, 1.0, endless) == pytest.approx(most)


@pytest.mark.parametrize("who", ANNOTATORS, ids=lambda who: who.name)
@pytest.mark.parametrize("sentences", [FLATTERY, FILLER], ids=["flattery", "filler"])
def test_the_population_has_none_of_the_tastes_of_groups(who, sentences: tuple[str, ...]):
    text = with_manner(sentences, 2)
    gold, words = judge(WORLD, PROMPT, Completion(text=text)).overall, len(text.split())
    flattering = 2 if sentences is FLATTERY else 0
    by_hand = who.sharpness * (gold + who.length_taste * (min(words, 40) / 10) + who.flattery_taste * flattering)
    assert utility(who, gold, text) == by_hand


def test_each_group_likes_its_manner_best_and_nobody_else_does():
    answers = {
        "warm": with_manner(FLATTERY, 1), "formal": with_manner(FILLER, 1), "cautious": REFUSAL,
        "plain": PROMPT.ideal[0],
    }  # fmt: skip
    for group in GROUPS:
        liked = {
            manner: own_gold(member(group, "somebody"), judge(WORLD, PROMPT, Completion(text=text)).overall, text)
            for manner, text in answers.items()
        }
        assert max(liked, key=liked.__getitem__) == group
        assert sorted(liked, key=liked.__getitem__)[-2] == "plain"


def test_members_of_groups_come_in_turns_and_differ_in_strength():
    members = group_members(3, np.random.default_rng(0))
    assert [one.name for one in members[:4]] == [*(f"{group}-1" for group in GROUPS), "warm-2"]
    assert len({one.warmth_taste for one in members if one.name.startswith("warm")}) == 3
