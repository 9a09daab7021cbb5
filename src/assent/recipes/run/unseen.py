"""Which held-out examples a model was trained on: by the prompts that its run remembers, as hashes.

A training run writes the hashes of its prompts into `training-prompts.npy`, so that a later evaluation can compare its
own file with them, wherever the training data lie by then. Two examples are the same if their prompts are, whatever
was answered; spaces do not count. An example without a prompt (a plain text) counts by its text.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assent.durable import write_atomic
from assent.errors import RunError
from assent.evals.evidence import HeldOut
from assent.types import Comparison, Conversation, Demonstration, Ranking, Rating, Role

Hashes = NDArray[np.uint64]
FILE = "training-prompts.npy"


def prompt_hashes(examples: Sequence[Any]) -> Hashes:
    """64 bits of the sha256 of each example's prompt."""
    digests = [hashlib.sha256(_key(one).encode("utf-8", "surrogatepass")).digest()[:8] for one in examples]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def held_out_of(held: Sequence[Any], trained: Hashes | None) -> HeldOut:
    """How many of the different held-out prompts are among the trained ones."""
    hashes = np.unique(prompt_hashes(held))
    return HeldOut(count=len(hashes), seen=None if trained is None else int(np.isin(hashes, trained).sum()))


def remember_prompts(run: Path, examples: Sequence[Any]) -> Hashes:
    """Write the hashes of what a run trains on into its folder."""
    hashes = np.unique(prompt_hashes(examples))
    file = io.BytesIO()
    np.save(file, hashes, allow_pickle=False)
    write_atomic(run / FILE, file.getvalue())
    return hashes


def trained_prompts(model: str) -> Hashes | None:
    """The hashes of what a model was trained on, from the run it belongs to; None where no run remembers."""
    file = Path(model).resolve().parent / FILE
    if not file.is_file():
        return None
    try:
        found: Hashes = np.load(file, allow_pickle=False)
    except (ValueError, EOFError):
        now = "Remove it; then nothing is known of what the model was trained on."
        raise RunError("the file is damaged", where=str(file), now=now) from None
    return found


def warning(held: HeldOut) -> str:
    """What to say on the terminal; empty where nothing is wrong."""
    if not held.seen:
        return ""
    return (
        f"warning: {held.seen} of {held.count} held-out prompts are among those that the model is trained on; "
        "the held-out figures flatter it"
    )


def _key(example: Any) -> str:
    """The prompt as text; what was answered only where nothing was asked."""
    if isinstance(example, str):
        return _squeezed(example)
    prompt = _prompt(example)
    asked = "\x1e".join(f"{message.role}\x1f{_squeezed(message.content)}" for message in prompt.messages)
    return asked if prompt.last_user_text.strip() else f"{asked}\x1d{_answers(example)}"


def _prompt(example: Any) -> Conversation:
    if isinstance(example, Demonstration):
        example = example.conversation
    if isinstance(example, Conversation):
        messages = example.messages
        ends = bool(messages) and messages[-1].role is Role.ASSISTANT
        return Conversation(messages=messages[:-1]) if ends else example
    prompt: Conversation = example.prompt
    return prompt


def _answers(example: Any) -> str:
    if isinstance(example, Demonstration):
        return _squeezed(example.conversation.messages[-1].content)
    if isinstance(example, Rating):
        return _squeezed(example.completion.text)
    if isinstance(example, Comparison):
        return "\x1e".join(sorted(_squeezed(side.text) for side in (example.chosen, example.rejected)))
    if isinstance(example, Ranking):
        return "\x1e".join(sorted(_squeezed(one.text) for one in example.completions))
    return ""


def _squeezed(text: str) -> str:
    return " ".join(text.split())
