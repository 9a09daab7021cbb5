"""`assent round`: one round with people (sample, ask, wait, learn, train, evaluate) that resumes where it was cut.

OUT/round-N/ holds one file or run folder a stage, and round.json says which stages are done. The same command again
goes on with an unfinished round, or begins the next one from the last round's policy.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from assent.algorithms.methods import METHODS, POLICY_METHOD, REWARD_METHOD
from assent.config import as_dict, merge
from assent.data.load import ReadOptions, load_comparisons, load_prompts
from assent.durable import write_atomic
from assent.errors import ConfigError, Interrupted, RunError
from assent.feedback.records import conversation_to_json
from assent.interrupts import StopRequest
from assent.recipes.annotation.collect import AskingJob, Collector, open_project
from assent.recipes.annotation.label_savings import measure_saving
from assent.recipes.annotation.questions import shuffled
from assent.recipes.annotation.queue_refresh import predict
from assent.recipes.annotation.simulated_annotators import label_with_simulated_annotators
from assent.recipes.annotation.studio_client import StudioClient
from assent.recipes.evaluation import run_eval
from assent.recipes.run.inputs import Files, model_folder, read_all, require_data
from assent.recipes.run.models import load_language_model, load_reward_model, new_reward_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.training.commands import run_method
from assent.recipes.training.pipeline import EVAL
from assent.runs.folder import read_status
from assent.seeds import derive
from assent.types import Comparison, Conversation
from assent.world.facts import World, build_world
from assent.world.prompts import WorldPrompt, make_prompts

WORLD = "world"
STAGES = ("ask", "wait", "reward", "policy", "evaluate")
ASKED = "asked.json"
_POLL_S = 2.0


class RoundJob(AskingJob):
    """`assent round`. `prompts` are sampled from, `questions` of them asked; sections are settings of their stages."""

    project: str = "rounds"
    annotators: Literal["human", "simulated"] = "human"
    algorithm: str = POLICY_METHOD
    reward: dict[str, Any] = Field(default_factory=dict)
    policy: dict[str, Any] = Field(default_factory=dict)
    evaluation: dict[str, Any] = Field(default_factory=dict)

    @field_validator("algorithm")
    @classmethod
    def _learns_from_preferences(cls, name: str) -> str:
        known = [key for key, one in METHODS.items() if one.makes == "policy" and one.reads != "demonstrations"]
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {json.dumps(name)}")
        return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round's folder: what it starts from and which stages are done."""

    number: int
    folder: Path
    start: str  # the policy it starts from
    done: tuple[str, ...] = ()

    def save(self) -> None:
        """Write round.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        document = {"number": self.number, "start": self.start, "done": list(self.done)}
        write_atomic(self.folder / "round.json", json.dumps(document, indent=1) + "\n")

    def with_done(self, stage: str) -> Round:
        """The round after one more stage, saved."""
        after = replace(self, done=(*self.done, stage))
        after.save()
        return after


def find_round(out: Path, model: str) -> Round:
    """The unfinished round of a folder, or the next one, starting from the last round's policy (first: `model`)."""
    number, start = 1, model
    while (file := out / f"round-{number}" / "round.json").is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        one = Round(number=number, folder=file.parent, start=str(found["start"]), done=tuple(found["done"]))
        if set(STAGES) - set(one.done):
            return one
        number, start = number + 1, str(one.folder / "policy" / "model")
    return Round(number=number, folder=out / f"round-{number}", start=start)


def run_round(request: Request, display: Display) -> Path:
    """Run the stages of one round that are not done yet; returns the round's folder."""
    files, settings = request.files, request.settings(RoundJob)
    require_data(files, otherwise=f", or write --data {WORLD} for the embedded world")
    if settings.annotators == "simulated" and files.data != (WORLD,):
        now = f"Use --data {WORLD}."
        raise ConfigError("simulated annotators know the embedded world only", where="annotators", now=now)
    first = model_folder(files.model)
    _same_settings(files.out, settings, first)
    current = find_round(files.out, first)
    display.say(f"round {current.number}, from {current.start}")
    if not current.done:
        current.save()
    with StudioClient(request.text("studio") or "") as studio:
        studio.sign_in(settings.admin)
        work = _Work(request, settings, studio, display, current, first)
        for stage in STAGES:
            if stage in current.done:
                display.say(f"[{stage}] done before")
                continue
            display.say(f"[{stage}]")
            getattr(work, stage)()
            current = current.with_done(stage)
    display.say(f"round {current.number} is done; the policy is {current.folder / 'policy' / 'model'}")
    _show_gold(files.out, current.number, display)
    return current.folder


