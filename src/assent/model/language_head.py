"""The output head of a language model, with what a model does to its logits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedConfig, PreTrainedModel

from assent.model.adapters import weight_and_bias
from assent.model.prepared import PreparedLinear, PreparedLora


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageHead:
    """From hidden states to logits: soft-capped, scaled `hidden @ weight.T + bias`."""

    weight_VH: Tensor
    bias_V: Tensor | None
    softcap: float | None
    scale: float
    layer: PreparedLinear | PreparedLora | None = None  # instead of weight and bias

    @staticmethod
    def of(model: PreTrainedModel, adapter: str | None = None) -> LanguageHead:
        """The model's head with `adapter` on it, if it carries that one."""
        config = model.config.get_text_config()
        layer = model.get_output_embeddings()
        weight_VH, bias_V = weight_and_bias(layer, adapter)
        return LanguageHead(
            weight_VH=weight_VH,
            bias_V=bias_V,
            softcap=getattr(config, "final_logit_softcapping", None),
            scale=_logit_scale(config),
            layer=layer if isinstance(layer, PreparedLinear | PreparedLora) else None,
        )

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """Logits (N, V); only for few rows at a time (a decoding step)."""
        weight_VH, bias_V = self.weight_VH, self.bias_V
        if self.layer is None:
            bias_V = None if bias_V is None else bias_V.to(weight_VH.dtype)
            product_NV = linear(hidden_NH.to(weight_VH.dtype), weight_VH, bias_V)
        else:
            product_NV = self.layer(hidden_NH)
        logits = product_NV.float() if self.scale == 1.0 else product_NV.float() * self.scale
        return logits if self.softcap is None else (logits / self.softcap).tanh() * self.softcap


def _logit_scale(config: PreTrainedConfig) -> float:
    """What the logits are multiplied by: Cohere's `logit_scale`, and `logits_scaling`, by which most others divide."""
    scaling = float(getattr(config, "logits_scaling", None) or 1.0)
    multiplies = config.model_type.startswith("hyperclovax")
    return float(getattr(config, "logit_scale", None) or 1.0) * (scaling if multiplies else 1.0 / scaling)
