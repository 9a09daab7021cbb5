"""Adapters of peft are themselves in every role: policy, reference, critic, sampled, trained and saved - or refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import peft
import pytest
import torch
import transformers
from small_models import causal_lm
from torch import Tensor
from torch.testing import assert_close
from training_jobs import CPU, PROMPTS, comparisons, train_dpo, train_ppo

from assent.algorithms.dpo import DPOSettings
from assent.algorithms.ppo import PPOSettings
from assent.backends.local.learner import LocalLearner
from assent.errors import ConfigError
from assent.model.flat import flatten
from assent.ports.learning import LearnerSettings, LossResult, Need, Roles
from assent.ports.sampling import SamplingParams
from assent.recipes.run.machine import LoraOptions
from assent.recipes.run.models import LanguageModel, load_language_model, save_language_model
from assent.recipes.run.roles import critic_of, reference_of
from assent.text.template import Encoded

IDS = [7, 9, 11, 40, 8, 7, 100]
QV = ["q_proj", "v_proj"]
VARIANTS: dict[str, tuple[str, dict]] = {  # base model and what the adapter is made with
    "plain": ("llama", {"target_modules": QV}),
    "rank-stabilised": ("llama", {"target_modules": QV, "use_rslora": True}),
    "dora": ("llama", {"target_modules": QV, "use_dora": True}),
    "alpha pattern": ("llama", {"target_modules": QV, "alpha_pattern": {"q_proj": 64}}),
    "rank pattern": ("llama", {"target_modules": QV, "rank_pattern": {"q_proj": 8}}),
    "one layer": ("llama", {"target_modules": QV, "layers_to_transform": [0]}),
    "layers by pattern": (
        "llama", {"target_modules": QV, "layers_to_transform": [1], "layers_pattern": "layers"},
    ),
    "excluded modules": ("qwen2", {"target_modules": "all-linear", "exclude_modules": ["k_proj"]}),
    "a name that is a pattern": ("llama", {"target_modules": r".*\.1\.mlp\.(up|down)_proj"}),
    "bias of its own": ("llama", {"target_modules": QV, "lora_bias": True}),
    "all biases of a model without": ("llama", {"target_modules": QV, "bias": "all"}),
    "gaussian start": ("llama", {"target_modules": QV, "init_lora_weights": "gaussian"}),
    "transposed layers": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "transposed layers with dora": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True}),
    "language head": ("qwen2", {"target_modules": ["lm_head"]}),
    "tied language head": ("llama", {"target_modules": ["lm_head"]}),
    "language head among others": ("qwen2", {"target_modules": [*QV, "lm_head"], "use_rslora": True}),
    "language head with dora": ("qwen2", {"target_modules": ["lm_head"], "use_dora": True}),
    "language head with a bias": ("qwen2", {"target_modules": ["lm_head"], "lora_bias": True}),
    "head of another name": ("neox", {"target_modules": ["embed_out", "query_key_value"]}),
    "embeddings": ("qwen2", {"target_modules": ["embed_tokens"]}),
    "tied embeddings": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embeddings with dora": ("qwen2", {"target_modules": ["embed_tokens"], "use_dora": True}),
    "tied embeddings and head": ("llama", {"target_modules": ["embed_tokens", "lm_head"]}),
}  # fmt: skip
VARIANT = pytest.mark.parametrize("variant", VARIANTS)


@torch.no_grad()
def shake(model: torch.nn.Module) -> None:
    """As if trained."""
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def made_by_peft(folders: dict[str, Path], base: str, options: dict, out: Path) -> Path:
    """An adapter folder as peft itself writes it."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folders[base])
    made = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **options))
    shake(made)
    made.peft_config["default"].base_model_name_or_path = str(folders[base])
    made.save_pretrained(str(out))
    return out


def in_peft(base: Path, adapter: Path) -> torch.nn.Module:
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    return peft.PeftModel.from_pretrained(model, str(adapter)).eval()


@torch.no_grad()
def logits_in_peft(base: Path, adapter: Path) -> Tensor:
    return in_peft(base, adapter)(torch.tensor([IDS])).logits[0]


@torch.no_grad()
def logits_of(model: LanguageModel) -> Tensor:
    return model.role.head.logits(model.role.body.hidden(flatten([IDS]), adapter=model.role.adapter))


@pytest.fixture
def variant_folder(variant: str, folders: dict[str, Path], tmp_path: Path) -> Path:
    return made_by_peft(folders, *VARIANTS[variant], tmp_path / "made")


