"""The rewards of the real jobs against answers written by hand, and the problems against their own sums."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from examples.real.arithmetic import distinct, problems
from examples.real.facts import FACTS
from examples.real.rewards import brief, in_form, knows, right


@pytest.mark.parametrize(
    ("text", "formed", "correct"),
    [
        ("3 + 4 = 7. Answer: 7", 1.0, 1.0),
        (" Answer: 7.\n", 1.0, 1.0),
        ("3 + 4 = 7. Answer: 8", 1.0, 0.0),
        ("Answer: -7", 1.0, 0.0),
        ("7", 0.0, 0.0),
        ("Answer: 7 apples", 0.0, 0.0),
        ("First,\nAnswer: 7", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_only_the_right_number_in_the_right_form_is_right(text: str, formed: float, correct: float) -> None:
    assert (in_form([text]), right([text], [7])) == ([formed], [correct])


def test_brevity_costs_nothing_up_to_sixteen_words_and_at_most_one() -> None:
    assert brief(["word " * count for count in (0, 16, 24, 32, 99)]) == [0.0, 0.0, -0.5, -1.0, -1.0]


def test_a_fact_is_known_in_any_of_its_forms_as_a_word_of_its_own() -> None:
    said = ["It takes in CO2.", "Carbon dioxide!", "CO23", "It is August."]
    assert knows(said, ["carbon dioxide|CO2"] * 3 + ["Au"]) == [1.0, 1.0, 0.0, 0.0]
    assert len(FACTS) == 20 and all(
        knows([f"Well, {one}."], [forms]) == [1.0] for _, forms in FACTS for one in forms.split("|")
    )


def test_every_solution_is_right_and_its_sum_holds() -> None:
    for one in islice(problems(3), 500):
        assert right([one["solution"]], [one["expected"]]) == [1.0] and brief([one["solution"]]) == [0.0]
        a, sign, b, found = re.fullmatch(r"(\d+) (.) (\d+) = (\d+)\. .*", one["solution"]).groups()
        assert (
            {"+": int(a) + int(b), "-": int(a) - int(b), "x": int(a) * int(b)}[sign]
            == int(found)
            == one["expected"]
            >= 0
        )
        assert {a, b} <= set(re.findall(r"\d+", one["prompt"]))


def test_held_out_problems_are_none_of_those_that_are_trained_on() -> None:
    train, held_out = ({one["prompt"] for one in distinct(seed, 300, held_out=seed == 2)} for seed in (1, 2))
    assert len(train) == len(held_out) == 300 and not train & held_out
