"""Axes of the report's charts: scales, round ticks, numbers as text, and thinning of long curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assent.evals.intervals import Interval

HEIGHT = 168  # pixels of a line chart's plot
MAX_POINTS = 240  # points drawn of one line; longer curves are averaged in bins
AGREEING = 6  # this many differences of one sign are significant: 2 / 2^6 = 0.03 in the sign test
LABEL_GAP = 15  # pixels between two labels at the ends of lines
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values to [0, 1]; `root` spaces them by their square roots."""

    low: float
    high: float
    root: bool = False

    def place(self, value: float) -> float:
        """The position of `value`, kept inside [0, 1]."""
        low, high, value = (math.sqrt(max(0.0, v)) if self.root else v for v in (self.low, self.high, value))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def x(self, value: float) -> float:
        """Per cent from the left."""
        return round(100 * self.place(value), 2)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return round(HEIGHT * (1 - self.place(value)), 1)


def number(value: float) -> str:
    """A number for readers: about three digits, with a true minus sign."""
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}".replace(",", "\u202f")
    elif size >= 100:
        text = f"{value:.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 0.01 or size == 0:
        text = f"{value:.2f}"
    else:
        text = f"{value:.1e}" if size < 0.0001 else f"{value:.4f}"
    return text.replace("-", "\u2212")


def per_cent(value: float, digits: int = 0) -> str:
    """A share as per cent with a no-break space."""
    return f"{100 * value:.{digits}f}\u00a0%".replace("-", "\u2212")


def ticks(low: float, high: float, *, about: int = 4) -> list[float]:
    """Round values (1, 2, 5 times a power of ten, or 25, 250, ...) inside [low, high], about `about` of them."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    factors = (1, 2, 2.5, 5, 10) if power >= 10 else (1, 2, 5, 10)
    step = next(factor * power for factor in factors if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def root_ticks(high: float) -> list[float]:
    """Round values of a square-root axis from 0 to `high`, at least a sixth of it apart."""
    chosen = [0.0]
    power = 10.0 ** math.floor(math.log10(high) - 2)
    while power <= high:
        for factor in (1, 2, 5):
            value = factor * power
            room = math.sqrt(value / high) - math.sqrt(chosen[-1] / high)
            if value <= high and room >= 1 / 6:
                chosen.append(value)
        power *= 10
    return chosen


def tick_text(value: float, values: Sequence[float]) -> str:
    """The shortest text that distinguishes the ticks."""
    step = min((b - a for a, b in itertools.pairwise(values)), default=abs(value) or 1.0)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "\u2212")


def domain(values: Sequence[float], *, zero: bool = False) -> tuple[float, float]:
    """The ends of an axis that holds all `values` with some room; never an empty range."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    room = 0.06 * (high - low)
    return (low if zero and low == 0 else low - room), high + room


def thinned(points: Sequence[Point], limit: int = MAX_POINTS) -> tuple[Point, ...]:
    """At most about `limit` points: neighbours averaged in bins, the last point kept as it is."""
    size = math.ceil(len(points) / limit)
    if size <= 1:
        return tuple(points)
    body = points[:-1]
    bins = [body[i : i + size] for i in range(0, len(body), size)]
    means = [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in bins]
    return (*means, points[-1])


def smoothed(points: Sequence[Point]) -> tuple[Point, ...]:
    """A centred moving average over a twelfth of the curve, over what there is of it near the ends."""
    half = max(1, len(points) // 24)
    windows = ((x, points[max(0, i - half) : i + half + 1]) for i, (x, _) in enumerate(points))
    return tuple((x, sum(y for _, y in window) / len(window)) for x, window in windows)


def smoothed_path(points: Sequence[Point]) -> tuple[Point, ...]:
    """`smoothed` in both directions: the path of a moving point without its jitter."""
    across = smoothed([(i, x) for i, (x, _) in enumerate(points)])
    return tuple((x, y) for (_, x), (_, y) in zip(across, smoothed(points), strict=True))


def spread_apart(positions: Sequence[float], gap: float = LABEL_GAP) -> list[float]:
    """`positions` moved as little as needed so that neighbours are `gap` apart, in the same order."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    moved = [positions[i] for i in order]
    for i in range(1, len(moved)):
        if moved[i] - moved[i - 1] < gap:
            middle = (moved[i] + moved[i - 1]) / 2
            moved[i - 1], moved[i] = middle - gap / 2, middle + gap / 2
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    return [place for _, place in sorted(zip(order, moved, strict=True))]


def no_interval(interval: Interval) -> str:
    """The text for an interval without width."""
    return "no interval from so few" if interval.n < 2 else "no interval: all are equal"


def ends(interval: Interval, *, share: bool = False) -> str:
    """The interval for a sentence, without line breaks inside: "95 % interval 0.61 to 0.66"."""
    if interval.low == interval.high:
        return no_interval(interval)
    low, high = number(interval.low), number(interval.high)
    if share:
        low, high = per_cent(interval.low)[:-2], per_cent(interval.high)
    return f"95 % interval {low} to {high}".replace(" ", "\u00a0")


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def gain_text(gained: Interval, counted: str) -> str:
    """A difference with its interval and n; the width of the interval decides the number of digits."""
    width = gained.high - gained.low
    digits = min(4, max(2, 1 - math.floor(math.log10(width)))) if width > 0 else 2
    mean, low, high = (f"{value:.{digits}f}".replace("-", "\u2212") for value in (gained.mean, gained.low, gained.high))
    sign = "+" if gained.mean > 0 else ""
    between = f"95 % interval {low} to {high}" if width > 0 else no_interval(gained)
    text = f"{sign}{mean} ({between}, n = {gained.n} {counted})"
    return text.replace("95 % interval ", "95\u00a0%\u00a0interval ")


def is_clear(gained: Interval) -> bool:
    """Whether the interval of a difference excludes zero; without an interval, whether enough items agree."""
    return (gained.low > 0 or gained.high < 0) and (gained.low < gained.high or gained.n >= AGREEING)


def is_a_coin(share: Interval) -> bool:
    """Whether the interval of a share of right or won cases holds one half: nothing shows that it is no coin."""
    return share.low <= 0.5 <= share.high


def count_text(intervals: Iterable[Interval], what: str) -> str:
    """ "n = 540 prompts", or the smallest and the largest n where they differ; empty for bare values."""
    counts = sorted({interval.n for interval in intervals if interval.n})
    if not counts:
        return ""
    shown = [f"{count:,}".replace(",", "\u202f") for count in dict.fromkeys((counts[0], counts[-1]))]
    return f"n\u00a0=\u00a0{' to '.join(shown)} {what}"


def span(interval: Interval, *, share: bool = False) -> str:
    """The two ends, with an en dash; without width, that there is no interval, and nothing for a bare value."""
    if interval.low == interval.high:
        return "no interval" if interval.n else ""
    if share:
        return f"{100 * interval.low:.0f}\u2013{100 * interval.high:.0f}\u00a0%".replace("-", "\u2212")
    low, high = number(interval.low), number(interval.high)
    return f"{low} to {high}" if interval.low < 0 else f"{low}\u2013{high}"


def x_text(value: float) -> str:
    """A step as a whole number, anything else as `number` writes it."""
    return f"{value:,.0f}".replace(",", "\u202f") if float(value).is_integer() else number(value)
