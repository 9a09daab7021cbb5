"""What a policy and its reference make of the tokens of a batch: the columns that a loss needs, chunk by chunk."""

from __future__ import annotations

import torch
from torch import Tensor

from assent.losses.chunked_head import LogitShape
from assent.losses.token_statistics import ReferenceHead, TokenStatistics, token_statistics
from assent.model.flat import FlatBatch
from assent.model.language_head import LanguageHead
from assent.ports.learning import Need, Roles


def language_columns(roles: Roles, batch: FlatBatch, need: Need, hidden_MH: Tensor) -> dict[str, Tensor]:
    """The columns by name (M), from the policy's hidden states; the reference reads the batch here."""
    policy = roles.policy
    assert policy is not None
    if policy.action_values is not None and not need.action_values:
        assert need == Need(values=need.values), "of a policy that writes by action values, the logp alone is known"
        return {"logp": policy.written_logp(hidden_MH, batch.target_M)}
    body, head, reference, reference_logp_M = policy.body, policy.head, None, None
    if need.kl or need.reference_logp:
        assert roles.reference is not None, "this loss needs a reference"
        roles.reference.body.model.eval()
        with torch.no_grad(), body.autocast():
            reference_MH, away = roles.reference.hidden(batch), roles.reference.head
            if need.kl:
                away_VH, away_V = away.weight_VH.detach(), away.bias_V
                reference = ReferenceHead(hidden_NH=reference_MH, weight_VH=away_VH, bias_V=away_V, top_k=need.kl_top_k)
            else:
                reference_logp_M = _statistics(reference_MH, away, batch.target_M, need).logp_N
    with body.autocast():
        found = _statistics(hidden_MH, head, batch.target_M, need, reference, entropy=need.entropy)
    columns = {
        "logp": found.logp_N, "entropy": found.entropy_N, "kl": found.kl_N,
        "reference_logp": found.reference_logp_N if need.kl else reference_logp_M,
    }  # fmt: skip
    return {name: column for name, column in columns.items() if column is not None}


def _statistics(
    hidden_MH: Tensor, head: LanguageHead, target_M: Tensor, need: Need,
    reference: ReferenceHead | None = None, *, entropy: bool = False,
) -> TokenStatistics:  # fmt: skip
    shape = LogitShape(temperature=need.temperature, softcap=head.softcap, logit_scale=head.scale)
    return token_statistics(
        hidden_MH, head.weight_VH, target_M, bias_V=head.bias_V, reference=reference, entropy=entropy, shape=shape
    )
