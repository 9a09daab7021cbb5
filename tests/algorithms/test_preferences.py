"""What methods on judgement make of their data: pairs, rankings, mismatched answers, rows, held-out scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_jobs import COMMON, CPU, PROMPTS, WORDS, comparisons, timeless

from assent.algorithms.cpo import CPO, CPOSettings
from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.dpo_pl import DPO_PL, DPOPLSettings
from assent.algorithms.epochs import OfflineMethod, TrainSettings
from assent.algorithms.kto import KTO, KTOSettings, mismatched, reference_point
from assent.algorithms.orpo import ORPO, ORPOSettings
from assent.algorithms.preference.log_ratios import with_reference
from assent.algorithms.preference.pairs import encode_pairs
from assent.algorithms.simpo import SIMPO, SimPOSettings
from assent.data.convert import rankings, ratings
from assent.errors import DataError
from assent.evals.reward_quality import ScoredLabels, ScoredPairs, reward_quality
from assent.metrics import Metrics, without_timings
from assent.ports.learning import Need, Roles
from assent.recipes.run.models import LanguageModel, load_language_model
from assent.recipes.training.prepare import prepare_offline
from assent.text.template import Encoded
from assent.types import Completion, Ranking, Rating


@pytest.fixture
def model(folders: dict[str, Path]) -> LanguageModel:
    return load_language_model(str(folders["llama"]), machine=CPU)


def trained(
    method: OfflineMethod, model: LanguageModel, examples: Sequence[Any], settings: TrainSettings, **more: Any
) -> list[Metrics]:
    return prepare_offline(method, model, examples, settings, seed=5, **more).run()


def thumbs() -> list[Rating]:
    return [
        Rating(prompt=prompt, completion=Completion(text=WORDS[(place * 3) % 8]), score=float(place % 3 == 0))
        for place, prompt in enumerate(PROMPTS)
    ]


METHODS: dict[str, tuple[OfflineMethod, TrainSettings]] = {
    "dpo": (DPO, DPOSettings(**COMMON)),
    "ipo": (DPO, DPOSettings(**COMMON, form="ipo")),
    "dpo of means": (DPO, DPOSettings(**COMMON, length_normalised=True)),
    "simpo": (SIMPO, SimPOSettings(**COMMON)),
    "orpo": (ORPO, ORPOSettings(**COMMON)),
    "cpo": (CPO, CPOSettings(**COMMON)),
}


@pytest.mark.parametrize("name", METHODS)
def test_rows_say_how_likely_a_token_of_either_side_is(name: str, model: LanguageModel) -> None:
    method, settings = METHODS[name]
    pairs = comparisons()[:4]
    encoded = encode_pairs(pairs, model.template, max_length=999).items
    outputs = model.backend.learner(Roles(policy=model.role)).score(encoded, Need())
    sides = [
        torch.split(one["logp"], [pair.chosen.predicted, pair.rejected.predicted])
        for one, pair in zip(outputs, encoded, strict=True)
    ]
    expected = [sum(float(each[side].mean()) for each in sides) / len(pairs) for side in (0, 1)]
    row = trained(method, model, pairs, settings)[0]
    assert [row["chosen_logp"], row["rejected_logp"]] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_held_out_pairs_have_the_margin_that_training_sees(name: str, model: LanguageModel) -> None:
    method, settings = METHODS[name]
    prepared = prepare_offline(method, model, comparisons(), settings, seed=5, held_out=comparisons()[:5])
    row = prepared.run()[-1]
    assert prepared.scored is not None
    scored = prepared.scored()
    assert isinstance(scored, ScoredPairs)
    quality = reward_quality(scored, seed=0)
    assert row["eval_margin"] == pytest.approx(quality.margin, rel=1e-4)
    assert row["eval_accuracy"] == pytest.approx(quality.accuracy)


@pytest.mark.parametrize("name", METHODS)
def test_micro_batches_change_nothing_but_rounding(name: str, folders: dict[str, Path]) -> None:
    method, settings = METHODS[name]
    rows = {}
    for tokens in (30, 8192):
        model = load_language_model(str(folders["llama"]), machine=CPU)
        split = settings.model_copy(update={"micro_batch_tokens": tokens})
        rows[tokens] = without_timings(trained(method, model, comparisons(), split)[-1])
    assert rows[30] == pytest.approx(rows[8192], rel=2e-3, abs=1e-5)


def test_a_method_without_a_reference_reads_none(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = type(model.backend.learner(Roles(policy=model.role)))
    monkeypatch.setattr(learner, "score", lambda *_, **__: pytest.fail("the reference was read"))
    for name in ("simpo", "orpo", "cpo"):
        trained(METHODS[name][0], model, comparisons()[:4], METHODS[name][1])


def test_a_ranking_of_two_is_a_pair(folders: dict[str, Path]) -> None:
    pairs = comparisons()
    pairs[3] = replace(pairs[3], probability=0.5)
    rows = {}
    for name, method, examples, settings in (
        ("pairs", DPO, pairs, DPOSettings(**COMMON)),
        ("rankings", DPO_PL, rankings(pairs), DPOPLSettings(**COMMON)),
    ):
        rows[name] = trained(method, load_language_model(str(folders["llama"]), machine=CPU), examples, settings)
    for pair, ranking in zip(rows["pairs"], rows["rankings"], strict=True):
        assert ranking["loss"] == pytest.approx(pair["loss"], rel=1e-5)
        assert ranking["gradient_norm"] == pytest.approx(pair["gradient_norm"], rel=1e-4)


def test_rows_of_rankings_are_about_the_best_and_the_worst_answers(model: LanguageModel) -> None:
    """Accuracy counts pairs of different ranks; ties of the best and of the worst are means."""
    words = tuple(Completion(text=word) for word in WORDS[:4])
    ranking = Ranking(prompt=PROMPTS[0], completions=words, ranks=(3, 1, 1, 2))
    encoded = [model.template.encode_completion(PROMPTS[0], word) for word in words]
    outputs = model.backend.learner(Roles(policy=model.role)).score(encoded, Need())
    logp = [float(one["logp"].mean()) for one in outputs]
    row = trained(DPO_PL, model, [ranking], DPOPLSettings(**COMMON))[0]
    assert row["chosen_logp"] == pytest.approx((logp[1] + logp[2]) / 2, rel=1e-5)
    assert row["rejected_logp"] == pytest.approx(logp[0], rel=1e-5)
    assert row["accuracy"] == 0.5, "all rewards are 0 at first"


def row_of(prompt: int, answer: int, length: int = 2) -> Encoded:
    return Encoded(ids=(prompt,) * 3 + (answer,) * length, assistant_mask=(False,) * 3 + (True,) * length)


def test_every_prompt_gets_the_nearest_answer_before_it_that_is_to_another_prompt() -> None:
    """With different prompts this is the rotation by one of TRL; both sides of a pair never stand for each other."""
    rotated = mismatched([row_of(1, 11), row_of(2, 12), row_of(3, 13)], max_length=9)
    assert rotated == [row_of(1, 13), row_of(2, 11), row_of(3, 12)]
    paired = mismatched([row_of(1, 11), row_of(1, 12), row_of(2, 13), row_of(2, 14)], max_length=9)
    assert paired == [row_of(1, 14), row_of(1, 14), row_of(2, 12), row_of(2, 12)]
    assert mismatched([row_of(1, 11), row_of(1, 12)], max_length=9) == [row_of(1, 12), row_of(1, 11)]


def test_a_mismatched_answer_fits_and_is_the_own_one_only_where_no_other_does() -> None:
    short = Encoded(ids=(7, 7, 7, 7, 7, 21), assistant_mask=(False,) * 5 + (True,))
    assert mismatched([row_of(1, 11, 4), row_of(2, 12, 1), short], max_length=7) == [
        Encoded(ids=(1, 1, 1, 21), assistant_mask=(False, False, False, True)),
        row_of(2, 11, 4),
        Encoded(ids=(7, 7, 7, 7, 7, 12), assistant_mask=short.assistant_mask),
    ]
    assert mismatched([row_of(1, 11, 4), short], max_length=7)[1] == short


def test_kto_takes_its_reference_point_from_the_whole_step_whatever_the_micro_batches(folders: dict[str, Path]) -> None:
    rows = []
    for tokens in (20, 8192):
        model = load_language_model(str(folders["llama"]), machine=CPU)
        settings = KTOSettings(**COMMON | {"micro_batch_tokens": tokens, "batch_size": 8, "epochs": 6})
        rows.append(timeless(trained(KTO, model, [replace(one, score=1.0) for one in thumbs()], settings)))
    assert any(row["reference_point"] > 0 for row in rows[0][1:])
    for small, large in zip(*rows, strict=True):
        assert small == pytest.approx(large, rel=5e-3, abs=1e-4)


def test_the_reference_point_is_the_mean_log_ratio_of_mismatched_answers_and_never_negative(
    folders: dict[str, Path],
) -> None:
    before, after = (load_language_model(str(folders[name]), machine=CPU) for name in ("llama", "qwen2"))
    items = KTO.encode(thumbs(), before.template, max_length=999).items
    assert KTO.reference is not None
    then, now = (one.backend.learner(Roles(policy=one.role)) for one in (before, after))
    points = []
    for old, new in ((then, now), (now, then)):
        judged = KTO.reference(items, old)
        others = [with_reference([one.mismatched for one in judged], learner) for learner in (new, old)]
        sums = [[float(one.reference_logp_M.sum()) for one in side] for side in others]
        mean = sum(a - b for a, b in zip(*sums, strict=True)) / len(judged)
        points.append((reference_point(new, judged), mean))
    for found, mean in points:
        assert found == pytest.approx(max(0.0, mean), rel=1e-4)
    assert sorted(mean > 0 for _, mean in points) == [False, True]


def test_kto_learns_from_batches_of_one(model: LanguageModel) -> None:
    settings = KTOSettings(**COMMON | {"batch_size": 1, "epochs": 3})
    rows = trained(KTO, model, thumbs(), settings)
    good = [row for row in rows if "chosen_reward" in row]
    assert len(rows) == 24 and len(good) == 9 and "rejected_reward" not in good[0]
    assert good[-1]["chosen_reward"] > 0 and all(row["gradient_norm"] > 0 for row in rows)


def test_kto_needs_an_answer_beside_the_one(model: LanguageModel) -> None:
    with pytest.raises(DataError, match="one item"):
        trained(KTO, model, thumbs()[:1], KTOSettings())


def test_scores_that_are_no_labels_are_refused(model: LanguageModel) -> None:
    with pytest.raises(DataError, match="not labels"):
        trained(KTO, model, [replace(one, score=5.0) for one in thumbs()], KTOSettings())


def test_pairs_are_labels_too_and_held_out_ones_are_scored_by_class(model: LanguageModel) -> None:
    labels = ratings(comparisons())
    assert [one.score for one in labels[:4]] == [1.0, 0.0, 1.0, 0.0]
    settings = KTOSettings(**COMMON | {"epochs": 4})
    prepared = prepare_offline(KTO, model, labels, settings, seed=5, held_out=labels)
    row = prepared.run()[-1]
    assert prepared.scored is not None
    scored = prepared.scored()
    assert isinstance(scored, ScoredLabels) and scored.labels == [one.score for one in labels]
    right = [(reward > 0) == (label > 0.5) for reward, label in zip(scored.rewards, scored.labels, strict=True)]
    assert row["eval_accuracy"] == pytest.approx(sum(right) / len(right)) and row["eval_accuracy"] > 0.8
