"""Unpaired labels: KTO (Ethayarajh et al. 2024, arXiv 2402.01306).

    h_b = log pi(y_b | x_b) - log ref(y_b | x_b)
    z   = max(0, mean over the step of log pi(y' | x) - log ref(y' | x)),   y' an answer to another prompt; no gradient
    L   = (1/M) sum_b  y_b D s(beta (z - h_b)) + (1 - y_b) U s(beta (h_b - z))

y is 1 for a good answer and 0 for a bad one (or a probability), D and U weigh the two, M = `step_count`. A good answer
costs D (1 - s(beta (h - z))), the paper's lambda - v. z estimates KL(pi, ref), which loss and gain are seen from.

Shapes: B sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from assent.losses.preference import agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class KTOShape:
    """What KTO makes of an answer: beta, and the weights of good and of bad ones."""

    beta: float
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KTOLoss:
    """`loss` carries the gradient; `correct` is the detached number of answers on their label's side of z."""

    loss: Tensor
    correct: Tensor


def kto_loss(
    ratio_B: Tensor, label_B: Tensor, reference_point: float, shape: KTOShape, *, step_count: float
) -> KTOLoss:
    """KTO on log-ratios; `reference_point` is z, of the whole optimiser step."""
    above_B = ratio_B - reference_point
    good_B, bad_B = (-shape.beta * above_B).sigmoid(), (shape.beta * above_B).sigmoid()
    loss_B = label_B * shape.desirable_weight * good_B + (1 - label_B) * shape.undesirable_weight * bad_B
    return KTOLoss(loss=loss_B.sum() / step_count, correct=agreement(above_B.detach(), label_B).sum())
