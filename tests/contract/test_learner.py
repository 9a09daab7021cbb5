"""What every Learner promises: exact saves, steps that do not depend on packing, bad numbers that change nothing.

The suite knows learners by the protocol alone; `learners.py` makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from learners import CASES, Case, Group, broken_loss, plain_loss, rows, steep_loss
from torch import Tensor
from torch.testing import assert_close

from assent.ports.learning import Learner, Loss, Outputs, UpdateReport

RATE = 1e-2


@pytest.fixture(scope="module")
def processes() -> Iterator[Group]:
    """Two processes, started when the first learner needs them."""
    group = Group()
    yield group
    group.close()


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * ("processes" in name)) for name in CASES])
def case(request: pytest.FixtureRequest, processes: Group) -> Case:
    """A kind of learner."""
    return CASES[request.param](processes)


def train(learner: Learner, case: Case, *, steps: int = 1, seed: int = 0) -> list[UpdateReport]:
    reports = [
        learner.update(rows(seed + step), case.need, plain_loss, case.count(rows(seed + step)), RATE)
        for step in range(steps)
    ]
    assert not any(report.skipped for report in reports)
    return reports


def columns(outputs: list[Outputs]) -> dict[str, Tensor]:
    return dict(Outputs.joined(outputs).columns)


def files(learner: Learner, folder: Path) -> dict[str, str]:
    """The sha256 of everything that a learner saves."""
    folder.mkdir(exist_ok=True)
    return learner.save(folder)


def test_a_loaded_learner_is_the_saved_one_bit_for_bit(case: Case, tmp_path: Path) -> None:
    learner = case.make()
    train(learner, case, steps=2)
    saved = files(learner, tmp_path / "saved")
    assert set(saved) == {path.name for path in (tmp_path / "saved").iterdir()}
    train(learner, case, steps=2, seed=7)
    later = files(learner, tmp_path / "later")
    assert saved != later
    other = case.make()
    train(other, case, seed=40)
    torch.manual_seed(12)
    other.load(tmp_path / "saved")
    assert files(other, tmp_path / "again") == saved
    train(other, case, steps=2, seed=7)
    assert files(other, tmp_path / "again") == later


def test_a_fresh_learner_can_be_loaded_over_a_trained_one(case: Case, tmp_path: Path) -> None:
    learner = case.make()
    fresh = files(learner, tmp_path / "fresh")
    train(learner, case, steps=2)
    learner.load(tmp_path / "fresh")
    assert files(learner, tmp_path / "again") == fresh


def test_a_rollback_brings_the_snapshot_back_bit_for_bit(case: Case, tmp_path: Path) -> None:
    learner = case.make()
    for trained in range(2):  # without moments, and with them
        assert learner.snapshot()
        before = files(learner, tmp_path / f"before {trained}")
        for again in range(2):
            train(learner, case, steps=2, seed=7)
            learner.rollback()
            assert files(learner, tmp_path / f"after {trained} {again}") == before
        train(learner, case)


def test_a_probe_changes_nothing_and_says_what_updates_take(case: Case, tmp_path: Path) -> None:
    learner = case.make()
    train(learner, case)
    before = files(learner, tmp_path / "before")
    cost = learner.probe(rows(2), case.need)
    assert files(learner, tmp_path / "after") == before
    assert cost.seconds_per_token > 0 and cost.memory_bytes > 0


def test_progress_that_raises_ends_an_update_that_has_then_changed_nothing(case: Case, tmp_path: Path) -> None:
    class Enough(Exception):
        """Someone asked to stop."""

    def stop(_: int) -> None:
        raise Enough

    learner = case.make(micro_batch_tokens=1)
    train(learner, case)
    before = files(learner, tmp_path / "before")
    with pytest.raises(Enough):
        learner.update(rows(2), case.need, plain_loss, case.count(rows(2)), RATE, progress=stop)
    assert files(learner, tmp_path / "after") == before
    other = case.make(micro_batch_tokens=1)
    for one in (learner, other):
        one.load(tmp_path / "before")
        train(one, case, seed=9)
    assert files(learner, tmp_path / "one") == files(other, tmp_path / "two")


@pytest.mark.parametrize("tokens", [1, 13])
def test_a_step_does_not_depend_on_how_it_is_packed(case: Case, tokens: int) -> None:
    if case.random:
        pytest.skip("dropout draws anew for every micro-batch")
    whole, packed = case.make(), case.make(micro_batch_tokens=tokens)
    (one,), (two,) = train(whole, case), train(packed, case)
    assert two.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)
    assert two.means == pytest.approx(one.means, rel=1e-4)
    seen, again = columns(whole.score(rows(5), case.need)), columns(packed.score(rows(5), case.need))
    for name, column in seen.items():
        assert_close(again[name], column, atol=2e-3, rtol=2e-3, msg=name)


@pytest.mark.parametrize("bad", [broken_loss, steep_loss])
def test_a_bad_number_changes_nothing_is_reported_and_forgotten(case: Case, bad: Loss, tmp_path: Path) -> None:
    learner, untouched = case.make(micro_batch_tokens=13), case.make(micro_batch_tokens=13)
    for one in (learner, untouched):
        train(one, case)
    before = columns(learner.score(rows(5), case.need))
    examples = rows(2)
    report = learner.update(examples, case.need, bad, case.count(examples), RATE)
    assert report.skipped
    assert sorted(ids for batch in report.skipped for ids in batch.sequences) == sorted(one.ids for one in examples)
    if "logits" not in case.columns:
        assert sum(sum(batch.predicted) for batch in report.skipped) == sum(one.predicted for one in examples)
    after = columns(learner.score(rows(5), case.need))
    assert all(torch.equal(before[name], after[name]) for name in before)
    if not case.random:  # there the passes are counted
        for one in (learner, untouched):
            train(one, case, seed=9)
        assert files(learner, tmp_path / "one") == files(untouched, tmp_path / "two")


def test_scores_come_in_input_order_whatever_they_are_read_with(case: Case) -> None:
    learner, examples = case.make(micro_batch_tokens=13), rows()
    told: list[int] = []
    together = learner.score(examples, case.need, progress=told.append)
    assert sum(told) == len(together) == len(examples)
    for example, outputs in zip(examples, together, strict=True):
        (alone,) = learner.score([example], case.need)
        assert not outputs.from_states and set(outputs.columns) == set(alone.columns) == set(case.columns)
        for name, column in outputs.columns.items():
            assert len(column) == (1 if name == "logits" else example.predicted) and not column.requires_grad
            assert_close(column, alone[name], atol=1e-5, rtol=1e-4, msg=name)


def test_scoring_changes_nothing_and_says_what_training_sees(case: Case, tmp_path: Path) -> None:
    learner = case.make()
    before = files(learner, tmp_path / "before")
    first, second = (columns(learner.score(rows(), case.need)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert files(learner, tmp_path / "after") == before
    examples = rows()
    report = learner.update(examples, case.need, plain_loss, case.count(examples), 0.0)
    told = plain_loss(Outputs(columns=first), examples, case.count(examples)).sums["loss"] / len(examples)
    same = report.means["loss"] == pytest.approx(told, rel=1e-4)
    assert same is not case.random


def test_progress_that_raises_ends_scoring(case: Case) -> None:
    class Enough(Exception):
        """Someone asked to stop."""

    def stop(_: int) -> None:
        raise Enough

    learner = case.make(micro_batch_tokens=1)
    with pytest.raises(Enough):
        learner.score(rows(), case.need, progress=stop)
    assert len(learner.score(rows(), case.need)) == len(rows())


def test_versions_rise_with_publishing_alone(case: Case) -> None:
    learner = case.make()
    if "logits" in case.columns:
        pytest.skip("a scalar model writes nothing")
    first = learner.publish()
    train(learner, case)
    assert [learner.publish(), learner.publish()] == [first + 1, first + 2]
    assert learner.drift_limit > 0
