"""Best-of-n: which completion is taken, and how far the result is from the policy."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from fakes import LengthScorer, WordSampler
from training_jobs import CPU, PROMPTS

from assent.algorithms.best_of_n import BestOfN, Candidates
from assent.evals.scaling_fits import best_of_n_kl
from assent.ports.sampling import SamplingParams
from assent.recipes.run.models import load_language_model


def exact_kl(chances: list[float], n: int) -> float:
    """KL(best of n || policy) where completion i has the i-th lowest reward: F_i^n - F_(i-1)^n is its chance."""
    total, below = 0.0, 0.0
    for chance in chances:
        upto = below + chance
        best = min(upto, 1.0) ** n - below**n
        total += best * math.log(best / chance) if best > 0 else 0.0
        below = upto
    return total


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_the_bound_holds_and_is_reached_without_ties(n: int) -> None:
    assert exact_kl([0.5, 0.2, 0.3], n) <= best_of_n_kl(n) + 1e-12
    assert exact_kl([1 / 20000] * 20000, n) == pytest.approx(best_of_n_kl(n), abs=1e-2)
    assert best_of_n_kl(1) == 0.0


def test_the_best_of_each_prompt_is_taken(folders: dict[str, Path]) -> None:
    sampler = WordSampler(load_language_model(str(folders["llama"]), machine=CPU).template)
    best_of, sampling = BestOfN(sampler=sampler, scorer=LengthScorer(), n=5), SamplingParams(max_tokens=4)
    prompts = [*PROMPTS[:3], PROMPTS[0]]
    found = best_of.candidates(prompts, sampling=sampling, seed=3)
    written = sampler.sample(prompts, sampling=sampling, seed=3, n=5)
    assert [turn for one in found for turn in one.turns] == written
    for one in found:
        assert one.rewards == tuple(float(len(turn.completion.text)) for turn in one.turns)
        assert one.rewards[one.best] == max(one.rewards)
    assert found[0].turns != found[3].turns, "the same prompt twice has other candidates"
    counts: list[int] = []
    best = best_of.sample(prompts, sampling=sampling, seed=3, progress=counts.append)
    assert best == [one.turns[one.best] for one in found] and sum(counts) == len(prompts)


def test_of_equal_candidates_the_first_is_best() -> None:
    assert Candidates(turns=(), rewards=(0.0, 1.0, 1.0)).best == 1
