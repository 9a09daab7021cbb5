"""A head for every annotator (`model/personal_heads.py`), as one tick of a training run or after one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch.nn.functional import softplus

from assent.algorithms.epochs import EpochTask
from assent.algorithms.estimate import Estimate
from assent.algorithms.reward import EncodedPreference, RewardSettings, placed_pairs
from assent.errors import ConfigError
from assent.interrupts import StopRequest
from assent.metrics import Metrics, Stopwatch
from assent.model.personal_heads import PersonalHeads, PersonalPairs, fit_people
from assent.model.roles import ScalarRole
from assent.ports.learning import SkippedBatch
from assent.recipes.run.progress import Display
from assent.recipes.training.head_training import HeadFirst, HeadTask, read_judged, reading_estimate

_PEOPLE = "annotators"  # where a checkpoint has them


class PeopleTask:
    """One tick: read what the head reads of every judged completion, and fit who judged them."""

    total, unit = 1, "fits"

    def __init__(
        self,
        role: ScalarRole,
        judgements: Sequence[EncodedPreference],
        settings: RewardSettings,
        display: Display = Display(quiet=True),
    ) -> None:
        """ConfigError where the labels name too few annotators, or the head is not one number."""
        self._judgements = [one for one in judgements if any(pair.annotator for pair in one.pairs)]
        self._names = tuple(dict.fromkeys(p.annotator for one in judgements for p in one.pairs if p.annotator))
        self._role, self._settings, self._display = role, settings, display
        self.skipped_batches: list[SkippedBatch] = []
        if role.head.out_features != 1:
            raise ConfigError("heads of annotators belong to a reward that is one number", where="personal_rank")
        if settings.train == "people" and role.people is None:
            now = "Train one with --set personal_rank=N first, on labels of several annotators."
            raise ConfigError("this reward model has no heads of annotators to update", where="train", now=now)
        if len(self._names) < (1 if settings.train == "people" else 2):
            now = "Name the column of the annotator with --set reading.annotator=COLUMN."
            told = f"the pairs name {len(self._names)} annotators"
            raise ConfigError(f"{told}, too few for heads of their own", where="personal_rank", now=now)

    def begin(self, stop: StopRequest) -> Metrics:
        """Nothing."""
        return {}

    def tick(self, index: int, stop: StopRequest) -> Metrics:
        """The whole fit."""
        watch = Stopwatch()
        with watch.phase("read"):
            pairs, judgement_P = self._pairs(stop)
        with watch.phase("fit"):
            if self._settings.train == "people":
                assert self._role.people is not None, "checked before"
                people = self._role.people.updated(pairs, self._names)
            else:
                people = fit_people(pairs, self._names, judgement_P, rank=self._settings.personal_rank)
        self._role.people = people
        place_A = torch.tensor([people.names.index(name) for name in self._names])
        z_AK = people.beliefs.mean_AK[place_A]
        own = (
            "" if self._settings.train == "people" else "personal_"
        )  # of a whole training, the population's loss stays
        logits = {"population_": pairs.offset_P, own: pairs.logits(people.direction_KD, z_AK)}
        row: Metrics = {"people": float(len(people.names)), **watch.row(0)}
        for name, logit_P in logits.items():
            misfit_P = softplus(logit_P) - pairs.probability_P * logit_P
            row[f"{name}loss"] = float(misfit_P.mean())
            row[f"{name}accuracy"] = float(((logit_P > 0) == (pairs.probability_P > 0.5)).double().mean())
        return row

    def estimate(self) -> Estimate:
        """Reading takes nearly all of it."""
        most = self._role.body.at_once(self._settings.micro_batch_tokens)
        return reading_estimate(self._role, self._judgements, most)

    def save(self, folder: Path) -> dict[str, str]:
        """The people, once they are fitted."""
        if self._role.people is None:
            return {}
        return {f"{_PEOPLE}/{name}": sha for name, sha in self._role.people.save(folder / _PEOPLE).items()}

    def load(self, folder: Path) -> None:
        """The reverse of `save`."""
        self._role.people = PersonalHeads.load(folder / _PEOPLE) if (folder / _PEOPLE).is_dir() else None

    def _pairs(self, stop: StopRequest) -> tuple[PersonalPairs, torch.Tensor]:
        """The pairs of known annotators, and the judgement that each belongs to."""
        most = self._role.body.at_once(self._settings.micro_batch_tokens)
        feature_ND = torch.from_numpy(read_judged(self._role, self._judgements, most, self._display, stop))
        pairs = [pair for pair in placed_pairs(self._judgements) if pair.annotator]
        ends = list(accumulate(len(one.sequences) for one in self._judgements))
        better_P, worse_P = (torch.tensor([getattr(one, side) for one in pairs]) for side in ("better", "worse"))
        difference_PD = feature_ND[better_P] - feature_ND[worse_P]
        margin_P = difference_PD.new_tensor([pair.margin for pair in pairs])
        weight_D = self._role.head.weight.detach()[0].double().cpu()
        return PersonalPairs(
            difference_PD=difference_PD,
            offset_P=difference_PD @ weight_D - margin_P,
            probability_P=difference_PD.new_tensor([pair.probability for pair in pairs]),
            annotator_P=torch.tensor([self._names.index(pair.annotator) for pair in pairs]),
        ), torch.searchsorted(torch.tensor(ends), better_P, right=True)


class ThenPeople:
    """A training of the population's head, then the annotators' on what it has become."""

    def __init__(self, task: EpochTask | HeadTask | HeadFirst, people: PeopleTask) -> None:
        self._task, self._people = task, people
        self.total, self.unit = task.total + 1, task.unit
        self.skipped_batches, self.begin = task.skipped_batches, task.begin

    def estimate(self) -> Estimate:
        """The training, and the fit."""
        first, last = self._task.estimate(), self._people.estimate()
        return Estimate(seconds=first.seconds + last.seconds, memory_bytes=first.memory_bytes)

    def tick(self, index: int, stop: StopRequest) -> Metrics:
        """A step of the training, or at the end the fit."""
        return self._task.tick(index, stop) if index < self._task.total else self._people.tick(0, stop)

    def save(self, folder: Path) -> dict[str, str]:
        """Both."""
        return {**self._task.save(folder), **self._people.save(folder)}

    def load(self, folder: Path) -> None:
        """The reverse of `save`."""
        self._task.load(folder)
        self._people.load(folder)
