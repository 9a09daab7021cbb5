"""`assent eval --suite` and `--judge`: what is asked of models, who judges, which files are read and refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import suite_files
import torch
import transformers
from chat_server import Answer, Messages, chat_server
from running import assent, worked, write_rows
from suite_files import figures_of, items_of, small_policy

from assent.data.files import read_file
from assent.evals.suites.suite import Row
from assent.evals.suites.table import SUITES

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "open"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two policies, a reward model, and a classifier of three classes."""
    root = tmp_path_factory.mktemp("models")
    small_policy(root / "one")
    small_policy(root / "two", seed=1)
    small_policy(root / "reward", seed=2, classes=1)
    small_policy(root / "classifier", seed=3, classes=3)
    return root


def test_a_choice_is_the_option_with_the_highest_log_likelihood_under_transformers(
    models: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "hhh.jsonl", suite_files.HHH)
    pairs = write_rows(tmp_path / "crows.jsonl", suite_files.CROWS_PAIRS)
    worked("eval", "--model", models / "one", "--against", models / "two", "--suite", "hhh", "--suite", "crows-pairs",
           "--data", data, pairs, "--out", tmp_path / "run")  # fmt: skip
    items = items_of(tmp_path / "run")
    assert [len(items[name]) for name in ("hhh", "crows-pairs")] == [5, 5]
    for arm in ("one", "two"):
        policy = transformers.AutoModelForCausalLM.from_pretrained(models / arm)
        tokenizer = transformers.AutoTokenizer.from_pretrained(models / arm)
        for row, item in zip(
            [*suite_files.HHH, *suite_files.CROWS_PAIRS], [*items["hhh"], *items["crows-pairs"]], strict=True
        ):
            prompt = row.get("inputs", "")
            begun = tokenizer(prompt)["input_ids"] if prompt else [tokenizer.eos_token_id]
            for option, found in zip(item["options"], item["models"][arm]["scores"], strict=True):
                ids = tokenizer(prompt + option)["input_ids"] if prompt else [*begun, *tokenizer(option)["input_ids"]]
                with torch.no_grad():
                    logp = policy(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
                expected = logp.gather(1, torch.tensor(ids)[1:, None])[len(begun) - 1 :].sum().item()
                assert found == pytest.approx(expected, abs=2e-3)
    document = json.loads((tmp_path / "run" / "report.json").read_text())
    main = document["suites"][0]["figures"][0]
    assert list(main["values"]) == ["two", "one"] and main["gained"]["mean"] == pytest.approx(
        main["values"]["one"]["mean"] - main["values"]["two"]["mean"]
    )
    assert "hhh.jsonl" in document["suites"][0]["data"] and re.fullmatch(
        r"\d{4}-\d\d-\d\d", document["suites"][0]["date"]
    )
    page = (tmp_path / "run" / "report.html").read_text()
    for told in ("Helpful, honest, harmless", "suite-hhh", "lm-eval 0.4.13", "as wanted"):
        assert told in page


def strict_judge(messages: Messages) -> Answer:
    """Grades by the question: a refusal of what concerns time, no grade at all for lights."""
    last = messages[-1]["content"]
    return "I do not know." if "the lights" in last else f"So: GRADE: {'I' if 'time' in last else 'C'}"


def test_answers_are_graded_by_a_judge_behind_an_address(models: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "xstest.jsonl", suite_files.XSTEST)
    with chat_server(strict_judge) as judge:
        ran = worked("eval", "--model", models / "one", "--suite", "xstest-safe", "--suite", "xstest-unsafe",
                     "--judge", judge.url, "--data", data, "--out", tmp_path / "run",
                     "--set", "max_tokens=6")  # fmt: skip
    items = items_of(tmp_path / "run")
    assert [item["models"]["one"]["verdict"] for item in items["xstest-safe"]] == ["C", "I", None]
    assert all(item["models"]["one"]["answer"] for item in items["xstest-safe"])
    found = figures_of(tmp_path / "run")
    assert found["xstest-safe", "refusal rate"] == 0.5 and found["xstest-safe", "unread verdicts"] == pytest.approx(
        1 / 3
    )
    assert found["xstest-unsafe", "refusal rate"] == 0
    assert "xstest-safe: 3 items" in ran.err
    suite = json.loads((tmp_path / "run" / "report.json").read_text())["suites"][0]
    assert "judge fake" in suite["judge"] or "fake" in suite["judge"]
    assert "answers cut at 6 tokens" in suite["data"]


def test_a_classifier_says_how_likely_its_class_is_of_every_answer(models: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"say {word}"} for word in ("a", "b", "c")])
    worked("eval", "--model", models / "one", "--suite", "toxicity", "--reward", models / "classifier", "--data", data,
           "--out", tmp_path / "run", "--set", "positive=LABEL_2", "--set", "max_tokens=5")  # fmt: skip
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(models / "classifier")
    tokenizer = transformers.AutoTokenizer.from_pretrained(models / "classifier")
    expected = []
    for item in items_of(tmp_path / "run")["toxicity"]:
        talk = [{"role": "user", "content": item["shown"]},
                {"role": "assistant", "content": item["models"]["one"]["answer"]}]  # fmt: skip
        ids = tokenizer.apply_chat_template(talk, return_tensors="pt", return_dict=True)["input_ids"]
        ids = ids[:, : (ids[0] == tokenizer.eos_token_id).nonzero()[-1].item() + 1]
        with torch.no_grad():
            expected.append(classifier(ids).logits.softmax(-1)[0, 2].item())
    found = figures_of(tmp_path / "run")
    assert found["toxicity", "toxic probability"] == pytest.approx(sum(expected) / 3, abs=1e-4)


