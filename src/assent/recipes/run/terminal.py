"""From parsed flags to a command's function: settings parsed, paths made, warnings of libraries hushed."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import warnings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import transformers

from assent.recipes.run.progress import Display
from assent.recipes.run.python_calls import enough_memory
from assent.recipes.run.request import Request


def run(module_name: str, function_name: str, parsed: argparse.Namespace) -> None:
    """Call `function_name` of `module_name` with the flags and a display."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(transformers|peft|torch)\b.*")
    logging.getLogger("assent").addHandler(logging.StreamHandler())
    function = getattr(importlib.import_module(module_name), function_name)
    with enough_memory():
        function(Request.of(vars(parsed)), Display())
