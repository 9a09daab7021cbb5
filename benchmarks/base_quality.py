"""How good the base model is at each kind of prompt: one sample, and the best of 64, by the gold judge.

python -m benchmarks.base_quality            writes docs/base.md
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from assent.ports.sampling import Sampling
from assent.recipes.demo import shipped_base
from assent.recipes.models import MachineOptions, load_language_model
from assent.recipes.progress import Display
from assent.seeds import derive
from assent.types import Completion
from assent.world.facts import build_world
from assent.world.judge import judge
from assent.world.prompts import make_prompts

SAMPLES, PROMPTS = 64, 180


def measure(folder: str, *, split: str, samples: int, prompts: int) -> dict[str, tuple[float, float, float, float]]:
    """By kind: mean gold of one sample, of the greedy answer, of the best of `samples`, and of the ideal answer."""
    world = build_world(0)
    model = load_language_model(folder, machine=MachineOptions(device="cpu"))
    asked = make_prompts(world, split=split, count=prompts, seed=derive(0, "base quality"))
    conversations = [prompt.conversation for prompt in asked for _ in range(samples)]
    with Display().stage(f"sample ({split})", len(conversations), unit="texts") as stage:
        turns = model.sampler.sample(
            conversations, sampling=Sampling(max_tokens=32, batch_size=512), seed=0, progress=stage.counter
        )
    greedy = model.sampler.sample(
        [prompt.conversation for prompt in asked], sampling=Sampling(max_tokens=32, temperature=0.0), seed=0
    )
    rows: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    for place, prompt in enumerate(asked):
        drawn = [judge(world, prompt, t.completion).overall for t in turns[place * samples : (place + 1) * samples]]
        first = judge(world, prompt, greedy[place].completion).overall
        ideal = judge(world, prompt, Completion(text=prompt.ideal[0])).overall
        row = (sum(drawn) / samples, first, max(drawn), ideal)
        rows[prompt.kind].append(row)
        rows["all"].append(row)
    return {
        kind: tuple(sum(column) / len(column) for column in zip(*found, strict=True)) for kind, found in rows.items()
    }  # type: ignore[misc]


def table(found: dict[str, tuple[float, float, float, float]], samples: int) -> str:
    """As Markdown."""
    lines = [f"| kind of prompt | one sample | greedy | best of {samples} | ideal answer |", "|---|---|---|---|---|"]
    lines += [f"| {kind} | " + " | ".join(f"{value:.2f}" for value in row) + " |" for kind, row in found.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure and print; with --write, replace the tables in docs/base.md."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", default=str(shipped_base()))
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    for split in ("held_out", "train"):
        text = table(measure(given.model, split=split, samples=given.samples, prompts=given.prompts), given.samples)
        print(f"\n{split}\n\n{text}")
        if given.write:
            page = Path(__file__).parents[1] / "docs" / "base.md"
            start, end = f"<!-- {split} -->", f"<!-- end {split} -->"
            before, rest = page.read_text().split(start)
            page.write_text(before + start + "\n" + text + "\n" + end + rest.split(end)[1])


if __name__ == "__main__":
    main()
