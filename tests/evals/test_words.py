import dataclasses

from assent.evals.arms import Arm
from assent.evals.axes import Scale, ends, gain_text, is_clear, span
from assent.evals.charts import dot
from assent.evals.evidence import Evidence
from assent.evals.headline import duration, headline
from assent.evals.intervals import Interval
from assent.evals.over_optimisation import Evaluation, verdict
from assent.evals.panels import accuracy_chart
from assent.evals.win_rate import WinRate
from assent.evals.words import (
    checks,
    findings,
    of_samples,
    over_optimisation_sentences,
    provenance,
    verdict_sentence,
    warnings,
)


def test_each_kind_of_run_leads_with_its_strongest_evidence(evidence_by_name):
    titles = {name: headline(evidence).title.replace("\u00a0", " ") for name, evidence in evidence_by_name.items()}
    assert titles["demo"] == "From 0.55 to 0.89"
    assert titles["real_data"].startswith("PPO wins ")
    assert titles["sft_only"].startswith("Held-out loss from 5.40 to ")
    assert titles["reward_only"].startswith("AUC 0.9")


def test_what_is_no_better_than_a_coin_is_said_to_be(evidence_by_name):
    bare = dataclasses.replace(evidence_by_name["reward_only"], classifier=None)
    assert "coin" not in headline(bare).deck
    for low, said in ((0.48, True), (0.51, False)):
        interval = Interval(mean=0.53, low=low, high=0.58, n=90)
        weak = dataclasses.replace(
            bare, reward_model=dataclasses.replace(bare.reward_model, accuracy_interval=interval)
        )
        assert headline(weak).deck.endswith("That is no better than a coin: the interval holds one half.") is said
        chart = accuracy_chart(weak)
        assert ((chart.reference.text if chart.reference else "") == "a coin") is said


def test_the_demo_says_how_much_of_the_gap_was_closed(evidence_by_name):
    deck = headline(evidence_by_name["demo"]).deck.replace("\u00a0", " ")
    assert "to 0.89 (PPO; 95 % interval 0.88 to 0.90, n = 320)" in deck
    assert "PPO closes 65 % of the distance that SFT left open; DPO closes 41 %." in deck


def test_findings_do_not_repeat_the_headline(evidence_by_name):
    assert all(one.name != "AUC" for one in findings(evidence_by_name["reward_only"]))
    assert [one.good for one in findings(evidence_by_name["demo"])] == [True, True, True, True]


def test_checks_hold_for_the_demo_and_say_so_when_they_do_not(evidence_by_name):
    demo = evidence_by_name["demo"]
    assert all(holds for holds, _ in checks(demo))
    swapped = dataclasses.replace(demo, gold={**demo.gold, "ppo": demo.gold["base"]})
    outcome = {sentence: holds for holds, sentence in checks(swapped)}
    assert next(s for s, holds in outcome.items() if not holds).startswith("PPO is not clearly above SFT")
    assert "These fall from SFT to PPO: overall, helpful, honest, harmless." in outcome


def test_a_run_that_made_things_worse_is_not_called_a_rise(evidence_by_name):
    demo = evidence_by_name["demo"]
    worse = dataclasses.replace(demo, gold={"base": demo.gold["ppo"], "ppo": demo.gold["base"]}, gap_closed={})
    assert headline(worse).title == "From 0.89 to 0.55"
    assert "rises" not in headline(worse).deck


def test_verdicts_are_told_with_their_numbers(evidence_by_name):
    demo = evidence_by_name["demo"]
    told = over_optimisation_sentences(demo, demo.over_optimisation)
    kept, gamed, same_reward = (one.replace("\u00a0", " ") for one in told)
    assert kept.startswith("With the KL penalty, gold ends at 0.9") and "not gamed" in kept
    assert "the reward is being gamed" in gamed and "n = 200 held-out prompts" in gamed
    assert same_reward.startswith("At the reward at which training with the KL penalty ends")
    falling = [
        Evaluation(step=i, kl=0.1 * i, proxy_P=(1 - 0.1 * i,) * 9, gold_P=(0.9 - 0.05 * i,) * 9) for i in range(12)
    ]
    assert "worse, not gamed" in verdict_sentence(Arm(name="PPO"), verdict(falling))


