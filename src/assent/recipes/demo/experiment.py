"""The main job on the embedded world: base -> SFT -> samples -> rankings -> reward model -> PPO and DPO -> evaluation.

`Experiment.run` runs one seed and returns everything that the report shows of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from assent.algorithms.dpo import DPO
from assent.algorithms.loop import Watch
from assent.algorithms.on_policy.reward_signal import RewardScale
from assent.algorithms.on_policy.rollout import Observer, Rollout
from assent.algorithms.ppo import PPO, PPOSettings
from assent.algorithms.reward import REWARD_MODEL
from assent.algorithms.sft import SFT
from assent.data.convert import comparisons
from assent.evals.over_optimisation import Evaluation
from assent.interrupts import StopRequest
from assent.metrics import Metrics
from assent.ports.sampling import Progress, SamplingParams, silent
from assent.recipes.demo.experiment_settings import MAX_TOKENS, ExperimentSettings
from assent.recipes.demo.labels import population_pairs, rank_candidates
from assent.recipes.demo.result import ExperimentResult
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import (
    LanguageModel,
    RewardModel,
    load_language_model,
    load_reward_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.run.progress import Display, Stage
from assent.recipes.run.second_process import SecondProcess, cores
from assent.recipes.training.prepare import prepare_offline, score_judged, train_reward_model_wise_ft
from assent.recipes.training.prepare_on_policy import ScaledReward, measure_scale, prepare_on_policy
from assent.seeds import derive
from assent.types import Completion, Ranking
from assent.world.demonstrations import demonstrations
from assent.world.facts import World, build_world
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt, make_prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentContext:
    """Where an experiment runs: the world, the base model, the machine, the output folder, the display."""

    world: World
    base: Path
    machine: MachineOptions
    out: Path
    display: Display
    stop: StopRequest = field(default_factory=StopRequest)
    record: Callable[[Metrics], None] = lambda row: None  # gets the metrics of every PPO iteration


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArmContext:
    """What another process needs to train an arm from the SFT model in `out`."""

    settings: ExperimentSettings
    world_seed: int
    machine: MachineOptions
    out: Path
    seed: int

    def job(self) -> Experiment:
        context = ExperimentContext(
            world=build_world(self.world_seed), base=self.out / "sft", machine=self.machine, out=self.out,
            display=Display(quiet=True),
        )  # fmt: skip
        return Experiment(self.settings, context, seed=self.seed)


def _sample_turns(context: _ArmContext, turns: tuple[int, ...]) -> dict[int, list[Completion]]:
    """The completions of these turns, sampled in a second process."""
    model = load_language_model(str(context.out / "sft"), machine=context.machine)
    return context.job().candidates(model, turns, lambda texts: None)


def _dpo_arm(context: _ArmContext, rankings: list[Ranking]) -> ExperimentResult:
    """DPO needs only the SFT model and the rankings, so it runs while the reward model and PPO are trained."""
    job = context.job()
    job.dpo(rankings)
    return job.result


def _no_kl_arm(context: _ArmContext, scale: RewardScale) -> ExperimentResult:
    """PPO with kl_coef 0, from the SFT and the reward model in the output folder, while PPO runs."""
    reward = load_reward_model(str(context.out / "reward"), machine=context.machine)
    job = context.job()
    job.no_kl(reward, scale)
    return job.result


class Experiment:
    """One seed of the main job."""

    def __init__(self, settings: ExperimentSettings, context: ExperimentContext, *, seed: int) -> None:
        self.settings, self.context, self.seed = settings, context, seed
        self.result = ExperimentResult(seed=seed)
        self.held_out = make_prompts(
            context.world, split=settings.evaluation_split, count=settings.evaluation_prompts,
            seed=derive(seed, "evaluation"),
        )  # fmt: skip
        self._prompt_of = {prompt.conversation: prompt for prompt in self.held_out}

    def run(self) -> ExperimentResult:
        """All stages in order."""
        settings, context = self.settings, self.context
        base = self._load(context.base)
        self._evaluate("base", base)
        self._score("oracle", [Completion(text=prompt.ideal[0]) for prompt in self.held_out])
        self._fine_tune(base)
        sft_folder = context.out / "sft"
        save_language_model(base, sft_folder)
        self._evaluate("sft", base)
        rankings, held_out = self._rank(base)
        dpo = SecondProcess(_dpo_arm, self._arm_context(), rankings)
        reward = self._reward(sft_folder, rankings, held_out)
        prompts = self._train_prompts(settings.ranked_prompts, "ranked")
        asked = [prompt.conversation for prompt in prompts]
        scale = measure_scale(reward.scorer, base, asked, settings.ppo, seed=self.seed)
        save_reward_model(reward, context.out / "reward")
        no_kl = SecondProcess(_no_kl_arm, self._arm_context(), scale)
        self._ppo("ppo", base, reward, scale, prompts, settings.ppo)
        save_language_model(base, context.out / "ppo")
        self._evaluate("ppo", base)
        with self._stage("DPO and no KL (second process)", 2, unit="arms") as stage:
            for arm in (dpo, no_kl):
                self.result.add(arm.result())
                stage.advance()
        return self.result

    def _load(self, folder: Path) -> LanguageModel:
        return load_language_model(str(folder), machine=self.context.machine)

    def _train_prompts(self, count: int, name: str) -> list[WorldPrompt]:
        prompts = make_prompts(self.context.world, split="train", count=count, seed=derive(self.seed, name))
        self._prompt_of |= {prompt.conversation: prompt for prompt in prompts}
        return prompts

    @contextmanager
    def _stage(self, name: str, total: int, unit: str = "steps") -> Iterator[Stage]:
        start = time.monotonic()
        with self.context.display.stage(name, total, unit=unit) as stage:
            yield stage
        self.result.stage_s[name] = time.monotonic() - start

    def _watch(self, stage: Stage) -> Watch:
        def on_tick(done: int, total: int, row: Metrics) -> None:
            stage.on_tick(done, total, row)
            if "reward" in row:
                self.context.record(row)

        return Watch(on_tick=on_tick, stop=self.context.stop)

    def _fine_tune(self, model: LanguageModel) -> None:
        settings = self.settings
        shown = demonstrations(self.context.world, count=settings.demonstrations, seed=derive(self.seed, "shown"))
        steps = round(settings.sft.epochs * -(-len(shown) // settings.sft.batch_size))
        with self._stage("fine-tune (SFT)", steps) as stage:
            rows = prepare_offline(SFT, model, shown, settings.sft, seed=self.seed).run(self._watch(stage))
        self.result.curves["sft"] = tuple(rows)

    def _rank(self, model: LanguageModel) -> tuple[list[Ranking], list[tuple[WorldPrompt, Ranking]]]:
        """Sample K completions per prompt and let simulated annotators rank them; the last prompts are held out."""
        prompts, count = self._ranked_prompts(), len(self.settings.temperatures)
        all_turns = tuple(range(count))
        here, there = (all_turns[::2], all_turns[1::2]) if cores() > 1 and count > 1 else (all_turns, ())
        with self._stage("sample and rank", len(prompts) * count, "texts") as stage:
            second = SecondProcess(_sample_turns, self._arm_context(), there) if there else None
            written = self.candidates(model, here, lambda texts: stage.advance(texts * count // len(here)))
            written |= second.result() if second else {}
            ranked = rank_candidates(self.context.world, prompts, written, seed=self.seed)
        train = self.settings.ranked_prompts
        return ranked[:train], list(zip(prompts, ranked, strict=True))[train:]

    def _ranked_prompts(self) -> list[WorldPrompt]:
        settings, seed = self.settings, derive(self.seed, "judged")
        return self._train_prompts(settings.ranked_prompts, "ranked") + make_prompts(
            self.context.world, split=settings.evaluation_split, count=settings.ranked_held_out, seed=seed
        )

    def candidates(
        self, model: LanguageModel, turns: Sequence[int], progress: Callable[[int], None]
    ) -> dict[int, list[Completion]]:
        """By turn, one completion of every prompt that is ranked, at the temperature of the turn."""
        prompts, settings = [prompt.conversation for prompt in self._ranked_prompts()], self.settings
        candidates = {}
        for turn in turns:
            at = SamplingParams(max_tokens=MAX_TOKENS, temperature=settings.temperatures[turn], top_p=settings.top_p)
            seed = derive(self.seed, "candidates", turn)
            sampled = model.sampler.sample(prompts, sampling=at, seed=seed, progress=progress)
            candidates[turn] = [one.completion for one in sampled]
        return candidates

    def _arm_context(self) -> _ArmContext:
        return _ArmContext(
            settings=self.settings, world_seed=self.context.world.seed, machine=self.context.machine,
            out=self.context.out, seed=self.seed,
        )  # fmt: skip

    def _reward(
        self, folder: Path, rankings: Sequence[Ranking], held_out: Sequence[tuple[WorldPrompt, Ranking]]
    ) -> RewardModel:
        settings = self.settings.reward
        reward = new_reward_model(str(folder), machine=self.context.machine, seed=self.seed)
        steps = round(settings.epochs * -(-len(rankings) // settings.batch_size))
        with self._stage("reward head", 1) as stage:
            head = settings.model_copy(update={"train": "head"})
            prepare_offline(REWARD_MODEL, reward, rankings, head, seed=self.seed).run(self._watch(stage))
        with self._stage("reward model", steps) as stage:
            rows = train_reward_model_wise_ft(reward, rankings, settings, seed=self.seed, watch=self._watch(stage))
        self.result.curves["reward"] = tuple(rows)
        self.result.reward_pairs = score_judged(reward, population_pairs(self.context.world, held_out), settings).pairs
        return reward

    def _ppo(
        self, arm: str, model: LanguageModel, reward: RewardModel, scale: RewardScale, prompts: Sequence[WorldPrompt],
        settings: PPOSettings,
    ) -> None:  # fmt: skip
        conversations = [prompt.conversation for prompt in prompts]
        path = [self._judge_policy(model, reward, iteration=0, kl=0.0)]
        with self._stage("PPO" if arm == "ppo" else "PPO, KL weight 0", settings.iterations, "iterations") as stage:
            watch = self._watch(stage)

            def on_tick(done: int, total: int, row: Metrics) -> None:
                watch.on_tick(done, total, row)
                if row["iteration"] % self.settings.judge_every == 0 or done == total:
                    path.append(self._judge_policy(model, reward, iteration=int(row["iteration"]), kl=row["kl"]))

            prepared = prepare_on_policy(
                PPO, model, conversations, settings, seed=self.seed, reward=ScaledReward(reward=reward, scale=scale),
                observer=Observer(rollout=self._gold_of_rollout),
            )  # fmt: skip
            rows = prepared.run(replace(watch, on_tick=on_tick))
        self.result.curves[arm] = tuple(rows)
        self.result.optimisation[arm] = tuple(path)

    def _judge_policy(self, model: LanguageModel, reward: RewardModel, *, iteration: int, kl: float) -> Evaluation:
        """The policy as it is, on the held-out prompts; the same random numbers each time."""
        conversations = [prompt.conversation for prompt in self.held_out]
        completions = self._answers(model)
        scores = [judge(self.context.world, p, c).overall for p, c in zip(self.held_out, completions, strict=True)]
        proxies = reward.scorer.score(conversations, completions)
        return Evaluation(step=iteration, kl=kl, proxy_P=tuple(proxies), gold_P=tuple(scores))

    def _answers(self, model: LanguageModel, progress: Progress = silent) -> list[Completion]:
        """One sample at temperature 1 per held-out prompt."""
        prompts = [prompt.conversation for prompt in self.held_out]
        sampling = SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0)
        turns = model.sampler.sample(prompts, sampling=sampling, seed=derive(self.seed, "evaluate"), progress=progress)
        return [turn.completion for turn in turns]

    def _gold_of_rollout(self, rollout: Rollout) -> Metrics:
        scores = [
            judge(self.context.world, self._prompt_of[prompt], completion).overall
            for prompt, completion in zip(rollout.prompts, rollout.completions, strict=True)
        ]
        return {"gold": sum(scores) / len(scores)}

    def dpo(self, rankings: Sequence[Ranking]) -> None:
        """The DPO arm, from the SFT model that is in the output folder."""
        settings, model = self.settings.dpo, self._load(self.context.out / "sft")
        pairs = comparisons(rankings, keep_ties=False, margin_per_score=0.0)
        steps = round(settings.epochs * -(-len(pairs) // settings.batch_size))
        with self._stage("DPO", steps) as stage:
            rows = prepare_offline(DPO, model, pairs, settings, seed=self.seed).run(self._watch(stage))
        self.result.curves["dpo"] = tuple(rows)
        save_language_model(model, self.context.out / "dpo")
        self._evaluate("dpo", model)

    def no_kl(self, reward: RewardModel, scale: RewardScale) -> None:
        """The arm with KL weight 0, from the SFT model that is in the output folder."""
        prompts = self._train_prompts(self.settings.ranked_prompts, "ranked")
        self._ppo("no_kl", self._load(self.context.out / "sft"), reward, scale, prompts, self.settings.no_kl)

    def _evaluate(self, arm: str, model: LanguageModel) -> None:
        """Answers to the held-out prompts, scored by the gold judge."""
        with self._stage(f"evaluate {arm}", len(self.held_out), "texts") as stage:
            completions = self._answers(model, stage.counter)
        self._score(arm, completions)

    def _score(self, arm: str, completions: Sequence[Completion]) -> None:
        golds = [judge(self.context.world, p, c) for p, c in zip(self.held_out, completions, strict=True)]
        self.result.add_answers(arm, self.held_out, completions, golds)
