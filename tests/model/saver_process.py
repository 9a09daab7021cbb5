"""A process that saves checkpoints in forked children, for tests that kill them.

Each line of input is `FOLDER KEEP LINES`: a child saves steps 1, 2, 3, ... and dies as by kill -9 after so many lines
of the package's (and shutil's) code were executed (0: it saves until somebody kills it). The child's process id is
printed when it starts, and "dead" or "done" when it has ended.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import assent
from assent.model.checkpoints import CheckpointStore, save_state
from assent.model.state import State

LAST_STEP_WHEN_COUNTED = 3
COUNTED = (f"{assent.__path__[0]}{os.sep}", shutil.__file__)


def state_of(step: int) -> State:
    """What a checkpoint of `step` must hold: any mixture of two saves would show."""
    weights = torch.full((300,), float(step))
    return State(tensors={"weights": weights, "tied": weights, "rng": torch.tensor([step])}, values={"step": step})


def save_forever(folder: Path, keep: int, last: int) -> None:
    store = CheckpointStore(folder, keep=keep)
    found = store.newest()
    step = found.step if found else 0
    while not last or step < last:
        step += 1
        state = state_of(step)
        store.save(step, lambda folder, state=state: save_state(folder, state))


def die_after(lines: int) -> None:
    left = lines

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(COUNTED):
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                os._exit(9)  # no cleanup, no flush: what a kill leaves
        return trace

    sys.settrace(trace)


def main() -> None:
    for line in sys.stdin:
        folder, keep, lines = line.split()
        child = os.fork()
        if child == 0:
            if int(lines):
                die_after(int(lines))
            save_forever(Path(folder), int(keep), LAST_STEP_WHEN_COUNTED if int(lines) else 0)
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("done" if status == 0 else "dead", flush=True)


if __name__ == "__main__":
    main()
