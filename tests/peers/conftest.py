"""Published software in an environment of its own, asked tensor by tensor."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from peers.comparing import Published
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """`published(name, tensors, **settings)`: what the function `name` of published.py makes of the tensors."""
    python = Path(os.environ.get("ASSENT_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
    if not python.is_file():
        pytest.skip(f"no peers at {python}: make them with benchmarks/make_peers.sh, or set ASSENT_PEERS_PYTHON")
    folder = tmp_path_factory.mktemp("published")
    given, found = folder / "given.safetensors", folder / "found.safetensors"
    command = [str(python), str(Path(__file__).with_name("published.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:

        def ask(name: str, tensors: Mapping[str, Tensor], **settings: Any) -> dict[str, Tensor]:
            assert process.stdin is not None and process.stdout is not None
            own = {key: one.detach().clone().contiguous() for key, one in tensors.items()}
            save_file(own, given, metadata={"settings": json.dumps(settings)})
            process.stdin.write(f"{name}\t{given}\t{found}\t\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
            assert answer == "done", json.loads(answer or '"the process ended"')
            return load_file(found)

        yield ask
        assert process.stdin is not None
        process.stdin.close()
