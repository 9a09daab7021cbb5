"""On-policy learning as the loop sees it: one tick is one iteration, of whatever method.

publish -> rollout -> score -> token rewards -> advantages -> epochs x mini-batches of updates
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

from assent.algorithms.epochs import Objective, update
from assent.algorithms.estimate import Estimate
from assent.algorithms.on_policy.advantages import with_advantages
from assent.algorithms.on_policy.budget import budgeted, check_cost
from assent.algorithms.on_policy.drift import check_drift
from assent.algorithms.on_policy.estimating import estimate_iterations
from assent.algorithms.on_policy.experience import Experience
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.parts import Parts, check_run
from assent.algorithms.on_policy.ptx import ptx_of
from assent.algorithms.on_policy.refilling import comparable, has_spread, refilled
from assent.algorithms.on_policy.reward_signal import Reward, RewardScale, RewardSum, overlong_penalty, shaped_rewards
from assent.algorithms.on_policy.rollout import HeldOutAnswers, Rollout, Scored, prompts_of, rewarded, rollout
from assent.algorithms.on_policy.rollout_metrics import rollout_metrics
from assent.algorithms.on_policy.settings import AdvantageSettings, OnPolicySettings
from assent.algorithms.on_policy.update import OnPolicyMethod, weighted
from assent.data.order import epoch_order
from assent.environments.acting import without_failed
from assent.errors import RunError
from assent.interrupts import StopRequest, StopRequested
from assent.losses.lagrangian import LagrangeMultiplier
from assent.metrics import Metrics, Stopwatch
from assent.model.checkpoints import save_text
from assent.ports.learning import Need, Outputs, SkippedBatch
from assent.ports.sampling import Progress
from assent.seeds import derive

_STATE = "on_policy.json"


class OnPolicyTask:
    """Ticks = iterations. A request to stop abandons the one under way, and what it has changed is taken back.

    Where the learner has no room for a copy of what it trains, updates that have begun are finished.
    """

    unit = "iterations"

    def __init__(self, method: OnPolicyMethod, parts: Parts, settings: OnPolicySettings, *, seed: int) -> None:
        check_run(method, parts, settings)
        self._method, self._parts, self._settings, self._seed = method, parts, settings, seed
        scorer, self.scale, self.kl = parts.scorer, parts.scale, KLShaping.of(settings)
        self._reward = scorer if isinstance(scorer, RewardSum) else RewardSum([Reward(name="reward", scorer=scorer)])
        self.multiplier, self._ptx = method.multiplier(settings), ptx_of(parts.ptx, settings, seed=seed)
        check_cost(self.multiplier, given=self._reward.cost is not None)
        self._values = tuple(method.critics(settings))
        self._warned, self._failed, self._watch = self._warn(1.0), 0, Stopwatch()
        self.skipped_batches: list[SkippedBatch] = []
        self.total = settings.iterations

    def estimate(self) -> Estimate | None:
        """From what the scale took; a resumed run knows better."""
        parts, settings = self._parts, self._settings
        if parts.seconds_per_completion is None:
            return None
        prompts = prompts_of(parts.prompts, 0, size=settings.batch_size, seed=self._seed)
        asked = [parts.actor.sampler.encode(prompt) for prompt in prompts]
        return estimate_iterations(
            parts.learner, asked, settings, self._training(self.kl), self._scoring,
            seconds_per_completion=parts.seconds_per_completion, tokens_per_completion=self.scale.length,
        )  # fmt: skip

    def _training(self, kl: KLShaping) -> Need:
        settings = self._settings
        need = Need(entropy=settings.entropy_coef > 0, values=self._values, temperature=settings.temperature)
        return kl.training(need)

    @property
    def _scoring(self) -> Need:
        return self.kl.scoring(Need(entropy=True, values=self._values, temperature=self._settings.temperature))

    def begin(self, stop: StopRequest) -> Metrics:
        """The reward on held-out prompts before training, if it is measured on the way."""
        return {"iteration": 0.0, **self._evaluated({}, stop)} if self._settings.evaluate_every else {}

    def tick(self, index: int, stop: StopRequest) -> Metrics:
        """One iteration."""
        self._watch = Stopwatch()
        experience, row = self._collect(index, stop)
        kl = self.kl.updated(row["kl"], len(experience.samples))
        undo = self._parts.learner.snapshot()
        try:
            row = self._learned(index, experience, kl, row, stop if undo else None)
        except StopRequested:
            self._parts.learner.rollback()
            raise
        self.kl = kl
        self.multiplier = self.multiplier and self.multiplier.updated(row["cost"])
        return row

    def _learned(
        self, index: int, experience: Experience, kl: KLShaping, collected: Metrics, stop: StopRequest | None
    ) -> Metrics:
        """The row after the updates and, where it is due, the reward on held-out prompts; only `stop` can end it."""
        settings = self._settings
        loss = partial(self._method.loss, settings=settings, kl=kl)
        objective = Objective(loss=loss, need=self._training(kl), count=self._method.count)
        rows: list[Metrics] = []
        for place in range(settings.updates):
            with self._watch.phase("update"):
                rows += self._update(index, place, experience, objective, stop)
            if rows and settings.target_kl is not None and rows[-1]["approx_kl"] > settings.target_kl:
                break
        names = sorted({name for one in rows for name in one})
        found = {name: [one[name] for one in rows if name in one] for name in names}
        row = collected | {name: sum(values) / len(values) for name, values in found.items()}
        skipped = sum(one["skipped_updates"] for one in rows)
        row |= {"skipped_updates": skipped, "updates": float(len(rows)), "iteration": float(index + 1)}
        row |= self._watch.row(sum(len(sample.tokens) for sample in experience.samples))
        if settings.kl_budget is not None and row["kl"] > settings.kl_budget and index + 1 < self.total:
            told = f"the KL is {row['kl']:.3g} nats a completion: the budget of {settings.kl_budget:g} is spent"
            self._parts.observer.say(f"{told}, and training ends after {index + 1} of {self.total} iterations")
            self.total = index + 1
        every = settings.evaluate_every
        if every and ((index + 1) % every == 0 or index + 1 == self.total):
            row |= self._evaluated(row, stop)
        return row

    def _evaluated(self, row: Metrics, stop: StopRequest | None) -> Metrics:
        """The mean raw reward on held-out prompts, with the same random numbers each time; only `stop` can end it."""
        parts, watch, asked = self._parts, Stopwatch(), self._parts.observer.held_out
        with watch.phase("evaluate"):
            parts.learner.publish()
            progress = self._counted("held-out completions written", len(asked), stop)
            episodes = parts.actor.play(asked, seed=derive(self._seed, "eval"), progress=progress)
            kept = without_failed(episodes)
            scorer = self._reward.watched(self._counted("held-out completions scored", len(kept), stop))
            rewards = scorer.score([one.prompt for one in kept], [one.completion for one in kept])
            answers = HeldOutAnswers(
                iteration=round(row.get("iteration", 0.0)), episodes=tuple(kept), rewards=tuple(rewards),
                kl=row.get("kl", 0.0), entropy=row.get("entropy"),
            )  # fmt: skip
            found = parts.observer.evaluated(answers) if len(kept) == len(asked) else {}
        return {"eval_reward": sum(rewards) / len(rewards), **found, "seconds/evaluate": watch.seconds}

    def _counted(self, what: str, total: int, stop: StopRequest | None) -> Progress:
        """Progress that tells the observer how many are done, and ends the work if someone asked to stop."""
        counts = [0]

        def progress(more: int) -> None:
            counts[0] += more
            self._parts.observer.note(f"{what}: {counts[0]}/{total}")
            if stop is not None:
                stop.check()

        return progress

    def _collect(self, index: int, stop: StopRequest) -> tuple[Experience, Metrics]:
        """Write and score completions with the policy as it is, and turn them into experience."""
        parts, settings = self._parts, self._settings
        version = parts.learner.publish()
        with self._watch.phase("rollout"):
            parts.actor.meet(iteration=index, seed=derive(self._seed, "meet", index))
        found = refilled(partial(self._write, index, version, stop), settings.batch_size, most=settings.refills)
        written, groups = found.written, comparable(found.groups, settings)
        with self._watch.phase("score"):
            experience = self._scored(Experience.of(groups), stop)
        reward_B = [trajectory.reward or 0.0 for group in groups for trajectory in group.trajectories]
        white = isinstance(settings, AdvantageSettings) and settings.whiten_rewards
        token_rewards = self.kl.token_rewards(reward_B, experience, white=white)
        known = budgeted(experience, groups, self.multiplier)
        experience = with_advantages(known.experience, token_rewards, self._method, settings, known.multiplier)
        row = rollout_metrics(written, experience) | known.row
        if settings.samples_per_prompt > 1:
            flat = sum(not has_spread(group) for group in written.groups)
            row |= {"groups_without_spread": flat / len(written.groups), "groups_dropped": float(found.dropped)}
            used = sum(bool(sample.columns["advantage"].any()) for sample in experience.samples)
            row["learned_fraction"] = used / len(experience.samples)
        row["reward_normalised"] = sum(self.scale.maximised(written.rewards)) / len(written.rewards)
        if len(written.scores) > 1:
            row |= {f"reward/{name}": sum(values) / len(values) for name, values in written.scores.items()}
        row |= self._penalty(row["kl"])
        if written.failed and not self._failed:
            parts.observer.say(f"warning: {len(written.failed)} episodes failed; the first: {written.failed[0]}")
        self._failed += len(written.failed)
        seen = Rollout(iteration=index, rewards=written.rewards, episodes=tuple(written.episodes))
        return experience, row | parts.observer.rollout(seen)

    def _write(self, index: int, version: int, stop: StopRequest, attempt: int, count: int) -> Scored:
        """The groups of one attempt of an iteration with their rewards; a pure function of the seed."""
        parts, settings, again = self._parts, self._settings, (attempt,) if attempt else ()
        order = derive(self._seed, "refill", attempt) if attempt else self._seed
        with self._watch.phase("rollout"):
            groups = rollout(
                parts.actor,
                prompts_of(parts.prompts, index, size=settings.batch_size, seed=order)[:count],
                settings.samples_per_prompt,
                seed=derive(self._seed, "rollout", index, *again),
                progress=self._counted("written", count * settings.samples_per_prompt, stop),
            )
        every = [trajectory for group in groups for trajectory in group.trajectories]
        episodes = without_failed(every)
        if any(turn.version != version for one in episodes for turn in one.turns):
            raise RunError(
                "rollouts were sampled from other weights than those just published",
                now="Nothing was updated with them; look at the sampler.",
            )
        completions = [one.completion for one in episodes]
        with self._watch.phase("reward"):
            scorer = self._reward.watched(self._counted("scored", len(completions), stop))
            scores = scorer.scores([one.prompt for one in episodes], completions)
        stop.check()
        rewards = self._reward.total(scores)
        maximised = shaped_rewards(self.scale.maximised(rewards), completions, self.scale.eos_penalty(settings))
        penalties = [overlong_penalty(len(one.turns[-1].completion_ids), settings) for one in episodes]
        reward_B = iter([one - penalty for one, penalty in zip(maximised, penalties, strict=True)])
        cost_B = None if self._reward.cost is None else iter(scores.pop(self._reward.cost))
        return Scored(
            groups=tuple(rewarded(group, reward_B, cost_B) for group in groups), rewards=tuple(rewards), scores=scores,
            failed=tuple(one.problem for one in every if one.failed),
        )  # fmt: skip

    def _scored(self, experience: Experience, stop: StopRequest) -> Experience:
        """Statistics of every written token under policy, reference and critics; refuses a sampler that drifts."""
        settings, samples, learner = self._settings, experience.samples, self._parts.learner
        states = [sample.states for sample in samples]
        progress = self._counted("read", len(samples), stop)
        outputs = learner.score(samples, self._scoring, states=states, progress=progress)
        truncated = settings.top_p < 1.0 or settings.top_k > 0
        check_drift(samples, outputs, truncated=truncated, limit=learner.drift_limit)
        return self.kl.observed(experience.with_columns(Outputs.joined(outputs).columns))

    def _update(
        self, index: int, place: int, experience: Experience, objective: Objective, stop: StopRequest | None
    ) -> list[Metrics]:
        """One optimiser step, or none if there is nothing to learn; the completions of one prompt stay together."""
        settings = self._settings
        epoch, mini = divmod(place, settings.mini_batches)
        groups = experience.groups
        order = epoch_order(len(groups), seed=derive(self._seed, "mini", index), epoch=epoch)
        rate = settings.rate(index * settings.updates + place, settings.iterations * settings.updates)
        samples = weighted(
            [experience.samples[at] for group in order[mini :: settings.mini_batches] for at in groups[int(group)]],
            self._method.normalisation(settings), max_tokens=self._parts.actor.most_tokens,
        )  # fmt: skip
        chosen = self._method.learned(samples, settings)
        if not chosen:
            return []
        if self._ptx is not None:
            chosen = [*chosen, *self._ptx.drawn(index * settings.updates + place)]
            objective = self._ptx.added(objective)
        progress = self._counted(f"read in update {place + 1} of {settings.updates}", len(chosen), stop)
        progress(0)
        return [update(self._parts.learner, chosen, objective, rate, self.skipped_batches, progress=progress)]

    def _penalty(self, kl: float) -> Metrics:
        """What the KL of a completion costs, in units of the reward that is maximised and in its spreads."""
        self._warned = self._warned or (kl >= 1.0 and self._warn(kl))
        share = self.scale.share(self.kl.coef * kl)
        found = {"kl_coef": self.kl.coef, "kl_penalty": self.kl.coef * kl}
        return found if share is None else found | {"penalty_share": share}

    def _warn(self, kl: float) -> bool:
        """Say it if a KL of some nats costs next to nothing, or more than the reward can weigh up; once in a run."""
        warning = self.scale.warning(kl, self.kl.coef)
        if warning is not None:
            self._parts.observer.say(warning)
        return warning is not None

    def save(self, folder: Path) -> dict[str, str]:
        """The learner, the KL coefficient, scale and multiplier, where the run ends, and what the environment knows."""
        state = json.dumps(
            {
                "kl_coef": self.kl.coef, "scale": asdict(self.scale), "total": self.total,
                "multiplier": self.multiplier and asdict(self.multiplier), "environment": self._parts.actor.save(),
            }
        )  # fmt: skip
        return {**self._parts.learner.save(folder), _STATE: save_text(folder / _STATE, state)}

    def load(self, folder: Path) -> None:
        """The reverse of `save`."""
        self._parts.learner.load(folder)
        state = json.loads((folder / _STATE).read_text())
        self.kl, self.scale = self.kl.with_coef(state["kl_coef"]), RewardScale(**state["scale"])
        self.total = state["total"]
        self.multiplier = state["multiplier"] and LagrangeMultiplier(**state["multiplier"])
        self._parts.actor.load(state["environment"])


def kept_scale(checkpoints: Path) -> RewardScale | None:
    """The reward's scale as the checkpoints of a run hold it, all of them the same; None without a checkpoint."""
    states = sorted(checkpoints.glob(f"step-*/{_STATE}"))
    return RewardScale(**json.loads(states[-1].read_text())["scale"]) if states else None
