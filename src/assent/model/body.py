"""A body is one set of weights in memory: a Hugging Face model with flat-batch attention and named adapters."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Literal

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from assent.errors import ConfigError
from assent.model.adapters import LoraSettings, is_of, read_adapter
from assent.model.attention import FLAT, FlatLayout, TreeMasks
from assent.model.cache import DecodeCache
from assent.model.flat import FlatBatch
from assent.model.frozen_weights import hold_frozen_in_bf16
from assent.model.last_mlp import last_mlp, reading
from assent.model.lean_lora import use_lean_lora
from assent.model.prepared import prepared
from assent.model.recomputing import layers_of, recomputing
from assent.model.rms_norm import use_fast_rms_norm
from assent.model.rope import length_dependent, steady_length, turning
from assent.model.swiglu import use_lean_swiglu
from assent.seeds import derive

Precision = Literal["fp32", "bf16"]


class Body:
    """A model with its device, its precision and its adapters.

    All forward passes go through `hidden` and `next_hidden`. bf16 is autocast over float32 parameters ("master
    weights"); the frozen weights under adapters are held in bf16 themselves (`frozen_weights.py`). While `recomputes`
    is set, passes with a gradient keep the inputs of layers alone (`recomputing.py`).
    """

    def __init__(self, model: PreTrainedModel, *, device: torch.device, precision: Precision) -> None:
        self.model = model.to(device=device, dtype=torch.float32)
        self.model.set_attn_implementation(FLAT)
        use_fast_rms_norm(self.model)
        use_lean_swiglu(self.model)
        self._last_block = last_mlp(self.trunk)
        self._rotary = length_dependent(self.model)
        self.device, self.precision = device, precision
        self.peft: PeftModel | None = None
        self._adapted: list[BaseTunerLayer] = []
        self.recomputes, self._layers = False, layers_of(self.trunk)

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
    def has_adapters(self) -> bool:
        """Whether some layers carry adapters that can be switched."""
        return bool(self._adapted)

    @property
    def max_length(self) -> int | None:
        """The longest sequence that the position table holds, if the model says."""
        value = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(value) if value and value > 0 else None

    @property
    def steady_length(self) -> int | None:
        """Up to this many tokens a token's hidden state depends only on what is before it; None: always.

        Longer sequences have other rotary frequencies (see `rope.py`), so generating a text token by token and reading
        it at once give different hidden states.
        """
        return steady_length(self._rotary)

    @property
    def read_at_once(self) -> int:
        """Tokens per pass without a gradient; on a CPU, more of them take more memory and more time per token."""
        return 2048 if self.device.type == "cpu" else 8192

    def at_once(self, most_tokens: int | None) -> int:
        """Tokens per pass without a gradient, `most_tokens` at most if that is given."""
        return min(most_tokens or self.read_at_once, self.read_at_once)

    @property
    def layers(self) -> int:
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def cache_bytes(self) -> int:
        """Of the keys and values of one token, while a sequence is written."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or self.hidden_size // config.num_attention_heads
        size = 2 if self.precision == "bf16" and self.device.type != "cpu" else 4
        return int(config.num_hidden_layers * 2 * heads * width * size)

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

        With `cache`, keys and values of all tokens are stored there.
        """
        tokens, evened = batch.ids_N.shape[0], self.precision == "bf16" and self.device.type == "cpu"
        batch = batch.evened() if evened else batch
        trees = None if batch.ends_N is None else TreeMasks(batch.ends_N, batch.position_N)
        layout = FlatLayout.of(batch.lengths, cache, trees)
        read_R = rows_R if rows_R is None or trees is None else rows_R.unique()  # type: ignore[no-untyped-call]
        passing = partial(self._passing, adapter, read_R, batch.ids_N.shape[0], evened)
        again = self.recomputes and torch.is_grad_enabled()
        with passing(), self.autocast(), recomputing(self._layers, passing) if again else nullcontext():
            hidden_NH = self._run(batch.ids_N[None], batch.position_N[None], layout)[0]
        if rows_R is not None:
            return hidden_NH[rows_R]
        return hidden_NH[:tokens] if evened else hidden_NH

    @contextmanager
    def _passing(self, adapter: str | None, rows_R: Tensor | None, tokens: int, evened: bool) -> Iterator[None]:
        """What a pass switches on in the model, also when its layers run again for the gradient."""
        with self.wearing(adapter), reading(self._last_block, rows_R, tokens, evened=evened):
            yield

    def next_hidden(self, ids_B: Tensor, position_B: Tensor, cache: DecodeCache) -> Tensor:
        """Hidden states (B, H) of one new token per sequence; call inside `wearing`."""
        with self.autocast():
            return self._run(ids_B[:, None], position_B[:, None], cache)[:, 0]

    def _run(self, ids: Tensor, positions: Tensor, flat: FlatLayout | DecodeCache) -> Tensor:
        extra = {"use_cache": False} if is_causal(self.model) else {}
        with self._turning(positions, flat):
            hidden = self.trunk(input_ids=ids, position_ids=positions, flat=flat, **extra).last_hidden_state
        assert isinstance(hidden, Tensor)
        return hidden

    def _turning(self, positions: Tensor, flat: FlatLayout | DecodeCache) -> AbstractContextManager[None]:
        """A context in which every token has the rotary frequencies of its own sequence."""
        if not self._rotary:
            return nullcontext()
        if isinstance(flat, DecodeCache):
            return turning(self._rotary, positions[:, 0] + 1)
        length_B = torch.tensor(flat.lengths, device=positions.device)
        return turning(self._rotary, length_B.repeat_interleave(length_B))

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

    def prepared(self, adapter: str | None) -> Body:
        """The same body with one adapter for many small steps: weights as they are now, in bf16 (see `prepared.py`)."""
        twin = copy.copy(self)
        twin.model, twin.peft = prepared(self.model, adapter), None
        twin._last_block = None
        twin._adapted = [module for module in twin.model.modules() if isinstance(module, BaseTunerLayer)]
        return twin

    def add_adapter(self, name: str, lora: LoraSettings | LoraConfig, *, seed: int = 0) -> None:
        """Put a fresh adapter on the frozen base; it changes nothing until trained. Raises ConfigError."""
        config = lora.peft() if isinstance(lora, LoraSettings) else lora
        config.task_type = "CAUSAL_LM" if is_causal_lm(self.model) else "SEQ_CLS"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "adapter", name))
            try:
                self._put_on(name, config)
            except ValueError as error:
                now = "Check --set lora.targets."
                raise ConfigError(f"no adapter can be made: {first_line(error)}", now=now) from error
        self._after_change()

    def lora_config(self, adapter: str) -> LoraConfig:
        """A copy of an adapter's configuration, for another adapter of the same form."""
        assert self.peft is not None
        config = copy.deepcopy(self.peft.peft_config[adapter])
        assert isinstance(config, LoraConfig)
        return config

    def copy_adapter(self, source: str, target: str) -> None:
        """A new adapter `target` that is what `source` is now."""
        self.add_adapter(target, self.lora_config(source))
        state = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, parameter in state.items():
                if is_of(name, target):
                    twin = ".".join(source if part == target else part for part in name.split("."))
                    parameter.copy_(state[twin])

    def load_adapter(self, name: str, folder: str) -> dict[str, Tensor]:
        """Put an adapter from a local `peft` folder on the base and return its other weights (a reward head).

        They have the names of the base model. Copies of the base's own weights are left out, and so are weights of a
        language head if this model has none.
        """
        config, weights = read_adapter(folder)
        if not is_causal_lm(self.model):
            weights = {key: value for key, value in weights.items() if not self._is_of_absent_head(key)}
        lora = {f"base_model.model.{key}": value for key, value in weights.items() if "lora_" in key}
        others = {key.replace(".base_layer", ""): value for key, value in weights.items() if "lora_" not in key}
        others = {key: value for key, value in others.items() if not self._has(key, value)}
        try:
            self._put_on(name, config)
            assert self.peft is not None
            found = set_peft_model_state_dict(self.peft, lora, adapter_name=name)
        except (ValueError, RuntimeError, TypeError, KeyError) as error:
            where, what = folder, first_line(error)
            raise ConfigError(f"this adapter does not fit the base model: {what}", where=where) from error
        missing = [key for key in found.missing_keys if is_of(key, name)]
        if found.unexpected_keys or missing:
            odd = (found.unexpected_keys or missing)[0]
            raise ConfigError(f'this adapter does not fit the base model: "{odd}"', where=folder)
        self._after_change()
        return {key: value.to(self.device) for key, value in others.items()}

    def _is_of_absent_head(self, key: str) -> bool:
        return key.split(".")[0] in _LANGUAGE_HEADS and not hasattr(self.model, key.split(".")[0])

    def _has(self, key: str, value: Tensor) -> bool:
        """Whether the base holds the same weights: `peft` saves whole embeddings beside an adapter on them."""
        held = {name.replace(".base_layer", ""): one for name, one in self.model.state_dict().items()}
        own = held.get(key)
        return own is not None and own.shape == value.shape and torch.equal(own.cpu(), value.to(own.dtype))

    def _put_on(self, name: str, config: LoraConfig) -> None:
        if self.peft is None:
            self.peft = PeftModel(self.model, config, adapter_name=name)
        else:
            self.peft.add_adapter(name, config)

    def _after_change(self) -> None:
        self.model.to(self.device)
        use_lean_lora(self.model)
        self._adapted = [module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        if self.precision == "bf16":
            hold_frozen_in_bf16(self.model)

    def adapter_parameters(self, adapter: str | None) -> dict[str, nn.Parameter]:
        """Trainable parameters of one adapter; of the whole model (without adapters) for None."""
        named = dict(self.model.named_parameters())
        if adapter is None:
            return named
        return {name: parameter for name, parameter in named.items() if is_of(name, adapter)}


_LANGUAGE_HEADS = ("lm_head", "embed_out", "output")


def is_causal(model: PreTrainedModel) -> bool:
    """Whether the trunk reads left to right (and so knows a cache)."""
    return is_causal_lm(model) or hasattr(model, "score")


def is_causal_lm(model: PreTrainedModel) -> bool:
    """Whether the model has a language head."""
    return model.get_output_embeddings() is not None and model.base_model is not model


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).strip().split("\n", 1)[0]
