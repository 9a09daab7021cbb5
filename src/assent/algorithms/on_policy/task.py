"""On-policy learning as the loop sees it: one tick is one iteration, of whatever method.

publish -> rollout -> score -> token rewards -> advantages -> epochs x mini-batches of updates
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from assent.algorithms.epochs import Objective, predicted_tokens, update
from assent.algorithms.on_policy.advantages import with_advantages
from assent.algorithms.on_policy.drift import check_drift
from assent.algorithms.on_policy.experience import Experience, Sample
from assent.algorithms.on_policy.kl_shaping import KLShaping
from assent.algorithms.on_policy.refilling import has_spread, refilled
from assent.algorithms.on_policy.reward_signal import (
    Reward,
    RewardScale,
    RewardSum,
    overlong_penalty,
    shaped_rewards,
)
from assent.algorithms.on_policy.rollout import Observer, Rollout, Scored, prompts_of, rewarded, rollout
from assent.algorithms.on_policy.settings import OnPolicySettings
from assent.algorithms.on_policy.update import OnPolicyMethod, weighted
from assent.data.order import epoch_order
from assent.environments.acting import Actor, without_failed
from assent.errors import ConfigError, RunError
from assent.interrupts import StopRequest
from assent.metrics import Metrics, Stopwatch
from assent.model.checkpoints import save_text
from assent.ports.learning import Learner, Need, Outputs, SkippedBatch
from assent.ports.sampling import Progress, Scorer
from assent.seeds import derive
from assent.types import Conversation, Group, StopReason

_STATE = "on_policy.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an on-policy run is put together from: prompts, who learns, who acts, who scores and on which scale."""

    prompts: Sequence[Conversation]
    learner: Learner
    actor: Actor
    scorer: Scorer
    scale: RewardScale
    observer: Observer = field(default_factory=Observer)


