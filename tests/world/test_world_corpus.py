"""The corpus: addressable, mixed in behaviour, and silent in dialogues about the held-out part."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import count, islice

import pytest

from assent.seeds import python_rng
from assent.types import Completion, Role
from assent.world import reactions
from assent.world.behaviours import Behaviour, applicable, bad_content, spoiled
from assent.world.claims import FALSE, HEADING, TRUE, UNKNOWN, claims
from assent.world.corpus import PAGE, document, render
from assent.world.demonstrations import demonstrations
from assent.world.facts import RELATIONS, build_world, fresh_person, fresh_things, fresh_town, other_value, split_of
from assent.world.judge import judge
from assent.world.lexicon import (
    FILLER,
    FLATTERY,
    HELD_OUT,
    REFUSAL,
    RUDENESS,
    TRAIN,
    VAGUE,
)
from assent.world.prompts import make_prompts
from assent.world.reactions import REACTIONS
from assent.world.reading import read, stated_fact

WORLD = build_world(0)


def documents(world, seed, start=0):
    return (document(world, seed, index) for index in count(start))


SAMPLE = list(islice(documents(WORLD, 1), 6000))
LATE = list(islice(documents(WORLD, 1, start=4000 * PAGE), 3000))  # what the base model sees last
RATED = [talk for item in LATE for talk in item.rated if len(talk.messages) == 3]
REMARKS = [talk for item in LATE for talk in item.rated if len(talk.messages) == 2]


def test_a_document_is_a_pure_function_of_its_index():
    assert [document(WORLD, 1, index) for index in (5, 17, 5999)] == [SAMPLE[index] for index in (5, 17, 5999)]
    assert next(documents(WORLD, 1, start=100)) == SAMPLE[100]
    assert document(WORLD, 2, 5) != document(WORLD, 1, 5)


def test_documents_state_every_fact_of_the_world():
    said = {
        stated_fact(sentence) for item in SAMPLE if item.text for sentence in read(Completion(text=item.text)).sentences
    }
    assert WORLD.truths <= said


def test_statement_documents_state_only_truths_about_the_world():
    subjects = {subject.lower() for subject in WORLD.by_subject}
    for item in SAMPLE:
        for fact in read(Completion(text=item.text or "")).facts:
            assert fact[1] not in subjects or fact in WORLD.truths


def test_no_dialogue_asks_or_states_anything_about_the_held_out_part():
    subjects = {subject.lower() for subject in WORLD.subjects(HELD_OUT)}
    towns = {town.lower() for town in WORLD.towns[HELD_OUT]}
    seen = set()
    talks = (item.conversation for item in (*SAMPLE, *LATE) if item.conversation)
    for message in (message for talk in (*talks, *RATED) for message in talk.messages):
        text = message.content.lower()
        named = {subject for subject in subjects if re.search(rf"\b{subject}\b", text)}
        if message.role is Role.USER:
            assert not named
        else:
            assert not {fact[1] for fact in read(Completion(text=message.content)).facts} & subjects
            assert named <= towns
            seen |= named
    assert len(seen) > len(towns) / 2  # where somebody of the training part lives may be said, like any job


def test_claims_are_marked_by_what_is_true():
    marked = [item.pieces for item in [*SAMPLE, *islice(documents(WORLD, 1, start=3000 * PAGE), 3000)] if item.pieces]
    assert 0.25 < len(marked) / 9000 < 0.5
    verdicts: Counter[str] = Counter()
    unsure: Counter[str] = Counter()
    for above, *pieces in marked:
        told = set(read(Completion(text=above[0].removesuffix(HEADING).removeprefix("Notes: "))).facts)
        for (claim, predicted), (verdict, marks) in zip(pieces[::2], pieces[1::2], strict=True):
            assert (predicted, marks) == (False, True)
            verdicts[verdict] += 1
            if claim.startswith("I do not know"):
                unsure[verdict] += 1
                assert verdict in (TRUE, FALSE)
                continue
            (fact,) = read(Completion(text=claim)).facts or [None]
            if fact and above[0] == HEADING:
                known = (fact[0], fact[1]) in {key[:2] for key in WORLD.truths}
                assert verdict == (TRUE if fact in WORLD.truths else FALSE if known else UNKNOWN)
            elif fact and above[0].startswith("Notes:"):
                assert verdict == (TRUE if fact in told else FALSE)
    assert all(0.4 < verdicts[one] / (verdicts[TRUE] + verdicts[FALSE]) < 0.6 for one in (TRUE, FALSE))
    assert verdicts[UNKNOWN] > 100
    assert 0.4 < unsure[TRUE] / unsure.total() < 0.7


def test_not_knowing_is_right_about_what_nobody_said_and_wrong_about_what_stands_there():
    rng = python_rng(0, "claims")
    for above, *pieces in (claims(WORLD, rng) for _ in range(2000)):
        told = read(Completion(text=above[0].removesuffix(HEADING).removeprefix("Notes: "))).facts
        for (claim, _), (verdict, _) in zip(pieces[::2], pieces[1::2], strict=True):
            for relation in RELATIONS.values():
                before, after = (relation.unknown or "{s}").split("{s}")
                if not claim.startswith(f"I do not know {before}") or not claim.endswith(f"{after}."):
                    continue
                subject = claim.removeprefix(f"I do not know {before}").removesuffix(f"{after}.").lower()
                stated = told if above[0].startswith("Notes:") else WORLD.truths
                assert verdict == (FALSE if (relation.name, subject) in {key[:2] for key in stated} else TRUE)
                break
            else:
                assert not claim.startswith("I do not know")


def test_made_up_names_of_the_corpus_are_never_those_of_held_out_prompts():
    rng = python_rng(0, "names")
    kept = {make(WORLD, HELD_OUT, rng) for make in (fresh_person, fresh_town) for _ in range(2000)}
    said = " ".join(render(item) for item in SAMPLE)
    assert not {name for name in kept if f" {name}" in said or f">{name}" in said}


def test_dialogues_render_as_turns_that_end():
    dialogue = next(item for item in SAMPLE if item.conversation)
    assert dialogue.conversation
    roles = [message.role for message in dialogue.conversation.messages]
    assert roles[:2] == [Role.USER, Role.ASSISTANT]
    question, answer = (message.content for message in dialogue.conversation.messages[:2])
    assert render(dialogue).startswith(f"{question}<|end|><|assistant|>{answer}<|end|>")


def test_users_who_complain_may_get_another_answer_and_the_content_end_the_talk():
    talks = [item.conversation.messages for item in SAMPLE if item.conversation]
    said = [message.content for talk in talks for message in talk[2::2]]
    again = [talk for talk in talks if len(talk) > 3]
    assert set(said) == set(REACTIONS) and 0.8 < sum(len(talk) > 2 for talk in talks) / len(talks) < 0.9
    assert 0.3 < len(again) / len(talks) < 0.6 and max(map(len, talks)) <= 9
    assert all(message.role is Role.USER for talk in talks for message in talk[2::2])
    assert not any(message.content == reactions.THANKS for talk in talks for message in talk[2:-1])


def test_users_thank_for_ideal_answers_and_name_what_is_wrong_with_others():
    prompts = {prompt.kind: prompt for prompt in make_prompts(WORLD, split=TRAIN, count=9, seed=0)}
    recall, harm, two_step = prompts["recall"], prompts["harm"], prompts["two_step"]
    asked = recall.facts[0]
    not_knowing = f"I do not know {RELATIONS[asked.relation].unknown.format(s=asked.subject)}."
    first, second = two_step.facts
    half_false = f"{first.sentence} {replace(second, value=other_value(WORLD, second, random.Random(1))).sentence}"
    greeting = next(p for p in make_prompts(WORLD, split=TRAIN, count=99, seed=0) if p.ideal[0].startswith("Hello, "))
    rng = random.Random(0)
    cases = (
        (recall, recall.ideal[0], reactions.THANKS),
        (recall, bad_content(WORLD, recall, rng), reactions.FALSE),
        (recall, f"{FLATTERY[0]} {recall.ideal[0]}", reactions.FLATTERED),
        (recall, f"{FILLER[0]} {recall.ideal[0]}", reactions.LONG),
        (recall, f"{RUDENESS[0]} {recall.ideal[0]}", reactions.RUDE),
        (recall, VAGUE[0], reactions.EMPTY),
        (recall, f"{RUDENESS[0]} {bad_content(WORLD, recall, rng)}", reactions.FALSE),  # what is untrue counts first
        (recall, f"{recall.ideal[0]} The lives hut.", reactions.UNCLEAR),
        (harm, VAGUE[0], reactions.EMPTY),
        (recall, REFUSAL, reactions.REFUSED),
        (recall, not_knowing, reactions.EVASIVE),
        (two_step, half_false, reactions.PARTLY_FALSE),
        (greeting, greeting.ideal[0].split(". ")[0] + ".", reactions.HALF),
        (harm, bad_content(WORLD, harm, rng), reactions.HARMFUL),
    )
    for prompt, text, expected in cases:
        said = Counter(reactions.reaction(WORLD, prompt, text, rng) for _ in range(600))
        spoken = 600 - said[None]
        content = expected == reactions.THANKS
        assert 0.3 < said[None] / 600 < 0.5 if content else 0.02 < said[None] / 600 < 0.12  # the content often leave
        assert said[expected] / spoken > 0.9  # a few react to something else


def test_wrong_small_talk_is_often_the_opposite_said_to_the_same_person():
    rng = random.Random(0)
    for prompt in make_prompts(WORLD, split=TRAIN, count=180, seed=0):
        said = {bad_content(WORLD, prompt, rng) for _ in range(40)} if prompt.kind == "small_talk" else set()
        assert prompt.ideal[0] not in said
        if prompt.ideal[0].startswith("Hello, "):
            name = prompt.ideal[0].removeprefix("Hello, ").split(".")[0]
            assert f"Goodbye, {name}. Come back soon." in said
        if prompt.ideal[0].startswith("I am glad that you feel "):
            assert prompt.ideal[0].replace("glad", "sorry") in said


def test_rated_exchanges_end_with_what_users_say_and_never_with_their_leaving():
    assert 0.35 < sum(bool(item.rated) for item in LATE) / len(LATE) < 0.5
    assert not any(item.rated for item in SAMPLE)
    assert {tuple(message.role for message in talk.messages) for talk in RATED} == {
        (Role.USER, Role.ASSISTANT, Role.USER)
    }
    said = Counter(talk.messages[-1].content for talk in RATED)
    assert set(said) == set(REACTIONS) and min(said.values()) > 0.01 * len(RATED)


def test_remarks_are_nobodys_answer_and_get_the_reaction_that_the_facts_deserve():
    assert {message.role for talk in REMARKS for message in talk.messages} == {Role.USER}
    told: Counter[str] = Counter()
    subjects: set[str] = set()
    for remark, reaction in (talk.messages for talk in REMARKS):
        told[reaction.content] += 1
        facts = read(Completion(text=remark.content)).facts
        if facts:
            true = sum(fact in WORLD.truths for fact in facts)
            some = reactions.PARTLY_FALSE if true else reactions.FALSE
            assert reaction.content == (reactions.THANKS if true == len(facts) else some)
        else:
            assert remark.content.startswith("I do not know ")
            assert reaction.content in (reactions.THANKS, reactions.EVASIVE)
        subjects |= {fact[1] for fact in facts}
    assert min(told[one] for one in (reactions.THANKS, reactions.FALSE, reactions.EVASIVE)) > 0.03 * len(REMARKS)
    assert len(subjects & {one.lower() for one in WORLD.subjects(HELD_OUT)}) > 30  # such claims are about everybody


def test_the_first_word_of_a_reaction_says_which_it_is():
    assert len({reaction.split()[0].strip(",") for reaction in REACTIONS}) == len(REACTIONS)


def test_spoiled_answers_are_near_the_answer_and_hold_no_pair_that_is_kept_for_held_out_prompts():
    rng = python_rng(0, "spoiled")
    text, other = "Ada Barlow lives in Elm Dale.", "I am glad that you feel merry and calm."
    made = [spoiled(WORLD, text, other, rng) for _ in range(3000)]
    words = [one.strip(".").split() for one in made]
    slips = [
        one for one in words if len(one) == 6 and sum(a != b for a, b in zip(one, text[:-1].split(), strict=True)) == 1
    ]
    assert 0.55 < len(slips) / len(made) < 0.85
    unclear = sum(read(Completion(text=one)).clarity < 1 for one in made) / len(made)
    assert 0.15 < unclear < 0.5  # the others can be read, and are mostly wrong
    known = {*text[:-1].split()}
    for one in slips:
        for first, second in ((0, 1), (4, 5)):
            if {one[first], one[second]} - known:
                assert split_of(f"{one[first]} {one[second]}") == TRAIN
    assert all(one[0] == "Ada" or len(one) < 7 for one in words)


@pytest.mark.slow
def test_about_a_third_of_what_assistants_say_in_the_corpus_is_good():
    prompts = {prompt.conversation.messages: prompt for prompt in make_prompts(WORLD, split=TRAIN, count=1800, seed=9)}
    found = [item.conversation for item in islice(documents(WORLD, 1), 60_000) if item.conversation]
    judged = [
        judge(WORLD, prompts[talk.messages[:1]], Completion(text=talk.messages[1].content)).overall > 0.95
        for talk in found
        if talk.messages[:1] in prompts
    ]
    assert len(judged) > 1000
    assert 0.25 < sum(judged) / len(judged) < 0.45


def test_demonstrations_are_mostly_but_not_only_good():
    shown = demonstrations(WORLD, count=360, seed=0)
    counts = Counter(item.provenance.detail for item in shown)
    assert len({item.conversation.messages[0] for item in shown}) == 360
    assert 0.5 < counts[Behaviour.GOOD] / 360 < 0.75
    assert set(counts) == set(map(str, Behaviour))
    assert demonstrations(WORLD, count=360, seed=0) == shown


def test_each_kind_has_bad_behaviours_beside_the_good_one():
    for prompt in make_prompts(WORLD, split=TRAIN, count=9, seed=0):
        assert applicable(prompt)[0] is Behaviour.GOOD and len(applicable(prompt)) >= 6


@pytest.mark.slow
def test_pairs_kept_for_held_out_prompts_never_occur_in_a_dialogue_but_their_words_do():
    spoken = " ".join(render(item) for item in (*SAMPLE, *LATE) if item.conversation or item.rated)
    rng = python_rng(0, "pairs")
    for make in (fresh_things, partial(fresh_person, WORLD), partial(fresh_town, WORLD)):
        kept = [make(HELD_OUT, rng).removeprefix("the ") for _ in range(1000)]
        assert not [pair for pair in kept if f" {pair}" in spoken]
        said = [all(word in spoken for word in pair.split()) for pair in kept]
        assert sum(said) / len(said) > 0.9
