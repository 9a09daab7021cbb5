from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assent.data.order import epoch_order, epoch_order_of_groups, token_budget_batches


def test_an_epoch_visits_every_item_once_and_the_next_one_in_another_order() -> None:
    first, second = epoch_order(100, seed=3, epoch=0), epoch_order(100, seed=3, epoch=1)
    assert sorted(first) == sorted(second) == list(range(100))
    assert list(first) != list(second)


def test_the_order_depends_on_nothing_but_seed_and_epoch() -> None:
    assert list(epoch_order(6, seed=1, epoch=2)) == list(epoch_order(6, seed=1, epoch=2))
    assert list(epoch_order(60, seed=1, epoch=2)) != list(epoch_order(60, seed=2, epoch=2))


@given(st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=40), st.integers(0, 5))
def test_a_groups_items_stay_adjacent(groups: list[str], epoch: int) -> None:
    order = [int(item) for item in epoch_order_of_groups(groups, seed=0, epoch=epoch)]
    assert sorted(order) == list(range(len(groups)))
    for name in set(groups) - {""}:
        places = [place for place, item in enumerate(order) if groups[item] == name]
        assert places == list(range(places[0], places[-1] + 1))


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_token_budget_holds_except_for_a_sequence_that_alone_exceeds_it(lengths: list[int], budget: int) -> None:
    runs = token_budget_batches(lengths, budget)
    assert [place for run in runs for place in run] == list(range(len(lengths)))
    assert all(len(run) == 1 or sum(lengths[place] for place in run) <= budget for run in runs)


def test_items_of_one_single_group_are_still_shuffled() -> None:
    order = epoch_order_of_groups(["only"] * 50, seed=0, epoch=0).tolist()
    assert sorted(order) == list(range(50)) and order != list(range(50))
