"""Log-probability, entropy and KL of every token, straight from hidden states; tokens x vocabulary never exists.

    z = (s / T) h W^T + b'                 logits; with a soft cap c:  z = (c / T) tanh(s (h W^T + b) / c)
    logp_n = z_nt - log sum_v exp z_nv     (t = the target of token n)
    H_n    = - sum_v p_nv log p_nv
    KL_n   = sum_v p_nv (log p_nv - log q_nv)

and by hand, with upstream gradients g, so that the backward pass recomputes logits chunk by chunk (on a CPU the first
KEPT_ELEMENTS are kept where log-probabilities are all that is asked for: the product is a quarter of the head's work):

    dz_nv = g_logp (1[v = t] - p_nv) - g_H p_nv (log p_nv + H_n) + g_KL p_nv (log p_nv - log q_nv - KL_n)

With `top_k`, the policy's k likeliest tokens keep their own term and all others are one bucket with mass P (policy)
and Q (reference): KL_n = sum_top p (log p - log q) + P log(P / Q). A KL too, hence >= 0, and at most the full one.

Shapes: N tokens of a flat batch, H hidden size, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from assent.losses.chunked_head import PLAIN_LOGITS, ChunkedHead, HeadGradients, LogitShape, Precision, log_normaliser

KEPT_ELEMENTS = 1 << 22  # logits that a CPU keeps between the passes, whatever the size of the batch


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceHead:
    """What the KL is measured against: the reference's last hidden states and head. It never receives a gradient.

    The vocabulary must be the policy's, the hidden size need not. `top_k` = None is the exact KL over the vocabulary.
    """

    hidden_NH: Tensor
    weight_VH: Tensor
    bias_V: Tensor | None = None
    top_k: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStatistics:
    """One number per token in float32 (float64 for float64 inputs); None where it was not asked for.

    `reference_logp_N`, the reference's log-probability of the target, comes with the KL and carries no gradient.
    """

    logp_N: Tensor
    entropy_N: Tensor | None
    kl_N: Tensor | None
    reference_logp_N: Tensor | None = None


def token_statistics(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    target_N: Tensor,
    *,
    bias_V: Tensor | None = None,
    reference: ReferenceHead | None = None,
    entropy: bool = False,
    shape: LogitShape = PLAIN_LOGITS,
) -> TokenStatistics:
    """Log-probability of `target_N`, and on request entropy and KL(policy || reference), each differentiable.

    Gradients reach hidden states, weight and bias. Under autocast the products run in its type and the statistics
    stay in float32. Give only the tokens that count: the cost is per token, masked or not.
    """
    kept = KEPT_ELEMENTS if torch.is_grad_enabled() and hidden_NH.device.type == "cpu" else 0
    wanted = _Wanted(
        entropy=entropy, top_k=None, shape=shape, precision=Precision.of(hidden_NH, weight_VH), kept_elements=kept
    )
    parts: tuple[Tensor | None, ...] = (None, None, None)
    if reference is not None:
        parts = (reference.hidden_NH, reference.weight_VH, reference.bias_V)
        if reference.top_k is not None and reference.top_k < weight_VH.shape[0]:
            wanted = replace(wanted, top_k=reference.top_k)
    policy = (hidden_NH, weight_VH, bias_V)
    found = _TokenStatistics.apply(*policy, target_N, *parts, wanted)  # type: ignore[no-untyped-call]
    logp_N, entropy_N, kl_N, reference_logp_N = found
    return TokenStatistics(logp_N=logp_N, entropy_N=entropy_N, kl_N=kl_N, reference_logp_N=reference_logp_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    entropy: bool
    top_k: int | None
    shape: LogitShape
    precision: Precision
    kept_elements: int

    def head(self, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> ChunkedHead:
        return ChunkedHead(hidden_NH, weight_VH, bias_V, shape=self.shape, precision=self.precision)


def _bucket_(log_ratio_CV: Tensor, p_CV: Tensor, logp_CV: Tensor, top_k: int) -> Tensor:
    """Give every token outside the policy's top k the log-ratio of their common bucket, in place."""
    top_CK = logp_CV.topk(top_k, dim=1, sorted=False).indices
    smallest = torch.finfo(p_CV.dtype).tiny
    q_rest_C1 = (logp_CV - log_ratio_CV).exp_().scatter_(1, top_CK, 0.0).sum(1, keepdim=True).clamp_min_(smallest)
    p_rest_C1 = p_CV.scatter(1, top_CK, 0.0).sum(1, keepdim=True).clamp_min_(smallest)
    top_ratio_CK = log_ratio_CV.gather(1, top_CK)
    log_ratio_CV.copy_(p_rest_C1.log_().sub_(q_rest_C1.log_()))
    return log_ratio_CV.scatter_(1, top_CK, top_ratio_CK)


