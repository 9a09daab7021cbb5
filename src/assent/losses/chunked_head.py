"""A head applied to flat hidden states one chunk at a time, forward and backward, in reused buffers.

    z = (s / T) h W^T + b (s / T)          with a soft cap c:  z = (c / T) tanh((s / c) (h W^T + b))

Shapes: N tokens of a flat batch, H hidden size, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Elements of one chunk of logits: small enough to stay in a CPU's cache, large enough to feed a GPU.
CHUNK_ELEMENTS_CPU = 1 << 20
CHUNK_ELEMENTS_ACCELERATOR = 1 << 26
CHUNK_TOKENS_MINIMUM = 64  # with a huge vocabulary, fewer tokens would read the whole head for too little work


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitShape:
    """From the head's product to logits: times `logit_scale`, soft cap c tanh(z / c), divided by `temperature`."""

    temperature: float = 1.0
    softcap: float | None = None
    logit_scale: float = 1.0

    @property
    def input_scale(self) -> float:
        """What hidden states and bias are multiplied with before the product."""
        return self.logit_scale / (self.temperature if self.softcap is None else self.softcap)

    def finish_(self, product_CV: Tensor) -> Tensor:
        """Logits from the product of scaled hidden states, in place."""
        if self.softcap is None:
            return product_CV
        return product_CV.tanh_().mul_(self.softcap / self.temperature)

    def slope(self, logit_CV: Tensor) -> Tensor | None:
        """d logit / d product, or None where it is one."""
        if self.softcap is None:
            return None
        tanh_CV = logit_CV * (self.temperature / self.softcap)
        return tanh_CV.square_().neg_().add_(1.0).mul_(self.softcap / self.temperature)


PLAIN_LOGITS = LogitShape()


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The type of the matrix products and the (at least single) type of softmax statistics and sums."""

    product: torch.dtype

    @staticmethod
    def of(hidden_NH: Tensor, weight_VH: Tensor) -> Precision:
        """Autocast's type where autocast is on, else the wider type of the two; float64 stays float64."""
        device = hidden_NH.device.type
        if hidden_NH.dtype != torch.float64 and torch.is_autocast_enabled(device):
            return Precision(product=torch.get_autocast_dtype(device))
        return Precision(product=torch.promote_types(hidden_NH.dtype, weight_VH.dtype))

    @property
    def statistics(self) -> torch.dtype:
        """float32, or float64 for float64 products."""
        return torch.promote_types(self.product, torch.float32)

    @property
    def mixed(self) -> bool:
        """Whether products are of a lower type than statistics."""
        return self.product != self.statistics


class ChunkedHead:
    """Scaled hidden states and head in the type of the products, and a buffer for one chunk of logits."""

    def __init__(
        self, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, *, shape: LogitShape, precision: Precision
    ) -> None:
        self.shape, self.precision = shape, precision
        self.hidden_NH = (hidden_NH if shape.input_scale == 1.0 else hidden_NH * shape.input_scale).to(
            precision.product
        )
        self.weight_VH = weight_VH.to(precision.product)
        self.bias_V = None if bias_V is None else bias_V.to(precision.statistics) * shape.input_scale
        budget = CHUNK_ELEMENTS_CPU if weight_VH.device.type == "cpu" else CHUNK_ELEMENTS_ACCELERATOR
        self.chunk_tokens = max(CHUNK_TOKENS_MINIMUM, budget // weight_VH.shape[0])
        self.buffer_CV = self.new_chunk()

    def new_chunk(self) -> Tensor:
        """An uninitialised chunk of the type of the statistics."""
        size = (min(self.chunk_tokens, self.hidden_NH.shape[0]), self.weight_VH.shape[0])
        return self.weight_VH.new_empty(size, dtype=self.precision.statistics)

    def chunks(self) -> Iterator[slice]:
        """Rows of each chunk, in order."""
        for start in range(0, self.hidden_NH.shape[0], self.chunk_tokens):
            yield slice(start, min(start + self.chunk_tokens, self.hidden_NH.shape[0]))

    def logits(self, rows: slice, buffer_CV: Tensor | None = None) -> Tensor:
        """Logits of a chunk in `buffer_CV`, or in this head's own buffer, valid until the next call."""
        hidden_CH = self.hidden_NH[rows]
        out_CV = (self.buffer_CV if buffer_CV is None else buffer_CV)[: hidden_CH.shape[0]]
        if self.precision.mixed:
            out_CV.copy_(hidden_CH @ self.weight_VH.t())
        else:
            torch.mm(hidden_CH, self.weight_VH.t(), out=out_CV)
        if self.bias_V is not None:
            out_CV.add_(self.bias_V)
        return self.shape.finish_(out_CV)


def log_normaliser(logit_CV: Tensor, scratch_CV: Tensor) -> Tensor:
    """log sum exp over the vocabulary; `scratch_CV` may be the logits themselves, which are then lost."""
    maximum_C1 = logit_CV.amax(1, keepdim=True)
    torch.sub(logit_CV, maximum_C1, out=scratch_CV)
    return scratch_CV.exp_().sum(1).log_().add_(maximum_C1.squeeze(1))


class HeadGradients:
    """Gradients of hidden states, weight and bias, summed over chunks in the type of the statistics."""

    def __init__(self, head: ChunkedHead, needed: tuple[bool, ...]) -> None:
        dtype = head.precision.statistics
        self.head = head
        self.hidden_NH = torch.empty_like(head.hidden_NH, dtype=dtype) if needed[0] else None
        self.weight_VH = torch.zeros_like(head.weight_VH, dtype=dtype) if needed[1] else None
        self.bias_V = torch.zeros_like(head.weight_VH[:, 0], dtype=dtype) if needed[2] else None

    def add(self, rows: slice, dz_CV: Tensor, row_C1: Tensor | None) -> None:
        """Add one chunk, whose gradient is `row_C1 * dz_CV`."""
        hidden_CH = self.head.hidden_NH[rows]
        mixed = self.head.precision.mixed
        low_CV = dz_CV.to(hidden_CH.dtype)
        if self.hidden_NH is not None:
            d_hidden_CH = self.hidden_NH[rows]
            if mixed:
                d_hidden_CH.copy_(low_CV @ self.head.weight_VH)
            else:
                torch.mm(dz_CV, self.head.weight_VH, out=d_hidden_CH)
            if row_C1 is not None:
                d_hidden_CH.mul_(row_C1)
        if self.weight_VH is not None:
            scaled_CH = hidden_CH if row_C1 is None else (hidden_CH * row_C1).to(hidden_CH.dtype)
            if mixed:
                self.weight_VH.add_(low_CV.t() @ scaled_CH)
            else:
                self.weight_VH.addmm_(dz_CV.t(), scaled_CH)
        if self.bias_V is not None:
            self.bias_V.add_((dz_CV if row_C1 is None else dz_CV * row_C1).sum(0))

    def finished(self, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients in the types of the inputs, with the scale that was applied to hidden states and bias."""
        scale = self.head.shape.input_scale
        d_hidden_NH = None if self.hidden_NH is None else self.hidden_NH.mul_(scale).to(hidden_NH.dtype)
        d_weight_VH = None if self.weight_VH is None else self.weight_VH.to(weight_VH.dtype)
        d_bias_V = None if self.bias_V is None or bias_V is None else self.bias_V.mul_(scale).to(bias_V.dtype)
        return d_hidden_NH, d_weight_VH, d_bias_V
