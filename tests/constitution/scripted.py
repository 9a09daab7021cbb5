"""A chat model of a script: what it answers is a function of the request, and it keeps what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from assent.constitution.chat_model import Written
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import Progress, silent


class ScriptedModel:
    """Answers `reply(request)`: a text, or all of what is written."""

    def __init__(self, reply: Callable[[GenerationRequest], str | Written]) -> None:
        self._reply, self.asked = reply, list[GenerationRequest]()

    def write(
        self, requests: Sequence[GenerationRequest], *, progress: Progress = silent
    ) -> Iterator[tuple[int, Written]]:
        """The last request first, for answers come in any order."""
        for place in reversed(range(len(requests))):
            self.asked.append(requests[place])
            told = self._reply(requests[place])
            progress(1)
            yield place, told if isinstance(told, Written) else Written(text=told)
