"""What a Python program gives to a call, taken for what it is or refused in one sentence.

Data is a file (a path), examples of `assent.types`, or rows in memory, which are read as rows of a file are. A
`pathlib.Path` is always a file. Text is a file too, except where prompts are wanted: there it is a file if one is
there, or if it looks like a path; else it is a prompt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

from assent.algorithms.methods import Reads
from assent.backends.local.sampler import RewardScorer
from assent.data import convert
from assent.data.files import SourceFile
from assent.data.formats import format_named
from assent.data.in_memory import ACCEPTED, PLACE, called, listed, rows_in_memory
from assent.data.labels import check_labels
from assent.data.load import Source, load_prompts
from assent.data.validation import Own, check_examples
from assent.errors import ConfigError, DataError
from assent.evals.judges import JudgeScorer
from assent.model.saving import check_folder
from assent.ports.judging import Judge
from assent.ports.sampling import Scorer
from assent.recipes.run.adapters import adapter_base
from assent.recipes.run.call_settings import Call
from assent.recipes.run.inputs import LOADS, Files, Load, model_folder, read_all, read_judgement
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import LanguageModel, RewardModel, load_reward_model
from assent.recipes.run.progress import Display
from assent.recipes.run.reading_settings import Reading
from assent.recipes.run.reward_functions import (
    FunctionScorer,
    ObjectScorer,
    RewardFunction,
    function_reward,
    is_function,
)
from assent.recipes.run.rewards import OWN_REWARD, Rewards, name_of_folder, weighted
from assent.types import Comparison, Conversation, Rating

T = TypeVar("T")
Reward = RewardModel | RewardFunction | Scorer | Judge | str | Path
RewardOrSeveral = Reward | Sequence[Reward] | Mapping[str, Reward]
_SHOWN_CHARACTERS = 80
_PREFERENCES = "Comparison, Ranking or Rating"
_FILE = re.compile(r"\S*/\S*|\S+\.(jsonl|ndjson|json|csv|tsv|parquet|arrow|txt|gz)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """Data by what it is; one of the three is not empty."""

    files: tuple[str, ...] = ()
    rows: tuple[SourceFile, ...] = ()
    own: tuple[Any, ...] = field(default=())


def examples(data: object, *, reads: Reads, call: Call, display: Display) -> Sequence[Any]:
    """Conversations to imitate, dialogues with rewards, comparisons, rankings or labels. Raises AssentError."""
    given = _sorted(data, call)
    if not given.own:
        return _read(given, LOADS[reads], call, display)
    conversions: dict[Reads, tuple[Callable[[Sequence[Any]], Sequence[Any]], str]] = {
        "demonstrations": (convert.demonstrations, "Demonstration"),
        "comparisons": (_pairs(call.reading), _PREFERENCES),
        "rankings": (convert.rankings, _PREFERENCES),
        "labels": (_labels, "Rating or Comparison"),
        "dialogues": (convert.dialogues, f"RewardedDialogue, {_PREFERENCES}"),
    }
    conversion, wanted = conversions[reads]
    return _made(conversion, given, call, wanted=wanted)


def judgement(data: object, call: Call, display: Display, *, ranked: bool = False) -> Sequence[Any]:
    """Comparisons, rankings or good/bad labels: labels where single completions are judged 1 or 0. AssentError."""
    given = _sorted(data, call)
    if not given.own:
        files = Files(
            model="", out=Path(PLACE), data=given.files, rows=given.rows, format=call.format, on_bad_row=call.on_bad_row
        )
        return read_judgement(
            files, display, learn="auto", reading=call.reading, limit=call.limit, ranked=ranked
        )[0].examples  # fmt: skip
    if all(isinstance(one, Rating) and one.score in (0.0, 1.0) for one in given.own):
        return given.own[: call.limit]
    conversion: Callable[[Sequence[Any]], Sequence[Any]] = convert.rankings if ranked else _pairs(call.reading)
    if all(isinstance(one, Rating) for one in given.own) and not conversion(given.own):
        check_labels(given.own, PLACE)
    return _made(conversion, given, call, wanted=_PREFERENCES)


def prompts(data: object, call: Call, display: Display) -> Sequence[Conversation]:
    """Prompts; of examples with answers, what stands before the answer. Raises AssentError."""
    given = _sorted(data, call, prompts=True)
    if given.own:
        return [convert.prompts([one])[0] for one in given.own[: call.limit]]
    try:
        return _read(given, load_prompts, call, display, role="prompts")
    except DataError as error:
        if not isinstance(data, str):
            raise
        now = f"{error.now or ''} If it is meant as a prompt, put it into a list: [...].".strip()
        raise DataError(error.what, where=error.where, now=now) from error


def is_file_name(text: str) -> bool:
    """Whether text that stands where prompts are wanted means a file: one is there, or it looks like a path."""
    return os.path.exists(text) or _FILE.fullmatch(text) is not None  # noqa: PTH110 (long texts are no OSError here)


def _sorted(data: object, call: Call, *, prompts: bool = False) -> _Given:
    if call.format is not None:
        format_named(call.format)
    if isinstance(data, LanguageModel | RewardModel):
        raise DataError(f"this is {_told(data)}, not data", where=PLACE, now=f"Give {ACCEPTED}.")
    if isinstance(data, os.PathLike) or (isinstance(data, str) and (not prompts or is_file_name(data))):
        return _Given(files=(_path(data, PLACE),))
    items = [data] if isinstance(data, str) else listed(data)
    named = (os.PathLike,) if prompts else (os.PathLike, str)
    if items and all(isinstance(item, named) for item in items):
        return _Given(files=tuple(_path(item, PLACE) for item in items))
    if prompts and all(isinstance(item, str | Own) for item in items):
        items = [Conversation.of_user(item) if isinstance(item, str) else item for item in items]
    if any(isinstance(item, Own) for item in items):
        check_examples(items)
        return _Given(own=tuple(items))
    return _Given(rows=(rows_in_memory(items),))


def _pairs(reading: Reading) -> Callable[[Sequence[Any]], list[Comparison]]:
    return lambda own: convert.comparisons(own, keep_ties=reading.keep_ties, margin_per_score=reading.margin_per_score)


def _labels(own: Sequence[Any]) -> list[Rating]:
    made = convert.ratings(own)
    check_labels(made, PLACE)
    return made


def _made(conversion: Callable[[Sequence[Any]], Sequence[T]], given: _Given, call: Call, *, wanted: str) -> Sequence[T]:
    """What is wanted, made of examples of `assent.types`. Raises DataError."""
    made = conversion(given.own)
    if not made:
        kinds = ", ".join(sorted({type(one).__name__ for one in given.own}))
        raise DataError(f"what is wanted here cannot be made of {kinds}", where=PLACE, now=f"Give {wanted}.")
    return made[: call.limit]


def _read(given: _Given, load: Load, call: Call, display: Display, *, role: str = "train") -> tuple[Any, ...]:
    files = Files(model="", out=Path(PLACE), data=given.files, format=call.format, on_bad_row=call.on_bad_row)
    sources: tuple[Source, ...] = (*given.files, *given.rows)
    return read_all(sources, load, files, display, role=role, limit=call.limit, reading=call.reading).examples


def language_model(model: object) -> LanguageModel:
    """A loaded language model, or a ConfigError that says what was given instead."""
    if isinstance(model, LanguageModel):
        return model
    raise ConfigError(f"a language model is wanted, got {_told(model)}", where="model", now=_now(model, "load"))


def model_or_path(model: object, *, loader: str) -> str:
    """The folder or hub name of a model that is to be loaded."""
    if isinstance(model, str | os.PathLike):
        return _path(model, "model")
    loaded = isinstance(model, LanguageModel | RewardModel)
    now = "It is loaded already: use it as it is." if loaded else _now(model, loader)
    raise ConfigError(f"a model's folder or hub name is wanted, got {_told(model)}", where="model", now=now)


def _path(path: str | os.PathLike[str], where: str) -> str:
    """Text that the file system can look for, whether it finds something or not."""
    text = os.fsdecode(path)
    if not text.strip():
        raise ConfigError("the path is empty", where=where, now="Name a file or folder.")
    try:
        Path(text).stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
        raise ConfigError(f"no path can be {shown!r} ({reason})", where=where, now="Name a file or folder.") from None
    return text


def class_name(positive: object) -> str | None:
    """The name or the number of a class, as text."""
    if positive is None or (isinstance(positive, str | int) and not isinstance(positive, bool)):
        return None if positive is None else str(positive)
    raise ConfigError(f"a class's name or number is wanted, got {_told(positive)}", where="positive")


def _check_reward(reward: object) -> None:
    """Refuse what cannot be a reward: no reward model, function, scorer or name of one."""
    if isinstance(reward, LanguageModel):
        raise ConfigError("this is a language model, not a reward", where="reward", now="Train a reward model first.")
    if isinstance(reward, torch.nn.Module):
        raise ConfigError(f"a reward is wanted, got {_told(reward)}", where="reward", now=_now(reward, "load_reward"))
    function = callable(reward) and not isinstance(reward, type)
    scorer = not isinstance(reward, type) and any(callable(getattr(reward, one, None)) for one in ("score", "prefer"))
    if not (isinstance(reward, RewardModel | str | os.PathLike) or function or scorer):
        now = "Give a reward model, a function, a judge, a folder of a reward model, or FILE.py:NAME."
        raise ConfigError(f"a reward is wanted, got {_told(reward)}", where="reward", now=now)


def place(out: object, *, keeps: Sequence[str] = ()) -> Path | None:
    """The folder for the result, checked before anything is trained; `keeps` are models that it must not replace."""
    if out is None:
        return None
    if not isinstance(out, str | os.PathLike):
        raise ConfigError(f"a folder is wanted, got {_told(out)}", where="out", now="Give a path, or leave it out.")
    folder = Path(_path(out, "out"))
    check_folder(folder)
    for kept in keeps:
        if folder.resolve() == Path(kept).resolve():
            raise ConfigError("this model is still needed", where=str(folder), now="Give another out.")
    return folder


def rewards(
    reward: RewardOrSeveral | None, weights: Sequence[float], cost: Reward | None = None, *, own: bool = False
) -> Rewards:
    """One reward or several as one scorer, and the cost; the environment's `own` is the last. Names of a mapping stay.

    Raises ConfigError for what cannot be a reward.
    """
    if isinstance(reward, Mapping):
        scorers = [(name, _scorer(one)[1]) for name, one in reward.items()]
    else:
        several = reward if isinstance(reward, Sequence) and not isinstance(reward, str) else [reward]
        scorers = [_scorer(one) for one in several if one is not None]
    given = [*scorers, *([OWN_REWARD] if own else [])]
    return Rewards(scorer=weighted(given, weights, cost=None if cost is None else _scorer(cost)[1]))


def _scorer(reward: Reward) -> tuple[str, Scorer]:
    """What scores, and its name."""
    _check_reward(reward)
    if isinstance(reward, str) and is_function(reward):
        return reward.rpartition(":")[2], function_reward(reward).scorer
    if isinstance(reward, str | os.PathLike):
        reward = load_reward_model(model_folder(_path(reward, "model")), machine=MachineOptions())
    if isinstance(reward, RewardModel):
        return name_of_folder(reward.path), reward.scorer
    if isinstance(reward, RewardScorer):
        return type(reward).__name__, reward
    if isinstance(reward, Judge):
        return type(reward).__name__, JudgeScorer(reward)
    scorer = FunctionScorer(reward) if callable(reward) else ObjectScorer(reward)
    return scorer.name, scorer


def needed(start: str | LanguageModel) -> tuple[str, ...]:
    """What a reward model must not be written over: the model that it starts from, and its base."""
    if isinstance(start, LanguageModel):
        return (start.path, *needed_beside(start))
    return (model_folder(start), *filter(None, [adapter_base(model_folder(start))]))


def needed_beside(model: LanguageModel) -> tuple[str, ...]:
    """The base model of a policy that is an adapter: the adapter is of no use without it."""
    return (adapter_base(model.path) or model.path,) if model.role.adapter is not None else ()


def _told(value: object) -> str:
    if isinstance(value, LanguageModel):
        return "a language model"
    if isinstance(value, RewardModel):
        return "a reward model"
    return called(value)


def _now(value: object, loader: str) -> str:
    if isinstance(value, str | os.PathLike) and loader == "load":
        return f"Load it first: assent.load({str(value)!r})."
    if isinstance(value, transformers.PreTrainedModel):
        return f"Save it with its tokenizer (save_pretrained) and give that folder to assent.{loader}."
    return f"It comes from assent.{loader}."
