"""What every Learner promises (`tests/contract`), with the weights on a CUDA device."""

from __future__ import annotations

import contract.test_learner as promises
import pytest
from contract.test_learner import (  # noqa: F401  run here again
    test_a_bad_number_changes_nothing_and_is_forgotten,
    test_a_fresh_state_can_be_restored_over_a_trained_one,
    test_a_restored_learner_is_the_saved_one_bit_for_bit,
    test_micro_batches_add_up_to_the_whole,
    test_only_the_finite_gradient_norm_is_clipped_and_reported,
    test_scoring_changes_nothing_and_says_what_training_sees,
    test_the_kl_to_the_reference_is_zero_at_the_start_and_never_negative,
)
from on_cuda import needs_cuda, on_cuda

pytestmark = needs_cuda


@pytest.fixture(autouse=True)
def bodies_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "body_of", on_cuda)
