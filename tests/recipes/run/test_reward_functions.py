"""Reward functions are called with what their parameters name, and their mistakes are told with their own line."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import write_rows

from assent.data.load import load_prompts
from assent.errors import AssentError, ConfigError, RunError
from assent.recipes.run.reward_functions import FunctionScorer, ObjectScorer, function_reward
from assent.types import Completion, Conversation, Message, Role

ROWS = [{"prompt": "2 + 2?", "answer": "4", "level": 1}, {"prompt": "3 + 4?", "answer": "7", "level": 2}]
ANSWERS = [Completion(text="It is 4."), Completion(text="It is 8.")]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    return list(load_prompts(write_rows(tmp_path_factory.mktemp("data") / "sums.jsonl", ROWS)).examples)


def has_answer(completions: list[str], answer: list[str]) -> list[float]:
    return [float(right in text) for text, right in zip(completions, answer, strict=True)]


def as_trl(completions: list[str], **kwargs: Any) -> list[float]:
    return [float(right in text) for text, right in zip(completions, kwargs["answer"], strict=True)]


def everything(**columns: Any) -> list[float]:
    assert set(columns) == {"prompts", "completions", "prompt", "answer", "level"}
    return has_answer(columns["completions"], columns["answer"])


def third_parameter(questions: list[str], texts: list[str], answer: list[str]) -> list[float]:
    assert questions == ["2 + 2?", "3 + 4?"]
    return has_answer(texts, answer)


def positional_and_columns(prompt: list[str], completion: list[str], **columns: Any) -> list[float]:
    assert prompt == ["2 + 2?", "3 + 4?"] and set(columns) == {"answer", "level"}
    return has_answer(completion, columns["answer"])


def talks(conversations: list[list[dict[str, str]]], answer: list[str]) -> list[float]:
    assert [[one["role"] for one in talk] for talk in conversations] == [["user", "assistant"]] * 2
    return has_answer([talk[-1]["content"] for talk in conversations], answer)


def with_default(completions: list[str], answer: list[str], bonus: float = 0.0) -> list[float]:
    return [value + bonus for value in has_answer(completions, answer)]


def only_by_name(*, completions: list[str], answer: list[str], prompts: list[str]) -> list[float]:
    return has_answer(completions, answer)


class Callable_:
    def __call__(self, prompts: list[str], completions: list[str], answer: list[str]) -> list[float]:
        return has_answer(completions, answer)


def tuned(factor: float, completions: list[str], answer: list[str]) -> list[float]:
    return [factor * value for value in has_answer(completions, answer)]


@pytest.mark.parametrize(
    "function",
    [has_answer, as_trl, everything, third_parameter, positional_and_columns, talks, with_default, only_by_name,
     Callable_(), Callable_().__call__, functools.partial(tuned, 1.0),
     lambda *both: [1.0, 0.0], lambda p, c: [float("4" in text) for text in c]],
)  # fmt: skip
def test_every_way_to_ask_for_columns_gives_the_right_rewards(
    function: Callable[..., list[float]], prompts: list[Conversation]
) -> None:
    scorer = FunctionScorer(function)
    scorer.check(prompts)
    assert scorer.score(prompts, ANSWERS) == [1.0, 0.0]


def test_the_whole_conversation_has_the_system_prompt_and_earlier_turns_and_ends_with_the_completion() -> None:
    said = [(Role.SYSTEM, "Be brief."), (Role.USER, "Hello!"), (Role.ASSISTANT, "Hi."), (Role.USER, "Where?")]
    prompt = Conversation(messages=tuple(Message(role=role, content=text) for role, text in said))
    seen: list[Any] = []

    def reward(conversations: list[Any]) -> list[float]:
        seen.extend(conversations)
        return [0.0]

    FunctionScorer(reward).score([prompt], [Completion(text="Here.")])
    assert [(one["role"], one["content"]) for one in seen[0]] == [
        *((role.value, text) for role, text in said), ("assistant", "Here."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [(1, 0), np.array([1.0, 0.0]), torch.tensor([1.0, 0.0]), [True, False], [Decimal(1), Decimal(0)],
     (value for value in (1.0, 0.0)), torch.tensor([[1.0], [0.0]])],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_numbers_of_every_kind_are_taken(given: Any, prompts: list[Conversation]) -> None:
    assert FunctionScorer(lambda p, c: given).score(prompts, ANSWERS) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("given", "match"),
    [([1.0], "gave 1 numbers for 2 completions"), ([1.0, 2.0, 3.0], "gave 3 numbers for 2"),
     (itertools.count(), "gave at least 3 numbers for 2"), (itertools.repeat(1.0, 1), "gave 1 numbers for 2"),
     (None, "gave NoneType"), (0.5, "gave float"), ("12", "gave str '12'"), ({"a": 1, "b": 2}, "gave dict"),
     ({1.0, 2.0}, "gave set"),
     ([1.0, None], "gave None for the completion 'It is 8.'; give 0.0"), ([1.0, "2"], "gave str '2' for"),
     ([1.0, "n/a"], "gave str 'n/a'"), ([1.0, math.nan], "gave nan for the completion 'It is 8.'"),
     ([-math.inf, 1.0], "gave -inf for the completion 'It is 4.'"), ([1.0, 10**400], "gave int for"),
     ([1.0, 2j], "gave complex for"), (np.zeros((2, 3)), "gave ndarray for"), (np.array(1.0), "gave ndarray where"),
     (torch.tensor(1.0), "gave Tensor where"), ([[1.0], [2.0]], "gave list for")],
    ids=repr,
)  # fmt: skip
def test_what_is_no_list_of_finite_numbers_is_refused_with_the_functions_own_line(
    given: Any, match: str, prompts: list[Conversation]
) -> None:
    def reward(prompts: list[str], completions: list[str]) -> Any:
        return given

    with pytest.raises(RunError) as caught:
        FunctionScorer(reward).score(prompts, ANSWERS)
    assert match in str(caught.value) and "the reward function reward" in str(caught.value)
    assert f"{__file__}:{inspect.getsourcelines(reward)[1]}" in str(caught.value)


def test_an_error_inside_names_the_line_it_was_raised_at(prompts: list[Conversation]) -> None:
    def reward(completions: list[Any], **columns: Any) -> list[float]:
        return [float(len(text[0]["content"])) for text in completions]  # as for TRL's conversational completions

    with pytest.raises(RunError, match="completions as texts") as caught:
        FunctionScorer(reward).score(prompts, ANSWERS)
    assert f"{__file__}:{inspect.getsourcelines(reward)[1] + 1}" in str(caught.value)
    assert "TypeError" in str(caught.value)

    def careful(prompts: list[str], completions: list[str]) -> list[float]:
        raise RunError("the judge is asleep")

    with pytest.raises(RunError, match="the judge is asleep"):
        FunctionScorer(careful).score(prompts, ANSWERS)


def lazily(completions: list[str]) -> Iterator[float]:
    for text in completions:
        yield 1 / (len(text) - len(text))


def leaving(completions: list[str]) -> list[float]:
    sys.exit(3)


@pytest.mark.parametrize(
    ("function", "offset", "told"),
    [(lazily, 2, "ZeroDivisionError: division by zero"), (leaving, 1, "SystemExit: 3")],
)
def test_a_function_that_fails_lazily_or_exits_is_told_as_one_that_fails(
    function: Callable[..., Any], offset: int, told: str, prompts: list[Conversation]
) -> None:
    with pytest.raises(RunError) as caught:
        FunctionScorer(function).score(prompts, ANSWERS)
    assert f"{__file__}:{inspect.getsourcelines(function)[1] + offset}" in str(caught.value)
    assert f"the reward function {function.__name__} failed: {told}" in str(caught.value)


@pytest.mark.parametrize("code", ["import sys\nsys.exit()", "exit(0)", "raise SystemExit", "1 / 0", "import nowhere"])
@pytest.mark.parametrize("name", ["{file}:f", "{module}:f"])
def test_a_file_or_module_that_exits_or_fails_when_it_is_imported_is_refused(
    code: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_early.py").write_text(f"def f(completions):\n    return [1.0] * len(completions)\n{code}\n")
    monkeypatch.syspath_prepend(tmp_path)
    told = "ends the program" if "xit" in code else "cannot be"
    with pytest.raises(ConfigError, match=told):
        function_reward(name.format(file=tmp_path / "ends_early.py", module="ends_early"))
    sys.modules.pop("ends_early", None)


class Own:
    """A scorer object; `given` is what it gives, or raises."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> Any:
        assert isinstance(prompts[0], Conversation) and isinstance(completions[0], Completion)
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


