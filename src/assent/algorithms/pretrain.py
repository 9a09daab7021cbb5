"""Pretraining of a small model: next-token prediction on an endless, addressable stream of documents.

    L = -(1/M) sum over predicted tokens  log p(token | what came before)

A document is plain text (every token is predicted), a text in pieces of which some are predicted, or a conversation
(what follows the first prompt is).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pydantic import Field

from assent.algorithms.epochs import evaluated, update
from assent.algorithms.estimate import Estimate, estimate_updates, tokens_of
from assent.algorithms.schedule import OptimizerSettings
from assent.algorithms.sft import SUPERVISED
from assent.data.order import epoch_order
from assent.interrupts import StopRequest
from assent.metrics import Metrics, Stopwatch
from assent.model.fresh import ModelShape
from assent.ports.learning import Learner, SkippedBatch
from assent.seeds import derive
from assent.text.template import ChatTemplate, Encoded
from assent.types import Conversation, Role


class PretrainSettings(OptimizerSettings):
    """Settings of pretraining; one step = one update on `batch_size` documents."""

    shape: ModelShape = ModelShape()
    steps: int = Field(default=2000, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_share: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    evaluate_every: int = Field(default=200, ge=1)


class Stream(Protocol):
    """Documents by number; the same number always gives the same document."""

    def __call__(self, numbers: Sequence[int], /) -> list[Encoded]: ...


class PretrainTask:
    """Ticks = optimiser steps on documents step * batch_size, ..."""

    unit = "steps"

    def __init__(
        self, stream: Stream, learner: Learner, *, settings: PretrainSettings, held_out: Sequence[Encoded] = ()
    ) -> None:
        self._stream, self._learner, self._settings, self._held_out = stream, learner, settings, held_out
        self.total = settings.steps
        self.skipped_batches: list[SkippedBatch] = []
        self.save, self.load = learner.save, learner.load  # the documents follow from the step

    def estimate(self) -> Estimate:
        """As the first documents go."""
        settings, first = self._settings, self._stream(range(self._settings.batch_size))
        return estimate_updates(
            self._learner,
            first,
            max(first, key=len),
            SUPERVISED.need,
            trained=tokens_of(first) * self.total,
            evaluated=tokens_of(self._held_out) * (1 + self.total // settings.evaluate_every),
        )

    def begin(self, stop: StopRequest) -> Metrics:
        """Nothing: random weights are known to be bad."""
        return {}

    def tick(self, index: int, stop: StopRequest) -> Metrics:
        """One optimiser step."""
        settings, watch = self._settings, Stopwatch()
        chosen = self._stream(range(index * settings.batch_size, (index + 1) * settings.batch_size))
        rate = settings.rate(index, self.total)
        with watch.phase("update"):
            row = update(self._learner, chosen, SUPERVISED, rate, self.skipped_batches, progress=stop.check)
        row["tokens"] = float(sum(map(len, chosen)))
        row |= watch.row(int(row["tokens"]))
        if self._held_out and ((index + 1) % settings.evaluate_every == 0 or index + 1 == self.total):
            row["eval_loss"] = evaluated(self._learner, self._held_out, SUPERVISED)["loss"]
        return row


Pieces = tuple[tuple[str, bool], ...]
"""A text in pieces parted by spaces, and whether each is to be predicted."""


Rated = tuple[Conversation, ...]
"""Conversations one after another; of each only the last message is to be predicted."""

Document = str | Pieces | Conversation | Rated


def encode_documents(documents: Sequence[Document], template: ChatTemplate) -> list[Encoded]:
    """Plain text is predicted whole and closed by the end token; of pieces those that say so are; of a conversation its
    first answer and all that follows; of rated ones each last message.

    What users say to an answer is predicted too, and so is that nothing follows (one end token more): it says how the
    answer was received.
    """
    texts = [piece for document in documents for piece, _ in _pieces(document)]
    written = iter(template.text_ids(texts))
    spoken = iter(template.conversation_ids([talk for document in documents for talk in _talks(document)]))
    asked = iter(template.encode_prompts([_first_prompt(each) for each in documents if isinstance(each, Conversation)]))
    encoded = []
    for document in documents:
        if isinstance(document, Conversation):
            closed = document.messages[-1].role is Role.ASSISTANT
            ids = (*next(spoken), *((template.end_id,) if closed else ()))
            first = min(len(next(asked)), len(ids))
            encoded.append(Encoded(ids=ids, assistant_mask=(False,) * first + (True,) * (len(ids) - first)))
            continue
        if talks := _talks(document):
            encoded.append(_last_messages([next(spoken) for _ in talks], template.end_id))
            continue
        parts = [(next(written), predicted) for _, predicted in _pieces(document)]
        ids = tuple(id_ for part, _ in parts for id_ in part)
        mask = tuple(predicted for part, predicted in parts for _ in part)
        encoded.append(Encoded(ids=(*ids, template.end_id), assistant_mask=(*mask, isinstance(document, str))))
    return encoded


def _talks(document: Document) -> Rated:
    if isinstance(document, Conversation):
        return (document,)
    return () if isinstance(document, str) else tuple(each for each in document if isinstance(each, Conversation))


def _pieces(document: Document) -> Pieces:
    if isinstance(document, str):
        return ((document, True),)
    return () if isinstance(document, Conversation) else tuple(each for each in document if isinstance(each, tuple))


def _first_prompt(talk: Conversation) -> Conversation:
    answers = [place for place, message in enumerate(talk.messages) if message.role is Role.ASSISTANT]
    return talk.before(answers[0] if answers else len(talk.messages))


def _last_messages(talks: Sequence[tuple[int, ...]], end_id: int) -> Encoded:
    ids = tuple(id_ for talk in talks for id_ in talk)
    before = [[place for place, id_ in enumerate(talk) if id_ == end_id][-2] for talk in talks]
    mask = tuple(place > end for talk, end in zip(talks, before, strict=True) for place in range(len(talk)))
    return Encoded(ids=ids, assistant_mask=mask)


def windows(encoded: Sequence[Encoded], *, length: int) -> list[Encoded]:
    """Cut long documents into neighbouring windows of at most `length` tokens."""
    return [
        Encoded(ids=one.ids[start : start + length], assistant_mask=one.assistant_mask[start : start + length])
        for one in encoded
        for start in range(0, len(one.ids), length)
        if any(one.assistant_mask[start + 1 : start + length])
    ]


def repeated(encoded: Sequence[Encoded], *, seed: int) -> Callable[[Sequence[int]], list[Encoded]]:
    """A finite set as an endless stream: epoch after epoch, each in its own order."""
    count = len(encoded)
    orders: dict[int, Any] = {}

    def at(number: int) -> Encoded:
        epoch, place = divmod(number, count)
        if epoch not in orders:
            orders.clear()
            orders[epoch] = epoch_order(count, seed=derive(seed, "data"), epoch=epoch)
        return encoded[int(orders[epoch][place])]

    return lambda numbers: [at(number) for number in numbers]
