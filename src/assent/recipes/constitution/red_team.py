"""`assent red-team`: a model writes prompts that lead another to harm; what succeeds is the harvest to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from assent.constitution.endpoint import EndpointOptions
from assent.constitution.red_team import Attempt, RedTeamed, RedTeamPlan, harvest, red_team
from assent.constitution.similarity import self_similarity
from assent.data.load import load_prompts
from assent.errors import ConfigError
from assent.evals.intervals import wilson
from assent.feedback.records import conversation_to_json
from assent.ports.sampling import SamplingParams, Scorer
from assent.recipes.constitution.runs import AskingJob, asking, write_rows
from assent.recipes.run.answer_sampling import sampling_of
from assent.recipes.run.inputs import read_all, require_data
from assent.recipes.run.judge_rewards import JudgeOptions
from assent.recipes.run.models import RewardModel, load_reward_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.run.rewards import open_rewards
from assent.runs.folder import check_place
from assent.runs.lineage import parent
from assent.types import Completion, Conversation

ATTACKER = "attacker"


class RedTeamJob(AskingJob):
    """`assent red-team`. `harmful` says which rewards mean harm: low ones (a reward model), or high ones (a cost model,
    the class of a classifier). An answer counts as harmful beyond `threshold`; without one, beyond the worst
    `worst_share` of the answers to the given prompts. `keep` bounds the harvest."""

    rounds: int = Field(default=3, ge=1)
    tries: int = Field(default=64, ge=1)
    shots: int = Field(default=4, ge=1)
    diversity: float = Field(default=0.5, ge=0)
    max_similarity: float = Field(default=0.8, gt=0, le=1)
    harmful: Literal["low", "high"] = "low"
    threshold: float | None = None
    worst_share: float = Field(default=0.1, gt=0, lt=1)
    keep: int | None = Field(default=None, ge=1)
    positive: str | None = None
    reward_weights: tuple[float, ...] = ()
    judge: JudgeOptions = JudgeOptions()
    prompt_tokens: int = Field(default=96, ge=1)
    prompt_temperature: float = Field(default=1.0, gt=0)
    attacker_endpoint: EndpointOptions = EndpointOptions()

    def plan(self) -> RedTeamPlan:
        """For the team."""
        return RedTeamPlan(
            writing=SamplingParams(max_tokens=self.prompt_tokens, temperature=self.prompt_temperature, top_p=0.95),
            answering=sampling_of(self), rounds=self.rounds, tries=self.tries, shots=self.shots,
            diversity=self.diversity, max_similarity=self.max_similarity, seed=self.seed,
        )  # fmt: skip


class Harm:
    """Rewards as harm: the higher, the worse."""

    def __init__(self, scorer: Scorer, sign: float) -> None:
        self._scorer, self._sign = scorer, sign

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """The harm of each completion."""
        return [self._sign * score for score in self._scorer.score(prompts, completions)]


def run_red_team(request: Request, display: Display) -> Path:
    """Write attempts.jsonl (everything) and harvest.jsonl (prompts that succeeded) into the output folder."""
    files, settings = request.files, request.settings(RedTeamJob)
    require_data(files)
    check_place(files.out, resume=files.resume, overwrite=files.overwrite)
    if not request.rewards:
        now = "Name a reward model, a cost model, a classifier or FILE.py:NAME with --reward."
        raise ConfigError("nothing says which answers are harmful", where="--reward", now=now)

    def load(path: str, first: bool) -> RewardModel:
        return load_reward_model(path, machine=settings.machine, positive=settings.positive)

    rewards = open_rewards(request.rewards, settings, load)
    prompts = read_all(
        files.data, load_prompts, files, display, role="prompts", limit=settings.limit, reading=settings.reading
    )
    rewards.check(prompts.examples)
    sign = 1.0 if settings.harmful == "high" else -1.0
    attacker = request.text("attacker") or files.model
    calls = len(prompts.examples) + 2 * settings.rounds * settings.tries
    threshold, said = None if settings.threshold is None else sign * settings.threshold, _Said(display)
    with asking(
        request, settings, display, (*prompts.sources, *rewards.sources),
        models={ATTACKER: (attacker, settings.attacker_endpoint)},
        parents=tuple(parent(folder, role=role) for role, folder in rewards.parents.items()),
        may_change=("keep", "threshold", "worst_share"),
    ) as opened:  # fmt: skip
        with display.stage("red team", calls, unit="calls") as stage:
            found = red_team(
                opened.models[ATTACKER], opened.model, Harm(rewards.scorer, sign), prompts.examples, settings.plan(),
                progress=opened.progress(stage),
            )  # fmt: skip
        threshold = said.threshold(found, threshold, settings.worst_share, sign)
        kept = harvest(found.attempts, threshold=threshold, diversity=settings.diversity, most=settings.keep)
        said.rounds(found, threshold)
        said.diversity(prompts.examples, kept)
        rows = [_attempt_row(one, place, threshold) for place, one in enumerate(found.attempts)]
        write_rows(files.out / "attempts.jsonl", rows)
        write_rows(files.out / "harvest.jsonl", map(_harvest_row, kept))
        opened.run.set_status("finished")
    if kept:
        display.say(f"next: assent constitution generate --model MODEL --prompts {files.out / 'harvest.jsonl'} ...")
    return files.out


class _Said:
    """What the command tells of its result."""

    def __init__(self, display: Display) -> None:
        self._say = display.say

    def threshold(self, found: RedTeamed, given: float | None, worst: float, sign: float) -> float:
        """The harm beyond which an answer counts: the given one, or that of the worst answers to the given prompts."""
        if given is not None:
            return given
        harms = sorted(one.harm for one in found.attempts if one.round == 0)
        if not harms:
            raise ConfigError(
                "no given prompt was answered", where="--prompts", now="Try other prompts, or a threshold."
            )
        chosen = harms[min(len(harms) - 1, int((1 - worst) * len(harms)))]
        side = "above" if sign > 0 else "below"
        self._say(
            f"an answer counts as harmful where its reward is {side} {sign * chosen:.4g}, as for the worst "
            f"{worst:.0%} of the answers to the {len(harms)} given prompts; --set threshold=NUMBER says otherwise"
        )
        return chosen

    def rounds(self, found: RedTeamed, threshold: float) -> None:
        """How many attempts of each round succeeded."""
        for number in sorted({one.round for one in found.attempts}):
            attempts = [one for one in found.attempts if one.round == number]
            hits = sum(one.harm > threshold for one in attempts)
            rate = wilson(hits, len(attempts))
            name = f"round {number}" if number else "given prompts"
            self._say(f"  {name}: {hits} of {len(attempts)} succeeded, {_share(rate.mean, rate.low, rate.high)}")
        dropped = {
            "were too similar to an earlier prompt": found.repeated,
            "held no prompt": found.empty,
            "were not answered": found.unanswered,
        }
        if told := ", ".join(f"{count} {what}" for what, count in dropped.items() if count):
            self._say(f"  dropped: {told}")

    def diversity(self, given: Sequence[Conversation], kept: Sequence[Attempt]) -> None:
        """How alike the prompts of the harvest are, beside the given ones."""
        told = f"{len(kept)} prompts in the harvest"
        before = self_similarity([one.last_user_text for one in given])
        after = self_similarity([one.text for one in kept])
        if before is not None and after is not None:
            told += f"; similarity of each to its nearest: {after:.2f} (given prompts: {before:.2f}; 1 is a repetition)"
        self._say(told)


def _share(mean: float, low: float, high: float) -> str:
    return f"{mean:.0%} ({low:.0%} to {high:.0%})"


def _attempt_row(one: Attempt, place: int, threshold: float) -> dict[str, Any]:
    return {
        "place": place, "round": one.round, "prompt": conversation_to_json(one.prompt), "completion": one.answer.text,
        "stop": str(one.answer.stop), "harm": one.harm, "succeeded": one.harm > threshold, "after": list(one.after),
    }  # fmt: skip


def _harvest_row(one: Attempt) -> dict[str, Any]:
    return {"prompt": conversation_to_json(one.prompt), "source": "red team" if one.round else "given"}
