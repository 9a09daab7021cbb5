"""Servers of the command line as real processes: started, waited for, and stopped as a person would stop them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from assent.recipes.annotation.studio_client import StudioClient

PASSWORD = "a long enough password"


@contextmanager
def served(command: Sequence[str]) -> Iterator[str]:
    """Run `assent COMMAND` until the end of the block; the address of a studio, with an admin called admin.

    Of `serve`, empty text. The process must end well when it is asked to.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "assent.cli", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        yield _ready(process, studio=command[0] == "studio")
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output


def _ready(process: subprocess.Popen[str], *, studio: bool) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if not studio and "serving" in line:
            return ""
        if found := re.search(r"(http://\S+)/join/(\S+)", line):
            with StudioClient(found[1]) as client:
                client.join(found[2], "admin", PASSWORD)
            return found[1]
    raise AssertionError("".join(said))
