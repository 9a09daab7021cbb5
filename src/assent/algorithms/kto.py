"""KTO: single answers that were found good or bad, without pairs (Ethayarajh et al. 2024, arXiv 2402.01306).

    L = (1/B) sum over good  D s(beta (z - h)) + over bad  U s(beta (h - z)),       h = log pi(y | x) - log ref(y | x)
    z = max(0, mean of log pi(y' | x) - log ref(y' | x) over the step's prompts),   y' an answer to another prompt

z estimates KL(pi, ref) and has no gradient. The authors take y' from the same batch. Here it is the answer of the item
before in the data, whose reference is read once; so a batch may hold a single item, and micro-batches add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from pydantic import Field
from torch import Tensor

from assent.algorithms.epochs import Objective, OfflineMethod, TrainSettings
from assent.algorithms.fitting import Sized, leave_out_long
from assent.algorithms.preference.log_ratios import completion_logps, log_ratios, outputs_now, with_reference
from assent.data.labels import check_labels
from assent.errors import DataError
from assent.evals.reward_quality import ScoredLabels
from assent.losses.unpaired import KTOShape, kto_loss
from assent.ports.learning import Learner, LossResult, Need, Outputs
from assent.ports.sampling import Progress, silent
from assent.text.template import ChatTemplate, Encoded
from assent.types import Rating


class KTOSettings(TrainSettings):
    """Settings of KTO; one item = one labelled answer. The weights make up for unequal counts of good and bad."""

    beta: float = Field(default=0.1, gt=0)
    desirable_weight: float = Field(default=1.0, gt=0)
    undesirable_weight: float = Field(default=1.0, gt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer after a prompt, and the reference's log-probabilities of its tokens."""

    encoded: Encoded
    reference_logp_M: Tensor | None = None

    @property
    def sequences(self) -> tuple[Encoded]:
        """The only one."""
        return (self.encoded,)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledAnswer:
    """An answer with its label (1 good, 0 bad), and its prompt with the answer to another one."""

    answer: Answer
    label: float
    mismatched: Answer

    @property
    def sequences(self) -> tuple[Encoded]:
        """What is learned from."""
        return self.answer.sequences

    @property
    def reference_logp_M(self) -> Tensor | None:
        """The reference's log-probabilities of the answer."""
        return self.answer.reference_logp_M


def encode_labelled(ratings: Sequence[Rating], template: ChatTemplate, *, max_length: int) -> Sized[LabelledAnswer]:
    """Encode labelled answers; what is too long is left out. Raises DataError where there are not two."""
    check_labels(ratings)
    flat = template.encode_completions([(one.prompt, one.completion) for one in ratings])
    rated = [*zip(flat, ratings, strict=True)]
    kept = leave_out_long(rated, [*map(len, flat)], max_length=max_length, what="answers")
    if len(kept.items) < 2:
        raise DataError("the answer to another prompt is needed, and there is one item", now="Give two at least.")
    others = mismatched([encoded for encoded, _ in kept.items], max_length=max_length)
    items = [
        LabelledAnswer(answer=Answer(encoded=encoded), label=rating.score, mismatched=Answer(encoded=other))
        for (encoded, rating), other in zip(kept.items, others, strict=True)
    ]
    return Sized(items=tuple(items), skipped=kept.skipped)


def mismatched(answers: Sequence[Encoded], *, max_length: int) -> list[Encoded]:
    """Every prompt with the nearest answer before it (the last stands before the first) that is to another prompt.

    Where no such answer fits into `max_length`, it is the nearest that fits.
    """
    borders = [len(one) - sum(one.assistant_mask) for one in answers]
    written = [one.ids[border:] for one, border in zip(answers, borders, strict=True)]
    numbers: dict[tuple[int, ...], int] = {}
    prompts = [numbers.setdefault(one.ids[:border], len(numbers)) for one, border in zip(answers, borders, strict=True)]

    def other_answer(place: int, *, same_prompt: bool) -> int | None:
        ring = chain(range(place - 1, -1, -1), range(len(answers) - 1, place - 1, -1))  # itself comes last
        return next(
            (
                other for other in ring
                if (same_prompt or prompts[other] != prompts[place])
                and borders[place] + len(written[other]) <= max_length
            ),
            None,
        )  # fmt: skip

    found = []
    for place, border in enumerate(borders):
        other = other_answer(place, same_prompt=False) if len(numbers) > 1 else None
        if other is None:
            other = other_answer(place, same_prompt=True)
        assert other is not None, "an answer fits behind its own prompt"
        mask = (False,) * border + (True,) * len(written[other])
        found.append(Encoded(ids=answers[place].ids[:border] + written[other], assistant_mask=mask))
    return found


def _with_references(
    items: Sequence[LabelledAnswer], learner: Learner, *, progress: Progress = silent
) -> list[LabelledAnswer]:
    answers = with_reference([one.answer for one in items], learner, progress=progress)
    others = with_reference([one.mismatched for one in items], learner)
    return [
        replace(one, answer=answer, mismatched=other) for one, answer, other in zip(items, answers, others, strict=True)
    ]


def reference_point(learner: Learner, items: Sequence[LabelledAnswer]) -> float:
    """z of a step, by the policy as it is now."""
    others = [one.mismatched for one in items]
    return max(0.0, log_ratios(Outputs.joined(learner.score(others, Need())), others).mean().item())


def _loss(
    outputs: Outputs, items: Sequence[LabelledAnswer], step_count: float, point: float, *, settings: KTOSettings
) -> LossResult:
    ratio_B, logp_B = log_ratios(outputs, items), completion_logps(outputs, items, average=True).detach()
    label_B = ratio_B.new_tensor([one.label for one in items])
    shape = KTOShape(
        beta=settings.beta, desirable_weight=settings.desirable_weight, undesirable_weight=settings.undesirable_weight
    )
    result = kto_loss(ratio_B, label_B, point, shape, step_count=step_count)
    reward_B, good = settings.beta * ratio_B.detach(), label_B.sum().item()
    sums = {
        "loss": result.loss.item() * step_count,
        "accuracy": result.correct.item(),
        "reference_point": point * len(items),
        "chosen_reward": (label_B * reward_B).sum().item(),
        "rejected_reward": ((1 - label_B) * reward_B).sum().item(),
        "chosen_logp": (label_B * logp_B).sum().item(),
        "rejected_logp": ((1 - label_B) * logp_B).sum().item(),
    }
    counts = {name: good if name.startswith("chosen") else len(items) - good for name in (*sums,)[3:]}
    return LossResult(loss=result.loss, sums=sums, count=len(items), counts=counts)


def _objective(_: Sequence[LabelledAnswer], settings: KTOSettings) -> Objective:
    return Objective(
        loss=partial(_loss, settings=settings), count=lambda items: float(len(items)), of_step=reference_point
    )


def _rewards(items: Sequence[LabelledAnswer], learner: Learner, settings: KTOSettings) -> ScoredLabels:
    """The implicit reward of held-out answers, less that of z: the log odds of a good one, as the loss sees it."""
    above_B = log_ratios(outputs_now([one.answer for one in items], learner), items) - reference_point(learner, items)
    reward_B = settings.beta * above_B
    return ScoredLabels(rewards=reward_B.tolist(), labels=[one.label for one in items])


KTO = OfflineMethod(encode=encode_labelled, objective=_objective, reference=_with_references, rewards=_rewards)
