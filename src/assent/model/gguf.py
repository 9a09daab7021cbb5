"""GGUF files: converted once to an ordinary model folder beside the file, which everything else then uses.

The library reads weights (dequantised to float32), tokenizer, chat template and end tokens. A folder rather than a
model in memory lets adapters name a base that `peft` finds, and spares the next run the conversion.
"""

from __future__ import annotations

import struct
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assent.durable import sha256_file
from assent.errors import ConfigError
from assent.model.body import first_line
from assent.model.saving import whole_folder

_RECORD = "gguf.sha256"
_MODELS = ("config.json", "adapter_config.json")


def from_gguf(path: str) -> str:
    """The folder that a GGUF file, or a folder with nothing but one, was converted to; any other path as it is.

    Raises ConfigError for a file that is damaged or of an unknown architecture, and for several files in one folder.
    """
    file = Path(path)
    if file.is_dir() and not any((file / name).is_file() for name in _MODELS):
        files = sorted(file.glob("*.gguf"))
        if len(files) > 1:
            names = ", ".join(one.name for one in files)
            raise ConfigError(f"the folder holds {len(files)} GGUF files: {names}", where=path, now="Name one of them.")
        file = files[0] if files else file
    if file.suffix != ".gguf" or not file.is_file():
        return path
    folder, sha256 = file.with_suffix(""), sha256_file(file)
    record = folder / _RECORD
    if not folder.exists():
        _convert(file, folder, sha256)
    elif not record.is_file() or record.read_text(encoding="utf-8") != sha256:
        raise ConfigError(
            f'the folder "{folder.name}" beside it was not made from this file', where=str(file),
            now="Name that folder to use it, or move it away to have the file converted.",
        )  # fmt: skip
    return str(folder)


def _convert(file: Path, folder: Path, sha256: str) -> None:
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model, report = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError, IndexError, RuntimeError, struct.error) as error:
        now = "Is it damaged, or of an architecture that transformers does not read from GGUF?"
        raise ConfigError(f"the GGUF file cannot be read: {first_line(error)}", where=str(file), now=now) from error
    if report["missing_keys"]:
        what = f'the file does not fill its architecture: "{min(report["missing_keys"])}" is missing'
        raise ConfigError(what, where=str(file), now="Use another file of this model.")
    del model.config.quantization_config  # its weights are plain now
    model.hf_quantizer = None
    with whole_folder(folder) as place:
        model.save_pretrained(str(place))
        tokenizer.save_pretrained(str(place))
        (place / _RECORD).write_text(sha256, encoding="utf-8")
