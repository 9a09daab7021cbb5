"""The last feed-forward block runs only for the tokens that are read, and what is read does not change."""

from __future__ import annotations

import pytest
import torch
from small_models import CAUSAL, body_of, causal_lm
from torch.testing import assert_close

from assent.model.adapters import LoraSettings
from assent.model.flat import flatten
from assent.model.last_mlp import last_mlp
from assent.model.prefix_trees import flatten_trees, tree_of

SEQUENCES = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14], [15, 16, 17, 18, 19]]
WANTED = [[False] * (len(one) - 2) + [True] * 2 for one in SEQUENCES]


@pytest.mark.parametrize("name", CAUSAL)
def test_what_is_read_is_what_the_whole_row_gives_forward_and_backward(name: str) -> None:
    batch = flatten(SEQUENCES, WANTED)
    narrow, wide = body_of(causal_lm(name)), body_of(causal_lm(name))
    assert last_mlp(narrow.trunk) is not None
    assert_close(narrow.hidden(batch, batch.predict_M), wide.hidden(batch)[batch.predict_M], atol=1e-6, rtol=1e-5)
    narrow.hidden(batch, batch.predict_M).sin().sum().backward()
    wide.hidden(batch)[batch.predict_M].sin().sum().backward()
    for (key, mine), whole in zip(narrow.model.named_parameters(), wide.model.parameters(), strict=True):
        if whole.grad is not None:
            assert_close(mine.grad, whole.grad, atol=1e-5, rtol=1e-3, msg=key)


def test_the_block_sees_only_the_tokens_that_are_read_also_with_an_adapter() -> None:
    body, batch = body_of(causal_lm("llama")), flatten(SEQUENCES, WANTED)
    block = last_mlp(body.trunk)
    assert block is not None
    seen: list[int] = []
    block.get_submodule("up_proj").register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    body.hidden(batch)
    body.hidden(batch, batch.predict_M)
    body.hidden(batch)
    assert seen == [15, 6, 15]
    body.add_adapter("policy", LoraSettings(rank=2), seed=0)
    body.hidden(batch, batch.predict_M, adapter="policy")
    assert seen[-1] == 6


def test_a_few_tokens_are_read_from_the_whole_row_whose_bits_do_not_depend_on_memory() -> None:
    body, batch = body_of(causal_lm("llama")), flatten(SEQUENCES, WANTED)
    assert torch.equal(body.hidden(batch, batch.last_B), body.hidden(batch)[batch.last_B])


def test_equal_sequences_of_a_tree_are_read_once_and_given_twice() -> None:
    body, batch = (
        body_of(causal_lm("llama")),
        flatten_trees([tree_of([SEQUENCES[0], SEQUENCES[0], *(SEQUENCES[0][:size] for size in (3, 4, 5))])]),
    )
    assert len({*batch.last_B.tolist()}) < len(batch.last_B)
    mine, whole = body.hidden(batch, batch.last_B), body.hidden(batch)[batch.last_B]
    assert_close(mine, whole, atol=1e-6, rtol=1e-5)
    gradients = [torch.autograd.grad(found.sin().sum(), list(body.model.parameters())[1:3]) for found in (mine, whole)]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_nearly_all_tokens_are_not_worth_choosing() -> None:
    body, batch = body_of(causal_lm("llama")), flatten([list(range(3, 33))])
    block = last_mlp(body.trunk)
    assert block is not None
    seen: list[int] = []
    block.get_submodule("up_proj").register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    assert torch.equal(body.hidden(batch, batch.predict_M), body.hidden(batch)[batch.predict_M])
    assert seen == [30, 30]
