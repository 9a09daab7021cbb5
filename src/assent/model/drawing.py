"""Drawing a token of each row's distribution, cut to its likeliest tokens or not.

Tokens are the leaves of a tree in which every node has FAN children, so that a draw is a walk from its root: at each
node one uniform chooses among a few sums of probabilities. Rounding moves a sum by a millionth, and a walk passes some
sixty bounds between sums. One cumulative sum over the vocabulary has a bound at every token: of 49,152 tokens it drew
another one in one of a few hundred draws, when nothing but the batch was another.

Legend: B rows, V vocabulary, F children of a node, W nodes of a level, L levels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from assent.ports.sampling import SamplingParams

FAN = 16
LEVELS = 5  # of a vocabulary of up to FAN ** LEVELS, a million; so many uniforms draw a token


def draw(logits_BV: Tensor, uniform_BL: Tensor, sampling: SamplingParams) -> tuple[Tensor, Tensor]:
    """Token ids (B) and their log-probabilities (B) by LEVELS uniforms per row; greedy at temperature 0.

    A log-probability is nan where a logit is not a number.
    """
    if sampling.temperature == 0.0:
        most_B, ids_B = logits_BV.max(-1)
        return ids_B, most_B - most_B
    warmed_BV = logits_BV if sampling.temperature == 1.0 else logits_BV / sampling.temperature
    if sampling.top_k or sampling.top_p < 1.0:
        logp_BV = truncate(torch.log_softmax(warmed_BV, -1), top_k=sampling.top_k, top_p=sampling.top_p)
        p_BV = logp_BV.exp()
    else:
        p_BV = torch.softmax(warmed_BV, -1)
    ids_B = walk(p_BV, uniform_BL)
    return ids_B, p_BV.gather(1, ids_B[:, None])[:, 0].log()


def walk(p_BV: Tensor, uniform_BL: Tensor) -> Tensor:
    """A place of each row (B), drawn in proportion to what is there; never one where nothing is."""
    nodes_BW, tree = p_BV, []
    while nodes_BW.shape[1] > 1:
        width = -(-nodes_BW.shape[1] // FAN)
        missing = FAN * width - nodes_BW.shape[1]
        children_BFW = (pad(nodes_BW, (0, missing)) if missing else nodes_BW).view(-1, FAN, width)
        tree.append(children_BFW)
        nodes_BW = children_BFW.sum(1)
    place_B1 = torch.zeros_like(uniform_BL[:, :1], dtype=torch.long)
    for level, children_BFW in enumerate(reversed(tree)):
        own_BF = children_BFW.gather(2, place_B1[:, None].expand(-1, FAN, 1))[..., 0]
        cumulative_BF = own_BF.cumsum(1)
        total_B1 = cumulative_BF[:, -1:]
        below_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))  # a uniform may round up to one
        threshold_B1 = torch.minimum(uniform_BL[:, level : level + 1] * total_B1, below_B1)
        child_B1 = (cumulative_BF <= threshold_B1).sum(1, keepdim=True)
        place_B1 = child_B1 * children_BFW.shape[2] + place_B1
    return place_B1[:, 0]


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
