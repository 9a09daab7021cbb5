import dataclasses

from assent.evals.evidence import Evidence
from assent.evals.headline import duration, headline
from assent.evals.over_optimisation import CurvePoint, verdict
from assent.evals.words import checks, findings, verdict_sentence


def test_each_kind_of_run_leads_with_its_strongest_evidence(evidence_by_name):
    titles = {name: headline(evidence).title.replace("\u00a0", " ") for name, evidence in evidence_by_name.items()}
    assert titles["demo"] == "From 0.55 to 0.89"
    assert titles["real_data"].startswith("PPO wins ")
    assert titles["sft_only"].startswith("Held-out loss from 5.40 to ")
    assert titles["reward_only"].startswith("AUC 0.9")


def test_the_demo_says_how_much_of_the_gap_was_closed(evidence_by_name):
    deck = headline(evidence_by_name["demo"]).deck.replace("\u00a0", " ")
    assert "PPO closes 65 % of the distance that SFT left open; DPO, from the same pairs, 41 %." in deck


def test_findings_do_not_repeat_the_headline(evidence_by_name):
    assert all(one.name != "AUC" for one in findings(evidence_by_name["reward_only"]))
    assert [one.good for one in findings(evidence_by_name["demo"])] == [True, True, True, True]


def test_checks_hold_for_the_demo_and_say_so_when_they_do_not(evidence_by_name):
    demo = evidence_by_name["demo"]
    assert all(holds for holds, _ in checks(demo))
    swapped = dataclasses.replace(demo, gold={**demo.gold, "ppo": demo.gold["base"]})
    outcome = {sentence: holds for holds, sentence in checks(swapped)}
    assert next(s for s, holds in outcome.items() if not holds).startswith("PPO is not clearly above SFT")
    assert "From SFT to PPO these fell: overall, helpful, honest, harmless." in outcome


def test_a_run_that_made_things_worse_is_not_called_a_rise(evidence_by_name):
    demo = evidence_by_name["demo"]
    worse = dataclasses.replace(demo, gold={"base": demo.gold["ppo"], "ppo": demo.gold["base"]}, gap_closed={})
    assert headline(worse).title == "From 0.89 to 0.55"
    assert "rises" not in headline(worse).deck


def test_verdicts_are_told_with_their_numbers(evidence_by_name):
    found = evidence_by_name["demo"].over_optimisation.verdicts
    assert "No over-optimisation" in verdict_sentence("ppo", found["ppo"])
    assert "the reward is being gamed" in verdict_sentence("no_kl", found["no_kl"])
    broken = [CurvePoint(step=i, kl=0.1 * i, proxy=1 - 0.1 * i, gold=0.9 - 0.05 * i) for i in range(12)]
    assert "worse, not gamed" in verdict_sentence("ppo", verdict(broken))
    assert "too few points" in verdict_sentence("ppo", verdict(broken[:2]))


def test_a_run_without_measurements_still_has_a_headline():
    assert headline(Evidence(title="Empty", seeds=(), wall_s=0.0, peak_rss_mib=0.0)).title == "Empty"


def test_durations_are_written_for_people():
    assert [duration(s) for s in (9.6, 327.4, 7260)] == ["10 s", "5 min 27 s", "2 h 1 min"]
