"""Annotators' own heads: the posterior is the true one, directions are found again, and the spread is honest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from assent.model.personal_heads import (
    Beliefs,
    PersonalHeads,
    PersonalPairs,
    fit_people,
    negative_evidence,
    posterior,
)


@dataclass(frozen=True)
class Crowd:
    """Synthetic annotators whose z are known."""

    direction_KD: Tensor
    z_AK: Tensor
    pairs: PersonalPairs


def crowd(seed: int, annotators: int, labels: int, *, features: int = 12, rank: int = 2, size: float = 0.6) -> Crowd:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    direction_KD, z_AK, population_D = drawn(rank, features) * size, drawn(annotators, rank), drawn(features) * 0.3
    difference_PD, who_P = drawn(annotators * labels, features), torch.arange(annotators).repeat_interleave(labels)
    pairs = PersonalPairs(
        difference_PD=difference_PD, offset_P=difference_PD @ population_D, annotator_P=who_P,
        probability_P=torch.zeros(len(who_P), dtype=torch.float64),
    )  # fmt: skip
    chance_P = torch.sigmoid(pairs.logits(direction_KD, z_AK))
    pairs.probability_P.copy_((torch.rand(len(who_P), generator=generator, dtype=torch.float64) < chance_P).double())
    return Crowd(direction_KD, z_AK, pairs)


def grid(pairs: PersonalPairs, direction_KD: Tensor, prior: Beliefs) -> tuple[np.ndarray, np.ndarray]:
    """Every z of a fine grid in the plane, and the log of likelihood times prior there, for the only annotator."""
    axis = np.linspace(-5, 5, 401)
    z_GK = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    logit_GP = pairs.offset_P.numpy() + z_GK @ (pairs.difference_PD @ direction_KD.T).numpy().T
    away_GK = z_GK - prior.mean_AK[0].numpy()
    apart_G = 0.5 * np.einsum("gk,kl,gl->g", away_GK, prior.precision_AKK[0].numpy(), away_GK)
    norm = 0.5 * np.linalg.slogdet(prior.precision_AKK[0].numpy() / (2 * np.pi))[1]
    fit_G = (np.logaddexp(0, logit_GP) - pairs.probability_P.numpy() * logit_GP).sum(1)
    return z_GK, -fit_G - apart_G + norm + 2 * np.log(axis[1] - axis[0])


@pytest.mark.parametrize("labels", [0, 5, 60])
def test_the_mode_is_what_a_general_optimiser_finds_and_the_precision_is_the_hessian_there(labels: int) -> None:
    known = crowd(1, 3, labels)
    mean_AK = torch.tensor([[0.5, -1.0], [0.0, 0.0], [2.0, 0.3]], dtype=torch.float64)
    prior = Beliefs(
        mean_AK=mean_AK, precision_AKK=torch.eye(2, dtype=torch.float64) * torch.tensor([[[2.0]], [[1.0]], [[0.3]]])
    )
    found = posterior(known.direction_KD, known.pairs, prior)
    for place in range(3):
        mine = known.pairs.where(known.pairs.annotator_P == place)
        u_PK = mine.difference_PD @ known.direction_KD.T

        def loss(z_K: Tensor) -> Tensor:
            logit_P = mine.offset_P + u_PK @ z_K  # noqa: B023
            fit = torch.nn.functional.binary_cross_entropy_with_logits(logit_P, mine.probability_P, reduction="sum")  # noqa: B023
            away_K = z_K - mean_AK[place]  # noqa: B023
            return fit + 0.5 * away_K @ prior.precision_AKK[place] @ away_K  # noqa: B023

        start = minimize(lambda z: float(loss(torch.from_numpy(z))), np.zeros(2), method="Nelder-Mead",
                         options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000})  # fmt: skip
        np.testing.assert_allclose(found.mean_AK[place], start.x, atol=1e-6)
        hessian_KK = torch.autograd.functional.hessian(loss, found.mean_AK[place])
        torch.testing.assert_close(found.precision_AKK[place], hessian_KK)


def test_posterior_and_evidence_are_the_integrals_over_a_grid() -> None:
    known = crowd(2, 1, 40)
    stranger = Beliefs.of_strangers(1, 2)
    found = posterior(known.direction_KD, known.pairs, stranger)
    z_GK, log_G = grid(known.pairs, known.direction_KD, stranger)
    weight_G = np.exp(log_G - log_G.max())
    weight_G /= weight_G.sum()
    true_K = weight_G @ z_GK
    true_KK = np.einsum("g,gk,gl->kl", weight_G, z_GK - true_K, z_GK - true_K)
    assert np.abs(found.mean_AK[0].numpy() - true_K).max() < 0.12
    np.testing.assert_allclose(torch.linalg.inv(found.precision_AKK[0]), true_KK, atol=0.03)
    evidence = float(np.logaddexp.reduce(log_G))
    assert -float(negative_evidence(known.direction_KD, known.pairs, 1)) == pytest.approx(evidence, abs=0.1)


def test_labels_in_two_parts_say_nearly_the_same_as_all_at_once() -> None:
    known = crowd(3, 4, 60)
    first_P = torch.arange(len(known.pairs.offset_P)) % 2 == 0
    stranger = Beliefs.of_strangers(4, 2)
    half = posterior(known.direction_KD, known.pairs.where(first_P), stranger)
    both = posterior(known.direction_KD, known.pairs.where(~first_P), half)
    whole = posterior(known.direction_KD, known.pairs, stranger)
    spread_AK = torch.linalg.inv(whole.precision_AKK).diagonal(dim1=1, dim2=2).sqrt()
    assert ((both.mean_AK - whole.mean_AK).abs() < spread_AK).all()
    assert (torch.linalg.inv(both.precision_AKK).diagonal(dim1=1, dim2=2).sqrt() / spread_AK - 1).abs().max() < 0.25


def test_the_gradient_of_the_evidence_is_that_of_finite_differences() -> None:
    known = crowd(4, 5, 8, features=4)
    start_KD = (known.direction_KD + 0.1).clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda u: negative_evidence(u, known.pairs, 5), (start_KD,), atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_directions_and_annotators_are_found_again(seed: int) -> None:
    known = crowd(seed, 30, 60)
    judgement_P = torch.arange(len(known.pairs.offset_P))
    found = fit_people(known.pairs, [f"a{place}" for place in range(30)], judgement_P, rank=2)
    true_AD, mine_AD = known.z_AK @ known.direction_KD, found.beliefs.mean_AK @ found.direction_KD
    assert np.corrcoef(true_AD.flatten(), mine_AD.flatten())[0, 1] > 0.93
    bases = [torch.linalg.qr(one.T)[0] for one in (known.direction_KD, found.direction_KD)]
    assert torch.linalg.svdvals(bases[0].T @ bases[1]).min() > 0.95


def test_the_error_of_newcomers_with_few_labels_is_as_large_as_their_spread_says() -> None:
    known = crowd(5, 300, 20, size=0.3)
    found = posterior(known.direction_KD, known.pairs, Beliefs.of_strangers(300, 2))
    off_AK = known.z_AK - found.mean_AK
    distance_A = torch.einsum("ak,akl,al->a", off_AK, found.precision_AKK, off_AK)  # chi-squared with 2 degrees
    assert 1.6 < float(distance_A.mean()) < 2.4 and 0.9 < float((distance_A < 5.99).double().mean()) < 0.99
    assert float(off_AK.square().sum()) < 0.6 * float(known.z_AK.square().sum())


def test_strangers_have_the_populations_head_and_a_group_the_mean_of_its_members(tmp_path: Path) -> None:
    known = crowd(6, 4, 30)
    people = fit_people(known.pairs, ["a", "b", "c", "d"], torch.arange(120), rank=2)
    assert not people.shift(["nobody"]).any()
    torch.testing.assert_close(people.shift(["a", "b"]), (people.shift(["a"]) + people.shift(["b"])) / 2)
    assert set(people.save(tmp_path / "people")) == {file.name for file in (tmp_path / "people").iterdir()}
    again = PersonalHeads.load(tmp_path / "people")
    assert again.names == people.names
    torch.testing.assert_close(again.shift(["c"]), people.shift(["c"]), rtol=0, atol=0)


def test_an_update_takes_in_newcomers_and_leaves_the_others_alone() -> None:
    known = crowd(7, 4, 30)
    old_P = known.pairs.annotator_P < 3
    people = fit_people(known.pairs.where(old_P), ["a", "b", "c"], torch.arange(90), rank=2)
    new = known.pairs.where(~old_P)
    new.annotator_P.zero_()
    both = people.updated(new, ["d"])
    assert both.names == ("a", "b", "c", "d") and people.names == ("a", "b", "c")
    torch.testing.assert_close(both.shift(["b"]), people.shift(["b"]), rtol=0, atol=0)
    assert both.shift(["d"]).any() and not people.shift(["d"]).any()
    more = both.updated(new, ["d"])  # the same labels again: more certain still
    assert torch.linalg.det(more.beliefs.precision_AKK[3]) > torch.linalg.det(both.beliefs.precision_AKK[3])
