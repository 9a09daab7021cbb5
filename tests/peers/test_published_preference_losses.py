"""Losses on pairs equal published ones, in value and in gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peers.comparing import Published
from torch import Tensor
from torch.testing import assert_close

from assent.losses.direct import Compared, DirectForm, DirectShape, dpo_loss
from assent.losses.reference_free import odds_ratio_loss, simpo_loss

pytestmark = pytest.mark.peers
PAIRS = 6
CASES: dict[str, tuple[str, dict[str, Any], Callable[[Compared], Tensor]]] = {
    "DPO": (
        "openrlhf_dpo_loss", {"beta": 0.3},
        lambda pairs: dpo_loss(pairs, DirectShape(beta=0.3), step_pairs=PAIRS).loss,
    ),
    "cDPO": (
        "openrlhf_dpo_loss", {"beta": 0.3, "label_smoothing": 0.1},
        lambda pairs: dpo_loss(pairs, DirectShape(beta=0.3, label_smoothing=0.1), step_pairs=PAIRS).loss,
    ),
    "IPO": (
        "openrlhf_dpo_loss", {"beta": 0.3, "ipo": True},
        lambda pairs: dpo_loss(pairs, DirectShape(beta=0.3, form=DirectForm.IPO), step_pairs=PAIRS).loss,
    ),
    "CPO": (
        "trl_cpo_loss", {"beta": 0.3, "loss_type": "sigmoid"},
        lambda pairs: dpo_loss(pairs, DirectShape(beta=0.3), step_pairs=PAIRS).loss,
    ),
    "hinge": (
        "trl_cpo_loss", {"beta": 0.3, "loss_type": "hinge"},
        lambda pairs: dpo_loss(pairs, DirectShape(beta=0.3, form=DirectForm.HINGE), step_pairs=PAIRS).loss,
    ),
    "SimPO": (
        "trl_cpo_loss", {"beta": 2.0, "simpo_gamma": 0.7, "loss_type": "simpo"},
        lambda pairs: simpo_loss(pairs, beta=2.0, gamma=0.7, step_pairs=PAIRS).loss,
    ),
    "ORPO": (
        "trl_odds_ratio_loss", {"beta": 0.3},
        lambda pairs: odds_ratio_loss(pairs, coef=0.3, step_pairs=PAIRS).loss,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_losses_on_pairs(name: str, published: Published) -> None:
    function, settings, ours = CASES[name]
    generator = torch.Generator().manual_seed(3)
    chosen_P, rejected_P = (
        (-3 * torch.rand(PAIRS, generator=generator) - 0.05).requires_grad_() for _ in ("chosen", "rejected")
    )
    loss = ours(Compared(chosen_P=chosen_P, rejected_P=rejected_P, probability_P=torch.ones(PAIRS)))
    found = published(function, {"chosen": chosen_P, "rejected": rejected_P}, **settings)
    assert_close(loss.detach(), found["loss"], rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(loss, (chosen_P, rejected_P))
    for gradient_P, side in zip(gradients, ("chosen", "rejected"), strict=True):
        assert_close(gradient_P, found[f"gradient/{side}"], rtol=1e-5, atol=1e-6)
