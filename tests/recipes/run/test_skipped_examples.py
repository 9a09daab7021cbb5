"""Long prompts are left out and counted; none may blow up a batch."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from assent.algorithms.ppo import PPOSettings
from assent.errors import DataError
from assent.recipes.run.job_settings import EvalJob, SampleJob
from assent.recipes.run.models import LanguageModel, MachineOptions, load_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.skipped_examples import fitting_prompts
from assent.types import Conversation

PROMPTS = [Conversation.of_user("red " * count) for count in (1, 3, 6)]


@pytest.fixture
def model(folders: dict[str, Path]) -> LanguageModel:
    return load_language_model(str(folders["llama"]), machine=MachineOptions(threads=1))


@pytest.mark.parametrize("kind", [PPOSettings, SampleJob, EvalJob])
def test_prompts_beyond_max_prompt_length_are_left_out_and_counted(model: LanguageModel, kind: type) -> None:
    lengths = [len(ids) for ids in model.template.encode_prompts(PROMPTS)]
    assert lengths == sorted(set(lengths))
    said = io.StringIO()
    settings = kind(max_prompt_length=lengths[1], max_tokens=4)
    assert fitting_prompts(PROMPTS, model, settings, Display(Console(file=said, width=200))) == PROMPTS[:2]
    assert f"for the model or for max_prompt_length ({lengths[1]}): 1 prompts" in said.getvalue()


def test_prompts_that_are_all_too_long_are_refused_by_what_is_too_small(model: LanguageModel) -> None:
    with pytest.raises(DataError, match=r"within max_prompt_length \(2 tokens\).*--set max_prompt_length"):
        fitting_prompts(PROMPTS, model, SampleJob(max_prompt_length=2, max_tokens=4), Display(quiet=True))
    with pytest.raises(DataError, match=r"leaves room for 500 tokens.*--set max_tokens"):
        fitting_prompts(PROMPTS, model, SampleJob(max_prompt_length=2, max_tokens=500), Display(quiet=True))


def test_a_rollout_reads_no_prompt_of_more_than_1024_tokens_by_default() -> None:
    assert PPOSettings().max_prompt_length == 1024