class OfOneArgument:
    def score(self, completions: Sequence[Completion]) -> list[float]:
        return [1.0, 2.0]


def test_a_scorer_object_gives_numbers_of_every_kind(prompts: list[Conversation]) -> None:
    for given in ([1, 0], np.array([1.0, 0.0]), torch.tensor([[1.0], [0.0]]), (value for value in (1.0, 0.0))):
        assert ObjectScorer(Own(given)).score(prompts, ANSWERS) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("scorer", "told"),
    [(Own([1.0]), "the scorer Own gave 1 numbers for 2 completions"), (Own(["a", "b"]), "gave str 'a' for"),
     (Own(None), "gave NoneType where a list"), (Own([math.nan, 1.0]), "gave nan for the completion 'It is 4.'"),
     (Own(ValueError("asleep")), "the scorer Own failed: ValueError: asleep"),
     (OfOneArgument(), "the scorer OfOneArgument failed: TypeError")],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)  # fmt: skip
def test_a_mistake_of_a_scorer_object_is_told_with_its_line(
    scorer: Any, told: str, prompts: list[Conversation]
) -> None:
    with pytest.raises(RunError) as caught:
        ObjectScorer(scorer).score(prompts, ANSWERS)
    first = inspect.getsourcelines(type(scorer).score)[1]
    assert told in str(caught.value)
    assert f"{__file__}:{first + 3 if 'asleep' in told else first}" in str(caught.value)


