"""KL(policy || reference): estimators from sampled tokens, the exact sum, the penalty and its adaptive coefficient.

With u = log q(x) - log p(x) for x ~ p (Schulman 2020, "Approximating KL divergence"):

    k1 = -u              unbiased, negative for single tokens
    k2 = u^2 / 2         biased, never negative; its gradient on policy is the gradient of the KL
    k3 = e^u - 1 - u     unbiased, never negative

    beta' = beta (1 + clip(KL / target - 1, -0.2, 0.2) samples / horizon)      Ziegler et al. 2019 (arXiv 1909.08593)

As a reward, a number is held fixed while the policy moves. Only k1 then has the whole gradient of the KL: the exact KL
at a position does not depend on the token drawn there, so it teaches what comes before, never the token itself.
`own_token_term` adds to the advantage what is missing.

The exact KL of a flat batch comes from `token_statistics`, which never holds tokens x vocabulary.

Shapes: N tokens of a flat batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

ERROR_LIMIT = 0.2  # Ziegler et al.: the proportional error is clipped to this on both sides


def kl_k1(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """log p - log q of the sampled tokens: right in the reward. In a loss its gradient has expectation zero."""
    return logp_N - reference_logp_N


def kl_k2(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """Half the squared log-ratio."""
    return 0.5 * (logp_N - reference_logp_N).square()


def kl_k3(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """q/p - 1 - log(q/p), to be looked at. In a loss its gradient is that of KL(reference || policy).

    As a reward it is weaker still: KL(p || q) less KL(q || p), which cancel while the two are close.
    """
    log_ratio_N = reference_logp_N - logp_N
    return log_ratio_N.expm1() - log_ratio_N


def kl_penalty(kl_N: Tensor, mask_N: Tensor, *, step_tokens: float) -> Tensor:
    """Sum of KLs / `step_tokens` where `mask_N` is True: add a multiple of it to the loss."""
    return torch.where(mask_N, kl_N, 0.0).sum() / step_tokens


@torch.no_grad()
def own_token_term(kl_N: Tensor, logp_N: Tensor, reference_logp_N: Tensor, *, coefficient: float) -> Tensor:
    """-coefficient (k1 - KL): what each token's advantage lacks where the exact KL is its penalty in the reward.

    Its mean at every position is zero, so values and returns stay as they are; its policy gradient is that of the
    KL at the token's own position. Add it to the advantage after GAE and before whitening.
    """
    return -coefficient * (kl_k1(logp_N, reference_logp_N) - kl_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveKL:
    """A KL coefficient that a proportional controller moves towards `target` nats per sequence; None leaves it.

    `horizon` is in sequences: the error is worked off over about five horizons.
    """

    coefficient: float
    target: float | None
    horizon: float

    def updated(self, observed_kl: float, samples: int) -> AdaptiveKL:
        """The controller after `samples` sequences whose mean KL was `observed_kl`."""
        if self.target is None:
            return self
        error = min(max(observed_kl / self.target - 1.0, -ERROR_LIMIT), ERROR_LIMIT)
        return replace(self, coefficient=self.coefficient * (1.0 + error * samples / self.horizon))
