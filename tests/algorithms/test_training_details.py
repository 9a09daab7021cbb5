"""Counting, orders, schedules and what PPO does with rewards, KL and advantages."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from small_models import body_of, causal_lm
from torch.testing import assert_close
from training_jobs import CPU, LORA, PPO, PROMPTS, demonstrations

from assent.algorithms.dpo import DPOSettings, encode_pairs
from assent.algorithms.drift import DRIFT_LIMITS, check_drift
from assent.algorithms.epochs import EpochTask, TrainSettings
from assent.algorithms.ppo import PPOTask, Rollout, Scored, build_experience
from assent.algorithms.ppo import PPOSettings
from assent.algorithms.reward import RewardSettings, judgements_of, reward_pieces, scored_pairs
from assent.algorithms.on_policy.reward_signal import RewardScale, shaped_rewards
from assent.algorithms.schedule import Schedule, learning_rate
from assent.algorithms.sft import encode_demonstrations, supervised_pieces
from assent.backends.local.learner import LocalLearner
from assent.backends.local.sampler import LocalSampler
from assent.errors import ConfigError, DataError, RunError
from assent.metrics import Metrics
from assent.model.roles import LanguageRole
from assent.recipes.run.models import LoraOptions, MachineOptions, load_language_model, new_reward_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.run.roles import critic_of, reference_of
from assent.recipes.training.prepare import prepare_ppo, train_ppo
from assent.text.template import ChatTemplate
from assent.types import Comparison, Completion, Conversation, Ranking, Rating, StopReason, Turn


def test_schedules_have_their_closed_forms() -> None:
    def rates(schedule: Schedule, warmup: float = 0.2) -> list[float]:
        return [learning_rate(s, peak=2.0, total=10, warmup_share=warmup, schedule=schedule) for s in range(10)]

    assert rates("constant") == [1.0] + [2.0] * 9
    assert rates("linear") == pytest.approx([1.0, 2.0] + [2 * (0.1 + 0.9 * (1 - k / 8)) for k in range(8)])
    cosine = [2 * (0.1 + 0.45 * (1 + math.cos(math.pi * k / 8))) for k in range(8)]
    assert rates("cosine") == pytest.approx([1.0, 2.0, *cosine])
    assert rates("linear", 0.0)[0] == 2.0 and min(rates("linear", 0.9)) > 0
    assert learning_rate(10, peak=2.0, total=10, warmup_share=0.0, schedule="cosine") == pytest.approx(0.2)


def learner() -> LocalLearner:
    return LocalLearner(policy=LanguageRole(body_of(causal_lm("llama"))))


@pytest.mark.parametrize(
    ("count", "epochs", "steps"), [(11, 2.0, 6), (12, 1.0, 3), (3, 1.0, 1), (40, 0.5, 5), (4, 0.01, 1)]
)
def test_steps_are_epochs_over_all_items(count: int, epochs: float, steps: int) -> None:
    settings = TrainSettings(epochs=epochs, batch_size=4)
    task = EpochTask(learner(), lambda items, step: [], count=count, settings=settings, seed=1)
    assert task.total == steps
    seen = Counter(item for step in range(steps) for item in task.items(step))
    if epochs >= 1:
        assert seen == dict.fromkeys(range(count), epochs)
    assert all(len(set(task.items(step))) == len(task.items(step)) for step in range(steps))


def test_the_order_of_items_follows_the_seed_and_changes_with_the_epoch() -> None:
    def order(seed: int) -> list[list[int]]:
        settings = TrainSettings(epochs=2, batch_size=11)
        task = EpochTask(learner(), lambda items, step: [], count=11, settings=settings, seed=seed)
        return [task.items(0), task.items(1)]

    assert order(1) == order(1) != order(2)
    assert order(1)[0] != order(1)[1]


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nothing to train on"):
        EpochTask(learner(), lambda items, step: [], count=0, settings=TrainSettings(), seed=1)


def test_what_is_too_long_is_left_out_and_counted(template: ChatTemplate) -> None:
    lengths = sorted(len(one) for one in encode_demonstrations(demonstrations(), template, max_length=1000).items)
    limit = lengths[5]
    cut = encode_demonstrations(demonstrations(), template, max_length=limit)
    assert cut.skipped == sum(length > limit for length in lengths) > 0
    assert len(cut.items) + cut.skipped == 11
    with pytest.raises(DataError, match=f"shortest has {lengths[0]}"):
        encode_demonstrations(demonstrations(), template, max_length=lengths[0] - 1)
    pair = Comparison(prompt=PROMPTS[0], chosen=Completion(text="no"), rejected=Completion(text="yes " * 30))
    short = Comparison(prompt=PROMPTS[0], chosen=Completion(text="no"), rejected=Completion(text="yes"))
    assert encode_pairs([pair, short], template, max_length=40).skipped == 1
    assert judgements_of([pair, short], template, max_length=40).skipped == 1


def test_only_what_the_assistant_said_is_learned(template: ChatTemplate) -> None:
    encoded = encode_demonstrations(demonstrations(), template, max_length=1000).items
    pieces = supervised_pieces(encoded, 50)
    assert len(pieces) > 2
    predicted = sorted(token for piece in pieces for token in piece.batch.target_M.tolist())
    said = [id_ for one in encoded for id_, mine in zip(one.ids, one.assistant_mask, strict=True) if mine]
    assert predicted == sorted(said)


def test_the_pairs_of_one_prompt_are_one_item_and_each_text_is_read_once(template: ChatTemplate) -> None:
    texts = ["red", "blue", "yes"]
    pairs = [
        Comparison(prompt=PROMPTS[0], chosen=Completion(text=a), rejected=Completion(text=b), group="first")
        for a, b in (("red", "blue"), ("blue", "yes"), ("red", "yes"))
    ]
    alone = [Comparison(prompt=PROMPTS[1], chosen=Completion(text="no"), rejected=Completion(text="four"))] * 2
    items = judgements_of([*pairs, *alone], template, max_length=100).items
    assert [len(item.sequences) for item in items] == [3, 2, 2]
    assert [(pair.better, pair.worse) for pair in items[0].pairs] == [(0, 1), (1, 2), (0, 2)]
    (piece,) = reward_pieces(items[:1], RewardSettings(micro_batch_tokens=1))
    assert len(piece.batch.lengths) == 3
    ranked = Ranking(prompt=PROMPTS[0], completions=tuple(Completion(text=text) for text in texts), ranks=(2, 1, 2))
    (item,) = judgements_of([ranked], template, max_length=100).items
    assert [(pair.better, pair.worse, pair.probability) for pair in item.pairs] == [
        (1, 0, 1.0),
        (0, 2, 0.5),
        (1, 2, 1.0),
    ]
    lined = scored_pairs(items, [[3.0, 2.0, 1.0], [0.5, 0.1], [0.2, 0.4]])
    assert list(lined.chosen) == [3.0, 2.0, 3.0, 0.5, 0.2] and list(lined.rejected) == [2.0, 1.0, 1.0, 0.1, 0.4]
    assert list(lined.groups) == [0, 0, 0, 1, 2]


def test_good_and_bad_labels_become_labels(template: ChatTemplate) -> None:
    ratings = [Rating(prompt=PROMPTS[0], completion=Completion(text="red"), score=score) for score in (1.0, 0.0)]
    assert [item.label for item in judgements_of(ratings, template, max_length=100).items] == [1.0, 0.0]


def settings_of(**more: object) -> PPOSettings:
    return PPOSettings(**{**PPO, "critic": "shared", **more})


def ppo_rows(folders: dict[str, Path], settings: PPOSettings, **more: object) -> list[Metrics]:
    model = load_language_model(str(folders["llama"]), machine=CPU, **{k: v for k, v in more.items() if k == "lora"})
    reward = new_reward_model(str(folders["llama"]), machine=CPU, seed=5)
    rest = {k: v for k, v in more.items() if k != "lora"}
    return train_ppo(model, PROMPTS, settings, seed=1, reward=reward, **rest).rows


VARIANTS: list[dict[str, object]] = [
    {},
    {"kl_estimator": "k1"},
    {"kl_in": "loss"},
    {"kl_in": "loss", "kl_estimator": "k3"},
    {"kl_top_k": 5},
    {"temperature": 0.7},
    {"critic": "separate"},
]


@pytest.mark.parametrize("more", VARIANTS)
def test_the_kl_is_zero_at_the_start_never_negative_and_the_sampler_does_not_drift(
    more: dict[str, object], folders: dict[str, Path]
) -> None:
    for lora in (None, LORA):
        rows = ppo_rows(folders, settings_of(**more), lora=lora)
        assert len(rows) == 3 and abs(rows[0]["kl"]) < 1e-6
        assert all(row["kl"] >= 0 and row["sampler_drift"] < 1e-4 for row in rows)
        assert rows[-1]["kl"] > 1e-5
        assert all(row["updates"] == 4 and row["skipped_updates"] == 0 for row in rows)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_policy_reads_again_every_eighth_completion_alone(precision: str, folders: dict[str, Path]) -> None:
    machine = MachineOptions(device="cpu", threads=1, precision=precision)
    model = load_language_model(str(folders["llama"]), machine=machine)
    settings, read = settings_of(iterations=1, batch_size=20, max_tokens=3), []
    prepared = prepare_ppo(model, PROMPTS, settings, seed=1, reward=FunctionScorer(lambda p, t: [len(x) for x in t]))
    hidden = model.role.hidden
    model.role.hidden = lambda batch: read.extend(batch.lengths) or hidden(batch)
    prepared.task.tick(0)
    assert len(read) == (3 if precision == "fp32" else 20)


@pytest.mark.parametrize("more", [{}, {"top_p": 0.8}])
def test_a_sampler_with_other_weights_stops_the_run_whatever_states_it_tells(
    more: dict[str, object], folders: dict[str, Path]
) -> None:
    """The states are another model's: nothing but the completions read again can show it."""
    model, other = (load_language_model(str(folders[name]), machine=CPU) for name in ("llama", "qwen2"))
    settings = settings_of(iterations=1, epochs=1, mini_batches=1, **more)
    critic = critic_of(model, None, shared_trunk=True, seed=1)
    learner = LocalLearner(policy=model.role, critic=critic, reference=reference_of(model), shared_trunk=True)
    own, foreign = (
        PPOTask(
            PROMPTS, learner=learner, sampler=sampler, scorer=FunctionScorer(lambda p, t: [len(x) for x in t]),
            scale=RewardScale(mean=0.0, spread=1.0), seed=1, settings=settings,
        )
        for sampler in (model.sampler, other.sampler)
    )  # fmt: skip
    before = {name: parameter.clone() for name, parameter in learner.parameters.items()}
    with pytest.raises(RunError, match=r"sampler and learner disagree by .* nats a token.*nothing was updated"):
        foreign.tick(0)
    assert all(torch.equal(before[name], parameter) for name, parameter in learner.parameters.items())
    own.tick(0)
    row = own.tick(1)
    assert row is not None and (more or row["sampler_drift"] < 1e-4)


