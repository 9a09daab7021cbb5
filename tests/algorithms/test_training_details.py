"""Counting, orders, schedules and what PPO does with rewards, KL and advantages."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from fakes import LengthScorer
from small_models import body_of, causal_lm
from torch.testing import assert_close
from training_jobs import CPU, LORA, PPO, PROMPTS, demonstrations, train_ppo

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.epochs import EpochTask, TrainSettings
from assent.algorithms.on_policy.advantages import with_advantages
from assent.algorithms.on_policy.drift import check_drift
from assent.algorithms.on_policy.experience import Experience, Sample
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.parts import Parts
from assent.algorithms.on_policy.reward_signal import RewardScale, shaped_rewards
from assent.algorithms.on_policy.rollout import Observer, Rollout
from assent.algorithms.on_policy.task import OnPolicyTask
from assent.algorithms.ppo import PPO as METHOD
from assent.algorithms.ppo import PPOSettings
from assent.algorithms.preference.pairs import encode_pairs
from assent.algorithms.reward import judgements_of, scored_pairs
from assent.algorithms.schedule import Schedule, learning_rate
from assent.algorithms.sft import SUPERVISED, encode_demonstrations
from assent.backends.local.learner import DRIFT_LIMITS, LocalLearner
from assent.backends.local.sampler import LocalSampler
from assent.environments.acting import Actor
from assent.errors import ConfigError, DataError, RunError
from assent.interrupts import StopRequest
from assent.metrics import Metrics
from assent.model.roles import LanguageRole
from assent.ports.learning import LearnerSettings, LossResult, Need, Outputs, Roles
from assent.recipes.run.machine import LoraOptions, MachineOptions
from assent.recipes.run.models import load_language_model, new_reward_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.run.roles import critic_of, reference_of
from assent.recipes.training.prepare_on_policy import prepare_on_policy
from assent.text.template import ChatTemplate, Encoded
from assent.types import Comparison, Completion, Conversation, Ranking, Rating, StopReason


def test_schedules_have_their_closed_forms() -> None:
    def rates(schedule: Schedule, warmup: float = 0.2) -> list[float]:
        return [learning_rate(s, peak=2.0, total=10, warmup_share=warmup, schedule=schedule) for s in range(10)]

    assert rates("constant") == [1.0] + [2.0] * 9
    assert rates("linear") == pytest.approx([1.0, 2.0] + [2 * (0.1 + 0.9 * (1 - k / 8)) for k in range(8)])
    cosine = [2 * (0.1 + 0.45 * (1 + math.cos(math.pi * k / 8))) for k in range(8)]
    assert rates("cosine") == pytest.approx([1.0, 2.0, *cosine])
    assert rates("linear", 0.0)[0] == 2.0 and min(rates("linear", 0.9)) > 0
    assert learning_rate(10, peak=2.0, total=10, warmup_share=0.0, schedule="cosine") == pytest.approx(0.2)


def learner(settings: LearnerSettings = LearnerSettings()) -> LocalLearner:
    return LocalLearner(Roles(policy=LanguageRole(body_of(causal_lm("llama")))), settings)


def epochs_of(count: int, *, seed: int = 1, **settings: float) -> EpochTask:
    examples = [Encoded(ids=(5, 6), assistant_mask=(False, True))] * count
    return EpochTask(learner(), SUPERVISED, examples, TrainSettings(**settings), seed=seed)


@pytest.mark.parametrize(
    ("count", "epochs", "steps"), [(11, 2.0, 6), (12, 1.0, 3), (3, 1.0, 1), (40, 0.5, 5), (4, 0.01, 1)]
)
def test_steps_are_epochs_over_all_items(count: int, epochs: float, steps: int) -> None:
    task = epochs_of(count, epochs=epochs, batch_size=4)
    assert task.total == steps
    seen = Counter(item for step in range(steps) for item in task.items(step))
    if epochs >= 1:
        assert seen == dict.fromkeys(range(count), epochs)
    assert all(len(set(task.items(step))) == len(task.items(step)) for step in range(steps))


def test_the_order_of_items_follows_the_seed_and_changes_with_the_epoch() -> None:
    def order(seed: int) -> list[list[int]]:
        task = epochs_of(11, epochs=2, batch_size=11, seed=seed)
        return [task.items(0), task.items(1)]

    assert order(1) == order(1) != order(2)
    assert order(1)[0] != order(1)[1]


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nothing to train on"):
        epochs_of(0)


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
    seen: list[float] = []

    def loss(outputs: Outputs, run: Sequence[Encoded], count: float) -> LossResult:
        seen.extend(outputs["logp"].tolist())
        return SUPERVISED.loss(outputs, run, count)

    one = learner(LearnerSettings(micro_batch_tokens=50))
    report = one.update(encoded, Need(), loss, SUPERVISED.count(encoded), 0.0)
    scored = one.score(encoded, Need())
    assert len(seen) == sum(sum(one.assistant_mask) for one in encoded)
    assert report.means["loss"] == pytest.approx(-sum(seen) / len(seen), rel=1e-5)
    assert sorted(seen) == pytest.approx(sorted(Outputs.joined(scored)["logp"].tolist()), abs=1e-5)


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
    return train_ppo(model, PROMPTS, settings, seed=1, reward=reward, **rest)


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
    prepared = prepare_on_policy(
        METHOD, model, PROMPTS, settings, seed=1, reward=FunctionScorer(lambda p, t: [len(x) for x in t])
    )
    hidden = model.role.hidden
    model.role.hidden = lambda batch: (read.extend(batch.lengths * (not torch.is_grad_enabled())), hidden(batch))[1]
    prepared.task.tick(0, StopRequest())
    assert len(read) == (3 if precision == "fp32" else 20)


@pytest.mark.parametrize("more", [{}, {"top_p": 0.98}])
def test_a_sampler_with_other_weights_stops_the_run_whatever_states_it_tells(
    more: dict[str, object], folders: dict[str, Path]
) -> None:
    """The states are another model's: nothing but the completions read again can show it."""
    model, other = (load_language_model(str(folders[name]), machine=CPU) for name in ("llama", "qwen2"))
    settings = settings_of(iterations=1, epochs=1, mini_batches=1, **more)
    critic = critic_of(model, None, name="critic", shared_trunk=True, seed=1)
    learner = LocalLearner(Roles(policy=model.role, critics={"value": critic}, reference=reference_of(model)))
    own, foreign = (
        OnPolicyTask(
            METHOD,
            Parts(
                prompts=PROMPTS, learner=learner, actor=Actor(sampler=sampler, sampling=settings.sampling),
                scale=RewardScale(mean=0.0, spread=1.0),
                scorer=FunctionScorer(lambda p, t: [len(x) for x in t]),
            ),
            settings, seed=1,
        )
        for sampler in (model.sampler, other.sampler)
    )  # fmt: skip
    before = {name: parameter.clone() for name, parameter in learner.parameters.items()}
    with pytest.raises(RunError, match="other weights than those just published"):
        foreign.tick(0, StopRequest())
    other.role.version = model.role.version + 1
    with pytest.raises(RunError, match=r"sampler and learner disagree by .* nats a token.*nothing was updated"):
        foreign.tick(0, StopRequest())
    assert all(torch.equal(before[name], parameter) for name, parameter in learner.parameters.items())
    assert more or own.tick(0, StopRequest())["sampler_drift"] < 1e-4