def test_a_reward_model_ranks_pairs_and_a_language_model_judges_them(models: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "hh.jsonl", suite_files.HH)
    worked("eval", "--model", models / "reward", "--suite", "hh", "--data", data, "--out", tmp_path / "reward")
    items = items_of(tmp_path / "reward")["hh"]
    accuracy = sum(item["models"]["reward"]["scores"][0] > item["models"]["reward"]["scores"][1] for item in items) / 4
    assert figures_of(tmp_path / "reward") == {("hh", "accuracy"): accuracy, ("hh", "unanswered"): 0.0}
    worked("eval", "--model", models / "one", "--suite", "hh", "--data", data, "--out", tmp_path / "judge")
    found = figures_of(tmp_path / "judge")  # a random model hardly ever answers with a letter
    assert found["hh", "unanswered"] > 0.5
    document = json.loads((tmp_path / "judge" / "report.json").read_text())
    assert document["suites"][0]["judge"].startswith("the model itself, by ")
    assert any(one["role"] == "constitution" for one in document["lineage"]["data"])


def likes_thanks(messages: Messages) -> Answer:
    first, second = messages[-1]["content"].split("\n(A) ")[1].split("\n\n(B) ")
    p = 0.8 if len(first) > len(second.rsplit("\n\n", 1)[0]) else 0.2
    return "A", {"A": math.log(p), "B": math.log(1 - p)}


def test_a_judge_compares_two_models_in_both_orders(models: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"say {word}"} for word in "abcdef"])
    with chat_server(likes_thanks) as judge:
        ran = worked("eval", "--model", models / "one", "--against", models / "two", "--judge", judge.url, "--data",
                     data, "--out", tmp_path / "run", "--set", "max_tokens=8")  # fmt: skip
        assert len(judge.asked) == 12
    (won,) = json.loads((tmp_path / "run" / "report.json").read_text())["win_rates"]
    assert won["wins"] + won["ties"] + won["losses"] == 6 and won["judge"].startswith("judge fake")
    assert won["length_controlled"]["n"] == 6
    assert "the order of the answers decided on" in ran.err and "at equal length" in ran.err


def refused(*arguments: object) -> str:
    ran = assent("eval", *arguments)
    assert ran.code == 2
    return ran.err


def test_what_cannot_be_measured_is_refused_before_anything_is_loaded(models: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "xstest.jsonl", suite_files.XSTEST)
    rest = ("--data", data, "--out", tmp_path / "run")
    one, reward = ("--model", models / "one"), ("--model", models / "reward")
    assert "--judge" in refused(*one, "--suite", "xstest-safe", *rest)
    assert "classifier" in refused(*one, "--suite", "toxicity", *rest)
    assert "reward model" in refused(*reward, "--suite", "hhh", *rest)
    assert "one reward model or judge at a time" in refused(*one, "--against", reward[1], "--suite", "hh", *rest)
    assert "truthfulqa-mc1" in refused(*one, "--suite", "truthful", *rest)
    assert "none of these suites needs a judge" in refused(*one, "--suite", "hhh", "--judge", models / "two", *rest)
    assert "which suite?" in refused(*one, "--shots", data, *rest)
    assert "worked examples" in refused(*one, "--suite", "hhh", "--shots", data, *rest)
    assert not (tmp_path / "run").exists()


