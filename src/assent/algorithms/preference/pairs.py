"""Methods that learn from pairs of completions: what of them is compared, at what cost, and with which reward."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from assent.algorithms.epochs import Objective, OfflineMethod
from assent.algorithms.fitting import Sized, leave_out_long
from assent.algorithms.preference.log_ratios import Judged, completion_logps, outputs_now, with_reference
from assent.evals.reward_quality import ScoredPairs
from assent.losses.direct import Compared, DirectLoss, pair_sft_loss
from assent.ports.learning import Learner, LossResult, Outputs
from assent.text.template import ChatTemplate, Encoded
from assent.types import Comparison


class ComparedPair(Judged, Protocol):
    """Two completions of a prompt, the chosen one first, and P(chosen is better)."""

    @property
    def probability(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPair:
    """Tokens of both completions after their prompt, P(chosen is better), and the judgement the pair is part of.

    `reference_logp_M`: the reference's log-probabilities of the completions' tokens (chosen, then rejected).
    """

    chosen: Encoded
    rejected: Encoded
    probability: float
    group: Hashable
    reference_logp_M: Tensor | None = None

    @property
    def sequences(self) -> tuple[Encoded, Encoded]:
        """Both sides: they stay in one micro-batch."""
        return self.chosen, self.rejected


def encode_pairs(comparisons: Sequence[Comparison], template: ChatTemplate, *, max_length: int) -> Sized[EncodedPair]:
    """Encode comparisons; a pair with an over-long side is left out."""
    flat = template.encode_completions([(c.prompt, side) for c in comparisons for side in (c.chosen, c.rejected)])
    pairs = [
        EncodedPair(
            chosen=flat[2 * index],
            rejected=flat[2 * index + 1],
            probability=comparison.probability,
            group=(comparison.group, comparison.prompt) if comparison.group else index,
        )
        for index, comparison in enumerate(comparisons)
    ]
    longest = [max(len(pair.chosen), len(pair.rejected)) for pair in pairs]
    return leave_out_long(pairs, longest, max_length=max_length, what="pairs")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMethod:
    """What makes a method that learns from pairs.

    `value(outputs, pairs, settings)` is a number of each completion (B); `loss(compared, settings, step_pairs)` is what
    it costs that these numbers are as they are; `reward(value_B, settings)` is the reward implicit in them. `sft_coef`
    of the settings weighs SFT on the better answers beside it.
    """

    value: Callable[[Outputs, Sequence[ComparedPair], Any], Tensor]
    loss: Callable[[Compared, Any, float], DirectLoss]
    reward: Callable[[Tensor, Any], Tensor]
    sft_coef: Callable[[Any], float] = lambda settings: 0.0

    def offline(self, *, reference: bool) -> OfflineMethod:
        """The method, with or without a reference."""
        return OfflineMethod(
            encode=encode_pairs,
            objective=self._objective,
            reference=with_reference if reference else None,
            rewards=self._rewards,
        )

    def _objective(self, _: Sequence[EncodedPair], settings: Any) -> Objective:
        return Objective(loss=partial(self.step_loss, settings=settings), count=lambda pairs: float(len(pairs)))

    def step_loss(
        self, outputs: Outputs, pairs: Sequence[ComparedPair], step_pairs: float, *, settings: Any
    ) -> LossResult:
        """The loss of a micro-batch of pairs.

        The row has beside the loss how likely the policy finds a token of either side.

        A margin also grows while both sides become unlikely, and that wrecks a model.
        """
        found = self.loss(_compared(self.value(outputs, pairs, settings), pairs), settings, step_pairs)
        logp = _compared(completion_logps(outputs, pairs, average=True), pairs)
        loss, sft_coef = found.loss, self.sft_coef(settings)
        if sft_coef:
            loss = loss + sft_coef * pair_sft_loss(logp, step_pairs=step_pairs)
        sums = {
            "loss": loss.item() * step_pairs,
            "accuracy": found.correct.item(),
            "margin": found.margin.item(),
            "chosen_reward": found.chosen_reward.item(),
            "rejected_reward": found.rejected_reward.item(),
            "chosen_logp": logp.chosen_P.sum().item(),
            "rejected_logp": logp.rejected_P.sum().item(),
        }
        return LossResult(loss=loss, sums=sums, count=len(pairs))

    def _rewards(self, pairs: Sequence[EncodedPair], learner: Learner, settings: Any) -> ScoredPairs:
        reward_B = self.reward(self.value(outputs_now(pairs, learner), pairs, settings), settings)
        return ScoredPairs(
            chosen=reward_B[0::2].tolist(),
            rejected=reward_B[1::2].tolist(),
            probability=[pair.probability for pair in pairs],
            chosen_length=[pair.chosen.predicted for pair in pairs],
            rejected_length=[pair.rejected.predicted for pair in pairs],
            groups=[pair.group for pair in pairs],
        )


def _compared(value_B: Tensor, pairs: Sequence[ComparedPair]) -> Compared:
    probability_P = value_B.new_tensor([pair.probability for pair in pairs])
    return Compared(chosen_P=value_B[0::2], rejected_P=value_B[1::2], probability_P=probability_P)
