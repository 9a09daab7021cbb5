"""What the tests on a CUDA device share: the mark that skips them elsewhere, and bodies that live there."""

from __future__ import annotations

import pytest
import torch
from small_models import causal_lm
from transformers import PreTrainedModel

from assent.model.body import Body, Precision

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")
CUDA = torch.device("cuda")
every_precision = pytest.mark.parametrize("precision", ["fp32", "bf16"])


def on_cuda(model: PreTrainedModel | str, precision: Precision = "fp32") -> Body:
    """A body on the CUDA device, of a model or of the small model of that architecture."""
    loaded = causal_lm(model) if isinstance(model, str) else model
    return Body(loaded, device=CUDA, precision=precision)
