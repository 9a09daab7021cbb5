"""Every setting of every method changes what is trained, or stands here with the reason why it does not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from training_jobs import CPU, EXAMPLES, PROMPTS, demonstrations

from assent.algorithms.epochs import TrainSettings
from assent.algorithms.methods import METHODS, load_named
from assent.algorithms.on_policy.settings import AdvantageSettings
from assent.recipes.run.models import load_language_model, new_reward_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.run.rewards import weighted
from assent.recipes.training.prepare import prepare_offline
from assent.recipes.training.prepare_on_policy import PTXPrompts, prepare_on_policy

ON_POLICY = [name for name, method in METHODS.items() if method.reads == "prompts"]
OWN_TEST = ("ilql",)  # which has heads to look at as well: tests/algorithms/test_ilql.py
OFFLINE = [name for name, method in METHODS.items() if method.algorithm and name not in (*ON_POLICY, *OWN_TEST)]
BASE: dict[str, object] = {
    "iterations": 2, "batch_size": 4, "samples_per_prompt": 4, "max_tokens": 6, "mini_batches": 2, "epochs": 2,
    "learning_rate": 1e-2, "normalise_prompts": 8,
}  # fmt: skip
ELSEWHERE = {
    "micro_batch_tokens": "it changes the result only by rounding",
    "gradient_checkpointing": "it changes no number; tests/backends/test_micro_batches.py",
    "max_prompt_length": "prompts are left out before a method sees them",
    "reward_weights": "they are read where rewards are made",
    "evaluate_every": "it measures, and trains nothing",
    "max_length": "what is longer is left out before a method sees it",
    "classes": "the head has them before a method sees it",
    "personal_rank": "annotators' heads lie beside the weights; tests/model/test_personal_heads.py",
    **dict.fromkeys(("max_turns", "max_episode_tokens", "environment_threads"), "see tests/contract/test_actor.py"),
}
CHANGED: dict[str, object] = {
    "iterations": 3, "batch_size": 5, "samples_per_prompt": 3, "epochs": 1, "mini_batches": 1, "learning_rate": 2e-2,
    "schedule": "constant", "warmup_share": 0.9, "weight_decay": 0.5, "max_gradient_norm": 1e-4, "adam_beta1": 0.5,
    "adam_beta2": 0.5, "max_tokens": 5, "temperature": 0.5, "top_p": 0.5, "top_k": 3, "entropy_coef": 0.5,
    "kl_coef": 2.0,
    "kl_estimator": "k1", "kl_top_k": 2, "kl_in": "loss", "adaptive_kl_target": 1e-4, "adaptive_kl_horizon": 1.0,
    "target_kl": 1e-9, "kl_budget": 1e-9, "whiten_advantages": False, "whiten_rewards": True, "normalise_reward": False,
    "normalise_prompts": 16, "missing_eos_penalty": 3.0, "overlong_tokens": 6, "overlong_penalty": 5.0,
    "max_sampler_weight": 0.5, "clip_range_low": 1e-6, "clip_range_high": 1e-6, "clip_range_value": 1e-6,
    "value_coef": 9.0, "gamma": 0.5, "gae_lambda": 0.1, "critic": "shared", "scale_by_std": False,
    "loss_normalisation": "constant", "refill_rollouts": 2, "max_importance_weight": 1.0, "baseline": "group",
    "ptx_coef": 0.5, "ptx_batch_size": 3, "keep": 2, "min_reward": 0.3, "cost_budget": 3.0, "multiplier": 3.0,
    "multiplier_learning_rate": 0.9, "beta": 0.9, "label_smoothing": 0.3, "form": "hinge", "length_normalised": True,
    "sft_coef": 2.0, "dropout": "model", "train": "head", "head_first": False, "loss": "plackett_luce", "centre": 0.5,
    "desirable_weight": 3.0, "undesirable_weight": 3.0, "odds_ratio_coef": 2.0,
}  # fmt: skip
RELATIVE = ("grpo", "gspo", "cispo")
ANOTHER: dict[tuple[str, str], dict[str, object]] = {  # where the value above is the default, or is refused alone
    **{(name, "kl_in"): {"kl_in": "reward", "kl_estimator": "k1"} for name in RELATIVE},
    **{(name, "kl_estimator"): {"kl_estimator": "k2"} for name in RELATIVE},
    **{(name, "whiten_advantages"): {"whiten_advantages": True} for name in (*RELATIVE, "rloo", "reinforce")},
    ("rloo", "kl_in"): {"kl_in": "loss", "kl_estimator": "exact"},
    ("rloo", "kl_estimator"): {"kl_estimator": "k2"},
}
OFFLINE_BASE: dict[str, object] = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2}
BESIDE: dict[tuple[str, str], dict[str, object]] = {  # what a setting works together with
    ("ppo", "adaptive_kl_horizon"): {"adaptive_kl_target": 1e-4},
    ("ppo", "overlong_penalty"): {"overlong_tokens": 6},
    ("ppo", "kl_budget"): {"iterations": 3},
    ("ppo", "ptx_batch_size"): {"ptx_coef": 0.5},
    ("rloo", "kl_estimator"): {"kl_in": "loss", "kl_estimator": "k3"},
    **{(name, "refill_rollouts"): {"samples_per_prompt": 2, "top_k": 3} for name in (*RELATIVE, "rloo", "raft")},
    ("online_dpo", "refill_rollouts"): {"samples_per_prompt": 2, "top_k": 3},
    **{("gspo", f"clip_range_{side}"): {"clip_range_low": 0.2, "clip_range_high": 0.2} for side in ("low", "high")},
}
SHARED = {**dict.fromkeys(ON_POLICY, AdvantageSettings), **dict.fromkeys(OFFLINE, TrainSettings)}
CASES = [
    (method, setting)
    for method, shared in SHARED.items()
    for setting in load_named(METHODS[method].settings).model_fields
    if setting not in ELSEWHERE
    and (method in ("ppo", "sft") or setting not in shared.model_fields or (method, setting) in ANOTHER)
]


def scored(modulus: int) -> FunctionScorer:
    return FunctionScorer(lambda prompts, texts: [float(len(text) // 3 % modulus) for text in texts])


@cache
def weights(folder: Path, method: str, given: tuple[tuple[str, object], ...]) -> bytes:
    """What is trained, after training."""
    entry, algorithm, chosen = METHODS[method], load_named(METHODS[method].algorithm), dict(given)
    settings = load_named(entry.settings)(**{**(BASE if method in ON_POLICY else OFFLINE_BASE), **chosen})
    if entry.makes == "reward model":
        model = new_reward_model(str(folder), machine=CPU, seed=1)
    else:
        model = load_language_model(str(folder), machine=CPU)
    if method in OFFLINE:
        examples = EXAMPLES["rankings" if entry.reads == "preferences" else entry.reads]()
        prepare_offline(algorithm, model, examples, settings, seed=1).run()
    else:
        prompts = PTXPrompts(prompts=PROMPTS, ptx=demonstrations() if settings.ptx_coef else ())
        reward = weighted([("length", scored(99))], (), cost=scored(3) if entry.needs_cost else None)
        prepare_on_policy(algorithm, model, prompts, settings, seed=1, reward=reward).run()
    parameters = [*model.role.parameters().values()]
    return b"".join(p.detach().numpy().tobytes() for p in parameters)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "setting"), CASES)
def test_it_changes_the_weights(method: str, setting: str, folders: dict[str, Path]) -> None:
    before = BESIDE.get((method, setting), {})
    after = before | ANOTHER.get((method, setting), {setting: CHANGED[setting]})
    folder = folders["gpt2" if setting == "dropout" else "llama"]  # llama has none
    first, second = (weights(folder, method, tuple(sorted(given.items()))) for given in (before, after))
    assert (first == second) is False  # without an explanation of kilobytes


def test_the_reasons_are_of_settings_that_there_are() -> None:
    known = {setting for method in SHARED for setting in load_named(METHODS[method].settings).model_fields}
    assert ELSEWHERE.keys() <= known and CHANGED.keys() <= known and not ELSEWHERE.keys() & CHANGED.keys()