def test_without_a_learning_rate_ten_publishes_move_nothing(folders: dict[str, Path]) -> None:
    """Ten iterations at the rate 0: sampler and learner agree as at the start, and the policy stays."""
    model = load_language_model(str(folders["llama"]), machine=CPU)
    weights = {name: parameter.clone() for name, parameter in model.role.parameters().items()}
    settings = settings_of(iterations=10, adaptive_kl_target=None).model_copy(update={"learning_rate": 0.0})
    rows = train_ppo(model, PROMPTS, settings, seed=1, reward=LengthScorer())
    assert model.role.version == len(rows) == 10
    assert all(torch.equal(weights[name], parameter) for name, parameter in model.role.parameters().items())
    for row in rows:
        assert row["sampler_drift"] < 1e-4 and abs(row["kl"]) < 1e-6 and row["approx_kl"] == pytest.approx(0, abs=1e-9)


def drifting(logps: list[float], truth: list[float], *, truncated: bool = False) -> None:
    tokens = Encoded(ids=(1,) + (2,) * len(logps), assistant_mask=(False,) + (True,) * len(logps))
    sample = Sample(tokens=tokens, group=0, columns={"sampler_logp": torch.tensor(logps)})
    unread = Outputs(columns={"logp": torch.tensor(logps) + 9.0}, from_states=True)
    read = Outputs(columns={"logp": torch.tensor(truth)})
    check_drift([sample, sample], [unread, read], truncated=truncated, limit=0.1)


