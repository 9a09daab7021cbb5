"""Model folders that plain `transformers` and `peft` load. They are written aside and renamed: whole or absent."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peft import LoraConfig, get_peft_model_state_dict
from peft.utils.constants import DUMMY_TARGET_MODULES
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedConfig

from assent.durable import writing
from assent.errors import RunError
from assent.model.body import Body
from assent.model.roles import head_name

_MARKS = ("config.json", "adapter_config.json")


def check_folder(folder: Path) -> None:
    """RunError if no model can be written here: only an empty folder or an older model is replaced."""
    with writing(folder):
        for place in (folder, *folder.absolute().parents):
            if place.exists() and not place.is_dir():
                raise RunError("this is a file; a model is a folder", where=str(place), now="Give another folder.")
        if folder.exists() and any(folder.iterdir()) and not any((folder / name).is_file() for name in _MARKS):
            raise RunError("the folder is not empty and holds no model", where=str(folder), now="Give another folder.")
        above = next(place for place in folder.absolute().parents if place.exists())
        Path(tempfile.mkdtemp(prefix=".assent-", dir=above)).rmdir()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that replaces it if the block succeeds.

    `check_folder` decides what may be replaced. Raises RunError.
    """
    check_folder(folder)
    temporary = folder.with_name(f".{folder.name}.new")
    with writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)


def save_full(body: Body, folder: Path) -> None:
    """All weights, in float32 safetensors, with a config that names no private attention."""
    body.model.config.architectures = [type(body.model).__name__]
    body.model.save_pretrained(str(folder), safe_serialization=True)


def save_adapter(body: Body, adapter: str | None, folder: Path, *, base: str, head: nn.Linear | None = None) -> None:
    """One adapter as a `peft` folder on `base`; a reward head travels as a saved module of a sequence classifier.

    A language model's end tokens and sampling defaults go along. Without an adapter it is a head alone, which changes
    no layer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights, config = {}, LoraConfig(target_modules=DUMMY_TARGET_MODULES).to_dict()
    if adapter is not None:
        assert body.peft is not None
        weights = get_peft_model_state_dict(body.peft, adapter_name=adapter, save_embedding_layers=False)
        config = body.peft.peft_config[adapter].to_dict()
    if head is None and body.model.generation_config is not None:
        body.model.generation_config.to_json_file(str(folder / "generation_config.json"))
    config["base_model_name_or_path"] = base
    config["inference_mode"] = True
    config["task_type"] = "CAUSAL_LM" if head is None else "SEQ_CLS"
    if head is not None:
        place = head_name(body)
        config["modules_to_save"] = [place]
        weights |= {f"base_model.model.{place}.{name}": p.detach().clone() for name, p in head.named_parameters()}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / "adapter_config.json").write_text(json.dumps(plain, indent=2, sort_keys=True, default=str))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "adapter_model.safetensors")


def save_class_names(body: Body, names: Sequence[str], folder: Path) -> None:
    """The configuration of the sequence classifier that an adapter with a head makes of its base."""
    config = copy.deepcopy(body.model.config)
    config.architectures = [type(body.model).__name__]
    name_classes(config, names)
    config.save_pretrained(str(folder))


def name_classes(config: PreTrainedConfig, names: Sequence[str]) -> None:
    """Set how many classes there are and what they are called."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
