"""Frozen weights under adapters are held in bf16; what trains, what is saved and what is said stay what they were."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
import transformers
from small_models import CAUSAL, causal_lm

from assent.backends.local.learner import LocalLearner
from assent.model import body as body_module
from assent.model.adapters import LoraSettings
from assent.model.body import Body
from assent.model.flat import flatten
from assent.model.frozen_weights import frozen_in_float32
from assent.model.roles import LanguageRole, ScalarRole, fresh_head
from assent.model.saving import save_adapter
from assent.model.verification import verify_flat
from assent.ports.learning import Need, Roles
from assent.text.template import Encoded

LORA = LoraSettings(rank=4, alpha=8.0)
CPU = torch.device("cpu")


def adapted(name: str, precision: str, *, adapters: tuple[str, ...] = ("policy",)) -> Body:
    """A body whose adapters do something, the same in both precisions."""
    body = Body(causal_lm(name), device=CPU, precision=precision)
    for adapter in adapters:
        body.add_adapter(adapter, LORA)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for key, parameter in sorted(body.adapter_parameters(adapter).items()):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.1 if "lora_B" in key else 0.3))
    return body


def examples() -> list[Encoded]:
    rows = [[5, 9, 200, 31, 7, 8, 40], [3, 4, 250], [11, 12, 13, 14, 15, 90, 17, 18, 19]]
    return [Encoded(ids=tuple(row), assistant_mask=(False, *(True,) * (len(row) - 1))) for row in rows]


def logp(body: Body) -> torch.Tensor:
    learner = LocalLearner(Roles(policy=LanguageRole(body, "policy")))
    return torch.cat([one["logp"] for one in learner.score([_Example(one) for one in examples()], Need())])


class _Example:
    def __init__(self, one: Encoded) -> None:
        self.sequences = (one,)


@pytest.mark.parametrize("name", CAUSAL)
def test_log_probabilities_are_the_same_to_bf16_rounding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, held = logp(adapted(name, "fp32")), logp(adapted(name, "bf16"))
    monkeypatch.setattr(body_module, "hold_frozen_in_bf16", lambda model: None)
    cast_each_time = logp(adapted(name, "bf16"))
    rounding = (cast_each_time - exact).abs().mean().item()
    assert rounding > 1e-4, "bf16 rounds"
    assert (held - exact).abs().mean().item() < 2 * rounding
    assert (held - cast_each_time).abs().mean().item() < 2 * rounding


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_only_frozen_matrices_are_in_bf16(name: str) -> None:
    body = adapted(name, "bf16", adapters=("policy", "critic"))
    trained = [name for name, one in body.model.named_parameters() if one.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    for key, parameter in body.model.named_parameters():
        expected = torch.float32 if "lora_" in key or parameter.ndim < 2 else torch.bfloat16
        assert parameter.dtype == expected, key
    tied = body.model.get_output_embeddings().weight is body.model.get_input_embeddings().weight
    assert tied == bool(body.model.config.tie_word_embeddings)
    hidden = body.hidden(flatten([one.ids for one in examples()]), adapter="policy")
    assert hidden.dtype == torch.float32, "the residual stream keeps its digits"
    with frozen_in_float32(body.model):
        assert all(parameter.dtype == torch.float32 for parameter in body.model.parameters())
    verify_flat(body, "here", "policy")


def test_full_weights_and_fp32_are_left_alone() -> None:
    whole, exact = Body(causal_lm("llama"), device=CPU, precision="bf16"), adapted("llama", "fp32")
    for body in (whole, exact):
        assert all(parameter.dtype == torch.float32 for parameter in body.model.parameters())


def test_a_reward_head_and_what_it_learns_stay_in_float32() -> None:
    model = transformers.LlamaForSequenceClassification(CAUSAL["llama"]().__class__(
        **{**CAUSAL["llama"]().to_dict(), "num_labels": 1}
    ))  # fmt: skip
    body = Body(model, device=CPU, precision="bf16")
    body.add_adapter("reward", LORA)
    role = ScalarRole(body, model.score, "reward")
    assert model.score.weight.dtype == torch.float32
    batch = flatten([one.ids for one in examples()])
    role.logits(batch).sum().backward()
    role.parameters()["head.weight"].requires_grad_(True)
    role.logits(batch).sum().backward()
    grads = [parameter.grad for parameter in role.parameters().values()]
    assert all(grad is not None and grad.dtype == torch.float32 for grad in grads)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_saved_adapter_means_the_same_in_peft_on_the_float32_base(name: str, tmp_path: Path) -> None:
    causal_lm(name).save_pretrained(tmp_path / "base")
    for precision in ("fp32", "bf16"):
        save_adapter(adapted(name, precision), "policy", tmp_path / precision, base=str(tmp_path / "base"))
    said = []
    for precision in ("fp32", "bf16"):
        base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        merged = peft.PeftModel.from_pretrained(base, tmp_path / precision).merge_and_unload().eval()
        with torch.no_grad():
            said.append(merged(torch.tensor([examples()[0].ids])).logits)
    torch.testing.assert_close(said[0], said[1], rtol=0, atol=0)


def test_a_critic_beside_the_policy_starts_from_the_same_numbers_as_in_float32() -> None:
    low = adapted("llama", "bf16")
    low.copy_adapter("policy", "critic")
    twins = low.adapter_parameters("critic")
    for key, parameter in low.adapter_parameters("policy").items():
        assert torch.equal(twins[key.replace("policy", "critic")], parameter)
    head = fresh_head(low.hidden_size, seed=0, name="critic")
    assert ScalarRole(low, head, "critic").values(flatten([[1, 2, 3]])).dtype == torch.float32
