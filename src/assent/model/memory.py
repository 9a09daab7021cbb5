"""How much memory a run takes, and how much there is."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

_ROOT = Path("/")
_CGROUPS = (  # mount below sys/fs/cgroup, the line's controller, limit, use, and what of the use can be given back
    ("", "", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def peak_memory_mib() -> float:
    """The most memory, in MiB, that this process has held: of the GPU if it uses one, or else of the machine."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def free_memory_bytes(device: torch.device, root: Path = _ROOT) -> int:
    """What a run may still take on this device; on a CPU within the limits of this process's control groups too."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    available = int(found[1]) * 1024 if found else sys.maxsize  # no Linux: nothing says
    return max(0, min([available, *_left_in_control_groups(root)]))


def _left_in_control_groups(root: Path) -> Iterator[int]:
    """What is left under the limit of every control group above this process, of both versions of Linux's."""
    lines = re.findall(r"^\d+:([\w,=]*):/(.*)$", _text(root / "proc/self/cgroup"), re.MULTILINE)
    for mount, controller, limit, use, reclaimable in _CGROUPS:
        top = root / "sys/fs/cgroup" / mount
        for path in {path for names, path in lines if controller in names.split(",")}:
            place = top / path
            for folder in (place, *place.parents):
                if (most := _text(folder / limit).strip()).isdecimal():
                    given_back = re.search(rf"^{reclaimable} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
                    used = int(_text(folder / use)) - (int(given_back[1]) if given_back else 0)
                    yield int(most) - used
                if folder == top:
                    break


def _text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""
