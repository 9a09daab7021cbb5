"""`assent constitution judge`: soft labels of a model for pairs, with how far it can be trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from assent.constitution.comparison import JudgedPair, JudgingPlan, PrincipleJudge
from assent.constitution.constitution_file import load_constitution
from assent.constitution.judge_quality import JudgeQuality, judge_quality
from assent.data.load import load_comparisons
from assent.durable import sha256_file, write_atomic
from assent.errors import DataError, RunError
from assent.feedback.quality.resampling import Estimate
from assent.feedback.records import conversation_to_json
from assent.recipes.annotation.feedback_reading import ImportJob, read_import
from assent.recipes.constitution.runs import ConstitutionJob, asking, constitution_source, write_rows
from assent.recipes.constitution.show import constitution_path
from assent.recipes.run.inputs import Files, Read, read_all, require_data
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.runs.folder import check_place
from assent.runs.lineage import DataSource
from assent.types import Completion, Conversation


class JudgeJob(ConstitutionJob):
    """`assent constitution judge`. `principles` are drawn for each pair and averaged; `max_position_bias` is the
    largest share of verdicts that may prefer the same place in both orders. `max_tokens` is for thoughts."""

    few_shots: int = Field(default=0, ge=0)
    principles: int = Field(default=1, ge=1)
    thoughts: bool = False
    clamp: tuple[float, float] = (0.4, 0.6)
    votes: int = Field(default=5, ge=1)
    least_mass: float = Field(default=0.1, ge=0, le=1)
    max_position_bias: float = Field(default=0.4, ge=0, le=1)

    @model_validator(mode="after")
    def _clamp_is_around_a_half(self) -> Self:
        low, high = self.clamp
        if not 0 <= low <= 0.5 <= high <= 1:
            raise ValueError("clamp: expected two numbers around 0.5, such as [0.4, 0.6]")
        return self

    def plan(self) -> JudgingPlan:
        """For the judge."""
        return JudgingPlan(
            principles=self.principles, few_shots=self.few_shots, thoughts=self.thoughts, clamp=self.clamp,
            votes=self.votes, least_mass=self.least_mass, thought_tokens=self.max_tokens, seed=self.seed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two answers, and P(the first is better) as the file has it (None: it has no label)."""

    prompt: Conversation
    first: Completion
    second: Completion
    label: float | None = None
    group: str = ""


def run_constitution_judge(request: Request, display: Display) -> Path:
    """Write labels.jsonl (to train on), items.jsonl (for a feedback store) and quality.json into the output folder."""
    files, settings = request.files, request.settings(JudgeJob)
    require_data(files)
    check_place(files.out, resume=files.resume, overwrite=files.overwrite)
    path = constitution_path(request)
    constitution = load_constitution(path).tagged(settings.tags)
    constitution.require_comparisons(str(path))
    data = _pairs(files, settings, display)
    pairs: Sequence[_Pair] = data.examples
    calls = len(pairs) * min(settings.principles, len(constitution.principles)) * (4 if settings.thoughts else 2)
    sources = (constitution_source(path), *data.sources)
    with asking(request, settings, display, sources, may_change=("max_position_bias",)) as opened:
        judge = PrincipleJudge(opened.model, constitution, settings.plan())
        with display.stage("judge", calls, unit="calls") as stage:
            judged = judge.judge(
                [one.prompt for one in pairs], [one.first for one in pairs], [one.second for one in pairs],
                progress=opened.progress(stage),
            )  # fmt: skip
        quality = judge_quality(judged, [one.label for one in pairs], seed=settings.seed)
        write_atomic(files.out / "quality.json", json.dumps(asdict(quality), indent=2) + "\n")
        _say(quality, display)
        _refuse_what_cannot_be_trusted(quality, settings, files)
        answered = [(pair, one) for pair, one in zip(pairs, judged, strict=True) if one.probability is not None]
        write_rows(files.out / "labels.jsonl", (_label_row(*one, opened.model_name) for one in answered))
        write_rows(files.out / "items.jsonl", (_item_row(*one, opened.model_name) for one in answered))
        opened.run.set_status("finished")
    display.say(f"labels: {files.out / 'labels.jsonl'}; for a store: assent feedback import --data "
                f"{files.out / 'items.jsonl'}")  # fmt: skip
    return files.out


