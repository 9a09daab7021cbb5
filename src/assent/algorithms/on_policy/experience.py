"""Experience: what rollouts became in the world of tensors, ready for several passes of updates.

Legend: N tokens that the policy wrote, of all samples in one row; M those of one sample; B samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from assent.text.template import Encoded
from assent.types import Group, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An episode as tokens with who wrote each (any mask), the prompt it belongs to, and named columns (M).

    Always there: `sampler_logp`, the log-probabilities that the sampler drew with. After scoring: `logp` and
    `reference_logp`, `kl` and `entropy`, and the values by their names. After shaping: `advantage` and whatever else
    the method's estimator gives, such as `return`. `states` is what the sampler kept for its learner, `weight` what
    each token counts in a loss.
    """

    tokens: Encoded
    group: int
    columns: Mapping[str, Tensor]
    states: np.ndarray | None = None
    weight: float = 1.0

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        """What a learner reads."""
        return (self.tokens,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """The samples of an iteration; a column of all of them is one row (N)."""

    samples: tuple[Sample, ...]

    @staticmethod
    def of(groups: Sequence[Group]) -> Experience:
        """The samples of a rollout, group by group."""
        samples = [_sample(one, place) for place, group in enumerate(groups) for one in group.trajectories]
        return Experience(samples=tuple(samples))

    @property
    def lengths(self) -> list[int]:
        """Tokens that the policy wrote, per sample."""
        return [sample.tokens.predicted for sample in self.samples]

    @property
    def group_B(self) -> Tensor:
        """The number of the prompt that each sample belongs to."""
        return torch.tensor([sample.group for sample in self.samples])

    @property
    def groups(self) -> list[list[int]]:
        """The places of the samples of each prompt."""
        places: dict[int, list[int]] = {}
        for place, sample in enumerate(self.samples):
            places.setdefault(sample.group, []).append(place)
        return [*places.values()]

    def totals(self, column_N: Tensor) -> Tensor:
        """The sum over each sample (B)."""
        return torch.stack([part.sum() for part in torch.split(column_N, self.lengths)])

    def at_tokens(self, column_B: Tensor) -> Tensor:
        """A number of each sample at each of its tokens (N)."""
        return column_B.repeat_interleave(torch.tensor(self.lengths))

    def at_ends(self, column_B: Tensor) -> Tensor:
        """A number of each sample at its last token, and 0 elsewhere (N)."""
        last_B = torch.tensor(self.lengths).cumsum(0) - 1
        return column_B.new_zeros(sum(self.lengths)).index_add(0, last_B, column_B)

    def __getitem__(self, name: str) -> Tensor:
        """A column of all samples (N)."""
        return torch.cat([sample.columns[name] for sample in self.samples])

    def __contains__(self, name: str) -> bool:
        return name in self.samples[0].columns

    def with_columns(self, columns: Mapping[str, Tensor]) -> Experience:
        """The same samples with more columns (N)."""
        lengths = self.lengths
        parts = {name: torch.split(column, lengths) for name, column in columns.items()}
        samples = [
            replace(sample, columns={**sample.columns, **{name: part[place] for name, part in parts.items()}})
            for place, sample in enumerate(self.samples)
        ]
        return Experience(samples=tuple(samples))


def _sample(trajectory: Trajectory, group: int) -> Sample:
    """An episode as one sequence: the last turn's prompt holds all that came before, as it was sampled and read."""
    ids: tuple[int, ...] = ()
    written: list[bool] = []
    for turn in trajectory.turns:
        assert turn.prompt_ids[: len(ids)] == ids, "a turn begins with the tokens of the turn before"
        written += [False] * (len(turn.prompt_ids) - len(ids)) + [True] * len(turn.completion_ids)
        ids = turn.prompt_ids + turn.completion_ids
    states = [turn.states for turn in trajectory.turns if turn.states is not None]
    logps = [logp for turn in trajectory.turns for logp in turn.logps]
    return Sample(
        tokens=Encoded(ids=ids, assistant_mask=tuple(written)),
        group=group,
        columns={"sampler_logp": torch.tensor(logps)},
        states=np.concatenate(states) if len(states) == len(trajectory.turns) else None,
    )


def column(samples: Sequence[Sample], name: str, like: Tensor) -> Tensor:
    """A column of some samples (M), where a loss computes."""
    return torch.cat([sample.columns[name] for sample in samples]).to(like.device)


def weights(samples: Sequence[Sample], like: Tensor) -> Tensor:
    """What each token of some samples counts (M), where a loss computes."""
    weight_B = like.new_tensor([sample.weight for sample in samples])
    return weight_B.repeat_interleave(torch.tensor([one.tokens.predicted for one in samples], device=like.device))
