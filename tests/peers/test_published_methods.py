"""Whole methods on preferences, from log-probabilities of tokens on, equal trl's trainers in value and in gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers.comparing import LENGTHS, MASK_BT, Published, drawn, flat, same
from policy_batches import advantages_of, experience_of, method_of
from torch import Tensor
from torch.testing import assert_close

from assent.algorithms.dpo import DPO_PAIRS, DPOSettings
from assent.algorithms.kto import KTO, Answer, KTOSettings, LabelledAnswer
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.preference.log_ratios import log_ratios
from assent.algorithms.preference.pairs import EncodedPair
from assent.ports.learning import Outputs
from assent.text.template import Encoded

pytestmark = pytest.mark.peers
LOGP, REFERENCE, KL, REFERENCE_KL = (-drawn(seed).abs() - 0.05 for seed in (1, 2, 3, 4))
PAIRS = len(LENGTHS) // 2
ORDER = [side for pair in range(PAIRS) for side in (pair, PAIRS + pair)]  # ours alternates, trl has the chosen first


def encoded(length: int) -> Encoded:
    return Encoded(ids=(1,) * (length + 1), assistant_mask=(False,) + (True,) * length)


def rows(tensor_BT: Tensor, mask_BT: Tensor = MASK_BT) -> list[Tensor]:
    return [row_T[kept_T] for row_T, kept_T in zip(tensor_BT, mask_BT, strict=True)]


def our_pairs(mask_BT: Tensor) -> list[EncodedPair]:
    lengths, reference = mask_BT.sum(1).tolist(), rows(REFERENCE, mask_BT)
    return [
        EncodedPair(
            chosen=encoded(lengths[pair]), rejected=encoded(lengths[PAIRS + pair]), probability=1.0, group=pair,
            reference_logp_M=torch.cat([reference[pair], reference[PAIRS + pair]]),
        )
        for pair in range(PAIRS)
    ]  # fmt: skip


def pair_case(settings: dict[str, Any], mask_BT: Tensor = MASK_BT) -> tuple[Tensor, Tensor]:
    """Loss and gradient of DPO (B, T)."""
    logp_BT = LOGP.clone().requires_grad_()
    logp_M = torch.cat([rows(logp_BT, mask_BT)[place] for place in ORDER])
    found = DPO_PAIRS.step_loss(
        Outputs(columns={"logp": logp_M}), our_pairs(mask_BT), float(PAIRS), settings=DPOSettings(**settings)
    )
    return found.loss, torch.autograd.grad(found.loss, logp_BT)[0]


DPO_FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "DPO": ({}, {"loss_types": ["sigmoid"]}),
    "hinge": ({"form": "hinge"}, {"loss_types": ["hinge"]}),
    "IPO, of means": ({"form": "ipo"}, {"loss_types": ["ipo"]}),
    "robust": ({"form": "robust", "label_smoothing": 0.2}, {"loss_types": ["robust"], "label_smoothing": 0.2}),
    "NCA": ({"form": "nca"}, {"loss_types": ["nca_pair"]}),
    "of means": ({"length_normalised": True}, {"loss_types": ["sigmoid_norm"]}),
}


@pytest.mark.parametrize("form", DPO_FORMS)
def test_forms_of_dpo(form: str, published: Published) -> None:
    ours, theirs = DPO_FORMS[form]
    loss, gradient_BT = pair_case({"beta": 0.3, **ours})
    found = published(
        "trl_dpo_loss", {"logp": LOGP, "reference_logp": REFERENCE, "mask": MASK_BT.long()},
        **{"beta": 0.3, "loss_weights": [1.0], **theirs},
    )  # fmt: skip
    assert_close(loss.detach(), found["loss"], rtol=1e-6, atol=1e-9)
    assert_close(gradient_BT, found["gradient/logp"], rtol=1e-6, atol=1e-9)


def test_trl_leaves_the_smoothing_of_cdpo_out(published: Published) -> None:
    given = {"logp": LOGP, "reference_logp": REFERENCE, "mask": MASK_BT.long()}
    settings: dict[str, Any] = {"beta": 0.3, "loss_types": ["sigmoid"], "loss_weights": [1.0]}
    theirs = [published("trl_dpo_loss", given, **settings, label_smoothing=wrong)["loss"] for wrong in (0.0, 0.2)]
    assert theirs[0] == theirs[1] and pair_case({"beta": 0.3, "label_smoothing": 0.2})[0] != theirs[0]


def test_rpo_where_all_answers_are_equally_long(published: Published) -> None:
    """trl takes the mean over the tokens of all chosen answers, RPO and ours the mean over pairs of means."""
    mask_BT = torch.ones_like(MASK_BT)
    loss, gradient_BT = pair_case({"beta": 0.3, "sft_coef": 0.7}, mask_BT)
    found = published(
        "trl_dpo_loss", {"logp": LOGP, "reference_logp": REFERENCE, "mask": mask_BT.long()},
        beta=0.3, loss_types=["sigmoid", "sft"], loss_weights=[1.0, 0.7],
    )  # fmt: skip
    assert_close(loss.detach(), found["loss"], rtol=1e-6, atol=1e-9)
    assert_close(gradient_BT, found["gradient/logp"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("worse", [0.0, 2.0])
def test_kto_and_its_point(worse: float, published: Published) -> None:
    """`worse` moves the point z from above 0 to where it is held at 0."""
    label_B, kl_BT = (torch.arange(len(LENGTHS)) % 3 > 0).double(), KL - worse + 1.0
    given = [
        Answer(encoded=encoded(length), reference_logp_M=reference_M)
        for length, reference_M in zip(LENGTHS, rows(REFERENCE), strict=True)
    ]
    others = [
        Answer(encoded=encoded(length), reference_logp_M=reference_M)
        for length, reference_M in zip(LENGTHS, rows(REFERENCE_KL), strict=True)
    ]
    items = [
        LabelledAnswer(answer=answer, label=label, mismatched=other)
        for answer, label, other in zip(given, label_B.tolist(), others, strict=True)
    ]
    point = max(0.0, log_ratios(Outputs(columns={"logp": flat(kl_BT)}), others).mean().item())
    assert (point == 0.0) is (worse > 1.0)
    settings = KTOSettings(beta=0.3, desirable_weight=1.5, undesirable_weight=0.8)
    logp_N = flat(LOGP).requires_grad_()
    loss = KTO.objective(items, settings).loss(Outputs(columns={"logp": logp_N}), items, float(len(items)), point).loss
    theirs = {
        "logp": LOGP, "reference_logp": REFERENCE, "kl": kl_BT, "reference_kl": REFERENCE_KL, "label": label_B,
        "mask": MASK_BT.long(),
    }  # fmt: skip
    settings_of_trl = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.8}
    same(loss, logp_N, published("trl_kto_loss", theirs, **settings_of_trl))


@pytest.mark.parametrize("form", ["sigmoid", "ipo"])
def test_online_dpo(form: str, published: Published) -> None:
    """trl's IPO here is of sums, and it trains on pairs of equal reward, which are no pairs of ours."""
    reward_B = drawn(7)[:, 0]
    lengths = [LENGTHS[place] for place in ORDER]
    columns = {
        name: torch.cat([rows(one)[place] for place in ORDER])
        for name, one in (("reference_logp", REFERENCE), ("logp", LOGP))
    }
    experience = experience_of(lengths, columns, 2)
    token_N = experience.at_ends(reward_B[ORDER])
    experience = experience.with_columns({"advantage": advantages_of("online_dpo", experience, token_N)})
    method, settings = method_of("online_dpo", beta=0.3, form=form, length_normalised=False)
    pairs = method.learned(experience.samples, settings)
    logp_BT = LOGP.clone().requires_grad_()
    assert len(pairs) == PAIRS
    by_sample = {id(sample): rows(logp_BT)[place] for sample, place in zip(experience.samples, ORDER, strict=True)}
    logp_M = torch.cat([by_sample[id(side)] for pair in pairs for side in (pair.chosen, pair.rejected)])
    loss = method.loss(
        Outputs(columns={"logp": logp_M}), pairs, method.count(pairs), settings=settings, kl=KLShaping.of(settings)
    ).loss
    found = published(
        "trl_online_dpo_loss",
        {"reward": reward_B, "logp": LOGP, "reference_logp": REFERENCE, "mask": MASK_BT.long()},
        beta=0.3, loss_type=form,
    )  # fmt: skip
    assert_close(loss.detach(), found["loss"], rtol=1e-6, atol=1e-9)
    assert_close(torch.autograd.grad(loss, logp_BT)[0], found["gradient/logp"], rtol=1e-6, atol=1e-9)
