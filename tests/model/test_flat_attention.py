"""A flat row gives what padded batches and single sequences give, forward and backward, for every architecture."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from small_models import CAUSAL, VOCABULARY, bert_config, body_of, causal_lm, seeded
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedModel

from assent.errors import ConfigError
from assent.model.attention import FlatLayout, Run
from assent.model.body import Body
from assent.model.flat import flatten
from assent.model.loading import load_causal_lm, load_classifier, load_trunk
from assent.model.roles import ScalarRole, own_head
from assent.model.verification import verify_flat

LENGTHS = [(1,), (7, 3, 12, 3, 1), (5, 5, 5, 9, 9, 2), (11, 10, 9)]
CLOSE = {"atol": 3e-6, "rtol": 3e-5}  # the architectures compute norms and softmax in single precision


def sequences(lengths: tuple[int, ...], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def trunk_of(model: PreTrainedModel) -> torch.nn.Module:
    return model.get_decoder()


def one_by_one(model: PreTrainedModel, rows: list[list[int]]) -> Tensor:
    return torch.cat([trunk_of(model)(torch.tensor([row]), use_cache=False).last_hidden_state[0] for row in rows])


def padded(model: PreTrainedModel, rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    hidden = trunk_of(model)(ids, attention_mask=mask, use_cache=False).last_hidden_state
    return hidden[mask.bool()]


def native(name: str) -> PreTrainedModel:
    model = causal_lm(name).double()
    model.set_attn_implementation("eager")
    return model


def gradients(model: torch.nn.Module, hidden_NH: Tensor) -> dict[str, Tensor]:
    """Gradients of a fixed, uneven sum over all hidden states."""
    weight_NH = torch.sin(torch.arange(hidden_NH.numel(), dtype=torch.float64)).view_as(hidden_NH)
    model.zero_grad()
    (hidden_NH * weight_NH.to(hidden_NH.dtype)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def body_in_double(name: str) -> Body:
    body = body_of(causal_lm(name))
    body.model.double()
    return body


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_flat_is_padded_is_one_by_one(name: str, lengths: tuple[int, ...]) -> None:
    rows, body, plain = sequences(lengths), body_in_double(name), native(name)
    flat_NH, single_NH = body.hidden(flatten(rows)), one_by_one(plain, rows)
    assert_close(flat_NH, single_NH, **CLOSE)
    with torch.no_grad():  # in double precision the library's own windowed mask overflows on padding
        assert_close(flat_NH.detach().float(), padded(native(name).float(), rows), atol=1e-4, rtol=1e-3)
    flat_gradients, true_gradients = gradients(body.model, flat_NH), gradients(plain, single_NH)
    assert set(flat_gradients) == set(true_gradients)
    for name_, gradient in true_gradients.items():
        scale = float(gradient.abs().max())
        assert_close(flat_gradients[name_], gradient, atol=3e-6 * max(1.0, scale), rtol=3e-4, msg=name_)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_sequence_does_not_see_its_neighbours(name: str) -> None:
    body = body_of(causal_lm(name))
    rows, others = sequences((6, 6, 4)), sequences((6, 6, 4), seed=1)
    with torch.no_grad():
        together = body.hidden(flatten(rows))[6:12]
        among_others = body.hidden(flatten([others[0], rows[1], others[2]]))[6:12]
    assert torch.equal(together, among_others)


def test_the_window_is_shorter_than_the_sequence_and_matters() -> None:
    windowed, wide = causal_lm("mistral"), causal_lm("mistral")
    wide.config.sliding_window = None
    for layer in wide.model.layers:
        layer.self_attn.config = wide.config
        if hasattr(layer.self_attn, "sliding_window"):
            layer.self_attn.sliding_window = None
    batch = flatten(sequences((12,)))
    with torch.no_grad():
        narrow_NH, wide_NH = body_of(windowed).hidden(batch), body_of(wide).hidden(batch)
    assert_close(narrow_NH[:4], wide_NH[:4])
    assert (narrow_NH[-1] - wide_NH[-1]).abs().max() > 1e-3


def test_an_encoder_reads_both_ways_in_a_flat_row() -> None:
    model = seeded(lambda: transformers.BertForSequenceClassification(bert_config()))
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    body = body_of(model)
    rows = sequences((7, 3, 3, 9))
    flat_BC = ScalarRole(body, own_head(body, where="bert")).logits(flatten(rows))
    true_BC = torch.cat([plain(torch.tensor([row])).logits for row in rows])
    assert_close(flat_BC, true_BC, atol=1e-5, rtol=1e-4)
    flat_BC.sum().backward()
    true_BC.sum().backward()
    mine = dict(model.named_parameters())
    for name, parameter in plain.named_parameters():
        assert_close(mine[name].grad, parameter.grad, atol=1e-4, rtol=1e-3, msg=name)


def test_neighbours_of_equal_length_are_one_run() -> None:
    layout = FlatLayout.of((3, 3, 5, 3))
    assert layout.runs == (Run(0, 2, 3), Run(6, 1, 5), Run(11, 1, 3))
    assert [run.stop for run in layout.runs] == [6, 11, 14]


def test_a_flat_batch_predicts_only_what_is_asked_for_and_never_a_first_token() -> None:
    batch = flatten([[5, 6, 7], [8, 9]], [[True, False, True], [True, True]])
    assert batch.predict_M.tolist() == [1, 3] and batch.target_M.tolist() == [7, 9]
    assert (
        batch.predicted == (1, 1) and batch.last_B.tolist() == [2, 4] and batch.position_N.tolist() == [0, 1, 2, 0, 1]
    )
    nothing = flatten([[5, 6]], [[False, False]])
    assert nothing.target_M.tolist() == [] and nothing.predicted == (0,)


def odd_models() -> dict[str, transformers.PreTrainedConfig]:
    small = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    return {
        "gemma2 (soft-capped attention)": transformers.Gemma2Config(
            **small, intermediate_size=48, num_key_value_heads=2, head_dim=8, pad_token_id=1
        ),
        "bloom (ALiBi)": transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),
        "mpt (ALiBi)": transformers.MptConfig(vocab_size=VOCABULARY, d_model=32, n_layers=2, n_heads=4),
        "mamba (no attention)": transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2),
    }


@pytest.mark.parametrize("name", odd_models())
def test_an_architecture_that_flat_batches_do_not_carry_is_refused(name: str, tmp_path) -> None:
    seeded(lambda: transformers.AutoModelForCausalLM.from_config(odd_models()[name])).save_pretrained(tmp_path / "odd")
    with pytest.raises(ConfigError, match="flat batches") as caught:
        load_causal_lm(str(tmp_path / "odd"), device=torch.device("cpu"))
    assert "odd" in str(caught.value)


def test_a_classifier_that_flat_batches_do_not_carry_is_refused_too(tmp_path) -> None:
    config = odd_models()["gemma2 (soft-capped attention)"]
    config.num_labels = 1
    seeded(lambda: transformers.AutoModelForSequenceClassification.from_config(config)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="flat batches"):
        load_classifier(str(tmp_path), device=torch.device("cpu"))


def test_a_classifier_loads_whatever_its_trunk(folders) -> None:
    for name in ("bert", "qwen2", "gpt2", "neox"):
        body = load_trunk(str(folders[name]), labels=1, device=torch.device("cpu"))
        assert own_head(body, where=name).out_features == 1


@pytest.mark.parametrize("name", CAUSAL)
def test_a_model_that_flat_batches_carry_passes_and_stays_as_it_was(name: str) -> None:
    body = body_of(causal_lm(name))
    before = {key: value.clone() for key, value in body.model.state_dict().items()}
    body.model.train()
    verify_flat(body, name)
    assert body.model.training and body.model.config._attn_implementation == "assent_flat"
    assert all(torch.equal(before[key], value) for key, value in body.model.state_dict().items())