def test_drift_is_a_mean_so_that_one_token_does_not_stop_a_run() -> None:
    drifting([-1.0] * 10, [-1.0] * 9 + [-1.9])
    with pytest.raises(RunError, match=r"disagree by 0\.11 nats"):
        drifting([-1.0] * 10, [-1.0] * 9 + [-2.1])
    with pytest.raises(RunError, match=r"disagree by 0\.2 nats"):
        drifting([-1.0, -1.0], [-1.2, -0.8])


def test_a_truncated_distribution_is_higher_and_never_lower() -> None:
    drifting([-1.0, -1.0], [-3.0, -1.5], truncated=True)
    with pytest.raises(RunError, match=r"disagree by 0\.5 nats"):
        drifting([-1.0, -2.0], [-3.0, -1.0], truncated=True)


@pytest.mark.parametrize("lora", [None, LORA])
def test_rounding_to_bf16_is_far_from_the_limit(lora: LoraOptions | None, folders: dict[str, Path]) -> None:
    machine = MachineOptions(device="cpu", threads=1, precision="bf16")
    model = load_language_model(str(folders["llama"]), machine=machine, lora=lora)
    scorer = FunctionScorer(lambda p, t: [len(x) for x in t])
    rows = train_ppo(model, PROMPTS, settings_of(), seed=1, reward=scorer)
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

    rows = ppo_rows(folders, settings_of(iterations=4), observer=Observer(rollout=observer))
    assert Counter(seen[:8]) == Counter(PROMPTS) and Counter(seen[8:16]) == Counter(PROMPTS)
    assert seen[:8] != seen[8:16]
    assert [row["mine"] for row in rows] == [0.0, 1.0, 2.0, 3.0]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]


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
    shaped = shaped_rewards([1.0, 2.0, 3.0], completions, 0.75)
    assert shaped == [1.0, 1.25, 3.0]
    assert shaped_rewards([1.0, 2.0, 3.0], completions, 0.0) == [1.0, 2.0, 3.0]


def scored(*lengths: int) -> Experience:
    """Samples of two prompt tokens and so many of the policy's, with random statistics."""
    generator, count = torch.Generator().manual_seed(0), sum(lengths)
    columns = {name: torch.rand(count, generator=generator) for name in ("value", "kl", "entropy")}
    columns |= {name: -torch.rand(count, generator=generator) for name in ("logp", "reference_logp")}
    samples = [
        Sample(
            tokens=Encoded(ids=(5, 6, *range(7, 7 + length)), assistant_mask=(False, False) + (True,) * length),
            group=place, columns={},
        )
        for place, length in enumerate(lengths)
    ]  # fmt: skip
    return Experience(samples=tuple(samples)).with_columns(columns)


def shaped(found: Experience, reward_B: list[float], coef: float, **more: object) -> Experience:
    settings = settings_of(kl_coef=coef, **more)
    rewards = KLShaping.of(settings).token_rewards(reward_B, found, white=settings.whiten_rewards)
    return with_advantages(found, rewards, METHOD, settings)


def test_rewards_lie_on_last_tokens_and_the_penalty_on_every_token() -> None:
    found, reward_B = scored(3, 1, 2), [1.0, -2.0, 0.5]
    plain = {"gamma": 1.0, "gae_lambda": 1.0, "whiten_advantages": False}
    made = shaped(found, reward_B, 0.3, kl_estimator="k1", **plain)
    penalty_N = 0.3 * (found["logp"] - found["reference_logp"])
    token_N = -penalty_N + torch.tensor([0.0, 0.0, 1.0, -2.0, 0.0, 0.5])
    returns = torch.cat([part.flip(0).cumsum(0).flip(0) for part in token_N.split([3, 1, 2])])
    assert_close(made["return"], returns)
    assert_close(made["advantage"], returns - found["value"])
    in_loss = shaped(found, reward_B, 0.3, kl_in="loss", **plain)
    assert_close(in_loss["return"], torch.tensor([1.0, 1.0, 1.0, -2.0, 0.5, 0.5]))
    exact = shaped(found, reward_B, 0.3, kl_estimator="exact", **plain)
    exact_N = torch.cat(
        [part.flip(0).cumsum(0).flip(0) for part in (token_N + penalty_N - 0.3 * found["kl"]).split([3, 1, 2])]
    )
    assert_close(exact["return"], exact_N)
    assert_close(exact["advantage"], exact_N - found["value"] - (penalty_N - 0.3 * found["kl"]))
    assert made.lengths == [3, 1, 2]


