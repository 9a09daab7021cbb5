"""What a run will take, said before its first step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from assent.algorithms.loop import Task
from assent.evals.headline import duration
from assent.model.allocator import give_back_freed_memory
from assent.model.memory import held_memory_mib, peak_memory_mib


def expected(task: Task, rows: Iterable[Mapping[str, Any]], *, done: int) -> str | None:
    """Time and memory of what is left of a task: by the steps that were `done`, or else by its own estimate."""
    took = [row["seconds"] + row.get("seconds/evaluate", 0.0) for row in rows if 0 < row["step"] <= done]
    if took:
        return f"about {duration(sum(took) / len(took) * (task.total - done))} left, by the {task.unit} that were done"
    give_back_freed_memory()
    held = held_memory_mib()
    estimate = task.estimate()
    if estimate is None:
        return None
    most = max(held + estimate.memory_bytes / 2**20, peak_memory_mib())
    return f"this will take about {duration(estimate.seconds)} and {most / 1024:.1f} GiB of memory"