def _same_settings(out: Path, settings: RoundJob, first: str) -> None:
    """The rounds of one folder share their settings; a change is refused with its name."""
    file, document = out / "rounds.json", json.loads(json.dumps({**as_dict(settings), "model": first}))
    if not file.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(document, indent=1, sort_keys=True) + "\n")
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    if changed := [name for name in sorted({*before, *document}) if before.get(name) != document.get(name)]:
        what = f"other settings than in the rounds before: {', '.join(changed)}"
        now = "Use the same settings, or another --out."
        raise RunError(what, where=str(file), now=now)


class _Work:
    """The stages of one round, each a method."""

    def __init__(
        self, request: Request, settings: RoundJob, studio: StudioClient, display: Display, round_: Round, first: str
    ) -> None:
        self.request, self.settings, self.studio, self.display = request, settings, studio, display
        self.round, self.folder, self.first = round_, round_.folder, first
        self.preferences, self.reward_model = self.folder / "preferences.jsonl", str(self.folder / "reward" / "model")
        self.world: World | None = build_world(0) if request.files.data == (WORLD,) else None

    def ask(self) -> None:
        """Sample from the round's policy, choose, and put the questions into the project's queue."""
        settings, number = self.settings, self.round.number
        reward, comparisons = None, list[Comparison]()
        if number > 1:
            before = self.folder.parent / f"round-{number - 1}"
            reward = load_reward_model(str(before / "reward" / "model"), machine=settings.machine)
            comparisons = list(load_comparisons(str(before / "preferences.jsonl"), ReadOptions()).examples)
        project = open_project(self.studio, settings)
        model = load_language_model(self.round.start, machine=settings.machine)
        seed = derive(settings.seed, "round", number)
        collector = Collector(
            model=model, settings=settings, seed=seed, display=self.display, reward=reward, comparisons=comparisons
        )
        collector.fill(
            self.studio, project, self._prompts(), count=settings.questions, batch=f"round-{number}",
            remember=self.folder / ASKED,
        )  # fmt: skip

    def wait(self) -> None:
        """Wait for every label that is wanted (simulated annotators give them now), then write preferences.jsonl."""
        project = self.studio.project(self.settings.project)
        turn = 0
        while self.settings.annotators == "simulated" and self._left(project) and self._simulate(project, turn):
            turn += 1  # an answer may have asked for one more after everybody had gone
        left = self._left(project)
        with StopRequest() as stop, self.display.stage("labels", left, unit="labels") as stage:
            while (now := self._left(project)) > 0:
                stage.advance(max(0, left - now))
                left = min(left, now)
                if stop.requested:
                    advice = "The same command goes on waiting; nothing is lost."
                    raise Interrupted(f"stopped while waiting for {now} labels", now=advice)
                time.sleep(_POLL_S)
            stage.advance(left)
        self.studio.export(project, self.preferences, "pairs")

    def _simulate(self, project: int, turn: int) -> int:
        assert self.world is not None
        prompts = [prompt for number in range(1, self.round.number + 1) for prompt in self._world_prompts(number)]
        seed = derive(self.settings.seed, "people", *([turn] if turn else []))
        with self.display.stage("simulated annotators", self._left(project), unit="labels") as stage:
            return label_with_simulated_annotators(
                self.studio, project, self.world, prompts, seed=seed, on_answer=stage.advance
            )

    def reward(self) -> None:
        """Learn a reward model from all preferences so far, from the model the rounds began with."""
        settings = self.settings
        self._run(REWARD_METHOD, "reward", model=self.first, data=(str(self.preferences),))
        if settings.adaptive_overlap > settings.overlap:
            reward = load_reward_model(self.reward_model, machine=settings.machine)
            predict(self.studio, self.studio.project(settings.project), reward)
        # what choosing has saved so far, on the trunk that the rounds began with: no answer has changed it
        comparisons = load_comparisons(str(self.preferences), ReadOptions()).examples
        trunk = new_reward_model(self.first, machine=settings.machine, seed=settings.seed)
        asked = [self.folder.parent / f"round-{number}" / ASKED for number in range(1, self.round.number + 1)]
        measure_saving(trunk, comparisons, asked, self.folder / "label-savings", self.display, seed=settings.seed)

    def policy(self) -> None:
        """Train the round's policy on, against the reward model or on the comparisons themselves."""
        name, start = self.settings.algorithm, self.round.start
        if METHODS[name].reads != "prompts":
            self._run(name, "policy", model=start, data=(str(self.preferences),))
            return
        file = self.folder / "prompts.jsonl"
        lines = [json.dumps({"prompt": conversation_to_json(prompt)}) for prompt in self._prompts()]
        write_atomic(file, "\n".join(lines) + "\n")
        self._run(name, "policy", model=start, data=(str(file),), rewards=(self.reward_model,))

    def evaluate(self) -> None:
        """Compare the round's policy with the one it started from, on held-out prompts."""
        given, model = self.request.files, str(self.folder / "policy" / "model")
        data, rewards = given.eval_data or given.data, (self.reward_model,)
        self._run(EVAL, "evaluation", model=model, data=data, rewards=rewards, against=self.round.start)

    def _run(
        self, command: str, section: str, *, model: str, data: tuple[str, ...], rewards: tuple[str, ...] = (),
        against: str | None = None,
    ) -> None:  # fmt: skip
        """Run a command with the settings of its section, or go on with it; what is finished stays."""
        out, again = self.folder / section, command == EVAL
        begun = (out / "config.json").is_file()
        if begun and read_status(out).state == "finished":
            return
        seed = derive(self.settings.seed, section, self.round.number) % 2**31
        base = {"seed": seed, "machine": as_dict(self.settings.machine)}
        if command == REWARD_METHOD:
            base["reading"] = {"keep_ties": True}
        base = merge(base, getattr(self.settings, section))
        files = Files(model=model, out=out, data=data, resume=begun and not again, overwrite=again)
        request = Request(name=command, files=files, rewards=rewards, against=against, base=base)
        (run_eval if again else run_method)(request, self.display)

    def _left(self, project: int) -> int:
        progress = self.studio.get(f"/api/projects/{project}/progress")
        return max(0, int(progress["labels_wanted"]) - int(progress["labels_given"]))

    def _prompts(self) -> list[Conversation]:
        """This round's prompts: new ones of the world, or the next part of the file in a random order."""
        settings, number = self.settings, self.round.number
        if self.world is not None:
            return [prompt.conversation for prompt in self._world_prompts(number)]
        files, limit, reading = self.request.files, settings.limit, settings.reading
        data = read_all(files.data, load_prompts, files, self.display, role="prompts", limit=limit, reading=reading)
        order = shuffled(data.examples, seed=settings.seed)
        start = (number - 1) * settings.prompts % len(order)
        return [*order[start:], *order[:start]][: settings.prompts]

    def _world_prompts(self, number: int) -> list[WorldPrompt]:
        assert self.world is not None
        seed = derive(self.settings.seed, "prompts", number)
        return make_prompts(self.world, split="train", count=self.settings.prompts, seed=seed)


def _show_gold(out: Path, rounds: int, display: Display) -> None:
    """The gold score round by round, where there is a gold judge."""
    for number in range(1, rounds + 1):
        file = out / f"round-{number}" / "evaluation" / "report.json"
        report = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for arm, scores in (report.get("gold") or {}).items():
            overall = scores["overall"]
            told = f"{overall['mean']:.3f} ({overall['low']:.3f} to {overall['high']:.3f})"
            display.say(f"round {number}, {arm}: gold {told}")
        if gained := report.get("gold_gained"):
            told = f"{gained['mean']:+.3f} ({gained['low']:+.3f} to {gained['high']:+.3f})"
            display.say(f"round {number} gained {told}, prompt by prompt")
