"""Every real file people gave us is detected for what it is, and its rows are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assent.data.load import (
    ReadOptions,
    load_comparisons,
    load_demonstrations,
    load_prompts,
    load_rankings,
    load_ratings,
    load_texts,
)

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SKIP = ReadOptions(on_bad_row="skip")

# file, format, how to load it, examples, bad rows
FILES: list[tuple[str, str, Callable[..., Any], int, int]] = [
    ("nc/preference/alpaca_eval_gpt4_judge_14models.test.jsonl.gz", "alpaca-eval", load_comparisons, 1784, 8),
    ("nc/preference/hh_rlhf_helpful_base_dsp.train.jsonl.gz", "dsp", load_comparisons, 1511, 2),
    ("nc/preference/webgpt_comparisons_dsp.train.jsonl.gz", "dsp", load_rankings, 587, 0),
    ("nc/sft/alpaca_claude_t45_5k.train.jsonl.gz", "alpaca", load_demonstrations, 3398, 2),
    ("nc/redteam/Q-Harm.json.gz", "prompts", load_prompts, 100, 0),
    ("open/preference/hh_rlhf_harmless_base.train.jsonl.gz", "hh", load_comparisons, 1486, 3),
    ("open/preference/hh_rlhf_harmless_base.test.jsonl.gz", "hh", load_demonstrations, 349, 1),
    ("open/preference/llamafactory_dpo_en_demo.jsonl.gz", "preference-messages", load_comparisons, 219, 0),
    ("open/preference/llamafactory_kto_en_demo.jsonl.gz", "labelled-messages", load_ratings, 249, 0),
    ("open/preference/pandalm_human_3annotators.test.jsonl.gz", "pandalm", load_comparisons, 111, 19),
    ("open/preference/fine_grained_rlhf_qa_feedback.test.jsonl.gz", "fine-grained-qa", load_comparisons, 474, 0),
    ("open/preference/tarm_hh_rlhf_test120.jsonl.gz", "tool-augmented", load_comparisons, 98, 1),
    ("open/preference/topical_chat_human_ratings.test.jsonl.gz", "dialogue-ratings", load_rankings, 6, 0),
    ("open/sft/dolly_3k_alpagasus.test.jsonl.gz", "alpaca", load_demonstrations, 511, 0),
    ("open/sft/self_instruct_seed_tasks.jsonl.gz", "self-instruct", load_demonstrations, 146, 0),
    ("open/harm/davidson_hate_offensive.test.csv.gz", "davidson", load_ratings, 3961, 0),
    ("open/harm/diasafety_val.jsonl.gz", "labelled-completions", load_ratings, 892, 0),
    ("open/harm/hatecheck_cases.csv.gz", "labelled-texts", load_ratings, 2864, 0),
    ("open/harm/openai_moderation.test.jsonl.gz", "moderation", load_ratings, 257, 0),
    ("open/sentiment/sentence_polarity.test.jsonl.gz", "labelled-texts", load_ratings, 1677, 0),
    ("open/honesty/truthfulqa_finetune_truth.test.jsonl.gz", "prompt-completion", load_demonstrations, 3369, 0),
    ("open/math/gsm8k_test.jsonl.gz", "prompt-completion", load_demonstrations, 1055, 0),
    ("open/redteam/catqa_english.json.gz", "prompts", load_prompts, 447, 0),
    ("open/redteam/adversarialqa.json.gz", "text", load_prompts, 393, 0),
    ("open/text/tinyshakespeare.txt.gz", "text", load_texts, 1, 0),
]


@pytest.mark.parametrize(("name", "format_name", "load", "count", "bad"), FILES, ids=[file[0] for file in FILES])
def test_a_real_file_is_detected_and_read(
    name: str, format_name: str, load: Callable[..., Any], count: int, bad: int
) -> None:
    if not SHARED.is_dir():
        pytest.skip("shared data folder is absent")
    dataset = load(SHARED / name, SKIP)
    assert (dataset.format, len(dataset), dataset.bad_rows) == (format_name, count, bad)


def test_hh_pairs_differ_in_their_last_answer_only() -> None:
    if not SHARED.is_dir():
        pytest.skip("shared data folder is absent")
    pairs = load_comparisons(SHARED / "open/preference/hh_rlhf_harmless_base.train.jsonl.gz", SKIP).examples
    first = pairs[0]
    assert first.prompt.messages[0].content == "what are some pranks with a pen i can do?"
    assert first.prompt.messages[-1].role == "user"
    assert all(pair.chosen.text.strip() and pair.chosen != pair.rejected for pair in pairs)
    longer_chosen = sum(len(pair.chosen.text) > len(pair.rejected.text) for pair in pairs) / len(pairs)
    assert longer_chosen == pytest.approx(0.44, abs=0.02)  # as the data's own account says


def test_davidson_scores_neither_as_good() -> None:
    if not SHARED.is_dir():
        pytest.skip("shared data folder is absent")
    ratings = load_ratings(SHARED / "open/harm/davidson_hate_offensive.test.csv.gz").examples
    assert 1 - sum(rating.score for rating in ratings) / len(ratings) == pytest.approx(0.841, abs=0.001)


def test_labels_that_mean_neither_are_left_out_when_both_sides_are_named() -> None:
    if not SHARED.is_dir():
        pytest.skip("shared data folder is absent")
    named = ReadOptions(positive_labels=("noHate",), negative_labels=("hate",))
    dataset = load_ratings(SHARED / "open/harm/vicomtech_stormfront_hate.test.jsonl.gz", named)
    assert dataset.format == "labelled-texts" and 1700 < len(dataset) < 1832
