"""What is measured on held-out data equals the plain computation with transformers, and rows equal whole measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from training_jobs import CPU, PROMPTS, WORDS, comparisons, demonstrations

from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.evals.evidence import Measurement
from assent.evals.intervals import Interval
from assent.evals.reward_quality import reward_quality
from assent.ports.sampling import SamplingParams
from assent.recipes.run.held_out import HeldOutAnswers, change, sampled_from, spread
from assent.recipes.run.models import LanguageModel, load_language_model, new_reward_model, save_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.rewards import Origin, Rewards, weighted
from assent.recipes.training.prepare import prepare_offline, score_judged
from assent.runs.lineage import DataSource, Parent
from assent.types import Comparison, Completion, Conversation, Demonstration

QUIET = Display(quiet=True)
COMMON = {"batch_size": 4, "learning_rate": 3e-3, "micro_batch_tokens": 40, "evaluate_every": 2}
SOURCES = (DataSource(role="eval", name="held.jsonl", sha256="ab12" * 16),)


def unseen_demonstrations() -> list[Demonstration]:
    return [Demonstration(conversation=PROMPTS[i].then(WORDS[7 - i] + " sun")) for i in range(5)]


def unseen_comparisons() -> list[Comparison]:
    """Five pairs of three judgements; one label is soft."""
    return [
        Comparison(
            prompt=PROMPTS[i // 2], chosen=Completion(text=WORDS[i] + " red"), rejected=Completion(text=WORDS[6 - i]),
            group=f"judgement {i // 2}", probability=0.7 if i == 4 else 1.0,
        )
        for i in range(5)
    ]  # fmt: skip


def plain_losses(model: LanguageModel, folder: Path) -> tuple[list[float], list[int]]:
    """Negative log-probability of what the assistant said, conversation by conversation, by transformers alone."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    sums, tokens = [], []
    for one in unseen_demonstrations():
        encoded = model.template.encode(one.conversation)
        ids = torch.tensor([encoded.ids])
        with torch.no_grad():
            logp = network(ids).logits[0, :-1].double().log_softmax(-1)
        picked = logp.gather(1, ids[0, 1:, None])[:, 0]
        mask = torch.tensor(encoded.assistant_mask[1:])
        sums.append(-picked[mask].sum().item())
        tokens.append(int(mask.sum()))
    return sums, tokens


