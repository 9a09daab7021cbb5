"""What the queue promises, as the plainest program that keeps it: dictionaries and loops over everything."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Model:
    """`standing[item, person]` is an event; `live[item, person]` is (place, presentation, expiry)."""

    items: int
    overlap: int
    lease_s: float
    standing: dict[tuple[int, int], int] = field(default_factory=dict)
    live: dict[tuple[int, int], tuple[int, str, float]] = field(default_factory=dict)

    def expire(self, now: float) -> None:
        self.live = {hold: lease for hold, lease in self.live.items() if lease[2] > now}

    def room(self, item: int) -> bool:
        return sum(held == item for held, _ in self.standing.keys() | self.live.keys()) < self.overlap

    def own(self, person: int) -> list[tuple[int, str, int]]:
        return sorted((place, shown, item) for (item, who), (place, shown, _) in self.live.items() if who == person)

    def expected(self, person: int, count: int) -> list[int]:
        own = [item for _, _, item in self.own(person)]
        taken = {item for item, who in self.standing if who == person} | set(own)
        new = [item for item in range(1, self.items + 1) if item not in taken and self.room(item)]
        return own[:count] + new[: max(0, count - len(own))]

    def lease(self, person: int, shown: list[tuple[int, str]], now: float) -> None:
        for item, presentation in shown:
            place, _, expiry = self.live.get((item, person), (0, "", 0.0))
            if not expiry:
                place = max((held for held, _, _ in self.own(person)), default=0) + 1
            until = now + self.lease_s if expiry - now < self.lease_s / 2 else expiry
            self.live[item, person] = (place, presentation, until)

    def submit(self, item: int, person: int, seq: int) -> None:
        self.live.pop((item, person), None)
        self.standing[item, person] = seq

    def undo(self, item: int, person: int, presentation: str, now: float) -> None:
        del self.standing[item, person]
        place = min((held for held, _, _ in self.own(person)), default=1) - 1
        self.live[item, person] = (place, presentation, now + self.lease_s)
