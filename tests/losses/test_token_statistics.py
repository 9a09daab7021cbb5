"""Chunked statistics against fully materialised ones, by value, by gradient and by memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from assent.losses import chunked_head
from assent.losses import token_statistics as token_statistics_module
from assent.losses.chunked_head import LogitShape
from assent.losses.token_statistics import ReferenceHead, TokenStatistics, token_statistics

N, H, V = 11, 4, 6  # several chunks of unequal length with the small chunks below
SHAPES = [
    LogitShape(),
    LogitShape(temperature=0.7, logit_scale=1.5),
    LogitShape(softcap=2.0),
    LogitShape(temperature=1.3, softcap=1.5, logit_scale=0.5),
]


def exact_kl(logp_NV: Tensor, reference_logp_NV: Tensor) -> Tensor:
    return (logp_NV.exp() * (logp_NV - reference_logp_NV)).sum(-1)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(chunked_head, "CHUNK_ELEMENTS_CPU", 4 * V)
    monkeypatch.setattr(chunked_head, "CHUNK_TOKENS_MINIMUM", 1)
    yield


def problem(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor, ReferenceHead]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    target_N = torch.randint(V, (N,), generator=generator)
    hidden_NH, weight_VH, bias_V = (normal(*size).requires_grad_() for size in ((N, H), (V, H), (V,)))
    reference = ReferenceHead(hidden_NH=normal(N, 3), weight_VH=normal(V, 3), bias_V=normal(V))
    return hidden_NH, weight_VH, bias_V, target_N, reference


def materialised_logp(hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, shape: LogitShape) -> Tensor:
    logit_NV = hidden_NH @ weight_VH.t() + (0.0 if bias_V is None else bias_V)
    logit_NV = logit_NV * shape.logit_scale
    if shape.softcap is not None:
        logit_NV = shape.softcap * torch.tanh(logit_NV / shape.softcap)
    return (logit_NV / shape.temperature).log_softmax(-1)


def bucketed_kl(logp_NV: Tensor, log_q_NV: Tensor, top_k: int) -> Tensor:
    """Row by row: the k likeliest tokens of the policy, and one bucket for all others."""
    rows = []
    for logp_V, log_q_V in zip(logp_NV, log_q_NV, strict=True):
        order = logp_V.argsort(descending=True)
        top, rest = order[:top_k], order[top_k:]
        bucketed_p = torch.cat([logp_V[top], logp_V[rest].logsumexp(0, keepdim=True)])
        bucketed_q = torch.cat([log_q_V[top], log_q_V[rest].logsumexp(0, keepdim=True)])
        rows.append((bucketed_p.exp() * (bucketed_p - bucketed_q)).sum())
    return torch.stack(rows)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("elements", [4 * V, 8 * V, 1 << 22])
def test_kept_logits_change_no_bit_and_a_second_pass_computes_them_again(
    shape: LogitShape, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden_NH, weight_VH, bias_V, target_N, _ = problem(dtype=torch.float32)
    inputs, found = (hidden_NH, weight_VH, bias_V), []
    for kept in (0, elements):
        monkeypatch.setattr(token_statistics_module, "KEPT_ELEMENTS", kept)
        logp_N = token_statistics(hidden_NH, weight_VH, target_N, bias_V=bias_V, shape=shape).logp_N
        passes = [torch.autograd.grad(logp_N.sin().sum(), inputs, retain_graph=True) for _ in range(2)]
        assert all(torch.equal(first, second) for first, second in zip(*passes, strict=True))
        found.append((logp_N, *passes[0]))
    assert all(torch.equal(without, with_them) for without, with_them in zip(*found, strict=True))


def test_logits_are_kept_for_log_probabilities_with_a_gradient_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[slice] = []
    logits = chunked_head.ChunkedHead.logits

    def counted(head: chunked_head.ChunkedHead, rows: slice, buffer_CV: Tensor | None = None) -> Tensor:
        products.append(rows)
        return logits(head, rows, buffer_CV)

    monkeypatch.setattr(chunked_head.ChunkedHead, "logits", counted)
    hidden_NH, weight_VH, _, target_N, _ = problem()
    for entropy, expected in ((False, 1), (True, 2)):
        products.clear()
        found = token_statistics(hidden_NH, weight_VH, target_N, entropy=entropy)
        (found.logp_N.sum() + (0.0 if found.entropy_N is None else found.entropy_N.sum())).backward()
        assert len(products) == expected


def weighted_sum(found: TokenStatistics) -> Tensor:
    """A scalar in which every token and statistic has a weight of its own."""
    ramp_N = torch.arange(1, N + 1, dtype=found.logp_N.dtype)
    assert found.entropy_N is not None and found.kl_N is not None
    return (ramp_N * found.logp_N).sum() - (ramp_N.flip(0) * found.entropy_N).sum() + 0.5 * (ramp_N * found.kl_N).sum()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_chunks_give_the_materialised_values_and_gradients(shape: LogitShape, with_bias: bool) -> None:
    hidden_NH, weight_VH, bias_V, target_N, reference = problem()
    inputs = [hidden_NH, weight_VH, *([bias_V] if with_bias else [])]
    bias = bias_V if with_bias else None
    found = token_statistics(
        hidden_NH, weight_VH, target_N, bias_V=bias, reference=reference, entropy=True, shape=shape
    )

    logp_NV = materialised_logp(hidden_NH, weight_VH, bias, shape)
    log_q_NV = materialised_logp(reference.hidden_NH, reference.weight_VH, reference.bias_V, shape)
    true = TokenStatistics(
        logp_N=logp_NV.gather(1, target_N[:, None]).squeeze(1),
        entropy_N=-(logp_NV.exp() * logp_NV).sum(1),
        kl_N=exact_kl(logp_NV, log_q_NV),
    )
    assert_close(found.logp_N, true.logp_N)
    assert_close(found.entropy_N, true.entropy_N)
    assert_close(found.kl_N, true.kl_N)
    assert_close(found.reference_logp_N, log_q_NV.gather(1, target_N[:, None]).squeeze(1))
    assert found.reference_logp_N is not None and not found.reference_logp_N.requires_grad
    gradients = torch.autograd.grad(weighted_sum(found), inputs)
    for gradient, expected in zip(gradients, torch.autograd.grad(weighted_sum(true), inputs), strict=True):
        assert_close(gradient, expected)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("shape", SHAPES)
def test_log_probability_alone_takes_its_short_cut_to_the_same_gradient(shape: LogitShape) -> None:
    hidden_NH, weight_VH, bias_V, target_N, _ = problem(seed=1)
    ramp_N = torch.arange(N, dtype=torch.float64)
    logp_N = token_statistics(hidden_NH, weight_VH, target_N, bias_V=bias_V, shape=shape).logp_N
    true_N = materialised_logp(hidden_NH, weight_VH, bias_V, shape).gather(1, target_N[:, None]).squeeze(1)
    assert_close(logp_N, true_N)
    inputs = [hidden_NH, weight_VH, bias_V]
    expected = torch.autograd.grad((ramp_N * true_N).sum(), inputs)
    for gradient, truth in zip(torch.autograd.grad((ramp_N * logp_N).sum(), inputs), expected, strict=True):
        assert_close(gradient, truth)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_hand_written_backward_is_the_numerical_gradient(shape: LogitShape, top_k: int | None) -> None:
    hidden_NH, weight_VH, bias_V, target_N, reference = problem(seed=2)
    other = ReferenceHead(hidden_NH=reference.hidden_NH, weight_VH=reference.weight_VH, top_k=top_k)

    def statistics(hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor) -> tuple[Tensor | None, ...]:
        found = token_statistics(
            hidden_NH, weight_VH, target_N, bias_V=bias_V, reference=other, entropy=True, shape=shape
        )
        return found.logp_N, found.entropy_N, found.kl_N

    assert torch.autograd.gradcheck(statistics, (hidden_NH, weight_VH, bias_V))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_top_k_kl_is_the_kl_of_the_top_tokens_and_one_bucket(top_k: int) -> None:
    hidden_NH, weight_VH, bias_V, target_N, reference = problem(seed=3)
    other = ReferenceHead(hidden_NH=reference.hidden_NH, weight_VH=reference.weight_VH, top_k=top_k)
    kl_N = token_statistics(hidden_NH, weight_VH, target_N, bias_V=bias_V, reference=other).kl_N
    assert kl_N is not None
    logp_NV = materialised_logp(hidden_NH, weight_VH, bias_V, LogitShape())
    log_q_NV = materialised_logp(other.hidden_NH, other.weight_VH, None, LogitShape())
    true_N = bucketed_kl(logp_NV, log_q_NV, top_k)
    assert_close(kl_N, true_N)
    assert (kl_N <= exact_kl(logp_NV, log_q_NV) + 1e-12).all()
    gradient = torch.autograd.grad(kl_N.square().sum(), weight_VH)[0]
    assert_close(gradient, torch.autograd.grad(true_N.square().sum(), weight_VH)[0])


def test_top_k_of_the_whole_vocabulary_or_more_is_the_exact_kl() -> None:
    hidden_NH, weight_VH, _, target_N, reference = problem(seed=4)
    for top_k in (V, V + 5):
        other = ReferenceHead(hidden_NH=reference.hidden_NH, weight_VH=reference.weight_VH, top_k=top_k)
        exact = ReferenceHead(hidden_NH=reference.hidden_NH, weight_VH=reference.weight_VH)
        found = token_statistics(hidden_NH, weight_VH, target_N, reference=other).kl_N
        assert_close(found, token_statistics(hidden_NH, weight_VH, target_N, reference=exact).kl_N, rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-4, 0.1, 1.0, 30.0]),
    top_k=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_exact_kl_is_never_negative_and_zero_for_the_same_head(
    seed: int, scale: float, top_k: int | None, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden_NH, weight_VH, away_NH = (torch.randn(*size, generator=generator) for size in ((7, 5), (9, 5), (7, 5)))
    target_N = torch.randint(9, (7,), generator=generator)
    hidden_NH, weight_VH, moved_NH = (x.to(dtype) for x in (hidden_NH * 3, weight_VH, hidden_NH * 3 + scale * away_NH))
    moved = ReferenceHead(hidden_NH=moved_NH, weight_VH=weight_VH, top_k=top_k)
    same = ReferenceHead(hidden_NH=hidden_NH, weight_VH=weight_VH, top_k=top_k)
    away_N = token_statistics(hidden_NH, weight_VH, target_N, reference=moved).kl_N
    zero_N = token_statistics(hidden_NH, weight_VH, target_N, reference=same).kl_N
    assert away_N is not None and zero_N is not None
    assert (away_N >= 0).all() and away_N.isfinite().all()
    if top_k is None:
        assert (zero_N == 0).all()  # the same arithmetic on both sides: not small, zero
    else:
        assert_close(zero_N, torch.zeros_like(zero_N), rtol=0, atol=1e-6)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation gave back."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_tokens_by_vocabulary_never_exists_forward_or_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_head, "CHUNK_ELEMENTS_CPU", 16 * 128)
    monkeypatch.setattr(chunked_head, "CHUNK_TOKENS_MINIMUM", 1)
    tokens, hidden, vocabulary = 256, 8, 128
    hidden_NH = torch.randn(tokens, hidden, requires_grad=True)
    weight_VH = torch.randn(vocabulary, hidden, requires_grad=True)
    target_N = torch.randint(vocabulary, (tokens,))
    reference = ReferenceHead(hidden_NH=torch.randn(tokens, 3), weight_VH=torch.randn(vocabulary, 3), top_k=4)
    with LargestTensor() as chunked:
        found = token_statistics(
            hidden_NH, weight_VH, target_N, reference=reference, entropy=True, shape=LogitShape(softcap=5.0)
        )
        assert found.entropy_N is not None and found.kl_N is not None
        (found.logp_N + found.entropy_N + found.kl_N).sum().backward()
    with LargestTensor() as plain:
        (hidden_NH @ weight_VH.t()).log_softmax(-1).gather(1, target_N[:, None]).sum().backward()
    assert plain.elements == tokens * vocabulary  # the spy sees it where it exists
    assert chunked.elements == max(16 * vocabulary, tokens * hidden)


def test_chunk_size_changes_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden_NH, weight_VH, bias_V, target_N, reference = problem(seed=5)
    inputs = [hidden_NH, weight_VH, bias_V]

    def run() -> list[Tensor]:
        found = token_statistics(hidden_NH, weight_VH, target_N, bias_V=bias_V, reference=reference, entropy=True)
        return [found.logp_N, *torch.autograd.grad(weighted_sum(found), inputs)]

    whole = run()
    monkeypatch.setattr(chunked_head, "CHUNK_ELEMENTS_CPU", V)
    monkeypatch.setattr(chunked_head, "CHUNK_TOKENS_MINIMUM", 1)
    assert_close(run(), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("small_chunks")
def test_autocast_multiplies_in_bfloat16_and_keeps_statistics_in_float32() -> None:
    hidden_NH, weight_VH, bias_V, target_N, reference = problem(seed=6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = token_statistics(hidden_NH, weight_VH, target_N, bias_V=bias_V, reference=reference, entropy=True)
        loss = weighted_sum(found)
    gradients = torch.autograd.grad(loss, [hidden_NH, weight_VH, bias_V])
    exact = token_statistics(hidden_NH, weight_VH, target_N, bias_V=bias_V, reference=reference, entropy=True)
    expected = torch.autograd.grad(weighted_sum(exact), [hidden_NH, weight_VH, bias_V])
    assert found.logp_N.dtype == torch.float32
    assert not torch.equal(found.logp_N, exact.logp_N)  # the products really were bfloat16
    assert_close(found.logp_N, exact.logp_N, rtol=0.02, atol=0.05)
    assert_close(found.kl_N, exact.kl_N, rtol=0.05, atol=0.05)
    for gradient, truth in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - truth).norm() < 0.03 * truth.norm()

    low_NV = (hidden_NH.bfloat16() @ weight_VH.bfloat16().t()).float() + bias_V
    assert_close(found.logp_N, low_NV.log_softmax(-1).gather(1, target_N[:, None]).squeeze(1), rtol=1e-6, atol=1e-6)


def test_frozen_inputs_get_no_gradient_and_the_others_theirs() -> None:
    hidden_NH, weight_VH, bias_V, target_N, reference = problem(seed=7)
    reference_NH = reference.hidden_NH.requires_grad_()
    found = token_statistics(hidden_NH.detach(), weight_VH, target_N, reference=reference, entropy=True)
    weighted_sum(found).backward()
    assert weight_VH.grad is not None and hidden_NH.grad is None and reference_NH.grad is None

    found = token_statistics(hidden_NH, weight_VH.detach(), target_N, bias_V=bias_V.detach())
    found.logp_N.sum().backward()
    assert hidden_NH.grad is not None and bias_V.grad is None
    assert found.entropy_N is None and found.kl_N is None


def test_no_tokens_give_empty_statistics_and_zero_gradients() -> None:
    weight_VH = torch.randn(V, H, requires_grad=True)
    found = token_statistics(torch.randn(0, H), weight_VH, torch.zeros(0, dtype=torch.long), entropy=True)
    found.logp_N.sum().backward()
    assert found.logp_N.shape == (0,) and weight_VH.grad is not None and not weight_VH.grad.any()


def test_logits_far_apart_stay_finite() -> None:
    hidden_NH = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    weight_VH = torch.tensor([[1.0], [-1.0], [0.5]])
    reference = ReferenceHead(hidden_NH=-hidden_NH.detach(), weight_VH=weight_VH)
    for top_k in (None, 1):
        other = ReferenceHead(hidden_NH=reference.hidden_NH, weight_VH=weight_VH, top_k=top_k)
        found = token_statistics(hidden_NH, weight_VH, torch.tensor([1, 1]), reference=other, entropy=True)
        assert found.entropy_N is not None and found.kl_N is not None
        (gradient_NH,) = torch.autograd.grad((found.logp_N + found.entropy_N + found.kl_N).sum(), hidden_NH)
        assert found.logp_N.tolist() == [-2000.0, 0.0]
        assert found.kl_N.isfinite().all() and gradient_NH.isfinite().all()
