"""The check at loading: a model whose numbers differ on flat batches is refused, not trained wrongly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assent.errors import ConfigError
from assent.model.attention import FLAT
from assent.model.body import Body, LanguageHead, first_line, is_causal, is_causal_lm
from assent.model.flat import FlatBatch, flatten
from assent.model.roles import ScalarRole, own_head

_LONGEST = 48
_TOLERANCE = 1e-3  # of the largest number; rounding alone makes up to a tenth of it where activations are large


def verify_flat(body: Body, path: str, adapter: str | None = None) -> None:
    """Compare flat and native outputs on a few tokens, with `adapter` on. Raises ConfigError.

    Of a language model the logits are compared, of a classifier the last hidden states and the outputs of its head.
    """
    model, was_training, precision = body.model, body.model.training, body.precision
    probes = _probes(body)
    batch = flatten(probes).to(body.device)
    rows_R = torch.arange(0, batch.ids_N.shape[0], 2, device=body.device)
    model.eval()
    body.precision = "fp32"
    try:
        with torch.no_grad(), body.wearing(adapter):
            mine = _flat(body, batch, rows_R, adapter, path)
            model.set_attn_implementation("eager")
            true = _native(body, [torch.tensor([row], device=body.device) for row in probes], rows_R)
    finally:
        model.set_attn_implementation(FLAT)
        model.train(was_training)
        body.precision = precision
    size = true[0].abs().max().item()
    for one, other in zip(mine, true, strict=True):
        worst = (one - other).abs().max().item()
        if not worst <= _TOLERANCE * size:
            raise ConfigError(
                f"flat batches change this model's outputs by {worst:.2g} (they are up to {size:.2g})",
                where=path,
                now="Its attention or head is of a kind that Assent does not reproduce; use another architecture.",
            )


def _probes(body: Body) -> list[list[int]]:
    """A sequence as long as is cheap and two short ones, one of which ends in padding where a head skips that."""
    rows = int(body.model.get_input_embeddings().weight.shape[0])
    pad_id = getattr(body.model.config.get_text_config(), "pad_token_id", None)
    ids = [id_ for id_ in range(1, rows) if id_ != pad_id] or [0]
    longest = min(_LONGEST, body.max_length or _LONGEST)
    row = [ids[(7 * place + place // 3) % len(ids)] for place in range(longest)]
    last = row[-1:]
    if pad_id is not None and is_causal(body.model) and not is_causal_lm(body.model):
        last = [*last, int(pad_id)]
    return [row, row[:3], last]


def _flat(body: Body, batch: FlatBatch, rows_R: Tensor, adapter: str | None, path: str) -> list[Tensor]:
    """Of all tokens, of some of them, and what a classifier says of the sequences."""
    try:
        hidden = [body.hidden(batch, adapter=adapter), body.hidden(batch, rows_R, adapter=adapter)]
        if is_causal_lm(body.model):
            return [LanguageHead.of(body.model, adapter).logits(one) for one in hidden]
        head = own_head(body, where=path)
        return [*hidden, ScalarRole(body, head, adapter).logits(batch) / _reach(head.weight)]
    except ConfigError as error:
        raise ConfigError(error.what, where=path, now=error.now) from error
    except (TypeError, AttributeError, KeyError) as error:
        raise ConfigError(f"this architecture cannot run on flat batches: {first_line(error)}", where=path) from error


def _native(body: Body, rows: Sequence[Tensor], rows_R: Tensor) -> list[Tensor]:
    """The same of every sequence alone, the library's own way."""
    extra = {"use_cache": False} if is_causal(body.model) else {}
    if is_causal_lm(body.model):
        logits = torch.cat([body.model(ids, **extra).logits[0] for ids in rows])
        return [logits, logits[rows_R]]
    hidden = torch.cat([body.trunk(ids, **extra).last_hidden_state[0] for ids in rows])
    said = torch.cat([body.model(ids, **extra).logits for ids in rows])
    return [hidden, hidden[rows_R], said / _reach(own_head(body, where="").weight)]


def _reach(weight: Tensor) -> float:
    """How much larger than what it reads a head's output can be: outputs that cancel are not judged by their size."""
    return max(weight.abs().sum(dim=1).max().item(), 1e-30)