def test_the_held_out_loss_is_the_mean_over_tokens_before_and_after(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    settings = SFTSettings(epochs=2, **COMMON)
    unseen = HeldOutAnswers(model, unseen_demonstrations(), settings, QUIET)
    before_sums, tokens = plain_losses(model, folders["llama"])
    prepared = prepare_offline(SFT, model, demonstrations(), settings, seed=5, held_out=unseen_demonstrations())
    rows = prepared.run()
    found = unseen.measurement(SOURCES, seed=0)
    save_language_model(model, tmp_path / "after")
    after_sums, _ = plain_losses(model, tmp_path / "after")
    assert found.values["before"].mean == pytest.approx(sum(before_sums) / sum(tokens), rel=1e-5)
    assert found.values["after"].mean == pytest.approx(sum(after_sums) / sum(tokens), rel=1e-5)
    assert found.gained is not None
    assert found.gained.mean == pytest.approx((sum(after_sums) - sum(before_sums)) / sum(tokens), rel=1e-4)
    assert found.gained.low < found.gained.mean < found.gained.high
    assert {found.gained.n, *(one.n for one in found.values.values())} == {5}
    assert [row["step"] for row in rows if "eval_loss" in row] == [0, 2, 4, 6]
    assert rows[-1]["eval_loss"] == pytest.approx(found.values["after"].mean, rel=1e-5)


def test_rows_of_the_reward_model_carry_its_held_out_loss_and_accuracy(folders: dict[str, Path]) -> None:
    reward = new_reward_model(str(folders["llama"]), machine=CPU, seed=5)
    settings = RewardSettings(epochs=2, **COMMON)
    prepared = prepare_offline(REWARD_MODEL, reward, comparisons(), settings, seed=5, held_out=unseen_comparisons())
    rows = prepared.run()
    quality = reward_quality(score_judged(reward, unseen_comparisons(), settings).pairs, seed=0)
    assert [row["step"] for row in rows if "eval_loss" in row] == [0, 2, 4, 6]
    assert rows[-1]["eval_loss"] == pytest.approx(quality.log_loss, rel=1e-5)
    assert {"eval_accuracy", "eval_margin"} <= rows[-1].keys()
    assert (quality.pairs, quality.accuracy_interval.n, quality.soft) == (5, 3, 1)


def test_rows_of_dpo_carry_its_held_out_loss_and_pairs_of_one_judgement_stay_together(
    folders: dict[str, Path],
) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    settings = DPOSettings(epochs=2, **COMMON)
    prepared = prepare_offline(DPO, model, comparisons(), settings, seed=5, held_out=unseen_comparisons())
    assert prepared.scored is not None
    start = reward_quality(prepared.scored(), seed=0)
    assert start.log_loss == pytest.approx(np.log(2)), "the policy is its own reference"
    rows = prepared.run()
    quality = reward_quality(prepared.scored(), seed=0)
    assert [row["step"] for row in rows if "eval_loss" in row] == [0, 2, 4, 6]
    assert rows[-1]["eval_loss"] == pytest.approx(quality.log_loss, rel=1e-5)
    assert (quality.pairs, quality.accuracy_interval.n) == (5, 3)


class Silent:
    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        return [0.0] * len(completions)


@pytest.mark.parametrize(
    ("weights", "total"),
    [((), "rules.py:short (ff00ff00) + reward model rm (01ab23cd) + reward model clf: rude (ef67ef67)"),
     ((0.01, 1, 0), "0.01 * rules.py:short (ff00ff00) + reward model rm (01ab23cd)"),
     ((0, 0, -1), "-1 * reward model clf: rude (ef67ef67)")],
)  # fmt: skip
def test_a_judge_is_named_with_its_hash_weights_and_class_in_the_order_given(
    weights: tuple[float, ...], total: str
) -> None:
    parents = [
        Parent(role="policy", name="sft", sha256="aa" * 32), Parent(role="reward", name="rm", sha256="01ab23cd45" * 6),
        Parent(role="reward 2", name="clf", sha256="ef67" * 16),
    ]  # fmt: skip
    short = Origin(source=DataSource(role="reward", name="rules.py:short", sha256="ff00" * 16))
    rewards = Rewards(
        scorer=weighted([("short", Silent()), ("rm", Silent()), ("clf", Silent())], weights),
        origins=(short, Origin(role="reward"), Origin(role="reward 2", head="rude")),
    )
    judges = rewards.judges(parents)
    assert judges.total == total
    assert judges.each == {
        "short": "rules.py:short (ff00ff00)", "rm": "reward model rm (01ab23cd)",
        "clf": "reward model clf: rude (ef67ef67)",
    }  # fmt: skip


def test_what_was_measured_on_is_named_with_its_hash() -> None:
    told = sampled_from(SOURCES, SamplingParams(max_tokens=16, temperature=0.7, top_p=0.9), limit=5)
    assert told == "held.jsonl (ab12ab12), first 5 rows of each, temperature 0.7, top_p 0.9, at most 16 tokens"


def test_a_line_on_the_terminal_claims_no_interval_without_width() -> None:
    few, equal = (Interval(mean=-6.65, low=-6.65, high=-6.65, n=n) for n in (1, 40))
    assert spread(few, "prompts") == "no interval from so few, n = 1 prompts"
    assert spread(equal, "prompts") == "no interval: all are equal, n = 40 prompts"


def test_a_change_is_one_line_on_the_terminal() -> None:
    found = Measurement(
        name="reward", unit="raw score", items="held.jsonl", counted="prompts",
        values={
            "before": Interval(mean=1.0, low=0.9, high=1.1, n=8), "after": Interval(mean=1.5, low=1.4, high=1.6, n=8)
        },
        gained=Interval(mean=0.5, low=0.4, high=0.6, n=8),
    )  # fmt: skip
    assert change(found) == (
        "held-out reward: 1.000 before, 1.500 after, raw score; change +0.500 (+0.400 to +0.600, n = 8 prompts)"
    )