class OnPolicyTask:
    """Ticks = iterations. A request to stop abandons an iteration whose updates have not begun: nothing has changed."""

    unit = "iterations"

    def __init__(self, method: OnPolicyMethod, parts: Parts, settings: OnPolicySettings, *, seed: int) -> None:
        if not parts.prompts:
            raise ConfigError("there are no prompts to write completions for")
        if settings.mini_batches > settings.batch_size:
            raise ConfigError(f"{settings.mini_batches} mini-batches of {settings.batch_size} prompts would be empty")
        if settings.overlong_tokens > settings.max_tokens:
            raise ConfigError(f"overlong_tokens ({settings.overlong_tokens}) is more than max_tokens allows")
        if not method.per_token and (settings.kl_in, settings.kl_estimator) == ("reward", "exact"):
            raise ConfigError(
                "this method has one advantage for a whole completion; the exact KL in the reward needs one per token",
                now='Use kl_estimator="k1" in the reward, or kl_in="loss".',
            )
        if settings.evaluate_every and not parts.observer.held_out:
            now = "Give some (--eval-data), or leave evaluate_every out."
            raise ConfigError("there are no held-out prompts to measure on", where="evaluate_every", now=now)
        self._method, self._parts, self._settings, self._seed = method, parts, settings, seed
        scorer, self.scale, self.kl = parts.scorer, parts.scale, KLShaping.of(settings)
        self._reward = scorer if isinstance(scorer, RewardSum) else RewardSum([Reward(name="reward", scorer=scorer)])
        self._values = tuple(method.critics(settings))
        self._warned, self._failed, self._watch = self._warn(1.0), 0, Stopwatch()
        self.skipped_batches: list[SkippedBatch] = []
        self.total = settings.iterations

    def begin(self, stop: StopRequest) -> Metrics:
        """The reward on held-out prompts before training, if it is measured on the way."""
        return {"iteration": 0.0, **self._evaluated(stop)} if self._settings.evaluate_every else {}

    def tick(self, index: int, stop: StopRequest) -> Metrics:
        """One iteration."""
        self._watch = Stopwatch()
        experience, row = self._collect(index, stop)
        kl = self.kl.updated(row["kl"], len(experience.samples))
        settings = self._settings
        need = Need(entropy=settings.entropy_coef > 0, values=self._values, temperature=settings.temperature)
        loss = partial(self._method.loss, settings=settings, kl=kl)
        objective = Objective(loss=loss, need=kl.training(need), count=predicted_tokens)
        rows: list[Metrics] = []
        for place in range(settings.updates):
            with self._watch.phase("update"):
                rows.append(self._update(index, place, experience, objective))
            if settings.target_kl is not None and rows[-1]["approx_kl"] > settings.target_kl:
                break
        self.kl = kl
        for name in sorted({name for one in rows for name in one}):
            found = [one[name] for one in rows if name in one]
            row[name] = sum(found) / len(found)
        skipped = sum(one["skipped_updates"] for one in rows)
        row |= {"skipped_updates": skipped, "updates": float(len(rows)), "iteration": float(index + 1)}
        row |= self._watch.row(sum(len(sample.tokens) for sample in experience.samples))
        every = settings.evaluate_every
        return row | self._evaluated() if every and ((index + 1) % every == 0 or index + 1 == self.total) else row

    def _evaluated(self, stop: StopRequest | None = None) -> Metrics:
        """The mean raw reward on held-out prompts, with the same random numbers each time; only `stop` can end it."""
        parts, watch, asked = self._parts, Stopwatch(), self._parts.observer.held_out
        with watch.phase("evaluate"):
            parts.learner.publish()
            progress = self._counted("held-out completions written", len(asked), stop)
            episodes = without_failed(parts.actor.play(asked, seed=derive(self._seed, "eval"), progress=progress))
            rewards = self._reward.score([one.prompt for one in episodes], [one.completion for one in episodes])
        return {"eval_reward": sum(rewards) / len(rewards), "seconds/evaluate": watch.seconds}

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
        written, groups = found.written, self._comparable(found.groups)
        with self._watch.phase("score"):
            experience = self._scored(Experience.of(groups), stop)
        reward_B = [trajectory.reward or 0.0 for group in groups for trajectory in group.trajectories]
        token_rewards = self.kl.token_rewards(reward_B, experience, white=settings.whiten_rewards)
        experience = with_advantages(experience, token_rewards, self._method, settings)
        row = _rollout_metrics(written, experience)
        if settings.samples_per_prompt > 1:
            flat = sum(not has_spread(group) for group in written.groups)
            row |= {"groups_without_spread": flat / len(written.groups), "groups_dropped": float(found.dropped)}
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
            scores = self._reward.scores([one.prompt for one in episodes], completions)
        stop.check()
        rewards = self._reward.total(scores)
        maximised = shaped_rewards(self.scale.maximised(rewards), completions, self.scale.eos_penalty(settings))
        penalties = [overlong_penalty(len(one.turns[-1].completion_ids), settings) for one in episodes]
        reward_B = iter([one - penalty for one, penalty in zip(maximised, penalties, strict=True)])
        return Scored(
            groups=tuple(rewarded(group, reward_B) for group in groups), rewards=tuple(rewards), scores=scores,
            failed=tuple(one.problem for one in every if one.failed),
        )  # fmt: skip

    def _comparable(self, groups: Sequence[Group]) -> list[Group]:
        """The groups from which enough episodes are left. Raises RunError if these are too few for the mini-batches."""
        settings = self._settings
        kept = [group for group in groups if len(group.trajectories) >= min(settings.samples_per_prompt, 2)]
        if len(kept) < settings.mini_batches:
            raise RunError(
                f"so many episodes failed that {len(kept)} of {len(groups)} prompts are left for "
                f"{settings.mini_batches} mini-batches", now="Nothing was updated; look at the environment.",
            )  # fmt: skip
        return kept

    def _scored(self, experience: Experience, stop: StopRequest) -> Experience:
        """Statistics of every written token under policy, reference and critics; refuses a sampler that drifts."""
        settings, samples, learner = self._settings, experience.samples, self._parts.learner
        need = self.kl.scoring(Need(entropy=True, values=self._values, temperature=settings.temperature))
        states = [sample.states for sample in samples]
        progress = self._counted("read", len(samples), stop)
        outputs = learner.score(samples, need, states=states, progress=progress)
        truncated = settings.top_p < 1.0 or settings.top_k > 0
        check_drift(samples, outputs, truncated=truncated, limit=learner.drift_limit)
        return self.kl.observed(experience.with_columns(Outputs.joined(outputs).columns))

    def _update(self, index: int, place: int, experience: Experience, objective: Objective) -> Metrics:
        """One optimiser step; the completions of one prompt stay together."""
        settings = self._settings
        epoch, mini = divmod(place, settings.mini_batches)
        groups: dict[int, list[Sample]] = {}
        for sample in experience.samples:
            groups.setdefault(sample.group, []).append(sample)
        order = epoch_order(len(groups), seed=derive(self._seed, "mini", index), epoch=epoch)
        rate = settings.rate(index * settings.updates + place, settings.iterations * settings.updates)
        chosen = weighted(
            [sample for group in order[mini :: settings.mini_batches] for sample in groups[int(group)]],
            self._method.normalisation(settings), max_tokens=self._parts.actor.most_tokens,
        )  # fmt: skip
        return update(self._parts.learner, chosen, objective, rate, self.skipped_batches)

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
        """The learner, the KL coefficient, the reward's scale, and what the environment knows of the policy."""
        known = {"kl_coef": self.kl.coef, "scale": asdict(self.scale), "environment": self._parts.actor.save()}
        state = json.dumps(known)
        return {**self._parts.learner.save(folder), _STATE: save_text(folder / _STATE, state)}

    def load(self, folder: Path) -> None:
        """The reverse of `save`."""
        self._parts.learner.load(folder)
        state = json.loads((folder / _STATE).read_text())
        self.kl, self.scale = self.kl.with_coef(state["kl_coef"]), RewardScale(**state["scale"])
        self._parts.actor.load(state["environment"])


