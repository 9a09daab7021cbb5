"""Sequences that share their beginnings as trees: every token has the hidden state of its sequence alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm

from assent.model.body import Body
from assent.model.flat import flatten
from assent.model.prefix_trees import Tree, flatten_trees, shared_reading, tree_of

Sequences = list[list[int]]
sequences_of_few_tokens = st.lists(
    st.lists(st.integers(2, 4), min_size=1, max_size=7), min_size=1, max_size=6
)  # few tokens, so that much is shared


def group(seed: int, prompt: int, lengths: tuple[int, ...], tokens: int = VOCABULARY) -> Sequences:
    """Completions of those lengths behind one prompt; every other one goes on from half of the one before."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(2, tokens, (length,), generator=generator).tolist() for length in (prompt, *lengths)]
    begun = [
        [*drawn[place - 1][: len(one) // 2], *one] if place % 2 and place > 1 else one
        for place, one in enumerate(drawn)
    ]
    return [begun[0] + one for one in begun[1:]]


def body_in_double(name: str) -> Body:
    body = body_of(causal_lm(name))
    body.model.double()
    return body


@pytest.mark.parametrize("name", CAUSAL)
def test_the_last_hidden_states_of_trees_are_those_of_single_sequences(name: str) -> None:
    body = body_in_double(name)
    groups = [group(1, 9, (3, 5, 4, 1, 8)), group(2, 1, (2, 2, 6)), [[7, 8, 9]], group(3, 9, (3, 5, 4, 1, 8))]
    batch = flatten_trees([tree_of(one) for one in groups])
    with torch.no_grad():
        alone = [body.hidden(flatten([row]))[-1] for one in groups for row in one]
        together = body.hidden(batch)[batch.last_B]
    assert sum(batch.lengths) < sum(len(row) for one in groups for row in one)
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=1e-5)


@given(sequences_of_few_tokens)
def test_a_tree_holds_every_beginning_once_and_leads_to_every_sequence(rows: Sequences) -> None:
    tree = tree_of(rows)
    assert len(tree) == len({tuple(row[: end + 1]) for row in rows for end in range(len(row))})
    for row, last in zip(rows, tree.last, strict=True):
        assert [tree.ids[place] for place in seen(tree, last)] == row
    for place, depth in enumerate(tree.depths):
        assert len(seen(tree, place)) == depth + 1


def seen(tree: Tree, place: int) -> list[int]:
    """The places that the token at a place sees."""
    return [other for other in range(place + 1) if place < tree.ends[other]]


def test_equal_trees_share_one_run_and_others_do_not_see_each_other() -> None:
    body = body_in_double("llama")
    first, second = tree_of(group(1, 4, (3, 3))), tree_of(group(5, 4, (3, 3)))
    with torch.no_grad():
        both = body.hidden(flatten_trees([first, second]))
        alone = torch.cat([body.hidden(flatten_trees([first])), body.hidden(flatten_trees([second]))])
    torch.testing.assert_close(both, alone, atol=1e-5, rtol=1e-5)


@given(sequences_of_few_tokens)
def test_a_shared_reading_leads_to_every_sequence_and_is_made_only_where_it_saves(rows: Sequences) -> None:
    shared, tokens = shared_reading(rows), sum(map(len, rows))
    assert (shared is None) == (len(tree_of(rows)) > 0.75 * tokens)
    if shared is not None:
        assert [shared.batch.ids_N[path].tolist() for path in shared.paths] == rows
        assert shared.last_B.tolist() == [path[-1].item() for path in shared.paths]


@pytest.mark.parametrize(("common", "most"), [(40, 320), (400, 3 * 451)])
def test_a_shared_reading_has_trees_of_few_tokens(common: int, most: int) -> None:
    prompts = [[*range(common), 500 + place, *range(50)] for place in range(60)]
    shared = shared_reading(prompts)
    assert shared is not None
    assert most - 51 < shared.batch.lengths[0] <= most and max(shared.batch.lengths) == shared.batch.lengths[0]
    assert [shared.batch.ids_N[path].tolist() for path in shared.paths] == prompts
