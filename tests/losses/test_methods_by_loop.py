"""Loss and gradient of every method without a critic against a slow loop over floats that is written from its paper."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import pytest
import torch
from policy_batches import advantages_of, drawn, experience_of, loss_of
from torch.testing import assert_close

LENGTHS, GROUP = (3, 1, 4, 2, 5, 2), 3
COUNT = sum(LENGTHS)
PLACES = [range(sum(LENGTHS[:b]), sum(LENGTHS[: b + 1])) for b in range(len(LENGTHS))]
Loop = Callable[[list[float], list[float], list[float]], float]


def clip(ratio: float, advantage: float, low: float = 0.2, high: float = 0.2) -> float:
    """min(rho A, clip(rho) A)."""
    return min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)


def tokens(logps: list[float], olds: list[float], advantages: list[float], high: float = 0.2) -> list[float]:
    return [clip(math.exp(p - q), a, 0.2, high) for p, q, a in zip(logps, olds, advantages, strict=True)]


def grpo(logps: list[float], olds: list[float], advantages: list[float]) -> float:
    one = tokens(logps, olds, advantages)
    return -statistics.fmean(statistics.fmean(one[n] for n in places) for places in PLACES)


def dapo(logps: list[float], olds: list[float], advantages: list[float]) -> float:
    return -sum(tokens(logps, olds, advantages, high=0.28)) / COUNT


def dr_grpo(logps: list[float], olds: list[float], advantages: list[float]) -> float:
    return -sum(tokens(logps, olds, advantages)) / (len(LENGTHS) * 7)


def gspo(logps: list[float], olds: list[float], advantages: list[float]) -> float:
    ratios = [math.prod(math.exp(logps[n] - olds[n]) for n in places) ** (1 / len(places)) for places in PLACES]
    firsts = [advantages[places[0]] for places in PLACES]
    return -statistics.fmean(clip(ratio, a, 0.1, 0.15) for ratio, a in zip(ratios, firsts, strict=True))


def rloo(logps: list[float], olds: list[float], advantages: list[float]) -> float:
    ratios = [math.prod(math.exp(logps[n] - olds[n]) for n in places) for places in PLACES]
    firsts = [advantages[places[0]] for places in PLACES]
    return -statistics.fmean(clip(ratio, a) for ratio, a in zip(ratios, firsts, strict=True))


def plain(logps: list[float], olds: list[float], advantages: list[float]) -> float:
    return -sum(tokens(logps, olds, advantages)) / COUNT


CASES: dict[str, tuple[str, Loop, dict[str, object]]] = {
    "GRPO": ("grpo", grpo, {}),
    "DAPO": ("grpo", dapo, {"loss_normalisation": "token", "clip_range_high": 0.28}),
    "Dr. GRPO": ("grpo", dr_grpo, {"loss_normalisation": "constant", "max_tokens": 7}),
    "GSPO": ("gspo", gspo, {"clip_range_low": 0.1, "clip_range_high": 0.15}),
    "RLOO": ("rloo", rloo, {}),
    "REINFORCE": ("reinforce", plain, {}),
    "REINFORCE++": ("reinforce_pp", plain, {}),
}


def numerical(function: Callable[[list[float]], float], at: list[float]) -> list[float]:
    """Central differences."""

    def moved(place: int, by: float) -> float:
        return function([*at[:place], at[place] + by, *at[place + 1 :]])

    return [(moved(n, 1e-6) - moved(n, -1e-6)) / 2e-6 for n in range(len(at))]


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_the_loop(case: str) -> None:
    name, loop, settings = CASES[case]
    old_N, advantage_N = -drawn(COUNT, 1).abs(), drawn(COUNT, 2)
    if name in ("gspo", "rloo"):
        advantage_N = torch.cat([advantage_N[places[0]].expand(len(places)) for places in PLACES])
    logp_N = (old_N + drawn(COUNT, 3, 0.25)).requires_grad_()
    experience = experience_of(LENGTHS, {"logp": old_N, "advantage": advantage_N}, GROUP)
    loss = loss_of(name, experience, {"logp": logp_N}, **settings)
    olds, advantages = old_N.tolist(), advantage_N.tolist()
    assert loss.item() == pytest.approx(loop(logp_N.tolist(), olds, advantages))
    (gradient_N,) = torch.autograd.grad(loss, logp_N)
    slow = numerical(lambda logps: loop(logps, olds, advantages), logp_N.tolist())
    assert_close(gradient_N, torch.tensor(slow, dtype=torch.float64), rtol=1e-5, atol=1e-8)
    assert 0 < (gradient_N == 0).sum() < COUNT, "the clip should stop some tokens and not all"


def test_cispo_weighs_every_token_up_to_its_cap_and_stops_none() -> None:
    old_N, advantage_N = -drawn(COUNT, 1).abs(), drawn(COUNT, 2)
    logp_N = (old_N + drawn(COUNT, 3, 0.5)).requires_grad_()
    experience = experience_of(LENGTHS, {"logp": old_N, "advantage": advantage_N}, GROUP)
    loss = loss_of("cispo", experience, {"logp": logp_N}, max_importance_weight=1.3)
    ratios = [math.exp(p - q) for p, q in zip(logp_N.tolist(), old_N.tolist(), strict=True)]
    assert min(ratios) < 0.7 and max(ratios) > 1.3
    slow = [min(ratio, 1.3) * a for ratio, a in zip(ratios, advantage_N.tolist(), strict=True)]
    assert loss.item() == pytest.approx(-sum(w * p for w, p in zip(slow, logp_N.tolist(), strict=True)) / COUNT)
    (gradient_N,) = torch.autograd.grad(loss, logp_N)
    assert_close(gradient_N, -torch.tensor(slow, dtype=torch.float64) / COUNT)


def kept_of(reward_N: torch.Tensor, **settings: object) -> list[int]:
    """The samples that RAFT keeps."""
    kept_N = advantages_of("raft", experience_of(LENGTHS, {}, GROUP), reward_N, samples_per_prompt=GROUP, **settings)
    assert set(kept_N.tolist()) <= {0.0, 1.0}
    return [b for b, places in enumerate(PLACES) if kept_N[places[0]] == 1.0]


def test_raft_imitates_the_best_of_each_group() -> None:
    reward_N = drawn(COUNT, 4)
    totals = [sum(reward_N[n].item() for n in places) for places in PLACES]
    ranked = [sorted(range(at, at + GROUP), key=lambda b: -totals[b]) for at in range(0, len(totals), GROUP)]
    assert kept_of(reward_N) == sorted(group[0] for group in ranked)
    assert kept_of(reward_N, keep=2) == sorted(b for group in ranked for b in group[:2])
    bar = sorted(totals)[len(totals) // 2]
    assert kept_of(reward_N, keep=GROUP, min_reward=bar) == [b for b, total in enumerate(totals) if total >= bar]
    assert kept_of(torch.zeros(COUNT)) == [0, GROUP], "of equal ones, the first"

    advantage_N = advantages_of("raft", experience_of(LENGTHS, {}, GROUP), reward_N, samples_per_prompt=GROUP)
    logp_N = (-drawn(COUNT, 1).abs()).requires_grad_()
    experience = experience_of(LENGTHS, {"logp": logp_N.detach(), "advantage": advantage_N}, GROUP)
    own = [n for b in kept_of(reward_N) for n in PLACES[b]]
    loss = loss_of("raft", experience, {"logp": logp_N[own]})
    assert loss.item() == pytest.approx(-statistics.fmean(logp_N[n].item() for n in own))
    (gradient_N,) = torch.autograd.grad(loss, logp_N)
    assert gradient_N.tolist() == pytest.approx([-1 / len(own) if n in own else 0.0 for n in range(COUNT)])


@pytest.mark.parametrize("entropy_coef", [0.0, 0.3])
def test_online_dpo_is_dpo_on_the_best_and_the_worst_of_each_group(entropy_coef: float) -> None:
    reward_N, reference_N, logp_N = drawn(COUNT, 4), -drawn(COUNT, 5).abs(), -drawn(COUNT, 6).abs()
    totals = [sum(reward_N[n].item() for n in places) for places in PLACES]
    groups = [range(at, at + GROUP) for at in range(0, len(totals), GROUP)]
    sides = [(max(group, key=totals.__getitem__), min(group, key=totals.__getitem__)) for group in groups]
    experience = experience_of(LENGTHS, {"logp": logp_N, "reference_logp": reference_N}, GROUP)
    experience = experience.with_columns({"advantage": advantages_of("online_dpo", experience, reward_N)})
    own, entropies = [n for pair in sides for b in pair for n in PLACES[b]], drawn(COUNT, 7).abs()

    def loop(logps: list[float]) -> float:
        def ratio(b: int) -> float:
            return sum(logps[n] - reference_N[n].item() for n in PLACES[b])

        costs = [math.log1p(math.exp(-0.3 * (ratio(best) - ratio(worst)))) for best, worst in sides]
        entropy = statistics.fmean(sum(entropies[n].item() for n in PLACES[b]) for pair in sides for b in pair)
        return statistics.fmean(costs) - entropy_coef * entropy

    logp_N.requires_grad_()
    outputs = {"logp": logp_N[own], **({"entropy": entropies[own]} if entropy_coef else {})}
    loss = loss_of("online_dpo", experience, outputs, beta=0.3, entropy_coef=entropy_coef)
    assert loss.item() == pytest.approx(loop(logp_N.tolist()))
    (gradient_N,) = torch.autograd.grad(loss, logp_N)
    assert_close(gradient_N, torch.tensor(numerical(loop, logp_N.tolist()), dtype=torch.float64), rtol=1e-5, atol=1e-8)


def test_completions_of_equal_reward_are_no_pair() -> None:
    assert not advantages_of("online_dpo", experience_of(LENGTHS, {}, GROUP), torch.zeros(COUNT)).any()


def test_online_dpo_over_all_pairs_has_the_gradient_of_its_expectation() -> None:
    """Every pair that a policy over five words can write, each as likely as it is, against the sum written out."""
    logits_V = drawn(5, 1).requires_grad_()
    utility_V, reference_V = [0.0, 1.0, 0.5, 1.0, -1.0], torch.log_softmax(drawn(5, 2), 0)
    chance_V, logp_V = torch.softmax(logits_V, 0).detach(), torch.log_softmax(logits_V, 0)
    ratio_V = logp_V - reference_V
    expected = torch.zeros((), dtype=torch.float64)
    found_V = torch.zeros(5, dtype=torch.float64)
    for first in range(5):
        for second in range(5):
            words = torch.tensor([first, second])
            columns = {"logp": logp_V[words].detach(), "reference_logp": reference_V[words]}
            experience = experience_of((1, 1), columns, 2)
            reward_N = torch.tensor([utility_V[first], utility_V[second]])
            experience = experience.with_columns({"advantage": advantages_of("online_dpo", experience, reward_N)})
            likely, won = chance_V[first] * chance_V[second], utility_V[first] - utility_V[second]
            if not won:
                continue
            better, worse = (first, second) if won > 0 else (second, first)
            expected = expected + likely * torch.nn.functional.softplus(-0.2 * (ratio_V[better] - ratio_V[worse]))
            loss = loss_of("online_dpo", experience, {"logp": logp_V[torch.tensor([better, worse])]}, beta=0.2)
            found_V += likely * torch.autograd.grad(loss, logits_V, retain_graph=True)[0]
    assert_close(found_V, torch.autograd.grad(expected, logits_V)[0])


@pytest.mark.parametrize("normalisation", ["token", "sequence", "constant"])
def test_kl_and_entropy_are_averaged_as_the_policy_loss_is(normalisation: str) -> None:
    columns = {"logp": -drawn(COUNT, 1).abs(), "advantage": torch.zeros(COUNT, dtype=torch.float64)}
    outputs = {"logp": columns["logp"], "kl": drawn(COUNT, 2).abs(), "entropy": drawn(COUNT, 3).abs()}
    found = loss_of(
        "grpo", experience_of(LENGTHS, columns, GROUP), outputs, kl_coef=0.5, entropy_coef=0.25,
        loss_normalisation=normalisation, max_tokens=9,
    )  # fmt: skip
    each = (0.5 * outputs["kl"] - 0.25 * outputs["entropy"]).tolist()
    sums = [sum(each[n] for n in places) for places in PLACES]
    means = {
        "token": sum(sums) / COUNT,
        "sequence": statistics.fmean(one / length for one, length in zip(sums, LENGTHS, strict=True)),
        "constant": sum(sums) / (len(LENGTHS) * 9),
    }
    assert found.item() == pytest.approx(means[normalisation])


def repeated(values: list[float]) -> torch.Tensor:
    """A number of each sample at each of its tokens."""
    return torch.tensor([one for one, length in zip(values, LENGTHS, strict=True) for _ in range(length)])


def test_advantages_are_those_of_their_papers() -> None:
    token_rewards = drawn(COUNT, 4).float()
    experience = experience_of(LENGTHS, {}, GROUP)
    totals = [sum(token_rewards[n].item() for n in places) for places in PLACES]
    groups = [totals[start : start + GROUP] for start in range(0, len(totals), GROUP)]
    relative = [(r - statistics.fmean(g)) / (statistics.stdev(g) + 1e-4) for g in groups for r in g]
    centred = [r - statistics.fmean(g) for g in groups for r in g]
    others = [r - (sum(g) - r) / (GROUP - 1) for g in groups for r in g]
    for name in ("grpo", "gspo", "cispo"):
        assert_close(advantages_of(name, experience, token_rewards), repeated(relative))
        assert_close(advantages_of(name, experience, token_rewards, scale_by_std=False), repeated(centred))
    assert_close(advantages_of("rloo", experience, token_rewards), repeated(others))
    to_go = [sum(token_rewards[m].item() for m in places if m >= n) for places in PLACES for n in places]
    mean = statistics.fmean(totals)
    assert_close(advantages_of("reinforce", experience, token_rewards), torch.tensor([one - mean for one in to_go]))
    assert_close(advantages_of("reinforce_pp", experience, token_rewards), torch.tensor(to_go))
    means = repeated([statistics.fmean(g) for g in groups for _ in g])
    found = advantages_of("reinforce_pp", experience, token_rewards, baseline="group", samples_per_prompt=GROUP)
    assert_close(found, torch.tensor(to_go) - means)


def test_a_group_without_spread_has_no_advantage() -> None:
    reward_N = torch.zeros(COUNT)
    for places in PLACES:
        reward_N[places[-1]] = 0.1
    for name in ("grpo", "rloo"):
        assert advantages_of(name, experience_of(LENGTHS, {}, GROUP), reward_N).abs().max() < 1e-3