@VARIANT
def test_an_adapter_says_what_it_says_in_peft_and_is_saved_as_it_is(
    variant: str, variant_folder: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    model, base = load_language_model(str(variant_folder), machine=CPU), folders[VARIANTS[variant][0]]
    true = logits_in_peft(base, variant_folder)
    assert_close(logits_of(model), true, atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        plain = transformers.AutoModelForCausalLM.from_pretrained(base)(torch.tensor([IDS])).logits[0]
    assert (plain - true).abs().max() > 1e-2, "the adapter changes nothing: the test could not fail"
    save_language_model(model, tmp_path / "saved")
    assert_close(logits_in_peft(base, tmp_path / "saved"), true, atol=2e-5, rtol=1e-4)
    assert_close(logits_of(load_language_model(str(tmp_path / "saved"), machine=CPU)), logits_of(model))


@VARIANT
@torch.no_grad()
def test_reference_and_critic_of_an_adapter_are_the_policy_as_it_was(variant: str, variant_folder: Path) -> None:
    model, batch = load_language_model(str(variant_folder), machine=CPU), flatten([IDS])
    reference, critic = reference_of(model), critic_of(model, None, name="critic", shared_trunk=False, seed=0)
    hidden, logits = model.role.hidden(batch), logits_of(model)
    assert_close(reference.hidden(batch), hidden)
    assert_close(reference.head.logits(reference.body.hidden(batch, adapter=reference.adapter)), logits)
    assert_close(critic.body.hidden(batch, batch.predict_M, adapter=critic.adapter), hidden)
    for name, parameter in model.role.parameters().items():
        parameter.add_(0.1 + 0.01 * len(name))
    assert (logits_of(model) - logits).abs().max() > 1e-3
    assert_close(reference.head.logits(reference.body.hidden(batch, adapter=reference.adapter)), logits)


@VARIANT
def test_before_the_first_update_ppo_has_no_divergence_and_dpo_knows_nothing(
    variant: str, variant_folder: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = load_language_model(str(variant_folder), machine=CPU)
    settings = PPOSettings(
        iterations=1, batch_size=4, epochs=1, mini_batches=1, max_tokens=5, learning_rate=1e-2, critic="separate"
    )
    before = logits_of(model)
    row = train_ppo(model, PROMPTS[:3], settings, seed=1, reward=_Length())[0]
    assert abs(row["kl"]) < 1e-5 and row["sampler_drift"] < 1e-4
    assert (logits_of(model) - before).abs().max() > 1e-3, "nothing was learned"
    dpo = DPOSettings(epochs=1, batch_size=11, learning_rate=1e-2)
    assert train_dpo(model, comparisons(), dpo, seed=1)[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    save_language_model(model, tmp_path / "trained")
    true = logits_in_peft(folders[VARIANTS[variant][0]], tmp_path / "trained")
    assert_close(logits_of(model), true, atol=5e-5, rtol=1e-4)


class _Length:
    """A reward: how long a text is."""

    def score(self, prompts: object, completions: list) -> list[float]:
        return [float(len(one.text)) for one in completions]


@pytest.mark.parametrize("variant", ["language head", "tied language head", "language head with dora"])
def test_the_gradient_of_an_adapter_on_the_language_head_is_that_of_peft(
    variant: str, variant_folder: Path, folders: dict[str, Path]
) -> None:
    model = load_language_model(str(variant_folder), machine=CPU)
    learner, example = (
        LocalLearner(Roles(policy=model.role)),
        Encoded(ids=tuple(IDS), assistant_mask=(True,) * len(IDS)),
    )

    def loss(outputs, run, count):  # type: ignore[no-untyped-def]
        return LossResult(loss=-outputs["logp"].sum(), sums={}, count=count)

    learner._accumulate([example], Need(), loss, 1.0)
    mine = {name.replace(".policy.", "."): p.grad for name, p in model.role.parameters().items()}
    plain = in_peft(folders[VARIANTS[variant][0]], variant_folder)
    logp = torch.log_softmax(plain(torch.tensor([IDS])).logits[0, :-1], dim=-1)
    for parameter in plain.parameters():
        parameter.requires_grad_(True)
    logp = torch.log_softmax(plain(torch.tensor([IDS])).logits[0, :-1], dim=-1)
    (-logp.gather(1, torch.tensor(IDS[1:])[:, None]).sum()).backward()
    true = {name.replace(".default.", "."): p.grad for name, p in plain.named_parameters() if "lora_" in name}
    assert len(mine) == len(true) >= 2
    for name, gradient in mine.items():
        assert_close(gradient, true[f"base_model.model.{name}"], atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("variant", ["language head", "embeddings", "language head with dora", "plain"])
@torch.no_grad()
def test_what_is_written_with_an_adapter_is_what_peft_writes(
    variant: str, variant_folder: Path, folders: dict[str, Path]
) -> None:
    model = load_language_model(str(variant_folder), machine=CPU)
    plain, ids = in_peft(folders[VARIANTS[variant][0]], variant_folder), list(model.template.encode_prompt(PROMPTS[0]))
    wanted: list[int] = []
    while len(wanted) < 8 and not (wanted and wanted[-1] in model.template.end_ids):
        wanted.append(int(plain(torch.tensor([ids + wanted])).logits[0, -1].argmax()))
    greedy = SamplingParams(max_tokens=8, temperature=0.0)
    (turn,) = model.sampler.sample(PROMPTS[:1], sampling=greedy, seed=0)
    assert list(turn.completion_ids) == wanted


REFUSED: dict[str, tuple[str, dict, str]] = {
    "pissa": ("llama", {"target_modules": QV, "init_lora_weights": "pissa"}, "pissa"),
    "olora": ("llama", {"target_modules": QV, "init_lora_weights": "olora"}, "olora"),
    "a whole language head": ("qwen2", {"target_modules": QV, "modules_to_save": ["lm_head"]}, "lm_head.weight"),
    "whole embeddings": ("qwen2", {"target_modules": QV, "modules_to_save": ["embed_tokens"]}, "embed_tokens.weight"),
    "single tokens": ("qwen2", {"target_modules": QV, "trainable_token_indices": [5]}, "trainable_token_indices"),
    "trained biases": ("qwen2", {"target_modules": QV, "bias": "all"}, "bias"),
    "biases of its layers": ("qwen2", {"target_modules": QV, "bias": "lora_only"}, "q_proj.bias"),
    "layers twice": ("llama", {"target_modules": QV, "layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    "tied adapters": (
        "llama", {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}, "ensure_weight_tying",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_adapter_that_is_not_exact_here_is_refused_by_name(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    base, options, told = REFUSED[name]
    folder = made_by_peft(folders, base, options, tmp_path / "made")
    with pytest.raises(ConfigError, match="adapter") as caught:
        load_language_model(str(folder), machine=CPU)
    assert told in str(caught.value)


KINDS = {
    "IA3": peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "LOHA": peft.LoHaConfig(task_type="CAUSAL_LM", target_modules=QV),
    "ADALORA": peft.AdaLoraConfig(task_type="CAUSAL_LM", target_modules=QV, total_step=10),
    "PROMPT_TUNING": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "TRAINABLE_TOKENS": peft.TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=[3]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_another_kind_is_refused_by_name(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    made = peft.get_peft_model(causal_lm("llama"), KINDS[kind])
    made.peft_config["default"].base_model_name_or_path = str(folders["llama"])
    made.save_pretrained(str(tmp_path / "made"))
    with pytest.raises(ConfigError, match=f"type {kind}"):
        load_language_model(str(tmp_path / "made"), machine=CPU)


def test_a_setting_that_nobody_here_knows_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = made_by_peft(folders, "llama", {"target_modules": QV}, tmp_path / "made")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "use_tomorrows_lora": True}))
    with pytest.raises(ConfigError, match="use_tomorrows_lora"):
        load_language_model(str(folder), machine=CPU)


def test_layers_that_are_not_there_are_told(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"lora.targets"):
        load_language_model(str(folders["llama"]), machine=CPU, lora=LoraOptions(rank=2, targets="q_prj"))
    spaced = load_language_model(str(folders["llama"]), machine=CPU, lora=LoraOptions(rank=2, targets="q_proj, v_proj"))
    assert {name.split(".")[4] for name in spaced.role.parameters()} == {"q_proj", "v_proj"}


def test_dropout_on_the_language_head_is_refused_where_it_would_be_on(folders: dict[str, Path]) -> None:
    lora = LoraOptions(rank=2, dropout=0.5, targets="lm_head,q_proj")
    model = load_language_model(str(folders["llama"]), machine=CPU, lora=lora)
    LocalLearner(Roles(policy=model.role))
    with pytest.raises(ConfigError, match="dropout"):
        LocalLearner(Roles(policy=model.role), LearnerSettings(dropout=True))


def test_modules_that_are_saved_whole_but_are_those_of_the_base_do_no_harm(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    model = peft.get_peft_model(causal_lm("qwen2"), peft.LoraConfig(target_modules=QV, modules_to_save=["lm_head"]))
    model.peft_config["default"].base_model_name_or_path = str(folders["qwen2"])
    model.save_pretrained(str(tmp_path / "made"))
    loaded = load_language_model(str(tmp_path / "made"), machine=CPU)
    assert_close(logits_of(loaded), logits_in_peft(folders["qwen2"], tmp_path / "made"), atol=2e-5, rtol=1e-4)
