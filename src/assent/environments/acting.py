"""A policy in an environment: many episodes side by side in one stream of the sampler, each at its own pace.

The next turn of an episode begins with the tokens of the turn before, as they were sampled, and goes on with those of
what the environment says. Text becomes tokens in the sampler alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from assent.environments.single_turn import SingleTurn
from assent.errors import RunError
from assent.ports.environment import AdaptiveEnvironment, Environment, Episode, StepResult
from assent.ports.sampling import Progress, Sampler, SamplingParams, TurnRequest, silent
from assent.seeds import derive
from assent.text.transcripts import format_transcript
from assent.types import Completion, Conversation, Message, Role, StopReason, Trajectory, Turn

_LOOK_EVERY_S = 0.1  # while nothing but environments is at work


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeLimits:
    """How far episodes may go, and how many threads their environments work in.

    `max_tokens` are those of a whole episode (None: what the model holds). Without threads an environment answers in
    the order of the turns, which gives the same bits each time; with threads, a slow answer holds no other episode.
    """

    max_turns: int = 16
    max_tokens: int | None = None
    threads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InEnvironment:
    """Prompts, and the environment in which episodes begin with them."""

    prompts: Sequence[Conversation]
    environment: Environment = field(default_factory=SingleTurn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who writes, how, and in what environment."""

    sampler: Sampler
    sampling: SamplingParams
    environment: Environment = field(default_factory=SingleTurn)
    limits: EpisodeLimits = EpisodeLimits()

    @property
    def room(self) -> int:
        """Tokens of the longest episode, with all that is read."""
        return min(self.sampler.room, self.limits.max_tokens or self.sampler.room)

    @property
    def most_tokens(self) -> int:
        """Tokens that the policy can write in an episode."""
        turns = 1 if isinstance(self.environment, SingleTurn) else self.limits.max_turns
        return turns * (self.sampling.max_tokens or self.sampler.room)

    def meet(self, *, iteration: int, seed: int) -> None:
        """Show the policy as it is to an environment that changes with it."""
        if isinstance(self.environment, AdaptiveEnvironment):
            self.environment.meet(self.sampler, iteration=iteration, seed=seed)

    def save(self) -> str:
        """What the environment knows of the policy; empty if it is none that changes."""
        return self.environment.save() if isinstance(self.environment, AdaptiveEnvironment) else ""

    def load(self, state: str) -> None:
        """The reverse of `save`."""
        if isinstance(self.environment, AdaptiveEnvironment):
            self.environment.load(state)

    def play(
        self, prompts: Sequence[Conversation], *, n: int = 1, seed: int, progress: Progress = silent
    ) -> list[Trajectory]:
        """`n` episodes of each prompt; episode j of prompt i has the place i * n + j and follows from the seed of that
        place. `progress` counts episodes; what it raises ends them all.
        """
        with ExitStack() as open_threads:
            pool = ThreadPoolExecutor(self.limits.threads) if self.limits.threads else None
            if pool is not None:
                open_threads.callback(pool.shutdown, wait=False, cancel_futures=True)
            stage = _Stage(self, pool, progress)
            stage.begin(prompts, n, seed)
            arrivals = stage.arrivals()
            for key, turn in self.sampler.stream(arrivals, sampling=self.sampling, progress=lambda _: progress(0)):
                stage.take(key, turn)
        return [stage.ended[place] for place in range(len(prompts) * n)]


def without_failed(episodes: Sequence[Trajectory]) -> list[Trajectory]:
    """The episodes that did not fail. Raises RunError if all did."""
    kept = [one for one in episodes if not one.failed]
    if episodes and not kept:
        now = "Nothing was learned from them; look at the environment."
        raise RunError(f"every episode failed; the first: {episodes[0].problem}", now=now)
    return kept


def as_shown(episode: Trajectory) -> Completion:
    """An episode for people: its one answer, or all that was said after its first prompt."""
    if len(episode.turns) < 2:
        return episode.completion
    whole, begun = episode.prompt.then(episode.completion.text), len(episode.start.messages)
    return replace(episode.completion, text=format_transcript(replace(whole, messages=whole.messages[begun:])).strip())


@dataclass(slots=True, kw_only=True)
class _Running:
    """An episode under way: what the policy answers next, and the turns that were written."""

    episode: Episode
    conversation: Conversation
    seed: int
    turns: list[Turn] = field(default_factory=list)


