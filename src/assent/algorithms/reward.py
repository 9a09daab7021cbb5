"""Reward model: a scalar head on the last token, learned from comparisons, rankings or good/bad labels.

One item is one judgement: all pairs of one prompt stay in one optimiser step, each completion is read once.

    Bradley-Terry    L = -(1/P) sum  w log s(r_a - r_b - margin) + (1 - w) log s(r_b - r_a + margin)
    Plackett-Luce    L = -(1/R) sum over rankings  log P(order | rewards)
    labels           L = -(1/B) sum  y log s(z) + (1 - y) log s(-z)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from assent.algorithms.epochs import EpochTask, MicroBatch, TrainSettings
from assent.algorithms.fitting import Sized, leave_out_long
from assent.data.labels import check_labels
from assent.data.order import token_budget_batches
from assent.errors import ConfigError
from assent.evals.reward_quality import ScoredPairs
from assent.losses.preference import binary_loss, bradley_terry_loss, plackett_luce_loss
from assent.model.flat import flatten
from assent.ports.learning import Learner, LossResult, Need, Outputs
from assent.text.template import ChatTemplate
from assent.types import Comparison, Completion, Conversation, Ranking, Rating


class RewardSettings(TrainSettings):
    """Settings of the reward model; one item = one judgement (a ranking, the pairs of one group, or one label).

    `train` "head" leaves the trunk as it is and fits the head alone: for some hundred judgements.
    """

    train: Literal["all", "head"] = "all"
    loss: Literal["bradley_terry", "plackett_luce"] = "bradley_terry"
    centre: float = Field(default=0.0, ge=0)
    classes: Literal[1, 2] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PairIndices:
    """Sequences `better` and `worse` of one judgement; P(better wins) and by how much at least."""

    better: int
    worse: int
    probability: float = 1.0
    margin: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPreference:
    """Token sequences of one prompt with what was said of them: pairs, ranks or a label."""

    sequences: tuple[tuple[int, ...], ...]
    pairs: tuple[PairIndices, ...] = ()
    ranks: tuple[int, ...] = ()
    label: float | None = None
    lengths: tuple[int, ...] = field(default=())  # tokens of the completions alone, for the length bias


def judgements_of(
    source: Sequence[Comparison | Ranking | Rating], template: ChatTemplate, *, max_length: int
) -> Sized[EncodedPreference]:
    """Encode comparisons (grouped), rankings or ratings; a judgement with an over-long sequence is left out."""
    check_labels(one for one in source if isinstance(one, Rating))
    judged = [*_from_comparisons([s for s in source if isinstance(s, Comparison)])]
    judged += [_from_ranking(s) for s in source if isinstance(s, Ranking)]
    judged += [_Preference(s.prompt, (s.completion,), (), (), s.score) for s in source if isinstance(s, Rating)]
    flat = template.encode_completions([(one.prompt, completion) for one in judged for completion in one.completions])
    items, start = [], 0
    for one in judged:
        mine = flat[start : start + len(one.completions)]
        start += len(one.completions)
        items.append(
            EncodedPreference(
                sequences=tuple(encoded.ids for encoded in mine),
                pairs=one.pairs,
                ranks=one.ranks,
                label=one.label,
                lengths=tuple(sum(encoded.assistant_mask) for encoded in mine),
            )
        )
    longest = [max(map(len, item.sequences)) for item in items]
    return leave_out_long(items, longest, max_length=max_length, what="judgements")


@dataclass(frozen=True, slots=True)
class _Preference:
    prompt: Conversation
    completions: tuple[Completion, ...]
    pairs: tuple[PairIndices, ...]
    ranks: tuple[int, ...]
    label: float | None


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
            )
            for one in members
        )
        yield _Preference(members[0].prompt, tuple(place), pairs, (), None)


def _from_ranking(ranking: Ranking) -> _Preference:
    pairs = []
    for a, b in combinations(range(len(ranking.ranks)), 2):
        better, worse = (a, b) if ranking.ranks[a] <= ranking.ranks[b] else (b, a)
        tie = ranking.ranks[a] == ranking.ranks[b]
        pairs.append(PairIndices(better=better, worse=worse, probability=0.5 if tie else 1.0))
    return _Preference(ranking.prompt, ranking.completions, tuple(pairs), ranking.ranks, None)


def reward_task(
    judgements: Sequence[EncodedPreference],
    learner: Learner,
    *,
    settings: RewardSettings,
    seed: int,
    held_out: Sequence[EncodedPreference] = (),
) -> EpochTask:
    """The training task; with `held_out`, rows carry `eval_loss`, `eval_accuracy` and (pairs) `eval_margin`."""
    if settings.loss == "plackett_luce" and not all(one.ranks for one in judgements):
        raise ConfigError("Plackett-Luce needs rankings", now='Use --set loss="bradley_terry" for pairs and labels.')

    def prepare(items: Sequence[int], _: int) -> list[MicroBatch]:
        return reward_pieces([judgements[item] for item in items], settings)

    unseen = partial(reward_pieces, held_out, settings) if held_out else None
    return EpochTask(learner, prepare, count=len(judgements), settings=settings, seed=seed, held_out=unseen)


def reward_pieces(chosen: Sequence[EncodedPreference], settings: RewardSettings) -> list[MicroBatch]:
    """Micro-batches of one optimiser step; a judgement is never split."""
    sizes = [sum(map(len, one.sequences)) for one in chosen]
    step_pairs = max(1, sum(len(one.pairs) for one in chosen))
    pieces = []
    for part in token_budget_batches(sizes, settings.micro_batch_tokens):
        run = [chosen[place] for place in part]
        sequences = [sequence for one in run for sequence in one.sequences]
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        back_B = torch.tensor(order).argsort()
        batch = flatten([sequences[index] for index in order], [[False] * len(sequences[index]) for index in order])
        loss = partial(_loss, run=run, back_B=back_B, settings=settings, step_pairs=step_pairs, step_items=len(chosen))
        pieces.append(MicroBatch(batch=batch, need=Need(logp=False, logits=True), loss=loss))
    return pieces


def reward_of_logits(logits_BC: Tensor, positive: int | None = None) -> Tensor:
    """The number that training pushes up: the only logit, or the log odds of the positive class (default: the last)."""
    if logits_BC.shape[1] == 1:
        return logits_BC[:, 0]
    chosen = logits_BC.shape[1] - 1 if positive is None else positive
    others_BK = torch.cat([logits_BC[:, :chosen], logits_BC[:, chosen + 1 :]], dim=1)
    return logits_BC[:, chosen] - (others_BK[:, 0] if others_BK.shape[1] == 1 else others_BK.logsumexp(1))


def _loss(
    outputs: Outputs,
    *,
    run: Sequence[EncodedPreference],
    back_B: Tensor,
    settings: RewardSettings,
    step_pairs: int,
    step_items: int,
) -> LossResult:
    assert outputs.logits_BC is not None
    reward_B = reward_of_logits(outputs.logits_BC)[back_B.to(outputs.logits_BC.device)]
    if run[0].label is not None:
        label_B = reward_B.new_tensor([one.label for one in run])
        binary = binary_loss(reward_B, label_B, step_count=step_items)
        sums = {"loss": binary.loss.item() * step_items, "accuracy": binary.correct.item()}
        return LossResult(loss=binary.loss, sums=sums, count=len(run))
    if settings.loss == "plackett_luce":
        ranking = plackett_luce_loss(reward_B, [one.ranks for one in run], step_rankings=step_items)
        share = ranking.correct.item() / max(1.0, float(ranking.pairs))
        sums = {"loss": ranking.loss.item() * step_items, "accuracy": share * len(run)}
        return LossResult(loss=ranking.loss, sums=sums, count=len(run))
    return _pair_loss(reward_B, run, settings, step_pairs)


def _pair_loss(
    reward_B: Tensor, run: Sequence[EncodedPreference], settings: RewardSettings, step_pairs: int
) -> LossResult:
    better, worse, probability, margin = [], [], [], []
    start = 0
    for one in run:
        for pair in one.pairs:
            better.append(start + pair.better)
            worse.append(start + pair.worse)
            probability.append(pair.probability)
            margin.append(pair.margin)
        start += len(one.sequences)
    result = bradley_terry_loss(
        reward_B[better],
        reward_B[worse],
        probability_P=reward_B.new_tensor(probability),
        margin_P=reward_B.new_tensor(margin),
        step_pairs=step_pairs,
        centre=settings.centre,
    )
    sums = {
        "loss": result.loss.item() * step_pairs,
        "accuracy": result.correct.item(),
        "margin": result.margin.item(),
    }
    return LossResult(loss=result.loss, sums=sums, count=len(better))


def score_judgements(
    judgements: Sequence[EncodedPreference], learner: Learner, *, settings: RewardSettings, positive: int | None = None
) -> list[list[float]]:
    """The reward of every sequence of every judgement, without training: of a classifier, of its class `positive`."""
    rewards: list[list[float]] = []
    sizes = [sum(map(len, one.sequences)) for one in judgements]
    for part in token_budget_batches(sizes, settings.micro_batch_tokens):
        run = [judgements[place] for place in part]
        (piece,) = reward_pieces(run, settings.model_copy(update={"micro_batch_tokens": max(1, sum(sizes))}))
        outputs = learner.score(piece.batch, piece.need)
        assert outputs.logits_BC is not None
        back_B = piece.loss.keywords["back_B"]  # type: ignore[attr-defined]
        values = iter(reward_of_logits(outputs.logits_BC, positive)[back_B.to(outputs.logits_BC.device)].tolist())
        rewards.extend([next(values) for _ in one.sequences] for one in run)
    return rewards


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