def test_white_rewards_are_the_token_rewards_with_the_penalty_scaled_to_spread_one_about_their_mean() -> None:
    """As in the code of Ziegler et al. (2019) and TRL: (r_t - mean) / std + mean over all tokens, then GAE.

    The penalty of a token's own KL, which the exact estimate keeps out of the reward, is scaled with the rewards.
    """
    found, reward_B, beta = scored(3, 1, 2), [1.0, -2.0, 0.5], 0.3
    made = shaped(
        found, reward_B, beta, whiten_rewards=True, whiten_advantages=False, gae_lambda=0.95, kl_estimator="exact"
    )

    kl, value = found["kl"].double().tolist(), found["value"].double().tolist()
    own = (found["logp"] - found["reference_logp"]).double().tolist()
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
    assert_close(made["return"].double(), torch.tensor(returns, dtype=torch.float64), atol=1e-5, rtol=1e-5)
    with_own = [a - beta / std * (k1 - exact) for a, k1, exact in zip(advantages, own, kl, strict=True)]
    assert_close(made["advantage"].double(), torch.tensor(with_own, dtype=torch.float64), atol=1e-5, rtol=1e-5)


def test_white_advantages_have_mean_zero_and_spread_one() -> None:
    made = shaped(scored(3, 4), [1.0, 3.0], 0.1)
    assert made["advantage"].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert made["advantage"].std(unbiased=False).item() == pytest.approx(1.0, abs=1e-4)


def test_columns_go_with_their_samples() -> None:
    made = shaped(scored(3, 1, 2), [0.0] * 3, 0.1)
    part = Experience(samples=(made.samples[2], made.samples[0]))
    assert part.lengths == [2, 3]
    for name in ("logp", "value", "advantage", "return"):
        assert torch.equal(part[name], made[name][[4, 5, 0, 1, 2]])


def test_what_others_wrote_in_an_episode_is_not_the_policys() -> None:
    """Two turns of the policy around an observation: any mask, not only prompt and suffix."""
    tokens = Encoded(ids=(5, 6, 7, 8, 9, 10), assistant_mask=(False, True, False, False, True, True))
    (found,) = learner().score([tokens], Need())
    (whole,) = learner().score([Encoded(ids=tokens.ids, assistant_mask=(True,) * 6)], Need())
    assert Experience(samples=(Sample(tokens=tokens, group=0, columns={}),)).lengths == [3]
    assert_close(found["logp"], whole["logp"][[0, 3, 4]])


def test_an_advantage_that_is_no_number_is_an_error() -> None:
    with pytest.raises(RunError, match="advantage"):
        shaped(scored(3), [math.inf], 0.1)


@pytest.mark.parametrize(
    ("prompts", "more", "match"),
    [([], {}, "no prompts"), (PROMPTS, {"mini_batches": 9}, "mini-batches"),
     (PROMPTS, {"kl_in": "loss", "kl_estimator": "k1"}, "k1"), (PROMPTS, {"kl_estimator": "k2"}, "k2"),
     (PROMPTS, {"kl_estimator": "k3"}, r"k3 .* not that of the KL")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(
    prompts: list[Conversation], more: dict[str, object], match: str, template: ChatTemplate
) -> None:
    one = learner()
    assert one.roles.policy is not None
    with pytest.raises(ConfigError, match=match):
        parts = Parts(
            prompts=prompts, learner=one,
            actor=Actor(sampler=LocalSampler(one.roles.policy, template), sampling=settings_of().sampling),
            scorer=FunctionScorer(lambda p, t: [0.0] * len(t)), scale=RewardScale(mean=0.0, spread=1.0),
        )  # fmt: skip
        OnPolicyTask(METHOD, parts, settings_of(**more), seed=1)


def test_dpo_settings_know_their_ranges() -> None:
    assert DPOSettings().beta == 0.1
    with pytest.raises(ValueError, match="label_smoothing"):
        DPOSettings(label_smoothing=0.5)
