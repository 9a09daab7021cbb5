"""What is read off likelihoods, for several models side by side: HHH alignment, and the loss on neutral text.

Both become a page of their own, which a job's report takes in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from assent.algorithms.sft import ConversationLoss, supervised_losses
from assent.evals.evidence import Evidence, Measurement
from assent.evals.intervals import bootstrap_rate, bootstrap_ratio, paired_difference
from assent.evals.report import write_report
from assent.ports.learning import Roles
from assent.recipes.run.ending import peak_rss_mib
from assent.recipes.run.inputs import model_folder
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_language_model
from assent.types import Comparison, Completion, Conversation

Models = Mapping[str, str]
"""Names of models with their folders, the one before training first."""
Answers = Sequence[tuple[Conversation, Completion]]


def losses(models: Models, answers: Answers) -> dict[str, list[ConversationLoss]]:
    """How unlikely each model finds each answer to its prompt."""
    found = {}
    for name, folder in models.items():
        model = load_language_model(model_folder(folder), machine=MachineOptions(precision="bf16"))
        learner = model.backend.learner(Roles(policy=model.role))
        found[name] = supervised_losses(learner, model.template.encode_completions(answers))
    return found


def hhh_alignment(models: Models, pairs: Sequence[Comparison]) -> Measurement:
    """The share of pairs whose better answer is the likelier one, token for token (Askell et al. 2021)."""
    answers = [(pair.prompt, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    prompts, right = [pair.prompt for pair in pairs], {}
    for name, found in losses(models, answers).items():
        each = [one.negative_logp / one.tokens for one in found]
        right[name] = [float(better < worse) for better, worse in zip(each[::2], each[1::2], strict=True)]
    first, *_, last = right.values()
    return Measurement(
        name="HHH alignment", unit="share of pairs whose better answer is likelier per token", items="hhh_alignment",
        counted="prompts", values={name: bootstrap_rate(one, seed=0, groups=prompts) for name, one in right.items()},
        gained=paired_difference(last, first, seed=0, groups=prompts),
    )  # fmt: skip


def neutral_loss(models: Models, texts: Answers) -> Measurement:
    """The loss on neutral text; exp of its difference is the factor by which the perplexity rises."""
    found = losses(models, texts)
    first, *_, last = found.values()
    gained = [now.negative_logp - then.negative_logp for now, then in zip(last, first, strict=True)]
    tokens = [one.tokens for one in first]
    return Measurement(
        name="loss on neutral text", unit="nats per token", items="wikitext-2", counted="texts", lower_is_better=True,
        values={
            name: bootstrap_ratio([one.negative_logp for one in each], tokens, seed=0) for name, each in found.items()
        },
        gained=bootstrap_ratio(gained, tokens, seed=0),
    )  # fmt: skip


def page(folder: Path, *measurements: Measurement, start: float) -> Path:
    """A report of these measurements."""
    evidence = Evidence(
        title="Likelihoods", seeds=(0,), wall_s=time.monotonic() - start, peak_rss_mib=peak_rss_mib(),
        measurements=measurements,
    )  # fmt: skip
    write_report(evidence, folder)
    return folder