def drifting(logps: list[float], truth: list[float], **more: object) -> None:
    turn = Turn(
        prompt_ids=(1,), completion_ids=(2,) * len(logps), logps=tuple(logps),
        completion=Completion(text="", stop=StopReason.END),
    )  # fmt: skip
    check_drift([turn], torch.tensor(truth), settings_of(**more), limit=0.1)


def test_drift_is_a_mean_so_that_one_token_does_not_stop_a_run() -> None:
    drifting([-1.0] * 10, [-1.0] * 9 + [-1.9])
    with pytest.raises(RunError, match=r"disagree by 0\.11 nats"):
        drifting([-1.0] * 10, [-1.0] * 9 + [-2.1])
    with pytest.raises(RunError, match=r"disagree by 0\.2 nats"):
        drifting([-1.0, -1.0], [-1.2, -0.8])


@pytest.mark.parametrize("more", [{"top_k": 5}, {"top_p": 0.5}])
def test_a_truncated_distribution_is_higher_and_never_lower(more: dict[str, object]) -> None:
    drifting([-1.0, -1.0], [-3.0, -1.5], **more)
    with pytest.raises(RunError, match=r"disagree by 0\.5 nats"):
        drifting([-1.0, -2.0], [-3.0, -1.0], **more)


@pytest.mark.parametrize("lora", [None, LORA])
def test_rounding_to_bf16_is_far_from_the_limit(lora: LoraOptions | None, folders: dict[str, Path]) -> None:
    machine = MachineOptions(device="cpu", threads=1, precision="bf16")
    model = load_language_model(str(folders["llama"]), machine=machine, lora=lora)
    scorer = FunctionScorer(lambda p, t: [len(x) for x in t])
    rows = train_ppo(model, PROMPTS, settings_of(), seed=1, reward=scorer).rows
    assert len(rows) == 3 and max(row["sampler_drift"] for row in rows) < DRIFT_LIMITS["bf16"]


