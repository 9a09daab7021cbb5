"""The slimmer gated block against the library's own: the same bits, less kept, and which modules get it."""

import copy

import pytest
import torch
from torch import nn
from transformers import GemmaConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.llama.modeling_llama import LlamaMLP

from assent.model.body import Body
from assent.model.swiglu import use_lean_swiglu

SHAPE = {"hidden_size": 6, "intermediate_size": 10, "num_attention_heads": 2, "num_key_value_heads": 2}


def pair(dtype: torch.dtype = torch.float32) -> tuple[LlamaMLP, LlamaMLP]:
    torch.manual_seed(0)
    plain = LlamaMLP(LlamaConfig(**SHAPE)).to(dtype)
    slim = copy.deepcopy(plain)
    use_lean_swiglu(nn.ModuleList([slim]))
    assert "forward" in vars(slim)
    return plain, slim


def kept(block: nn.Module, x: torch.Tensor) -> int:
    """Elements of the tensors of the block's width that its graph keeps, each counted once."""
    found: dict[int, int] = {}

    def file(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel() == x.shape[1] * SHAPE["intermediate_size"]:
            found[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(file, lambda tensor: tensor):
        block(x).sum().backward()
    return sum(found.values())


@pytest.mark.parametrize("low", [False, True])
def test_values_and_gradients_are_the_same_bits(low):
    plain, slim = pair()
    given = torch.randn(1, 7, 6)
    upstream = torch.randn(1, 7, 6)
    results = []
    for block in (plain, slim):
        x = given.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            y = block(x)
        y.backward(upstream.to(y.dtype))
        results.append([y.detach(), x.grad, *(parameter.grad for parameter in block.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    with torch.no_grad():
        assert torch.equal(slim(given), plain(given))


def test_gradients_are_those_of_differences():
    _, slim = pair(torch.float64)
    assert torch.autograd.gradcheck(slim, (torch.randn(1, 3, 6, dtype=torch.float64, requires_grad=True),))


def test_a_quarter_less_is_kept():
    plain, slim = pair()
    x = torch.randn(1, 7, 6, requires_grad=True)
    assert (kept(plain, x), kept(slim, x)) == (4 * 70, 3 * 70)


def test_another_activation_or_block_is_left_as_it_is():
    gemma = GemmaMLP(GemmaConfig(**SHAPE, hidden_activation="gelu_pytorch_tanh"))
    other = nn.Sequential(nn.Linear(6, 10), nn.SiLU())
    use_lean_swiglu(nn.ModuleList([gemma, other]))
    assert "forward" not in vars(gemma) and "forward" not in vars(other)


def test_a_scaled_block_is_left_as_it_is():
    class Scaled(LlamaMLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2.0 * super().forward(x)

    scaled = Scaled(LlamaConfig(**SHAPE))
    use_lean_swiglu(nn.ModuleList([scaled]))
    assert "forward" not in vars(scaled)


def test_a_copied_model_reads_its_own_weights():
    config = LlamaConfig(**SHAPE, num_hidden_layers=2, vocab_size=16)
    body = Body(LlamaForCausalLM(config), device=torch.device("cpu"), precision="fp32")
    copied = Body(copy.deepcopy(body.model), device=body.device, precision="fp32")
    for ours, theirs in zip(body.model.model.layers, copied.model.model.layers, strict=True):
        theirs.mlp.down_proj.weight.data.zero_()
        x = torch.ones(1, 2, 6)
        assert not theirs.mlp(x).any() and ours.mlp(x).any()
