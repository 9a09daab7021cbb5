"""The local learner against PyTorch's optimiser, and what only it can do: kept states, clipping, whole examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from learners import critic, full_weights, plain_loss, rows, with_reference
from small_models import body_of, causal_lm
from torch.testing import assert_close

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.epochs import TrainSettings
from assent.algorithms.ppo import PPOSettings
from assent.algorithms.pretrain import PretrainSettings
from assent.algorithms.reward import EncodedPreference, RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.backends.local.learner import LocalLearner
from assent.model.checkpoints import load_tree
from assent.model.flat import flatten
from assent.model.roles import LanguageRole
from assent.ports.learning import LearnerSettings, LossResult, Need, Outputs, Roles
from assent.recipes.training.prepare import learner_settings

EVERY = Need(kl=True, entropy=True)


def test_hidden_states_at_hand_spare_the_policys_pass_and_say_the_same() -> None:
    roles, examples, passes = with_reference(), rows(), []
    learner = LocalLearner(roles)
    read = learner.score(examples, EVERY)
    assert roles.policy is not None
    with torch.no_grad():
        states = [roles.policy.hidden(flatten([one.ids])).numpy() for one in examples]
    roles.policy.body.trunk.register_forward_hook(lambda *_: passes.append(1))
    told = learner.score(examples, EVERY, states=states)
    assert len(passes) == 1 and [one.from_states for one in told] == [False, True, True, True, True, True]
    for one, two in zip(read, told, strict=True):
        assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one.columns)


def test_the_kl_to_the_reference_is_zero_at_the_start_and_never_negative() -> None:
    body, still = body_of(causal_lm("llama")), body_of(causal_lm("llama"))
    learner = LocalLearner(Roles(policy=LanguageRole(body), reference=LanguageRole(still)))
    first = Outputs.joined(learner.score(rows(), EVERY))
    assert first["kl"].abs().max() < 1e-6
    assert_close(first["reference_logp"], first["logp"])
    for step in range(3):
        learner.update(rows(step), Need(), plain_loss, 30.0, 1e-2)
    later = Outputs.joined(learner.score(rows(), EVERY))
    assert later["kl"].min() >= 0.0 and later["kl"].mean() > 1e-4
    assert_close(later["reference_logp"], first["reference_logp"])
    alone = Outputs.joined(learner.score(rows(), Need(reference_logp=True)))
    assert_close(alone["reference_logp"], first["reference_logp"])


def test_the_gradient_is_clipped_to_the_norm_and_reported_before(tmp_path: Path) -> None:
    settings = LearnerSettings()
    learner = LocalLearner(full_weights(), settings)
    report = learner.update(rows(), Need(), plain_loss, 1.0, 1e-3)
    assert report.gradient_norm > settings.max_gradient_norm
    learner.save(tmp_path)
    moments = load_tree(tmp_path)["moments"].values()
    total = sum(float(one["exp_avg"].square().sum()) for one in moments if one) ** 0.5 / (1 - settings.beta1)
    assert total == pytest.approx(settings.max_gradient_norm, rel=1e-3)


def test_a_judgement_is_never_split_and_its_rewards_come_in_its_order() -> None:
    long, short, middle = rows()[0], rows()[4], rows()[3]
    judgement = EncodedPreference(sequences=(long, short, middle))
    learner = LocalLearner(Roles(scalar=critic(body_of(causal_lm("llama")))), LearnerSettings(micro_batch_tokens=1))
    need, seen = Need(logp=False, logits=True), []

    def loss(outputs: Outputs, run: Sequence[EncodedPreference], count: float) -> LossResult:
        seen.append(outputs["logits"].detach()[:, 0])
        return LossResult(loss=outputs["logits"].sum(), sums={}, count=count)

    learner.update([judgement, judgement], need, loss, 2.0, 0.0)
    apart = torch.cat([one["logits"][:, 0] for one in learner.score([long, short, middle], need)])
    assert len(seen) == 2
    for rewards in seen:
        assert_close(rewards, apart, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [SFTSettings, RewardSettings, DPOSettings, PPOSettings, PretrainSettings])
def test_the_betas_of_every_method_are_torchs_for_its_steps(kind: type[TrainSettings]) -> None:
    """Three steps of the settings' optimiser and of torch.optim.AdamW on the same gradients end at the same weights."""
    settings = learner_settings(kind(adam_beta1=0.8, adam_beta2=0.7, weight_decay=0.1))
    mine, other = (full_weights().policy for _ in range(2))
    assert mine is not None and other is not None
    learner = LocalLearner(Roles(policy=mine), settings)
    weights = list(other.parameters().values())
    theirs = torch.optim.AdamW(
        [{"params": [one for one in weights if one.ndim >= 2], "weight_decay": 0.1},
         {"params": [one for one in weights if one.ndim < 2], "weight_decay": 0.0}],
        lr=1e-2, betas=(0.8, 0.7), eps=1e-8,
    )  # fmt: skip
    for step in range(3):
        learner.update(rows(step), Need(), plain_loss, 1e6, 1e-2)  # below the norm that is clipped
        theirs.zero_grad()
        reader = LocalLearner(Roles(policy=other))
        outputs = reader._forward(reader._blocks(rows(step), Need(), 8192), Need())
        plain_loss(outputs, rows(step), 1e6).loss.backward()
        theirs.step()
    for one, two in zip(mine.parameters().values(), weights, strict=True):
        assert_close(one, two, atol=1e-5, rtol=1e-4)
    assert (SFTSettings().adam_beta1, SFTSettings().adam_beta2) == (LearnerSettings().beta1, LearnerSettings().beta2)
