"""Best-of-n: of n completions of a prompt, the one with the highest reward; nothing is trained (Stiennon et al. 2020).

y = argmax_i r(x, y_i),   y_1 ... y_n ~ pi(. | x)              KL(best-of-n || pi) <= log n - (n - 1) / n

The bound is reached where no two completions are equal (Beirami et al. 2024, arXiv 2401.01879).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assent.ports.sampling import Progress, Sampler, SamplingParams, Scorer, check_finite, silent
from assent.types import Conversation, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Completions of one prompt with their rewards."""

    turns: tuple[Turn, ...]
    rewards: tuple[float, ...]

    @property
    def best(self) -> int:
        """The place of the best one; of equal ones, of the first."""
        return self.rewards.index(max(self.rewards))


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN:
    """Writes the best of `n` completions of a sampler, by a scorer."""

    sampler: Sampler
    scorer: Scorer
    n: int

    def candidates(
        self, prompts: Sequence[Conversation], *, sampling: SamplingParams, seed: int, progress: Progress = silent
    ) -> list[Candidates]:
        """All completions; a prompt that stands twice has others each time."""
        turns = self.sampler.sample(prompts, sampling=sampling, seed=seed, progress=progress, n=self.n)
        asked = [prompt for prompt in prompts for _ in range(self.n)]
        completions = [turn.completion for turn in turns]
        rewards = check_finite(self.scorer.score(asked, completions), completions)
        return [
            Candidates(turns=tuple(turns[at : at + self.n]), rewards=tuple(rewards[at : at + self.n]))
            for at in range(0, len(turns), self.n)
        ]

    def sample(
        self, prompts: Sequence[Conversation], *, sampling: SamplingParams, seed: int, progress: Progress = silent
    ) -> list[Turn]:
        """The best turns, in the order of the prompts; `progress` counts prompts."""
        done = 0

        def counted(more: int) -> None:
            nonlocal done
            progress((done + more) // self.n - done // self.n)
            done += more

        found = self.candidates(prompts, sampling=sampling, seed=seed, progress=counted)
        return [one.turns[one.best] for one in found]
