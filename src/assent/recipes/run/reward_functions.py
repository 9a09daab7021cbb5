"""A reward given as a Python function: called with what it asks for, its mistakes told with its own file and line.

A function says by the names of its parameters what it wants: `prompts` (the last user messages), `completions`,
`conversations` (all messages, the completion last), or any column of the data; `**columns` takes all columns. A
function that names no `completions` is called with prompts and completions in this order.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import Parameter
from typing import Any

from assent.errors import ConfigError
from assent.ports.sampling import Scorer
from assent.recipes.run.reward_code import RewardCode, place_of
from assent.recipes.run.user_code import is_code, named_code
from assent.runs.lineage import DataSource
from assent.types import Completion, Conversation

RewardFunction = Callable[..., Iterable[float]]

_BOTH = ("prompts", "completions")
_SECOND_NAMES = {"completion", "response", "responses", "answer_text", "text", "texts"}


class FunctionScorer:
    """A Python function as reward; `name` is what errors and curves call it."""

    def __init__(self, function: RewardFunction, name: str | None = None) -> None:
        self.function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self._code = RewardCode(
            told=f"the reward function {self.name}", where=place_of(function),
            now="It is called with lists (prompts and completions as texts, columns of the data: see docs/commands.md) "
            "and gives one number for each completion.",
        )  # fmt: skip
        self._positional, self._named, self._takes_all = self._parameters()

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """Call the function once; it must give one finite number per completion. Raises RunError."""
        texts = [completion.text for completion in completions]
        given, named = self._arguments(prompts, texts)
        return self._code.numbers(partial(self.function, *given, **named), texts)

    def check(self, prompts: Sequence[Conversation]) -> None:
        """Refuse data that lacks a column which the function asks for, before anything is trained."""
        self._arguments(prompts, [""] * len(prompts))

    def _parameters(self) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...], bool]:
        """Parameters that take prompts and completions by their place, those given by name, and whether all columns.

        Raises ConfigError for a function that has no place for the completions.
        """
        if inspect.iscoroutinefunction(self.function):
            raise self._error("is an async function", now="Give a plain function.")
        try:
            found = tuple(inspect.signature(self.function).parameters.values())
        except (TypeError, ValueError):  # some functions written in C do not say
            return (Parameter("prompts", Parameter.POSITIONAL_ONLY),) * 2, (), False
        takes_all = any(one.kind is Parameter.VAR_KEYWORD for one in found)
        plain = tuple(one for one in found if one.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL))
        if {"completions", "conversations"} & {one.name for one in plain} or (takes_all and len(found) == 1):
            return (), plain, takes_all
        in_order = [one for one in plain if one.kind is not Parameter.KEYWORD_ONLY]
        if any(one.kind is Parameter.VAR_POSITIONAL for one in found):
            in_order += [Parameter(name, Parameter.POSITIONAL_ONLY) for name in _BOTH[len(in_order) :]]
        if len(in_order) < 2:
            raise self._error(
                "does not take the completions", now='Write it as "def reward(prompts, completions): ...".'
            )
        return tuple(in_order[:2]), tuple(one for one in plain if one not in in_order[:2]), takes_all

    def _arguments(
        self, prompts: Sequence[Conversation], texts: Sequence[str]
    ) -> tuple[list[list[Any]], dict[str, list[Any]]]:
        """What the function is called with, by place and by name."""
        offered = {"prompts": [prompt.last_user_text for prompt in prompts], "completions": list(texts)}
        given: list[list[Any]] = []
        if self._positional:
            second = self._positional[1].name
            if second not in {*_BOTH, *_SECOND_NAMES} and any(second in prompt.columns for prompt in prompts):
                raise self._error(
                    f'takes the column "{second}" and not the completions', now='Name a parameter "completions".'
                )
            given = [offered["prompts"], offered["completions"]]
        named: dict[str, list[Any]] = {}
        if self._takes_all:
            taken = {one.name for one in self._positional}
            columns = dict.fromkeys(name for prompt in prompts for name in prompt.columns if name not in taken)
            named = {name: [prompt.columns.get(name) for prompt in prompts] for name in columns}
            named |= {} if self._positional else offered
        for parameter in self._named:
            value = self._value(parameter, offered, prompts, texts)
            if value is None:
                continue
            if parameter.kind is Parameter.POSITIONAL_ONLY:
                given.append(value)
            else:
                named[parameter.name] = value
        return given, named

    def _value(
        self, parameter: Parameter, offered: Mapping[str, list[str]], prompts: Sequence[Conversation],
        texts: Sequence[str],
    ) -> list[Any] | None:  # fmt: skip
        """What one parameter gets; None where the data has no such column and the parameter has a default."""
        name = parameter.name
        if name in offered:
            return offered[name]
        if name == "conversations":
            return [_messages(prompt.then(text)) for prompt, text in zip(prompts, texts, strict=True)]
        lacking = [place for place, prompt in enumerate(prompts) if name not in prompt.columns]
        if not lacking:
            return [prompt.columns[name] for prompt in prompts]
        if len(lacking) == len(prompts) and parameter.default is not Parameter.empty:
            return None
        known = list(dict.fromkeys(column for prompt in prompts for column in prompt.columns))
        if len(lacking) < len(prompts):
            first = prompts[lacking[0]].last_user_text[:60]
            raise self._error(
                f'asks for the column "{name}", which {len(lacking)} of {len(prompts)} prompts lack; first: "{first}"',
                now="Fill it in every row (null is a value, too).",
            )
        near = difflib.get_close_matches(name, [*known, *_BOTH, "conversations"], n=1)
        held = f"Its columns are: {', '.join(known[:12])}." if known else "It has no columns besides the prompt."
        now = f'Did you mean "{near[0]}"? {held}' if near else held
        raise self._error(f'asks for the column "{name}", which the data does not have', now=now)

    def _error(self, what: str, *, now: str) -> ConfigError:
        return ConfigError(f"{self._code.told} {what}", where=self._code.where, now=now)


class ObjectScorer:
    """A scorer of the user's own: any object with `score(prompts, completions)`; its mistakes are told as a function's.

    It is called with conversations and completions of `assent.types`.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.name, self._scorer = type(scorer).__name__, scorer
        self._code = RewardCode(
            told=f"the scorer {self.name}", where=place_of(scorer.score),
            now="Its score(prompts, completions) is called with lists of assent.types (Conversation and Completion) "
            "and gives one number for each completion.",
        )  # fmt: skip

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """Call the scorer once; it must give one finite number per completion. Raises RunError."""
        texts = [completion.text for completion in completions]
        return self._code.numbers(partial(self._scorer.score, prompts, completions), texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionReward:
    """The function as a scorer, and the file it stands in for the lineage."""

    scorer: FunctionScorer
    source: DataSource


def is_function(name: str) -> bool:
    """Whether a reward name means a Python function."""
    return is_code(name, flag="--reward")


def function_reward(name: str) -> FunctionReward:
    """The function that `FILE.py:NAME` or `package.module:NAME` means."""
    code = named_code(name, flag="--reward", kind="function")
    source = DataSource(role="reward", name=code.name, sha256=code.sha256, format="Python function")
    return FunctionReward(scorer=FunctionScorer(code.value, name), source=source)


def _messages(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": message.role.value, "content": message.content} for message in conversation.messages]
