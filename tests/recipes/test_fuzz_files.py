"""A cut of the files of `python tests/fuzz_files.py`, which tries 20,000."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_files import fuzz


@pytest.mark.parametrize("seed", [11, 12])
def test_no_file_is_lost_without_a_word_and_none_ends_in_a_traceback(seed: int, tmp_path: Path) -> None:
    outcomes = fuzz(120, seed=seed, folder=tmp_path)
    assert not outcomes.wrong, "\n".join(outcomes.wrong)
    assert outcomes.counts["annotations kept"] > 100 and outcomes.counts["rows set aside"] > 20
