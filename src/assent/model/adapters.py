"""LoRA adapters (Hu et al. 2021): fresh ones, those of a `peft` folder, and the weight of a layer that carries one.

We accept the adapters of `peft` that we reproduce exactly: rank-stabilised scale, DoRA, patterns of ranks, alphas and
layers, embeddings and language heads. Everything else is refused by its name in the configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from assent.errors import ConfigError

MERGE = "Merge it into its base model and give that folder."
_TAKEN = {  # the settings of a LoRA adapter that change nothing or are reproduced exactly
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "eva_config", "exclude_modules",
    "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config", "megatron_core", "modules_to_save", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "runtime_config", "target_modules", "task_type",
    "use_dora", "use_rslora",
}  # fmt: skip
_STARTS_ON_THE_BASE_AS_IT_IS = (True, False, None, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters (Hu et al. 2021): rank r, scale alpha / r, dropout, and which linear layers carry one."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"

    def peft(self) -> LoraConfig:
        """The same as a `peft` configuration."""
        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        return LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=targets)


def read_adapter(folder: str) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Configuration and weights of a local `peft` folder, ready to go on. Raises ConfigError if it is not accepted.

    Weights have the names of the base model. Modules that it saves whole are among them and no longer in the
    configuration.
    """
    try:
        settings = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
        _refuse_others(settings, folder)
        weights = load_file(Path(folder) / "adapter_model.safetensors")
        config = LoraConfig.from_pretrained(folder)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ConfigError(f"no adapter can be loaded: {error}", where=folder, now="Copy its folder again.") from error
    config.modules_to_save, config.inference_mode = None, False
    config.bias = "none"  # biases that were trained too are among the weights
    config.init_lora_weights = True
    return config, {name.removeprefix("base_model.model."): weight for name, weight in weights.items()}


def is_head_alone(folder: str) -> bool:
    """Whether an adapter folder changes no layer of its base and holds a head only."""
    settings = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
    return bool(settings.get("target_modules") == DUMMY_TARGET_MODULES)


def _refuse_others(settings: Mapping[str, Any], folder: str) -> None:
    if settings.get("peft_type") != "LORA":
        raise ConfigError(
            f"an adapter of type {settings.get('peft_type')} cannot be used", where=folder,
            now="Use a LoRA adapter, or merge it into its base model first.",
        )  # fmt: skip
    others = sorted(name for name, value in settings.items() if value and name not in _TAKEN)
    if settings.get("revision") in (None, "main"):
        others = [name for name in others if name != "revision"]
    if others:
        raise ConfigError(f"the adapter uses {', '.join(others)}, which is not supported", where=folder, now=MERGE)
    start = settings.get("init_lora_weights", True)
    if start not in _STARTS_ON_THE_BASE_AS_IT_IS:
        raise ConfigError(
            f'the adapter belongs to a base model that was changed at its initialisation (init_lora_weights "{start}")',
            where=folder, now="Save it again as a plain LoRA adapter (peft: path_initial_model_for_weight_conversion).",
        )  # fmt: skip


def is_of(name: str, adapter: str) -> bool:
    """Whether a parameter's name is one of the adapter's."""
    return "lora_" in name and adapter in name.split(".")


def changes_nothing(parameters: Mapping[str, Tensor]) -> bool:
    """Whether an adapter does not change its base, because it has not been trained."""
    if any("lora_magnitude_vector" in name for name in parameters):
        return False
    second = [value for name, value in parameters.items() if "lora_B" in name or "lora_embedding_A" in name]
    return not any(bool(value.any()) for value in second)


def weight_and_bias(layer: nn.Module, adapter: str | None) -> tuple[Tensor, Tensor | None]:
    """What a linear layer multiplies with and adds, with `adapter` on it (if it carries that one); differentiable.

    With DoRA (Liu et al. 2024, arXiv 2402.09353) the weight is m (W + s B A) / |W + s B A| by rows, and the norm is
    held constant in the gradient.
    """
    if not isinstance(layer, BaseTunerLayer):
        return layer.weight, layer.bias  # type: ignore[return-value]
    plain = layer.get_base_layer()
    if adapter is None or adapter not in getattr(layer, "lora_A", {}):
        return plain.weight, plain.bias
    assert isinstance(layer, Linear), f"an adapter on a {type(layer).__name__}"
    change, second, bias = layer.get_delta_weight(adapter), layer.lora_B[adapter], plain.bias
    weight = plain.weight + change
    if adapter in layer.lora_magnitude_vector:
        dora = layer.lora_magnitude_vector[adapter]
        norm = dora.get_weight_norm(plain.weight, change, scaling=1).detach()
        weight = (dora.weight / norm)[:, None] * weight
    if second.bias is not None:
        scaled = second.bias * layer.scaling[adapter]
        bias = scaled if bias is None else bias + scaled
    return weight, bias


def drops_inputs(layer: nn.Module, adapter: str | None) -> bool:
    """Whether the adapter on a layer has dropout of its own, which `weight_and_bias` cannot show."""
    dropouts = getattr(layer, "lora_dropout", {})
    return adapter in dropouts and not isinstance(dropouts[adapter], nn.Identity)
