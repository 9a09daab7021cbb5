"""Every answer of a model is kept as it comes: a run that was stopped asks only what was not answered yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from assent.constitution.chat_model import ChatModel, Written
from assent.feedback.records import conversation_to_json
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import Progress, silent
from assent.runs.logs import JsonLines, read_rows
from assent.types import Conversation, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was asked: calls to the model, answers that were known already, tokens of all of them."""

    calls: int = 0
    known: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class RecordedModel:
    """A chat model whose answers are kept in a file of JSON lines. A context, which closes the file.

    Refused requests are not kept: another run asks them again.
    """

    def __init__(self, model: ChatModel, path: Path) -> None:
        self._model, self._log = model, JsonLines(path)
        self._known = {row["key"]: _written(row) for row in read_rows(path)}
        self._calls = self._found = self._refused = 0

    def write(
        self, requests: Sequence[GenerationRequest], *, progress: Progress = silent
    ) -> Iterator[tuple[int, Written]]:
        """Known answers first, then those of the model."""
        keys = [key_of(request) for request in requests]
        waiting = [place for place, key in enumerate(keys) if key not in self._known]
        for place, key in enumerate(keys):
            if key in self._known:
                self._found += 1
                progress(1)
                yield place, self._known[key]
        for index, written in self._model.write([requests[place] for place in waiting], progress=progress):
            place = waiting[index]
            self._calls += 1
            if written.stop is not StopReason.ERROR:
                self._known[keys[place]] = written
                self._log.append(len(self._known), {"key": keys[place], **asdict(written)})
            yield place, written

    @property
    def usage(self) -> Usage:
        """Calls of this process; tokens of every answer in the file."""
        answers = self._known.values()
        return Usage(
            calls=self._calls,
            known=self._found,
            prompt_tokens=sum(one.prompt_tokens for one in answers),
            completion_tokens=sum(one.completion_tokens for one in answers),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()


def key_of(request: GenerationRequest) -> str:
    """Equal for requests that ask the same with the same seed."""
    assert isinstance(request.prompt, Conversation)
    asked = [conversation_to_json(request.prompt), asdict(request.sampling), request.seed]
    return hashlib.blake2b(json.dumps(asked).encode(), digest_size=16).hexdigest()


def _written(row: dict[str, Any]) -> Written:
    return Written(
        text=row["text"], stop=StopReason(row["stop"]), likeliest=tuple(row["likeliest"]),
        prompt_tokens=row["prompt_tokens"], completion_tokens=row["completion_tokens"],
    )  # fmt: skip
