"""Loading models from folders and hub names: every weight of the architecture must come from the file.

The library initialises a missing weight at random, ignores unknown weights, and continues. Here the first is an error
unless a fresh head is wanted, and the second is an error unless it is another head on the same trunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from assent.errors import ConfigError
from assent.model.body import Body, Precision, first_line
from assent.model.verification import verify_flat

_HEADS = ("score.", "classifier.")
_POOLERS = ("bert.pooler.", "roberta.pooler.")
_BUFFERS = ("inv_freq", "masked_bias", "position_ids")  # of older files; the library computes them


def pick_device(name: str) -> torch.device:
    """`auto` uses the CUDA device if there is one. A missing device is an error, never a silent CPU run."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError('device "cuda" was requested, but PyTorch sees none', now="Use --set machine.device=cpu.")
    if name not in ("cpu", "cuda") and not name.startswith("cuda:"):
        raise ConfigError(f'unknown device "{name}"', now='Use "auto", "cpu" or "cuda".')
    return torch.device(name)


def load_causal_lm(path: str, *, device: torch.device, precision: Precision = "fp32") -> Body:
    """A causal language model from a local folder or hub name; refuses what flat batches do not support."""
    model, report = _from_pretrained(AutoModelForCausalLM, path)
    _refuse_other_sizes(report["mismatched_keys"], path)
    _refuse_missing(report["missing_keys"], path)
    _refuse_unused(report["unexpected_keys"], path)
    return _verified(model, path, device, precision)


def load_classifier(path: str, *, device: torch.device, precision: Precision = "fp32") -> Body:
    """A trained sequence classifier; the number of its outputs is that of its head's weights."""
    if not has_classifier(path):
        raise ConfigError(
            "this is not a reward model or classifier: it has no trained head",
            where=path,
            now="Train one with `assent reward`, or name a sequence classifier.",
        )
    model, report = _from_pretrained(AutoModelForSequenceClassification, path)
    other = {name: (held[0], made[0]) for name, held, made in report["mismatched_keys"] if name.startswith(_HEADS)}
    if other and not _names_outputs(path):  # the library's default is two
        (held, _), *_ = other.values()
        model, report = _from_pretrained(AutoModelForSequenceClassification, path, num_labels=held)
    _refuse_other_sizes(report["mismatched_keys"], path)
    _refuse_missing_head(report, path)
    _refuse_missing(report["missing_keys"], path)
    _refuse_unused(report["unexpected_keys"], path)
    return _verified(model, path, device, precision)


def load_trunk(
    path: str, *, labels: int, device: torch.device, precision: Precision = "fp32", fresh_pooler: bool = True
) -> Body:
    """A model with an untrained head of `labels` outputs instead of its own head.

    An encoder without a pooler gets a fresh one, unless `fresh_pooler` is False: adapters do not save it.
    """
    model, report = _from_pretrained(AutoModelForSequenceClassification, path, num_labels=labels)
    fresh = (*_HEADS, *_POOLERS) if fresh_pooler else _HEADS
    _refuse_other_sizes([one for one in report["mismatched_keys"] if not one[0].startswith(_HEADS)], path)
    _refuse_missing([name for name in report["missing_keys"] if not name.startswith(fresh)], path)
    parts = {model.base_model_prefix, *(name for name, _ in model.base_model.named_children())}
    _refuse_unused([name for name in report["unexpected_keys"] if name.split(".")[0] in parts], path)
    return _verified(model, path, device, precision)


def has_classifier(path: str) -> bool:
    """Whether the configuration is that of a sequence classifier."""
    architectures = getattr(_config(path), "architectures", None) or []
    return any("SequenceClassification" in name for name in architectures)


def class_names(path: str, count: int) -> tuple[str, ...]:
    """The names of the `count` classes of the classifier at `path`; see `names_in`."""
    return names_in(_config(path), count)


def names_in(config: PreTrainedConfig, count: int) -> tuple[str, ...]:
    """The names that a configuration gives the classes 0 to `count` - 1, by number, or LABEL_0, LABEL_1, ..."""
    stated = config.id2label or {}
    numbers = range(count)
    return tuple(str(stated[number]) if set(stated) == set(numbers) else f"LABEL_{number}" for number in numbers)


