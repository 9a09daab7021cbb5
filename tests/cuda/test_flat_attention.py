"""On a CUDA device a flat row gives what single sequences give, forward and backward, for every architecture."""

from __future__ import annotations

import pytest
import torch
from on_cuda import CUDA, every_precision, needs_cuda, on_cuda
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm
from torch import Tensor
from torch.testing import assert_close

from assent.model import attention
from assent.model.body import Body, Precision
from assent.model.flat import flatten
from assent.model.prefix_trees import flatten_trees, tree_of
from assent.model.verification import verify_flat

pytestmark = needs_cuda
LENGTHS = [(1,), (7, 3, 12, 3, 1), (5, 5, 5, 9, 9, 2), (33, 2, 64, 40)]


def sequences(lengths: tuple[int, ...], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def hidden_and_gradient(body: Body, batches: list[list[list[int]]]) -> tuple[Tensor, Tensor]:
    """Hidden states of flat batches, and the gradient of a fixed, uneven sum over them as one vector."""
    device = body.device
    hidden_NH = torch.cat([body.hidden(flatten(rows).to(device)) for rows in batches])
    weight_NH = torch.sin(torch.arange(hidden_NH.numel(), device=device)).view_as(hidden_NH)
    body.model.zero_grad()
    (hidden_NH * weight_NH.to(hidden_NH.dtype)).sum().backward()
    gradient = torch.cat([p.grad.flatten() for _, p in sorted(body.model.named_parameters()) if p.grad is not None])
    return hidden_NH.detach().double().cpu(), gradient.double().cpu()


def true_hidden_and_gradient(name: str, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """One by one on the CPU in float64."""
    body = body_of(causal_lm(name))
    body.model.double()
    return hidden_and_gradient(body, [[row] for row in rows])


def distance(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_flat_is_one_by_one(name: str, lengths: tuple[int, ...]) -> None:
    rows = sequences(lengths)
    hidden_NH, gradient = hidden_and_gradient(on_cuda(name), [rows])
    true_NH, true_gradient = true_hidden_and_gradient(name, rows)
    assert_close(hidden_NH, true_NH, atol=5e-5, rtol=5e-4)
    assert distance(gradient, true_gradient) < 2e-4


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_in_bf16_flat_is_as_near_to_the_truth_as_one_by_one(name: str, lengths: tuple[int, ...]) -> None:
    rows = sequences(lengths)
    flat = hidden_and_gradient(on_cuda(name, "bf16"), [rows])
    single = hidden_and_gradient(on_cuda(name, "bf16"), [[row] for row in rows])
    for mine, alone, true in zip(flat, single, true_hidden_and_gradient(name, rows), strict=True):
        assert distance(mine, true) < 1.5 * distance(alone, true) + 2e-3
        assert distance(mine, true) < 0.15


@every_precision
@pytest.mark.parametrize("name", CAUSAL)
def test_a_sequence_does_not_see_its_neighbours(name: str, precision: Precision) -> None:
    body = on_cuda(name, precision)
    rows, others = sequences((6, 6, 4)), sequences((6, 6, 4), seed=1)
    with torch.no_grad():
        together = body.hidden(flatten(rows).to(CUDA))[6:12]
        among_others = body.hidden(flatten([others[0], rows[1], others[2]]).to(CUDA))[6:12]
    assert torch.equal(together, among_others)


@every_precision
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt2", "neox"])
def test_all_sequences_go_through_one_kernel(name: str, precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    body = on_cuda(name, precision)

    def refused(*_: object, **__: object) -> Tensor:
        raise AssertionError("a call for each length")

    monkeypatch.setattr(attention, "scaled_dot_product_attention", refused)
    hidden_and_gradient(body, [sequences((7, 3, 12, 3, 1))])


@pytest.mark.parametrize("name", CAUSAL)
def test_a_model_that_flat_batches_carry_passes(name: str) -> None:
    verify_flat(on_cuda(name), name)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_tree_gives_what_its_sequences_give(name: str) -> None:
    body, rows = on_cuda(name), [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8, 9, 10], [4]]
    planted, flat = flatten_trees([tree_of(rows)]).to(CUDA), flatten(rows).to(CUDA)
    with torch.no_grad():
        assert_close(body.hidden(planted)[planted.last_B], body.hidden(flat)[flat.last_B], atol=5e-5, rtol=5e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_what_is_read_alone_is_what_the_whole_row_gives(name: str) -> None:
    body, batch = on_cuda(name), flatten(sequences((7, 33, 3, 12))).to(CUDA)
    assert_close(body.hidden(batch, batch.last_B), body.hidden(batch)[batch.last_B], atol=5e-5, rtol=5e-4)


@every_precision
def test_the_same_step_gives_the_same_bits(precision: Precision) -> None:
    body, rows = on_cuda("qwen2", precision), sequences((33, 2, 64, 40))
    first, again = (hidden_and_gradient(body, [rows]) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
