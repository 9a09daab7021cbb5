import dataclasses
import json
import math

import pytest

from assent.errors import DataError
from assent.evals.evidence import Evidence, from_json, to_json

NAMES = ["demo", "three_seeds", "real_data", "sft_only", "reward_only", "ppo_only", "several_runs"]


@pytest.mark.parametrize("name", NAMES)
def test_evidence_survives_json_unchanged(evidence_by_name, name):
    evidence = evidence_by_name[name]
    assert from_json(to_json(evidence)) == evidence


def test_the_json_of_the_demo_has_the_promised_keys(evidence_by_name):
    report = json.loads(to_json(evidence_by_name["demo"]))
    for arm in ("base", "sft", "dpo", "ppo", "oracle"):
        for axis in ("overall", "helpful", "honest", "harmless"):
            assert set(report["gold"][arm][axis]) == {"mean", "low", "high", "n"}
    assert set(report["gap_closed"]["ppo"]) == {"mean", "low", "high", "n"}
    for name in ("accuracy", "best_possible", "ece"):
        assert isinstance(report["reward_model"][name], float)
    for curve in ("ppo", "no_kl"):
        assert set(report["over_optimisation"]["curves"][curve][0]) == {"step", "kl", "proxy", "gold"}
    assert report["over_optimisation"]["verdicts"]["no_kl"]["over_optimised"] is True
    assert report["over_optimisation"]["verdicts"]["ppo"]["over_optimised"] is False
    assert report["seeds"] == [0]
    assert report["wall_s"] > 0
    assert report["peak_rss_mib"] > 0


def test_a_metric_that_is_not_finite_becomes_null(evidence_by_name):
    rows = ({"step": 0, "loss": math.nan}, {"step": 1, "loss": 2.0})
    sft = evidence_by_name["sft_only"]
    training = {"sft": dataclasses.replace(sft.training["sft"], rows=rows)}
    evidence = dataclasses.replace(sft, training=training)
    assert json.loads(to_json(evidence))["training"]["sft"]["rows"] == [
        {"step": 0, "loss": None},
        {"step": 1, "loss": 2.0},
    ]


def test_a_headline_number_that_is_not_finite_is_refused(evidence_by_name):
    with pytest.raises(DataError, match="wall_s is nan"):
        to_json(dataclasses.replace(evidence_by_name["sft_only"], wall_s=math.nan))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, 'unknown key "surprise"'),
        ({"wall_s": "long"}, r"\$.wall_s: expected a number, got \"long\""),
        ({"seeds": [True]}, r"\$.seeds\[0\]: expected a whole number"),
        ({"gold": {"sft": {}}}, r'\$.gold.sft lacks "harmless"'),
        ({"reward_model": []}, r"\$.reward_model: expected an object"),
        ({"title": None}, r"\$.title: expected text, got null"),
    ],
)
def test_reading_is_strict_and_says_where(evidence_by_name, change, message):
    report = {**json.loads(to_json(evidence_by_name["sft_only"])), **change}
    with pytest.raises(DataError, match=message):
        from_json(json.dumps(report), where="runs/x/report.json")


def test_a_missing_key_and_broken_json_are_named(evidence_by_name):
    report = json.loads(to_json(evidence_by_name["sft_only"]))
    del report["seeds"]
    with pytest.raises(DataError, match=r'report\.json: \$ lacks "seeds"'):
        from_json(json.dumps(report))
    with pytest.raises(DataError, match=r"report\.json:1: not JSON"):
        from_json("{")


def test_evidence_may_be_as_little_as_a_title():
    evidence = Evidence(title="nothing yet", seeds=(), wall_s=0.0, peak_rss_mib=0.0)
    assert from_json(to_json(evidence)) == evidence