def _pairs(files: Files, settings: JudgeJob, display: Display) -> Read:
    """Labelled pairs; from files without labels, all pairs of a prompt's completions."""
    try:
        read = read_all(
            files.data, load_comparisons, files, display, role="pairs", limit=settings.limit, reading=settings.reading
        )
    except DataError as error:
        try:
            return _unlabelled(files, settings, display)
        except DataError:
            raise error from None
    found = tuple(
        _Pair(prompt=one.prompt, first=one.chosen, second=one.rejected, label=one.probability, group=one.group)
        for one in read.examples
    )
    return Read(examples=found, sources=read.sources)


def _unlabelled(files: Files, settings: JudgeJob, display: Display) -> Read:
    pairs: list[_Pair] = []
    sources = []
    reading = ImportJob(answers="drop", reading=settings.reading)
    for path in map(Path, files.data):
        imported = read_import(path, reading, format_name=files.format, skip=files.on_bad_row == "skip").imported
        found = [
            _Pair(prompt=one.item.prompt, first=first.completion, second=second.completion, group=one.item.key)
            for one in imported
            for first, second in combinations(one.item.candidates, 2)
        ][: settings.limit]
        display.say(f"pairs: {len(found)} from {path} (without labels)")
        sources.append(DataSource(role="pairs", name=path.name, sha256=sha256_file(path), rows=len(found)))
        pairs += found
    if not pairs:
        raise DataError("no prompt has two completions", where=str(files.data[0]))
    return Read(examples=tuple(pairs), sources=tuple(sources))


def _say(quality: JudgeQuality, display: Display) -> None:
    display.say(f"{quality.pairs} pairs, {quality.pairs - quality.unanswered} labelled, "
                f"{quality.unanswered} without an answer of A or B in both orders")  # fmt: skip
    if quality.sampled:
        display.say(f"  the model gives no log-probabilities: {quality.sampled} verdicts are shares of sampled votes")
    told = {
        "position bias (same place preferred in both orders)": quality.same_position,
        "A chosen (1/2 is best)": quality.first,
        "self-consistency over principles": quality.consistency,
        "accuracy against the file's labels": quality.accuracy,
        "Cohen's kappa with the file's labels": quality.kappa,
    }
    for name, estimate in told.items():
        display.say(f"  {name}: {_spelt(estimate)}")
    for name, one in quality.by_principle.items():
        display.say(f"  {name}: {one.verdicts} verdicts, position bias {_spelt(one.same_position)}, "
                    f"accuracy {_spelt(one.accuracy)}")  # fmt: skip


def _spelt(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"none ({estimate.reason})"
    ends = "" if estimate.low is None or estimate.high is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f}{ends}, n={estimate.count}"


def _refuse_what_cannot_be_trusted(quality: JudgeQuality, settings: JudgeJob, files: Files) -> None:
    where = str(files.out)
    if quality.same_position.value is None:
        what, now = "the judge answers neither A nor B", "Take a model that follows instructions, or lower least_mass."
        raise RunError(what, where=where, now=now)
    if quality.same_position.value > settings.max_position_bias:
        share, bound = f"{quality.same_position.value:.0%}", f"{settings.max_position_bias:.0%}"
        what = (
            f"the judge prefers the same place in both orders in {share} of its verdicts (max_position_bias: {bound})"
        )
        now = "No labels were written. Take a better judge; or raise the bound with --resume, which asks nothing anew."
        raise RunError(what, where=where, now=now)


def _label_row(pair: _Pair, judged: JudgedPair, who: str) -> dict[str, Any]:
    """A comparison turned so that `chosen` is better with probability at least one half."""
    probability = judged.probability
    assert probability is not None
    turned = probability < 0.5
    chosen, rejected = (pair.second, pair.first) if turned else (pair.first, pair.second)
    return {
        "prompt": conversation_to_json(pair.prompt), "chosen": _said(chosen), "rejected": _said(rejected),
        "probability": 1 - probability if turned else probability, "group": pair.group, "source": "model", "who": who,
        "detail": "constitution: " + ", ".join(one.principle for one in judged.verdicts),
    }  # fmt: skip


def _item_row(pair: _Pair, judged: JudgedPair, who: str) -> dict[str, Any]:
    """The pair in its own order with the whole label, for `assent feedback import`."""
    return {
        "prompt": conversation_to_json(pair.prompt), "completions": [pair.first.text, pair.second.text],
        "model_preference": judged.as_preference(who),
    }  # fmt: skip


def _said(completion: Completion) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": completion.text}]
