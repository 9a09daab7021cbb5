"""Every setting of every on-policy method changes what is trained, or stands here with the reason why it does not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from training_jobs import CPU, PROMPTS

from assent.algorithms.methods import METHODS, load_named
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.recipes.run.models import load_language_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.training.prepare import prepare_on_policy

ON_POLICY = [name for name, method in METHODS.items() if method.reads == "prompts"]
BASE: dict[str, object] = {
    "iterations": 2, "batch_size": 4, "samples_per_prompt": 4, "max_tokens": 6, "mini_batches": 2, "epochs": 2,
    "learning_rate": 1e-2, "normalise_prompts": 8,
}  # fmt: skip
ELSEWHERE = {
    "micro_batch_tokens": "it changes the result only by rounding",
    "max_prompt_length": "prompts are left out before a method sees them",
    "reward_weights": "they are read where rewards are made",
    "evaluate_every": "it measures, and trains nothing",
    **dict.fromkeys(("max_turns", "max_episode_tokens", "environment_threads"), "see tests/contract/test_actor.py"),
}
CHANGED: dict[str, object] = {
    "iterations": 3, "batch_size": 5, "samples_per_prompt": 3, "epochs": 1, "mini_batches": 1, "learning_rate": 2e-2,
    "schedule": "constant", "warmup_share": 0.9, "weight_decay": 0.5, "max_gradient_norm": 1e-4, "adam_beta1": 0.5,
    "adam_beta2": 0.5, "max_tokens": 5, "temperature": 0.5, "top_p": 0.5, "top_k": 3, "entropy_coef": 0.5,
    "kl_coef": 2.0,
    "kl_estimator": "k1", "kl_top_k": 2, "kl_in": "loss", "adaptive_kl_target": 1e-4, "adaptive_kl_horizon": 1.0,
    "target_kl": 1e-9, "whiten_advantages": False, "whiten_rewards": True, "normalise_reward": False,
    "normalise_prompts": 16, "missing_eos_penalty": 3.0, "overlong_tokens": 6, "overlong_penalty": 5.0,
    "max_sampler_weight": 0.5, "clip_range_low": 1e-6, "clip_range_high": 1e-6, "clip_range_value": 1e-6,
    "value_coef": 9.0, "gamma": 0.5, "gae_lambda": 0.1, "critic": "shared", "scale_by_std": False,
    "loss_normalisation": "constant", "refill_rollouts": 2, "max_importance_weight": 1.0, "baseline": "group",
}  # fmt: skip
RELATIVE = ("grpo", "gspo", "cispo")
ANOTHER: dict[tuple[str, str], dict[str, object]] = {  # where the value above is the default, or is refused alone
    **{(name, "kl_in"): {"kl_in": "reward", "kl_estimator": "k1"} for name in RELATIVE},
    **{(name, "kl_estimator"): {"kl_estimator": "k2"} for name in RELATIVE},
    **{(name, "whiten_advantages"): {"whiten_advantages": True} for name in (*RELATIVE, "rloo", "reinforce")},
    ("rloo", "kl_in"): {"kl_in": "loss", "kl_estimator": "exact"},
    ("rloo", "kl_estimator"): {"kl_estimator": "k2"},
}
BESIDE: dict[tuple[str, str], dict[str, object]] = {  # what a setting works together with
    ("ppo", "adaptive_kl_horizon"): {"adaptive_kl_target": 1e-4},
    ("ppo", "overlong_penalty"): {"overlong_tokens": 6},
    ("rloo", "kl_estimator"): {"kl_in": "loss", "kl_estimator": "k3"},
    **{(name, "refill_rollouts"): {"samples_per_prompt": 2, "top_k": 3} for name in (*RELATIVE, "rloo")},
    **{("gspo", f"clip_range_{side}"): {"clip_range_low": 0.2, "clip_range_high": 0.2} for side in ("low", "high")},
}
CASES = [
    (method, setting)
    for method in ON_POLICY
    for setting in load_named(METHODS[method].settings).model_fields
    if setting not in ELSEWHERE and (method == "ppo" or setting not in OnPolicySettings.model_fields
    or (method, setting) in ANOTHER)
]  # fmt: skip


@cache
def weights(folder: Path, method: str, given: tuple[tuple[str, object], ...]) -> bytes:
    """The policy's weights after training."""
    entry = METHODS[method]
    settings = load_named(entry.settings)(**{**BASE, **dict(given)})
    model = load_language_model(str(folder), machine=CPU)
    scorer = FunctionScorer(lambda prompts, texts: [float(len(text) // 3) for text in texts])
    prepare_on_policy(load_named(entry.algorithm), model, PROMPTS, settings, seed=1, reward=scorer).run()
    return b"".join(p.detach().numpy().tobytes() for p in model.role.parameters().values())


@pytest.mark.slow
@pytest.mark.parametrize(("method", "setting"), CASES)
def test_it_changes_the_weights(method: str, setting: str, folders: dict[str, Path]) -> None:
    before = BESIDE.get((method, setting), {})
    after = before | ANOTHER.get((method, setting), {setting: CHANGED[setting]})
    first, second = (weights(folders["llama"], method, tuple(sorted(given.items()))) for given in (before, after))
    assert (first == second) is False  # without an explanation of kilobytes


def test_the_reasons_are_of_settings_that_there_are() -> None:
    assert ELSEWHERE.keys() <= OnPolicySettings.model_fields.keys() and not ELSEWHERE.keys() & CHANGED.keys()
