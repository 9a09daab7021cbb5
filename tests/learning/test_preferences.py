"""Every method that learns from judgement without a reward model finds its known optimum, for three seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import pytest
import torch
from learning.test_learning import PROMPT, PROMPTS, SEEDS, WORDS, answers_of, every_seed, shown, talker
from training_jobs import train_sft

from assent.algorithms.cpo import CPO, CPOSettings
from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.dpo_pl import DPO_PL, DPOPLSettings
from assent.algorithms.epochs import OfflineMethod, TrainSettings
from assent.algorithms.kto import KTO, KTOSettings
from assent.algorithms.orpo import ORPO, ORPOSettings
from assent.algorithms.sft import SFTSettings
from assent.algorithms.simpo import SIMPO, SimPOSettings
from assent.metrics import Metrics
from assent.ports.learning import Need, Roles
from assent.recipes.run.models import LanguageModel
from assent.recipes.training.prepare import prepare_offline
from assent.types import Comparison, Completion, Ranking, Rating

__all__ = ["talker"]  # a fixture
Talker = Callable[[], LanguageModel]
LABEL = 0.8
LOGIT = math.log(LABEL / (1 - LABEL))
STEPS: dict[str, Any] = {"epochs": 60, "batch_size": 4, "learning_rate": 1e-3}


def trained(
    method: OfflineMethod, model: LanguageModel, examples: Sequence[Any], settings: TrainSettings, seed: int
) -> list[Metrics]:
    return prepare_offline(method, model, examples, settings, seed=seed).run()


def pair(seed: int, label: float = LABEL) -> Comparison:
    chosen, rejected = Completion(text=WORDS[seed]), Completion(text=WORDS[seed + 3])
    return Comparison(prompt=PROMPT, chosen=chosen, rejected=rejected, probability=label)


OPTIMA = {  # the margin beta (h_chosen - h_rejected) where the loss of a label w is least
    "sigmoid": LOGIT,
    "ipo": (2 * LABEL - 1) / 2,
    "hinge": 1.0,  # w max(0, 1 - m) + (1 - w) max(0, 1 + m) falls up to m = 1 and rises beyond
    "robust": math.log(0.875 / 0.125),  # the label is (0.8 - 0.1) / (1 - 2 * 0.1)
    "exponential": LOGIT / 2,  # w e^-m = (1 - w) e^m
    "nca": LOGIT,  # each side by itself: s(c) = w / (w + 1/2), s(r) = (1 - w) / (3/2 - w)
}


@every_seed
@pytest.mark.parametrize("form", OPTIMA)
def test_dpo_takes_the_margin_that_its_form_and_the_labels_ask_for(form: str, seed: int, talker: Talker) -> None:
    wrong = 0.1 if form == "robust" else 0.0
    settings = DPOSettings(**STEPS, beta=0.5, form=form, label_smoothing=wrong)
    rows = trained(DPO, talker(), [pair(seed)] * 4, settings, seed)
    assert rows[0]["margin"] == pytest.approx(0.0, abs=1e-4)
    assert rows[-1]["margin"] == pytest.approx(OPTIMA[form], abs=0.1)
    assert rows[-1]["accuracy"] == 1.0 and rows[-1]["loss"] < rows[0]["loss"]
    if form == "nca":
        assert rows[-1]["chosen_reward"] == pytest.approx(math.log(2 * LABEL), abs=0.1)
        assert rows[-1]["chosen_logp"] > rows[0]["chosen_logp"]


@every_seed
def test_the_sft_term_holds_up_what_a_margin_alone_lets_fall(seed: int, talker: Talker) -> None:
    """Two answers with the same beginning: what makes the worse one unlikely also hits the better one."""
    chosen, rejected = (Completion(text=f"{WORDS[seed]} {end}") for end in ("sun", "no"))
    likely = [*shown([PROMPT] * 8, [chosen.text] * 4 + [rejected.text] * 4)]
    pairs = [Comparison(prompt=PROMPT, chosen=chosen, rejected=rejected)] * 4
    found = {}
    for coef in (0.0, 1.0):
        model = talker()
        train_sft(model, likely, SFTSettings(epochs=10, batch_size=8, learning_rate=2e-3), seed=seed)
        found[coef] = trained(DPO, model, pairs, DPOSettings(**STEPS, beta=0.5, sft_coef=coef), seed)[-1]
    assert found[1.0]["chosen_logp"] > found[0.0]["chosen_logp"] + 0.02
    assert found[1.0]["accuracy"] == found[0.0]["accuracy"] == 1.0


@every_seed
def test_simpo_wins_by_its_margin(seed: int, talker: Talker) -> None:
    """w s(gamma - m) = (1 - w) s(gamma + m), with x = e^m: (1 - w) g x^2 + (1 - 2 w) x - w g = 0, g = e^-gamma."""
    gamma, model = 0.5, talker()
    square, linear = (1 - LABEL) * math.exp(-gamma), 1 - 2 * LABEL
    root = (-linear + math.sqrt(linear**2 + 4 * square * LABEL * math.exp(-gamma))) / (2 * square)
    rows = trained(SIMPO, model, [pair(seed)] * 4, SimPOSettings(**STEPS, beta=1.0, gamma=gamma), seed)
    assert rows[-1]["margin"] == pytest.approx(math.log(root), abs=0.1)


@every_seed
def test_cpo_takes_the_margin_of_the_labels_without_a_reference(seed: int, talker: Talker) -> None:
    rows = trained(CPO, talker(), [pair(seed)] * 4, CPOSettings(**STEPS, beta=0.5, sft_coef=0.0), seed)
    assert rows[-1]["margin"] == pytest.approx(LOGIT, abs=0.1)
    imitating = trained(CPO, talker(), [pair(seed)] * 4, CPOSettings(**STEPS, beta=0.5), seed)
    assert imitating[-1]["chosen_logp"] > rows[-1]["chosen_logp"]


@every_seed
def test_orpo_learns_the_better_answer_and_not_the_worse(seed: int, talker: Talker) -> None:
    """Its optimum is certainty; on the way the odds ratio takes from the worse answer more than SFT alone does."""
    pairs, steps = [pair(seed, label=1.0)] * 4, STEPS | {"learning_rate": 3e-3}
    model = talker()
    rows = trained(ORPO, model, pairs, ORPOSettings(**steps, odds_ratio_coef=1.0), seed)
    weak = trained(ORPO, talker(), pairs, ORPOSettings(**steps, odds_ratio_coef=1e-6), seed)
    assert answers_of(model, [PROMPT] * 32, temperature=1.0).count(WORDS[seed]) >= 30
    assert rows[-1]["rejected_logp"] < weak[-1]["rejected_logp"] - 0.1


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
def test_dpo_on_rankings_recovers_the_utilities_behind_them(seed: int, talker: Talker) -> None:
    """Answers of strength 3, 2 and 1: 60 rankings in the shares that Plackett and Luce give the orders."""
    strengths = {WORDS[seed]: 3, WORDS[seed + 2]: 2, WORDS[seed + 4]: 1}
    rankings = []
    for order in permutations(strengths):
        first, second, third = (strengths[word] for word in order)
        count = 60 * first * second / ((first + second + third) * (second + third))
        one = Ranking(prompt=PROMPT, completions=tuple(Completion(text=word) for word in order), ranks=(1, 2, 3))
        rankings += [one] * round(count)
    assert len(rankings) == 60
    settings = DPOPLSettings(epochs=30, batch_size=60, learning_rate=3e-3, beta=0.5)
    words = [Completion(text=word) for word in strengths]
    held = [Ranking(prompt=PROMPT, completions=tuple(words), ranks=(1, 2, 3))]
    prepared = prepare_offline(DPO_PL, talker(), rankings, settings, seed=seed, held_out=held)
    prepared.run()
    assert prepared.scored is not None
    pairs: Any = prepared.scored()
    margins = [chosen - rejected for chosen, rejected in zip(pairs.chosen, pairs.rejected, strict=True)]
    assert margins == pytest.approx([math.log(3 / 2), math.log(3), math.log(2)], abs=0.1)


@every_seed
def test_kto_moves_good_and_bad_answers_apart_whatever_their_counts(seed: int, talker: Talker) -> None:
    """Two words are good and six are bad; of what was labelled, the optimum says the good ones alone."""
    good, model = {WORDS[seed], WORDS[seed + 3]}, talker()
    ratings = [
        Rating(prompt=prompt, completion=Completion(text=word), score=float(word in good))
        for prompt in PROMPTS
        for word in WORDS
    ]
    encoded = model.template.encode_completions([(one.prompt, one.completion) for one in ratings])
    good_B = torch.tensor([one.score for one in ratings])

    def good_share() -> float:
        outputs = model.backend.learner(Roles(policy=model.role)).score(encoded, Need())
        probability_B = torch.stack([one["logp"].sum() for one in outputs]).exp()
        return float((good_B * probability_B).sum() / probability_B.sum())

    assert good_share() < 0.5
    settings = KTOSettings(epochs=12, batch_size=32, learning_rate=2e-3, beta=0.3, desirable_weight=3.0)
    rows = trained(KTO, model, ratings, settings, seed)
    assert good_share() > 0.9
    assert rows[-1]["chosen_reward"] > 0 > rows[-1]["rejected_reward"] and rows[-1]["accuracy"] > 0.95
    assert rows[0]["reference_point"] == pytest.approx(0.0, abs=1e-4)
