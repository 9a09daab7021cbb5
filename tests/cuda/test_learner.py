"""What every Learner promises (`tests/contract`), with the weights on a CUDA device."""

from __future__ import annotations

import learners
import pytest
from contract.test_learner import (  # noqa: F401  run here again
    case,
    processes,
    test_a_bad_number_changes_nothing_is_reported_and_forgotten,
    test_a_fresh_learner_can_be_loaded_over_a_trained_one,
    test_a_loaded_learner_is_the_saved_one_bit_for_bit,
    test_a_step_does_not_depend_on_how_it_is_packed,
    test_progress_that_raises_ends_scoring,
    test_scores_come_in_input_order_whatever_they_are_read_with,
    test_scoring_changes_nothing_and_says_what_training_sees,
)
from on_cuda import needs_cuda, on_cuda

pytestmark = needs_cuda


@pytest.fixture(autouse=True)
def bodies_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "body_of", on_cuda)
