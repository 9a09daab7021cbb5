"""Reward model: a scalar head on the last token, learned from comparisons, rankings or good/bad labels.

One item is one judgement: all pairs of one prompt stay in one optimiser step, each completion is read once.

    Bradley-Terry    L = -(1/P) sum  w log s(r_a - r_b - margin) + (1 - w) log s(r_b - r_a + margin)
    Plackett-Luce    L = -(1/R) sum over rankings  log P(order | rewards)
    labels           L = -(1/B) sum  y log s(z) + (1 - y) log s(-z)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, combinations, islice
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from assent.algorithms.epochs import Objective, OfflineMethod, TrainSettings
from assent.algorithms.fitting import Sized, leave_out_long
from assent.data.labels import check_labels
from assent.errors import ConfigError
from assent.evals.reward_quality import ScoredPairs
from assent.losses.preference import binary_loss, bradley_terry_loss, plackett_luce_loss
from assent.ports.learning import Learner, LossResult, Need, Outputs
from assent.text.template import ChatTemplate, Encoded
from assent.types import Comparison, Completion, Conversation, Ranking, Rating


class RewardSettings(TrainSettings):
    """Settings of the reward model; one item = one judgement (a ranking, the pairs of one group, or one label).

    `train` "head" leaves the trunk as it is and fits the head alone: for some hundred judgements. With `head_first`,
    "all" starts from that head where it can be fitted: on comparisons or rankings, unless the head is a trained one.
    With `personal_rank`, every annotator gets a head of their own afterwards; `train` "people" updates these alone.
    """

    train: Literal["all", "head", "people"] = "all"
    personal_rank: int = Field(default=0, ge=0)
    head_first: bool = True
    loss: Literal["bradley_terry", "plackett_luce"] = "bradley_terry"
    centre: float = Field(default=0.0, ge=0)
    classes: Literal[1, 2] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PairIndices:
    """Sequences `better` and `worse` of one judgement; P(better wins), by how much at least, and who says so."""

    better: int
    worse: int
    probability: float = 1.0
    margin: float = 0.0
    annotator: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPreference:
    """Token sequences of one prompt with what was said of them: pairs, ranks or a label.

    `reference_logp_M`: the log-probabilities of their completions' tokens, for a method with a reference.
    """

    sequences: tuple[Encoded, ...]
    pairs: tuple[PairIndices, ...] = ()
    ranks: tuple[int, ...] = ()
    label: float | None = None
    reference_logp_M: Tensor | None = None

    @property
    def lengths(self) -> list[int]:
        """Tokens of the completions alone, for the length bias."""
        return [sum(sequence.assistant_mask) for sequence in self.sequences]


def judgements_of(
    source: Sequence[Comparison | Ranking | Rating], template: ChatTemplate, *, max_length: int
) -> Sized[EncodedPreference]:
    """Encode comparisons (grouped), rankings or ratings; a judgement with an over-long sequence is left out."""
    check_labels(one for one in source if isinstance(one, Rating))
    judged = [*_from_comparisons([s for s in source if isinstance(s, Comparison)])]
    judged += [_from_ranking(s) for s in source if isinstance(s, Ranking)]
    judged += [_Preference(s.prompt, (s.completion,), label=s.score) for s in source if isinstance(s, Rating)]
    flat = template.encode_completions([(one.prompt, completion) for one in judged for completion in one.completions])
    encoded = iter(flat)
    items = [
        EncodedPreference(
            sequences=tuple(islice(encoded, len(one.completions))), pairs=one.pairs, ranks=one.ranks, label=one.label
        )
        for one in judged
    ]
    longest = [max(map(len, item.sequences)) for item in items]
    return leave_out_long(items, longest, max_length=max_length, what="judgements")


@dataclass(frozen=True, slots=True)
class _Preference:
    prompt: Conversation
    completions: tuple[Completion, ...]
    pairs: tuple[PairIndices, ...] = ()
    ranks: tuple[int, ...] = ()
    label: float | None = None


def _from_comparisons(comparisons: Sequence[Comparison]) -> Iterable[_Preference]:
    groups: dict[object, list[Comparison]] = {}
    for index, comparison in enumerate(comparisons):
        groups.setdefault((comparison.group, comparison.prompt) if comparison.group else index, []).append(comparison)
    for members in groups.values():
        place: dict[Completion, int] = {}
        pairs = tuple(
            PairIndices(
                better=place.setdefault(one.chosen, len(place)),
                worse=place.setdefault(one.rejected, len(place)),
                probability=one.probability,
                margin=one.margin,
                annotator=one.provenance.who or "",
            )
            for one in members
        )
        yield _Preference(members[0].prompt, tuple(place), pairs)


def _from_ranking(ranking: Ranking) -> _Preference:
    pairs, who = [], ranking.provenance.who or ""
    for a, b in combinations(range(len(ranking.ranks)), 2):
        better, worse = (a, b) if ranking.ranks[a] <= ranking.ranks[b] else (b, a)
        tie = ranking.ranks[a] == ranking.ranks[b]
        pairs.append(PairIndices(better=better, worse=worse, probability=0.5 if tie else 1.0, annotator=who))
    return _Preference(ranking.prompt, ranking.completions, tuple(pairs), ranking.ranks)


def reward_objective(judgements: Sequence[EncodedPreference], settings: RewardSettings) -> Objective:
    """The loss that fits settings and data, over the pairs, rankings or labels of a step."""
    ranked = settings.loss == "plackett_luce"
    if ranked and not all(one.ranks for one in judgements):
        raise ConfigError("Plackett-Luce needs rankings", now='Use --set loss="bradley_terry" for pairs and labels.')
    need = Need(logp=False, logits=True)
    if ranked or any(one.label is not None for one in judgements):
        return Objective(loss=_ranking_loss if ranked else _label_loss, need=need, count=lambda run: float(len(run)))
    loss = partial(_pair_loss, centre=settings.centre)
    return Objective(loss=loss, need=need, count=lambda run: float(max(1, sum(len(one.pairs) for one in run))))


REWARD_MODEL = OfflineMethod(encode=judgements_of, objective=reward_objective)


def reward_of_logits(outputs: Outputs, positive: int | None = None) -> Tensor:
    """The number that training pushes up: the only logit, or the log odds of the positive class (default: the last)."""
    logits_BC = outputs["logits"]
    if logits_BC.shape[1] == 1:
        return logits_BC[:, 0]
    chosen = logits_BC.shape[1] - 1 if positive is None else positive
    others_BK = torch.cat([logits_BC[:, :chosen], logits_BC[:, chosen + 1 :]], dim=1)
    return logits_BC[:, chosen] - (others_BK[:, 0] if others_BK.shape[1] == 1 else others_BK.logsumexp(1))


def _label_loss(outputs: Outputs, run: Sequence[EncodedPreference], step_count: float) -> LossResult:
    reward_B = reward_of_logits(outputs)
    label_B = reward_B.new_tensor([one.label for one in run])
    result = binary_loss(reward_B, label_B, step_count=step_count)
    sums = {"loss": result.loss.item() * step_count, "accuracy": result.correct.item()}
    return LossResult(loss=result.loss, sums=sums, count=len(run))


def _ranking_loss(outputs: Outputs, run: Sequence[EncodedPreference], step_rankings: float) -> LossResult:
    result = plackett_luce_loss(reward_of_logits(outputs), [one.ranks for one in run], step_rankings=step_rankings)
    share = result.correct.item() / max(1.0, float(result.pairs))
    sums = {"loss": result.loss.item() * step_rankings, "accuracy": share * len(run)}
    return LossResult(loss=result.loss, sums=sums, count=len(run))


def _pair_loss(outputs: Outputs, run: Sequence[EncodedPreference], step_pairs: float, *, centre: float) -> LossResult:
    reward_B, pairs = reward_of_logits(outputs), placed_pairs(run)
    result = bradley_terry_loss(
        reward_B[[pair.better for pair in pairs]],
        reward_B[[pair.worse for pair in pairs]],
        probability_P=reward_B.new_tensor([pair.probability for pair in pairs]),
        margin_P=reward_B.new_tensor([pair.margin for pair in pairs]),
        step_pairs=step_pairs,
        centre=centre,
    )
    sums = {"loss": result.loss.item() * step_pairs, "accuracy": result.correct.item(), "margin": result.margin.item()}
    return LossResult(loss=result.loss, sums=sums, count=len(pairs))


def placed_pairs(run: Sequence[EncodedPreference]) -> list[PairIndices]:
    """The pairs of all judgements, their sequences counted through."""
    starts = accumulate((len(one.sequences) for one in run), initial=0)
    return [
        replace(pair, better=start + pair.better, worse=start + pair.worse)
        for one, start in zip(run, starts, strict=False)
        for pair in one.pairs
    ]


def score_judgements(
    judgements: Sequence[EncodedPreference], learner: Learner, *, positive: int | None = None
) -> list[list[float]]:
    """The reward of every sequence of every judgement, without training: of a classifier, of its class `positive`."""
    scored = learner.score(judgements, Need(logp=False, logits=True))
    return [reward_of_logits(outputs, positive).tolist() for outputs in scored]


def scored_pairs(judgements: Sequence[EncodedPreference], rewards: Sequence[Sequence[float]]) -> ScoredPairs:
    """Line up the pairs of judgements with their rewards and completion lengths."""
    rows = [
        (one, reward, pair, group)
        for group, (one, reward) in enumerate(zip(judgements, rewards, strict=True))
        for pair in one.pairs
    ]
    return ScoredPairs(
        chosen=[reward[pair.better] for _, reward, pair, _ in rows],
        rejected=[reward[pair.worse] for _, reward, pair, _ in rows],
        probability=[pair.probability for _, _, pair, _ in rows],
        chosen_length=[one.lengths[pair.better] for one, _, pair, _ in rows],
        rejected_length=[one.lengths[pair.worse] for one, _, pair, _ in rows],
        groups=[group for _, _, _, group in rows],
    )
