"""A studio that simulated people of the embedded world have worked in for two days: for the operator's pages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from assent.feedback.records import (
    Answer,
    Candidate,
    EventKind,
    NewItem,
    Person,
    PersonRole,
    Presentation,
    Project,
    ProjectSettings,
    TaskMode,
)
from assent.feedback.store.store import FeedbackStore
from assent.seeds import numpy_rng, python_rng
from assent.types import Completion, Conversation
from assent.world.annotators import ANNOTATORS, rank
from assent.world.annotators import SimulatedAnnotator as Taste
from assent.world.behaviours import Behaviour, answer, applicable
from assent.world.facts import World, build_world
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt, make_prompts

NOW = 1_780_000_000.0
GOOD_SHARE = {"base": 0.15, "sft-v1": 0.45, "dpo-v2": 0.6, "ppo-v2": 0.75}
GUIDELINES = (
    "# What a good answer is\n\nHelpful, honest, harmless.\n\n"
    "- An answer that makes things up is worse than *I do not know*.\n",
    "# What a good answer is\n\nHelpful, honest, harmless, in that order unless harm is near.\n\n"
    "- An answer that makes things up is worse than *I do not know*.\n- Length is not quality: padding costs.\n\n"
    "> When in doubt, ask: which one would you rather have got?\n",
)


@dataclass
class Clock:
    """A time that stands still unless told to go on."""

    now: float = NOW

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now


@dataclass
class Worked:
    """The store's world: what lies behind each item, so that simulated people can judge it."""

    store: FeedbackStore
    clock: Clock
    world: World = field(default_factory=build_world)
    prompts: dict[str, WorldPrompt] = field(default_factory=dict)
    keys: int = 0

    def key(self) -> str:
        """A fresh idempotency key."""
        self.keys += 1
        return f"simulated-{self.keys:08d}"


