"""Sampling text: one flat pass over the prompts, then one token a step for every unfinished sequence.

Every sequence draws its uniforms from its own seed, so what is sampled depends neither on the batch it sits in nor
on the order of the prompts (up to rounding in the logits). A finished sequence leaves the batch.

Legend: B sequences of a batch, V vocabulary, T new tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assent.model.attention import DecodeCache
from assent.model.flat import flatten
from assent.model.roles import LanguageRole
from assent.ports.sampling import Sampling
from assent.seeds import numpy_rng

_COMPACT_BELOW = 0.75  # rebuild the cache when fewer than this share of its rows are unfinished


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """Token ids of one completion (with its end token, if it ended) and the log-probabilities they were drawn with.

    `states` (tokens, H) are the hidden states they were drawn from, in float32, if they were asked for and are such.
    """

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    ended: bool
    states: np.ndarray | None = None


class _Row:
    """A sequence being written."""

    __slots__ = ("ended", "ids", "index", "length", "logps", "uniforms")

    def __init__(self, index: int, length: int, uniforms: np.ndarray) -> None:
        self.index, self.length, self.uniforms = index, length, uniforms
        self.ids: list[int] = []
        self.logps: list[float] = []
        self.ended = False


@torch.no_grad()
def generate(
    role: LanguageRole,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    end_ids: frozenset[int],
    seeds: Sequence[int],
) -> Iterator[tuple[int, Sampled]]:
    """Yield (index of the prompt, sampled completion), batch by batch, longest prompts first.

    `seeds` has one seed per prompt. Log-probabilities are those of the distribution drawn from (temperature, top-k
    and top-p included).
    """
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    role.body.model.eval()
    for start in range(0, len(order), sampling.batch_size):
        chosen = order[start : start + sampling.batch_size]
        rows = [
            _Row(index, len(prompts[index]), numpy_rng(seeds[index], "tokens").random(sampling.max_tokens))
            for index in chosen
        ]
        with role.body.wearing(role.adapter), role.body.autocast():  # around all steps: weights are cast once
            states_BTH = _write(role, rows, [prompts[index] for index in chosen], sampling, end_ids)
        for place, row in enumerate(rows):
            states = None if states_BTH is None else states_BTH[place, : len(row.ids)]
            yield row.index, Sampled(ids=tuple(row.ids), logps=tuple(row.logps), ended=row.ended, states=states)


def _write(
    role: LanguageRole, rows: list[_Row], prompts: list[Sequence[int]], sampling: Sampling, end_ids: frozenset[int]
) -> np.ndarray | None:
    """Fill the rows; the hidden states (B, T, H) that were drawn from, if wanted and in float32."""
    head, device = role.head, role.body.device
    batch = flatten(prompts).to(device)
    cache = DecodeCache(lengths=batch.lengths, new_tokens=sampling.max_tokens)
    cache.place(device)
    hidden_BH = role.body.hidden(batch, batch.last_B, adapter=role.adapter, cache=cache)
    uniform_BT = torch.from_numpy(np.stack([row.uniforms for row in rows])).to(device, torch.float32)
    position_B = torch.tensor(batch.lengths, device=device)
    wanted = sampling.states and role.body.precision == "fp32"
    states_BTH = hidden_BH.new_zeros((len(rows), sampling.max_tokens, hidden_BH.shape[1])) if wanted else None
    live, live_K = list(rows), torch.arange(len(rows), device=device)
    for step in range(sampling.max_tokens):
        if states_BTH is not None:
            states_BTH[live_K, step] = hidden_BH
        with torch.autocast(device.type, enabled=False):
            ids_B, logp_B = draw(head.logits(hidden_BH), uniform_BT[:, step], sampling)
        for row, token, logp in zip(live, ids_B.tolist(), logp_B.tolist(), strict=True):
            if not row.ended:
                row.ids.append(token)
                row.logps.append(logp)
                row.ended = token in end_ids
        kept = [place for place, row in enumerate(live) if not row.ended]
        if not kept or step + 1 == sampling.max_tokens:
            break
        if len(kept) < _COMPACT_BELOW * len(live):
            keep_K = torch.tensor(kept, device=device)
            cache.keep(keep_K)
            live, live_K = [live[place] for place in kept], live_K[keep_K]
            ids_B, position_B, uniform_BT = ids_B[keep_K], position_B[keep_K], uniform_BT[keep_K]
        hidden_BH = role.body.next_hidden(ids_B, position_B, cache)
        cache.used += 1
        position_B = position_B + 1
    return None if states_BTH is None else states_BTH.cpu().numpy()


def draw(logits_BV: Tensor, uniform_B: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Token ids (B) by inverse CDF of one uniform per row, and their log-probabilities (B); greedy at temperature 0."""
    if sampling.temperature == 0.0:
        ids_B = logits_BV.argmax(-1)
        return ids_B, torch.zeros_like(uniform_B)
    logp_BV = torch.log_softmax(logits_BV / sampling.temperature, dim=-1)
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
