"""Groups in which all completions have the same reward are replaced, and long completions cost something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from training_jobs import CPU, PROMPTS

from assent.algorithms.grpo import GRPO, GRPOSettings
from assent.algorithms.on_policy.refilling import Refilled, refilled
from assent.algorithms.on_policy.reward_signal import overlong_penalty
from assent.algorithms.on_policy.rollout import Observer, Rollout, Scored
from assent.algorithms.on_policy.task import OnPolicyTask
from assent.errors import ConfigError
from assent.interrupts import StopRequest
from assent.metrics import Metrics, without_timings
from assent.recipes.run.models import load_language_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.training.prepare import Prepared
from assent.recipes.training.prepare_on_policy import prepare_on_policy
from assent.types import Completion, Conversation, Group, Trajectory


def group(name: str, *rewards: float) -> Group:
    prompt = Conversation.of_user(name)
    said = Completion(text="so")
    trajectories = tuple(Trajectory(prompt=prompt, turns=(), completion=said, reward=reward) for reward in rewards)
    return Group(prompt=prompt, trajectories=trajectories)


def refill(*attempts: Sequence[Group], size: int, most: int) -> tuple[Refilled, list[tuple[int, int]]]:
    """Refilled from what each attempt would write, and what it was asked for."""
    asked = []

    def write(attempt: int, count: int) -> Scored:
        asked.append((attempt, count))
        groups = tuple(attempts[attempt][:count])
        return Scored(groups=groups, rewards=(), scores={"reward": ()})

    return refilled(write, size, most=most), asked


def names(groups: Sequence[Group]) -> list[str]:
    return [one.prompt.last_user_text for one in groups]


FIRST = [group("a", 1, 0), group("b", 1, 1), group("c", 0, 0), group("d", 0, 1)]
SECOND = [group("e", 0, 0), group("f", 1, 0)]
THIRD = [group("g", 0, 1)]


def test_groups_without_spread_are_replaced_by_others() -> None:
    found, asked = refill(FIRST, SECOND, THIRD, size=4, most=5)
    assert asked == [(0, 4), (1, 2), (2, 1)]
    assert names(found.groups) == ["a", "d", "f", "g"] and found.dropped == 3
    assert names(found.written.groups) == [*"abcdefg"]


def test_where_the_attempts_do_not_suffice_groups_without_spread_fill_the_batch() -> None:
    found, asked = refill(FIRST, SECOND, THIRD, size=4, most=1)
    assert asked == [(0, 4), (1, 2)] and names(found.groups) == ["a", "d", "f", "b"] and found.dropped == 2
    found, asked = refill(FIRST, size=4, most=0)
    assert asked == [(0, 4)] and names(found.groups) == [*"abcd"] and found.dropped == 0


def prepared(folders: dict[str, Path], seen: list[Rollout], **more: object) -> Prepared[OnPolicyTask]:
    settings = GRPOSettings(
        **{
            "iterations": 2,
            "batch_size": 3,
            "samples_per_prompt": 2,
            "max_tokens": 4,
            "normalise_reward": False,
            **more,
        }
    )

    def observer(rollout: Rollout) -> Metrics:
        seen.append(rollout)
        return {}

    model = load_language_model(str(folders["llama"]), machine=CPU)
    scorer = FunctionScorer(lambda prompts, texts: [float(len(text) > 12) for text in texts])
    given = {"seed": 1, "reward": scorer, "observer": Observer(rollout=observer)}
    return prepare_on_policy(GRPO, model, PROMPTS, settings, **given)


def run(folders: dict[str, Path], seen: list[Rollout], **more: object) -> list[Metrics]:
    return prepared(folders, seen, **more).run()


def test_a_run_writes_what_is_missing_and_counts_what_it_dropped(folders: dict[str, Path]) -> None:
    seen: list[Rollout] = []
    rows = run(folders, seen, refill_rollouts=3, missing_eos_penalty=0.0)
    for row, rollout in zip(rows, seen, strict=True):
        groups = [rollout.rewards[at : at + 2] for at in range(0, len(rollout.rewards), 2)]
        flat = sum(one == other for one, other in groups)
        assert row["groups_without_spread"] == pytest.approx(flat / len(groups))
        assert row["groups_dropped"] == len(groups) - 3
        assert row["reward"] == pytest.approx(sum(rollout.rewards) / len(rollout.rewards))
    assert any(row["groups_dropped"] for row in rows)


def test_a_refill_after_a_resume_is_the_one_that_would_have_been(folders: dict[str, Path], tmp_path: Path) -> None:
    seen: list[Rollout] = []
    more = {"refill_rollouts": 3, "missing_eos_penalty": 0.0}
    whole, cut, resumed = (prepared(folders, seen, **more).task for _ in range(3))
    rows = [without_timings(whole.tick(index, StopRequest())) for index in range(2)]
    cut.tick(0, StopRequest())
    cut.save(tmp_path)
    resumed.load(tmp_path)
    assert without_timings(resumed.tick(1, StopRequest())) == rows[1] and any(row["groups_dropped"] for row in rows)
    for name in ("prompts", "completions", "rewards"):
        assert getattr(seen[-1], name) == getattr(seen[1], name)


def test_the_penalty_for_length_is_dapos() -> None:
    settings = GRPOSettings(max_tokens=20, overlong_tokens=4, overlong_penalty=2.0)
    assert [overlong_penalty(tokens, settings) for tokens in (1, 16, 17, 18, 20)] == [0.0, 0.0, 0.5, 1.0, 2.0]
    assert overlong_penalty(20, GRPOSettings(max_tokens=20)) == 0.0


def test_a_penalty_for_length_lowers_the_reward_of_long_completions_alone(folders: dict[str, Path]) -> None:
    plain: list[Rollout] = []
    dear: list[Rollout] = []
    longer = {"iterations": 1, "max_tokens": 30, "samples_per_prompt": 4, "missing_eos_penalty": 0.0}
    (without,), (with_penalty,) = run(folders, plain, **longer), run(folders, dear, **longer, overlong_tokens=30)
    assert plain[0].rewards == dear[0].rewards, "people see the raw reward"
    assert without["truncated_fraction"] < 1 and without["gradient_norm"] != with_penalty["gradient_norm"]
    with pytest.raises(ConfigError, match="overlong_tokens"):
        run(folders, [], overlong_tokens=5)


def test_an_exact_kl_in_the_reward_wants_advantages_of_tokens(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="one advantage for a whole completion"):
        run(folders, [], kl_in="reward")
    assert run(folders, [], kl_in="reward", kl_estimator="k1", iterations=1)


def test_sampler_weights_are_ones_where_the_sampler_is_the_learners(folders: dict[str, Path]) -> None:
    (row,) = run(folders, [], iterations=1, max_sampler_weight=2.0)
    assert row["sampler_weight"] == pytest.approx(1.0, abs=1e-4)
    (cut,) = run(folders, [], iterations=1, max_sampler_weight=2.0, top_k=3)
    assert cut["sampler_weight"] < 0.9, "a sampler that leaves tokens out draws the others more often"
