"""Labels of a model in the store: kept with principle and both orders, mixed with those of people by weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import assent, worked, write_rows

from assent.data.load import load_comparisons
from assent.feedback.annotation_source import all_answered
from assent.feedback.quality.bias import slot_of_best
from assent.feedback.records import EventKind
from assent.feedback.store.store import FeedbackStore
from assent.studio.item_search import told

VERDICT = {"principle": "true", "forward": 0.1, "backward": 0.3}
PAIR = {"prompt": "How many legs has a spider?", "completions": ["Eight.", "Six."]}


def imported(folder: Path, preference: dict[str, Any], **more: Any) -> Any:
    row = PAIR | {"model_preference": preference} | more
    data = write_rows(folder / "items.jsonl", [row])
    return assent("feedback", "import", "--store", folder / "s.db", "--project", "p", "--data", data)


def preference(**change: Any) -> dict[str, Any]:
    return {"model": "judge", "probability": 0.2, "verdicts": [VERDICT]} | change


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one pair that a model has judged: the second is better, 0.8."""
    ran = imported(tmp_path, preference())
    assert ran.code == 0, ran.err
    return tmp_path / "s.db"


def pairs(store: Path, *more: str) -> tuple[Any, ...]:
    out = store.with_suffix(".jsonl")
    worked("feedback", "pairs", "--store", store, "--out", out, "--overwrite", *more)
    return load_comparisons(out).examples


def test_it_is_kept_whole_in_canonical_order_and_is_no_word_on_positions(store: Path) -> None:
    with FeedbackStore.open(str(store), read_only=True) as opened:
        (answered,) = all_answered(opened, 1)
        (event,) = answered.events
        assert opened.project(1).settings.mode == "pairwise"
    assert event.kind is EventKind.MODEL_PREFERENCE
    assert event.payload == preference()
    assert slot_of_best(event) is None and told(event) == "AI says B, 0.80"


def test_its_probability_is_the_soft_label_that_training_reads(store: Path) -> None:
    (pair,) = pairs(store)
    assert (pair.chosen.text, pair.rejected.text, pair.probability) == ("Six.", "Eight.", 0.8)
    row = json.loads(store.with_suffix(".jsonl").read_text())
    assert (row["source"], row["who"]) == ("model", "judge")


def test_people_and_models_mix_by_weight_and_a_model_of_weight_zero_is_not_heard(store: Path) -> None:
    ann = write_rows(
        store.with_name("people.jsonl"),
        [{"prompt": PAIR["prompt"], "chosen": "Eight.", "rejected": "Six.", "annotator": "ann"}],
    )
    worked("feedback", "import", "--store", store, "--project", "p", "--data", ann)
    (pair,) = pairs(store, "--set", 'weights={"imported model judge"=0.5}')
    assert pair.chosen.text == "Eight." and pair.probability == pytest.approx((1.0 + 0.5 * 0.2) / 1.5)
    (alone,) = pairs(store, "--set", 'weights={"imported model judge"=0.0}')
    assert alone.probability == 1.0
    assert "1 pairwise, 1 model_preference" in worked("feedback", "stats", "--store", store).out


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"probability": 1.5}, "payload.probability: expected a number from 0 to 1"),
        ({"probability": True}, "payload.probability"),
        ({"model": ""}, "model_preference.model"),
        ({"verdicts": [{"principle": "true", "forward": -1}]}, "payload.verdicts.0.forward"),
        ({"verdicts": ["true"]}, "payload.verdicts.0: expected an object"),
        ({"sure": 1}, "payload.sure: there is no such field"),
    ],
)
def test_a_label_that_cannot_be_is_refused_with_its_field(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    ran = imported(tmp_path, preference(**change))
    assert ran.code == 2 and named in ran.err


def test_it_is_about_two_completions(tmp_path: Path) -> None:
    ran = imported(tmp_path, preference(), completions=["Eight.", "Six.", "Nine."])
    assert ran.code == 2 and "a model compares two completions" in ran.err