def build(store: FeedbackStore, clock: Clock, *, items: int = 40, end: float = NOW) -> Worked:
    """Four projects with answers over the two days before `end`; the first has control items and two arms."""
    worked = Worked(store=store, clock=clock)
    clock.now = end - 60 * 86400
    tastes = {taste.name: taste for taste in ANNOTATORS}
    people = {name: store.create_person(name, PersonRole.ANNOTATOR, None) for name in tastes}
    store.create_person("visitor", PersonRole.VIEWER, None)
    team = [(person, tastes[name]) for name, person in people.items()]
    ranking = store.create_project(
        "Helpfulness, second round",
        ProjectSettings(
            overlap=2, control_share=0.25, repeat_share=0.2, cost_per_hour=24.0, instructions="Best first."
        ),
    )
    pairs = store.create_project("Safety pairs", ProjectSettings(mode=TaskMode.PAIRWISE, overlap=3))
    chat = store.create_project("Blind chat", ProjectSettings(mode=TaskMode.CHAT))
    pilot = store.create_project("Pilot", ProjectSettings(mode=TaskMode.RATING))
    store.create_project("Demonstrations, spring", ProjectSettings(mode=TaskMode.DEMONSTRATION))
    store.archive_project(pilot.id)
    for text in GUIDELINES:
        store.add_guideline(ranking.id, text, "careful")
    for project in (ranking, pairs, chat):
        store.set_members(project.id, [person.id for person in people.values()])
    store.add_items(ranking.id, _items(worked, items, "ranking", tuple(GOOD_SHARE), control_every=12))
    store.add_items(pairs.id, _items(worked, items // 2, "pairs", ("sft-v1", "ppo-v2")))
    store.add_items(chat.id, [NewItem(prompt=Conversation(messages=()), key=f"chat {i}") for i in range(items)])
    _work(worked, ranking, team, rounds=items // 2, end=end)
    _work(worked, pairs, team[:3], rounds=items // 3, end=end - 7 * 3600)
    _work(worked, chat, team[1:], rounds=items // 4, end=end - 20 * 3600)
    clock.now = end
    return worked


def _items(worked: Worked, count: int, batch: str, models: Sequence[str], *, control_every: int = 0) -> list[NewItem]:
    rng = python_rng(0, "items", batch)
    new = []
    for i, prompt in enumerate(make_prompts(worked.world, split="train", count=count, seed=len(batch))):
        key = f"{batch} {i}"
        worked.prompts[key] = prompt
        candidates = tuple(Candidate(text=_said(worked.world, prompt, model, rng), model=model) for model in models)
        known = _known_answer(worked.world, prompt, candidates) if control_every and i % control_every == 5 else None
        serves = "random" if i % 4 == 0 else "reward_model"
        new.append(
            NewItem(
                prompt=prompt.conversation, candidates=candidates, control_answer=known, serves=serves,
                topic=prompt.kind, sensitive=prompt.kind == "harm", key=key, batch=f"{batch} 1",
            )
        )  # fmt: skip
    return new


def _said(world: World, prompt: WorldPrompt, model: str, rng: random.Random) -> str:
    if rng.random() < GOOD_SHARE[model]:
        return answer(world, prompt, Behaviour.GOOD, rng)
    return answer(world, prompt, rng.choice(applicable(prompt)[1:]), rng)


def _known_answer(world: World, prompt: WorldPrompt, candidates: Sequence[Candidate]) -> dict[str, object]:
    scores = [judge(world, prompt, candidate.completion).overall for candidate in candidates]
    return {"ranks": [1 + sum(other > score for other in scores) for score in scores]}


def _work(worked: Worked, project: Project, team: list[tuple[Person, Taste]], *, rounds: int, end: float) -> None:
    rng = python_rng(1, "work", project.name)
    starts = sorted(end - rng.triangular(60, 44 * 3600, 3 * 3600) for _ in range(rounds))
    for start in starts:
        for person, taste in team:
            if rng.random() < 0.12:
                continue
            worked.clock.now = start + rng.random() * 60
            for presentation in worked.store.lease(project.id, person.id)[:1]:
                worked.clock.now += rng.lognormvariate(3.2, 0.5)
                given = _answer(worked, project, presentation, taste, rng)
                worked.store.submit(person.id, given).result()


def _answer(worked: Worked, project: Project, presentation: Presentation, taste: Taste, rng: random.Random) -> Answer:
    time_ms = int(1000 * rng.lognormvariate(2.8 if taste.name != "careless" else 1.7, 0.5))
    draw = rng.random()
    kind, payload = EventKind.SKIP, {"reason": rng.choice(["unclear", "too_long", "no_opinion"]), "note": ""}
    if 0.03 <= draw < 0.05:
        kind, payload = EventKind.FLAG, {"flag": "broken", "slot": None, "note": ""}
    elif draw >= 0.05:
        kind, payload = _judgement(worked, project, presentation, taste, rng)
    return Answer(key=worked.key(), presentation_id=presentation.id, kind=kind, payload=payload, time_taken_ms=time_ms)


def _judgement(
    worked: Worked, project: Project, presentation: Presentation, taste: Taste, rng: random.Random
) -> tuple[EventKind, dict[str, object]]:
    if project.settings.mode is TaskMode.CHAT:
        one, other = rng.sample(list(GOOD_SHARE), 2)
        better = rng.random() < 0.5 + 0.6 * (GOOD_SHARE[one] - GOOD_SHARE[other])
        choice = rng.choice(["tie", "both_bad"]) if rng.random() < 0.2 else "a" if better else "b"
        talk = [{"role": "user", "content": "Who keeps the mill?"}]
        payload = {"conversation": talk, "a": "The miller.", "b": "I do not know.", "choice": choice}
        return EventKind.CHAT_TURN, {**payload, "models": [one, other]}
    prompt = worked.prompts[presentation.item.new.key]
    shown = [Completion(text=candidate.text) for candidate in presentation.shown]
    ranks = rank(worked.world, taste, prompt, shown, numpy_rng(rng.randrange(2**40), "rank")).ranks
    if project.settings.mode is TaskMode.RANKING:
        return EventKind.RANKING, {"ranks": list(ranks)}
    return EventKind.PAIRWISE, {"strength": rng.choice([1, 2, 3]) * ((ranks[0] > ranks[1]) - (ranks[0] < ranks[1]))}
