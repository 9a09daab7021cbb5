"""Writing one token at a time for sequences that come and go: the same mathematics as `generation`, driven by steps.

Before a step, sequences that wait are read in flat passes and laid beside those under way. Every
sequence draws its uniforms from its own seed, as in `generation`: who else is being written changes nothing but the
rounding of the logits.

Legend: B sequences, V vocabulary, H hidden size, C cache columns, K kept rows, T likeliest tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from assent.model.attention import DecodeCache
from assent.model.flat import flatten
from assent.model.generation import draw
from assent.model.roles import LanguageRole
from assent.ports.sampling import Sampling
from assent.seeds import numpy_rng

_COMPACT_BELOW = 0.75
_SPARE_COLUMNS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A sequence to be written: at most `sampling.max_tokens` tokens; `likeliest` more are told at every place."""

    key: int
    prompt_ids: Sequence[int]
    sampling: Sampling
    seed: int
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One token of one sequence with its log-probability under the model itself (temperature 1, nothing cut off)."""

    key: int
    id: int
    logp: float
    top_logprobs: tuple[tuple[int, float], ...]
    ended: bool
    full: bool  # the last token that was allowed


class _Row:
    """A sequence under way with all its tokens; without a key nobody wants it any more."""

    __slots__ = ("begun", "ids", "key", "uniforms", "written")

    def __init__(self, begun: Begun) -> None:
        self.begun, self.written = begun, 0
        self.ids = list(begun.prompt_ids)
        self.key: int | None = begun.key
        self.uniforms: np.ndarray = numpy_rng(begun.seed, "tokens").random(begun.sampling.max_tokens)


class StepDecoder:
    """Sequences under way with their cache. Not for several threads, and for weights that stay as they are."""

    def __init__(self, role: LanguageRole, *, end_ids: frozenset[int]) -> None:
        self._role, self._ends = role, end_ids
        with torch.no_grad():
            self._head = role.head
        self._waiting: list[_Row] = []
        self._rows: list[_Row] = []
        self._cache: DecodeCache | None = None
        device = role.body.device
        self._hidden_BH = torch.zeros((0, role.body.hidden_size), device=device)
        self._ids_B = torch.zeros(0, dtype=torch.long, device=device)
        self._position_B = torch.zeros(0, dtype=torch.long, device=device)

    @property
    def under_way(self) -> int:
        """Sequences that are still being written or about to be."""
        return len(self._waiting) + sum(row.key is not None for row in self._rows)

    def begin(self, sequences: Sequence[Begun]) -> None:
        """Let sequences take part from the next step on."""
        self._waiting.extend(_Row(one) for one in sequences)

    def drop(self, keys: Collection[int]) -> None:
        """Forget sequences."""
        self._waiting = [row for row in self._waiting if row.key not in keys]
        for row in self._rows:
            if row.key in keys:
                row.key = None

    def step(self, keys: Collection[int] | None = None) -> list[Drawn]:
        """One token more for every sequence, or for those of `keys` alone.

        If it raises, every sequence stands where it stood: what was cached is forgotten and read again next time.
        """
        if keys is not None and any(row.key is not None and row.key not in keys for row in self._rows):
            self._set_aside()
        aside = [row for row in self._waiting if keys is not None and row.key not in keys]
        self._waiting = [row for row in self._waiting if row not in aside]
        try:
            return self._step()
        except BaseException:
            self._set_aside()
            raise
        finally:
            self._waiting += aside

    @torch.no_grad()
    def _step(self) -> list[Drawn]:
        self._role.body.model.eval()
        self._compact()
        with self._role.body.wearing(self._role.adapter):
            if self._rows:
                self._advance()
            while self._waiting:
                self._take_in()
        return self._draw() if self._rows else []

    def _set_aside(self) -> None:
        """Let all sequences wait until they are read again, with what they have written."""
        living = [row for row in self._rows if row.key is not None]
        self._waiting = [*living, *(row for row in self._waiting if row not in living)]
        self._rows = []
        self._compact()

    def _compact(self) -> None:
        kept = [place for place, row in enumerate(self._rows) if row.key is not None]
        if not kept:
            self._rows, self._cache = [], None
            self._hidden_BH, self._ids_B = self._hidden_BH[:0], self._ids_B[:0]
            self._position_B = self._position_B[:0]
        elif len(kept) < _COMPACT_BELOW * len(self._rows):
            self._keep(kept)

    def _keep(self, kept: list[int]) -> None:
        assert self._cache is not None
        rows_K = torch.tensor(kept, device=self._role.body.device)
        self._rows = [self._rows[place] for place in kept]
        self._hidden_BH, self._ids_B = self._hidden_BH[rows_K], self._ids_B[rows_K]
        self._position_B = self._position_B[rows_K]
        self._cache = lay_together([(self._cache, kept)], spare=_SPARE_COLUMNS)

    def _advance(self) -> None:
        """The hidden states after the tokens that were drawn last."""
        cache = self._cache
        assert cache is not None
        if cache.used == max(cache.lengths) + cache.new_tokens:
            spare = max(_SPARE_COLUMNS, cache.used // 2)
            cache = self._cache = lay_together([(cache, range(len(self._rows)))], spare=spare)
        self._hidden_BH = self._role.body.next_hidden(self._ids_B, self._position_B, cache)
        cache.used += 1
        self._position_B = self._position_B + 1

    def _take_in(self) -> None:
        """Read prompts that wait, as many as one pass may hold, and lay them beside the others."""
        body = self._role.body
        until = itertools.accumulate(len(row.ids) for row in self._waiting)
        fit = sum(tokens <= body.read_at_once for tokens in until)
        rows, rest = self._waiting[: max(1, fit)], self._waiting[max(1, fit) :]
        batch = flatten([row.ids for row in rows]).to(body.device)
        cache = DecodeCache(lengths=batch.lengths, new_tokens=0)
        cache.place(body.device)
        hidden_BH = body.hidden(batch, batch.last_B, adapter=self._role.adapter, cache=cache)
        parts: list[tuple[DecodeCache, Sequence[int]]] = [(cache, range(len(rows)))]
        if self._cache is not None:
            parts.insert(0, (self._cache, range(len(self._rows))))
        self._cache = lay_together(parts, spare=_SPARE_COLUMNS)
        self._rows, self._waiting = [*self._rows, *rows], rest
        self._hidden_BH = torch.cat([self._hidden_BH.to(hidden_BH.dtype), hidden_BH])
        self._position_B = torch.cat([self._position_B, torch.tensor(batch.lengths, device=body.device)])

    def _draw(self) -> list[Drawn]:
        logits_BV = self._head.logits(self._hidden_BH)
        logp_BV = torch.log_softmax(logits_BV, dim=-1)
        ids_B = torch.zeros(len(self._rows), dtype=torch.long, device=logits_BV.device)
        for sampling, places in self._by_sampling().items():
            uniforms = [self._rows[place].uniforms[self._rows[place].written] for place in places]
            uniform_K = torch.tensor(uniforms, dtype=torch.float32, device=logits_BV.device)
            rows_K = torch.tensor(places, device=logits_BV.device)
            ids_B[rows_K] = draw(logits_BV[rows_K], uniform_K, sampling)[0]
        self._ids_B = ids_B
        told = max((row.begun.top_logprobs for row in self._rows if row.key is not None), default=0)
        top_BT = logp_BV.topk(min(told, logp_BV.shape[-1]), dim=-1)
        columns = zip(
            self._rows, ids_B.tolist(), logp_BV.gather(1, ids_B[:, None])[:, 0].tolist(),
            top_BT.indices.tolist(), top_BT.values.tolist(), strict=True,
        )  # fmt: skip
        return [
            self._file(row, token, logp, tuple(zip(ids, logps, strict=True)))
            for row, token, logp, ids, logps in columns
            if row.key is not None
        ]

    def _by_sampling(self) -> dict[Sampling, list[int]]:
        """Places of the rows that are drawn alike; rows that nobody wants are not drawn."""
        places: dict[Sampling, list[int]] = {}
        for place, row in enumerate(self._rows):
            if row.key is not None:
                one = row.begun.sampling
                alike = Sampling(temperature=one.temperature, top_p=one.top_p, top_k=one.top_k)
                places.setdefault(alike, []).append(place)
        return places

    def _file(self, row: _Row, token: int, logp: float, top_logprobs: tuple[tuple[int, float], ...]) -> Drawn:
        assert row.key is not None
        row.written += 1
        row.ids.append(token)
        drawn = Drawn(
            key=row.key,
            id=token,
            logp=logp,
            top_logprobs=top_logprobs[: row.begun.top_logprobs],
            ended=token in self._ends,
            full=row.written == row.begun.sampling.max_tokens,
        )
        if drawn.ended or drawn.full or math.isnan(logp):
            row.key = None
        return drawn


def lay_together(parts: Sequence[tuple[DecodeCache, Sequence[int]]], *, spare: int) -> DecodeCache:
    """One cache of chosen rows of several, as narrow as their tokens allow, with `spare` columns free."""
    held = [[cache.used - max(cache.lengths) + cache.lengths[row] for row in rows] for cache, rows in parts]
    together = DecodeCache(lengths=tuple(length for lengths in held for length in lengths), new_tokens=spare)
    columns = together.used + spare
    for mine, theirs in ((together.keys, "keys"), (together.values, "values")):
        for layer in getattr(parts[0][0], theirs):
            pieces = []
            for (cache, rows), lengths in zip(parts, held, strict=True):
                old_BGCD = getattr(cache, theirs)[layer]
                shape = (len(rows), old_BGCD.shape[1], columns, old_BGCD.shape[3])
                new_BGCD, longest = old_BGCD.new_zeros(shape), max(lengths)
                filled = old_BGCD[list(rows), :, cache.used - longest : cache.used]
                new_BGCD[:, :, together.used - longest : together.used] = filled
                pieces.append(new_BGCD)
            mine[layer] = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
    assert parts[0][0].visible_BC is not None
    together.place(parts[0][0].visible_BC.device)
    return together
