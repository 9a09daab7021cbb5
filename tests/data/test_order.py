from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assent.data.order import epoch_order, token_budget_batches


def test_an_epoch_visits_every_item_once_and_the_next_one_in_another_order() -> None:
    first, second = epoch_order(100, seed=3, epoch=0), epoch_order(100, seed=3, epoch=1)
    assert sorted(first) == sorted(second) == list(range(100))
    assert list(first) != list(second)


def test_the_order_depends_on_nothing_but_seed_and_epoch() -> None:
    assert list(epoch_order(6, seed=1, epoch=2)) == list(epoch_order(6, seed=1, epoch=2))
    assert list(epoch_order(60, seed=1, epoch=2)) != list(epoch_order(60, seed=2, epoch=2))


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_token_budget_holds_except_for_a_sequence_that_alone_exceeds_it(lengths: list[int], budget: int) -> None:
    runs = token_budget_batches(lengths, budget)
    assert [place for run in runs for place in run] == list(range(len(lengths)))
    assert all(len(run) == 1 or sum(lengths[place] for place in run) <= budget for run in runs)
