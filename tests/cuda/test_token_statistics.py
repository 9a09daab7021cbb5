"""Log-probabilities, entropy and KL on a CUDA device are the CPU's, by value and by gradient."""

from __future__ import annotations

import pytest
import torch
from on_cuda import needs_cuda
from torch import Tensor
from torch.testing import assert_close

from assent.losses import chunked_head
from assent.losses.chunked_head import LogitShape
from assent.losses.token_statistics import ReferenceHead, token_statistics

pytestmark = needs_cuda
N, H, V = 300, 32, 513
# A cap so low that it saturates would make ties of the likeliest tokens, and rounding would choose the top k.
SHAPES = [LogitShape(), LogitShape(temperature=0.7, logit_scale=1.5), LogitShape(softcap=10.0)]


def found_on(device: str, shape: LogitShape, top_k: int | None, precision: str) -> list[Tensor]:
    """logp, entropy, KL, the reference's logp, and the gradients of hidden states, weight and bias, on the CPU."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(device)

    target_N = torch.randint(V, (N,), generator=generator).to(device)
    given = [normal(*size).requires_grad_() for size in ((N, H), (V, H), (V,))]
    reference = ReferenceHead(hidden_NH=normal(N, H), weight_VH=normal(V, H), bias_V=normal(V), top_k=top_k)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
        found = token_statistics(
            given[0], given[1], target_N, bias_V=given[2], reference=reference, entropy=True, shape=shape
        )
    columns = [found.logp_N, found.entropy_N, found.kl_N]
    weight_N = torch.sin(torch.arange(N, device=device))
    total = sum(((place + 1) * column * weight_N).sum() for place, column in enumerate(columns) if column is not None)
    assert isinstance(total, Tensor)
    total.backward()
    everything = [*columns, found.reference_logp_N, *(one.grad for one in given)]
    return [one.detach().cpu() for one in everything if one is not None]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("top_k", [None, 20])
@pytest.mark.parametrize("chunk_tokens", [64, N])
def test_cuda_says_what_the_cpu_says(
    shape: LogitShape, top_k: int | None, chunk_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_head, "CHUNK_ELEMENTS_ACCELERATOR", chunk_tokens * V)
    mine, true = found_on("cuda", shape, top_k, "fp32"), found_on("cpu", shape, top_k, "fp32")
    assert len(mine) == len(true) == 7
    for one, other in zip(mine, true, strict=True):
        assert_close(one, other, atol=2e-5 * max(1.0, float(other.abs().max())), rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_bf16_only_the_products_are_rounded(shape: LogitShape) -> None:
    mine, true = found_on("cuda", shape, None, "bf16"), found_on("cpu", shape, None, "bf16")
    for one, other in zip(mine, true, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.02
