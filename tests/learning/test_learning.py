"""Every algorithm beats its start on a toy whose optimum is known, for three seeds; the bounds were set beforehand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_jobs import train_ppo, train_reward_model, train_sft

import assent
from assent.algorithms.grpo import GRPO, GRPOSettings
from assent.algorithms.methods import METHODS, load_named
from assent.algorithms.ppo import PPOSettings
from assent.algorithms.ppo_lagrangian import PPO_LAGRANGIAN, PPOLagrangianSettings
from assent.algorithms.reward import RewardSettings
from assent.algorithms.sft import SFTSettings
from assent.metrics import Metrics
from assent.model.flat import flatten
from assent.model.roles import LanguageRole
from assent.ports.sampling import SamplingParams
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import LanguageModel, load_language_model, new_reward_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.run.rewards import weighted
from assent.recipes.training.prepare_on_policy import PTXPrompts, prepare_on_policy
from assent.types import Comparison, Completion, Conversation, Demonstration

CPU = MachineOptions(device="cpu")
SEEDS = (1, 2, 3)
WORDS = ("red", "blue", "green", "yes", "no", "maybe", "four", "sun")
PROMPT = Conversation.of_user("what is it ?")
PROMPTS = [Conversation.of_user(f"{word} ?") for word in WORDS]
every_seed = pytest.mark.parametrize("seed", SEEDS)


def shown(prompts: list[Conversation], answers: list[str]) -> list[Demonstration]:
    return [Demonstration(conversation=prompt.then(answer)) for prompt, answer in zip(prompts, answers, strict=True)]


@pytest.fixture(scope="module")
def talker(folders: dict[str, Path]) -> Callable[[], LanguageModel]:
    """A model that answers any prompt with one of the words, each about as often."""
    made = load_language_model(str(folders["llama"]), machine=CPU)
    prompts, answers = [PROMPT, *PROMPTS] * 8, [word for word in WORDS for _ in range(9)]
    settings = SFTSettings(epochs=12, batch_size=36, learning_rate=5e-3)
    train_sft(made, shown(prompts, answers), settings, seed=0)

    def fresh() -> LanguageModel:
        role = LanguageRole(copy.deepcopy(made.role.body))
        return LanguageModel(role=role, template=made.template, path=made.path)

    return fresh


def answers_of(model: LanguageModel, prompts: list[Conversation], *, temperature: float, seed: int = 9) -> list[str]:
    turns = model.sampler.sample(prompts, sampling=SamplingParams(max_tokens=6, temperature=temperature), seed=seed)
    return [turn.completion.text for turn in turns]


@every_seed
def test_sft_learns_a_mapping(seed: int, folders: dict[str, Path]) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    answers = [*WORDS[seed:], *WORDS[:seed]]
    assert answers_of(model, PROMPTS, temperature=0.0) != answers
    settings = SFTSettings(epochs=60, batch_size=8, learning_rate=1e-2)
    rows = train_sft(model, shown(PROMPTS, answers), settings, seed=seed)
    assert answers_of(model, PROMPTS, temperature=0.0) == answers
    assert rows[-1]["loss"] < 0.05 < rows[0]["loss"]


@every_seed
def test_a_reward_model_recovers_the_utilities_behind_soft_choices(seed: int, folders: dict[str, Path]) -> None:
    """P(a beats b) = s(u_a - u_b), so at the optimum rewards differ as utilities do."""
    utilities = {word: ((place * 3 + seed) % 8) / 2 - 2 for place, word in enumerate(WORDS)}
    pairs = [
        Comparison(
            prompt=PROMPT,
            chosen=Completion(text=a),
            rejected=Completion(text=b),
            probability=1 / (1 + math.exp(utilities[b] - utilities[a])),
        )
        for a, b in combinations(WORDS, 2)
    ]
    reward = new_reward_model(str(folders["llama"]), machine=CPU, seed=seed)
    settings = RewardSettings(epochs=60, batch_size=28, learning_rate=3e-3, centre=0.01)
    train_reward_model(reward, pairs, settings, seed=seed)
    scores = reward.scorer.score([PROMPT] * 8, [Completion(text=word) for word in WORDS])
    mean = sum(scores) / 8, sum(utilities.values()) / 8
    for word, score in zip(WORDS, scores, strict=True):
        assert score - mean[0] == pytest.approx(utilities[word] - mean[1], abs=0.25), word


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
@pytest.mark.parametrize("critic", ["shared", pytest.param("separate", marks=pytest.mark.slow)])
def test_ppo_finds_the_wanted_word(critic: str, seed: int, talker: Callable[[], LanguageModel]) -> None:
    model, wanted = talker(), WORDS[seed]
    before = answers_of(model, PROMPTS * 16, temperature=1.0).count(wanted) / 128
    assert before < 0.35
    settings = PPOSettings(
        iterations=35,
        batch_size=64,
        learning_rate=2e-3,
        max_tokens=6,
        kl_coef=0.02,
        critic=critic,
        schedule="constant",
        normalise_reward=False,  # the word is rare at first: one in 128 for seed 2
    )
    scorer = FunctionScorer(lambda prompts, texts: [float(text == wanted) for text in texts])
    train_ppo(model, PROMPTS, settings, seed=seed, reward=scorer)
    assert answers_of(model, PROMPTS * 16, temperature=1.0).count(wanted) / 128 > 0.9


WITHOUT_CRITIC: dict[str, dict[str, object]] = {  # every method of the table that has no critic, and what it needs here
    "grpo": {"batch_size": 8},
    "gspo": {"batch_size": 8, "clip_range_low": 0.1, "clip_range_high": 0.1},  # a word is three tokens, not a thousand
    "cispo": {"batch_size": 8},
    "rloo": {"batch_size": 16, "samples_per_prompt": 4},
    "reinforce": {"batch_size": 64},
    "reinforce_pp": {"batch_size": 64},
    "raft": {"batch_size": 8, "min_reward": 0.5},
    "online_dpo": {"batch_size": 16, "samples_per_prompt": 8, "sft_coef": 0.2},
}


def test_every_method_that_learns_from_rewards_learns_here() -> None:
    assert {"ppo", "ppo_lagrangian", *WITHOUT_CRITIC} == {
        name for name, method in METHODS.items() if method.reads == "prompts"
    }


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
@pytest.mark.parametrize("name", WITHOUT_CRITIC)
def test_a_method_without_a_critic_finds_the_wanted_word(
    name: str, seed: int, talker: Callable[[], LanguageModel]
) -> None:
    model, wanted, method = talker(), WORDS[seed], METHODS[name]
    settings = load_named(method.settings)(
        iterations=80, epochs=1, mini_batches=1, learning_rate=2e-3, max_tokens=6, kl_coef=0.02, schedule="constant",
        normalise_reward=False, **WITHOUT_CRITIC[name],
    )  # fmt: skip
    scorer = FunctionScorer(lambda prompts, texts: [float(text == wanted) for text in texts])
    algorithm = load_named(method.algorithm)
    rows = prepare_on_policy(algorithm, model, PROMPTS, settings, seed=seed, reward=scorer).run()
    assert answers_of(model, PROMPTS * 16, temperature=1.0).count(wanted) / 128 > 0.9
    assert all("value_loss" not in row and "explained_variance" not in row for row in rows)


@every_seed
def test_online_dpo_learns_from_a_judge_that_compares(seed: int, talker: Callable[[], LanguageModel]) -> None:
    model, wanted = talker(), WORDS[seed]

    class Prefers:
        def prefer(self, prompts: list[Conversation], first: list[Completion], second: list[Completion]) -> list[float]:
            pairs = zip(first, second, strict=True)
            return [0.5 + 0.5 * ((one.text == wanted) - (other.text == wanted)) for one, other in pairs]

    rows: list[Metrics] = []
    assent.online_dpo(
        model, PROMPTS, reward=Prefers(), iterations=60, batch_size=16, samples_per_prompt=4, mini_batches=1,
        learning_rate=2e-3, max_tokens=6, schedule="constant", normalise_prompts=64, on_step=rows.append,
    )  # fmt: skip
    assert answers_of(model, PROMPTS * 16, temperature=1.0).count(wanted) / 128 > 0.9
    assert all(row["reward"] == pytest.approx(0.5) for row in rows), "what one wins another loses"


def first_token_logp(model: LanguageModel) -> Tensor:
    with torch.no_grad():
        batch = flatten([model.template.encode_prompt(PROMPT)])
        hidden_NH = model.role.body.hidden(batch, adapter=model.role.adapter)
        return torch.log_softmax(model.role.head.logits(hidden_NH[-1:])[0].double(), -1)


def utility(text: str) -> float:
    return (ord(text[0]) % 5) / 2 - 1.0 if text else 0.0


def harm(text: str) -> float:
    return (ord(text[-1]) % 4) / 2 if text else 0.0


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
def test_the_lagrangian_finds_the_constrained_optimum(seed: int, talker: Callable[[], LanguageModel]) -> None:
    """With E[c] = budget, E[r] - beta KL of one token is greatest at ref exp((r - lambda c) / beta), for one lambda."""
    model, beta = talker(), 0.5
    reference_V = first_token_logp(model)
    texts = [model.template.decode([token]) for token in range(len(reference_V))]
    utility_V, harm_V = (torch.tensor([score(text) for text in texts]).double() for score in (utility, harm))

    def ideal(multiplier: float) -> Tensor:
        return torch.softmax(reference_V + (utility_V - multiplier * harm_V) / beta, -1)

    free, budget = (float((ideal(multiplier) * harm_V).sum()) for multiplier in (0.0, 1.5))
    assert free > budget + 0.2, "the budget should bind"
    settings = PPOLagrangianSettings(
        iterations=80, batch_size=128, learning_rate=3e-3, schedule="linear", max_tokens=1, kl_coef=beta,
        whiten_advantages=False, missing_eos_penalty=0.0, critic="shared", normalise_reward=False, epochs=2,
        mini_batches=1, cost_budget=budget, multiplier=0.3, multiplier_learning_rate=0.5,
    )  # fmt: skip
    scorers = [FunctionScorer(lambda prompts, texts, one=one: [one(text) for text in texts]) for one in (utility, harm)]
    reward = weighted([("utility", scorers[0])], (), cost=scorers[1])
    rows = prepare_on_policy(PPO_LAGRANGIAN, model, [PROMPT], settings, seed=seed, reward=reward).run()
    found_V = first_token_logp(model).exp()
    far, near = (0.5 * float((p_V - ideal(1.5)).abs().sum()) for p_V in (reference_V.exp(), found_V))
    assert far > 0.2 and near < 0.1
    assert float((found_V * harm_V).sum()) == pytest.approx(budget, abs=0.05)
    assert rows[-1]["multiplier"] == pytest.approx(1.5, rel=0.3)


@every_seed
def test_ptx_keeps_what_the_reward_would_forget(seed: int, talker: Callable[[], LanguageModel]) -> None:
    """One word is rewarded; without PTX it is said everywhere, with PTX the demonstrated answers stay likely."""
    wanted = {1: "blue", 2: "red", 3: "yes"}[seed]  # none that is rare at first: PTX would keep it so
    taught = Conversation.of_user("the sun is ?")
    demonstrations, left = shown([taught], [WORDS[seed + 2]]), {}
    scorer = FunctionScorer(lambda prompts, texts: [float(text == wanted) for text in texts])
    for coef in (0.0, 1.0):
        model = talker()
        train_sft(model, demonstrations * 8, SFTSettings(epochs=8, batch_size=8, learning_rate=2e-3), seed=seed)
        settings = GRPOSettings(
            iterations=80, batch_size=8, mini_batches=1, learning_rate=2e-3, max_tokens=6, kl_coef=0.0,
            schedule="constant", normalise_reward=False, ptx_coef=coef, ptx_batch_size=2,
        )  # fmt: skip
        prompts = PTXPrompts(prompts=PROMPTS, ptx=demonstrations if coef else ())
        rows = prepare_on_policy(GRPO, model, prompts, settings, seed=seed, reward=scorer).run()
        assert sum(row["reward"] for row in rows[-5:]) / 5 > 0.8 and ("ptx_loss" in rows[-1]) is bool(coef)
        left[coef] = answers_of(model, [taught] * 32, temperature=1.0).count(WORDS[seed + 2]) / 32
    assert left[0.0] < 0.5 < 0.9 < left[1.0]


PENALTIES = [("reward", "exact"), ("loss", "exact"), ("reward", "k1"), ("loss", "k2")]
TILTED = [(*penalty, seed) for penalty in PENALTIES for seed in SEEDS]


@pytest.mark.slow
@pytest.mark.parametrize(("place", "estimator", "seed"), TILTED)
def test_ppo_with_a_kl_penalty_ends_at_the_tilted_reference(
    place: str, estimator: str, seed: int, talker: Callable[[], LanguageModel]
) -> None:
    """Of one token the optimum of E[r] - beta KL is known: pi*(a) ~ ref(a) exp(r(a) / beta)."""
    model, beta = talker(), 0.7
    reference_V = first_token_logp(model)
    utility_V = torch.tensor([utility(model.template.decode([token])) for token in range(len(reference_V))])
    ideal_V = torch.softmax(reference_V + utility_V / beta, -1)
    settings = PPOSettings(
        iterations=40, batch_size=128, learning_rate=2e-3, schedule="linear", max_tokens=1, kl_coef=beta,
        kl_in=place, kl_estimator=estimator, whiten_advantages=False, missing_eos_penalty=0.0, critic="shared",
        normalise_reward=False, epochs=2, mini_batches=1,
    )  # fmt: skip
    scorer = FunctionScorer(lambda prompts, texts: [utility(text) for text in texts])
    train_ppo(model, [PROMPT], settings, seed=seed, reward=scorer)
    found_V = first_token_logp(model).exp()
    far, near = (0.5 * float((p_V - ideal_V).abs().sum()) for p_V in (reference_V.exp(), found_V))
    assert far > 0.2 and near < 0.08
