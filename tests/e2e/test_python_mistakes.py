"""Whatever is given to the Python API in place of what it wants: an AssentError answers, and nothing is left behind."""

from __future__ import annotations

import decimal
import inspect
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import torch

import assent
from assent.algorithms.methods import FUNCTIONS, METHODS
from assent.errors import AssentError
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.types import Comparison, Completion, Conversation, Demonstration, Message, Role

SPLIT = datasets.Dataset.from_list([{"a": 1}])


class Odd:
    """A class of the user's, for nothing that is wanted here."""


def closed_file() -> io.StringIO:
    file = io.StringIO("x")
    file.close()
    return file


def numbers() -> Iterator[int]:
    yield 1


WRONG: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "number": lambda: 3,
    "negative": lambda: -1,
    "fraction": lambda: 1.5,
    "not a number": lambda: float("nan"),
    "huge": lambda: 10**400,
    "complex": lambda: 1j,
    "decimal": lambda: decimal.Decimal("1.5"),
    "true": lambda: True,
    "word": lambda: "qwerty",
    "empty text": lambda: "",
    "half a character": lambda: "\ud800",
    "null character": lambda: "a\0b",
    "long text": lambda: "x" * 5000,
    "bytes": lambda: b"x",
    "path": lambda: Path("nowhere"),
    "object": Odd,
    "class": lambda: Odd,
    "function": lambda: lambda: 0,
    "module": lambda: np,
    "empty list": list,
    "empty dict": dict,
    "empty tuple": tuple,
    "set": lambda: {1, 2},
    "numbers": lambda: [1, 2],
    "nothings": lambda: [None],
    "texts": lambda: ["a", "b"],
    "blank texts": lambda: ["  "],
    "tuples": lambda: [("a", "b", "c")],
    "nested": lambda: [[["a"]]],
    "dict by number": lambda: {1: 2},
    "columns of two lengths": lambda: {"prompt": ["a", "b"], "chosen": ["c"], "rejected": ["d", "e"]},
    "generator": numbers,
    "generator function": lambda: numbers,
    "file": lambda: io.StringIO("x"),
    "closed file": closed_file,
    "array": lambda: np.arange(3),
    "tensor": lambda: torch.arange(3),
    "module of torch": lambda: torch.nn.Linear(2, 2),
    "series": lambda: pandas.Series([1, 2]),
    "frame": lambda: pandas.DataFrame({"a": [1]}),
    "empty frame": pandas.DataFrame,
    "class of frames": lambda: pandas.DataFrame,
    "splits": lambda: datasets.DatasetDict(train=SPLIT, test=SPLIT),
    "message": lambda: Message(role=Role.USER, content="x"),
    "role as text": lambda: Conversation(messages=(Message(role="user", content="x"),)),  # type: ignore[arg-type]
    "text as prompt": lambda: Comparison(prompt="a", chosen="b", rejected="c"),  # type: ignore[arg-type]
    "mixed": lambda: [{"prompt": "a"}, Conversation.of_user("x")],
}
NUMBERS = {"number", "fraction", "huge", "decimal"}
PLACES = {"nothing", "word", "path"}
PROMPTS = {"word", "null character", "texts"}


@dataclass(frozen=True, slots=True)
class Argument:
    """A parameter of a function of the API, and the names of WRONG that are right for it after all."""

    function: str
    name: str
    right: frozenset[str]


def arguments() -> list[Argument]:
    """Every parameter that is no setting of an algorithm; of functions of methods that read the same, the first's."""
    right = {
        "out": PLACES, "on_step": {"nothing"}, "seed": NUMBERS, "positive": {"nothing"},
        "annotator": {"nothing"}, "lora_rank": NUMBERS,
        "count": {"number"}, "prompts": PROMPTS, "format": {"nothing"}, "limit": {"nothing", *NUMBERS},
        "reading": {"empty dict"}, "eval_data": {"nothing"},
    }  # fmt: skip
    found = []
    first = {method.reads: method.function for method in reversed(METHODS.values())}
    others = FUNCTIONS.keys() - set(first.values())
    for name in assent.__all__:
        if name in others:
            continue
        function = getattr(assent, name)
        for parameter in inspect.signature(function).parameters if callable(function) else ():
            if parameter in inspect.signature(inspect.unwrap(function)).parameters or parameter in right:
                found.append(Argument(name, parameter, frozenset(right.get(parameter, set()))))
    return found


