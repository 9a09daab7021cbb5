"""What one seed of the main job gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from assent.evals.evidence import Sample
from assent.evals.gold import ArmScores, arm_scores
from assent.evals.over_optimisation import Evaluation
from assent.evals.reward_quality import ScoredPairs
from assent.metrics import Metrics
from assent.types import Completion
from assent.world.judge import Gold
from assent.world.prompts import WorldPrompt

_SAMPLES_OF_A_KIND = 2


@dataclass(slots=True)
class ExperimentResult:
    """Gold scores by arm, curves, the reward model's quality, answers, and seconds by stage."""

    seed: int
    scores: dict[str, ArmScores] = field(default_factory=dict)
    curves: dict[str, tuple[Metrics, ...]] = field(default_factory=dict)
    optimisation: dict[str, tuple[Evaluation, ...]] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    gold_of: dict[str, list[float]] = field(default_factory=dict)
    reward_pairs: ScoredPairs | None = None  # held-out pairs: the reward model's scores, the population's preference
    stage_s: dict[str, float] = field(default_factory=dict)
    concurrent_stages: dict[str, float] = field(default_factory=dict)  # those of `stage_s` that ran in another process

    def add(self, other: ExperimentResult) -> None:
        """Take over what another process found for the same seed."""
        for name in ("scores", "curves", "optimisation", "answers", "gold_of", "stage_s"):
            getattr(self, name).update(getattr(other, name))
        self.concurrent_stages.update(other.stage_s)

    def add_answers(
        self, arm: str, prompts: Sequence[WorldPrompt], completions: Sequence[Completion], golds: Sequence[Gold]
    ) -> None:
        """Keep an arm's answers to the held-out prompts and their gold scores."""
        names = [prompt.conversation.last_user_text for prompt in prompts]
        self.scores[arm] = arm_scores(names, [prompt.kind for prompt in prompts], golds)
        self.answers[arm] = [completion.text for completion in completions]
        self.gold_of[arm] = [gold.overall for gold in golds]

    def samples(self, prompts: Sequence[WorldPrompt]) -> tuple[Sample, ...]:
        """The answers of all arms to the first held-out prompts of each kind: nobody chooses them."""
        names = {arm: "ideal" if arm == "oracle" else arm for arm in ("base", "sft", "dpo", "ppo", "oracle")}
        names = {arm: name for arm, name in names.items() if arm in self.answers}
        chosen: dict[str, list[int]] = {}
        for place, prompt in enumerate(prompts):
            chosen.setdefault(prompt.kind, []).append(place)
        return tuple(
            Sample(
                prompt=prompts[place].conversation.last_user_text,
                kind=prompts[place].kind,
                answers={name: self.answers[arm][place] for arm, name in names.items()},
                gold={name: self.gold_of[arm][place] for arm, name in names.items()},
            )
            for place in sorted(place for places in chosen.values() for place in places[:_SAMPLES_OF_A_KIND])
        )
