"""Export a source of N items with two answers each, made as asked for; print rows and peak memory in MiB."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from assent.feedback.exchange.export import export
from assent.feedback.exchange.export_rows import ExportOptions
from assent.feedback.records import AnsweredItem, Candidate, Event, EventKind, Item, NewItem, Project, ProjectSettings
from assent.types import Conversation


class Endless:
    """Judgement out of nothing."""

    def __init__(self, items: int) -> None:
        self.count = items

    def project(self, project_id: int) -> Project:
        return Project(id=1, name="p", settings=ProjectSettings(), guideline_version=0, created_at=0.0)

    def answered_items(self, project_id: int, *, after_item: int = 0, limit: int = 1000) -> list[AnsweredItem]:
        return [self.one(number) for number in range(after_item + 1, min(after_item + limit, self.count) + 1)]

    def one(self, number: int) -> AnsweredItem:
        texts = [f"{kind} {number} " + "word " * 20 for kind in ("answer", "other")]
        candidates = tuple(Candidate(text=text) for text in texts)
        new = NewItem(prompt=Conversation.of_user(f"question {number}"), candidates=candidates)
        return AnsweredItem(
            item=Item(id=number, project_id=1, new=new, created_at=0.0),
            events=tuple(self.said(number, person) for person in (0, 1)),
        )

    def said(self, number: int, person: int) -> Event:
        return Event(
            seq=2 * number + person, key=f"{number}-{person}", kind=EventKind.PAIRWISE, project_id=1, item_id=number,
            person_id=person, payload={"strength": (number + person) % 3 + 1}, order=(0, 1), repeat=False,
            time_taken_ms=1, guideline_version=1, created_at=0.0,
        )  # fmt: skip


count = export(Endless(int(sys.argv[2])), 1, Path(sys.argv[1]), ExportOptions())  # type: ignore[arg-type]
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # ru_maxrss would count the parent's too
print(count, int(peak[1]) // 1024 if peak else 0)
