"""The published software's side of a comparison; runs in the peers' environment (benchmarks/make_peers.sh).

A line `NAME IN OUT` on the standard input asks for a function of NAMED: IN is a safetensors file with its tensors and,
as metadata, its settings in JSON. OUT gets the tensors that the function gives; of a `loss` also its gradient with
respect to every input that has one, as `gradient/INPUT`. The answer is a line: `done`, or the error.

Legend: B sequences, T tokens of the longest (padded on the right), G sequences of a prompt.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

Tensors = Mapping[str, Tensor]
ABSENT = ("deepspeed", "omegaconf", "openrlhf.trainer.ray", "openrlhf.utils", "ray", "tensordict")


class _Absent:
    """Stands for the modules of ABSENT, which need a GPU or much else; whatever is taken from them is a mock."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if f"{name}.".startswith(tuple(f"{one}." for one in ABSENT)) else None

    def create_module(self, spec: ModuleSpec) -> Any:
        return MagicMock(__path__=[], __spec__=spec, __name__=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def package_file(package: str, version: str, module: str, **given: ModuleType) -> Any:
    """One file of an unpacked wheel, without running the `__init__` of the packages around it."""
    root = Path(sys.prefix) / f"{package}-{version}"
    parts = module.split(".")
    for depth in range(1, len(parts)):
        name = ".".join(parts[:depth])
        around = ModuleType(name)
        around.__path__ = [str(root.joinpath(*parts[:depth]))]
        sys.modules.setdefault(name, around)
    sys.modules.update({name.replace("__", "."): stub for name, stub in given.items()})
    sys.meta_path.insert(0, absent := _Absent())
    try:
        return importlib.import_module(module)
    finally:
        sys.meta_path.remove(absent)


def statements(function: Callable[..., Any], first: str, last: str) -> Any:
    """The statements of a function from the one that assigns `first` to the last that assigns `last`, compiled."""
    body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body  # type: ignore[attr-defined]

    def places(name: str) -> list[int]:
        assigns = [isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == name for one in body]
        return [place for place, found in enumerate(assigns) if found]

    chosen = body[places(first)[0] : places(last)[-1] + 1]
    return compile(ast.Module(body=chosen, type_ignores=[]), f"<{function.__qualname__}>", "exec")


class Alone:
    """Stands for accelerate's accelerator in one process."""

    num_processes, process_index, sync_gradients, device = 1, 0, True, "cpu"

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    gather_for_metrics = gather

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return tensor


def _trl_trainer(settings: dict[str, Any], tensors: Tensors, more: dict[str, Any]) -> SimpleNamespace:
    """What the loss of a trainer reads of the trainer."""
    logp_BT = tensors["logp"]
    own = {
        "_get_per_token_logps_and_entropies": lambda *_, **__: (logp_BT, torch.zeros_like(logp_BT), None),
        "_metrics": MagicMock(), "accelerator": Alone(), "model": SimpleNamespace(training=True),
        "aux_loss_enabled": False, "beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2,
    }  # fmt: skip
    return SimpleNamespace(**{**own, **more, **settings})


def _trl_batch(tensors: Tensors) -> dict[str, Tensor]:
    mask_BT = tensors["mask"]
    nothing_B0 = torch.zeros((len(mask_BT), 0), dtype=torch.long)
    return {
        "prompt_ids": nothing_B0, "prompt_mask": nothing_B0, "completion_ids": mask_BT.long(),
        "completion_mask": mask_BT, "num_items_in_batch": mask_BT.sum(), "advantages": tensors["advantage"],
    }  # fmt: skip


def trl_grpo_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`loss_type`, `importance_sampling_level`, `epsilon_low`, ...: the attributes of GRPOTrainer."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    more = {
        "top_entropy_quantile": 1.0, "off_policy_mask_threshold": None, "importance_sampling_level": "token",
        "args": SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        "use_vllm": "weight" in tensors, "vllm_importance_sampling_correction": True,
        "current_gradient_accumulation_steps": 1, "_entropy_bonus_enabled": False,
    }  # fmt: skip
    batch = {**_trl_batch(tensors), "old_per_token_logps": tensors["old_logp"]}
    if "reference_logp" in tensors:
        batch["ref_per_token_logps"] = tensors["reference_logp"]
    if "weight" in tensors:
        batch["importance_sampling_ratio"] = tensors["weight"]
    return {"loss": GRPOTrainer._compute_loss(_trl_trainer(settings, tensors, more), None, batch)}