def test_a_run_without_measurements_still_has_a_headline():
    assert headline(Evidence(title="Empty", seeds=(), wall_s=0.0, peak_rss_mib=0.0)).title == "Empty"


def test_durations_are_written_for_people():
    assert [duration(s) for s in (9.6, 327.4, 7260)] == ["10 s", "5 min 27 s", "2 h 1 min"]


def test_a_held_out_change_is_told_with_its_interval_and_whether_it_is_clear(evidence_by_name):
    sft = evidence_by_name["sft_only"]
    deck = headline(sft).deck.replace("\u00a0", " ")
    assert deck == (
        "Nats per token. The change, item by item: \u22122.49 (95 % interval \u22122.54 to \u22122.44, "
        "n = 120 conversations that share no prompt with its training data)."
    )
    (found,) = sft.measurements
    unclear = dataclasses.replace(found, gained=Interval(mean=-0.01, low=-0.05, high=0.03, n=120))
    assert "No clear change" in headline(dataclasses.replace(sft, measurements=(unclear,))).deck


def test_what_has_no_interval_says_so(evidence_by_name):
    few, equal = (Interval(mean=1.0, low=1.0, high=1.0, n=n) for n in (1, 10))
    assert (ends(few), ends(equal)) == ("no interval from so few", "no interval: all are equal")
    assert (span(few), span(equal), span(Interval(mean=1.0, low=1.0, high=1.0))) == ("no interval", "no interval", "")
    assert gain_text(few, "prompts") == "+1.00 (no interval from so few, n = 1 prompts)"
    assert dot("m", "blue", equal, Scale(low=0, high=2)).title == "m: 1.00 (no interval, n = 10)"
    assert (is_clear(few), is_clear(equal)) == (False, True), "ten of ten the same way are no chance"


def test_training_noise_is_no_headline(evidence_by_name):
    """Without held-out numbers: means over tenths that say so, and no comparison where a tenth is a single batch."""
    sft = dataclasses.replace(evidence_by_name["sft_only"], measurements=())
    told = headline(sft)
    losses = sft.training["sft"].values("loss")
    first, last = sum(losses[:8]) / 8, sum(losses[-8:]) / 8
    assert told.title == f"Training loss from {first:.2f} to {last:.2f}"
    assert "means of the first and the last 8 of 80 steps" in told.deck and "--eval-data" in told.deck
    few = dataclasses.replace(sft.training["sft"], rows=sft.training["sft"].rows[:12])
    short = dataclasses.replace(sft, training={"sft": few})
    assert headline(short).title == f"Training loss {sum(losses[:12]) / 12:.2f}"
    assert "too few to compare beginning and end" in headline(short).deck


def test_models_under_evaluation_have_their_names():
    rate = Interval(mean=0.74, low=0.68, high=0.79, n=200)
    win = WinRate(arm="gentle", against="sft", judge="reward model rm (01ab)", rate=rate, wins=140, ties=16, losses=44)
    told = headline(Evidence(title="Evaluation", seeds=(0,), wall_s=1.0, peak_rss_mib=1.0, win_rates=(win,)))
    assert told.title.replace("\u00a0", " ") == "gentle wins 74 % against sft"
    assert "Of 200 held-out prompts, judged by the reward model rm (01ab)" in told.deck


def test_the_page_says_what_is_known_of_held_out_data(evidence_by_name):
    assert provenance(evidence_by_name["sft_only"]) == "None of the 120 held-out prompts is in the training data."
    assert warnings(evidence_by_name["sft_only"]) == []
    seen = evidence_by_name["ppo_only"]
    assert warnings(seen)[0].startswith("5 of the 64 held-out prompts are among those that the model was trained on.")
    unknown = evidence_by_name["reward_only"]
    assert "not known" in provenance(unknown)
    assert "of the file given as held-out" in headline(unknown).deck and "never saw" not in headline(unknown).deck


def test_samples_say_which_scale_their_numbers_are_on(evidence_by_name):
    told = of_samples(evidence_by_name["ppo_only"])
    assert told == (
        "The same held-out prompts, answered by each model. The number is the reward, raw score of reward model reward."
    )
