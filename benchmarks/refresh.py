"""How long a big queue takes to be ordered anew, and how long the next question takes at the page.

python -m benchmarks.refresh [--items 10000] [--completions 9] [--sampled 10000] [--requests 300]

A studio is served with a ranking project of `items` items, each with `completions` different completions of at most 32
tokens that the embedded world's base has written. With `--sampled` below `items` the completions of the first prompts
are given to the others as well; prompts always differ (beyond those of the world, by a number before them), so nothing
more is shared. Some items are judged. Then the
queue is refreshed as `assent collect --set refresh=true` does it, by a reward model on the base's trunk, and people ask
for their next item over HTTP, once while nothing else happens and once while another refresh runs. Seconds are of the
clock; processor seconds are of this process and those it started. What is sampled is kept under --folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from assent.feedback.records import Candidate, NewItem, PersonRole
from assent.feedback.store.store import FeedbackStore
from assent.ports.sampling import SamplingParams
from assent.recipes.annotation import questions as asking
from assent.recipes.annotation.collect import comparisons_so_far
from assent.recipes.annotation.questions import AcquisitionSettings
from assent.recipes.annotation.queue_refresh import refresh
from assent.recipes.annotation.studio_client import StudioClient
from assent.recipes.demo.command import shipped_base
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import RewardModel, load_language_model, new_reward_model
from assent.seeds import derive, numpy_rng
from assent.types import Conversation, StopReason
from assent.world.facts import build_world
from assent.world.prompts import make_prompts
from benchmarks.studio_load import HOST, free_port, serving

PASSWORD = "a long enough password"
MACHINE = MachineOptions(device="cpu", threads=1)
MOST_PROMPTS = 8000
Texts = list[tuple[str, str]]  # text, why it stopped
Stages = dict[str, tuple[float, float]]  # seconds of the clock, of the processor


def prompts_of(count: int) -> list[Conversation]:
    """Different prompts: of the world, and beyond what it holds the same ones with a number before them."""
    held = make_prompts(build_world(0), split="train", count=min(count, MOST_PROMPTS), seed=5)
    asked = [prompt.conversation.last_user_text for prompt in held]
    return [
        Conversation.of_user(asked[place] if place < len(asked) else f"{place}: {asked[place % len(asked)]}")
        for place in range(count)
    ]


def written(prompts: Sequence[Conversation], count: int, file: Path) -> list[Texts]:
    """`count` different completions of each prompt, from the file or sampled and kept there."""
    kept = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    if len(kept) < len(prompts) or len(kept[0]) < count:
        model = load_language_model(str(shipped_base()), machine=MACHINE)
        found: list[dict[str, str]] = [{} for _ in prompts]
        turn = 0
        while lacking := [place for place, texts in enumerate(found) if len(texts) < count]:
            sampling = SamplingParams(max_tokens=32, temperature=(0.7, 1.0, 1.3)[turn % 3] + turn // 18)
            turns = model.sampler.sample([prompts[p] for p in lacking], sampling=sampling, seed=derive(0, turn))
            for place, one in zip(lacking, turns, strict=True):
                if one.completion.text.strip():
                    found[place].setdefault(one.completion.text, str(one.completion.stop))
            turn += 1
        kept = [list(texts.items()) for texts in found]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(map(json.dumps, kept)) + "\n")
    return [[tuple(one) for one in texts[:count]] for texts in kept[: len(prompts)]]


def items_of(prompts: Sequence[Conversation], texts: Sequence[Texts]) -> Iterator[NewItem]:
    """An item a prompt."""
    for place, prompt in enumerate(prompts):
        candidates = tuple(Candidate(text=text, stop=StopReason(stop)) for text, stop in texts[place % len(texts)])
        yield NewItem(prompt=prompt, candidates=candidates, key=f"item-{place}")


def processor_s() -> float:
    """Processor seconds of this process and of its ended children."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


@contextmanager
def timed(stages: Stages, name: str) -> Iterator[None]:
    """Note what the block took."""
    wall, cpu = time.monotonic(), processor_s()
    yield
    stages[name] = (time.monotonic() - wall, processor_s() - cpu)


def watched(stages: Stages, name: str, function: Callable[..., object]) -> Callable[..., object]:
    """The function, timed."""

    def call(*arguments: object, **more: object) -> object:
        with timed(stages, name):
            return function(*arguments, **more)

    return call


