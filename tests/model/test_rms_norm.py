"""The norms' gradient by hand against autograd, and which modules get it."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextRMSNormGated

from assent.model.rms_norm import use_fast_rms_norm


def pair(width: int = 6) -> tuple[LlamaRMSNorm, LlamaRMSNorm]:
    generator = torch.Generator().manual_seed(0)
    plain = LlamaRMSNorm(width).double()
    plain.weight.data = torch.randn(width, generator=generator, dtype=torch.float64)
    quick = copy.deepcopy(plain)
    use_fast_rms_norm(nn.ModuleList([quick]))
    return plain, quick


def textbook(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()


def test_values_and_gradients_are_those_of_the_textbook_formula():
    _, quick = pair()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    expected = torch.autograd.grad(
        textbook(x, quick.weight, quick.variance_epsilon), (x, quick.weight), upstream, retain_graph=True
    )
    found = torch.autograd.grad(quick(x), (x, quick.weight), upstream)
    assert_close(quick(x), textbook(x, quick.weight, quick.variance_epsilon))
    assert_close(found, expected)
    assert torch.autograd.gradcheck(quick, (x,))


def test_without_gradients_the_values_are_the_same_bits():
    _, quick = pair()
    quick.float()
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        silent = quick(x)
    assert torch.equal(silent, quick(x))


def test_a_copied_module_reads_its_own_weight():
    _, quick = pair()
    copied = copy.deepcopy(quick)
    copied.weight.data.zero_()
    x = torch.ones(1, 6, dtype=torch.float64)
    assert not copied(x).any() and quick(x).any()


@pytest.mark.parametrize("norm", [GemmaRMSNorm(6), nn.LayerNorm(6), Qwen3NextRMSNormGated(6)])
def test_other_norms_are_left_as_they_are(norm):
    use_fast_rms_norm(nn.ModuleList([norm]))
    assert "forward" not in vars(norm)


def test_low_precision_input_takes_the_modules_own_way():
    plain, quick = pair()
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(3)).bfloat16()
    assert torch.equal(plain.bfloat16()(x), quick.bfloat16()(x))
