"""Policy losses, value losses, advantages and KL estimates equal published ones, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from peers.comparing import EVERY_N, LENGTHS, MASK_BT, TOKENS, Published, drawn, flat, same
from torch import Tensor
from torch.testing import assert_close

from assent.losses.advantages import gae
from assent.losses.kl import kl_k1, kl_k2, kl_k3
from assent.losses.policy import clipped_policy_loss, clipped_value_loss

pytestmark = pytest.mark.peers


def rollout() -> dict[str, Tensor]:
    """Log-probabilities before and now whose ratios go beyond every clip, on both sides of the advantage."""
    old_logp_BT = -drawn(1).abs() - 0.1
    return {
        "logp": old_logp_BT + drawn(2, 0.8), "old_logp": old_logp_BT, "advantage": drawn(3), "mask": MASK_BT.long(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("openrlhf_policy_loss", {"clip_eps_low": 0.2, "clip_eps_high": 0.28}),
        # verl clips twice unless it is told a bound that nothing reaches
        ("verl_policy_loss", {"kind": "vanilla", "clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "clip_ratio_c": 1e9}),
    ],
)
def test_the_clipped_policy_loss(name: str, settings: dict[str, object], published: Published) -> None:
    given = rollout()
    logp_N = flat(given["logp"]).requires_grad_()
    ours = clipped_policy_loss(
        logp_N, flat(given["old_logp"]), flat(given["advantage"]), EVERY_N,
        clip_range_low=0.2, clip_range_high=0.28, step_tokens=TOKENS,
    )  # fmt: skip
    same(ours.loss, logp_N, published(name, given, **settings))


def test_the_second_clip_of_verl_is_what_it_adds(published: Published) -> None:
    given = rollout()
    common = {"kind": "vanilla", "clip_ratio_low": 0.2, "clip_ratio_high": 0.28}
    once, twice = (published("verl_policy_loss", given, **common, clip_ratio_c=bound) for bound in (1e9, 3.0))
    assert twice["loss"] < once["loss"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("openrlhf_value_loss", {"clip_eps": 0.2}), ("verl_value_loss", {"cliprange_value": 0.2})],
)
def test_the_clipped_value_loss(name: str, settings: dict[str, object], published: Published) -> None:
    given = {"value": drawn(1), "old_value": drawn(1) + drawn(2, 0.3), "return": drawn(3), "mask": MASK_BT.long()}
    value_N = flat(given["value"]).requires_grad_()
    ours = clipped_value_loss(
        value_N, flat(given["old_value"]), flat(given["return"]), EVERY_N, clip=0.2, step_tokens=TOKENS
    )
    same(ours, value_N, published(name, given, **settings), "value")


def test_gae_and_whitening_up_to_bessels_correction(published: Published) -> None:
    """verl whitens inside with the spread of a sample, we with that of the population."""
    given = {"token_reward": drawn(1) * MASK_BT, "value": drawn(2) * MASK_BT, "mask": MASK_BT.long()}
    found = published("verl_gae", given, gamma=0.98, lam=0.9)
    advantage_N, return_N = gae(flat(given["token_reward"]), flat(given["value"]), LENGTHS, gamma=0.98, gae_lambda=0.9)
    assert_close(return_N, flat(found["return"]), rtol=1e-6, atol=1e-9)
    white_N = (advantage_N - advantage_N.mean()) / advantage_N.std()
    assert_close(white_N, flat(found["advantage"]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("estimator", "name"), [(kl_k1, "k1"), (kl_k2, "k2"), (kl_k3, "k3")])
def test_kl_estimates(estimator: object, name: str, published: Published) -> None:
    given = {"logp": -drawn(1).abs(), "reference_logp": -drawn(2).abs()}
    logp_BT = given["logp"].clone().requires_grad_()
    kl_BT = estimator(logp_BT, given["reference_logp"])  # type: ignore[operator]
    (gradient_BT,) = torch.autograd.grad(kl_BT.mean(), logp_BT)
    found = published("verl_kl", given, estimator=name)
    assert_close(kl_BT.detach(), found["kl"])
    assert_close(gradient_BT, found["gradient/logp"])
