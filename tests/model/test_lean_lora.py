"""LoRA layers that add in place say what `peft` says, and have its gradients, to the last bit."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from small_models import body_of, causal_lm
from torch import Tensor

from assent.model.flat import flatten

CASES = {
    "plain": LoraConfig(r=4, target_modules="all-linear"),
    "dropout": LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.3),
    "bias": LoraConfig(r=4, target_modules="all-linear", lora_bias=True),
    "DoRA": LoraConfig(r=4, target_modules="all-linear", use_dora=True),
}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_layer_of_peft_to_the_last_bit(name: str, architecture: str) -> None:
    body = body_of(causal_lm(architecture))
    body.add_adapter("policy", copy.deepcopy(CASES[name]))  # peft writes into it
    trained = body.adapter_parameters("policy")
    for place, parameter in enumerate(trained.values()):
        torch.nn.init.normal_(parameter, 1.0, 0.3, generator=torch.Generator().manual_seed(place))
    layers = [module for module in body.model.modules() if isinstance(module, Linear)]
    assert layers and all("forward" in vars(layer) for layer in layers)
    batch = flatten([[5, 6, 7, 8], [9, 10, 11]])

    def passed() -> list[Tensor]:
        body.model.train(name == "dropout" and architecture == "llama")
        torch.manual_seed(3)
        with torch.no_grad():
            without = body.hidden(batch)
        found = body.hidden(batch, adapter="policy")
        return [without, found.detach(), *torch.autograd.grad(found.square().sum(), [*trained.values()])]

    ours = passed()
    for layer in layers:
        del layer.forward
    assert all(torch.equal(one, other) for one, other in zip(ours, passed(), strict=True))
