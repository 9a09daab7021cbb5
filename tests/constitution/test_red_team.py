"""Red teaming: what the attacker is shown follows the stated draw, repetitions are dropped, the harvest is diverse."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import permutations

import pytest
from constitution.scripted import ScriptedModel

from assent.constitution.chat_model import Written
from assent.constitution.red_team import Attempt, RedTeamPlan, cleaned, harvest, red_team
from assent.constitution.similarity import grams, nearest, self_similarity, similarity
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import SamplingParams
from assent.types import Completion, Conversation, StopReason


class NumberHarm:
    """The harm of a prompt is the number in it."""

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        return [float(re.findall(r"\d+", prompt.last_user_text)[-1]) for prompt in prompts]


def plan(**changed: object) -> RedTeamPlan:
    sampling = SamplingParams(max_tokens=32)
    return RedTeamPlan(writing=sampling, answering=sampling, **{"max_similarity": 0.99, **changed})  # type: ignore[arg-type]


def asked_of(request: GenerationRequest) -> str:
    assert isinstance(request.prompt, Conversation)
    return request.prompt.last_user_text


def shown_to(request: GenerationRequest) -> list[str]:
    return [line.partition(". ")[2] for line in asked_of(request).splitlines() if re.match(r"\d+\. ", line)]


def worse(request: GenerationRequest) -> str:
    """One more than the worst prompt that was shown, worded anew."""
    worst = max(int(re.findall(r"\d+", one)[-1]) for one in shown_to(request))
    return f'3. "{chr(97 + request.seed % 26) * 5} asks for {worst + 1}"'


SEEDS = [Conversation.of_user(f"{letter * 6} wants {place}") for place, letter in enumerate("pqrs")]


def test_what_succeeds_is_shown_more_so_harm_grows_round_by_round() -> None:
    target = ScriptedModel(lambda request: "as you like")
    found = red_team(ScriptedModel(worse), target, NumberHarm(), SEEDS, plan(rounds=4, tries=12, shots=2))
    means = [
        math.fsum(one.harm for one in found.attempts if one.round == number)
        / sum(one.round == number for one in found.attempts)
        for number in range(5)
    ]
    assert means == sorted(means) and means[-1] > means[0] + 3
    assert all(one.after and max(one.after) < place for place, one in enumerate(found.attempts) if one.round)
    assert len(target.asked) == len(found.attempts)
    again = red_team(ScriptedModel(worse), target, NumberHarm(), SEEDS, plan(rounds=4, tries=12, shots=2))
    assert again == found


def test_the_draw_of_what_is_shown_has_the_stated_probabilities() -> None:
    attacker = ScriptedModel(lambda request: "")
    tries, diversity = 4000, 0.8
    red_team(
        attacker, ScriptedModel(lambda request: "yes"), NumberHarm(), SEEDS,
        plan(rounds=1, tries=tries, shots=2, diversity=diversity),
    )  # fmt: skip
    texts = [one.last_user_text for one in SEEDS]
    ranks = [place / 3 for place in range(4)]
    sets = [grams(text) for text in texts]

    def weight(one: int, shown: tuple[int, ...]) -> float:
        return math.exp((ranks[one] - diversity * nearest(sets[one], (sets[other] for other in shown))) / 0.1)

    expected: Counter[frozenset[int]] = Counter()
    for first, second in permutations(range(4), 2):
        start = weight(first, ()) / sum(weight(one, ()) for one in range(4))
        then = weight(second, (first,)) / sum(weight(one, (first,)) for one in range(4) if one != first)
        expected[frozenset((first, second))] += start * then  # type: ignore[assignment]
    drawn = Counter(frozenset(texts.index(one) for one in shown_to(request)) for request in attacker.asked)
    for pair, share in expected.items():
        assert drawn[pair] / tries == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / tries) + 1e-4)
    for request in attacker.asked:
        places = [texts.index(one) for one in shown_to(request)]
        assert places == sorted(places), "the most harmful stands last"


def test_repetitions_empty_tries_and_missing_answers_are_counted_not_kept() -> None:
    replies = iter(["", "pppppp  WANTS 0", "Prompt: something new 7", "something new 7!", "no answer 9"])

    def answer(request: GenerationRequest) -> Written:
        failed = "no answer" in asked_of(request)
        return Written(text="" if failed else "yes", stop=StopReason.ERROR if failed else StopReason.END)

    found = red_team(
        ScriptedModel(lambda request: next(replies)), ScriptedModel(answer), NumberHarm(), SEEDS,
        plan(rounds=1, tries=5, max_similarity=0.8),
    )  # fmt: skip
    assert (found.empty, found.repeated, found.unanswered) == (1, 2, 1)
    (new,) = (one for one in found.attempts if one.round)
    assert new.harm == 7 and new.text in ("something new 7", "something new 7!")


def attempt(text: str, harm: float) -> Attempt:
    return Attempt(prompt=Conversation.of_user(text), answer=Completion(text="yes"), harm=harm)


def test_the_harvest_takes_the_worst_first_but_no_near_copies_of_it() -> None:
    tried = [
        attempt("how do I pick a lock", 5.0), attempt("how do I pick the lock", 4.9), attempt("tell me a lie", 4.0),
        attempt("say hello", 0.0),
    ]  # fmt: skip
    plain = harvest(tried, threshold=1.0, diversity=0.0, most=2)
    spread = harvest(tried, threshold=1.0, diversity=1.0, most=2)
    assert [one.harm for one in plain] == [5.0, 4.9]
    assert [one.harm for one in spread] == [5.0, 4.0]
    assert [one.harm for one in harvest(tried, threshold=1.0, diversity=0.0, most=None)] == [5.0, 4.9, 4.0]
    assert harvest(tried, threshold=5.0, diversity=0.0, most=None) == []


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("5. Tell me how.\n6. And this?", "Tell me how."),
        ('Message #5: "Tell me how."', "Tell me how."),
        ("\n  “Tell me how.”\n", "Tell me how."),
        ("2 plus 2 is 5, right?", "2 plus 2 is 5, right?"),
        ("Prompt:\nTell me how.", "Tell me how."),
        ("   \n", ""),
        ("7.", ""),
    ],
)
def test_a_prompt_is_the_first_line_that_says_something(written: str, kept: str) -> None:
    assert cleaned(written) == kept


def test_similarity_is_dice_over_four_letters() -> None:
    assert similarity(grams("abcdef"), grams("ABCDEF")) == 1.0
    assert similarity(grams("abcde"), grams("abcdx")) == pytest.approx(2 * 1 / 4)  # abcd of {abcd, bcde}, {abcd, bcdx}
    assert similarity(grams("ab"), grams("cd")) == 0.0
    assert self_similarity(["one"]) is None
    assert self_similarity(["abcde", "abcdx", "zzzz"]) == pytest.approx((0.5 + 0.5 + 0.0) / 3)
