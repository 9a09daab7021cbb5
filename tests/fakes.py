"""Fakes of the seams, plain and predictable; they pass the same contract suites as the real ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence

from assent.ports.environment import StepResult
from assent.ports.sampling import Progress, PromptTooLong, Sampler, SamplingParams, TurnRequest, silent
from assent.seeds import python_rng
from assent.text.template import ChatTemplate
from assent.types import Completion, Conversation, Message, Role, StopReason, Turn

HOLDS = 64  # tokens of a prompt and its completion


class WordSampler(Sampler):
    """Writes up to `max_tokens` tokens of a few words, each with the same probability; greedy takes the first."""

    def __init__(self, template: ChatTemplate, words: Sequence[str] = ("red", "blue", "yes", "no")) -> None:
        self.template, self.version = template, 0
        spoken = sorted({ids[-1] for ids in template.text_ids(list(words)) if ids})
        self._tokens = [*spoken, template.end_id]

    @property
    def room(self) -> int:
        """A few tokens."""
        return HOLDS

    def encode(self, prompt: Conversation) -> tuple[int, ...]:
        """As the template does."""
        return self.template.encode_prompt(prompt)

    def encode_reply(self, prompt: Conversation, answer: Message, reply: Sequence[Message]) -> tuple[int, ...]:
        """As the template does."""
        return self.template.encode_reply(prompt, answer, reply)

    def stream(
        self, arrivals: Iterable[Sequence[TurnRequest]], *, sampling: SamplingParams, progress: Progress = silent
    ) -> Iterator[tuple[int, Turn]]:
        """One turn after the other."""
        for requests in arrivals:
            for index, one in enumerate(requests):
                if len(one.prompt_ids) + (sampling.max_tokens or 0) > HOLDS:
                    what = f"prompt {index + 1} has {len(one.prompt_ids)} tokens, this sampler holds {HOLDS}"
                    raise PromptTooLong(what)
            for one in requests:
                yield one.key, self._turn(one.prompt_ids, sampling, one.seed, progress)
                progress(1)

    def _turn(self, prompt_ids: tuple[int, ...], sampling: SamplingParams, seed: int, progress: Progress) -> Turn:
        rng, greedy = python_rng(seed, "tokens"), sampling.temperature == 0.0
        logp, most = 0.0 if greedy else -math.log(len(self._tokens)), sampling.max_tokens or HOLDS - len(prompt_ids)
        ids: list[int] = []
        text, stop = "", None
        while stop is None:
            ids.append(self._tokens[0 if greedy else rng.randrange(len(self._tokens))])
            text = self.template.decode(ids)
            cuts = [text.index(one) for one in sampling.stop if one in text]
            if cuts or ids[-1] == self.template.end_id:
                text, stop = text[: min(cuts, default=None)], StopReason.END
            elif len(ids) == most:
                stop = StopReason.LENGTH
            progress(0)
        completion = Completion(text=text, stop=stop)
        return Turn(
            prompt_ids=prompt_ids, completion_ids=tuple(ids), logps=(logp,) * len(ids), completion=completion,
            version=self.version,
        )  # fmt: skip


class LengthScorer:
    """The longer the text, the better."""

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """Characters of each completion."""
        return [float(len(completion.text)) for completion in completions]


class GuessingGame:
    """An environment of several turns: the policy guesses a number from 0 to 15 and hears "higher" or "lower"."""

    prompts = (Conversation.of_user("Guess my number from 0 to 15."),)

    def reset(self, prompt: Conversation, *, seed: int) -> GuessingEpisode:
        """A number drawn from the seed."""
        return GuessingEpisode(prompt, python_rng(seed, "number").randrange(16))


class GuessingEpisode:
    """One game."""

    def __init__(self, prompt: Conversation, number: int) -> None:
        self.prompt, self._number = prompt, number

    def step(self, completion: Completion) -> StepResult:
        """Right is the end with reward 1; what is no number is an error."""
        if completion.stop is not StopReason.END or not completion.text.isdecimal():
            return StepResult(stop=StopReason.ERROR if completion.stop is StopReason.END else completion.stop)
        if int(completion.text) == self._number:
            return StepResult(stop=StopReason.END, reward=1.0)
        hint = "higher" if int(completion.text) < self._number else "lower"
        return StepResult(messages=(Message(role=Role.USER, content=hint),))


class Quoting:
    """Says to a turn what the policy itself said before earlier rollouts, and ends after three turns.

    It changes with the policy, so a run that is resumed must know all that it has heard.
    """

    def __init__(self) -> None:
        self.prompts, self.heard = (Conversation.of_user("one"),), ["two"]

    def meet(self, sampler: Sampler, *, iteration: int, seed: int) -> None:
        """Hear one more."""
        (turn,) = sampler.sample(self.prompts, sampling=SamplingParams(max_tokens=4), seed=seed)
        self.heard.append(turn.completion.text)

    def save(self) -> str:
        """All that was heard."""
        return json.dumps(self.heard)

    def load(self, state: str) -> None:
        """The reverse of `save`."""
        self.heard = json.loads(state)

    def reset(self, prompt: Conversation, *, seed: int) -> QuotingEpisode:
        """An episode that quotes something heard."""
        return QuotingEpisode(prompt, python_rng(seed, "quote").choice(self.heard))


class QuotingEpisode:
    """Three turns."""

    def __init__(self, prompt: Conversation, quote: str) -> None:
        self.prompt, self._quote, self._turns = prompt, quote, 0

    def step(self, completion: Completion) -> StepResult:
        """The quote, twice."""
        self._turns += 1
        if completion.stop is not StopReason.END:
            return StepResult(stop=completion.stop)
        if self._turns == 3:
            return StepResult(stop=StopReason.END, reward=float(len(self._quote)))
        return StepResult(messages=(Message(role=Role.USER, content=self._quote),))