class _TokenStatistics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor | None, ...]:
        """Given: hidden, weight, bias and target of the policy; hidden, weight and bias of the reference; wanted."""
        *tensors, wanted = given
        with torch.autocast(tensors[0].device.type, enabled=False):
            policy = wanted.head(*tensors[:3])
            reference = None if tensors[4] is None else wanted.head(*tensors[4:])
            *found, reference_logp_N, ctx.kept = _forward(policy, reference, tensors[3], wanted)
        ctx.wanted = wanted
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *found)
        logp_N, entropy_N, kl_N, _, _ = found
        ctx.mark_non_differentiable(reference_logp_N)
        compared = (None, None) if reference is None else (kl_N, reference_logp_N)
        return logp_N, entropy_N if wanted.entropy else None, *compared

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of hidden, weight and bias of the policy; nothing for the rest."""
        if all(gradient_N is None for gradient_N in upstream):
            return (None,) * 8
        tensors, found = ctx.saved_tensors[:7], ctx.saved_tensors[7:]
        with torch.autocast(tensors[0].device.type, enabled=False):
            policy = ctx.wanted.head(*tensors[:3])
            reference = None if upstream[2] is None else ctx.wanted.head(*tensors[4:])
            gradients = HeadGradients(policy, ctx.needs_input_grad)
            kept, ctx.kept = iter(ctx.kept), ()  # they are overwritten: a second pass computes all of them again
            for rows in policy.chunks():
                chunk = _Chunk.at(rows, tensors[3], upstream[:3], found)
                logits_CV = next(kept, None)
                z_CV = policy.logits(rows) if logits_CV is None else logits_CV
                gradients.add(rows, *_logit_gradient(z_CV, policy.shape, reference, chunk, ctx.wanted.top_k))
            return (*gradients.finished(*tensors[:3]), None, None, None, None, None)


def _forward(policy: ChunkedHead, reference: ChunkedHead | None, target_N: Tensor, wanted: _Wanted) -> tuple[Any, ...]:
    """logp, entropy, KL, both log-normalisers, the reference's logp (empty if not asked for), and the logits kept."""
    size, compared = target_N.shape[0], 0 if reference is None else target_N.shape[0]
    new = policy.buffer_CV.new_empty
    logp_N, normaliser_N, entropy_N = new(size), new(size), new(size if wanted.entropy else 0)
    kl_N, reference_normaliser_N, reference_logp_N = new(compared), new(compared), new(compared)
    plain = reference is None and not wanted.entropy
    kept: list[Tensor] = []
    keeping = wanted.kept_elements // policy.buffer_CV.numel() if plain else 0
    scratch = policy.buffer_CV if plain and not keeping else policy.new_chunk()
    for rows in policy.chunks():
        if len(kept) < keeping:
            kept.append(policy.logits(rows, policy.new_chunk()))
            z_CV = kept[-1]
        else:
            z_CV = policy.logits(rows)
        target_C1, p_CV = target_N[rows].unsqueeze(1), scratch[: z_CV.shape[0]]
        target_logit_C = z_CV.gather(1, target_C1).squeeze(1)
        normaliser_N[rows] = log_normaliser(z_CV, p_CV)
        logp_N[rows] = target_logit_C - normaliser_N[rows]
        if plain:
            continue
        if reference is not None:
            log_q_CV = reference.logits(rows)
            reference_normaliser_N[rows] = log_normaliser(log_q_CV, p_CV)
            log_q_CV.sub_(reference_normaliser_N[rows].unsqueeze(1))
            reference_logp_N[rows] = log_q_CV.gather(1, target_C1).squeeze(1)
        logp_CV = z_CV.sub_(normaliser_N[rows].unsqueeze(1))
        torch.exp(logp_CV, out=p_CV)
        if reference is not None:
            log_ratio_CV = torch.sub(logp_CV, log_q_CV, out=log_q_CV)
            if wanted.top_k is not None:
                _bucket_(log_ratio_CV, p_CV, logp_CV, wanted.top_k)
            kl_N[rows] = log_ratio_CV.mul_(p_CV).sum(1).clamp_min_(0.0)  # below zero is rounding only
        if wanted.entropy:
            entropy_N[rows] = logp_CV.mul_(p_CV).sum(1).neg_()
    return logp_N, entropy_N, kl_N, normaliser_N, reference_normaliser_N, reference_logp_N, kept


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What the backward pass knows of one chunk: columns, ready to meet rows of the vocabulary."""

    rows: slice
    target_C1: Tensor
    g_logp_C1: Tensor | None
    g_entropy_C1: Tensor | None
    g_kl_C1: Tensor | None
    entropy_C1: Tensor
    kl_C1: Tensor
    normaliser_C1: Tensor
    reference_normaliser_C1: Tensor

    @staticmethod
    def at(rows: slice, target_N: Tensor, upstream: tuple[Tensor | None, ...], found: tuple[Tensor, ...]) -> _Chunk:
        """The columns of one chunk, in the order of the fields; the first of `found` is not needed."""
        given = (target_N, *upstream, *found[1:])
        columns: list[Any] = [None if one_N is None else one_N[rows].unsqueeze(1) for one_N in given]
        return _Chunk(rows, *columns)


def _logit_gradient(
    z_CV: Tensor, shape: LogitShape, reference: ChunkedHead | None, chunk: _Chunk, top_k: int | None
) -> tuple[Tensor, Tensor | None]:
    """Gradient of the head's product in the memory of the logits, and a factor per row still to apply (None = one)."""
    slope_CV = shape.slope(z_CV)
    logp_CV = z_CV.sub_(chunk.normaliser_C1)
    row_C1 = None
    if chunk.g_logp_C1 is not None and chunk.g_entropy_C1 is None and reference is None:
        # -g (p - onehot): the factor per row is cheaper on the hidden side of the products
        row_C1 = chunk.g_logp_C1.neg()
        dz_CV = logp_CV.exp_()
        dz_CV.scatter_add_(1, chunk.target_C1, torch.full_like(row_C1, -1.0))
    else:
        dz_CV = _full_gradient(logp_CV, reference, chunk, top_k)
    return dz_CV if slope_CV is None else dz_CV.mul_(slope_CV), row_C1


