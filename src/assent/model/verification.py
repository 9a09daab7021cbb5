"""The check at loading: refuse a model whose numbers differ from the library's, instead of training it wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from assent.errors import ConfigError
from assent.model.attention import FLAT
from assent.model.body import Body, first_line, is_causal, is_causal_lm
from assent.model.cache import DecodeCache
from assent.model.flat import FlatBatch, flatten
from assent.model.frozen_weights import frozen_in_float32
from assent.model.language_head import LanguageHead
from assent.model.roles import ScalarRole, own_head

_LONGEST = 48
_ANOTHER = "Its attention or head is of a kind that Assent does not reproduce; use another architecture."
_TOLERANCE = 1e-3  # of the largest number; rounding alone makes up to a tenth of it where activations are large


def verify_flat(body: Body, path: str, adapter: str | None = None) -> None:
    """Compare flat and native outputs on a few tokens, with `adapter` on. Raises ConfigError.

    For a language model this compares the logits, also those after a token that is generated with the cache; for a
    classifier, the last hidden states and the outputs of its head.
    """
    model, was_training, precision = body.model, body.model.training, body.precision
    probes = _probes(body)
    batch = flatten(probes).to(body.device)
    rows_R = torch.arange(0, batch.ids_N.shape[0], 2, device=body.device)
    written = [row[: body.steady_length] for row in probes] if is_causal_lm(model) else []
    written = [row for row in written if len(row) > 1]
    model.eval()
    body.precision = "fp32"
    try:
        with torch.no_grad(), frozen_in_float32(model), body.wearing(adapter), _telling(path):
            mine = _flat(body, batch, rows_R, adapter, path)
            model.set_attn_implementation("eager")
            for one, other in zip(mine, _native(body, probes, rows_R), strict=True):
                _compare("flat batches change this model's outputs", one, other)
            if written:
                true = torch.stack([_logits(body, row)[-1] for row in written])
                model.set_attn_implementation(FLAT)
                _compare("generation with a cache changes this model's outputs", _written(body, written, adapter), true)
    finally:
        model.set_attn_implementation(FLAT)
        model.train(was_training)
        body.precision = precision


@contextmanager
def _telling(path: str) -> Iterator[None]:
    """What stops a model from running as a ConfigError that names the model; a lack of memory is left as it is."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(error.what, where=path, now=error.now) from error
    except torch.OutOfMemoryError:
        raise
    except (TypeError, AttributeError, LookupError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"this architecture cannot run on flat batches: {first_line(error)}", where=path, now=_ANOTHER
        ) from error


def _compare(what: str, mine: Tensor, true: Tensor) -> None:
    size, worst = true.abs().max().item(), (mine - true).abs().max().item()
    if not worst <= _TOLERANCE * size:
        raise ConfigError(f"{what} by {worst:.2g} (they are up to {size:.2g})", now=_ANOTHER)


def _probes(body: Body) -> list[list[int]]:
    """A sequence as long as is cheap and two short ones, one of which ends in padding where a head skips that."""
    rows = int(body.model.get_input_embeddings().weight.shape[0])
    pad_id = getattr(body.model.config.get_text_config(), "pad_token_id", None)
    if pad_id is not None and not 0 <= pad_id < rows:  # no token is padding
        pad_id = None
    ids = [id_ for id_ in range(1, rows) if id_ != pad_id] or [0]
    longest = min(_LONGEST, body.max_length or _LONGEST)
    row = [ids[(7 * place + place // 3) % len(ids)] for place in range(longest)]
    last = row[-1:]
    if pad_id is not None and is_causal(body.model) and not is_causal_lm(body.model):
        last = [*last, int(pad_id)]
    return [row, row[:3], last]


def _flat(body: Body, batch: FlatBatch, rows_R: Tensor, adapter: str | None, path: str) -> list[Tensor]:
    """Of all tokens, of some of them, and what a classifier says of the sequences."""
    hidden = [body.hidden(batch, adapter=adapter), body.hidden(batch, rows_R, adapter=adapter)]
    if is_causal_lm(body.model):
        return [LanguageHead.of(body.model, adapter).logits(one) for one in hidden]
    head = own_head(body, where=path)
    return [*hidden, ScalarRole(body, head, adapter).logits(batch) / _reach(head.weight)]


def _written(body: Body, rows: Sequence[Sequence[int]], adapter: str | None) -> Tensor:
    """Logits behind the last token of every row, where that token is written and the others are its prompt."""
    prompts = flatten([row[:-1] for row in rows]).to(body.device)
    cache = DecodeCache(prompts.lengths, spare=1)
    body.hidden(prompts, prompts.last_B, adapter=adapter, cache=cache)
    if not cache.keys:
        raise ConfigError("this architecture cannot generate with a cache: it stores no keys there", now=_ANOTHER)
    last_B = torch.tensor([row[-1] for row in rows], device=body.device)
    position_B = torch.tensor(prompts.lengths, device=body.device)
    return LanguageHead.of(body.model, adapter).logits(body.next_hidden(last_B, position_B, cache))


def _native(body: Body, rows: Sequence[Sequence[int]], rows_R: Tensor) -> list[Tensor]:
    """What `_flat` gives, of every sequence alone, the library's own way."""
    if is_causal_lm(body.model):
        logits = torch.cat([_logits(body, row) for row in rows])
        return [logits, logits[rows_R]]
    extra = {"use_cache": False} if is_causal(body.model) else {}
    tensors = [torch.tensor([row], device=body.device) for row in rows]
    hidden = torch.cat([body.trunk(ids, **extra).last_hidden_state[0] for ids in tensors])
    said = torch.cat([body.model(ids, **extra).logits for ids in tensors])
    return [hidden, hidden[rows_R], said / _reach(own_head(body, where="").weight)]


def _logits(body: Body, row: Sequence[int]) -> Tensor:
    """Logits (tokens, V) of one sequence, the library's own way."""
    logits: Tensor = body.model(torch.tensor([row], device=body.device), use_cache=False).logits[0]
    return logits


def _reach(weight: Tensor) -> float:
    """How much larger than what it reads a head's output can be: outputs that cancel are not judged by their size."""
    return max(weight.abs().sum(dim=1).max().item(), 1e-30)
