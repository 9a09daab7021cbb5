"""People of different tastes on the embedded world: one reward model that knows them, and a policy for each group.

base -> SFT -> samples -> rankings by members of three groups -> a reward model with annotators' own heads -> adapters
by DPO on the same samples: for everybody, for each group, and for a newcomer to each group who answered some questions.
All policies have the same settings and samples; they differ in whose head says which answer is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.loop import Watch
from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.config import Settings
from assent.model.personal_heads import PersonalPairs
from assent.ports.sampling import SamplingParams
from assent.recipes.demo.experiment_settings import MAX_TOKENS
from assent.recipes.run.machine import LoraOptions, MachineOptions
from assent.recipes.run.models import (
    LanguageModel,
    RewardModel,
    head_alone,
    load_language_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.run.progress import Display
from assent.recipes.run.second_process import SecondProcess
from assent.recipes.training.prepare import prepare_offline
from assent.seeds import derive, numpy_rng
from assent.types import Comparison, Completion, Provenance
from assent.world.annotators import GROUPS, SimulatedAnnotator, group_members, member, own_gold, rank, utility
from assent.world.demonstrations import demonstrations
from assent.world.facts import build_world
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt, make_prompts

EVERYBODY = "everybody"
NEWCOMERS = {group: f"new-{group}" for group in GROUPS}


class PeopleSettings(Settings):
    """Sizes and settings of `assent demo --personal`."""

    demonstrations: int = Field(default=500, ge=1)
    prompts: int = Field(default=1200, ge=10)
    temperatures: tuple[float, ...] = (0.7, 1.0, 1.3, 1.3)
    members: int = Field(default=4, ge=1)
    questions: int = Field(default=20, ge=1)
    evaluation_prompts: int = Field(default=540, ge=9)
    sft: SFTSettings = SFTSettings(epochs=2, batch_size=32, learning_rate=3e-4, max_length=200)
    reward: RewardSettings = RewardSettings(train="head", personal_rank=3, max_length=200)
    dpo: DPOSettings = DPOSettings(epochs=1, batch_size=64, learning_rate=5e-4, beta=0.2, max_length=200)
    lora: LoraOptions = LoraOptions(rank=16)
    machine: MachineOptions = MachineOptions(device="cpu", threads=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The answers to each prompt that are compared; `feature_PKD` is what a reward head reads of them."""

    prompts: Sequence[WorldPrompt]
    answers: Sequence[Sequence[Completion]]
    feature_PKD: Tensor

    def pairs(self, weight_D: Tensor) -> list[Comparison]:
        """The best answer by a head against each other one, with the head's probability."""
        made = []
        for prompt, answers, reward_K in zip(self.prompts, self.answers, self.feature_PKD @ weight_D, strict=True):
            best = int(reward_K.argmax())
            made += [
                Comparison(
                    prompt=prompt.conversation, chosen=answers[best], rejected=other,
                    probability=float(torch.sigmoid(reward_K[best] - reward_K[place])),
                )
                for place, other in enumerate(answers)
                if other.text.split() != answers[best].text.split()
            ]  # fmt: skip
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What one policy said to the held-out prompts, with the gold score of each answer."""

    texts: tuple[str, ...]
    gold: tuple[float, ...]

    def own_gold(self, who: SimulatedAnnotator) -> list[float]:
        """How much somebody likes each answer."""
        return [own_gold(who, gold, text) for gold, text in zip(self.gold, self.texts, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """One seed of the job."""

    settings: PeopleSettings
    out: Path
    seed: int

    @property
    def held_out(self) -> list[WorldPrompt]:
        """The prompts that policies are measured on."""
        seed = derive(self.seed, "evaluation")
        return make_prompts(build_world(0), split="held_out", count=self.settings.evaluation_prompts, seed=seed)

    def run(self, base: Path, display: Display, watch: Watch) -> dict[str, Answered]:
        """What SFT, everybody's policy, each group's and each newcomer's said."""
        settings = self.settings
        with display.stage("fine-tune (SFT)", 1):
            model = load_language_model(str(base), machine=settings.machine)
            shown = demonstrations(build_world(0), count=settings.demonstrations, seed=derive(self.seed, "shown"))
            prepare_offline(SFT, model, shown, settings.sft, seed=self.seed).run(watch)
            save_language_model(model, self.out / "sft")
        candidates, reward = self._judged(model, display, watch)
        people, population_D = reward.role.people, reward.role.head.weight.detach()[0].double()
        assert people is not None, "they were just fitted"
        groups = {
            group: [name for name in people.names if name.startswith(f"{group}-")] for group in GROUPS
        }  # fmt: skip
        whose = groups | {name: [name] for name in NEWCOMERS.values()}
        pairs = {EVERYBODY: candidates.pairs(population_D)}
        pairs |= {name: candidates.pairs(population_D + people.shift(names)) for name, names in whose.items()}
        half = len(pairs) // 2
        second = SecondProcess(_train, self, dict(list(pairs.items())[half:]))
        with display.stage("policies", len(pairs), unit="arms") as stage:
            found = {"sft": self.answers(model)} | _train(self, dict(list(pairs.items())[:half]), watch)
            stage.advance(half)
            found |= second.result()
            stage.advance(len(pairs) - half)
        return found

    def _judged(self, model: LanguageModel, display: Display, watch: Watch) -> tuple[Candidates, RewardModel]:
        """The candidates, and the reward model of those who ranked them and of the newcomers."""
        settings, world, rng = self.settings, build_world(0), numpy_rng(self.seed, "people")
        prompts = make_prompts(world, split="train", count=settings.prompts, seed=derive(self.seed, "ranked"))
        asked, turns = [prompt.conversation for prompt in prompts], []
        with display.stage("sample", len(prompts) * len(settings.temperatures), unit="texts") as stage:
            for place, temperature in enumerate(settings.temperatures):
                sampling = SamplingParams(max_tokens=MAX_TOKENS, temperature=temperature, top_p=0.95)
                seed = derive(self.seed, "candidates", place)
                turns.append(model.sampler.sample(asked, sampling=sampling, seed=seed, progress=stage.counter))
        answers = [[turn.completion for turn in row] for row in zip(*turns, strict=True)]
        members = group_members(settings.members, rng)
        rankings = [
            rank(world, members[place % len(members)], prompt, row, rng)
            for place, (prompt, row) in enumerate(zip(prompts, answers, strict=True))
        ]
        reward = head_alone(new_reward_model(str(self.out / "sft"), machine=settings.machine, seed=self.seed))
        with display.stage("reward model", 2, unit="fits") as stage:
            prepare_offline(REWARD_MODEL, reward, rankings, settings.reward, seed=self.seed).run(watch)
            stage.advance(1)
            repeated = [prompt for prompt, row in zip(asked, answers, strict=True) for _ in row]
            feature_ND = torch.from_numpy(reward.scorer.features(repeated, [one for row in answers for one in row]))
            feature_PKD = feature_ND.double().view(len(prompts), len(settings.temperatures), -1)
            candidates = Candidates(prompts=prompts, answers=answers, feature_PKD=feature_PKD)
            update = settings.reward.model_copy(update={"train": "people"})
            told = [pair for group in GROUPS for pair in self._newcomer(group, candidates, reward)]
            prepare_offline(REWARD_MODEL, reward, told, update, seed=self.seed).run(watch)
            stage.advance(1)
        save_reward_model(reward, self.out / "reward")
        return candidates, reward

    def _newcomer(self, group: str, candidates: Candidates, reward: RewardModel) -> list[Comparison]:
        """What a newcomer to a group, who has its very taste, says to the questions that tell most of a stranger."""
        who, rng, people = member(group, NEWCOMERS[group]), numpy_rng(self.seed, "newcomer", group), reward.role.people
        assert people is not None, "they were just fitted"
        places = [
            (prompt, one, other)
            for prompt, row in enumerate(candidates.answers)
            for one, other in combinations(range(len(row)), 2)
            if row[one].text.split() != row[other].text.split()
        ]
        prompt_P, one_P, other_P = torch.tensor(places).T
        difference_PD = candidates.feature_PKD[prompt_P, one_P] - candidates.feature_PKD[prompt_P, other_P]
        offset_P = difference_PD @ reward.role.head.weight.detach()[0].double()
        unknown = PersonalPairs(
            difference_PD=difference_PD, offset_P=offset_P, probability_P=offset_P, annotator_P=prompt_P
        )
        told, world = [], build_world(0)
        for chosen in people.questions(unknown, self.settings.questions):
            prompt, one, other = places[chosen]
            asked, pair = candidates.prompts[prompt], [candidates.answers[prompt][place] for place in (one, other)]
            first, second = (utility(who, judge(world, asked, answer).overall, answer.text) for answer in pair)
            if rng.random() > 1 / (1 + float(torch.tensor(second - first).exp())):
                pair.reverse()
            provenance = Provenance(source="simulated", who=who.name)
            told.append(
                Comparison(prompt=asked.conversation, chosen=pair[0], rejected=pair[1], provenance=provenance)
            )  # fmt: skip
        return told

    def answers(self, model: LanguageModel) -> Answered:
        """One answer per held-out prompt at temperature 1."""
        world, prompts = build_world(0), self.held_out
        sampling = SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0)
        seed = derive(self.seed, "evaluate")
        turns = model.sampler.sample([prompt.conversation for prompt in prompts], sampling=sampling, seed=seed)
        gold = [judge(world, prompt, turn.completion).overall for prompt, turn in zip(prompts, turns, strict=True)]
        return Answered(texts=tuple(turn.completion.text for turn in turns), gold=tuple(gold))


def _train(job: People, pairs: Mapping[str, Sequence[Comparison]], watch: Watch = Watch()) -> dict[str, Answered]:
    """An adapter on the SFT model for each set of pairs, saved under its name, and what it says."""
    found, settings = {}, job.settings
    for name, compared in pairs.items():
        model = load_language_model(str(job.out / "sft"), machine=settings.machine, lora=settings.lora)
        prepare_offline(DPO, model, compared, settings.dpo, seed=job.seed).run(watch)
        save_language_model(model, job.out / name)
        found[name] = job.answers(model)
    return found
