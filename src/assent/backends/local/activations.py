"""What the passes of an update keep for the gradient, and how many tokens are therefore read at once.

Autograd holds the inputs of most products until the backward pass: 1.2 MiB a token for a model of 135 M parameters with
adapters. The size follows from the model and the number of tokens alone, so two short passes tell it: fixed + tokens x
per token. More tokens at once than fit into CPU_BYTES make no update faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from assent.model.allocator import give_back_freed_memory
from assent.model.body import Body
from assent.model.memory import free_memory_bytes, held_memory_mib
from assent.ports.learning import LearnerSettings

MOST_TOKENS = 8192
CPU_BYTES = 512 << 20
FREE_SHARE = 0.5  # of the free memory: the rest is for gradients, moments and what else grows
_PROBE_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """Bytes that a pass with gradient keeps."""

    fixed: int
    per_token: int

    def of(self, tokens: int) -> int:
        """For so many tokens."""
        return self.fixed + self.per_token * tokens

    def fitting(self, free_bytes: float, *, on_cpu: bool) -> int:
        """Tokens of a micro-batch; with plenty of memory the same in every run."""
        room = FREE_SHARE * free_bytes - self.fixed
        return max(1, min(MOST_TOKENS, int(min(room, CPU_BYTES) if on_cpu else room) // max(1, self.per_token)))

    @staticmethod
    def measured(forward: Callable[[int], object], weights: Iterable[Tensor]) -> Activations:
        """As `forward(tokens)` keeps them, beside the weights."""
        ours = {_key(one) for one in weights}
        small, large = (_kept(forward, tokens, ours) for tokens in (_PROBE_TOKENS, 2 * _PROBE_TOKENS))
        per_token = (large - small) // _PROBE_TOKENS
        return Activations(fixed=max(0, small - per_token * _PROBE_TOKENS), per_token=per_token)


class MicroBatches:
    """How many tokens are read at once with a gradient, and whether their layers run again for it.

    The bits of a step depend on `most_tokens`, so a run that is resumed keeps what was chosen. They do not depend on
    what runs again.
    """

    def __init__(self, settings: LearnerSettings, device: torch.device) -> None:
        self.most_tokens, self._checkpointing = settings.micro_batch_tokens, settings.gradient_checkpointing
        self._device, self._activations = device, Activations(fixed=0, per_token=0)
        self._most_mib = held_memory_mib() + CPU_BYTES / 2**20

    def tokens(self, measure: Callable[[], Activations]) -> int:
        """The most tokens of a micro-batch; `measure` is called once."""
        unknown = self.most_tokens is None or self._checkpointing == "auto"
        if unknown and not self._activations.per_token:
            self._activations = measure()
        if self.most_tokens is None:
            free = free_memory_bytes(self._device)
            self.most_tokens = self._activations.fitting(free, on_cpu=self._device.type == "cpu")
        return self.most_tokens

    def runs_again(self, tokens: int) -> bool:
        """Whether the layers of a pass over so many tokens keep their inputs alone."""
        large = self._activations.of(tokens) > FREE_SHARE * free_memory_bytes(self._device)
        return self._checkpointing == "on" or (self._checkpointing == "auto" and large)

    @contextmanager
    def passes(self, bodies: Sequence[Body], tokens: int) -> Iterator[None]:
        """Inside, so many tokens are read.

        Passes of different sizes leave holes in the heap that the next ones do not fill. They are given back where the
        process has grown by more than a micro-batch may take, not every time: the pages have to be mapped again.
        """
        if self._device.type == "cpu" and held_memory_mib() > self._most_mib:
            give_back_freed_memory()
        for body in bodies:
            body.recomputes = self.runs_again(tokens)
        try:
            yield
        finally:
            for body in bodies:
                body.recomputes = False


def _kept(forward: Callable[[int], object], tokens: int, ours: set[int]) -> int:
    sizes: dict[int, int] = {}

    def see(tensor: Tensor) -> Tensor:
        if _key(tensor) not in ours:
            sizes[_key(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        _outputs = forward(tokens)  # as long as they live, so does what was kept
    return sum(sizes.values())


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
