"""Free memory is what the machine has left, and no more than a control group allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assent.model.memory import free_memory_bytes

MIB = 1 << 20
CPU = torch.device("cpu")


def machine(root: Path, files: dict[str, str]) -> Path:
    """A root with 800 MiB available and these files."""
    for name, text in {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {800 * 1024} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


LIMITED_V2 = {
    "proc/self/cgroup": "0::/jobs/mine\n",
    "sys/fs/cgroup/jobs/mine/memory.max": "max\n",
    "sys/fs/cgroup/jobs/memory.max": f"{500 * MIB}\n",
    "sys/fs/cgroup/jobs/memory.current": f"{300 * MIB}\n",
    "sys/fs/cgroup/jobs/memory.stat": f"anon {200 * MIB}\ninactive_file {100 * MIB}\n",
}
LIMITED_V1 = {
    "proc/self/cgroup": "5:cpu,memory:/outside/of/the/container\n1:name=systemd:/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{400 * MIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{390 * MIB}\n",
    "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {40 * MIB}\n",
}
FULL = LIMITED_V1 | {"sys/fs/cgroup/memory/memory.usage_in_bytes": f"{500 * MIB}\n"}


@pytest.mark.parametrize(
    ("files", "free"),
    [({}, 800 * MIB), (LIMITED_V2, 300 * MIB), (LIMITED_V1, 50 * MIB), (FULL, 1)],
    ids=["none", "v2", "v1", "full"],
)
def test_free_memory_respects_the_limits_of_control_groups(files: dict[str, str], free: int, tmp_path: Path) -> None:
    assert free_memory_bytes(CPU, machine(tmp_path, files)) == free


def test_this_machine_has_free_memory() -> None:
    assert free_memory_bytes(CPU) > MIB
