"""People who differ: one linear reward head per annotator on one trunk, w_a = w + U' z_a.

Annotator a prefers the better answer of pair p with the log odds

    o_p + u_p.z_a,    o_p = w.d_p - margin_p,    u_p = U d_p,    z_a ~ N(0, I) over annotators,

d_p being the difference of what the head w reads of the two answers. Given labels y_p, Laplace's posterior of z_a is
N(m_a, H_a^-1): m_a minimises the convex L_a, and H_a is the Hessian there (MacKay 1992):

    L_a(z) = sum_p [log(1 + exp(o_p + u_p.z)) - y_p (o_p + u_p.z)] + 1/2 (z - m)' S (z - m)

The prior N(m, S^-1) is N(0, I), or the posterior of what was labelled before. Of whom nothing is known, z is 0 and the
head is the population's w. U makes the labels of all annotators likeliest:

    minimise over U    sum_a [L_a(m_a) + 1/2 log det H_a] + |U|^2 / (2 spread^2)

on features of unit spread, where `spread` is the one that foretells a held-out part of the judgements best.

Legend: P pairs, D features, K directions (the rank), A annotators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import softplus

from assent.model.checkpoints import load_tree, save_tree
from assent.seeds import numpy_rng

NEWTON_STEPS, CLOSE_ENOUGH = 50, 1e-12
LBFGS_STEPS = 100
SPREADS = (0.01, 0.03, 0.1)  # tried in turn
HELD_OUT_SHARE = 0.2  # of the judgements, to choose among them


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalPairs:
    """Labelled pairs in float64: `difference_PD` is d, `offset_P` the log odds by the population's head.

    `probability_P` is that of the better side to win, `annotator_P` the place of who labelled it.
    """

    difference_PD: Tensor
    offset_P: Tensor
    probability_P: Tensor
    annotator_P: Tensor

    def where(self, chosen_P: Tensor) -> PersonalPairs:
        """Some of them."""
        return PersonalPairs(
            difference_PD=self.difference_PD[chosen_P], offset_P=self.offset_P[chosen_P],
            probability_P=self.probability_P[chosen_P], annotator_P=self.annotator_P[chosen_P],
        )  # fmt: skip

    def logits(self, direction_KD: Tensor, z_AK: Tensor) -> Tensor:
        """The log odds by each pair's own annotator."""
        return self.offset_P + (self.difference_PD @ direction_KD.T * z_AK[self.annotator_P]).sum(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """What is known of each annotator's z: a Gaussian with this mean and this inverse covariance."""

    mean_AK: Tensor
    precision_AKK: Tensor

    @staticmethod
    def of_strangers(annotators: int, rank: int) -> Beliefs:
        """N(0, I) for each."""
        eye_KK = torch.eye(rank, dtype=torch.float64)
        return Beliefs(mean_AK=eye_KK.new_zeros(annotators, rank), precision_AKK=eye_KK.repeat(annotators, 1, 1))


@dataclass(frozen=True, slots=True)
class _Labels:
    """Pairs as the directions read them."""

    u_PK: Tensor
    pairs: PersonalPairs

    def loss(self, z_AK: Tensor, prior: Beliefs) -> Tensor:
        """L_a (A)."""
        logit_P = self.pairs.offset_P + (self.u_PK * z_AK[self.pairs.annotator_P]).sum(1)
        misfit_P = softplus(logit_P) - self.pairs.probability_P * logit_P
        away_AK = z_AK - prior.mean_AK
        apart_A = 0.5 * torch.einsum("ak,akl,al->a", away_AK, prior.precision_AKK, away_AK)
        return apart_A.index_add(0, self.pairs.annotator_P, misfit_P)

    def derivatives(self, z_AK: Tensor, prior: Beliefs) -> tuple[Tensor, Tensor]:
        """The gradient (A, K) and the Hessian (A, K, K) of L_a."""
        u_PK, who_P = self.u_PK, self.pairs.annotator_P
        chance_P = torch.sigmoid(self.pairs.offset_P + (u_PK * z_AK[who_P]).sum(1))
        slope_AK = torch.einsum("akl,al->ak", prior.precision_AKK, z_AK - prior.mean_AK)
        slope_AK = slope_AK.index_add(0, who_P, (chance_P - self.pairs.probability_P)[:, None] * u_PK)
        weighed_PK = (chance_P * (1 - chance_P))[:, None] * u_PK
        return slope_AK, prior.precision_AKK.index_add(0, who_P, weighed_PK[:, :, None] * u_PK[:, None, :])


def posterior(direction_KD: Tensor, pairs: PersonalPairs, prior: Beliefs) -> Beliefs:
    """What is known after the labels; Newton's method, with steps halved until none ascends."""
    labels, mean_AK = _Labels(pairs.difference_PD @ direction_KD.T, pairs), prior.mean_AK
    for _ in range(NEWTON_STEPS):
        now_A, (slope_AK, curvature_AKK) = labels.loss(mean_AK, prior), labels.derivatives(mean_AK, prior)
        step_AK, near_A = torch.linalg.solve(curvature_AKK, slope_AK), CLOSE_ENOUGH * (1 + now_A)
        if ((slope_AK * step_AK).sum(1) <= near_A).all():
            break
        while (ascends_A := labels.loss(mean_AK - step_AK, prior) > now_A + near_A).any():
            step_AK = torch.where(ascends_A[:, None], step_AK / 2, step_AK)
        mean_AK = mean_AK - step_AK
    return Beliefs(mean_AK=mean_AK, precision_AKK=curvature_AKK)


def negative_evidence(direction_KD: Tensor, pairs: PersonalPairs, annotators: int) -> Tensor:
    """-log P(labels | U) by Laplace's approximation, but for a constant; differentiable.

    A Newton step from the mode stays there, and its derivative is that of the mode.
    """
    prior = Beliefs.of_strangers(annotators, len(direction_KD))
    with torch.no_grad():
        mode_AK = posterior(direction_KD, pairs, prior).mean_AK
    labels = _Labels(pairs.difference_PD @ direction_KD.T, pairs)
    slope_AK, curvature_AKK = labels.derivatives(mode_AK, prior)
    mode_AK = mode_AK - torch.linalg.solve(curvature_AKK, slope_AK)
    return (labels.loss(mode_AK, prior) + 0.5 * torch.logdet(labels.derivatives(mode_AK, prior)[1])).sum()


def fit_directions(pairs: PersonalPairs, annotators: int, *, rank: int, spread: float) -> Tensor:
    """U (K, D), starting where the annotators' labels differ most from the population's head.

    The pull towards 0 leaves it too small: it is scaled so that z has the spread of its prior.
    """
    wrong_P = pairs.probability_P - torch.sigmoid(pairs.offset_P)
    slope_AD = pairs.difference_PD.new_zeros(annotators, pairs.difference_PD.shape[1])
    slope_AD.index_add_(0, pairs.annotator_P, wrong_P[:, None] * pairs.difference_PD)
    count_A = torch.bincount(pairs.annotator_P, minlength=annotators)
    _, size_K, basis_KD = torch.linalg.svd(slope_AD / (count_A / 4 + spread**-2)[:, None], full_matrices=False)
    start_KD = size_K[:rank, None] / annotators**0.5 * basis_KD[:rank]
    direction_KD = start_KD.contiguous().requires_grad_()
    optimiser = torch.optim.LBFGS([direction_KD], max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        found = negative_evidence(direction_KD, pairs, annotators) + 0.5 * direction_KD.square().sum() / spread**2
        found.backward()
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    found = posterior(direction_KD.detach(), pairs, Beliefs.of_strangers(annotators, len(start_KD)))
    spread_KK = (found.mean_AK.T @ found.mean_AK + torch.linalg.inv(found.precision_AKK).sum(0)) / annotators
    scaled_KD: Tensor = torch.linalg.cholesky(spread_KK).T @ direction_KD.detach()
    return scaled_KD


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalHeads:
    """The annotators of a reward model; `direction_KD` reads features as they are."""

    names: tuple[str, ...]
    direction_KD: Tensor
    beliefs: Beliefs

    def shift(self, names: Sequence[str]) -> Tensor:
        """What the mean of these annotators' heads has beyond the population's (D); a stranger's has nothing."""
        z_NK = torch.stack([self._belief(name)[0] for name in names])
        return z_NK.mean(0) @ self.direction_KD

    def _belief(self, name: str) -> tuple[Tensor, Tensor]:
        """Mean and precision."""
        if name not in self.names:
            rank = len(self.direction_KD)
            return self.direction_KD.new_zeros(rank), torch.eye(rank, dtype=torch.float64)
        place = self.names.index(name)
        return self.beliefs.mean_AK[place], self.beliefs.precision_AKK[place]

    def updated(self, pairs: PersonalPairs, names: Sequence[str]) -> PersonalHeads:
        """With what `names`, the annotators of the pairs, have labelled now; strangers among them join."""
        everybody = tuple(dict.fromkeys((*self.names, *names)))
        means, precisions = zip(*map(self._belief, everybody), strict=True)
        prior = Beliefs(mean_AK=torch.stack(means), precision_AKK=torch.stack(precisions))
        place_A = torch.tensor([everybody.index(name) for name in names])
        placed = PersonalPairs(
            difference_PD=pairs.difference_PD, offset_P=pairs.offset_P, probability_P=pairs.probability_P,
            annotator_P=place_A[pairs.annotator_P],
        )  # fmt: skip
        beliefs = posterior(self.direction_KD, placed, prior)
        return PersonalHeads(names=everybody, direction_KD=self.direction_KD, beliefs=beliefs)

    def questions(self, pairs: PersonalPairs, count: int) -> list[int]:
        """The places of the pairs whose labels would say most of a stranger: greedily, those with the largest
        p (1 - p) u' S u, where S is the covariance that the answers so far would leave (D-optimal design)."""
        u_PK, chance_P = pairs.difference_PD @ self.direction_KD.T, torch.sigmoid(pairs.offset_P)
        weight_P = chance_P * (1 - chance_P)
        precision_KK = torch.eye(u_PK.shape[1], dtype=torch.float64)
        chosen: list[int] = []
        for _ in range(min(count, len(weight_P))):
            told_P = weight_P * (u_PK @ torch.linalg.inv(precision_KK) * u_PK).sum(1)
            told_P[chosen] = -1.0
            chosen.append(int(told_P.argmax()))
            precision_KK = precision_KK + weight_P[chosen[-1]] * torch.outer(u_PK[chosen[-1]], u_PK[chosen[-1]])
        return chosen

    def save(self, folder: Path) -> dict[str, str]:
        """Write two files; gives the sha256 of each by name."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"direction": self.direction_KD, "mean": self.beliefs.mean_AK}
        return save_tree(folder, {"names": list(self.names), **tensors, "precision": self.beliefs.precision_AKK})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The reverse of `save`."""
        tree = load_tree(folder)
        beliefs = Beliefs(mean_AK=tree["mean"], precision_AKK=tree["precision"])
        return cls(names=tuple(tree["names"]), direction_KD=tree["direction"], beliefs=beliefs)


def fit_people(pairs: PersonalPairs, names: Sequence[str], judgement_P: Tensor, *, rank: int) -> PersonalHeads:
    """The heads of `names`, the annotators of the pairs; pairs of one judgement are held out together."""
    scale_D = pairs.difference_PD.std(0) + 1e-6
    scaled = PersonalPairs(
        difference_PD=pairs.difference_PD / scale_D, offset_P=pairs.offset_P, probability_P=pairs.probability_P,
        annotator_P=pairs.annotator_P,
    )  # fmt: skip
    drawn_J = torch.from_numpy(numpy_rng(0, "held-out judgements").random(int(judgement_P.max()) + 1))
    held_P = (drawn_J < HELD_OUT_SHARE)[judgement_P]
    losses = {
        spread: _held_out_loss(scaled.where(~held_P), scaled.where(held_P), len(names), rank=rank, spread=spread)
        for spread in SPREADS
    }
    direction_KD = fit_directions(scaled, len(names), rank=rank, spread=min(losses, key=losses.__getitem__))
    beliefs = posterior(direction_KD, scaled, Beliefs.of_strangers(len(names), len(direction_KD)))
    return PersonalHeads(names=tuple(names), direction_KD=direction_KD / scale_D, beliefs=beliefs)


def _held_out_loss(known: PersonalPairs, unknown: PersonalPairs, annotators: int, *, rank: int, spread: float) -> float:
    direction_KD = fit_directions(known, annotators, rank=rank, spread=spread)
    beliefs = posterior(direction_KD, known, Beliefs.of_strangers(annotators, len(direction_KD)))
    logit_P = unknown.logits(direction_KD, beliefs.mean_AK)
    return float((softplus(logit_P) - unknown.probability_P * logit_P).sum())
