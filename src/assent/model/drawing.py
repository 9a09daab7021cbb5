"""Drawing a token of each row's distribution, cut to its likeliest tokens or not.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assent.ports.sampling import SamplingParams


def draw(logits_BV: Tensor, uniform_B: Tensor, sampling: SamplingParams) -> tuple[Tensor, Tensor]:
    """Token ids (B) by inverse CDF of one uniform per row, and their log-probabilities (B); greedy at temperature 0.

    A log-probability is nan where a logit is not a number.
    """
    if sampling.temperature == 0.0:
        most_B, ids_B = logits_BV.max(-1)
        return ids_B, most_B - most_B
    logp_BV = torch.log_softmax(logits_BV if sampling.temperature == 1.0 else logits_BV / sampling.temperature, dim=-1)
    if sampling.top_k or sampling.top_p < 1.0:
        logp_BV = truncate(logp_BV, top_k=sampling.top_k, top_p=sampling.top_p)
    cumulative_BV = logp_BV.exp().cumsum(-1)
    total_B1 = cumulative_BV[:, -1:]
    below_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))  # a uniform may round up to one
    threshold_B1 = torch.minimum(uniform_B[:, None] * total_B1, below_B1)
    ids_B = torch.searchsorted(cumulative_BV, threshold_B1, right=True)[:, 0].clamp_(max=logits_BV.shape[-1] - 1)
    return ids_B, logp_BV.gather(1, ids_B[:, None])[:, 0]


def truncate(logp_BV: Tensor, *, top_k: int, top_p: float) -> Tensor:
    """Keep the `top_k` likeliest tokens (0: all) and the smallest set holding `top_p` of the mass; renormalised."""
    sorted_BV, order_BV = logp_BV.sort(dim=-1, descending=True)
    keep_BV = torch.ones_like(sorted_BV, dtype=torch.bool)
    if top_k:
        keep_BV[:, top_k:] = False
    before_BV = sorted_BV.exp().cumsum(-1) - sorted_BV.exp()
    keep_BV &= before_BV < top_p
    keep_BV[:, 0] = True  # also where `top_p` is less than a float can tell from 0
    kept_BV = torch.zeros_like(keep_BV).scatter(1, order_BV, keep_BV)
    return torch.log_softmax(logp_BV.masked_fill(~kept_BV, float("-inf")), dim=-1)