class _Stage:
    """All episodes of one call: those that wait for the policy, those that are being written, those in environments."""

    def __init__(self, actor: Actor, pool: ThreadPoolExecutor | None, progress: Progress) -> None:
        self._actor, self._pool, self._progress = actor, pool, progress
        self._running: dict[int, _Running] = {}
        self._ready: list[TurnRequest] = []
        self._answering: dict[Future[StepResult], int] = {}
        self._writing = 0
        self.ended: dict[int, Trajectory] = {}

    def begin(self, prompts: Sequence[Conversation], n: int, seed: int) -> None:
        """Start all episodes; those of one prompt that begin alike share its tokens."""
        for index, prompt in enumerate(prompts):
            ids: dict[Conversation, tuple[int, ...]] = {}
            for place in range(index * n, (index + 1) * n):
                episode = _reset(self._actor.environment, prompt, derive(seed, "environment", place))
                if isinstance(episode, StepResult):
                    self._end(place, Trajectory(prompt=prompt, turns=(), completion=_FAILED, problem=episode.problem))
                    continue
                asked, own = episode.prompt, derive(seed, place)
                ids[asked] = ids.get(asked) or self._actor.sampler.encode(asked)
                self._running[place] = _Running(episode=episode, conversation=asked, seed=own)
                self._ready.append(TurnRequest(key=place, prompt_ids=ids[asked], seed=own))

    def arrivals(self) -> Iterator[list[TurnRequest]]:
        """The turns that can be written now, again and again until every episode has ended."""
        while self._ready or self._writing or self._answering:
            idle = not self._ready and not self._writing
            answered, _ = wait(self._answering, timeout=_LOOK_EVERY_S if idle else 0, return_when=FIRST_COMPLETED)
            for place, future in sorted((self._answering.pop(future), future) for future in answered):
                self._go_on(place, future.result())
            if idle:
                self._progress(0)
            ready, self._ready = self._ready, []
            self._writing += len(ready)
            yield ready

    def take(self, place: int, turn: Turn) -> None:
        """A turn has been written: the environment has the word."""
        self._writing -= 1
        running = self._running[place]
        running.turns.append(turn)
        if turn.completion.stop is StopReason.ERROR:
            self._go_on(place, StepResult(stop=StopReason.ERROR, problem="the model's numbers are not finite"))
        elif self._pool is not None:
            self._answering[self._pool.submit(_step, running.episode, turn.completion)] = place
        else:
            self._go_on(place, _step(running.episode, turn.completion))

    def _go_on(self, place: int, result: StepResult) -> None:
        """The next turn, or the end: of the environment, of the turn that was cut, of turns, or of tokens."""
        running, limits = self._running[place], self._actor.limits
        turn = running.turns[-1]
        stop = result.stop or (None if turn.completion.stop is StopReason.END else turn.completion.stop)
        if stop is None and len(running.turns) == limits.max_turns:
            stop = StopReason.TURNS
        if stop is None:
            answer = Message(role=Role.ASSISTANT, content=turn.completion.text)
            reply = self._actor.sampler.encode_reply(running.conversation, answer, result.messages)
            ids = (*turn.prompt_ids, *turn.completion_ids, *reply)
            if len(ids) + (self._actor.sampling.max_tokens or 1) <= self._actor.room:
                said = (*running.conversation.messages, answer, *result.messages)
                running.conversation = replace(running.conversation, messages=said)
                seed = derive(running.seed, "turn", len(running.turns))
                self._ready.append(TurnRequest(key=place, prompt_ids=ids, seed=seed))
                return
            stop = StopReason.LENGTH
        completion = Completion(text=turn.completion.text, stop=stop, reward=result.reward)
        self._end(
            place,
            Trajectory(
                prompt=running.conversation, turns=tuple(running.turns), completion=completion, problem=result.problem
            ),
        )

    def _end(self, place: int, trajectory: Trajectory) -> None:
        self._running.pop(place, None)
        self.ended[place] = trajectory
        self._progress(1)


_FAILED = Completion(text="", stop=StopReason.ERROR)


def _reset(environment: Environment, prompt: Conversation, seed: int) -> Episode | StepResult:
    """A new episode, or a failure where the environment raises."""
    try:
        return environment.reset(prompt, seed=seed)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is that of one episode)
        return _failure(error)


def _step(episode: Episode, completion: Completion) -> StepResult:
    """What the environment does, or a failure where it raises or gives something else."""
    try:
        result = episode.step(completion)
    except Exception as error:  # noqa: BLE001 (as above)
        return _failure(error)
    if isinstance(result, StepResult):
        return result
    return StepResult(stop=StopReason.ERROR, problem=f"its step gave {type(result).__name__} and no StepResult")


def _failure(error: Exception) -> StepResult:
    return StepResult(stop=StopReason.ERROR, problem=f"{type(error).__name__}: {error}")
