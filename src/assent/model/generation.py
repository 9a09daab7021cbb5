"""Writing one token at a time for sequences that come and go: the one decoder, for training and for serving.

Before a step, sequences that wait are read in flat passes and laid beside those under way; a finished sequence leaves.
On a CPU, beginnings that many of them share (a system prompt) are read once.
Every sequence draws its uniforms from its own seed: what else is being written changes nothing but the rounding of the
logits, which next to never makes another token of a draw (`drawing.py`).

Legend: B sequences under way, K some of them, V vocabulary, H hidden size, T likeliest tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from assent.model.cache import DecodeCache
from assent.model.drawing import LEVELS, draw
from assent.model.flat import flatten
from assent.model.prefix_trees import common_beginning, shared_reading
from assent.model.roles import LanguageRole
from assent.ports.sampling import SamplingParams
from assent.seeds import numpy_rng
from assent.types import StopReason

_COMPACT_BELOW = 0.75  # rebuild the cache when fewer than this share of its rows are still wanted
_REFILL_BELOW = 0.5  # laying others beside copies the cache: wait until there is room for many
_SPARE_COLUMNS = 64


@dataclass(slots=True, kw_only=True, eq=False)
class Generation:
    """A sequence to be written, and what has been written of it so far, its end token included.

    `logps` are under the distribution that was drawn from; `model_logp` and `top_logprobs` of the last token are under
    the model itself (temperature 1, nothing cut off), if `sampling.top_logprobs` asks for them. `states` (tokens, H)
    are the hidden states that were drawn from, if the decoder keeps them.
    """

    key: int
    prompt_ids: Sequence[int]
    sampling: SamplingParams  # with `max_tokens`
    seed: int
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    model_logp: float = math.nan
    top_logprobs: tuple[tuple[int, float], ...] = ()
    stop: StopReason | None = None
    uniforms: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)  # (tokens, LEVELS)

    @property
    def left(self) -> int:
        """Tokens that may still come."""
        assert self.sampling.max_tokens is not None
        return self.sampling.max_tokens - len(self.ids)

    @property
    def most_tokens(self) -> int:
        """Tokens of the prompt and of the longest completion."""
        return len(self.prompt_ids) + len(self.ids) + self.left

    @property
    def read(self) -> tuple[int, tuple[int, ...]]:
        """Equal for sequences that are read alike: completions of one prompt object that say the same so far."""
        return id(self.prompt_ids), tuple(self.ids)


class Decoder:
    """Sequences under way with their cache. Not for several threads, and for weights that stay as they are.

    At most `most_rows` are under way together, and their cache has at most `most_tokens` places, as far as more than
    one sequence goes; the others wait. With `keep_states`, the hidden states in float32 are kept. `pause` is called
    between passes over prompts, and may raise.
    """

    def __init__(
        self, role: LanguageRole, *, end_ids: frozenset[int], most_rows: float = math.inf,
        most_tokens: float = math.inf, keep_states: bool = False, pause: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._role, self._ends, self._pause = role, end_ids, pause
        self._most_rows, self._most_tokens = most_rows, most_tokens
        self._keep_states = keep_states and role.body.precision == "fp32"
        with torch.no_grad():
            self._head = role.head
        self._shares = role.body.device.type == "cpu" and role.body.steady_length is None
        self._waiting: list[Generation] = []
        self._rows: list[Generation] = []
        self._live: list[int] = []  # places of rows that want another token
        self._cache: DecodeCache | None = None
        self._hidden_BH = torch.zeros((0, role.body.hidden_size), device=role.body.device)
        self._ids_B = torch.zeros(0, dtype=torch.long, device=role.body.device)
        self._position_B = self._ids_B

    @property
    def under_way(self) -> int:
        """Sequences that are still being written or about to be."""
        return len(self._waiting) + len(self._live)

    def add(self, sequences: Sequence[Generation]) -> None:
        """Let sequences take part from the next step on, as far as there is room, first come, first served."""
        self._waiting.extend(sequences)

    def abort(self, keys: Collection[int]) -> None:
        """Forget sequences."""
        self._waiting = [row for row in self._waiting if row.key not in keys]
        self._live = [place for place in self._live if self._rows[place].key not in keys]

    def step(self, keys: Collection[int] | None = None) -> list[Generation]:
        """One token more for every sequence, or for those of `keys` alone; gives those that have one more.

        If it raises, every sequence stands where it stood: what was cached is forgotten and read again next time.
        """
        if keys is not None and any(self._rows[place].key not in keys for place in self._live):
            self._set_aside()
        aside = [row for row in self._waiting if keys is not None and row.key not in keys]
        self._waiting = [row for row in self._waiting if row not in aside] if aside else self._waiting
        try:
            return self._step()
        except BaseException:
            self._set_aside()
            raise
        finally:
            self._waiting += aside

    @torch.no_grad()
    def _step(self) -> list[Generation]:
        if self._role.body.model.training:
            self._role.body.model.eval()
        self._compact()
        with self._role.body.wearing(self._role.adapter):
            if self._rows:
                self._advance()
            self._admit()
        return self._draw() if self._rows else []

    def _set_aside(self) -> None:
        """Let all sequences wait until they are read again, with what they have written."""
        living = [self._rows[place] for place in self._live]
        self._waiting = [*living, *(row for row in self._waiting if row not in living)]
        self._live = []
        self._compact()

    def _seat(self, rows: list[Generation]) -> None:
        """These are under way now; rows whose tokens are drawn alike are found once, not in every step."""
        self._rows, self._live = rows, list(range(len(rows)))
        alike: dict[tuple[float, float, int], list[int]] = {}
        for place, row in enumerate(rows):
            alike.setdefault((row.sampling.temperature, row.sampling.top_p, row.sampling.top_k), []).append(place)
        self._alike = [
            (rows[places[0]].sampling, slice(None) if len(alike) == 1 else places) for places in alike.values()
        ]

    def _compact(self) -> None:
        kept = self._live
        if len(kept) >= _COMPACT_BELOW * len(self._rows) > 0:
            return
        if self._cache is not None and kept:
            self._cache.keep(kept)
        else:
            self._cache = None
        self._seat([self._rows[place] for place in kept])
        kept_K = torch.tensor(kept, dtype=torch.long, device=self._ids_B.device)
        self._hidden_BH, self._ids_B = self._hidden_BH[kept_K], self._ids_B[kept_K]
        self._position_B = self._position_B[kept_K]

    def _advance(self) -> None:
        """The hidden states after the tokens that were drawn last."""
        assert self._cache is not None
        if self._cache.is_full:
            parts = [(self._cache, range(len(self._rows)))]
            self._cache = DecodeCache.joined(parts, spare=_spare(self._rows))
        self._hidden_BH = self._role.body.next_hidden(self._ids_B, self._position_B, self._cache)
        self._cache.used += 1
        self._position_B = self._position_B + 1

    def _admit(self) -> None:
        """Read sequences that wait, as many as there is room for, and lay them beside the others."""
        passes = self._passes() if len(self._rows) <= _REFILL_BELOW * self._most_rows else []
        if not passes:
            return
        body, live, count = self._role.body, self._live, sum(len(group) for groups in passes for group in groups)
        rows = [*(self._rows[place] for place in live), *self._waiting[:count]]
        spare, alone = _spare(rows), self._cache is None and len(passes) == 1
        parts: list[tuple[DecodeCache, Sequence[int]]] = []
        if self._cache is not None:
            parts.append((self._cache, live))
        hidden, positions = [self._hidden_BH[live]], [self._position_B[live]]
        for groups in passes:
            self._pause()
            sequences = [[*group[0].prompt_ids, *group[0].ids] for group in groups]
            lengths = tuple(map(len, sequences))
            shared = shared_reading(sequences) if self._shares else None
            batch = (flatten(sequences) if shared is None else shared.batch).to(body.device)
            last_G = batch.last_B if shared is None else shared.last_B
            cache = DecodeCache(lengths, spare if alone else 0, shared.paths if shared is not None else ())
            hidden_GH = body.hidden(batch, last_G, adapter=self._role.adapter, cache=cache)
            places = [place for place, group in enumerate(groups) for _ in group]
            parts.append((cache, places))
            hidden.append(hidden_GH[places])
            positions.append(torch.tensor([lengths[place] for place in places], device=body.device))
        as_read = alone and len(rows) == len(parts[0][0].lengths)
        self._cache = parts[0][0] if as_read else DecodeCache.joined(parts, spare=spare)
        self._hidden_BH = torch.cat([one.to(hidden[-1].dtype) for one in hidden])
        self._position_B = torch.cat(positions)
        for row in self._waiting[:count]:  # a sequence that begins once more draws the same
            row.uniforms = numpy_rng(row.seed, "tokens").random((row.sampling.max_tokens or 0, LEVELS), np.float32)
        self._seat(rows)
        self._waiting = self._waiting[count:]

    def _passes(self) -> list[list[list[Generation]]]:
        """What of the waiting is read now: passes of about `read_at_once` tokens of groups that are read alike."""
        passes: list[list[list[Generation]]] = []
        longest = max((row.most_tokens for row in self._rows), default=0) if self._waiting else 0
        tokens = 0
        for count, row in enumerate(self._waiting, len(self._rows) + 1):
            longest = max(longest, row.most_tokens)
            if count > 1 and (count > self._most_rows or count * longest > self._most_tokens):
                break
            length = len(row.prompt_ids) + len(row.ids)
            alike = common_beginning(passes[-1][-1][0].prompt_ids, row.prompt_ids) if passes and self._shares else 0
            fresh = length - alike if alike > length / 4 else length
            if passes and passes[-1][-1][0].read == row.read:
                passes[-1][-1].append(row)
            elif passes and tokens + fresh <= self._role.body.read_at_once:
                passes[-1].append([row])
                tokens += fresh
            else:
                passes.append([[row]])
                tokens = length
        return passes

    def _draw(self) -> list[Generation]:
        """Draw a token for every row; all are drawn before the first is written down."""
        rows, live = self._rows, self._live
        logits_BV = self._role.shifted(self._head.logits(self._hidden_BH), self._hidden_BH)
        uniforms_BL = np.zeros((len(rows), LEVELS), np.float32)
        for place in live:
            uniforms_BL[place] = rows[place].uniforms[len(rows[place].ids)]
        uniform_BL = torch.from_numpy(uniforms_BL).to(logits_BV.device)
        logp_B = torch.zeros_like(logits_BV[:, 0])
        ids_B = torch.zeros_like(logp_B, dtype=torch.long)
        for sampling, chosen in self._alike:
            ids_B[chosen], logp_B[chosen] = draw(logits_BV[chosen], uniform_BL[chosen], sampling)
        self._ids_B, ids, logps = ids_B, ids_B.tolist(), logp_B.tolist()
        states_BH = self._hidden_BH.cpu().numpy() if self._keep_states else None
        model_logps = self._model_logps(logits_BV)
        for place in live:
            row, id_, logp, sampling = rows[place], ids[place], logps[place], rows[place].sampling
            row.ids.append(id_)
            row.logps.append(logp)
            if states_BH is not None:
                row.states.append(states_BH[place])
            if sampling.top_logprobs is not None:
                row.model_logp, top = model_logps[place]
                row.top_logprobs = top[: sampling.top_logprobs]
            if math.isnan(logp):
                row.stop = StopReason.ERROR
            elif id_ in self._ends:
                row.stop = StopReason.END
            elif len(row.ids) == sampling.max_tokens:
                row.stop = StopReason.LENGTH
        self._live = [place for place in live if rows[place].stop is None]
        return [rows[place] for place in live]

    def _model_logps(self, logits_BV: Tensor) -> list[tuple[float, tuple[tuple[int, float], ...]]]:
        """What the model itself gives each drawn token and the likeliest, as many as any row asks for."""
        asked = [row.sampling.top_logprobs for row in self._rows if row.sampling.top_logprobs is not None]
        if not asked:
            return []
        logp_BV = torch.log_softmax(logits_BV, dim=-1)
        top_BT = logp_BV.topk(min(max(asked), logp_BV.shape[-1]), dim=-1)
        columns = logp_BV.gather(1, self._ids_B[:, None])[:, 0], top_BT.indices, top_BT.values
        return [
            (logp, tuple(zip(ids, logps, strict=True)))
            for logp, ids, logps in zip(*(column.tolist() for column in columns), strict=True)
        ]


def _spare(rows: Sequence[Generation]) -> int:
    """Columns to lay beside what is cached: as many as are still needed, but not too many at a time."""
    return min(_SPARE_COLUMNS, max(row.left for row in rows))