def asks_for(*names: str) -> Callable[..., list[float]]:
    scope: dict[str, Any] = {}
    exec(f"def reward({', '.join(names)}):\n    return [0.0] * len(completions)", scope)
    made: Callable[..., list[float]] = scope["reward"]
    return made


@pytest.mark.parametrize(
    ("names", "match"),
    [(("completions", "anwser"), 'asks for the column "anwser".*Did you mean "answer"'),
     (("completions", "solution"), "columns are: prompt, answer, level"),
     (("completion", "completions"), 'column "completion".*Did you mean "completions"'),
     (("texts",), "does not take the completions"), ((), "does not take the completions"),
     (("prompts", "answer"), 'takes the column "answer" and not the completions')],
)  # fmt: skip
def test_a_column_that_is_not_there_is_named_with_a_guess_before_anything_runs(
    names: tuple[str, ...], match: str, prompts: list[Conversation]
) -> None:
    with pytest.raises(ConfigError, match=match):
        FunctionScorer(asks_for(*names)).check(prompts)


def test_a_column_that_some_rows_lack_is_refused_and_null_is_a_value(tmp_path: Path) -> None:
    rows = [{"prompt": "a?", "answer": None}, {"prompt": "b?", "other": 1}]
    prompts = list(load_prompts(write_rows(tmp_path / "p.jsonl", rows)).examples)
    with pytest.raises(ConfigError, match=r'"answer", which 1 of 2 prompts lack; first: "b\?"'):
        FunctionScorer(has_answer).check(prompts)
    seen: list[Any] = []
    FunctionScorer(lambda p, c, **columns: seen.append(columns) or [0.0, 0.0]).score(prompts, ANSWERS)
    assert seen[0]["answer"] == [None, None] and seen[0]["other"] == [None, 1]
    FunctionScorer(has_answer).check(prompts[:1])


def test_an_async_function_is_refused() -> None:
    async def reward(prompts: list[str], completions: list[str]) -> list[float]:
        return [0.0]

    with pytest.raises(ConfigError, match="async"):
        FunctionScorer(reward)


def test_prompts_without_columns_say_so() -> None:
    with pytest.raises(AssentError, match="no columns besides the prompt"):
        FunctionScorer(has_answer).check([Conversation.of_user("a?")])


def test_the_answer_to_check_by_may_be_a_number_and_a_prompt_may_come_twice(tmp_path: Path) -> None:
    pairs = [("2 + 2?", 4), ("Name an even number.", 2), ("Name an even number.", 8)]
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer in pairs]
    prompts = list(load_prompts(write_rows(tmp_path / "sums.jsonl", rows)).examples)
    answers = [Completion(text=text) for text in ("4", "8", "8")]

    def right(completions: list[str], answer: list[int]) -> list[float]:
        return [float(int(text) == value) for text, value in zip(completions, answer, strict=True)]

    assert FunctionScorer(right).score(prompts, answers) == [1.0, 0.0, 1.0]


def test_pairs_give_each_prompt_once_with_the_columns_on_which_its_rows_agree(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a?", "chosen": "yes", "rejected": "no", "answer": "y"},
        {"prompt": "a?", "chosen": "yes!", "rejected": "no", "answer": "y"},
        {"prompt": "b?", "chosen": "yes", "rejected": "no", "answer": "z"},
    ]
    first, second = load_prompts(write_rows(tmp_path / "pairs.jsonl", rows)).examples
    assert first.columns == {"prompt": "a?", "rejected": "no", "answer": "y"}
    assert second.columns["answer"] == "z" and second.columns["chosen"] == "yes"
    assert first == Conversation.of_user("a?"), "columns do not tell conversations apart"


def test_a_function_of_a_file_is_named_as_it_was_given(tmp_path: Path, prompts: list[Conversation]) -> None:
    file = tmp_path / "rules.py"
    file.write_text("\n\ndef short(completions):\n    return [1.0]\n")
    with pytest.raises(RunError, match=r"rules\.py:3: the reward function .*rules\.py:short gave 1 numbers"):
        function_reward(f"{file}:short").scorer.score(prompts, ANSWERS)
