"""A body is one set of weights in memory: a Hugging Face model with attention over flat batches and named adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from assent.errors import ConfigError
from assent.model.attention import FLAT, DecodeCache, FlatLayout
from assent.model.flat import FlatBatch, flatten

Precision = Literal["fp32", "bf16"]
_PROBE = ((1, 2, 3, 4), (3, 1, 2), (2, 2, 3))
_PROBE_TOLERANCE = 2e-3


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
        self.device, self.precision = device, precision
        self.peft: PeftModel | None = None
        self._adapted: list[BaseTunerLayer] = []

    @property
    def trunk(self) -> nn.Module:
        """The network below the head: token ids to last hidden states."""
        trunk = self.model.get_decoder() if _is_causal_lm(self.model) else self.model.base_model
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

    def autocast(self) -> torch.autocast | nullcontext[None]:
        """The context all forward passes run in."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def hidden(self, batch: FlatBatch, *, adapter: str | None = None, cache: DecodeCache | None = None) -> Tensor:
        """Last hidden states (N, H) of a flat batch; with `cache`, keys and values are filed there."""
        layout = FlatLayout.of(batch.lengths, cache)
        with self.wearing(adapter), self.autocast():
            return self._run(batch.ids_N[None], batch.position_N[None], layout)[0]

    def next_hidden(self, ids_B: Tensor, position_B: Tensor, cache: DecodeCache) -> Tensor:
        """Hidden states (B, H) of one new token per sequence; call inside `wearing`."""
        with self.autocast():
            return self._run(ids_B[:, None], position_B[:, None], cache)[:, 0]

    def _run(self, ids: Tensor, positions: Tensor, flat: FlatLayout | DecodeCache) -> Tensor:
        extra = {"use_cache": False} if _is_causal(self.model) else {}
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

    def add_adapter(self, name: str, lora: LoraSettings) -> None:
        """Put a fresh adapter on the frozen base; it changes nothing until trained (its B matrix is zero)."""
        if self.peft is None:
            self.peft = PeftModel(self.model, lora.peft(), adapter_name=name)
        else:
            self.peft.add_adapter(name, lora.peft())
        self._after_change()

    def load_adapter(self, name: str, folder: str) -> None:
        """Put an adapter from a `peft` folder on the base."""
        try:
            if self.peft is None:
                self.peft = PeftModel.from_pretrained(self.model, folder, adapter_name=name, is_trainable=True)
            else:
                self.peft.load_adapter(folder, adapter_name=name, is_trainable=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"this adapter does not fit the base model: {error}", where=folder) from error
        self._after_change()

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


def _is_causal(model: PreTrainedModel) -> bool:
    return _is_causal_lm(model) or hasattr(model, "score")


def _is_causal_lm(model: PreTrainedModel) -> bool:
    return model.get_output_embeddings() is not None and model.base_model is not model


def pick_device(name: str) -> torch.device:
    """`auto` takes the CUDA device if there is one; a device that is not there is an error, never a silent CPU run."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError('device "cuda" was asked for and PyTorch sees none', now='Use --set device="cpu" or "auto".')
    if name not in ("cpu", "cuda") and not name.startswith("cuda:"):
        raise ConfigError(f'unknown device "{name}"', now='Use "auto", "cpu" or "cuda".')
    return torch.device(name)


def load_causal_lm(path: str, *, device: torch.device, precision: Precision = "fp32") -> Body:
    """A causal language model from a local folder or hub name; refuses what flat batches cannot carry."""
    body = Body(_from_pretrained(AutoModelForCausalLM, path), device=device, precision=precision)
    verify_flat(body, path)
    return body


def load_classifier(path: str, *, labels: int, device: torch.device, precision: Precision = "fp32") -> Body:
    """A sequence classifier with `labels` outputs; a fresh head is put on a model that has none (or another size)."""
    known = getattr(_config(path), "num_labels", None) if _has_classifier(path) else None
    if known is not None and known != labels:
        raise ConfigError(f"this classifier has {known} outputs, {labels} are needed", where=path)
    model = _from_pretrained(AutoModelForSequenceClassification, path, num_labels=labels)
    body = Body(model, device=device, precision=precision)
    verify_flat(body, path)
    return body


def _has_classifier(path: str) -> bool:
    architectures = getattr(_config(path), "architectures", None) or []
    return any("SequenceClassification" in name for name in architectures)


def _config(path: str) -> object:
    _check_folder(path)
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"no model can be loaded: {_first_line(error)}", where=path, now=_MODEL_ADVICE) from error


def _from_pretrained(kind: type, path: str, **options: object) -> PreTrainedModel:
    _config(path)
    try:
        model = kind.from_pretrained(path, dtype=torch.float32, **options)  # type: ignore[attr-defined]
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"no model can be loaded: {_first_line(error)}", where=path, now=_MODEL_ADVICE) from error
    assert isinstance(model, PreTrainedModel)
    return model


_MODEL_ADVICE = "Give a folder with config.json and model.safetensors, or a hub name that this machine can reach."


def _check_folder(path: str) -> None:
    folder = Path(path)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ConfigError("the folder holds no config.json", where=path, now=_MODEL_ADVICE)
    if not folder.exists() and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise ConfigError("there is no such model folder", where=path, now=_MODEL_ADVICE)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


def verify_flat(body: Body, path: str) -> None:
    """Compare flat and native outputs on a few tokens; a model whose numbers differ is refused, not trained wrongly.

    Of a language model the logits are compared, of a classifier the last hidden states.
    """
    model, was_training = body.model, body.model.training
    model.eval()
    batch = flatten(_PROBE).to(body.device)
    with torch.no_grad():
        try:
            flat = body._run(batch.ids_N[None], batch.position_N[None], FlatLayout.of(batch.lengths))[0]
            flat = LanguageHead.of(model).logits(flat) if _is_causal_lm(model) else flat
        except ConfigError as error:
            raise ConfigError(error.what, where=path, now=error.now) from error
        except (TypeError, AttributeError, KeyError) as error:
            raise ConfigError(
                f"this architecture cannot run on flat batches: {_first_line(error)}", where=path
            ) from error
        model.set_attn_implementation("eager")
        native = torch.cat([_native(body, torch.tensor([row], device=body.device)) for row in _PROBE])
        model.set_attn_implementation(FLAT)
    model.train(was_training)
    worst = (flat - native).abs().max().item()
    if not worst < _PROBE_TOLERANCE:
        raise ConfigError(
            f"flat batches change this model's outputs by {worst:.2g}",
            where=path,
            now="Its attention or head is of a kind that Assent does not reproduce; use another architecture.",
        )


def _native(body: Body, ids: Tensor) -> Tensor:
    """Logits or last hidden states of one sequence, the library's own way."""
    extra = {"use_cache": False} if _is_causal(body.model) else {}
    if _is_causal_lm(body.model):
        return body.model(ids, **extra).logits[0]  # type: ignore[no-any-return]
    return body.trunk(ids, **extra).last_hidden_state[0]  # type: ignore[no-any-return]
