"""The embedded world's simulated people at work in a real studio: invited, signed in, answering over HTTP."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence

from assent.errors import StoreError
from assent.feedback.records import conversation_from_json
from assent.recipes.annotation.studio_client import Shown, StudioClient, texts_of
from assent.seeds import derive, numpy_rng
from assent.types import Completion
from assent.world.annotators import ANNOTATORS, SimulatedAnnotator, rank
from assent.world.facts import World
from assent.world.prompts import WorldPrompt

_AHEAD = 3


def label_with_simulated_annotators(
    admin: StudioClient,
    project_id: int,
    world: World,
    prompts: Sequence[WorldPrompt],
    *,
    seed: int,
    people: Sequence[SimulatedAnnotator] = ANNOTATORS,
    on_answer: Callable[[int], None] = lambda _: None,
) -> int:
    """Let every simulated person label until nothing is left for them; returns the number of answers.

    Each is invited by the admin under a name of its own and answers rankings and pairs as its taste and noise say.
    `prompts` are all world prompts that may be asked about. Raises StoreError as the studio does.
    """
    about = {prompt.conversation.last_user_text: prompt for prompt in prompts}
    counts: list[int] = [0] * len(people)
    failures: list[StoreError] = []

    def work(place: int, person: SimulatedAnnotator, token: str) -> None:
        try:
            with StudioClient(admin.url) as client:
                client.join(token, f"{person.name}-{secrets.token_hex(3)}", secrets.token_urlsafe(16))
                counts[place] = _answer_all(client, project_id, world, person, about, seed, on_answer)
        except StoreError as error:
            failures.append(error)

    threads = []
    for place, person in enumerate(people):
        invitation = {"role": "annotator", "project_ids": [project_id]}
        token = str(admin.post("/api/invitations", invitation)["token"])
        threads.append(threading.Thread(target=work, args=(place, person, token), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts)


def _answer_all(
    client: StudioClient,
    project_id: int,
    world: World,
    person: SimulatedAnnotator,
    about: dict[str, WorldPrompt],
    seed: int,
    on_answer: Callable[[int], None],
) -> int:
    done = 0
    while True:
        items, _ = client.next_items(project_id, count=_AHEAD)
        if not items:
            return done
        for shown in items:
            prompt = about.get(texts_of(shown.prompt))
            kind, payload = _annotation(shown, prompt, world, person, seed)
            key = f"{person.name}.{derive(seed, person.name, shown.presentation_id)}"
            client.answer(shown, kind, payload, key=key, time_taken_ms=4000 + derive(seed, key) % 8000)
            done += 1
            on_answer(1)


def _annotation(
    shown: Shown, prompt: WorldPrompt | None, world: World, person: SimulatedAnnotator, seed: int
) -> tuple[str, dict[str, object]]:
    """A ranking or a pair with noise; what is not about the world is skipped."""
    if prompt is None or conversation_from_json([dict(m) for m in shown.prompt]) != prompt.conversation:
        return "skip", {"reason": "no_opinion", "note": "not about the world"}
    rng = numpy_rng(seed, person.name, texts_of(shown.prompt), *sorted(shown.texts))
    ranking = rank(world, person, prompt, [Completion(text=text) for text in shown.texts], rng)
    if shown.mode == "pairwise":
        first, second = ranking.ranks
        return "pairwise", {"strength": 0 if first == second else -2 if first < second else 2}
    return "ranking", {"ranks": list(ranking.ranks)}