def trl_rloo_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """The loss of RLOOTrainer."""
    from trl.trainer.rloo_trainer import RLOOTrainer

    old_logp_B = (tensors["old_logp"] * tensors["mask"]).sum(1)
    batch = {**_trl_batch(tensors), "old_logps": old_logp_B}
    return {"loss": RLOOTrainer._compute_loss(_trl_trainer(settings, tensors, {}), None, batch)}


def _trl_advantages(function: Callable[..., Any], tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """Runs the trainer's own statements, from the rewards to the advantages."""
    names: dict[str, Any] = {
        **inspect.getmodule(function).__dict__,
        "rewards_per_func": tensors["reward"][:, None],
        "prompts": tensors["reward"], "num_generations": settings["group"], "mode": "train",
        "device": torch.device("cpu"), "gather": lambda tensor: tensor,
        "self": SimpleNamespace(
            **{
                "reward_weights": torch.ones(1), "multi_objective_aggregation": "sum_then_normalize",
                "reward_clip_range": None, "beta": 0.0, "normalize_advantages": False, "scale_rewards": "group",
                "accelerator": Alone(), **settings,
            }
        ),
    }  # fmt: skip
    if "logp" in tensors:
        names |= {"old_per_token_logps": tensors["logp"], "ref_per_token_logps": tensors["reference_logp"]}
        names["completion_mask"] = tensors["mask"]
    with torch.no_grad():
        exec(statements(function, "unscorable_mask", "advantages"), names)
    return {"advantage": names["advantages"]}


def trl_grpo_advantages(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`group` sequences a prompt; `scale_rewards` as of GRPOTrainer."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    return _trl_advantages(GRPOTrainer._generate_and_score_completions, tensors, settings)


def trl_rloo_advantages(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`group` sequences a prompt; `beta` of the KL in the reward."""
    from trl.trainer.rloo_trainer import RLOOTrainer

    return _trl_advantages(RLOOTrainer._generate_and_score_completions, tensors, settings)


def _openrlhf(module: str) -> Any:
    return package_file("openrlhf", "0.11.2", f"openrlhf.{module}")


def openrlhf_policy_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """The arguments of `PolicyLoss`."""
    loss = _openrlhf("models.loss").PolicyLoss(**settings)
    found = loss(tensors["logp"], tensors["old_logp"], tensors["advantage"], tensors["mask"])
    return {"loss": found[0], "clipped": found[1]}


def openrlhf_value_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """The arguments of `ValueLoss`."""
    loss = _openrlhf("models.loss").ValueLoss(**settings)
    return {"loss": loss(tensors["value"], tensors["old_value"], tensors["return"], tensors["mask"])}


def openrlhf_advantages(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`estimator`, `group` sequences a prompt and `kl_coef` of the KL in the reward."""
    maker = _openrlhf("trainer.ppo_utils.experience_maker")
    algorithm = SimpleNamespace(
        advantage=SimpleNamespace(estimator=settings["estimator"], gamma=1.0, lambd=1.0, no_std_norm=False)
    )
    arguments = SimpleNamespace(
        algo=algorithm, rollout=SimpleNamespace(n_samples_per_prompt=settings["group"]),
        reward=SimpleNamespace(clip_range=None),
    )  # fmt: skip
    reward_B = tensors["reward"].detach()
    experience = SimpleNamespace(
        rewards=reward_B, index=list(range(len(reward_B))), info={}, kl=tensors["kl"].detach(),
        action_mask=tensors["mask"], values=None,
    )  # fmt: skip
    kind = maker.RemoteExperienceMaker
    owner = SimpleNamespace(
        strategy=SimpleNamespace(args=arguments), advantage_estimator=settings["estimator"],
        kl_ctl=SimpleNamespace(value=settings["kl_coef"]),
        get_cumulative_returns=lambda *given: kind.get_cumulative_returns(None, *given),
    )  # fmt: skip
    maker.apply_length_penalties = lambda *_: None
    (made,) = kind.compute_advantages_and_returns(owner, [experience])
    return {"advantage": made.advantages}


class _Config(SimpleNamespace):
    """Stands for verl's `ActorConfig` and `AlgoConfig`."""

    def get(self, name: str, default: Any) -> Any:
        return getattr(self, name, default)


class _AlgoConfig(_Config):
    """The other of the two, which verl tells apart."""


def _verl() -> Any:
    """`core_algos.py` alone."""

    def stub(name: str, **names: Any) -> ModuleType:
        module = ModuleType(name)
        module.__dict__.update(names)
        return module

    return package_file(
        "verl", "0.9.1", "verl.trainer.ppo.core_algos",
        omegaconf=stub("omegaconf", DictConfig=dict),
        verl__trainer__config=stub("verl.trainer.config", AlgoConfig=_AlgoConfig),
        verl__workers__config=stub("verl.workers.config", ActorConfig=_Config),
        verl__utils=stub("verl.utils", as_torch_index=None, group_mean_std=None, __path__=[
            str(Path(sys.prefix) / "verl-0.9.1" / "verl" / "utils")
        ]),
    )  # fmt: skip


def verl_policy_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`kind` is verl's name of the loss, `average` its `loss_agg_mode`; the rest is the actor's configuration."""
    kind, average = settings.pop("kind"), settings.pop("average", "token-mean")
    config = _Config(**{"clip_ratio": 0.2, "global_batch_info": {}, **settings})
    given = (tensors["old_logp"], tensors["logp"], tensors["advantage"], tensors["mask"], average, config)
    return {"loss": _verl().get_policy_loss_fn(kind)(*given)[0]}


def verl_value_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`cliprange_value`."""
    given = [tensors[name] for name in ("value", "return", "old_value", "mask")]
    return {"loss": _verl().compute_value_loss(*given, **settings)[0]}


def verl_advantages(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`estimator` is verl's name of it, `group` the sequences of a prompt."""
    reward_BT, mask_BT = tensors["token_reward"].detach(), tensors["mask"]
    more: dict[str, Any] = {"config": _AlgoConfig(gamma=1.0)}
    if settings.get("group"):
        more["index"] = [place // settings["group"] for place in range(len(reward_BT))]
    advantage_BT, return_BT = _verl().get_adv_estimator_fn(settings["estimator"])(
        token_level_rewards=reward_BT, response_mask=mask_BT, **more
    )
    return {"advantage": advantage_BT, "return": return_BT}


def verl_gae(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`gamma` and `lam`."""
    given = tensors["token_reward"].detach(), tensors["value"].detach(), tensors["mask"]
    advantage_BT, return_BT = _verl().compute_gae_advantage_return(*given, **settings)
    return {"advantage": advantage_BT, "return": return_BT}


def verl_kl(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`estimator` is verl's name of it."""
    kl_N = _verl().kl_penalty_forward(tensors["logp"], tensors["reference_logp"], settings["estimator"])
    return {"kl": kl_N, "loss": kl_N.mean()}


def openrlhf_dpo_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """The arguments of `DPOLoss`."""
    loss = _openrlhf("models.loss").DPOLoss(**settings)
    zero_P = torch.zeros_like(tensors["chosen"])
    return {"loss": loss(tensors["chosen"], tensors["rejected"], zero_P, zero_P)[0]}


def trl_cpo_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`loss_type` "sigmoid" (CPO) or "simpo", `beta`, `simpo_gamma`: the attributes of CPOTrainer."""
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    own = {"alpha": 0.0, "label_smoothing": 0.0, "accelerator": SimpleNamespace(device="cpu"), **settings}
    return {"loss": CPOTrainer.cpo_loss(SimpleNamespace(**own), tensors["chosen"], tensors["rejected"])[0].mean()}


def trl_odds_ratio_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """The preference term of ORPOTrainer, `beta` being its lambda."""
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    trainer = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), **settings)
    return {"loss": -ORPOTrainer.odds_ratio_loss(trainer, tensors["chosen"], tensors["rejected"])[0].mean()}


def _fused(**logps: Tensor) -> Callable[..., SimpleNamespace]:
    """A model whose head gives log-probabilities (B, T) at once: those of `kl` for sequences that begin with a 1."""

    def model(*, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        logp_BT = logps["kl" if int(input_ids[0, 0]) else "logp"]
        nothing_BT = torch.zeros_like(logp_BT)
        return SimpleNamespace(log_probs=logp_BT, entropy=nothing_BT, mean_logits=nothing_BT, is_top1=nothing_BT.bool())

    return model


def _with_prompt(mask_BT: Tensor) -> Tensor:
    """The mask of whole sequences, behind a prompt of one token."""
    return torch.nn.functional.pad(mask_BT, (1, 0))


def _trl_preferences(settings: dict[str, Any]) -> SimpleNamespace:
    """What the losses of DPOTrainer and KTOTrainer read of the trainer."""
    own = {
        "model": SimpleNamespace(training=True), "accelerator": Alone(), "aux_loss_enabled": False, "ld_alpha": None,
        "precompute_ref_logps": True, "f_divergence_type": "reverse_kl", "label_smoothing": 0.0, "use_weighting": False,
        "_metrics": MagicMock(), "_total_train_tokens": 0, "_tp_size": 1,
    }  # fmt: skip
    return SimpleNamespace(**{**own, **settings})


def trl_dpo_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`loss_types`, `loss_weights`, `beta`: the attributes of DPOTrainer; the chosen come first, then the rejected."""
    from trl.trainer.dpo_trainer import DPOTrainer

    mask_BT = tensors["mask"]
    chosen_P, rejected_P = (tensors["reference_logp"] * mask_BT).sum(1).chunk(2)
    batch = {
        "input_ids": torch.zeros_like(_with_prompt(mask_BT)), "attention_mask": torch.ones_like(_with_prompt(mask_BT)),
        "completion_mask": _with_prompt(mask_BT), "ref_chosen_logps": chosen_P, "ref_rejected_logps": rejected_P,
    }  # fmt: skip
    model = _fused(logp=tensors["logp"] * mask_BT)
    return {"loss": DPOTrainer._compute_loss(_trl_preferences(settings), model, batch, False)}


def trl_kto_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`beta` and the weights of KTOTrainer; `kl` and `reference_kl` are log-probabilities of answers to others."""
    from trl.trainer.kto_trainer import KTOTrainer

    mask_BT = tensors["mask"]
    whole_BT = _with_prompt(mask_BT)
    batch = {
        "input_ids": torch.zeros_like(whole_BT), "attention_mask": torch.ones_like(whole_BT),
        "completion_mask": whole_BT, "KL_input_ids": torch.ones_like(whole_BT),
        "KL_attention_mask": torch.ones_like(whole_BT), "KL_completion_mask": whole_BT,
        "label": tensors["label"].detach().bool(), "ref_logps": (tensors["reference_logp"] * mask_BT).sum(1),
        "ref_KL_logps": (tensors["reference_kl"] * mask_BT).sum(1),
    }  # fmt: skip
    trainer = _trl_preferences({"calculate_KL": True, "loss_type": "kto", **settings})
    model = _fused(logp=tensors["logp"] * mask_BT, kl=tensors["kl"] * mask_BT)
    trainer._compute_kl_logps = lambda *given: KTOTrainer._compute_kl_logps(trainer, *given)
    return {"loss": KTOTrainer._compute_loss(trainer, model, batch, False)}


def trl_online_dpo_loss(tensors: Tensors, settings: dict[str, Any]) -> dict[str, Tensor]:
    """`beta` and `loss_type` of OnlineDPOTrainer; the first completions of all prompts come first, then the second."""
    from trl.experimental.online_dpo.online_dpo_trainer import OnlineDPOTrainer

    names: dict[str, Any] = {
        **inspect.getmodule(OnlineDPOTrainer).__dict__,
        "self": SimpleNamespace(beta=settings["beta"], args=SimpleNamespace(loss_type=settings["loss_type"])),
        "rewards": tensors["reward"].detach(), "batch_size": len(tensors["reward"]) // 2, "device": "cpu",
        "logprobs": tensors["logp"], "ref_logprobs": tensors["reference_logp"], "completion_mask": tensors["mask"],
    }  # fmt: skip
    exec(statements(OnlineDPOTrainer.training_step, "(first_half, second_half)", "loss"), names)
    return {"loss": names["loss"]}


NAMED: dict[str, Callable[[Tensors, dict[str, Any]], dict[str, Tensor]]] = {
    function.__name__: function
    for function in (
        trl_grpo_loss, trl_grpo_advantages, trl_rloo_loss, trl_rloo_advantages,
        openrlhf_policy_loss, openrlhf_value_loss, openrlhf_advantages,
        verl_policy_loss, verl_value_loss, verl_advantages, verl_gae, verl_kl,
        openrlhf_dpo_loss, trl_cpo_loss, trl_odds_ratio_loss, trl_dpo_loss, trl_kto_loss, trl_online_dpo_loss,
    )
}  # fmt: skip


def answer(name: str, given: str, out: str) -> None:
    """One comparison."""
    with safe_open(given, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        settings = json.loads((file.metadata() or {}).get("settings", "{}"))
    inputs = {key: one.requires_grad_(True) for key, one in tensors.items() if one.is_floating_point()}
    found = dict(NAMED[name](tensors, settings))
    if "loss" in found:
        found["loss"].backward()
        found |= {f"gradient/{key}": one.grad for key, one in inputs.items() if one.grad is not None}
    save_file({key: one.detach().clone().contiguous() for key, one in found.items()}, out)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        try:
            answer(*line.split("\t")[:3])
            problem = "done"
        except Exception:  # noqa: BLE001 - whoever asked shows it
            problem = json.dumps(traceback.format_exc())
        print(problem, file=answers, flush=True)
