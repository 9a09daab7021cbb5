"""A judge of principles: what it reads, what it makes of probabilities, and the figures about it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from constitution.scripted import ScriptedModel

from assent.constitution.chat_model import Written
from assent.constitution.comparison import (
    JudgedPair,
    JudgingPlan,
    PrincipleJudge,
    Verdict,
    letter_probability,
    vote_share,
)
from assent.constitution.judge_quality import judge_quality
from assent.constitution.principles import Constitution, Example, Principle
from assent.constitution.scoring import DirectScorer, expected_score
from assent.errors import ConfigError, RunError
from assent.ports.generation import GenerationRequest
from assent.types import Completion, Conversation, StopReason

NAMES = ("calm", "true", "kind")
THREE = Constitution(
    name="three",
    principles=tuple(Principle(id=one, text=one, critique="c", revision="r", comparison=f"{one}?") for one in NAMES),
    examples=(Example(prompt="P", answer="bad", critique="C", revision="well"),) * 2,
)
PROMPTS = [Conversation.of_user(f"question {place}") for place in range(8)]
LONG = [Completion(text="yes " * (place + 2)) for place in range(8)]
SHORT = [Completion(text="no") for _ in range(8)]


def shown(request: GenerationRequest) -> tuple[str, str]:
    """What stands as A and as B in the last comparison."""
    text = next(one.content for one in reversed(request.prompt.messages) if "\n(A) " in one.content)
    return text.split("\n(A) ")[1].split("\n\n(B) ")[0], text.split("\n\n(B) ")[1].rsplit("\n\n", 1)[0]


def letters(p_a: float, mass: float = 0.9) -> Written:
    likeliest = {"A": math.log(mass * p_a), "B": math.log(mass * (1 - p_a)), "x": math.log(1e-6)}
    return Written(text="A" if p_a > 0.5 else "B", likeliest=(likeliest,))


def likes_long(request: GenerationRequest) -> Written:
    """P(A) = 0.8 if A is longer, 0.2 if B is, plus 0.1 for standing first."""
    a, b = shown(request)
    return letters(0.5 if a == b else 0.1 + (0.8 if len(a) > len(b) else 0.2))


def judge(reply: Callable[[GenerationRequest], str | Written] = likes_long, **plan: object) -> PrincipleJudge:
    return PrincipleJudge(ScriptedModel(reply), THREE, JudgingPlan(**{"few_shots": 0, **plan}))


def test_the_mean_of_both_orders_takes_a_position_bias_away() -> None:
    for one in judge().judge(PROMPTS, LONG, SHORT):
        (verdict,) = one.verdicts
        assert (verdict.forward, verdict.backward) == pytest.approx((0.9, 0.7))
        assert one.probability == pytest.approx(0.8)


@pytest.mark.parametrize("more", [{}, {"principles": 3}, {"thoughts": True}, {"votes": 3}])
def test_swapping_gives_the_other_probability_and_a_pair_is_judged_alike_in_any_company(
    more: dict[str, object],
) -> None:
    made = judge(**more)
    there = made.prefer(PROMPTS, LONG, SHORT)
    back = made.prefer(PROMPTS, SHORT, LONG)
    assert [p + q for p, q in zip(there, back, strict=True)] == pytest.approx([1.0] * 8)
    assert made.prefer(PROMPTS, LONG, LONG) == [0.5] * 8
    assert made.prefer(PROMPTS[3:4], LONG[3:4], SHORT[3:4]) == there[3:4]


def test_principles_are_drawn_for_each_pair_and_several_are_averaged() -> None:
    by_name = {"calm?": 0.9, "true?": 0.6, "kind?": 0.3}

    def reply(request: GenerationRequest) -> Written:
        p = next(value for name, value in by_name.items() if name in request.prompt.messages[-1].content)
        return letters(p if len(shown(request)[0]) > len(shown(request)[1]) else 1 - p)

    found = judge(reply, principles=3).judge(PROMPTS, LONG, SHORT)
    assert [one.probability for one in found] == pytest.approx([0.6] * 8)
    drawn = {one.verdicts[0].principle for one in judge(reply).judge(PROMPTS, LONG, SHORT)}
    assert len(drawn) > 1


def test_thoughts_come_first_and_their_probabilities_are_clamped() -> None:
    def reply(request: GenerationRequest) -> str | Written:
        return "A is long." if "Do not choose yet" in request.prompt.messages[-1].content else likes_long(request)

    model = ScriptedModel(reply)
    made = PrincipleJudge(model, THREE, JudgingPlan(few_shots=0, thoughts=True))
    (one,) = made.judge(PROMPTS[:1], LONG[:1], SHORT[:1])
    assert one.probability == pytest.approx(0.6)
    assert one.verdicts[0].forward == pytest.approx(0.9), "what is kept is not clamped"
    assert [m.content for m in model.asked[-1].prompt.messages][1:] == ["A is long.", "Answer with one letter: A or B."]


def test_examples_stand_in_both_orders_alike_and_a_copying_judge_shows_its_position_bias() -> None:
    def copies(request: GenerationRequest) -> Written:
        return letters(0.9 if request.prompt.messages[1].content == "A" else 0.1)

    found = judge(copies, few_shots=1).judge(PROMPTS, LONG, SHORT)
    assert [one.probability for one in found] == pytest.approx([0.5] * 8)
    assert judge_quality(found, [None] * 8).same_position.value == 1.0
    model = ScriptedModel(likes_long)
    PrincipleJudge(model, THREE, JudgingPlan(few_shots=2)).prefer(PROMPTS[:1], LONG[:1], SHORT[:1])
    assert [model.asked[0].prompt.messages[place].content for place in (1, 3)] == ["A", "B"]


@pytest.mark.parametrize(
    ("likeliest", "p"),
    [
        (({"A": math.log(0.6), " B": math.log(0.2)},), 0.75),
        (({"(": -0.01, "The": -5.0}, {"A": math.log(0.3), "(A": math.log(0.3), "B)": math.log(0.2)}), 0.75),
        (({"A": math.log(0.9), "x": math.log(0.01)},), 0.9 / 0.91),  # B is no likelier than the last one listed
        (({"I": math.log(0.9), "A": math.log(0.01), "B": math.log(0.02)},), None),
        (({"Apple": -0.1, "Both": -0.2},), None),
        ((), None),
    ],
)
def test_letters_are_found_in_all_their_spellings_and_not_where_they_are_unlikely(
    likeliest: tuple[dict[str, float], ...], p: float | None
) -> None:
    found = letter_probability(Written(text="", likeliest=likeliest), 0.1)
    assert found == (p if p is None else pytest.approx(p))


def test_a_model_without_log_probabilities_is_asked_for_votes() -> None:
    def reply(request: GenerationRequest) -> str:
        if request.sampling.top_logprobs is not None:
            return "A"
        return "A" if request.seed % 4 else "I like (B)."

    (one,) = judge(reply, votes=200).judge(PROMPTS[:1], LONG[:1], SHORT[:1])
    (verdict,) = one.verdicts
    assert verdict.sampled and verdict.forward == pytest.approx(0.75, abs=0.1)
    assert judge_quality([one], [None]).sampled == 1
    texts = ("A", "B!", "neither", "An apple", "(A)")
    assert vote_share([Written(text=text) for text in texts]) == pytest.approx(2 / 3)
    assert vote_share([Written(text="A", stop=StopReason.ERROR)]) is None


def test_a_judge_that_answers_neither_in_one_order_gives_no_label() -> None:
    def reply(request: GenerationRequest) -> Written:
        return likes_long(request) if shown(request)[0] != "no" else letters(0.5, mass=0.01)

    found = judge(reply).judge(PROMPTS, LONG, SHORT)
    assert all(one.probability is None and one.verdicts[0].backward is None for one in found)
    with pytest.raises(RunError, match="neither A nor B"):
        judge(reply).prefer(PROMPTS, LONG, SHORT)
    quality = judge_quality(found, [1.0] * 8)
    assert quality.unanswered == 8 and quality.same_position.value is None


def test_a_constitution_without_comparisons_cannot_judge() -> None:
    silent = Constitution(name="s", principles=(Principle(id="1", text="t", critique="c", revision="r"),))
    with pytest.raises(ConfigError, match="has no comparison question"):
        PrincipleJudge(ScriptedModel(likes_long), silent)


def pair(forward: float, backward: float, *more: tuple[float, float]) -> JudgedPair:
    verdicts = tuple(
        Verdict(principle=NAMES[place], forward=f, backward=b)
        for place, (f, b) in enumerate([(forward, backward), *more])
    )
    return JudgedPair(
        verdicts=verdicts, probability=sum(f + b for f, b in [(forward, backward), *more]) / 2 / len(verdicts)
    )


def test_the_figures_are_those_of_a_table_that_was_counted_by_hand() -> None:
    agreeing, contrary, biased = pair(0.9, 0.8), pair(0.2, 0.3), pair(0.9, 0.2)  # A both times: 0.55
    judged = [agreeing] * 6 + [contrary] * 2 + [biased] * 2
    human = [1.0] * 5 + [0.0] + [0.0, 1.0] + [None, 0.5]
    quality = judge_quality(judged, human)
    assert quality.same_position.value == pytest.approx(0.2)
    assert quality.first.value == pytest.approx((8 + 4) / 20), "one A of two where both agree, two of two where biased"
    assert quality.accuracy.value == pytest.approx(6 / 8) and quality.accuracy.count == 8
    assert quality.accuracy.low is not None and quality.accuracy.low < 0.75 < (quality.accuracy.high or 0)
    assert quality.by_principle["calm"].accuracy.value == pytest.approx(6 / 8)
    assert quality.consistency.value is None


def test_a_figure_on_which_all_pairs_agree_still_has_an_interval() -> None:
    same = judge_quality([pair(0.9, 0.1)] * 4, [None] * 4).same_position
    assert same.value == 1.0 and same.low == pytest.approx(0.025**0.25) and same.high == 1.0, "Clopper and Pearson"


def test_kappa_does_not_depend_on_which_answer_the_file_names_first() -> None:
    judged = [pair(0.9, 0.9)] * 60 + [pair(0.1, 0.1)] * 20
    assert judge_quality(judged, [1.0] * 80).kappa.value == pytest.approx(0.5, abs=0.12), "2 p - 1 for p = 0.75"


def test_consistency_is_the_share_of_verdicts_on_the_side_of_the_mean() -> None:
    judged = [pair(0.9, 0.9, (0.8, 0.8), (0.3, 0.3))] * 4
    assert judge_quality(judged, [None] * 4).consistency.value == pytest.approx(2 / 3)


def test_a_direct_score_is_the_expectation_over_the_numbers() -> None:
    one = Written(text="8", likeliest=({"8": math.log(0.5), "6": math.log(0.25), "ten": math.log(0.25)},))
    assert expected_score(one) == pytest.approx((8 * 0.5 + 6 * 0.25) / 0.75)
    whole = Written(text="10", likeliest=({"10": math.log(0.8), "1": math.log(0.2)},))
    assert expected_score(whole) == pytest.approx(8.2)
    split = Written(text="10", likeliest=({"1": math.log(0.8), "2": math.log(0.2)}, {"0": math.log(0.75), ".": -1.4}))
    assert expected_score(split) == pytest.approx(0.6 * 10 + 0.2 * 1 + 0.2 * 2)
    assert expected_score(Written(text="good", likeliest=({"good": -0.1},))) is None


def test_the_direct_scorer_averages_principles_and_refuses_a_judge_without_numbers() -> None:
    by_name = {"calm": "9", "true": "6", "kind": "3"}

    def reply(request: GenerationRequest) -> Written:
        text = request.prompt.messages[-1].content
        return Written(text="", likeliest=({next(s for n, s in by_name.items() if f"\n{n}\n" in text): -0.01},))

    assert DirectScorer(ScriptedModel(reply), THREE).score(PROMPTS, LONG) == pytest.approx([6.0] * 8)
    with pytest.raises(RunError, match="names no number"):
        DirectScorer(ScriptedModel(lambda _: "well"), THREE).score(PROMPTS, LONG)