def kept_scale(checkpoints: Path) -> RewardScale | None:
    """The reward's scale as the checkpoints of a run hold it, all of them the same; None without a checkpoint."""
    states = sorted(checkpoints.glob(f"step-*/{_STATE}"))
    return RewardScale(**json.loads(states[-1].read_text())["scale"]) if states else None


def _rollout_metrics(written: Scored, experience: Experience) -> Metrics:
    """Means over all that was written and, for KL and entropy, over what is learned from.

    `kl` is in nats per sequence; `sampler_drift` compares sampler and learner.
    """
    episodes, rewards, logp_N = written.episodes, written.rewards, experience["logp"]
    turns = [turn for one in episodes for turn in one.turns]
    mean = sum(rewards) / len(rewards)
    found = {
        "reward": mean,
        "reward_std": math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards)),
        "kl": experience["kl"].sum().item() / len(experience.samples),
        "entropy": experience["entropy"].mean().item(),
        "length": sum(len(turn.completion_ids) for turn in turns) / len(episodes),
        "truncated_fraction": sum(one.completion.stop is not StopReason.END for one in episodes) / len(episodes),
        "sampler_drift": (experience["sampler_logp"] - logp_N).abs().max().item(),
    }
    if len(turns) > len(episodes):
        found["turns"] = len(turns) / len(episodes)
    if written.failed:
        found["failed_episodes"] = float(len(written.failed))
    if "sampler_weight" in experience:
        found["sampler_weight"] = experience["sampler_weight"].mean().item()
    if "value" in experience and "return" in experience:
        spread = experience["return"].var(unbiased=False).clamp_min(1e-8)
        residual = (experience["return"] - experience["value"]).var(unbiased=False)
        found["explained_variance"] = 1.0 - (residual / spread).item()
    return found
