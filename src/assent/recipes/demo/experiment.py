"""The main job on the embedded world: base -> SFT -> samples -> rankings -> reward model -> PPO and DPO -> evaluation.

One call runs one seed and gives back everything the report shows of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from assent.algorithms.loop import Watch
from assent.algorithms.ppo import Rollout
from assent.algorithms.ppo_settings import PPOSettings
from assent.algorithms.reward_signal import RewardScale
from assent.data.convert import comparisons
from assent.evals.evidence import Sample
from assent.evals.gold import ArmScores, arm_scores
from assent.evals.over_optimisation import Evaluation
from assent.evals.reward_quality import ScoredPairs
from assent.interrupts import StopRequest
from assent.metrics import Metrics
from assent.ports.sampling import Progress, Sampling, silent
from assent.recipes.demo.experiment_settings import MAX_TOKENS, ExperimentSettings
from assent.recipes.run.models import (
    LanguageModel,
    MachineOptions,
    RewardModel,
    load_language_model,
    load_reward_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.run.progress import Display, Stage
from assent.recipes.run.second_process import SecondProcess, cores
from assent.recipes.training.prepare import (
    measure_scale,
    score_judged,
    train_dpo,
    train_ppo,
    train_reward_model,
    train_reward_model_wise_ft,
    train_sft,
)
from assent.seeds import derive, numpy_rng
from assent.types import Comparison, Completion, Ranking
from assent.world.annotators import ANNOTATORS, population_preference, rank
from assent.world.demonstrations import demonstrations
from assent.world.facts import World, build_world
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt, make_prompts

_SAMPLE_KINDS_EACH = 2


@dataclass(slots=True)
class Outcome:
    """What one seed gave: gold scores by arm, curves, reward model quality, samples and seconds by stage."""

    seed: int
    scores: dict[str, ArmScores] = field(default_factory=dict)
    curves: dict[str, tuple[Metrics, ...]] = field(default_factory=dict)
    optimisation: dict[str, tuple[Evaluation, ...]] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    gold_of: dict[str, list[float]] = field(default_factory=dict)
    judged: ScoredPairs | None = None  # held-out pairs with the reward model's scores and the population's preference
    stage_s: dict[str, float] = field(default_factory=dict)
    concurrent_stages: dict[str, float] = field(default_factory=dict)  # those of `stage_s` that ran in another process

    def add(self, other: Outcome) -> None:
        """Take over what another process found for the same seed."""
        for name in ("scores", "curves", "optimisation", "answers", "gold_of", "stage_s"):
            getattr(self, name).update(getattr(other, name))
        self.concurrent_stages.update(other.stage_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentContext:
    """Where a main job runs: the world, the base model's folder, the machine, the output, and who watches."""

    world: World
    base: Path
    machine: MachineOptions
    out: Path
    display: Display
    stop: StopRequest | None = None
    record: Callable[[Metrics], None] = lambda row: None  # every iteration of PPO, as it is done


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArmContext:
    """What another process needs for an arm that starts from the SFT model in `out`."""

    settings: ExperimentSettings
    world_seed: int
    machine: MachineOptions
    out: Path
    seed: int

    def job(self) -> Experiment:
        display = Display(quiet=True)
        world = build_world(self.world_seed)
        context = ExperimentContext(
            world=world, base=self.out / "sft", machine=self.machine, out=self.out, display=display
        )
        return Experiment(self.settings, context, seed=self.seed)


def _candidates_there(there: _ArmContext, turns: tuple[int, ...]) -> dict[int, list[Completion]]:
    """Half of what is to be ranked is written here, half there."""
    job = there.job()
    return job.candidates(load_language_model(str(there.out / "sft"), machine=there.machine), turns, lambda texts: None)


def _dpo_arm(there: _ArmContext, rankings: list[Ranking]) -> Outcome:
    """DPO needs the SFT model and the rankings alone: it runs beside the reward model and PPO."""
    job = there.job()
    job.dpo(rankings)
    return job.outcome


def _no_kl_arm(there: _ArmContext, scale: RewardScale) -> Outcome:
    """KL weight 0, from the SFT and the reward model in the output folder: it runs beside PPO."""
    reward = load_reward_model(str(there.out / "reward"), machine=there.machine)
    job = there.job()
    job.no_kl(reward, scale)
    return job.outcome


