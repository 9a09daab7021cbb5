"""`assent constitution generate`: answers, critiques and revisions, as demonstrations and pairs to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from assent.constitution.constitution_file import load_constitution
from assent.constitution.revision import Chain, ChainEnd, RevisionPlan, critique_and_revise
from assent.data.load import load_demonstrations, load_prompts
from assent.errors import ConfigError, DataError
from assent.feedback.records import conversation_to_json, learned_to_json
from assent.recipes.constitution.runs import ConstitutionJob, asking, constitution_source, write_rows
from assent.recipes.constitution.show import constitution_path
from assent.recipes.run.answer_sampling import sampling_of
from assent.recipes.run.inputs import Read, read_all, require_data
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.runs.folder import check_place
from assent.seeds import python_rng
from assent.types import Demonstration, StopReason

_ENDS = {
    ChainEnd.ROUNDS: "went through all rounds",
    ChainEnd.NOTHING_FOUND: "ended because a critique found nothing",
    ChainEnd.LEFTOVER: "ended at a revision that only speaks about itself",
    ChainEnd.CUT: "ended at a revision longer than max_tokens",
    ChainEnd.REFUSED: "ended because the model refused a request",
}


class GenerateJob(ConstitutionJob):
    """`assent constitution generate`. `helpful_share` is the share of helpful data among the demonstrations.

    With `keep_unrevised`, first answers in which no critique found anything are demonstrations too.
    """

    rounds: int = Field(default=1, ge=1, le=16)
    helpful_share: float = Field(default=0.5, ge=0, lt=1)
    keep_unrevised: bool = False
    keep_cut: bool = False


def run_constitution_generate(request: Request, display: Display) -> Path:
    """Write chains.jsonl (all that was said), demonstrations.jsonl and pairs.jsonl into the output folder."""
    files, settings = request.files, request.settings(GenerateJob)
    require_data(files)
    check_place(files.out, resume=files.resume, overwrite=files.overwrite)
    helpful_files = tuple(request.own.get("helpful", ()))
    if not helpful_files and settings.helpful_share:
        what = "without helpful data, a model that learns only from harmless answers soon refuses everything"
        now = "Give demonstrations of help with --helpful FILE, or --set helpful_share=0 if you mix them in later."
        raise ConfigError(what, where="--helpful", now=now)
    path = constitution_path(request)
    constitution = load_constitution(path).tagged(settings.tags)
    reading, limit = settings.reading, settings.limit
    prompts = read_all(files.data, load_prompts, files, display, role="prompts", limit=limit, reading=reading)
    helpful = Read(examples=(), sources=())
    if helpful_files:
        helpful = read_all(helpful_files, load_demonstrations, files, display, role="helpful", reading=reading)
    plan = RevisionPlan(
        rounds=settings.rounds, few_shots=settings.few_shots, keep_cut=settings.keep_cut,
        sampling=sampling_of(settings), seed=settings.seed,
    )  # fmt: skip
    most_calls = len(prompts.examples) * (1 + 2 * settings.rounds)
    sources = (constitution_source(path), *prompts.sources, *helpful.sources)
    with asking(request, settings, display, sources) as opened:
        with display.stage("generate", most_calls, unit="calls") as stage:
            progress = opened.progress(stage)
            chains = critique_and_revise(opened.model, prompts.examples, constitution, plan, progress=progress)
        _write(files.out, chains, helpful.examples, settings, display)
        opened.run.set_status("finished")
    display.say(f"next: assent sft --model MODEL --data {files.out / 'demonstrations.jsonl'} --out ...")
    return files.out


def _write(
    out: Path, chains: Sequence[Chain], helpful: Sequence[Demonstration], settings: GenerateJob, display: Display
) -> None:
    revised = [(chain, text) for chain in chains if (text := _last(chain, settings)) is not None]
    pairs = [
        (chain, text) for chain, text in revised
        if text != chain.first.text and (settings.keep_cut or chain.first.stop is StopReason.END)
    ]  # fmt: skip
    _say(chains, len(revised), len(pairs), display)
    write_rows(out / "chains.jsonl", map(_chain_row, chains))
    if not revised:
        reasons = Counter(chain.problem for chain in chains if chain.problem)
        told = f": {reasons.most_common(1)[0][0]}" if reasons else ""
        now = "chains.jsonl shows what the model wrote. Try another model, or more max_tokens."
        raise DataError(f"no revision can be used{told}", where=str(out), now=now)
    mixed = _mixed([_demonstration(chain, text) for chain, text in revised], helpful, settings, display)
    write_rows(out / "demonstrations.jsonl", mixed)
    write_rows(out / "pairs.jsonl", (_pair(chain, text) for chain, text in pairs))


def _last(chain: Chain, settings: GenerateJob) -> str | None:
    """The text to imitate: the last revision, or a first answer in which nothing was found, where that is wanted."""
    if chain.revised is None and settings.keep_unrevised and chain.end is ChainEnd.NOTHING_FOUND:
        return chain.first.text
    return chain.revised


def _say(chains: Sequence[Chain], demonstrations: int, pairs: int, display: Display) -> None:
    ends = Counter(chain.end for chain in chains)
    stripped = sum(bool(one.stripped) for chain in chains for one in chain.rounds)
    display.say(
        f"{len(chains)} chains: " + ", ".join(f"{ends[end]} {told}" for end, told in _ENDS.items() if ends[end])
    )
    if stripped:
        display.say(f'  {stripped} revisions lost an introduction or a remark, such as "Here is the revised answer:"')
    by_principle: dict[str, Counter[bool]] = {}
    for chain in chains:
        for one in chain.rounds:
            by_principle.setdefault(one.principle, Counter())[one.revision is not None] += 1
    for name, counts in sorted(by_principle.items()):
        display.say(f"  {name}: {counts.total()} critiques, {counts[True]} usable revisions")
    display.say(f"{demonstrations} revised demonstrations, {pairs} pairs")


def _mixed(
    revised: Sequence[dict[str, Any]], helpful: Sequence[Demonstration], settings: GenerateJob, display: Display
) -> list[dict[str, Any]]:
    """Both kinds in a drawn order, so that helpful rows have their share as far as there are enough of them."""
    share, rng = settings.helpful_share, python_rng(settings.seed, "helpful")
    wanted = round(len(revised) * share / (1 - share))
    taken = rng.sample(list(helpful), min(wanted, len(helpful)))
    rows = [*revised, *({"messages": learned_to_json(one.conversation), "source": "helpful"} for one in taken)]
    rng.shuffle(rows)
    display.say(f"{len(rows)} demonstrations, {len(taken) / len(rows):.0%} of them helpful data")
    if len(taken) < wanted:
        display.say(f"  helpful_share={share:g} wants {wanted} helpful rows; there are {len(helpful)}")
    return rows


def _demonstration(chain: Chain, text: str) -> dict[str, Any]:
    return {"messages": conversation_to_json(chain.prompt.then(text)), "source": "constitution"}


def _pair(chain: Chain, text: str) -> dict[str, Any]:
    prompt = conversation_to_json(chain.prompt)
    return {
        "prompt": prompt, "chosen": [{"role": "assistant", "content": text}],
        "rejected": [{"role": "assistant", "content": chain.first.text}],
    }  # fmt: skip


def _chain_row(chain: Chain) -> dict[str, Any]:
    return {**asdict(chain), "prompt": conversation_to_json(chain.prompt)}
