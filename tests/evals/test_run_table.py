import dataclasses
import re
from pathlib import Path

from assent.evals.glossary import TERMS, glossary, meaning
from assent.evals.run_table import made_of, run_rows


def test_every_run_has_a_row_of_what_it_was_made_from_and_what_came_out(evidence_by_name):
    rows = {row.name: row for row in run_rows(evidence_by_name["several_runs"].parts)}
    assert list(rows) == ["sft", "reward", "ppo", "ppo-short", "eval"]
    sft, ppo, other = rows["sft"], rows["ppo"], rows["ppo-short"]
    assert (sft.kind, sft.model, sft.data) == ("SFT", "base", "rankings.jsonl (1\u202f600 rows)")
    assert (sft.measurements, sft.result) == ("held-out loss, nats per token", "5.40 \u2192 2.91")
    assert sft.interval.replace("\u00a0", " ") == (
        "change \u22122.49 (95 % interval \u22122.54 to \u22122.44, n = 120 conversations)"
    )
    kl = evidence_by_name["several_runs"].parts["ppo"].training["ppo"].rows[-1]["kl"]
    assert (ppo.reward, ppo.kl, ppo.result) == ("reward", f"{kl:.2f}", "0.21 \u2192 0.93")
    assert ppo.time == "26 min 20 s"
    assert (other.result, other.interval) == ("\u221240.0", "\u221244.0 to \u221236.0, n\u00a0=\u00a064 prompts")
    assert rows["eval"].result == "PPO 0.93, SFT 0.21"


def test_a_second_reward_model_is_no_policy(evidence_by_name):
    parents = [{"role": "policy", "name": "sft"}, {"role": "reward", "name": "rm"}, {"role": "reward 2", "name": "clf"}]
    ppo = evidence_by_name["ppo_only"]
    (row,) = run_rows({"ppo": dataclasses.replace(ppo, lineage={**ppo.lineage, "parents": parents})})
    assert (row.model, row.reward) == ("sft", "rm, clf")


def test_a_run_says_what_it_was_made_of_where_it_ran_and_how_fast(evidence_by_name):
    ppo = evidence_by_name["ppo_only"]
    lineage = {
        "device": "cpu", "precision": "bf16",
        "parents": ({"role": "policy", "name": "sft"}, {"role": "reward", "name": "rm"}),
        "data": ({"role": "prompts", "name": "asked.jsonl", "rows": 1200}, {"role": "eval", "name": "held.jsonl"}),
    }  # fmt: skip
    rows = tuple({"iteration": i, "reward": 0.0, "tokens_per_second": 1000.0 + i} for i in range(3))
    training = {"ppo": dataclasses.replace(ppo.training["ppo"], rows=rows)}
    made = made_of(dataclasses.replace(ppo, lineage=lineage, settings={"lora": {"rank": 16}}, training=training))
    assert made == [
        ("model", "sft"), ("data", "asked.jsonl (1\u202f200 rows)"), ("held out", "held.jsonl"), ("reward", "rm"),
        ("on", "cpu, bf16, LoRA of rank 16, 1\u202f001 tokens/s"),
    ]  # fmt: skip
    whole = dict(made_of(dataclasses.replace(ppo, lineage={}, settings={"lora": {"rank": 0}}, training=training)))
    assert whole == {"on": "all weights, 1\u202f001 tokens/s"}


def test_a_page_explains_its_own_words_and_no_others(evidence_by_name):
    sft = glossary(evidence_by_name["sft_only"]).keys()
    assert sft == {"95 % interval, n", "Nats per token"}
    reward = glossary(evidence_by_name["reward_only"]).keys()
    assert {"AUC", "ECE", "Brier score", "Log loss", "Margin"} <= reward and "Gold judge" not in reward
    demo = glossary(evidence_by_name["demo"]).keys()
    assert {"Gold judge", "Proxy", "Reference", "KL, nats", "Gap closed", "Clip fraction"} <= demo


def test_the_page_about_the_report_has_the_same_words():
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    table = page.split("| word | meaning |", 1)[1]
    assert re.findall(r"^\| ([^|]+) \| (.+) \|$", table, flags=re.MULTILINE) == [
        (word, told) for word, (told, _) in TERMS.items()
    ]


def test_a_word_is_shown_with_its_meaning():
    assert "0.25 is a coin" in meaning("Brier score")
