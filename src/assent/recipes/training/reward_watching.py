"""The watch over an online run: figures of the held-out answers, alarms as they come, and the best weights kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from assent.algorithms.on_policy.rollout import HeldOutAnswers
from assent.durable import write_atomic, writing
from assent.evals.evidence import OverOptimisation
from assent.evals.over_optimisation import curve, verdict
from assent.evals.reward_watch import Watched, alarms, best_step, distinct_2, repetition
from assent.evals.scaling_fits import fit_rl
from assent.feedback.records import conversation_to_json
from assent.metrics import Metrics
from assent.recipes.run.job_settings import OnPolicyJob
from assent.recipes.run.jobs import Job
from assent.recipes.run.models import LanguageModel
from assent.recipes.run.rewards import Rewards
from assent.runs.lineage import DataSource
from assent.types import Conversation

LOG, BEST, SPOT_CHECKS = "watch.jsonl", "best.safetensors", "spot-checks.jsonl"
_CHECKED = 50


@dataclass(slots=True, kw_only=True)
class RewardWatching:
    """Sees the answers to the held-out prompts; `held_out` scores them beside the reward of training, if it is given.

    Everything seen lies in the run's watch.jsonl, so a resumed run goes on with it; what it repeats is written again.
    """

    model: LanguageModel
    prompts: Sequence[Conversation]
    held_out: Rewards | None
    settings: OnPolicyJob
    out: Path
    say: Callable[[str], None]
    _seen: list[Watched] = field(default_factory=list)
    _texts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def __call__(self, answers: HeldOutAnswers) -> Metrics:
        """Note one evaluation, say what is new, and keep the weights if they are the best so far."""
        if answers.iteration and not self._seen:
            self._read()
        self._seen = [one for one in self._seen if one.step < answers.iteration]
        completions = [episode.completion for episode in answers.episodes]
        texts = [completion.text for completion in completions]
        scored = (
            ()
            if self.held_out is None
            else tuple(self.held_out.scorer.score([one.prompt for one in answers.episodes], completions))
        )
        seen = Watched(
            step=answers.iteration, kl=answers.kl, entropy=answers.entropy, reward_P=answers.rewards,
            held_out_P=scored, length_P=tuple(
                float(sum(len(turn.completion_ids) for turn in one.turns)) for one in answers.episodes
            ),
            repetition_P=tuple(map(repetition, texts)), distinct_2=distinct_2(texts),
        )  # fmt: skip
        self._seen.append(seen)
        self._texts[seen.step] = tuple(texts)
        self._write()
        if self.settings.keep == "best" and best_step(self._seen) == seen.step:
            with writing(self.out / BEST):
                save_file(
                    {name: one.detach().cpu().contiguous() for name, one in self._weights().items()}, self.out / BEST
                )
        return self._row(seen)

    def _row(self, seen: Watched) -> Metrics:
        found = alarms(self._seen, kl_budget=self.settings.kl_budget, seed=self.settings.seed)
        for alarm in found:
            if alarm.name not in self._told:
                self.say(f"warning: after iteration {alarm.step}, {alarm.reason}")
        self._told |= {alarm.name for alarm in found}
        row: Metrics = {"eval_repetition": _mean(seen.repetition_P), "eval_length": _mean(seen.length_P),
                        "eval_distinct_2": seen.distinct_2, "alarms": float(len(found))}  # fmt: skip
        return row | ({"held_out_reward": _mean(seen.held_out_P)} if seen.held_out_P else {})

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The functions and judges among the held-out rewards, for the lineage."""
        return self.held_out.sources if self.held_out is not None else ()

    @property
    def parents(self) -> dict[str, str]:
        """The models among them, by their roles."""
        found = self.held_out.parents if self.held_out is not None else {}
        return {f"watch: {role}": folder for role, folder in found.items()}

    def keep(self) -> str:
        """Put the kept weights into the model; says which they are, if there was a choice."""
        if self.settings.keep != "best" or not self._seen:
            return ""
        best, last = best_step(self._seen), self._seen[-1].step
        judge = "held-out reward" if self._seen[-1].held_out_P else "reward on held-out prompts"
        if best == last:
            return f"The last weights are kept: their {judge} is the highest."
        kept = load_file(self.out / BEST)
        with torch.no_grad():
            for name, weight in self._weights().items():
                weight.copy_(kept[name])
        return f"The weights of iteration {best} are kept: their {judge} is the highest."

    def evidence(self, job: Job) -> dict[str, Any]:
        """For the report: alarms and fit as notes, and curves with a verdict where a held-out reward judged."""
        found = alarms(self._seen, kl_budget=self.settings.kl_budget, seed=self.settings.seed)
        notes = [f"Watch: {alarm.reason} (iteration {alarm.step})." for alarm in found]
        if self._seen and not found:
            notes.append("Watch: no alarm at the last evaluation.")
        if len(self._seen) < 2:
            return {"notes": tuple(notes)}
        notes.append(self._spot_checks(job))
        if self.held_out is None:
            return {"notes": tuple(notes)}
        evaluations = [one.evaluation for one in self._seen]
        fit = fit_rl([one.kl for one in self._seen], [_mean(one.held_out_P) for one in self._seen])
        if fit is not None and fit.r_squared is not None:
            highest = "nowhere" if fit.peak_kl is None else f"at {fit.peak_kl:.3g} nats"
            notes.append(
                f"Held-out reward over d = sqrt(KL), fitted: {fit.start:.3g} + d ({fit.alpha:.3g} - {fit.beta:.3g} "
                f"ln d), highest {highest}, R squared {fit.r_squared:.2f} (Gao et al. 2022)."
            )
        name = job.request.name
        judged = OverOptimisation(
            curves={name: curve(evaluations)}, verdicts={name: verdict(evaluations, seed=self.settings.seed)},
            kl_coef=self.settings.kl_coef, judge="held-out reward",
        )  # fmt: skip
        return {"notes": tuple(notes), "over_optimisation": judged}

    def _spot_checks(self, job: Job) -> str:
        """Pairs for people: the answer of the start beside that of the last evaluation, where they differ."""
        first, last = (self._texts[one.step] for one in (self._seen[0], self._seen[-1]))
        rows = [
            {
                "prompt": conversation_to_json(prompt), "completions": [before, after],
                "models": [self.model.path, str(job.model_folder)], "batch": f"spot checks of {self.out.name}",
            }
            for prompt, before, after in zip(self.prompts, first, last, strict=True)
            if before.strip() != after.strip() and before.strip() and after.strip()
        ][:_CHECKED]  # fmt: skip
        if not rows:
            return "The last answers to the held-out prompts are those of the start: there is nothing to check."
        write_atomic(self.out / SPOT_CHECKS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return (
            f"{len(rows)} pairs for people to check: assent feedback import --store studio.db --project spot-checks "
            f"--data {self.out / SPOT_CHECKS}"
        )

    def _weights(self) -> dict[str, torch.nn.Parameter]:
        return self.model.role.parameters()

    def _write(self) -> None:
        lines = [json.dumps({**asdict(one), "texts": self._texts[one.step]}, ensure_ascii=False) for one in self._seen]
        write_atomic(self.out / LOG, "\n".join(lines) + "\n")

    def _read(self) -> None:
        """What the run saw before it was cut."""
        for line in (self.out / LOG).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts = row.pop("texts")
            row |= {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
            self._seen.append(Watched(**row))
            self._texts[row["step"]] = tuple(texts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