@pytest.mark.parametrize("more", VARIANTS)
def test_with_one_update_per_rollout_the_ratio_is_one(more: dict[str, object], folders: dict[str, Path]) -> None:
    for row in ppo_rows(folders, settings_of(epochs=1, mini_batches=1, **more)):
        assert row["ratio"] == pytest.approx(1.0, abs=1e-5) and row["clip_fraction"] == 0
        assert abs(row["approx_kl"]) < 1e-8 and row["updates"] == 1


def test_prompts_are_all_used_before_any_comes_again(folders: dict[str, Path]) -> None:
    seen: list[Conversation] = []

    def observer(rollout: Rollout) -> Metrics:
        seen.extend(rollout.prompts)
        assert len(rollout.prompts) == len(rollout.completions) == len(rollout.rewards) == 5
        return {"mine": float(rollout.iteration)}

    rows = ppo_rows(folders, settings_of(iterations=4), observer=observer)
    assert Counter(seen[:8]) == Counter(PROMPTS) and Counter(seen[8:16]) == Counter(PROMPTS)
    assert seen[:8] != seen[8:16]
    assert [row["mine"] for row in rows] == [0.0, 1.0, 2.0, 3.0]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]


def test_the_adaptive_coefficient_goes_the_right_way(folders: dict[str, Path]) -> None:
    tight = [row["kl_coef"] for row in ppo_rows(folders, settings_of(adaptive_kl_target=1e-4))]
    loose = [row["kl_coef"] for row in ppo_rows(folders, settings_of(adaptive_kl_target=100.0))]
    fixed = [row["kl_coef"] for row in ppo_rows(folders, settings_of(adaptive_kl_target=None))]
    assert tight[1] < tight[2]  # no KL at the start, too much after the first updates
    assert loose[0] > loose[1] > loose[2]
    assert fixed == [0.1, 0.1, 0.1]