def _full_gradient(logp_CV: Tensor, reference: ChunkedHead | None, chunk: _Chunk, top_k: int | None) -> Tensor:
    """p (g_KL (log p/q - KL) - g_H (log p + H) - g_logp) + g_logp onehot, in the memory of `logp_CV`."""
    p_CV = logp_CV.exp()
    if reference is not None and chunk.g_kl_C1 is not None:
        log_q_CV = reference.logits(chunk.rows).sub_(chunk.reference_normaliser_C1)
        weight_CV = torch.sub(logp_CV, log_q_CV, out=log_q_CV)
        if top_k is not None:
            _bucket_(weight_CV, p_CV, logp_CV, top_k)
        weight_CV.sub_(chunk.kl_C1).mul_(chunk.g_kl_C1)
    else:
        weight_CV = torch.zeros_like(p_CV)
    if chunk.g_entropy_C1 is not None:
        weight_CV.addcmul_(logp_CV.add_(chunk.entropy_C1), chunk.g_entropy_C1, value=-1.0)
    if chunk.g_logp_C1 is None:
        return torch.mul(p_CV, weight_CV, out=logp_CV)
    dz_CV = torch.mul(p_CV, weight_CV.sub_(chunk.g_logp_C1), out=logp_CV)
    return dz_CV.scatter_add_(1, chunk.target_C1, chunk.g_logp_C1)
