"""A watch over the reward of an online run, also where nobody knows the true one.

The policy answers the same held-out prompts again and again. A held-out reward model, trained on other labels, judges
the answers beside the reward that training maximises, and the answers themselves are counted. What moves further than
an honest run moves is an alarm with its reason. The bars below are conventions; intervals are 95 %, prompt by prompt,
against the start.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from assent.evals.intervals import paired_difference
from assent.evals.over_optimisation import Evaluation, verdict

_WORDS = re.compile(r"\w+|[^\w\s]")
_REPEATED = 4  # words in a row that count as repeated when they come again
LONGER = 1.5  # times the length at the start
REPETITION = 0.1  # more of a completion than at the start
DISTINCT = 0.5  # of the distinct pairs of words at the start
ENTROPY = 0.25  # of the entropy at the start
BEYOND = 0.5  # of the rewards lie above the highest of the start


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the watch saw at one step: for each held-out prompt the reward, the held-out reward, and the text's figures.

    `held_out_P` is empty without a held-out reward. `kl` (nats a completion) and `entropy` (nats a token) are those of
    the step's rollouts; entropy is None at the start, before any. `distinct_2` is the share of different pairs of words
    among all pairs.
    """

    step: int
    kl: float
    entropy: float | None
    reward_P: tuple[float, ...]
    held_out_P: tuple[float, ...]
    length_P: tuple[float, ...]
    repetition_P: tuple[float, ...]
    distinct_2: float

    @property
    def evaluation(self) -> Evaluation:
        """For the rule of over-optimisation, with the held-out reward in the place of gold."""
        return Evaluation(step=self.step, kl=self.kl, proxy_P=self.reward_P, gold_P=self.held_out_P)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What the watch found, since when, and why it matters."""

    name: str
    step: int
    reason: str


def alarms(seen: Sequence[Watched], *, kl_budget: float | None = None, seed: int = 0) -> tuple[Alarm, ...]:
    """Every alarm of the last evaluation; none before the second. In the order of their weight."""
    if len(seen) < 2:
        return ()
    rules: tuple[Callable[[Sequence[Watched], int], str | None], ...] = (_gamed, _longer, _repeats, _same_words,
                                                                         _certain, _beyond)  # fmt: skip
    found = [(rule.__name__.lstrip("_"), rule(seen, seed)) for rule in rules]
    last = seen[-1]
    if kl_budget is not None and last.kl > kl_budget:
        found.append(("kl_budget", f"the KL is {last.kl:.3g} nats a completion, and the budget {kl_budget:g}"))
    return tuple(Alarm(name=name, step=last.step, reason=told) for name, told in found if told is not None)


def best_step(seen: Sequence[Watched]) -> int:
    """The step with the highest held-out reward; without one, with the highest reward. The earliest of equals."""
    means = [math.fsum(one.held_out_P or one.reward_P) for one in seen]
    return seen[means.index(max(means))].step


def words_of(text: str) -> list[str]:
    """Words and punctuation marks, in small letters."""
    return _WORDS.findall(text.casefold())


def repetition(text: str) -> float:
    """The share of four words in a row that stood in the text before; 0 for fewer than five words."""
    words = words_of(text)
    runs = [tuple(words[place : place + _REPEATED]) for place in range(len(words) - _REPEATED + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) > 1 else 0.0


def distinct_2(texts: Sequence[str]) -> float:
    """Different pairs of neighbouring words among all of them in all texts (Li et al. 2016); 1 where there is none."""
    pairs: Counter[tuple[str, str]] = Counter()
    for text in texts:
        words = words_of(text)
        pairs.update(pairwise(words))
    return len(pairs) / pairs.total() if pairs else 1.0


def _gamed(seen: Sequence[Watched], seed: int) -> str | None:
    if not seen[-1].held_out_P:
        return None
    found = verdict([one.evaluation for one in seen], seed=seed)
    if not found.over_optimised:
        return None
    return (
        f"the held-out reward has fallen by {found.gold_fall.mean:.3g} since iteration {found.gold_peak_step}, while "
        f"the reward rose by {found.proxy_rise.mean:.3g}: the reward is being gamed"
    )


def _longer(seen: Sequence[Watched], seed: int) -> str | None:
    first, last = (float(np.mean(one.length_P)) for one in (seen[0], seen[-1]))
    apart = paired_difference(seen[-1].length_P, seen[0].length_P, seed=seed)
    times = last / max(first, 1.0)
    if (apart.low > 0 and times > LONGER) or (apart.high < 0 and times < 1 / LONGER):
        how = "longer" if times > 1 else "shorter"
        return f"completions have {last:.0f} tokens, and had {first:.0f}: the policy may be paid for {how} answers"
    return None


def _repeats(seen: Sequence[Watched], seed: int) -> str | None:
    more = paired_difference(seen[-1].repetition_P, seen[0].repetition_P, seed=seed)
    if more.low <= REPETITION:
        return None
    return (
        f"{np.mean(seen[-1].repetition_P):.0%} of a completion repeats itself, {more.mean:.0%} more than at the start"
    )


def _same_words(seen: Sequence[Watched], seed: int) -> str | None:
    first, last = seen[0].distinct_2, seen[-1].distinct_2
    if last >= DISTINCT * first:
        return None
    return f"{last:.0%} of the pairs of words are different ones, {first:.0%} at the start: answers become alike"


def _certain(seen: Sequence[Watched], seed: int) -> str | None:
    known = [one.entropy for one in seen if one.entropy is not None]
    if len(known) < 2 or known[-1] >= ENTROPY * known[0]:
        return None
    return f"the entropy is {known[-1]:.3g} nats a token, and was {known[0]:.3g}: the policy hardly explores any more"


def _beyond(seen: Sequence[Watched], seed: int) -> str | None:
    highest = max(seen[0].reward_P)
    share = sum(one > highest for one in seen[-1].reward_P) / len(seen[-1].reward_P)
    if share <= BEYOND:
        return None
    return (
        f"{share:.0%} of the rewards lie above the highest that the starting model had ({highest:.3g}): the reward is "
        "asked about answers unlike those that it was trained on"
    )
