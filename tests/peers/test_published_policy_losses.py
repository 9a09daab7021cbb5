"""Policy losses, value losses, advantages and KL estimates equal published ones, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from peers.comparing import EVERY_N, LENGTHS, MASK_BT, TOKENS, Published, drawn, flat, same
from policy_batches import advantages_of, experience_of, loss_of
from torch import Tensor
from torch.testing import assert_close

from assent.algorithms.on_policy.experience import Experience
from assent.losses.advantages import gae, whiten
from assent.losses.kl import kl_k1, kl_k2, kl_k3
from assent.losses.policy import clipped_policy_loss, clipped_value_loss, sampler_weight

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


GROUP = 4
SEQUENCES = {"advantage": drawn(3)[:, :1].expand(MASK_BT.shape)}  # one advantage a completion
TRL_SEQUENCES = {"advantage": drawn(3)[:, 0]}


def experience(given: dict[str, Tensor]) -> Experience:
    """The same rollout, ours."""
    return experience_of(LENGTHS, {"logp": flat(given["old_logp"]), "advantage": flat(given["advantage"])}, GROUP)


TRL_LOSSES: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "GRPO": ("grpo", {}, {"loss_type": "grpo"}),
    "Dr. GRPO": (
        "grpo", {"loss_normalisation": "constant", "max_tokens": 7},
        {"loss_type": "dr_grpo", "max_completion_length": 7},
    ),
    "DAPO": (
        "grpo", {"loss_normalisation": "token", "clip_range_high": 0.28}, {"loss_type": "dapo", "epsilon_high": 0.28},
    ),
    "GSPO": (
        "gspo", {}, {
            "loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4,
        },
    ),
    "CISPO": ("cispo", {"max_importance_weight": 1.5}, {"loss_type": "cispo", "epsilon_high": 1.5}),
}  # fmt: skip


@pytest.mark.parametrize("case", TRL_LOSSES)
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_group_losses_with_and_without_a_kl(case: str, beta: float, published: Published) -> None:
    name, settings, theirs = TRL_LOSSES[case]
    given, reference_BT = rollout(), -drawn(5).abs()
    logp_N = flat(given["logp"]).requires_grad_()
    ours = experience({**given, **SEQUENCES})
    if beta:
        given["reference_logp"] = reference_BT
    outputs = {"logp": logp_N, **({"reference_logp": flat(reference_BT)} if beta else {})}
    loss = loss_of(name, ours, outputs, kl_estimator="k3", kl_coef=beta, **settings)
    same(loss, logp_N, published("trl_grpo_loss", {**given, **TRL_SEQUENCES}, beta=beta, **theirs))


def test_rloos_loss(published: Published) -> None:
    given = rollout()
    given["logp"] = given["old_logp"] + 0.2 * (given["logp"] - given["old_logp"])
    logp_N = flat(given["logp"]).requires_grad_()
    loss = loss_of("rloo", experience({**given, **SEQUENCES}), {"logp": logp_N})
    same(loss, logp_N, published("trl_rloo_loss", {**given, **TRL_SEQUENCES}))


def test_the_weights_of_another_sampler(published: Published) -> None:
    """A weight on the advantage is one on the loss; trl caps its own, so the capped ones are given to it."""
    given = rollout()
    weight_BT = sampler_weight(given["old_logp"], given["old_logp"] + drawn(6, 0.5), cap=2.0)
    logp_N = flat(given["logp"]).requires_grad_()
    advantage_BT = SEQUENCES["advantage"] * weight_BT
    loss = loss_of("grpo", experience({**given, "advantage": advantage_BT}), {"logp": logp_N})
    same(loss, logp_N, published("trl_grpo_loss", {**given, **TRL_SEQUENCES, "weight": weight_BT}, loss_type="grpo"))


@pytest.mark.parametrize(
    ("kind", "name", "settings", "theirs"),
    [
        # verl's clip_ratio_low 1 is no bound below; 1 + clip_ratio_high is the cap
        ("cispo", "cispo", {"max_importance_weight": 1.5}, {"clip_ratio_low": 1.0, "clip_ratio_high": 0.5}),
        (
            "gspo", "gspo", {},
            {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4, "average": "seq-mean-token-mean"},
        ),
    ],
)  # fmt: skip
def test_losses_of_verl(
    kind: str, name: str, settings: dict[str, object], theirs: dict[str, object], published: Published
) -> None:
    given = {**rollout(), **SEQUENCES}
    logp_N = flat(given["logp"]).requires_grad_()
    loss = loss_of(name, experience(given), {"logp": logp_N}, **settings)
    same(loss, logp_N, published("verl_policy_loss", given, kind=kind, **theirs))


def at_the_end(reward_B: Tensor) -> Tensor:
    """Rewards on last tokens (B, T)."""
    last_B1 = torch.tensor(LENGTHS)[:, None] - 1
    return torch.zeros(MASK_BT.shape, dtype=reward_B.dtype).scatter(1, last_B1, reward_B[:, None])


@pytest.mark.parametrize("scale", [True, False])
def test_group_relative_advantages_have_trls_epsilon(scale: bool, published: Published) -> None:
    reward_B = drawn(1)[:, 0]
    ours = advantages_of("grpo", experience_of(LENGTHS, {}, GROUP), flat(at_the_end(reward_B)), scale_by_std=scale)
    found = published(
        "trl_grpo_advantages", {"reward": reward_B}, group=GROUP, scale_rewards="group" if scale else "none"
    )
    assert_close(ours, flat(found["advantage"][:, None].expand(MASK_BT.shape)), rtol=1e-6, atol=1e-8)


def test_leave_one_out_with_the_kl_in_the_reward(published: Published) -> None:
    reward_B, logp_BT, reference_BT = drawn(1)[:, 0], -drawn(2).abs(), -drawn(3).abs()
    token_BT = at_the_end(reward_B) - 0.1 * (logp_BT - reference_BT)
    ours = advantages_of("rloo", experience_of(LENGTHS, {}, GROUP), flat(token_BT))
    given = {"reward": reward_B, "logp": logp_BT, "reference_logp": reference_BT, "mask": MASK_BT.long()}
    found = published("trl_rloo_advantages", given, group=GROUP, beta=0.1)
    assert_close(ours, flat(found["advantage"][:, None].expand(MASK_BT.shape)), rtol=1e-6, atol=1e-8)
    verl = {"token_reward": token_BT * MASK_BT, "mask": MASK_BT.long()}
    assert_close(ours, flat(published("verl_advantages", verl, estimator="rloo", group=GROUP)["advantage"]))


@pytest.mark.parametrize(("baseline", "kl_coef"), [("none", 0.0), ("none", 0.1), ("group", 0.0)])
def test_reinforce_pp_is_white_over_all_tokens(baseline: str, kl_coef: float, published: Published) -> None:
    """With a group they are compared without KL: OpenRLHF's baseline leaves it out, ours and verl's do not."""
    reward_B, kl_BT = drawn(1)[:, 0], drawn(2) * MASK_BT
    reward_N = flat(at_the_end(reward_B) - kl_coef * kl_BT)
    settings = {"baseline": baseline, "samples_per_prompt": GROUP}
    ours = advantages_of("reinforce_pp", experience_of(LENGTHS, {}, GROUP), reward_N, **settings)
    found = published(
        "openrlhf_advantages", {"reward": reward_B, "kl": kl_BT, "mask": MASK_BT.long()},
        estimator="reinforce" if baseline == "none" else "reinforce_baseline", group=GROUP, kl_coef=kl_coef,
    )  # fmt: skip
    assert_close(whiten(ours, EVERY_N), flat(found["advantage"]).to(ours.dtype), rtol=1e-5, atol=1e-5)


def test_reinforce_pp_with_a_group_is_verls_up_to_bessels_correction(published: Published) -> None:
    """verl gives every token the whole reward less the mean, so the reward stands at the end here."""
    reward_B = drawn(1)[:, 0]
    ours = advantages_of(
        "reinforce_pp", experience_of(LENGTHS, {}, GROUP), flat(at_the_end(reward_B)), baseline="group",
        samples_per_prompt=GROUP,
    )  # fmt: skip
    given = {"token_reward": at_the_end(reward_B), "mask": MASK_BT.long()}
    found = published("verl_advantages", given, estimator="reinforce_plus_plus_baseline", group=GROUP)
    assert_close((ours - ours.mean()) / ours.std(), flat(found["advantage"]), rtol=1e-5, atol=1e-5)