def answer_some(studio: StudioClient, project: int, count: int) -> None:
    """Rank `count` items at random, so that there is judgement."""
    rng = numpy_rng(0, "answers")
    for place in range(count):
        (shown,), _ = studio.next_items(project)
        ranks = (1 + rng.permutation(len(shown.texts))).tolist()
        studio.answer(shown, "ranking", {"ranks": ranks}, key=f"judged.{place:06d}", time_taken_ms=5000)


def next_ms(studio: StudioClient, project: int, requests: int, name: str) -> list[float]:
    """Milliseconds until each next item has come over HTTP; every item is answered before the next is asked for."""
    waited = []
    for place in range(requests):
        start = time.perf_counter()
        (shown,), _ = studio.next_items(project)
        waited.append(1000 * (time.perf_counter() - start))
        ranks = list(range(1, 1 + len(shown.texts)))
        studio.answer(shown, "ranking", {"ranks": ranks}, key=f"{name}.{place:06d}", time_taken_ms=5000)
    return waited


def told(waited: Sequence[float]) -> str:
    """Percentiles."""
    p50, p95, p99 = np.percentile(waited, [50, 95, 99])
    return f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms of {len(waited)}"


@contextmanager
def studio_at(store: Path) -> Iterator[str]:
    """The address of a studio over a new store with an admin, in a process of its own."""
    for file in store.parent.glob(f"{store.name}*"):
        file.unlink()
    with FeedbackStore.open(str(store)) as fresh:
        fresh.create_person("admin", PersonRole.ADMIN, PASSWORD)
    port = free_port()
    with serving(str(store), port):
        yield f"http://{HOST}:{port}"


def refreshed(studio: StudioClient, project: int, reward: RewardModel, stages: Stages) -> None:
    """One refresh, with its stages timed."""
    read, choose = asking.features_of, asking.choose_questions
    asking.features_of = watched(stages, "features", read)  # type: ignore[assignment]
    asking.choose_questions = watched(stages, "choice", choose)  # type: ignore[assignment]
    try:
        with timed(stages, "refresh in all"):
            judged = comparisons_so_far(studio, project)
            refresh(studio, project, AcquisitionSettings(), seed=derive(0, "ask"), reward=reward, comparisons=judged)
    finally:
        asking.features_of, asking.choose_questions = read, choose


def main() -> None:
    """Build the queue, refresh it, ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--completions", type=int, default=9)
    parser.add_argument("--sampled", type=int, default=10_000, help="prompts that completions are sampled for")
    parser.add_argument("--judged", type=int, default=60, help="items judged before the refresh")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path("runs/refresh"))
    given = parser.parse_args()
    prompts = prompts_of(given.items)
    texts = written(prompts[: given.sampled], given.completions, given.folder / "completions.jsonl")
    reward = new_reward_model(str(shipped_base()), machine=MACHINE, seed=0)
    with studio_at(given.folder / "studio.db") as url, StudioClient(url) as admin, StudioClient(url) as person:
        admin.sign_in("admin", PASSWORD)
        project = admin.project("queue", {"mode": "ranking"})
        admin.add_items(project, items_of(prompts, texts))
        token = admin.post("/api/invitations", {"role": "annotator", "project_ids": [project]})["token"]
        person.join(str(token), "annotator", PASSWORD)
        answer_some(person, project, given.judged)
        stages: Stages = {}
        refreshed(admin, project, reward, stages)
        for name, (wall, cpu) in stages.items():
            print(f"{name}: {wall:.1f} s, {cpu:.1f} processor seconds", flush=True)
        print(f"next question: {told(next_ms(person, project, given.requests, 'quiet'))}", flush=True)
        again = threading.Thread(target=refreshed, args=(admin, project, reward, {}))
        again.start()
        print(f"  during a refresh: {told(next_ms(person, project, given.requests, 'busy'))}", flush=True)
        again.join()
    who = {"this process": resource.RUSAGE_SELF, "the largest it started": resource.RUSAGE_CHILDREN}
    for name, one in who.items():
        print(f"peak memory, {name}: {resource.getrusage(one).ru_maxrss / 1024:.0f} MiB")
    print(f"cores: {len(os.sched_getaffinity(0))}")


if __name__ == "__main__":
    main()
