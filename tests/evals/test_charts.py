import dataclasses
import itertools
import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.evals.arms import Arm, TrainingCurves
from assent.evals.axes import (
    Scale,
    domain,
    number,
    per_cent,
    root_ticks,
    smoothed,
    smoothed_path,
    spread_apart,
    thinned,
    tick_text,
    ticks,
)
from assent.evals.charts import Series, line_chart
from assent.evals.curves import training_charts
from assent.evals.evidence import Evidence
from assent.evals.panels import gold_charts, kind_chart, measured_charts, over_optimisation_charts, time_chart

finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(finite, st.floats(1e-4, 1e6))
def test_ticks_are_round_inside_and_few(low, width):
    values = ticks(low, low + width)
    step_room = 1e-6 * max(abs(low), width, 1)
    assert 2 <= len(values) <= 9
    assert all(low - step_room <= value <= low + width + step_room for value in values)
    assert len({tick_text(value, values) for value in values}) == len(values)


@given(st.floats(1e-4, 1e5))
def test_square_root_ticks_start_at_zero_and_leave_room(high):
    values = root_ticks(high)
    roots = [math.sqrt(value / high) for value in values]
    assert values[0] == 0
    assert values[-1] <= high
    assert all(b - a >= 1 / 6 - 1e-9 for a, b in itertools.pairwise(roots))


@given(st.lists(st.floats(0, 168), min_size=1, max_size=6))
def test_labels_end_up_apart_and_in_order(places):
    moved = spread_apart(places)
    order = sorted(range(len(places)), key=lambda i: places[i])
    assert all(moved[b] - moved[a] >= 15 - 1e-6 for a, b in itertools.pairwise(order))


@given(st.lists(finite, min_size=1, max_size=20), st.booleans())
def test_a_domain_holds_its_values_and_is_never_empty(values, zero):
    low, high = domain(values, zero=zero)
    assert low < high
    assert low <= min(values)
    assert max(values) <= high


def test_a_long_curve_is_thinned_to_means_and_keeps_its_end():
    points = [(float(i), float(i % 2)) for i in range(10_001)]
    thin = thinned(points)
    assert len(thin) <= 241
    assert thin[-1] == points[-1]
    assert all(abs(y - 0.5) < 0.02 for _, y in thin[:-1])


def test_smoothing_keeps_a_constant_and_calms_noise():
    assert all(y == pytest.approx(3.0) for _, y in smoothed([(float(i), 3.0) for i in range(50)]))
    calm = smoothed([(float(i), (-1.0) ** i) for i in range(100)])
    assert max(abs(y) for _, y in calm) < 0.3


def test_a_wandering_point_is_calmed_in_both_directions():
    rng = np.random.default_rng(0)
    way = [(i / 10 + rng.normal(0, 0.5), i / 10 + rng.normal(0, 0.5)) for i in range(96)]
    calm = smoothed_path(way)
    assert len(calm) == len(way)
    folds = [sum(b < a for (a, _), (b, _) in pairwise(points)) for points in (way, calm)]
    assert folds[0] > 30 and folds[1] < folds[0] / 2


def test_a_square_root_scale_puts_a_quarter_at_the_middle():
    assert Scale(low=0, high=16, root=True).x(4) == 50.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.731, "0.73"),
        (-0.04, "\u22120.04"),
        (0.0, "0.00"),
        (12.34, "12.3"),
        (1893.0, "1\u202f893"),
        (0.0003, "0.0003"),
    ],
)
def test_numbers_are_written_for_people(value, text):
    assert number(value) == text


def test_per_cent_uses_a_true_minus_and_a_space_that_does_not_break():
    assert per_cent(-0.125, 1) == "\u221212.5\u00a0%"


def test_a_chart_of_lines_carries_its_values_as_a_table_and_for_the_script():
    line = Series(name="loss", colour="teal", points=tuple((float(i), 5.0 - i) for i in range(5)))
    chart = line_chart("Loss", [line])
    assert chart is not None
    assert chart.head == ("step", "loss")
    assert chart.rows[0] == ("0", "5.00")
    assert json.loads(chart.hover)["series"][0]["points"][-1][2:] == ["4", "1.00"]
    assert chart.summary == "Loss: loss from 5.00 to 1.00."


