"""`assent eval --suite`: published suites for one or two models, a reward model or a judge."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from assent.backends.local.engine import LocalEngine
from assent.config import as_dict
from assent.constitution.chat_model import ChatModel, EngineModel
from assent.constitution.comparison import PrincipleJudge
from assent.constitution.constitution_file import load_constitution
from assent.constitution.scoring import DirectScorer
from assent.data.files import read_file
from assent.durable import sha256_file, write_atomic
from assent.errors import ConfigError
from assent.evals.arms import Arm
from assent.evals.axes import number, per_cent
from assent.evals.evidence import Evidence
from assent.evals.report import write_report
from assent.evals.suites.result import SuiteFigure, SuiteResult, answer_text, suite_result
from assent.evals.suites.suite import Asked, Observed, Row, Suite
from assent.recipes.constitution.show import constitution_path
from assent.recipes.run.chat_models import chat_model
from assent.recipes.run.ending import ending, peak_rss_mib
from assent.recipes.run.held_out import spread
from assent.recipes.run.inputs import model_folder, require_data
from assent.recipes.run.job_settings import SuiteJob
from assent.recipes.run.model_checks import is_reward_model
from assent.recipes.run.models import LanguageModel, RewardModel, load_language_model, load_reward_model
from assent.recipes.run.names import unique_names
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.suites import observing
from assent.recipes.suites.reading import read_suites, suites_named
from assent.runs.folder import RunDir, check_place
from assent.runs.lineage import DataSource, Lineage, Parent, named, parent

ITEMS = "items.jsonl"


@dataclass(slots=True, kw_only=True)
class _Bench:
    """Everything that takes part: the models by name, who judges, and worked examples.

    `named` says who judges, for people, by what a suite needs or asks.
    """

    arms: Mapping[str, LanguageModel | RewardModel]
    judge: ChatModel | None = None
    classifier: RewardModel | None = None
    shots: Sequence[Row] = ()
    named: dict[str, str] = field(default_factory=dict)
    parents: list[Parent] = field(default_factory=list)


def run_suites(request: Request, display: Display) -> Path:
    """Ask the models everything, and write report.html, report.json and items.jsonl (every item) into the folder."""
    files, settings, start = request.files, request.settings(SuiteJob), time.monotonic()
    require_data(files)
    check_place(files.out, resume=False, overwrite=files.overwrite)
    suites = suites_named(request.own.get("suites", ()))
    _check_judges(suites, request)
    read = read_suites(suites, files, display, limit=settings.limit)
    with ExitStack() as opened:
        bench = _opened(request, settings, opened)
        lineage = _lineage(request, settings, read.sources, bench)
        run = opened.enter_context(
            RunDir.create(files.out, kind="eval", settings=as_dict(settings), lineage=lineage.to_dict(),
                          overwrite=files.overwrite)
        )  # fmt: skip
        results, lines = [], list[str]()
        for asked in read.asked:
            asked, seen = _observed(asked, bench, request, settings, display)
            judge = bench.named.get(asked.suite.needs or asked.suite.asks, "")
            results.append(suite_result(asked, seen, judge=judge, date=date.today().isoformat(), seed=settings.seed))
            lines += _items(asked, seen)
            _say(results[-1], display)
        write_atomic(files.out / ITEMS, "".join(lines))
        names = list(bench.arms)
        colours = ["blue"] if len(names) == 1 else ["grey", "blue"]
        document = lineage.to_dict()
        evidence = Evidence(
            title="Evaluation", command=files.command, seeds=(settings.seed,), wall_s=time.monotonic() - start,
            peak_rss_mib=peak_rss_mib(), settings=document["settings"], suites=tuple(results),
            arms={name: Arm(name=name, colour=one) for name, one in zip(names, colours, strict=True)},
            lineage={name: value for name, value in document.items() if name != "settings"},
        )  # fmt: skip
        report = write_report(evidence, files.out)
        run.set_status("finished")
    display.say(ending(evidence))
    display.say(f"report: {report}")
    return report


def _check_judges(suites: Sequence[Suite], request: Request) -> None:
    """Refuse before anything is loaded: a suite without its judge, a policy where a reward model is asked."""
    scores, needs = is_reward_model(model_folder(request.files.model)), {suite.needs for suite in suites}
    for flag, given, need in (("--judge", request.text("judge"), "judge"), ("--reward", request.rewards, "classifier")):
        if given and need not in needs:
            raise ConfigError(f"none of these suites needs a {need}", where=flag, now="Leave it out.")
    for suite in suites:
        where = f"--suite {suite.name}"
        if suite.needs == "judge" and not request.text("judge"):
            raise ConfigError("a judge must read the answers", where=where, now="Name a model with --judge.")
        if suite.needs == "classifier" and len(request.rewards) != 1:
            now = "Name its folder with --reward, and its class with --set positive=NAME."
            raise ConfigError("one classifier must read the answers", where=where, now=now)
        if scores and suite.asks != "preference":
            raise ConfigError("this suite is for language models; the model is a reward model", where=where)
        if suite.asks == "preference" and request.against:
            what = "this suite measures one reward model or judge at a time"
            raise ConfigError(what, where="--against", now="Evaluate the other one by itself, then `assent report`.")
        if request.text("shots") and (suite.answering is None or suite.answering.shot is None):
            raise ConfigError("this suite shows no worked examples", where=f"--shots with {where}")


def _opened(request: Request, settings: SuiteJob, opened: ExitStack) -> _Bench:
    given = [request.against, request.files.model] if request.against else [request.files.model]
    folders = [model_folder(one) for one in given]
    if len(set(folders)) < len(folders):
        raise ConfigError("this is the model under evaluation itself", where=f"--against {request.against}")
    arms: dict[str, LanguageModel | RewardModel] = {}
    for name, folder in zip(unique_names(folders), folders, strict=True):
        if is_reward_model(folder):
            arms[name] = load_reward_model(folder, machine=settings.machine, positive=settings.positive)
        else:
            arms[name] = load_language_model(folder, machine=settings.machine)
    roles = ("policy", "against") if request.against else ("policy",)
    bench = _Bench(arms=arms, parents=[parent(one, role=role) for role, one in zip(roles, folders[::-1], strict=True)])
    if any(isinstance(model, LanguageModel) for model in arms.values()):
        bench.named["preference"] = f"the model itself, by {constitution_path(request).name}"
    if judge := request.text("judge"):
        asked: AbstractContextManager[tuple[ChatModel, Parent]] = chat_model(judge, settings.endpoint, settings.machine)
        bench.judge, origin = opened.enter_context(asked)
        bench.parents.append(Parent(role="judge", name=origin.name, sha256=origin.sha256))
        bench.named["judge"] = named(bench.parents[-1])
    for reward in request.rewards:
        bench.classifier = load_reward_model(model_folder(reward), machine=settings.machine, positive=settings.positive)
        bench.parents.append(parent(model_folder(reward), role="reward"))
        bench.named["classifier"] = named(bench.parents[-1], bench.classifier.names[bench.classifier.positive])
    if shots := request.text("shots"):
        bench.shots = [Row(place=row.place, fields=row.fields) for row in read_file(shots).rows]
    return bench


def _lineage(request: Request, settings: SuiteJob, sources: tuple[DataSource, ...], bench: _Bench) -> Lineage:
    """A constitution counts as data, where a model judges by one."""
    if "preference" in bench.named and any(suite.asks == "preference" for suite in suites_named(request.own["suites"])):
        path = constitution_path(request)
        sources = (*sources, DataSource(role="constitution", name=path.name, sha256=sha256_file(path)))
    return Lineage(
        kind="eval", settings={**as_dict(settings), "suites": request.own["suites"]}, seed=settings.seed, data=sources,
        parents=tuple(bench.parents), precision=settings.machine.precision,
    )  # fmt: skip


def _observed(
    asked: Asked, bench: _Bench, request: Request, settings: SuiteJob, display: Display
) -> tuple[Asked, dict[str, list[Observed]]]:
    """What every model made of the items that fit in all of them."""
    asked = observing.cut(asked, settings.max_tokens)
    suite, seen = asked.suite, dict[str, list[Observed]]()
    if bench.shots and suite.answering is not None and suite.answering.shot is not None:
        items = observing.with_shots(asked.items, bench.shots, suite.answering.shot)
        asked = replace(asked, items=items, data=f"{asked.data}, five shots")
    for model in bench.arms.values():
        if isinstance(model, LanguageModel):
            asked = observing.fitting(asked, model, display)
    for arm, model in bench.arms.items():
        name = f"{suite.name} {arm}"
        if isinstance(model, RewardModel):
            seen[arm] = observing.rewarded(asked.items, model.scorer)
        elif suite.asks == "preference":
            constitution = load_constitution(constitution_path(request))
            judge = EngineModel(LocalEngine(model.role, model.template))
            judges = PrincipleJudge(judge, constitution), DirectScorer(judge, constitution)
            seen[arm] = observing.preferred(asked.items, *judges, display)
        elif suite.asks == "likelihood":
            sizes = settings.micro_batch_tokens
            seen[arm] = observing.log_likelihoods(asked.items, model, display, name=name, micro_batch_tokens=sizes)
        elif suite.answering is not None:
            seen[arm] = observing.answers(asked.items, suite.answering, model, display, name=name)
            if bench.judge is not None and suite.answering.grader:
                seen[arm] = observing.graded(asked, seen[arm], bench.judge, display, name=f"judge {name}")
            elif bench.classifier is not None and suite.answering.classified:
                seen[arm] = observing.classified(asked, seen[arm], bench.classifier)
    return asked, seen


def _items(asked: Asked, seen: Mapping[str, Sequence[Observed]]) -> list[str]:
    """A JSON line for every item, with all that was seen and what it counts."""
    lines = []
    for place, item in enumerate(asked.items):
        models = {
            arm: {
                "answer": answer_text(item, found[place]), "scores": found[place].scores,
                "verdict": found[place].verdict, "columns": item.measure(found[place]),
            }
            for arm, found in seen.items()
        }  # fmt: skip
        row = {
            "suite": asked.suite.name, "kind": item.kind, "shown": item.shown, "expected": item.expected,
            "options": [option.text for option in item.options], "models": models,
        }  # fmt: skip
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return lines


def _say(result: SuiteResult, display: Display) -> None:
    """Every figure of the whole suite, and the first one by kind."""
    for figure in result.figures:
        what = f"{result.suite}, {figure.kind}: {figure.name}" if figure.kind else f"{result.suite}: {figure.name}"
        told = "; ".join(
            f"{arm} {_value(figure, value.mean)} ({spread(value, result.counted)})"
            for arm, value in figure.values.items()
        )
        change = f"; change {figure.gained.mean:+.3f} ({figure.gained.low:+.3f} to {figure.gained.high:+.3f})" if (
            figure.gained) else ""  # fmt: skip
        display.say(f"{'  ' if figure.kind else ''}{what}: {told}{change}")


def _value(figure: SuiteFigure, value: float) -> str:
    return (per_cent(value, 1) if figure.share else number(value)).replace("\u00a0", " ").replace("\u2212", "-")