def test_files_of_another_set_are_refused_with_the_columns_that_are_missing(models: Path, tmp_path: Path) -> None:
    xstest, pairs = (
        write_rows(tmp_path / "x.jsonl", suite_files.XSTEST),
        write_rows(tmp_path / "c.jsonl", suite_files.CROWS_PAIRS),
    )
    one, out = ("--model", models / "one"), ("--out", tmp_path / "run")
    told = refused(*one, "--suite", "crows-pairs", "--data", xstest, *out)
    assert 'crows-pairs needs "sent_more", "sent_less", "bias_type"' in told and "prompt, type, label" in told
    told = refused(*one, "--suite", "crows-pairs", "--suite", "bbq", "--data", pairs, *out)
    assert "--suite bbq: no file is this suite's" in told and "context" in told
    broken = write_rows(
        tmp_path / "b.jsonl", [*suite_files.CROWS_PAIRS, {**suite_files.CROWS_PAIRS[0], "sent_less": 3}]
    )
    told = refused(*one, "--suite", "crows-pairs", "--data", broken, *out)
    assert 'b.jsonl:6: field "sent_less": expected text, got 3' in told
    ran = worked("eval", *one, "--suite", "crows-pairs", "--data", broken, *out, "--on-bad-row", "skip")
    assert "left out, as bad rows: 1" in ran.err


@pytest.mark.parametrize(
    ("suite", "name", "count"),
    [
        ("hhh", "eval/hhh_alignment_honest.derived.jsonl.gz", 61),
        ("truthfulqa-mc1", "eval/truthfulqa_mc_task.jsonl.gz", 639),
        ("truthfulqa-mc2", "eval/truthfulqa_mc_task.jsonl.gz", 639),
        ("truthfulqa-binary", "eval/truthfulqa_mc_task.jsonl.gz", 639),
        ("truthfulqa-binary", "eval/truthfulqa.csv.gz", 639),
        ("xstest-safe", "eval/xstest_prompts.csv.gz", 202),
        ("xstest-unsafe", "eval/xstest_prompts.csv.gz", 163),
        ("simple-safety", "eval/simple_safety_tests.csv.gz", 79),
        ("bbq", "eval/bbq/Religion.jsonl.gz", 960),
        ("bbq", "eval/bbq/Age.jsonl.gz", 3352),
        ("crows-pairs", "eval/crows_pairs.csv.gz", 1212),
        ("behaviours", "eval/anthropic_evals_human/power-seeking-inclination.jsonl.gz", 800),
        ("toxicity", "harm/hatecheck_cases.csv.gz", 2864),
        ("gsm8k", "math/gsm8k_test.jsonl.gz", 1055),
        ("pandalm", "preference/pandalm_human_3annotators.test.jsonl.gz", 124),
    ],
)
def test_published_files_are_read_whole(suite: str, name: str, count: int) -> None:
    if not SHARED.is_dir():
        pytest.skip("shared data folder is absent")
    rows = [Row(place=row.place, fields=row.fields) for row in read_file(SHARED / name).rows]
    form = SUITES[suite].form_of(rows[0])
    assert form is not None
    assert len(form.read(rows)) == count


def test_names_of_figures_lead_to_their_suite_also_where_several_runs_share_a_page(
    models: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "crows.jsonl", suite_files.CROWS_PAIRS)
    for name in ("one", "two"):
        worked("eval", "--model", models / name, "--suite", "crows-pairs", "--data", data, "--out", tmp_path / name)
    worked("report", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "both")
    page = (tmp_path / "both" / "report.html").read_text()
    links, ids = re.findall(r'href="#(suite-[^"]+)"', page), re.findall(r'id="(suite-[^"]+)"', page)
    assert set(links) == set(ids) == {"suite-crows-pairs-one", "suite-crows-pairs-two"} and len(ids) == 2
