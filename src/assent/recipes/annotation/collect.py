"""`assent collect`: sample completions from a policy, choose what to ask, put the questions into a studio's queue."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from assent.data.load import ReadOptions, load_comparisons, load_prompts
from assent.durable import sha256_file
from assent.errors import ConfigError, RunError, StoreError
from assent.feedback.exchange.imported_items import ImportedItem
from assent.feedback.records import NewItem
from assent.recipes.annotation.judged_items import FirstJudge, ask_judge
from assent.recipes.annotation.label_savings import keep_asked
from assent.recipes.annotation.questions import (
    AcquisitionSettings,
    new_items,
    prompt_key,
    questions,
    sample_pool,
    shuffled,
)
from assent.recipes.annotation.queue_refresh import predict, refresh, with_predictions
from assent.recipes.annotation.studio_client import StudioClient
from assent.recipes.run.inputs import model_folder, read_all, require_data
from assent.recipes.run.job_settings import JobSettings
from assent.recipes.run.models import LanguageModel, RewardModel, load_language_model, load_reward_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.seeds import derive
from assent.types import Comparison, Conversation
from assent.world.facts import build_world
from assent.world.prompts import make_prompts

WORLD = "world"


class AskingJob(JobSettings):
    """What is asked of people: `questions` of at most `prompts` prompts, in the studio's `project`.

    `overlap` people are asked about an item, up to `adaptive_overlap` where they do not agree.
    """

    project: str
    admin: str = "admin"
    prompts: int = Field(default=600, ge=2)
    questions: int = Field(default=300, ge=1)
    overlap: int = Field(default=1, ge=1)
    adaptive_overlap: int = Field(default=0, ge=0)
    acquisition: AcquisitionSettings = AcquisitionSettings()
    judge: FirstJudge = FirstJudge()

    @model_validator(mode="after")
    def _a_judge_compares_two(self) -> Self:
        if self.judge.model and self.acquisition.shown != 2:
            raise ValueError("judge.model: a judge compares two completions; set acquisition.shown=2")
        return self


class CollectJob(AskingJob):
    """`assent collect`; `batch` names its questions in the studio.

    With `refresh` nothing is sampled: the questions that wait are ordered anew by the reward model.
    """

    project: str = "preferences"
    batch: str = "collected"
    refresh: bool = False


def run_collect(request: Request, display: Display) -> None:
    """Fill the queue. With --reward, what that reward model would learn most from is asked first."""
    files, settings = request.files, request.settings(CollectJob)
    if settings.refresh:
        _refresh(request, settings, display)
        return
    require_data(files, otherwise=f", or write --data {WORLD} for the embedded world")
    path, reward_path = model_folder(files.model), request.text("reward")
    if files.data == (WORLD,):
        made = make_prompts(build_world(0), split="train", count=settings.prompts, seed=settings.seed)
        prompts = [prompt.conversation for prompt in made]
    else:
        reading, limit = settings.reading, settings.limit
        data = read_all(files.data, load_prompts, files, display, role="prompts", limit=limit, reading=reading)
        prompts = shuffled(data.examples, seed=settings.seed)[: settings.prompts]
    with StudioClient(request.text("studio") or "") as studio:
        studio.sign_in(settings.admin)
        project = open_project(studio, settings)
        reward, comparisons = None, list[Comparison]()
        if reward_path:
            reward = load_reward_model(model_folder(reward_path), machine=settings.machine)
            comparisons = comparisons_so_far(studio, project)
            display.say(f"{len(comparisons)} labelled pairs tell the reward model's heads apart")
        model = load_language_model(path, machine=settings.machine)
        collector = Collector(
            model=model, settings=settings, seed=settings.seed, display=display, reward=reward, comparisons=comparisons
        )
        collector.fill(studio, project, prompts, count=settings.questions, batch=settings.batch)


def _refresh(request: Request, settings: CollectJob, display: Display) -> None:
    path = request.text("reward")
    if not path:
        raise ConfigError("no reward model to order the questions by", where="refresh", now="Name one with --reward.")
    with StudioClient(request.text("studio") or "") as studio:
        studio.sign_in(settings.admin)
        project = studio.project(settings.project)
        reward = load_reward_model(model_folder(path), machine=settings.machine)
        comparisons = comparisons_so_far(studio, project)
        if not comparisons:
            raise RunError("there are no labels yet", where=settings.project, now="Refresh after the first answers.")
        seed = derive(settings.seed, "ask")
        count = refresh(studio, project, settings.acquisition, seed=seed, reward=reward, comparisons=comparisons)
        display.say(f"{count} questions have a new place, by {len(comparisons)} labelled pairs")
        if settings.adaptive_overlap > settings.overlap:
            predict(studio, project, reward)


def open_project(studio: StudioClient, settings: AskingJob) -> int:
    """The project that `settings` name, made if it is not there: pairs for two completions a question, else rankings.

    ConfigError where one is asked for that the project, which is there already, does not have.
    """
    mode = "pairwise" if settings.acquisition.shown == 2 else "ranking"
    limits = {"overlap": settings.overlap, "adaptive_overlap": settings.adaptive_overlap}
    project = studio.project(settings.project, {"mode": mode, **limits})
    kept = studio.get(f"/api/projects/{project}")["settings"]
    for setting in sorted(settings.model_fields_set & set(limits)):
        if kept[setting] != limits[setting]:
            differs = f"{setting}={kept[setting]} and not {limits[setting]}"
            now = "Change it on the project's page, leave the setting away, or name another project."
            what = f'the project "{settings.project}" is there already, with {differs}'
            raise ConfigError(what, where=setting, now=now)
    return project


def comparisons_so_far(studio: StudioClient, project: int) -> list[Comparison]:
    """All labels of a project as pairs with soft labels; an empty list if there are none yet."""
    with tempfile.TemporaryDirectory(prefix="assent-pairs-") as folder:
        path = Path(folder) / "pairs.jsonl"
        try:
            studio.export(project, path, "pairs")
        except StoreError:
            return []
        return list(load_comparisons(str(path), ReadOptions()).examples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Samples from one model and asks about what it wrote; `reward` and the `comparisons` so far choose what."""

    model: LanguageModel
    settings: AskingJob
    seed: int
    display: Display
    reward: RewardModel | None = None
    comparisons: Sequence[Comparison] = ()

    def fill(
        self,
        studio: StudioClient,
        project: int,
        prompts: Sequence[Conversation],
        *,
        count: int,
        batch: str,
        remember: Path | None = None,
    ) -> int:
        """Put up to `count` questions into the queue; returns how many were new. Asking the same again adds nothing.

        The file `remember` says afterwards what each question was asked for.
        """
        acquisition = self.settings.acquisition
        total = len(prompts) * acquisition.samples_per_prompt
        with self.display.stage("sample", total, unit="texts") as stage:
            pool = sample_pool(self.model, prompts, acquisition, seed=self.seed, progress=stage.counter)
        if not pool.prompts:
            raise RunError("every prompt got one and the same text", now="Raise acquisition.temperatures.")
        seed = derive(self.seed, "ask")
        asked = questions(pool, acquisition, seed=seed, reward=self.reward, comparisons=self.comparisons)
        weights = Path(self.model.path) / "model.safetensors"
        sha256 = sha256_file(weights) if weights.is_file() else ""
        items = new_items(pool, asked, count=count, batch=batch, model=self.model.path, sha256=sha256)
        if self.reward is not None:
            items = with_predictions(items, self.reward)
        if remember is not None:
            keep_asked(remember, {prompt_key(item.prompt): item.serves for item in items})
        added, known = studio.add_items(project, self._judged(items))
        already = f" ({known} were there already)" if known else ""
        self.display.say(f"{added} questions added to the studio's queue{already}")
        return added

    def _judged(self, items: Sequence[NewItem]) -> Sequence[ImportedItem]:
        """The items as people are to be asked: those that a judge settles come with its answer."""
        settings = self.settings
        if not settings.judge.model or not items:
            return [ImportedItem(item=item) for item in items]
        found = ask_judge(
            items, settings.judge, settings.machine, self.display, overlap=settings.overlap, seed=self.seed
        )
        denied = f", {found.denied} denied by the reward model" if found.denied else ""
        self.display.say(
            f"the judge settles {found.settled} of {len(items)} questions ({found.audited} of them go to people too)"
            f"{denied}"
        )
        return found.items