def _verified(model: PreTrainedModel, path: str, device: torch.device, precision: Precision) -> Body:
    body = Body(model, device=device, precision=precision)
    verify_flat(body, path)
    return body


def _config(path: str) -> Any:
    _check_folder(path)
    try:
        return AutoConfig.from_pretrained(path)
    except StrictDataclassError as error:
        what = " ".join(str(error).split())
        raise ConfigError(f"config.json cannot be used: {what}", where=path, now="Correct config.json.") from error
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"no model can be loaded: {first_line(error)}", where=path, now=_MODEL_ADVICE) from error


def _names_outputs(path: str) -> bool:
    """Whether the configuration itself says how many outputs there are."""
    stated, _ = PreTrainedConfig.get_config_dict(path)
    return "num_labels" in stated or "id2label" in stated


def _from_pretrained(kind: type, path: str, **options: object) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and what of its weights is missing in the file, unexpected there, or of another size."""
    _config(path)
    try:
        with torch.random.fork_rng(devices=[]):  # a weight that is drawn afresh is the same every time
            torch.manual_seed(0)
            model, report = kind.from_pretrained(  # type: ignore[attr-defined]
                path, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except AssertionError as error:  # of a layer, such as a padding token that has no row
        what = f"the architecture cannot be made as config.json says: {first_line(error)}"
        raise ConfigError(what, where=path, now="Correct config.json.") from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"no model can be loaded: {first_line(error)}", where=path, now=_MODEL_ADVICE) from error
    assert isinstance(model, PreTrainedModel)
    return model, report


def _refuse_missing(missing: Iterable[str], path: str) -> None:
    if absent := sorted(missing):
        raise ConfigError(
            f"the weights do not fill this architecture: {_several(absent)} missing",
            where=path,
            now="Is it a model of another kind, or is a file of weights missing?",
        )


def _refuse_missing_head(report: Mapping[str, Any], path: str) -> None:
    absent = sorted(name for name in report["missing_keys"] if name.startswith(_HEADS))
    if absent:
        unused = sorted(report["unexpected_keys"])
        raise ConfigError(
            f"the trained head is not in the weights: {_several(absent)} missing"
            + (f", and {_several(unused)} not part of the architecture" if unused else ""),
            where=path,
            now=f'A head of one linear layer must be called "{absent[0]}".',
        )


def _refuse_unused(unexpected: Iterable[str], path: str) -> None:
    if unused := sorted(name for name in unexpected if name.split(".")[-1] not in _BUFFERS):
        raise ConfigError(
            f"the weights hold more than this architecture has: {_several(unused)} not used",
            where=path,
            now="Is it a model of another kind? If these weights do not count, save the model without them.",
        )


def _refuse_other_sizes(mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]], path: str) -> None:
    for name, held, made in sorted(mismatched):
        if name.startswith(_HEADS):
            raise ConfigError(
                f"the head has {held[0]} outputs in the weights and {made[0]} in config.json", where=path,
                now='Correct "id2label" (or "num_labels") in config.json.',
            )  # fmt: skip
        raise ConfigError(
            f'"{name}" has the shape {tuple(held)} in the weights and {tuple(made)} in the architecture', where=path,
            now="Weights and config.json do not belong together; copy the model folder again.",
        )  # fmt: skip


def _several(names: Sequence[str]) -> str:
    """The first of the names and how many more there are, with the verb."""
    rest = len(names) - 1
    return f'"{names[0]}" is' if not rest else f'"{names[0]}" and {rest} more are'


_MODEL_ADVICE = "Give a folder with config.json and model.safetensors, or a hub name that this machine can reach."


def _check_folder(path: str) -> None:
    folder = Path(path)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ConfigError("the folder holds no config.json", where=path, now=_MODEL_ADVICE)
    if not folder.exists() and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise ConfigError("there is no such model folder", where=path, now=_MODEL_ADVICE)
