"""What training maximises: raw rewards for people, one scale for the update, and the penalty measured against it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import LengthScorer
from training_jobs import CPU, PPO, PROMPTS, Killed, train_ppo

from assent.algorithms.loop import Watch
from assent.algorithms.on_policy.reward_signal import Reward, RewardScale, RewardSum
from assent.algorithms.on_policy.rollout import Observer, Rollout
from assent.algorithms.ppo import PPO as METHOD
from assent.algorithms.ppo import PPOSettings
from assent.errors import ConfigError, RunError
from assent.metrics import Metrics
from assent.model.checkpoints import CheckpointStore
from assent.ports.sampling import Scorer
from assent.recipes.run.models import load_language_model, new_reward_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.run.rewards import weighted
from assent.recipes.training.prepare_on_policy import measure_scale, prepare_on_policy
from assent.runs.folder import RunDir
from assent.types import Completion, Conversation

LENGTH = LengthScorer()


def settings_of(**more: object) -> PPOSettings:
    return PPOSettings(**{**PPO, "critic": "shared", "adaptive_kl_target": None, **more})


class Affine:
    """Another reward, times a factor and shifted: the same wishes in other units."""

    def __init__(self, inner: Scorer, factor: float, shift: float = 0.0) -> None:
        self.inner, self.factor, self.shift = inner, factor, shift

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        return [self.factor * value + self.shift for value in self.inner.score(prompts, completions)]


def rows_of(folders: dict[str, Path], reward: Scorer, **more: object) -> list[Metrics]:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    return train_ppo(model, PROMPTS, settings_of(**more), seed=1, reward=reward)


def test_the_scale_is_mean_and_population_spread_and_takes_them_out() -> None:
    rewards = [1.0, 2.0, 6.0, -3.0]
    scale = RewardScale.of(rewards)
    assert scale.mean == statistics.fmean(rewards) and scale.spread == pytest.approx(statistics.pstdev(rewards))
    maximised = scale.maximised(rewards)
    assert statistics.fmean(maximised) == pytest.approx(0.0) and statistics.pstdev(maximised) == pytest.approx(1.0)
    assert [scale.gain * reward + scale.offset for reward in rewards] == pytest.approx(maximised)
    raw = RewardScale.of(rewards, applied=False)
    assert raw.maximised(rewards) == rewards and (raw.gain, raw.offset) == (1.0, 0.0)


@pytest.mark.parametrize("rewards", [[0.0] * 8, [0.25] * 8, [1e4, 1e4 + 1e-4], [3.0]])
def test_a_reward_without_spread_is_taken_as_it_is_and_that_is_said(rewards: list[float]) -> None:
    scale = RewardScale.of(rewards)
    assert not scale.applied and scale.maximised([5.0]) == [5.0] and scale.share(1.0) is None
    warning = scale.warning(1.0, 0.05)
    assert warning is not None and "cannot be normalised" in warning


def test_a_function_that_is_seldom_anything_but_zero_trains_and_a_dead_reward_model_does_not(
    folders: dict[str, Path],
) -> None:
    said: list[str] = []
    model = load_language_model(str(folders["llama"]), machine=CPU)
    rare = FunctionScorer(lambda prompts, completions: [0.0 for _ in completions], "rare")
    rows = prepare_on_policy(
        METHOD, model, PROMPTS, settings_of(), seed=1, reward=rare, observer=Observer(say=said.append)
    ).run()
    assert len(rows) == 3 and not any("penalty_share" in row for row in rows)
    assert sum("cannot be normalised" in line for line in said) == 1
    dead = new_reward_model(str(folders["llama"]), machine=CPU, seed=5)
    with torch.no_grad():
        dead.role.head.weight.zero_()
    for reward in (dead, weighted([("dead", dead.scorer)], [])):
        with pytest.raises(RunError, match="nothing to learn"):
            prepare_on_policy(METHOD, model, PROMPTS, settings_of(), seed=1, reward=reward)


def test_a_tiny_reward_has_a_spread() -> None:
    assert RewardScale.of([1e-9, 3e-9]).spread == pytest.approx(1e-9)


@pytest.mark.parametrize(("factor", "shift"), [(40.0, 7.0), (1e-3, -2.0)])
def test_the_unit_of_a_reward_changes_nothing_but_what_people_see(
    factor: float, shift: float, folders: dict[str, Path]
) -> None:
    """So `kl_coef` means the same for every reward model and function."""
    plain, other = rows_of(folders, LENGTH), rows_of(folders, Affine(LENGTH, factor, shift))
    for one, two in zip(plain, other, strict=True):
        assert two["reward"] == pytest.approx(factor * one["reward"] + shift, rel=1e-5)
        for name in ("reward_normalised", "kl", "kl_penalty", "penalty_share", "value_loss", "policy_loss", "length"):
            assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-5), name


def test_the_rows_tell_the_raw_reward_and_the_penalty_by_their_definitions(folders: dict[str, Path]) -> None:
    seen: list[Rollout] = []
    model = load_language_model(str(folders["llama"]), machine=CPU)
    settings = settings_of(kl_coef=0.3)
    scale = measure_scale(LENGTH, model, PROMPTS, settings, seed=1)

    def observer(rollout: Rollout) -> Metrics:
        seen.append(rollout)
        return {}

    rows = train_ppo(model, PROMPTS, settings, seed=1, reward=LENGTH, observer=Observer(rollout=observer))
    for row, rollout in zip(rows, seen, strict=True):
        lengths = [float(len(completion.text)) for completion in rollout.completions]
        assert list(rollout.rewards) == lengths
        assert row["reward"] == pytest.approx(statistics.fmean(lengths))
        assert row["reward_std"] == pytest.approx(statistics.pstdev(lengths))
        assert row["reward_normalised"] == pytest.approx((statistics.fmean(lengths) - scale.mean) / scale.spread)
        assert row["kl_penalty"] == pytest.approx(0.3 * row["kl"]) == pytest.approx(row["penalty_share"])
    raw = rows_of(folders, Affine(LENGTH, 40.0), kl_coef=0.3, normalise_reward=False)
    assert raw[-1]["kl_penalty"] == pytest.approx(0.3 * raw[-1]["kl"])
    assert raw[-1]["penalty_share"] == pytest.approx(raw[-1]["kl_penalty"] / (40 * scale.spread))
    assert raw[0]["reward_normalised"] == raw[0]["reward"]


def test_a_penalty_that_is_far_out_is_said_once_before_the_first_step_or_on_the_way(folders: dict[str, Path]) -> None:
    def said(**more: object) -> list[str]:
        lines: list[str] = []
        model = load_language_model(str(folders["llama"]), machine=CPU)
        observer, reward = Observer(say=lines.append), Affine(LENGTH, 40.0)
        train_ppo(model, PROMPTS, settings_of(**more), seed=1, reward=reward, observer=observer)
        return [line for line in lines if line.startswith("warning")]

    assert said() == [] and said(kl_coef=0.0) == [] and said(normalise_reward=False, kl_coef=5.0) == []
    (faint,) = said(normalise_reward=False, kl_coef=0.05)
    assert "standard deviations of the reward" in faint and "hardly holds" in faint
    assert "Raise kl_coef, or set normalise_reward=true." in faint
    (crushing,) = said(kl_coef=20.0)
    assert "outweighs" in crushing and "Lower kl_coef." in crushing
    (far,) = said(kl_coef=5.0, learning_rate=0.1, iterations=6)
    assert "a KL of 1 nats" not in far and "outweighs" in far


def test_warnings_are_of_shares_under_a_hundredth_and_over_ten() -> None:
    scale = RewardScale(mean=0.0, spread=4.0, applied=False)
    assert [scale.warning(2.0, weight) is None for weight in (0.019, 0.021, 19.9, 20.1, 0.0)] == [
        False, True, True, False, True,
    ]  # fmt: skip


def test_ppo_leaves_the_reward_model_as_it_was_and_measures_it_on_one_scale(folders: dict[str, Path]) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    reward = new_reward_model(str(folders["qwen2"]), machine=CPU, seed=5)
    answers = [Completion(text=text) for text in ("red", "one two", "", "maybe", "no", "sun", "four", "x")]
    before = reward.scorer.score(PROMPTS, answers)
    weights = {name: tensor.clone() for name, tensor in reward.role.body.model.state_dict().items()}
    for critic in ("separate", "shared"):
        rows = train_ppo(model, PROMPTS, settings_of(critic=critic), seed=1, reward=reward)
        assert reward.scorer.score(PROMPTS, answers) == before
        assert all(torch.equal(weights[name], tensor) for name, tensor in reward.role.body.model.state_dict().items())
        assert abs(rows[0]["reward_normalised"]) < 1.5 and rows[0]["reward"] != rows[0]["reward_normalised"]


def test_the_scale_is_measured_on_the_starting_model_and_prompts_are_repeated_if_they_are_few(
    folders: dict[str, Path],
) -> None:
    asked: list[Conversation] = []

    class Counting:
        def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
            asked.extend(prompts)
            return LENGTH.score(prompts, completions)

    model = load_language_model(str(folders["llama"]), machine=CPU)
    first = measure_scale(Counting(), model, PROMPTS, settings_of(), seed=3)
    assert len(asked) == 256 and {asked.count(prompt) for prompt in PROMPTS} == {32}
    assert first == measure_scale(LENGTH, model, PROMPTS, settings_of(), seed=3)
    assert first != measure_scale(LENGTH, model, PROMPTS, settings_of(), seed=4)
    asked.clear()
    measure_scale(Counting(), model, PROMPTS * 20, settings_of(normalise_prompts=100), seed=3)
    assert len(asked) == 100


def test_a_resumed_run_keeps_the_scale_that_it_began_with(folders: dict[str, Path], tmp_path: Path) -> None:
    """Also where the reward has changed its mind, as a judge over a network may."""

    def run(factor: float, *, resume: bool, stop_at: int | None = None) -> RewardScale:
        model = load_language_model(str(folders["llama"]), machine=CPU)
        opened = RunDir.open_for_resume if resume else RunDir.create
        with opened(tmp_path / "run", settings={}, lineage={}, **({} if resume else {"kind": "ppo"})) as place:
            store = CheckpointStore(place.checkpoints)

            def on_tick(done: int, total: int, row: Metrics) -> None:
                if done == stop_at:
                    raise Killed

            prepared = prepare_on_policy(METHOD, model, PROMPTS, settings_of(), seed=1, reward=Affine(LENGTH, factor))
            prepared.run(Watch(run=place, checkpoints=store, checkpoint_every=1, on_tick=on_tick), resume=resume)
            return prepared.task.scale

    with pytest.raises(Killed):
        run(1.0, resume=False, stop_at=1)
    scale = run(3.0, resume=True)
    model = load_language_model(str(folders["llama"]), machine=CPU)
    assert scale == measure_scale(LENGTH, model, PROMPTS, settings_of(), seed=1)


def test_several_rewards_are_a_weighted_sum_with_a_curve_each(folders: dict[str, Path]) -> None:
    words = FunctionScorer(lambda prompts, texts: [float(len(text.split())) for text in texts], "words")
    both = weighted([("length", LENGTH), ("words", words)], [1.0, -2.0])
    prompts, answers = PROMPTS[:2], [Completion(text="one two"), Completion(text="red")]
    assert both.scores(prompts, answers) == {"length": [7.0, 3.0], "words": [2.0, 1.0]}
    assert both.score(prompts, answers) == [7.0 - 4.0, 3.0 - 2.0]
    rows = rows_of(folders, both)
    for row in rows:
        assert row["reward"] == pytest.approx(row["reward/length"] - 2 * row["reward/words"])
    alone = rows_of(folders, weighted([("length", LENGTH)], []))
    assert not any(name.startswith("reward/") for row in alone for name in row)
    assert alone == rows_of(folders, LENGTH)
    watched = rows_of(folders, weighted([("length", LENGTH), ("words", words)], [1.0, 0.0]))
    assert [{k: v for k, v in row.items() if not k.startswith("reward/")} for row in watched] == alone


def test_the_weight_of_a_single_reward_turns_it_and_its_critic(folders: dict[str, Path]) -> None:
    """Weight -1 of a reward is weight 1 of its negative, also for the critic that starts from the reward model."""
    reward = new_reward_model(str(folders["llama"]), machine=CPU, seed=5)
    turned = replace(reward, role=new_reward_model(str(folders["llama"]), machine=CPU, seed=5).role)
    with torch.no_grad():
        turned.role.head.weight.neg_()
    one = rows_of(folders, weighted([("it", reward.scorer)], [-1.0]), critic="separate")
    two = rows_of(folders, turned.scorer, critic="separate")
    for first, second in zip(one, two, strict=True):
        assert first == pytest.approx(second, rel=1e-4, abs=1e-5)


def test_weights_that_fit_no_rewards_are_refused_and_equal_names_are_numbered() -> None:
    pair = [("same", LENGTH), ("same", LENGTH)]
    assert [one.name for one in weighted([*pair, ("same-2", LENGTH)], []).rewards] == ["same", "same-2", "same-2-2"]
    with pytest.raises(ConfigError, match="2 rewards and 1 weights"):
        weighted(pair, [1.0])
    with pytest.raises(ConfigError, match="weight 0"):
        RewardSum([Reward(name="a", scorer=LENGTH, weight=0.0)])
    with pytest.raises(ConfigError, match="no reward was given"):
        weighted([], [])


@pytest.mark.parametrize(("truncated", "penalty"), [(0.0, 1.0), (0.5, 1.0), (0.51, 0.0), (1.0, 0.0)])
def test_a_missing_end_costs_nothing_where_most_completions_lack_one_unless_it_was_asked_for(
    truncated: float, penalty: float
) -> None:
    scale = RewardScale.of([0.0, 1.0], truncated=truncated)
    assert scale.eos_penalty(settings_of()) == penalty
    told = scale.told_of_truncation(settings_of())
    assert (told is None) == (penalty > 0)
    assert told is None or ("Raise max_tokens" in told and "missing_eos_penalty" in told)
    asked = settings_of(missing_eos_penalty=0.75)
    assert scale.eos_penalty(asked) == 0.75 and scale.told_of_truncation(asked) is None
