"""bf16 on a CPU: attention and scalar heads work in float32, and batches come in few numbers of tokens."""

from __future__ import annotations

import pytest
import torch
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm
from torch.testing import assert_close

from assent.model.body import Body
from assent.model.cache import DecodeCache
from assent.model.flat import FlatBatch, even, flatten
from assent.model.prefix_trees import flatten_trees, tree_of
from assent.model.roles import ScalarRole, fresh_head

LENGTHS = (11, 3, 17, 1, 9)


def low(name: str) -> Body:
    return Body(causal_lm(name), device=torch.device("cpu"), precision="bf16")


def sequences() -> list[list[int]]:
    drawn = torch.Generator().manual_seed(3)
    return [torch.randint(2, VOCABULARY, (length,), generator=drawn).tolist() for length in LENGTHS]


def batches() -> dict[str, FlatBatch]:
    rows = sequences()
    tree = tree_of([rows[0][:6], [*rows[0][:4], *rows[2]], rows[1] + rows[4][:-1]])
    wanted = [[place % 3 == 1 for place in range(len(row))] for row in rows]
    return {"flat": flatten(rows, wanted), "trees": flatten_trees([tree, tree_of([rows[4]])])}


def test_numbers_of_rows_are_few_and_little_is_added() -> None:
    found = [even(count) for count in range(1, 5000)]
    assert all(0 <= one - count <= count / 16 for count, one in enumerate(found, 1))
    assert found == sorted(found) and [even(one) for one in found] == found
    for power in range(4, 12):
        assert len(set(found[2**power : 2 ** (power + 1)])) == 16
    assert found[:16] == list(range(1, 17))


@pytest.mark.parametrize("kind", ["flat", "trees"])
@pytest.mark.parametrize("name", CAUSAL)
def test_what_is_added_is_read_by_nobody_forward_and_backward(name: str, kind: str) -> None:
    batch = batches()[kind]
    more = batch.evened()
    assert more.ids_N.shape[0] == even(batch.ids_N.shape[0]) > batch.ids_N.shape[0]
    found = []
    for one in (batch, more):
        body = body_of(causal_lm(name))
        read_MH = body.hidden(one)[batch.predict_M]
        read_MH.sin().sum().backward()
        found.append((read_MH, {key: parameter.grad for key, parameter in body.model.named_parameters()}))
    assert_close(found[0][0], found[1][0], atol=1e-6, rtol=1e-5)
    for key, gradient in found[0][1].items():
        assert_close(gradient, found[1][1][key], atol=1e-5, rtol=1e-3, msg=key)


@pytest.mark.parametrize("kind", ["flat", "trees"])
@pytest.mark.parametrize("name", CAUSAL)
def test_hidden_states_are_those_of_float32_rounded(name: str, kind: str) -> None:
    batch = batches()[kind]
    true_NH = body_of(causal_lm(name)).hidden(batch)
    mine, body = low(name).hidden(batch), low(name)
    assert mine.shape == true_NH.shape
    assert (mine.float() - true_NH).abs().mean() < 0.02 * true_NH.abs().mean()
    some_MH = body.hidden(batch, batch.predict_M)
    assert_close(some_MH.float(), mine[batch.predict_M].float(), atol=0.05, rtol=0.05)


def test_the_trunk_sees_even_numbers_of_tokens_and_the_last_block_even_numbers_of_rows() -> None:
    body, rows = low("llama"), sequences()
    seen: list[tuple[str, int]] = []
    for layer, name in enumerate(("first", "last")):
        block = body.trunk.get_submodule(f"layers.{layer}.mlp.up_proj")
        block.register_forward_hook(lambda _, given, __, name=name: seen.append((name, given[0].shape[-2])))
    batch = flatten(rows, [[place > (row is rows[0]) for place in range(len(row))] for row in rows])
    tokens, read = batch.ids_N.shape[0], batch.predict_M.shape[0]
    assert (tokens, read) == (41, 35)
    assert body.hidden(batch).shape[0] == tokens and body.hidden(batch, batch.predict_M).shape[0] == read
    assert seen == [("first", 42), ("last", 42), ("first", 42), ("last", 36)]


def test_attention_works_in_float32_and_so_does_its_cache() -> None:
    body, rows = low("llama"), sequences()
    batch = flatten(rows)
    cache = DecodeCache(batch.lengths, spare=2)
    seen: list[torch.dtype] = []
    body.trunk.get_submodule("layers.0.self_attn.o_proj").register_forward_pre_hook(
        lambda _, given: seen.append(given[0].dtype)
    )
    with torch.no_grad(), body.wearing(None):
        body.hidden(batch, batch.last_B, cache=cache)
        assert {tensor.dtype for tensor in (*cache.keys.values(), *cache.values.values())} == {torch.float32}
        next_B = torch.tensor([5] * len(rows))
        stepped_BH = body.next_hidden(next_B, torch.tensor(batch.lengths), cache)
        longer = flatten([[*row, 5] for row in rows])
        read_BH = body.hidden(longer, longer.last_B)
    assert set(seen) == {torch.float32}
    assert_close(stepped_BH.float(), read_BH.float(), atol=0.05, rtol=0.05)


def test_a_scalar_head_keeps_the_digits_of_a_score() -> None:
    body = low("llama")
    role = ScalarRole(body, fresh_head(body.hidden_size, seed=1, name="reward"))
    batch = flatten(sequences())
    feature_BH = role.features(batch)
    assert torch.equal(role.logits(batch), feature_BH.float() @ role.head.weight.T)
