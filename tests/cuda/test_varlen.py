"""The variable-length kernels give what a float64 softmax, sequence by sequence, gives; forward and gradient."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from on_cuda import CUDA, needs_cuda
from torch import Tensor
from torch.testing import assert_close

from assent.model.varlen import Bounds, attend, takes

pytestmark = needs_cuda
LENGTHS = (1, 5, 130, 64, 64, 1, 300, 17)
CLOSE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of the largest number


def slow_attention(query_NHD: Tensor, key_NGD: Tensor, value_NGD: Tensor, causal: bool, window: int | None) -> Tensor:
    """In float64, one softmax for each sequence."""
    repeats = query_NHD.shape[1] // key_NGD.shape[1]
    query_HND = query_NHD.double().transpose(0, 1)
    key_HND, value_HND = (one.double().repeat_interleave(repeats, 1).transpose(0, 1) for one in (key_NGD, value_NGD))
    starts = Bounds.of(LENGTHS, torch.device("cpu")).starts.tolist()
    pieces = []
    for start, stop in pairwise(starts):
        place = torch.arange(stop - start, device=query_NHD.device)
        back = place[:, None] - place
        seen = back >= 0 if causal else torch.ones_like(back, dtype=torch.bool)
        if window is not None:
            seen = seen & (back.abs() < window)
        rows = (one[:, start:stop] for one in (query_HND, key_HND, value_HND))
        query, key, value = rows
        score = (query @ key.transpose(1, 2) * query.shape[-1] ** -0.5).masked_fill(~seen, float("-inf"))
        pieces.append(score.softmax(-1) @ value)
    return torch.cat(pieces, 1).transpose(0, 1)


def problem(dtype: torch.dtype, heads: int, groups: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(width)
    sizes = [(sum(LENGTHS), count, width) for count in (heads, groups, groups, heads)]
    return [torch.randn(size, generator=generator).to(CUDA, dtype) for size in sizes]


def found_and_gradients(tensors: list[Tensor], causal: bool, window: int | None) -> list[Tensor]:
    *given, weight_NHD = tensors
    given = [one.clone().requires_grad_() for one in given]
    bounds = Bounds.of(LENGTHS, CUDA)
    found_NHD = attend(*given, bounds, causal=causal, window=window, scale=given[0].shape[-1] ** -0.5)
    found_NHD.backward(weight_NHD)
    return [found_NHD.detach(), *(one.grad for one in given if one.grad is not None)]


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("window", [None, 7, 100])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("heads", "groups", "width"), [(4, 4, 8), (6, 2, 64), (4, 1, 128), (2, 2, 256)])
def test_the_kernel_is_a_softmax_of_each_sequence(
    dtype: torch.dtype, window: int | None, causal: bool, heads: int, groups: int, width: int
) -> None:
    tensors = problem(dtype, heads, groups, width)
    taken = takes(tensors[0], tensors[2], longest=max(LENGTHS), window=window)
    assert taken == (dtype != torch.float32 or window is None)
    if not taken:
        return
    found = found_and_gradients(tensors, causal, window)
    true = [one.clone().requires_grad_() for one in tensors[:3]]
    true_NHD = slow_attention(*true, causal, window)
    true_NHD.backward(tensors[3].double())
    for mine, theirs in zip(found, [true_NHD.detach(), *(one.grad for one in true)], strict=True):
        assert theirs is not None
        assert_close(mine.double(), theirs.double(), atol=CLOSE[dtype] * float(theirs.abs().max()), rtol=0.0)


@pytest.mark.parametrize("dtype", CLOSE)
def test_the_same_numbers_give_the_same_bits(dtype: torch.dtype) -> None:
    tensors = problem(dtype, 4, 2, 64)
    first = found_and_gradients(tensors, True, None)
    for _ in range(5):
        again = found_and_gradients(tensors, True, None)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_the_kernels_do_not_take_is_left_to_others() -> None:
    def asked(width: int, dtype: torch.dtype, device: torch.device = CUDA, longest: int = 9) -> bool:
        tensor = torch.zeros((9, 2, width), dtype=dtype, device=device)
        return takes(tensor, tensor, longest=longest, window=None)

    assert asked(16, torch.float32) and asked(16, torch.bfloat16)
    assert not asked(12, torch.bfloat16) and not asked(264, torch.bfloat16)
    assert not asked(16, torch.float64) and not asked(16, torch.float32, torch.device("cpu"))
    assert not asked(16, torch.bfloat16, longest=1)
