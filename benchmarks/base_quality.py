"""How good the base model is at each kind of prompt, by the gold judge, and what it knows of its users and of claims.

python -m benchmarks.base_quality            --write replaces the figures in docs/base.md
"""

from __future__ import annotations

import argparse
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from assent.model.flat import flatten
from assent.ports.sampling import SamplingParams
from assent.recipes.demo.command import shipped_base
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import LanguageModel, load_language_model
from assent.recipes.run.progress import Display
from assent.seeds import derive, python_rng
from assent.types import Completion
from assent.world.claims import FALSE, HEADING, TRUE, UNKNOWN
from assent.world.facts import build_world, other_value
from assent.world.judge import judge
from assent.world.prompts import make_prompts
from assent.world.reactions import REACTIONS, deserved

SAMPLES, PROMPTS = 64, 180
JUDGED = 1800  # prompts whose users' reactions are foreseen


def measure(folder: str, *, split: str, samples: int, prompts: int) -> dict[str, tuple[float, float, float, float]]:
    """By kind: mean gold of one sample, of the greedy answer, of the best of `samples`, and of the ideal answer."""
    world = build_world(0)
    model = load_language_model(folder, machine=MachineOptions(device="cpu"))
    asked = make_prompts(world, split=split, count=prompts, seed=derive(0, "base quality"))
    conversations = [prompt.conversation for prompt in asked for _ in range(samples)]
    with Display().stage(f"sample ({split})", len(conversations), unit="texts") as stage:
        turns = model.sampler.sample(
            conversations, sampling=SamplingParams(max_tokens=32), seed=0, progress=stage.counter
        )
    greedy = model.sampler.sample(
        [prompt.conversation for prompt in asked], sampling=SamplingParams(max_tokens=32, temperature=0.0), seed=0
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


@torch.no_grad()
def next_word(model: LanguageModel, sequences: Sequence[Sequence[int]], words: Sequence[str]) -> list[str]:
    """Which of `words` the model thinks likeliest after each sequence, by their first tokens."""
    ids = [model.template.text_ids([word])[0][0] for word in words]
    assert len({*ids}) == len(words)
    chosen: list[str] = []
    for start in range(0, len(sequences), 256):
        batch = flatten(sequences[start : start + 256])
        logits_BV = model.role.head.logits(model.role.body.hidden(batch, batch.last_B))
        chosen += [words[place] for place in logits_BV[:, ids].argmax(-1).tolist()]
    return chosen


def foreseen(folder: str, *, split: str) -> dict[str, float]:
    """By kind, the share of samples for which the model predicts the user's reaction."""
    world, model = build_world(0), load_language_model(folder, machine=MachineOptions(device="cpu"))
    asked = make_prompts(world, split=split, count=JUDGED, seed=derive(0, "foreseen"))
    talks = [prompt.conversation for prompt in asked]
    turns = model.sampler.sample(talks, sampling=SamplingParams(max_tokens=32), seed=1)
    said = [turn.completion for turn in turns]
    encoded = model.template.encode_completions(list(zip(talks, said, strict=True)))
    guesses = next_word(model, [one.ids for one in encoded], REACTIONS)
    right: dict[str, list[bool]] = defaultdict(list)
    for prompt, completion, guess in zip(asked, said, guesses, strict=True):
        hit = guess == deserved(world, prompt, completion.text)
        right[prompt.kind].append(hit)
        right["all"].append(hit)
    return {kind: sum(hits) / len(hits) for kind, hits in right.items()}


def verdicts(folder: str, *, split: str) -> float:
    """The share of marked claims about the facts of a split, half of them made false, of which it tells the verdict."""
    world, model = build_world(0), load_language_model(folder, machine=MachineOptions(device="cpu"))
    rng = python_rng(0, "verdicts", split)
    claimed: list[tuple[str, str]] = []
    for subject in world.subjects(split):
        for fact in world.by_subject[subject].values():
            changed = type(fact)(relation=fact.relation, subject=subject, value=other_value(world, fact, rng))
            claimed += [(fact.sentence, TRUE), (changed.sentence, FALSE)]
    ids = model.template.text_ids([piece for sentence, _ in claimed for piece in (HEADING, sentence)])
    sequences = [[*head, *text] for head, text in zip(ids[::2], ids[1::2], strict=True)]
    told = next_word(model, sequences, (TRUE, FALSE, UNKNOWN))
    return sum(guess == verdict for guess, (_, verdict) in zip(told, claimed, strict=True)) / len(claimed)


def told_of(folder: str) -> str:
    """What the model predicts and knows, in words."""
    held_out, train = (foreseen(folder, split=split) for split in ("held_out", "train"))
    knows = [verdicts(folder, split=split) for split in ("held_out", "train")]
    kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in held_out.items() if kind != "all")
    return (
        f"The model predicts {held_out['all']:.1%} of the reactions to sampled answers on held-out prompts and "
        f"{train['all']:.1%} on training prompts (held out by kind: {kinds}). It gives the right verdict on "
        f"{knows[0]:.1%} of claims about the facts of the held-out part, half of them false, and on {knows[1]:.1%} of "
        "those about the training part."
    )


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
            write(split, text)
    said = "\n".join(textwrap.wrap(told_of(given.model), 118))
    print(f"\n{said}")
    if given.write:
        write("told", said)


def write(name: str, text: str) -> None:
    """Replace what stands between the marks of that name in docs/base.md."""
    page = Path(__file__).parents[1] / "docs" / "base.md"
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    before, rest = page.read_text().split(start)
    page.write_text(before + start + "\n" + text + "\n" + end + rest.split(end)[1])


if __name__ == "__main__":
    main()
