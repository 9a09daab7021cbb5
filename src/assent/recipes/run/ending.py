"""How a run ends on the terminal: time and memory below the result, and what to do next."""

from __future__ import annotations

import json
import resource
import shlex
from pathlib import Path

from assent.algorithms.methods import METHODS
from assent.evals.evidence import Evidence
from assent.evals.headline import duration, headline
from assent.recipes.run.job_settings import EvalJob, RunSettings
from assent.recipes.run.request import Request

_MEANING = ("limit", "max_tokens", "temperature", "top_p", "top_k", "positive", "annotator", "reward_weights")
_PLAIN = str.maketrans({"\u2212": "-", "\u00a0": " ", "\u202f": ","})


def peak_rss_mib() -> float:
    """The most memory that this process held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ending(evidence: Evidence) -> str:
    """Time and memory; of a run that measured nothing held out, also what training itself says."""
    took = f"done in {duration(evidence.wall_s)}, {evidence.peak_rss_mib:,.0f} MiB at most"
    if evidence.measurements or evidence.reward_model or evidence.classifier or evidence.gold or evidence.suites:
        return took
    return f"{took}; {headline(evidence).title.translate(_PLAIN)} (nothing held out was measured: give --eval-data)"


def next_command(request: Request, settings: RunSettings) -> str:
    """The command that most people want next; an evaluation reads, samples and judges as the run did."""
    files, method = request.files, METHODS[request.name]
    if method.then:
        then, out = METHODS[method.then], f"--out {_q(files.out.parent / method.then)}"
        if then.needs_reward and method.makes == "reward model":
            data = " ".join(map(_q, files.data))
            return f"assent {method.then} --model {_q(files.model)} --reward {_q(files.out)} --data {data} {out}"
        return f"assent {method.then} --model {_q(files.out)} --data {then.reads.upper()} {out}"
    if request.rewards and files.eval_data:
        data, out = " ".join(map(_q, files.eval_data)), _q(files.out.parent / f"{files.out.name}-eval")
        given = " ".join(f"--reward {_q(one)}" for one in request.rewards)
        compared = f"--model {_q(files.out)} --against {_q(files.model)} {given}"
        read = f" --format {_q(files.format)}" if files.format else ""
        return f"assent eval {compared} --data {data} --out {out}{read}{_as_the_run(settings)}"
    return f"assent chat --model {_q(files.out)}"


def _as_the_run(settings: RunSettings) -> str:
    """The settings that decide what an evaluation's figures mean, where they are not its defaults."""
    here, usual = settings.model_dump(mode="json"), EvalJob().model_dump(mode="json")
    changed = {name: here[name] for name in _MEANING if here[name] != usual[name]}
    changed |= {f"reading.{name}": one for name, one in here["reading"].items() if one != usual["reading"][name]}
    told = {name: one if isinstance(one, str) else json.dumps(one) for name, one in changed.items()}
    return "".join(f" --set {_q(f'{name}={one}')}" for name, one in told.items())


def _q(part: str | Path) -> str:
    return shlex.quote(str(part))
