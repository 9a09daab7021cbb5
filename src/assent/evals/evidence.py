"""Everything the report shows, as one frozen value that is also `report.json`.

Its arms are data: who made the evidence names them and declares in `arms` how they are shown. What a run does not have
is empty or None, and the page leaves it out: a fine-tuning has `training` and little else; a run on real data has no
gold, but `measurements` and `win_rates`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assent.evals.arms import Arm, TrainingCurves
from assent.evals.codec import JsonValue, dumps, loads
from assent.evals.gold import AxisIntervals
from assent.evals.intervals import Interval
from assent.evals.over_optimisation import CurvePoint, Evaluation, Verdict, curve, verdict
from assent.evals.reward_quality import ClassifierQuality, RewardQuality
from assent.evals.suites.result import SuiteResult
from assent.evals.win_rate import WinRate


@dataclass(frozen=True, slots=True, kw_only=True)
class OverOptimisation:
    """Proxy and gold reward on held-out prompts during training, by arm: with the KL penalty, then with KL weight 0.

    `verdicts` has what the rule says of each; `kl_coef` is the one setting in which the two differ. `judge` is whose
    score stands for gold: the gold judge's, or a held-out reward.
    """

    curves: Mapping[str, tuple[CurvePoint, ...]] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    kl_coef: float = 0.0
    judge: str = "gold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One prompt with the answer of each arm; `gold` and `reward` hold the score of each answer where it has one.

    The ideal answer, if known, stands in `answers` under "oracle".
    """

    prompt: str
    kind: str
    answers: Mapping[str, str]
    gold: Mapping[str, float] = field(default_factory=dict)
    reward: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One quantity of one or more models on the same held-out items.

    `name` says what ("reward", "loss"), `unit` in what, `judge` who scored (empty where nobody did), `items` on what
    and how ("held-out.jsonl (9f2c01ab), temperature 1"), `counted` what an interval's n counts. Two measurements share
    an axis only where their scales are equal. `gained` is the last of `values` less the first, item by item.
    """

    name: str
    unit: str
    judge: str = ""
    items: str
    counted: str
    values: Mapping[str, Interval]
    gained: Interval | None = None
    lower_is_better: bool = False

    @property
    def scale(self) -> tuple[str, str, str, str]:
        """What must be equal for values to be compared."""
        return self.name, self.unit, self.judge, self.items


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """How many different held-out prompts there are, and how many the model was trained on (None: not known)."""

    count: int
    seen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """The main numbers of one training seed, its over-optimisation curves by arm, and the verdicts on them."""

    seed: int
    gold: Mapping[str, AxisIntervals]
    gap_closed: Mapping[str, Interval]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    optimisation: Mapping[str, tuple[CurvePoint, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One run's evidence. Times in seconds, memory in MiB; with several seeds `gold` is pooled over them.

    `title` is what people call such a run, `command` what makes it again. `arms` says how the arms are shown,
    `training` has the curves of those that were trained; `main` is the arm that the page is about, `comparisons` are
    pairs of arms of which the second should have the higher gold, and `gap_from` is the arm from which `gap_closed`
    counts. `gold_gained` is the gold of the last arm less that of the first, prompt by prompt. `reward_unit` says on
    which scale the rewards of the curves are, `quality_of` whose quality `reward_model` is. `concurrent_stages` names
    the stages of `stage_s` that ran while others did. `parts` holds the evidence of several runs by name; such a page
    has nothing else.
    """

    title: str
    seeds: tuple[int, ...]
    wall_s: float
    peak_rss_mib: float
    command: str = ""
    arms: Mapping[str, Arm] = field(default_factory=dict)
    main: str = ""
    comparisons: tuple[tuple[str, str], ...] = ()
    stage_s: Mapping[str, float] = field(default_factory=dict)
    concurrent_stages: tuple[str, ...] = ()
    gold: Mapping[str, AxisIntervals] = field(default_factory=dict)
    gap_closed: Mapping[str, Interval] = field(default_factory=dict)
    gap_from: str = ""
    gold_gained: Interval | None = None
    gold_by_kind: Mapping[str, Mapping[str, AxisIntervals]] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    held_out: HeldOut | None = None
    win_rates: tuple[WinRate, ...] = ()
    reward_model: RewardQuality | None = None
    quality_of: str = "The reward model"
    classifier: ClassifierQuality | None = None
    over_optimisation: OverOptimisation | None = None
    suites: tuple[SuiteResult, ...] = ()
    training: Mapping[str, TrainingCurves] = field(default_factory=dict)
    reward_unit: str = ""
    samples: tuple[Sample, ...] = ()
    per_seed: tuple[SeedResult, ...] = ()
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    lineage: Mapping[str, JsonValue] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    parts: Mapping[str, Evidence] = field(default_factory=dict)

    @property
    def each(self) -> Mapping[str, Evidence]:
        """The runs of the page by name; the one run of a page of its own has no name."""
        return self.parts or {"": self}

    def arm(self, name: str) -> Arm:
        """How an arm is shown; one that is not declared keeps its name."""
        return self.arms.get(name, Arm(name=name))

    def name_of(self, arm: str) -> str:
        """What people call an arm."""
        return self.arm(arm).name

    def has_metric(self, metric: str) -> bool:
        """Whether the curves of training have it."""
        return any(metric in row for training in self.training.values() for row in training.rows)


def over_optimisation(arms: Mapping[str, Sequence[Evaluation]], *, kl_coef: float) -> OverOptimisation:
    """The curves of the arms with their verdicts; the arm with the KL penalty comes first."""
    return OverOptimisation(
        curves={name: curve(evaluations) for name, evaluations in arms.items()},
        verdicts={name: verdict(evaluations) for name, evaluations in arms.items()},
        kl_coef=kl_coef,
    )


def to_json(evidence: Evidence) -> str:
    """The text of report.json; DataError where a number that must exist is not finite."""
    return dumps(evidence)


def from_json(text: str, *, where: str = "report.json") -> Evidence:
    """Read report.json back, strictly; DataError names the file and the path inside it."""
    return loads(text, Evidence, where=where)