def test_a_policy_that_moves_too_far_stops_its_iteration(folders: dict[str, Path]) -> None:
    stopped = ppo_rows(folders, settings_of(target_kl=1e-9))
    assert [row["updates"] for row in stopped] != [4.0] * 3
    assert all(1 <= row["updates"] < 4 for row in stopped)
    assert [row["updates"] for row in ppo_rows(folders, settings_of(target_kl=1e9))] == [4.0] * 3


def test_only_a_completion_that_did_not_end_is_penalised() -> None:
    completions = [Completion(text="a"), Completion(text="b", stop=StopReason.LENGTH), Completion(text="c")]
    shaped = shaped_rewards([1.0, 2.0, 3.0], completions, settings_of(missing_eos_penalty=0.75))
    assert shaped == [1.0, 1.25, 3.0]
    assert shaped_rewards([1.0, 2.0, 3.0], completions, settings_of(missing_eos_penalty=0.0)) == [1.0, 2.0, 3.0]


def turn(length: int) -> Turn:
    return Turn(
        prompt_ids=(5, 6),
        completion_ids=tuple(range(7, 7 + length)),
        logps=(0.0,) * length,
        completion=Completion(text="x"),
    )


def scored(count: int) -> Scored:
    generator = torch.Generator().manual_seed(0)
    columns = {
        name: torch.rand(count, generator=generator) for name in ("value_N", "kl_N", "entropy_N")
    }  # fmt: skip
    logp_N, reference_logp_N = (-torch.rand(count, generator=generator) for _ in range(2))
    return Scored(logp_N=logp_N, reference_logp_N=reference_logp_N, **columns)


def test_rewards_lie_on_last_tokens_and_the_penalty_on_every_token() -> None:
    turns, found, reward_B = [turn(3), turn(1), turn(2)], scored(6), torch.tensor([1.0, -2.0, 0.5])
    plain = {"gamma": 1.0, "gae_lambda": 1.0, "whiten_advantages": False}
    made = build_experience(turns, found, reward_B, 0.3, settings_of(kl_estimator="k1", **plain))
    penalty_N = 0.3 * (found.logp_N - found.reference_logp_N)
    token_N = -penalty_N + torch.tensor([0.0, 0.0, 1.0, -2.0, 0.0, 0.5])
    returns = torch.cat([part.flip(0).cumsum(0).flip(0) for part in token_N.split([3, 1, 2])])
    assert_close(made.return_N, returns)
    assert_close(made.advantage_N, returns - found.value_N)
    in_loss = build_experience(turns, found, reward_B, 0.3, settings_of(kl_in="loss", **plain))
    assert_close(in_loss.return_N, torch.tensor([1.0, 1.0, 1.0, -2.0, 0.5, 0.5]))
    exact = build_experience(turns, found, reward_B, 0.3, settings_of(kl_estimator="exact", **plain))
    exact_N = torch.cat(
        [part.flip(0).cumsum(0).flip(0) for part in (token_N + penalty_N - 0.3 * found.kl_N).split([3, 1, 2])]
    )
    assert_close(exact.return_N, exact_N)
    assert_close(exact.advantage_N, exact_N - found.value_N - (penalty_N - 0.3 * found.kl_N))
    assert made.completion_lengths == [3, 1, 2]


