"""A body is one set of weights in memory: a Hugging Face model with attention over flat batches and named adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftConfig, PeftModel, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from assent.errors import ConfigError
from assent.model.attention import FLAT, DecodeCache, FlatLayout, TreeMasks
from assent.model.flat import FlatBatch
from assent.model.gates import slim_gates
from assent.model.narrow import last_block, reading
from assent.model.norms import quicken_norms
from assent.seeds import derive

Precision = Literal["fp32", "bf16"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageHead:
    """From hidden states to logits: soft-capped, scaled `hidden @ weight.T + bias`."""

    weight_VH: Tensor
    bias_V: Tensor | None
    softcap: float | None
    scale: float

    @staticmethod
    def of(model: PreTrainedModel) -> LanguageHead:
        head, config = model.get_output_embeddings(), model.config.get_text_config()
        return LanguageHead(
            weight_VH=head.weight,
            bias_V=getattr(head, "bias", None),
            softcap=getattr(config, "final_logit_softcapping", None),
            scale=float(getattr(config, "logit_scale", None) or 1.0),
        )

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """Logits (N, V); only for few rows at a time (a decoding step)."""
        logits = torch.nn.functional.linear(hidden_NH, self.weight_VH, self.bias_V).float() * self.scale
        return logits if self.softcap is None else (logits / self.softcap).tanh() * self.softcap


class Body:
    """A model, its device and precision, and the adapters that ride on it.

    `hidden` is the only way through the trunk. Parameters stay in float32 ("master weights"); bf16 is autocast.
    """

    def __init__(self, model: PreTrainedModel, *, device: torch.device, precision: Precision) -> None:
        self.model = model.to(device=device, dtype=torch.float32)
        self.model.set_attn_implementation(FLAT)
        quicken_norms(self.model)
        slim_gates(self.model)
        self._last_block = last_block(self.trunk)
        self.device, self.precision = device, precision
        self.peft: PeftModel | None = None
        self._adapted: list[BaseTunerLayer] = []

    @property
    def trunk(self) -> nn.Module:
        """The network below the head: token ids to last hidden states."""
        trunk = self.model.get_decoder() if is_causal_lm(self.model) else self.model.base_model
        assert isinstance(trunk, nn.Module)
        return trunk

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def max_length(self) -> int | None:
        """The longest sequence that the position table holds, if the model says."""
        value = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(value) if value else None

    @property
    def read_at_once(self) -> int:
        """Tokens of one pass without a gradient; on a CPU more of them take more memory and more time a token."""
        return 2048 if self.device.type == "cpu" else 8192

    def autocast(self) -> torch.autocast | nullcontext[None]:
        """The context all forward passes run in."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def hidden(
        self, batch: FlatBatch, rows_R: Tensor | None = None, *,
        adapter: str | None = None, cache: DecodeCache | None = None,
    ) -> Tensor:  # fmt: skip
        """Last hidden states of a flat batch: (N, H), or (R, H) of the tokens `rows_R` (in trees some may come twice).

        With `cache`, keys and values of all tokens are filed there.
        """
        tokens, evened = batch.ids_N.shape[0], self.precision == "bf16" and self.device.type == "cpu"
        batch = batch.evened() if evened else batch
        trees = None if batch.ends_N is None else TreeMasks(batch.ends_N, batch.position_N)
        layout = FlatLayout.of(batch.lengths, cache, trees)
        read_R = rows_R if rows_R is None or trees is None else rows_R.unique()  # type: ignore[no-untyped-call]
        some = reading(self._last_block, read_R, batch.ids_N.shape[0], evened=evened)
        with self.wearing(adapter), self.autocast(), some:
            hidden_NH = self._run(batch.ids_N[None], batch.position_N[None], layout)[0]
        if rows_R is not None:
            return hidden_NH[rows_R]
        return hidden_NH[:tokens] if evened else hidden_NH

    def next_hidden(self, ids_B: Tensor, position_B: Tensor, cache: DecodeCache) -> Tensor:
        """Hidden states (B, H) of one new token per sequence; call inside `wearing`."""
        with self.autocast():
            return self._run(ids_B[:, None], position_B[:, None], cache)[:, 0]

    def _run(self, ids: Tensor, positions: Tensor, flat: FlatLayout | DecodeCache) -> Tensor:
        extra = {"use_cache": False} if is_causal(self.model) else {}
        hidden = self.trunk(input_ids=ids, position_ids=positions, flat=flat, **extra).last_hidden_state
        assert isinstance(hidden, Tensor)
        return hidden

    @contextmanager
    def wearing(self, adapter: str | None) -> Iterator[None]:
        """Run with one adapter on; None means all adapters off.

        The layers' own switches are set directly: `peft`'s `set_adapter` would also freeze the other adapters, and
        a policy and a critic on one base must both keep their gradients until the backward pass.
        """
        before = [(layer, layer._active_adapter, layer._disable_adapters) for layer in self._adapted]
        assert adapter is None or before, f"no adapter {adapter!r} on this body"
        for layer in self._adapted:
            layer._disable_adapters = adapter is None
            if adapter is not None:
                layer._active_adapter = [adapter]
        try:
            yield
        finally:
            for layer, active, disabled in before:
                layer._active_adapter, layer._disable_adapters = active, disabled

    def add_adapter(self, name: str, lora: LoraSettings, *, seed: int = 0) -> None:
        """Put a fresh adapter on the frozen base; it changes nothing until trained (its B matrix is zero)."""
        config = lora.peft()
        config.task_type = "CAUSAL_LM" if is_causal_lm(self.model) else "SEQ_CLS"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "adapter", name))
            self._put_on(name, config)
        self._after_change()

    def load_adapter(self, name: str, folder: str) -> dict[str, Tensor]:
        """Put an adapter from a local `peft` folder on the base; gives back what else it holds (a reward head).

        What else it holds goes by its name in the base model.
        """
        try:
            config = PeftConfig.from_pretrained(folder)
            weights = load_file(Path(folder) / "adapter_model.safetensors")
            if not isinstance(config, LoraConfig):
                raise ConfigError(f"an adapter of type {config.peft_type} cannot be used", where=folder, now=_LORA_ONLY)
            config.modules_to_save, config.inference_mode = None, False
            self._put_on(name, config)
            assert self.peft is not None
            lora = {key: tensor for key, tensor in weights.items() if "lora_" in key}
            found = set_peft_model_state_dict(self.peft, lora, adapter_name=name)
        except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
            where, what = folder, first_line(error)
            raise ConfigError(f"this adapter does not fit the base model: {what}", where=where) from error
        missing = [key for key in found.missing_keys if f".{name}." in key]
        if found.unexpected_keys or missing:
            odd = (found.unexpected_keys or missing)[0]
            raise ConfigError(f'this adapter does not fit the base model: "{odd}"', where=folder)
        self._after_change()
        return {k.removeprefix("base_model.model."): v.to(self.device) for k, v in weights.items() if k not in lora}

    def _put_on(self, name: str, config: PeftConfig) -> None:
        if self.peft is None:
            self.peft = PeftModel(self.model, config, adapter_name=name)
        else:
            self.peft.add_adapter(name, config)

    def _after_change(self) -> None:
        self.model.to(self.device)
        self._adapted = [module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name)

    def copy_adapter(self, source: str, target: str) -> None:
        """Give `target` the weights of `source` (both of the same shape)."""
        state = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, parameter in state.items():
                if f".{target}." in name:
                    parameter.copy_(state[name.replace(f".{target}.", f".{source}.")])

    def adapter_parameters(self, adapter: str | None) -> dict[str, nn.Parameter]:
        """Trainable parameters of one adapter; of the whole model (without adapters) for None."""
        named = dict(self.model.named_parameters())
        if adapter is None:
            return named
        return {name: parameter for name, parameter in named.items() if f".{adapter}." in name}


_LORA_ONLY = "Use a LoRA adapter, or merge it into its base model first."


def is_causal(model: PreTrainedModel) -> bool:
    """Whether the trunk reads left to right (and so knows a cache)."""
    return is_causal_lm(model) or hasattr(model, "score")


def is_causal_lm(model: PreTrainedModel) -> bool:
    """Whether the model has a language head."""
    return model.get_output_embeddings() is not None and model.base_model is not model


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).strip().split("\n", 1)[0]
