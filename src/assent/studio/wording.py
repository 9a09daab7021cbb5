"""Numbers, spans of time and names as people read them on the operator's pages."""

from __future__ import annotations

from datetime import UTC, datetime

from assent.feedback.records import EventKind, TaskMode

NARROW_SPACE, MINUS, DASH, NOTHING = "\u202f", "\u2212", "\u2013", "\u2013"
MODE_NAMES = {
    TaskMode.RANKING: "Ranking",
    TaskMode.PAIRWISE: "Pairwise",
    TaskMode.RATING: "Rating",
    TaskMode.GOOD_BAD: "Good or bad",
    TaskMode.DEMONSTRATION: "Demonstration",
    TaskMode.CHAT: "Chat and compare",
    TaskMode.RED_TEAM: "Red team",
}
MODE_TASKS = {
    TaskMode.RANKING: "Put 2 to 9 completions in order, ties allowed.",
    TaskMode.PAIRWISE: "Say which of two completions is better, and by how much.",
    TaskMode.RATING: "Give each completion 1 to 7, criterion by criterion.",
    TaskMode.GOOD_BAD: "Call each completion good or bad, and say why.",
    TaskMode.DEMONSTRATION: "Write the answer a model should learn from.",
    TaskMode.CHAT: "Talk with two hidden models and choose at every turn.",
    TaskMode.RED_TEAM: "Try to draw harm out of a model; rate how far it got.",
}
KIND_NAMES = {kind: kind.value.replace("_", " ") for kind in EventKind}


def count(value: float) -> str:
    """A whole number with narrow spaces between thousands."""
    return f"{value:,.0f}".replace(",", NARROW_SPACE).replace("-", MINUS)


def counted(value: int, one: str, many: str = "") -> str:
    """1 item, 2 items."""
    return f"{count(value)}\u00a0{one if value == 1 else many or one + 's'}"


def figure(value: float | None, digits: int = 2) -> str:
    """A number with so many digits after the point, or a dash."""
    if value is None:
        return NOTHING
    return f"{value:,.{digits}f}".replace(",", NARROW_SPACE).replace("-", MINUS)


def share(value: float | None, digits: int = 0) -> str:
    """A share in [0, 1] as per cent, or a dash."""
    return NOTHING if value is None else f"{figure(100 * value, digits)}\u00a0%"


def span(low: float | None, high: float | None, *, digits: int = 2, per_cent: bool = False) -> str:
    """The two ends of an interval; empty where there is none."""
    if low is None or high is None:
        return ""
    factor = 100 if per_cent else 1
    ends = f"{figure(factor * low, digits)}{' to ' if low < 0 else DASH}{figure(factor * high, digits)}"
    return f"{ends}\u00a0%" if per_cent else ends


def seconds(value: float | None) -> str:
    """A short span of time: 8.4 s, 2 min 05 s, 3 h 10 min, 5 days."""
    if value is None:
        return NOTHING
    if value < 59.5:
        return f"{value:.1f}\u00a0s" if value < 10 else f"{value:.0f}\u00a0s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest:02}\u00a0s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}\u00a0h {minutes:02}\u00a0min"
    return f"{count(hours / 24)}\u00a0days"


def ago(then: float | None, now: float) -> str:
    """How long ago a time was; "never" for None."""
    if then is None:
        return "never"
    past = now - then
    for unit_s, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if past >= unit_s:
            return f"{counted(int(past // unit_s), name)} ago"
    return "just now"


def date(then: float) -> str:
    """The day and minute in UTC."""
    return datetime.fromtimestamp(then, UTC).strftime("%Y-%m-%d %H:%M")


def excerpt(text: str, longest: int = 160) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text[: 4 * longest].split())
    return line if len(line) <= longest else f"{line[: longest - 1].rstrip()}…"