def test_white_rewards_are_the_token_rewards_with_the_penalty_scaled_to_spread_one_about_their_mean() -> None:
    """As in the code of Ziegler et al. (2019) and TRL: (r_t - mean) / std + mean over all tokens, then GAE.

    The penalty of a token's own KL, which the exact estimate keeps out of the reward, is scaled with the rewards.
    """
    turns, found, reward_B, beta = [turn(3), turn(1), turn(2)], scored(6), [1.0, -2.0, 0.5], 0.3
    settings = settings_of(whiten_rewards=True, whiten_advantages=False, gae_lambda=0.95, kl_estimator="exact")
    made = build_experience(turns, found, torch.tensor(reward_B), beta, settings)

    kl, value = found.kl_N.double().tolist(), found.value_N.double().tolist()
    own = (found.logp_N - found.reference_logp_N).double().tolist()
    rewards = [-beta * one for one in kl]
    for last, reward in zip((2, 3, 5), reward_B, strict=True):
        rewards[last] += reward
    mean = sum(rewards) / 6
    std = math.sqrt(sum((one - mean) ** 2 for one in rewards) / 6 + 1e-8)
    white = [(one - mean) / std + mean for one in rewards]
    advantages = [0.0] * 6
    for first, last in ((0, 2), (3, 3), (4, 5)):
        following, after = 0.0, 0.0
        for t in range(last, first - 1, -1):
            following = white[t] + after - value[t] + 0.95 * following
            after = value[t]
            advantages[t] = following
    returns = [advantage + one for advantage, one in zip(advantages, value, strict=True)]
    assert_close(made.return_N.double(), torch.tensor(returns, dtype=torch.float64), atol=1e-5, rtol=1e-5)
    with_own = [a - beta / std * (k1 - exact) for a, k1, exact in zip(advantages, own, kl, strict=True)]
    assert_close(made.advantage_N.double(), torch.tensor(with_own, dtype=torch.float64), atol=1e-5, rtol=1e-5)


def test_white_advantages_have_mean_zero_and_spread_one() -> None:
    made = build_experience([turn(3), turn(4)], scored(7), torch.tensor([1.0, 3.0]), 0.1, settings_of())
    assert made.advantage_N.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert made.advantage_N.std(unbiased=False).item() == pytest.approx(1.0, abs=1e-4)


def test_a_selection_of_samples_keeps_their_columns_together() -> None:
    made = build_experience([turn(3), turn(1), turn(2)], scored(6), torch.zeros(3), 0.1, settings_of())
    part = made.select([2, 0])
    assert part.sequences == (made.sequences[2], made.sequences[0])
    for name in ("old_logp_N", "value_N", "advantage_N", "return_N"):
        whole = getattr(made, name)
        assert torch.equal(getattr(part, name), whole[[4, 5, 0, 1, 2]])


def test_an_advantage_that_is_no_number_is_an_error() -> None:
    with pytest.raises(RunError, match="advantage"):
        build_experience([turn(3)], scored(3), torch.tensor([math.inf]), 0.1, settings_of())


@pytest.mark.parametrize(
    ("prompts", "more", "match"),
    [([], {}, "no prompts"), (PROMPTS, {"mini_batches": 9}, "mini-batches"),
     (PROMPTS, {"kl_in": "loss", "kl_estimator": "k1"}, "k1"), (PROMPTS, {"kl_estimator": "k2"}, "k2")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(
    prompts: list[Conversation], more: dict[str, object], match: str, template: ChatTemplate
) -> None:
    one = learner()
    assert one.policy is not None
    with pytest.raises(ConfigError, match=match):
        PPOTask(
            prompts, learner=one, sampler=LocalSampler(one.policy, template),
            scorer=FunctionScorer(lambda p, t: [0.0] * len(t)), scale=RewardScale(mean=0.0, spread=1.0),
            settings=settings_of(**more), seed=1,
        )  # fmt: skip


def test_dpo_settings_know_their_ranges() -> None:
    assert DPOSettings().beta == 0.1
    with pytest.raises(ValueError, match="label_smoothing"):
        DPOSettings(label_smoothing=0.5)
