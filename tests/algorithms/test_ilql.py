"""ILQL as a method: every setting matters, what is held out is measured, other methods refuse its models."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from training_jobs import COMMON, CPU, EXAMPLES, LORA, PPO, PROMPTS, TRAINED, dialogues

from assent.algorithms.ilql import ILQL, ILQLSettings
from assent.algorithms.methods import METHODS, load_named
from assent.errors import ConfigError
from assent.ports.sampling import SamplingParams
from assent.recipes.run.models import LanguageModel, load_language_model
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.training.prepare import prepare_offline
from assent.recipes.training.prepare_on_policy import prepare_on_policy
from assent.types import Turn

BASE: dict[str, object] = {"epochs": 2, **COMMON, "target_step": 0.3, "awac_beta": 0.5}
CHANGED: dict[str, object] = {
    "epochs": 1, "batch_size": 3, "learning_rate": 1e-3, "schedule": "constant", "warmup_share": 0.9,
    "weight_decay": 0.5, "max_gradient_norm": 1e-4, "adam_beta1": 0.5, "adam_beta2": 0.5, "max_length": 40,
    "gamma": 0.5, "expectile": 0.5, "cql_coef": 3.0, "awac_coef": 0.0, "awac_beta": 2.0, "target_step": 1.0,
}  # fmt: skip
ELSEWHERE = {
    "micro_batch_tokens": "it changes the result only by rounding",
    "gradient_checkpointing": "it changes no number; tests/backends/test_micro_batches.py",
    "evaluate_every": "it measures, and trains nothing",
    "dropout": "this model has none",
    "beta": "it is written with, and trains nothing",
}


def trained(folder: Path, **given: object) -> LanguageModel:
    model = load_language_model(str(folder), machine=CPU)
    prepare_offline(ILQL, model, dialogues(), ILQLSettings(**{**BASE, **given}), seed=1).run()
    return model


@cache
def weights(folder: Path, given: tuple[tuple[str, object], ...]) -> bytes:
    model = trained(folder, **dict(given))
    assert model.role.action_values is not None
    learned = [*model.role.parameters().values(), *model.role.action_values.target.parameters()]
    return b"".join(parameter.detach().numpy().tobytes() for parameter in learned)


def test_every_setting_stands_here() -> None:
    assert {*CHANGED, *ELSEWHERE} == ILQLSettings.model_fields.keys()


@pytest.mark.parametrize("name", CHANGED)
def test_every_setting_changes_what_is_trained(name: str, folders: dict[str, Path]) -> None:
    assert (weights(folders["llama"], ()) == weights(folders["llama"], ((name, CHANGED[name]),))) is False


def test_beta_changes_what_is_written_and_nothing_that_is_trained(folders: dict[str, Path]) -> None:
    assert (weights(folders["llama"], ()) == weights(folders["llama"], (("beta", 9.0),))) is True
    written: list[list[Turn]] = []
    for beta in (0.0, 200.0):
        model = trained(folders["llama"], beta=beta)
        written.append(model.sampler.sample(PROMPTS, sampling=SamplingParams(max_tokens=6), seed=1))
        model.role.action_values = None
        written.append(model.sampler.sample(PROMPTS, sampling=SamplingParams(max_tokens=6), seed=1))
    assert written[0] == written[1] == written[3] != written[2]


BAD = {
    "gamma": (0.0, 1.1), "expectile": (0.0, 1.0), "target_step": (0.0, 1.1), "beta": (-1.0,), "cql_coef": (-0.1,),
    "awac_coef": (-1.0,), "awac_beta": (-1.0,),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        ILQLSettings(**{name: value})


def test_held_out_dialogues_are_measured_by_the_same_losses(folders: dict[str, Path]) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    settings, held = ILQLSettings(**BASE, evaluate_every=3), dialogues()[8:]
    rows = prepare_offline(ILQL, model, dialogues()[:8], settings, seed=1, held_out=held).run()
    assert [row["step"] for row in rows if "eval_loss" in row] == [0, 3, 4]
    first = rows[0]
    rewards = [reward for one in held for reward in one.rewards]
    tokens = sum(len(one.rewards) for one in ILQL.encode(held, model.template, max_length=64).items)
    assert first["eval_q_loss"] == pytest.approx(2 * sum(one**2 for one in rewards) / tokens)
    assert first["eval_v_loss"] == first["eval_q"] == first["eval_advantage"] == 0.0, "values begin at zero"
    assert first["eval_cql_loss"] == pytest.approx(2 * torch.tensor(300.0).log().item(), rel=1e-5)
    parts = first["eval_q_loss"] + 0.1 * first["eval_cql_loss"] + first["eval_behaviour_loss"]
    assert first["eval_loss"] == pytest.approx(parts, rel=1e-5)


def test_it_goes_on_from_the_values_that_there_are(folders: dict[str, Path]) -> None:
    model = trained(folders["llama"])
    before = model.role.action_values
    assert before is not None
    slow = {name: parameter.clone() for name, parameter in before.target.named_parameters()}
    rows = prepare_offline(ILQL, model, dialogues(), ILQLSettings(**BASE), seed=2).run()
    assert model.role.action_values is before and rows[0]["q"] != 0.0
    assert any(not torch.equal(slow[name], parameter) for name, parameter in before.target.named_parameters())


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "ilql" and METHODS[name].makes == "policy"])
def test_other_methods_refuse_a_model_that_writes_by_values(name: str, folders: dict[str, Path]) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU, lora=LORA)
    model.role.learn_action_values(beta=1.0, target_step=0.1, seed=0)
    method, algorithm = METHODS[name], load_named(METHODS[name].algorithm)
    with pytest.raises(ConfigError, match="writes by action values, which this method cannot train"):
        if method.reads == "prompts":
            settings = load_named(method.settings)(**PPO)
            scorer = FunctionScorer(lambda prompts, texts: [float(len(text)) for text in texts])
            prepare_on_policy(algorithm, model, PROMPTS, settings, seed=1, reward=scorer)
        else:
            settings = load_named(method.settings)(**COMMON)
            prepare_offline(algorithm, model, EXAMPLES[method.reads](), settings, seed=1)