@pytest.fixture(scope="module")
def models(home: Path) -> tuple[LanguageModel, RewardModel]:
    return assent.load(home / "base"), assent.load_reward(home / "reward")


@pytest.fixture
def right(models: tuple[LanguageModel, RewardModel], home: Path) -> Callable[[str], dict[str, Any]]:
    """Arguments that a function takes."""
    policy, reward = models
    hello = Conversation.of_user("Hello!")
    shown = [Demonstration(conversation=hello.then("Good day."))]
    pairs = [Comparison(prompt=hello, chosen=Completion(text="Good day."), rejected=Completion(text="No."))]

    def given(name: str) -> dict[str, Any]:
        return {
            "load": {"model": home / "base"},
            "load_reward": {"model": home / "reward"},
            "set_threads": {"count": 1},
            "sft": {"model": policy, "data": shown},
            "train_reward": {"model": home / "base", "data": pairs},
            "dpo": {"model": policy, "data": pairs},
            "dpo_pl": {"model": policy, "data": pairs},
            "kto": {"model": policy, "data": pairs},
            "ilql": {"model": policy, "data": pairs},
            "ppo": {
                "model": policy, "data": ["Hello!"], "reward": reward, "iterations": 1, "batch_size": 1,
                "mini_batches": 1, "max_tokens": 2,
            },
            "sample": {"model": policy, "prompts": ["Hello!"], "max_tokens": 2},
            "evaluate": {"model": policy, "data": ["Hello!"], "reward": reward, "max_tokens": 2},
        }[name]  # fmt: skip

    return given


@pytest.mark.parametrize("argument", arguments(), ids=lambda one: f"{one.function}-{one.name}")
def test_every_wrong_argument_is_refused_in_one_sentence(
    argument: Argument, right: Callable[[str], dict[str, Any]], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, base = getattr(assent, argument.function), right(argument.function)
    monkeypatch.setattr("assent.recipes.run.model_checks._hub_answers", lambda: False)
    prompts = argument.name == "data" and argument.function in ("evaluate", "ppo")
    right_names = argument.right | (PROMPTS if prompts else set())
    for name, make in WRONG.items():
        if name in right_names:
            continue
        with pytest.raises(AssentError) as caught:
            function(**{**base, argument.name: make()})
            pytest.fail(f"{argument.name}={name} was taken")
        str(caught.value).encode()
    assert list(own.iterdir()) == [], "a call that is refused leaves nothing behind"


def test_several_rewards_in_one_another_and_scorers_that_fail_are_refused(
    models: tuple[LanguageModel, RewardModel], right: Callable[[str], dict[str, Any]]
) -> None:
    class Short:
        def score(self, prompts: object, completions: object) -> list[float]:
            return []

    _, reward = models
    for given, told in (([[reward]], "got a list"), ({"a": {"b": reward}}, "got a dict"), (Short(), "gave 0 numbers")):
        for name in ("ppo", "evaluate"):
            with pytest.raises(AssentError, match=told):
                getattr(assent, name)(**{**right(name), "reward": given})


def test_a_prompt_that_stands_twice_counts_once(models: tuple[LanguageModel, RewardModel]) -> None:
    def length(completions: list[str]) -> list[float]:
        return [float(len(text)) for text in completions]

    found = assent.evaluate(models[0], ["Hello!"] * 6 + ["Bye!"], reward=length, max_tokens=4)
    assert found.n == 2
