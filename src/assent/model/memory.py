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


def held_memory_mib() -> float:
    """The memory, in MiB, that this process holds now, of the same device."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.memory_allocated() / 2**20
    found = re.search(r"^VmRSS:\s*(\d+) kB", _text(_ROOT / "proc/self/status"), re.MULTILINE)
    return int(found[1]) / 1024 if found else peak_memory_mib()


def free_memory_bytes(device: torch.device, root: Path = _ROOT) -> int:
    """What a run may still take on this device; on a CPU within the limits of this process's control groups too."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    available = int(found[1]) * 1024 if found else sys.maxsize  # no Linux: nothing says
    return min([available, *_left_in_control_groups(root)])


def _left_in_control_groups(root: Path) -> Iterator[int]:
    """What is left under the limit of every control group above this process, of both versions of Linux's."""
    lines = re.findall(r"^\d+:([\w,=]*):/(.*)$", _text(root / "proc/self/cgroup"), re.MULTILINE)
    for mount, controller, *names in _CGROUPS:
        top = root / "sys/fs/cgroup" / mount
        for path in {path for controllers, path in lines if controller in controllers.split(",")}:
            above = [folder for folder in (top / path).parents if folder.is_relative_to(top)]
            yield from filter(None, (_left(folder, *names) for folder in (top / path, *above)))


def _left(group: Path, limit: str, use: str, reclaimable: str) -> int | None:
    """What is left under the limit of one group, 1 byte at least; None where it has none."""
    if not (most := _text(group / limit).strip()).isdecimal():
        return None
    given_back = re.search(rf"^{reclaimable} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
    return max(1, int(most) - int(_text(group / use)) + (int(given_back[1]) if given_back else 0))


def _text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""