class Experiment:
    """One seed of the main job."""

    def __init__(self, settings: ExperimentSettings, place: ExperimentContext, *, seed: int) -> None:
        self.settings, self.place, self.seed = settings, place, seed
        self.outcome = Outcome(seed=seed)
        self.held_out = make_prompts(
            place.world, split=settings.evaluation_split, count=settings.evaluation_prompts,
            seed=derive(seed, "evaluation"),
        )  # fmt: skip
        self._prompt_of = {prompt.conversation: prompt for prompt in self.held_out}

    def run(self) -> Outcome:
        """All stages in order."""
        settings, place = self.settings, self.place
        base = self._load(place.base)
        self._evaluate("base", base)
        self._evaluate_ideal()
        self._fine_tune(base)
        sft_folder = place.out / "sft"
        save_language_model(base, sft_folder)
        self._evaluate("sft", base)
        rankings, held_out = self._rank(base)
        dpo = SecondProcess(_dpo_arm, self._elsewhere(), rankings)
        reward = self._reward(sft_folder, rankings, held_out)
        prompts = self._train_prompts(settings.ranked_prompts, "ranked")
        asked = [prompt.conversation for prompt in prompts]
        scale = measure_scale(reward.scorer, base, asked, settings.ppo, seed=self.seed)
        save_reward_model(reward, place.out / "reward")
        no_kl = SecondProcess(_no_kl_arm, self._elsewhere(), scale)
        self._ppo("ppo", base, reward, scale, prompts, settings.ppo)
        save_language_model(base, place.out / "ppo")
        self._evaluate("ppo", base)
        with self._stage("DPO and no KL (beside)", 2, unit="arms") as stage:
            for arm in (dpo, no_kl):
                self.outcome.add(arm.result())
                stage.advance()
        return self.outcome

    def _load(self, folder: Path) -> LanguageModel:
        return load_language_model(str(folder), machine=self.place.machine)

    def _train_prompts(self, count: int, name: str) -> list[WorldPrompt]:
        prompts = make_prompts(self.place.world, split="train", count=count, seed=derive(self.seed, name))
        self._prompt_of |= {prompt.conversation: prompt for prompt in prompts}
        return prompts

    @contextmanager
    def _stage(self, name: str, total: int, unit: str = "steps") -> Iterator[Stage]:
        start = time.monotonic()
        with self.place.display.stage(name, total, unit=unit) as stage:
            yield stage
        self.outcome.stage_s[name] = time.monotonic() - start

    def _watch(self, stage: Stage) -> Watch:
        def on_tick(done: int, total: int, row: Metrics | None) -> None:
            stage.on_tick(done, total, row)
            if row and "reward" in row:
                self.place.record(row)

        return Watch(on_tick=on_tick, stop=self.place.stop)

    def _fine_tune(self, model: LanguageModel) -> None:
        settings = self.settings
        shown = demonstrations(self.place.world, count=settings.demonstrations, seed=derive(self.seed, "shown"))
        steps = round(settings.sft.epochs * -(-len(shown) // settings.sft.batch_size))
        with self._stage("fine-tune (SFT)", steps) as stage:
            trained = train_sft(model, shown, settings.sft, seed=self.seed, watch=self._watch(stage))
        self.outcome.curves["sft"] = tuple(trained.rows)

    def _rank(self, model: LanguageModel) -> tuple[list[Ranking], list[tuple[WorldPrompt, Ranking]]]:
        """Sample K completions per prompt, have simulated people rank them; the last prompts are held out."""
        prompts, count = self._ranked_prompts(), len(self.settings.temperatures)
        all_turns = tuple(range(count))
        here, there = (all_turns[::2], all_turns[1::2]) if cores() > 1 and count > 1 else (all_turns, ())
        with self._stage("sample and rank", len(prompts) * count, "texts") as stage:
            elsewhere = SecondProcess(_candidates_there, self._elsewhere(), there) if there else None
            written = self.candidates(model, here, lambda texts: stage.advance(texts * count // len(here)))
            written |= elsewhere.result() if elsewhere else {}
            rng = numpy_rng(self.seed, "people")
            ranked = []
            for i, prompt in enumerate(prompts):
                completions = [written[turn][i] for turn in all_turns]
                ranked.append(rank(self.place.world, ANNOTATORS[i % len(ANNOTATORS)], prompt, completions, rng))
        train = self.settings.ranked_prompts
        return ranked[:train], list(zip(prompts, ranked, strict=True))[train:]

    def _ranked_prompts(self) -> list[WorldPrompt]:
        settings, world = self.settings, self.place.world
        judged = derive(self.seed, "judged")
        return self._train_prompts(settings.ranked_prompts, "ranked") + make_prompts(
            world, split=settings.evaluation_split, count=settings.ranked_held_out, seed=judged
        )

    def candidates(
        self, model: LanguageModel, turns: Sequence[int], progress: Callable[[int], None]
    ) -> dict[int, list[Completion]]:
        """By turn, one completion of every prompt that is to be ranked, at the turn's temperature."""
        settings = self.settings
        conversations = [prompt.conversation for prompt in self._ranked_prompts()]
        written = {}
        for turn in turns:
            sampling = Sampling(
                max_tokens=MAX_TOKENS, temperature=settings.temperatures[turn], top_p=settings.top_p, batch_size=256
            )
            seed = derive(self.seed, "candidates", turn)
            sampled = model.sampler.sample(conversations, sampling=sampling, seed=seed, progress=progress)
            written[turn] = [one.completion for one in sampled]
        return written

    def _elsewhere(self) -> _ArmContext:
        place = self.place
        return _ArmContext(
            settings=self.settings, world_seed=place.world.seed, machine=place.machine, out=place.out, seed=self.seed
        )

    def _reward(
        self, folder: Path, rankings: Sequence[Ranking], held_out: Sequence[tuple[WorldPrompt, Ranking]]
    ) -> RewardModel:
        settings = self.settings.reward
        reward = new_reward_model(str(folder), machine=self.place.machine, seed=self.seed)
        steps = round(settings.epochs * -(-len(rankings) // settings.batch_size))
        with self._stage("reward head", 1) as stage:
            train_reward_model(
                reward, rankings, settings.model_copy(update={"train": "head"}), seed=self.seed,
                watch=self._watch(stage),
            )  # fmt: skip
        with self._stage("reward model", steps) as stage:
            trained = train_reward_model_wise_ft(reward, rankings, settings, seed=self.seed, watch=self._watch(stage))
        self.outcome.curves["reward"] = tuple(trained.rows)
        self.outcome.judged = score_judged(reward, self._judged(held_out), settings).pairs
        return reward

    def _judged(self, held_out: Sequence[tuple[WorldPrompt, Ranking]]) -> list[Comparison]:
        """The held-out pairs, each with the share of the population that would prefer the one that was preferred.

        So accuracy is what is expected of a person drawn at random, and not what one draw of labels happened to say.
        """
        prompt_of = {prompt.conversation: prompt for prompt, _ in held_out}
        pairs = comparisons([ranking for _, ranking in held_out], keep_ties=False, margin_per_score=0.0)
        return [
            replace(
                pair,
                probability=population_preference(self.place.world, prompt_of[pair.prompt], pair.chosen, pair.rejected),
            )
            for pair in pairs
        ]

    def _ppo(
        self, arm: str, model: LanguageModel, reward: RewardModel, scale: RewardScale, prompts: Sequence[WorldPrompt],
        settings: PPOSettings,
    ) -> None:  # fmt: skip
        ticks = settings.iterations * (settings.updates + 1)
        conversations = [prompt.conversation for prompt in prompts]
        path = [self._judge_policy(model, reward, iteration=0, kl=0.0)]
        with self._stage("PPO" if arm == "ppo" else "PPO, KL weight 0", ticks) as stage:
            watch = self._watch(stage)

            def on_tick(done: int, total: int, row: Metrics | None) -> None:
                watch.on_tick(done, total, row)
                if row and (row["iteration"] % self.settings.judge_every == 0 or done == total):
                    path.append(self._judge_policy(model, reward, iteration=int(row["iteration"]), kl=row["kl"]))

            trained = train_ppo(
                model, conversations, settings, seed=self.seed, reward=reward, scale=scale,
                observer=self._gold_of_rollout, watch=replace(watch, on_tick=on_tick),
            )  # fmt: skip
        self.outcome.curves[arm] = tuple(trained.rows)
        self.outcome.optimisation[arm] = tuple(path)

    def _judge_policy(self, model: LanguageModel, reward: RewardModel, *, iteration: int, kl: float) -> Evaluation:
        """The policy as it is, on the held-out prompts; the same random numbers each time."""
        conversations = [prompt.conversation for prompt in self.held_out]
        completions = self._answers(model)
        scores = [judge(self.place.world, p, c).overall for p, c in zip(self.held_out, completions, strict=True)]
        proxies = reward.scorer.score(conversations, completions)
        return Evaluation(step=iteration, kl=kl, proxy_P=tuple(proxies), gold_P=tuple(scores))

    def _answers(self, model: LanguageModel, progress: Progress = silent) -> list[Completion]:
        """One sample at temperature 1 per held-out prompt."""
        turns = model.sampler.sample(
            [prompt.conversation for prompt in self.held_out],
            sampling=Sampling(max_tokens=MAX_TOKENS, temperature=1.0, batch_size=256),
            seed=derive(self.seed, "evaluate"),
            progress=progress,
        )
        return [turn.completion for turn in turns]

    def _gold_of_rollout(self, rollout: Rollout) -> Metrics:
        scores = [
            judge(self.place.world, self._prompt_of[prompt], completion).overall
            for prompt, completion in zip(rollout.prompts, rollout.completions, strict=True)
        ]
        return {"gold": sum(scores) / len(scores)}

    def dpo(self, rankings: Sequence[Ranking]) -> None:
        """The DPO arm, from the SFT model that is in the output folder."""
        settings, model = self.settings.dpo, self._load(self.place.out / "sft")
        pairs = comparisons(rankings, keep_ties=False, margin_per_score=0.0)
        steps = round(settings.epochs * -(-len(pairs) // settings.batch_size))
        with self._stage("DPO", steps) as stage:
            trained = train_dpo(model, pairs, settings, seed=self.seed, watch=self._watch(stage))
        self.outcome.curves["dpo"] = tuple(trained.rows)
        save_language_model(model, self.place.out / "dpo")
        self._evaluate("dpo", model)

    def no_kl(self, reward: RewardModel, scale: RewardScale) -> None:
        """The arm with KL weight 0, from the SFT model that is in the output folder."""
        prompts = self._train_prompts(self.settings.ranked_prompts, "ranked")
        self._ppo("no_kl", self._load(self.place.out / "sft"), reward, scale, prompts, self.settings.no_kl)

    def _evaluate(self, arm: str, model: LanguageModel) -> None:
        """Answers to the held-out prompts, scored by the gold judge."""
        with self._stage(f"evaluate {arm}", len(self.held_out), "texts") as stage:
            completions = self._answers(model, stage.counter)
        self._score(arm, completions)

    def _evaluate_ideal(self) -> None:
        self._score("oracle", [Completion(text=prompt.ideal[0]) for prompt in self.held_out])

    def _score(self, arm: str, completions: Sequence[Completion]) -> None:
        scores = [judge(self.place.world, p, c) for p, c in zip(self.held_out, completions, strict=True)]
        names = [prompt.conversation.last_user_text for prompt in self.held_out]
        self.outcome.scores[arm] = arm_scores(names, [prompt.kind for prompt in self.held_out], scores)
        self.outcome.answers[arm] = [completion.text for completion in completions]
        self.outcome.gold_of[arm] = [score.overall for score in scores]

    def samples(self) -> tuple[Sample, ...]:
        """A few held-out prompts of every kind with the answers of all arms, the first ones drawn (no choosing)."""
        chosen: list[int] = []
        seen: dict[str, int] = {}
        for place, prompt in enumerate(self.held_out):
            if seen.setdefault(prompt.kind, 0) < _SAMPLE_KINDS_EACH:
                seen[prompt.kind] += 1
                chosen.append(place)
        return tuple(self._sample(place) for place in chosen)

    def _sample(self, place: int) -> Sample:
        shown = [arm for arm in ("base", "sft", "dpo", "ppo", "oracle") if arm in self.outcome.answers]
        names: Mapping[str, str] = {arm: "ideal" if arm == "oracle" else arm for arm in shown}
        return Sample(
            prompt=self.held_out[place].conversation.last_user_text,
            kind=self.held_out[place].kind,
            answers={name: self.outcome.answers[arm][place] for arm, name in names.items()},
            gold={name: self.outcome.gold_of[arm][place] for arm, name in names.items()},
        )
