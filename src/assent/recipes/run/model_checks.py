"""Looking at a model folder before anything loads it, so that what is wrong is said in its own words."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import huggingface_hub

from assent.errors import ConfigError

ModelKind = Literal["language", "reward", "trunk"]
_ADVICE = (
    "Give a folder with config.json and model.safetensors, a GGUF file, or a hub name that this machine can reach."
)
_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")
_CONNECT_S = 3.0
_HEADS = ("SequenceClassification", "SEQ_CLS")
_LANGUAGE = ("CausalLM", "LMHead", "CAUSAL_LM")


def check_model(path: str, *, wanted: ModelKind) -> None:
    """Refuse a folder that cannot be the wanted kind of model. Raises ConfigError.

    "language" is a causal language model, "reward" a sequence classifier, "trunk" anything that a fresh head can go
    on. A hub name is only checked for being reachable.
    """
    folder = Path(path)
    if not path:
        raise ConfigError("no model was given", now="Name one with --model.")
    if folder.is_file():
        raise ConfigError("this is a file; a model is a folder or a GGUF file", where=path, now=_ADVICE)
    if not folder.is_dir():
        _check_hub_name(path)
        return
    adapter, config = _json_of(folder / "adapter_config.json"), _json_of(folder / "config.json")
    if adapter is None and config is None:
        unfinished = (folder / "status.json").is_file()
        what = "this run has no model: it is not finished" if unfinished else "the folder holds no config.json"
        raise ConfigError(what, where=path, now=_ADVICE)
    _check_kind(path, adapter or config or {}, wanted)
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        raise ConfigError("the folder holds no weights (model.safetensors)", where=path, now=_ADVICE)
    if adapter is not None:
        _check_adapter(path, adapter)


def is_reward_model(path: str) -> bool:
    """Whether a folder holds a sequence classifier (or an adapter for one)."""
    adapter = _json_of(Path(path) / "adapter_config.json")
    if adapter is not None:
        kept = adapter.get("modules_to_save") or ()
        return adapter.get("task_type") == "SEQ_CLS" or "score" in kept or "classifier" in kept
    config = _json_of(Path(path) / "config.json") or {}
    return "SequenceClassification" in str(config.get("architectures"))


def _check_kind(path: str, config: dict[str, Any], wanted: ModelKind) -> None:
    named = f"{config.get('architectures')} {config.get('task_type')}"
    if config.get("auto_map"):
        what = "this model brings Python code of its own, and code from a model folder is never run"
        raise ConfigError(what, where=path, now="Use a model of an architecture that transformers knows.")
    if wanted == "language" and any(mark in named for mark in _HEADS):
        now = "Give it to --reward, and a language model to --model."
        raise ConfigError("this is a reward model or classifier, not a language model", where=path, now=now)
    if wanted == "reward" and any(mark in named for mark in _LANGUAGE):
        what = "this is a language model, not a reward model: it has no trained reward head"
        raise ConfigError(what, where=path, now="Train one with `assent reward`, or name a sequence classifier.")


def _check_adapter(path: str, adapter: dict[str, Any]) -> None:
    if not (Path(path) / "adapter_model.safetensors").is_file():
        raise ConfigError(
            "the adapter's weights must be in adapter_model.safetensors, and there is no such file", where=path,
            now="An adapter_model.bin is not opened, since it can hold code: load it with peft, and save it again with "
            "save_pretrained(FOLDER), which writes safetensors.",
        )  # fmt: skip
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ConfigError("the adapter does not name its base model", where=f"{path}/adapter_config.json")
    if not Path(base).is_dir() and (Path(base).is_absolute() or base.count("/") != 1):
        now = 'Put it back, or write its place into "base_model_name_or_path" of adapter_config.json.'
        raise ConfigError(f'the adapter\'s base model "{base}" is not there', where=path, now=now)


def _json_of(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        now = "Copy the model folder again."
        raise ConfigError(f"the file is damaged ({error})", where=str(file), now=now) from error
    if not isinstance(document, dict):
        raise ConfigError("expected a JSON object", where=str(file), now="Copy the model folder again.")
    return document


def _check_hub_name(path: str) -> None:
    """A name that is no folder is a hub name, unless it looks like a path; without a network only the cache is read."""
    first, slash, _ = path.partition("/")
    looks_like_path = path.startswith((".", "/", "~")) or path.count("/") > 1 or (slash and Path(first).is_dir())
    if looks_like_path:
        raise ConfigError("there is no such model folder", where=path, now=_ADVICE)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if _hub_answers():
        return
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    with contextlib.suppress(ValueError):  # no name that a hub could have
        if isinstance(huggingface_hub.try_to_load_from_cache(path, "config.json"), str):
            return
    what = "there is no such folder, and the hub cannot be reached to look for a model of this name"
    raise ConfigError(what, where=path, now=_ADVICE)


def _hub_answers() -> bool:
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    place = urlparse(huggingface_hub.constants.ENDPOINT)
    try:
        socket.create_connection((str(place.hostname), place.port or 443), timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True
