"""Random tensors in both shapes: ours flat (N), published ones padded (B, T)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.testing import assert_close

Published = Callable[..., dict[str, Tensor]]
LENGTHS = (5, 2, 7, 1, 4, 4, 3, 6)
MASK_BT = torch.arange(7)[None, :] < torch.tensor(LENGTHS)[:, None]
EVERY_N = torch.ones(sum(LENGTHS), dtype=torch.bool)
TOKENS = float(sum(LENGTHS))


def drawn(seed: int, spread: float = 1.0) -> Tensor:
    """A number for each place, padded ones too (B, T), in float64."""
    return spread * torch.randn(MASK_BT.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flat(tensor_BT: Tensor) -> Tensor:
    """The tokens that count, in one row (N)."""
    return tensor_BT[MASK_BT]


def padded(tensor_N: Tensor) -> Tensor:
    """The reverse of `flat`, with zeros where nothing counts."""
    return torch.zeros(MASK_BT.shape, dtype=tensor_N.dtype).masked_scatter(MASK_BT, tensor_N)


def same(loss: Tensor, logp_N: Tensor, found: dict[str, Tensor], name: str = "logp") -> None:
    """Equal loss and equal gradient."""
    (gradient_N,) = torch.autograd.grad(loss, logp_N)
    assert_close(loss.detach(), found["loss"], rtol=1e-6, atol=1e-9)
    assert_close(padded(gradient_N), found[f"gradient/{name}"] * MASK_BT, rtol=1e-6, atol=1e-9)
    assert gradient_N.abs().sum() > 0