def test_nothing_to_draw_gives_no_chart():
    assert line_chart("Loss", [Series(name="loss", colour="teal", points=((0.0, 1.0),))]) is None
    empty = Evidence(title="", seeds=(), wall_s=0.0, peak_rss_mib=0.0)
    assert gold_charts(empty) == over_optimisation_charts(empty) == []
    assert training_charts(empty) == {}


def test_ideal_answers_are_a_line_and_not_a_row(evidence_by_name):
    overall = gold_charts(evidence_by_name["demo"])[0]
    assert [row.name for row in overall.rows] == ["Base", "SFT", "DPO", "No KL", "PPO"]
    assert overall.reference is not None
    assert overall.reference.text == "ideal answers 0.99"


def test_the_peak_is_marked_on_the_gamed_curve_only(evidence_by_name):
    proxy_step, proxy_kl, gold_step, gold_kl = over_optimisation_charts(evidence_by_name["demo"])
    assert [mark.colour for mark in gold_step.marks] == [mark.colour for mark in gold_kl.marks] == ["orange"]
    assert proxy_step.marks == proxy_kl.marks == ()


def test_only_values_on_one_scale_share_an_axis(evidence_by_name):
    """Same reward model, file and sampling: one chart. Another reward is another chart, and each caption says which."""
    charts = measured_charts(evidence_by_name["several_runs"])
    rows = [[row.name for row in chart.rows] for chart in charts]
    assert rows == [
        ["sft: before", "sft: after"],
        ["ppo: before", "ppo: after", "eval: ppo", "eval: sft"],
        ["ppo-short: before"],
    ]
    assert charts[1].caption.startswith("raw score, the reward model reward (9f2c01ab); held-out.jsonl (01ab9f2c)")
    assert charts[2].caption.startswith("raw score, short.py:score (00ff00ff)")
    assert all("n\u00a0=\u00a0" in chart.caption for chart in charts)


def test_every_kind_of_prompt_has_a_track_for_each_model_with_n_and_meaning(evidence_by_name):
    chart = kind_chart(evidence_by_name["demo"])
    assert chart is not None and {len(row.dots) for row in chart.rows} == {4}
    two_step = next(row for row in chart.rows if row.name == "two step")
    assert two_step.note == "needs two facts, one after the other; n\u00a0=\u00a040 prompts"
    assert [dot.name for dot in two_step.dots] == ["Base", "SFT", "DPO", "PPO"]


def test_stages_that_ran_side_by_side_are_marked(evidence_by_name):
    demo = dataclasses.replace(evidence_by_name["demo"], concurrent_stages=("dpo",))
    chart = time_chart(demo)
    assert chart is not None and [row.name for row in chart.rows if row.detail] == ["dpo"]
    assert "more than the wall time" in chart.caption


def test_held_out_lines_stand_beside_the_noise_of_training(evidence_by_name):
    ((loss,), folded) = training_charts(evidence_by_name["sft_only"])["SFT"]
    assert folded == []
    assert [line.name for line in loss.lines] == ["held-out", "training"]


def test_several_rewards_have_a_curve_each(evidence_by_name):
    demo = evidence_by_name["demo"]
    rows = tuple({**row, "reward/short": 0.1 * i} for i, row in enumerate(demo.training["ppo"].rows))
    training = {"ppo": dataclasses.replace(demo.training["ppo"], rows=rows)}
    evidence = dataclasses.replace(demo, training=training, reward_unit="raw score of rm")
    charts = {chart.title: chart for chart in training_charts(evidence)["PPO"][0]}
    assert "Reward: short" in charts
    assert charts["Reward"].caption.endswith("normalisation: raw score of rm.")


def test_arms_of_one_method_share_its_charts_and_an_unknown_metric_has_its_own_name():
    rows = tuple({"step": i, "iteration": i + 1, "group_spread": 0.1 * i} for i in range(4))
    curves = TrainingCurves(method="New", unit="iterations", curves=("group_spread",), rows=rows)
    arms = {"one": Arm(name="One", colour="blue"), "two": Arm(name="Two", colour="orange")}
    evidence = Evidence(
        title="", seeds=(), wall_s=0.0, peak_rss_mib=0.0, arms=arms, training={"one": curves, "two": curves}
    )
    (((chart,), folded),) = training_charts(evidence).values()
    assert (chart.title, chart.x_name, folded) == ("Group spread", "iteration", [])
    assert [(line.name, line.colour) for line in chart.lines] == [("One", "blue"), ("Two", "orange")]
