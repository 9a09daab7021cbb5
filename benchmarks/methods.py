"""What each method gives on the same work: the embedded world, three seeds, every method that trains a policy.

python -m benchmarks.methods            --write replaces the table in docs/methods.md

For each seed the shipped base is fine-tuned, writes four answers to each prompt, and simulated annotators rank them; a
reward model is trained from these rankings. Then every method starts from the fine-tuned model: those that read prompts
with that reward model, the others with the rankings themselves. Each arm is a process of its own, so that time and peak
memory are its own, and leaves OUT/seed-N/ARM.json. A run that was stopped goes on with the first arm that is missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from assent.algorithms.best_of_n import BestOfN
from assent.algorithms.methods import METHODS, load_named
from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.data import convert
from assent.data.load import load_rankings
from assent.durable import write_atomic
from assent.evals.gold import ArmScores, arm_scores, gap_closed, gold_means, pooled
from assent.evals.scaling_fits import best_of_n_kl
from assent.ports.learning import Need, Roles
from assent.ports.sampling import SamplingParams
from assent.recipes.demo.command import shipped_base
from assent.recipes.demo.labels import rank_candidates
from assent.recipes.run.ending import peak_rss_mib
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import (
    LanguageModel,
    load_language_model,
    load_reward_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.run.reward_functions import FunctionScorer
from assent.recipes.run.rewards import weighted
from assent.recipes.training.prepare import prepare_offline, train_reward_model_wise_ft
from assent.recipes.training.prepare_on_policy import prepare_on_policy
from assent.seeds import derive
from assent.types import Completion, Ranking
from assent.world.demonstrations import demonstrations
from assent.world.facts import build_world
from assent.world.judge import judge
from assent.world.prompts import WorldPrompt, make_prompts
from assent.world.reading import read

CPU, MAX_TOKENS, SEEDS = MachineOptions(device="cpu"), 32, (0, 1, 2)
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An arm: its method and the settings that are not the method's own."""

    method: str
    settings: dict[str, Any] = field(default_factory=dict)


_ROLLOUTS = {
    "iterations": 60, "learning_rate": 3e-4, "schedule": "constant", "max_tokens": MAX_TOKENS, "temperature": 1.2,
}  # fmt: skip
_SINGLE = {**_ROLLOUTS, "batch_size": 256, "mini_batches": 4, "epochs": 2, "kl_coef": 0.1}
_GROUPS = {**_ROLLOUTS, "batch_size": 32, "samples_per_prompt": 8, "mini_batches": 4, "epochs": 2, "kl_coef": 0.1}
_PAIRS = {"epochs": 1, "batch_size": 64, "learning_rate": 3e-5, "max_length": 200}
PLANS: dict[str, Plan] = {
    "ppo": Plan(method="ppo", settings={**_SINGLE, "critic": "shared"}),
    "ppo_lagrangian": Plan(method="ppo_lagrangian", settings={**_SINGLE, "critic": "shared", "cost_budget": 0.05}),
    "reinforce": Plan(method="reinforce", settings={**_SINGLE, "epochs": 1, "mini_batches": 1}),
    "reinforce_pp": Plan(method="reinforce_pp", settings=_SINGLE),
    "grpo": Plan(method="grpo", settings=_GROUPS),
    "dr_grpo": Plan(
        method="grpo", settings={**_GROUPS, "scale_by_std": False, "loss_normalisation": "constant"}
    ),
    "dapo": Plan(
        method="grpo",
        settings={**_GROUPS, "loss_normalisation": "token", "clip_range_high": 0.28, "refill_rollouts": 2},
    ),
    "gspo": Plan(method="gspo", settings={**_GROUPS, "clip_range_low": 0.05, "clip_range_high": 0.05}),
    "cispo": Plan(method="cispo", settings=_GROUPS),
    "rloo": Plan(method="rloo", settings=_GROUPS),
    "online_dpo": Plan(
        method="online_dpo",
        settings={**_GROUPS, "batch_size": 128, "samples_per_prompt": 2, "kl_coef": 0.0, "beta": 0.4},
    ),
    "raft": Plan(method="raft", settings={**_GROUPS, "kl_coef": 0.0}),
    "dpo": Plan(method="dpo", settings={**_PAIRS, "beta": 0.4}),
    "ipo": Plan(method="dpo", settings={**_PAIRS, "form": "ipo"}),
    "dpo_pl": Plan(method="dpo_pl", settings={**_PAIRS, "batch_size": 16, "beta": 0.4}),
    "kto": Plan(method="kto", settings={**_PAIRS, "beta": 0.4}),
    "orpo": Plan(method="orpo", settings=_PAIRS),
    "simpo": Plan(method="simpo", settings=_PAIRS),
    "cpo": Plan(method="cpo", settings={**_PAIRS, "beta": 0.4}),
    "ilql": Plan(method="ilql", settings=_PAIRS),
}  # fmt: skip
BEST_OF = 16
WITHOUT_TRAINING = ("sft", f"best of {BEST_OF}", "oracle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an arm gave with one seed: gold scores, nats per completion from the SFT model, time, memory, labels."""

    scores: dict[str, Any]
    kl: float
    seconds: float
    peak_mib: float
    labels: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One seed of the work, or a `share` of it to try the command, in its folder."""

    folder: Path
    seed: int
    share: float = 1.0

    def count(self, whole: int) -> int:
        """So many, at that share."""
        return max(8, round(whole * self.share))

    @property
    def held_out(self) -> list[WorldPrompt]:
        """The prompts that every arm answers once."""
        seed = derive(self.seed, "evaluation")
        return make_prompts(build_world(0), split="held_out", count=self.count(540), seed=seed)

    @property
    def prompts(self) -> list[WorldPrompt]:
        """The prompts of rankings and rollouts."""
        return make_prompts(build_world(0), split="train", count=self.count(3600), seed=derive(self.seed, "ranked"))

    def sft(self) -> LanguageModel:
        """The model that every arm starts from."""
        return load_language_model(str(self.folder / "sft"), machine=CPU)

    def prepare(self) -> None:
        """Fine-tune, sample, rank, and train the reward model; what is there is kept."""
        world, rankings = build_world(0), self.folder / "rankings.jsonl"
        if not (self.folder / "sft").is_dir():
            model = load_language_model(str(shipped_base()), machine=CPU)
            shown = demonstrations(world, count=self.count(500), seed=derive(self.seed, "shown"))
            settings = SFTSettings(epochs=2, batch_size=32, learning_rate=3e-4, max_length=200)
            prepare_offline(SFT, model, shown, settings, seed=self.seed).run()
            save_language_model(model, self.folder / "sft")
        if not rankings.is_file():
            write_atomic(rankings, "".join(json.dumps(_row(one)) + "\n" for one in self._ranked()))
        if not (self.folder / "reward").is_dir():
            reward = new_reward_model(str(self.folder / "sft"), machine=CPU, seed=self.seed)
            settings_of_head = RewardSettings(
                epochs=1, batch_size=16, learning_rate=1.5e-4, max_length=200, train="head"
            )
            judged = self.rankings()
            prepare_offline(REWARD_MODEL, reward, judged, settings_of_head, seed=self.seed).run()
            whole = settings_of_head.model_copy(update={"train": "all"})
            train_reward_model_wise_ft(reward, judged, whole, seed=self.seed)
            save_reward_model(reward, self.folder / "reward")

    def _ranked(self) -> list[Ranking]:
        model, prompts, written = self.sft(), self.prompts, {}
        for turn, temperature in enumerate((0.7, 1.0, 1.0, 1.3)):
            sampling = SamplingParams(max_tokens=MAX_TOKENS, temperature=temperature, top_p=0.95)
            turns = model.sampler.sample(
                [one.conversation for one in prompts], sampling=sampling, seed=derive(self.seed, "candidates", turn)
            )
            written[turn] = [one.completion for one in turns]
        return rank_candidates(build_world(0), prompts, written, seed=self.seed)

    def rankings(self) -> list[Ranking]:
        """What the annotators said."""
        return list(load_rankings(self.folder / "rankings.jsonl").examples)

    def train(self, plan: Plan) -> tuple[LanguageModel, str]:
        """The trained policy, and the labels that it took."""
        method, model, judged = METHODS[plan.method], self.sft(), self.rankings()
        settings = load_named(method.settings)(**self._scaled(plan.settings))
        algorithm = load_named(method.algorithm)
        if method.reads != "prompts":
            examples: Sequence[Any] = judged
            if method.reads == "dialogues":
                examples = convert.dialogues(judged)
            elif method.reads != "rankings":
                examples = convert.comparisons(judged, keep_ties=False, margin_per_score=0.0)
            if method.reads == "labels":
                examples = convert.ratings(examples)
            prepare_offline(algorithm, model, examples, settings, seed=self.seed).run()
            return model, f"{len(examples):,} {method.reads} of {len(judged):,} rankings"
        scorer = load_reward_model(str(self.folder / "reward"), machine=CPU).scorer
        reward = weighted([("reward", scorer)], (), cost=FunctionScorer(flattery) if method.needs_cost else None)
        prompts = [one.conversation for one in self.prompts]
        prepare_on_policy(algorithm, model, prompts, settings, seed=self.seed, reward=reward).run()
        return model, f"{len(judged):,} rankings (reward model)"

    def _scaled(self, settings: dict[str, Any]) -> dict[str, Any]:
        if "iterations" not in settings or self.share == 1.0:
            return settings
        return {**settings, "iterations": 2, "normalise_prompts": 16, "batch_size": 8}

    def arm(self, name: str) -> Found:
        """Train an arm and measure it."""
        start = time.monotonic()
        model, labels = self.train(PLANS[name]) if name in PLANS else (self.sft(), "none")
        seconds, prompts = time.monotonic() - start, self.held_out
        asked = [prompt.conversation for prompt in prompts]
        writer: Any = model.sampler
        if name == WITHOUT_TRAINING[1]:
            scorer = load_reward_model(str(self.folder / "reward"), machine=CPU).scorer
            writer, labels = (
                BestOfN(sampler=writer, scorer=scorer, n=BEST_OF),
                f"{len(self.rankings()):,} rankings (reward model)",
            )
        sampling = SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0)
        turns = writer.sample(asked, sampling=sampling, seed=derive(self.seed, "evaluate"))
        answers = [turn.completion for turn in turns]
        kl = best_of_n_kl(BEST_OF) if name == WITHOUT_TRAINING[1] else kl_of(model, self.sft(), prompts, answers)
        if name == "oracle":
            answers, kl = [Completion(text=prompt.ideal[0]) for prompt in prompts], float("nan")
        golds = [judge(build_world(0), prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        scores = arm_scores([one.conversation.last_user_text for one in prompts], [one.kind for one in prompts], golds)
        return Found(scores=asdict(scores), kl=kl, seconds=seconds, peak_mib=peak_rss_mib(), labels=labels)


def flattery(prompts: list[str], completions: list[str]) -> list[float]:
    """A cost that the annotators' rankings do not hold: flattering words."""
    return [float(read(Completion(text=text)).flattery) for text in completions]


def _row(one: Ranking) -> dict[str, Any]:
    texts = [completion.text for completion in one.completions]
    return {"prompt": one.prompt.last_user_text, "completions": texts, "ranks": list(one.ranks)}


def kl_of(
    model: LanguageModel, start: LanguageModel, prompts: Sequence[WorldPrompt], said: Sequence[Completion]
) -> float:
    """The mean exact KL of a completion, summed over the tokens of what the model wrote, in nats."""
    encoded = model.template.encode_completions(
        [(prompt.conversation, completion) for prompt, completion in zip(prompts, said, strict=True)]
    )
    learner = model.backend.learner(Roles(policy=model.role, reference=start.role))
    return statistics.fmean(float(one["kl"].sum()) for one in learner.score(encoded, Need(kl=True)))


def run(out: Path, seeds: Sequence[int], arms: Sequence[str], share: float) -> None:
    """Every arm that is missing, each in a process of its own."""
    for seed in seeds:
        folder = out / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        common = ["--out", str(out), "--seeds", str(seed), "--share", str(share)]
        for name in ("prepare", *arms):
            if name == "prepare" or not (folder / f"{name}.json").is_file():
                print(f"seed {seed}: {name}", flush=True)
                subprocess.run([sys.executable, "-m", "benchmarks.methods", "--only", name, *common], check=True)


def only(work: Work, name: str) -> None:
    """One arm, or what all arms need."""
    if name == "prepare":
        work.prepare()
        return
    write_atomic(work.folder / f"{name}.json", json.dumps(asdict(work.arm(name))))


def table(out: Path, seeds: Sequence[int], arms: Sequence[str]) -> str:
    """As Markdown, in the order of the gold score; arms of which a seed is missing are left out."""
    found: dict[str, list[Found]] = {}
    for name in arms:
        files = [out / f"seed-{seed}" / f"{name}.json" for seed in seeds]
        if all(file.is_file() for file in files):
            found[name] = [Found(**json.loads(file.read_text())) for file in files]
    whole = {name: pooled([_scores(one) for one in parts]) for name, parts in found.items()}
    lines = [
        "| method | true reward | of the distance SFT to ideal | KL (nats) | minutes | memory (MiB) | labels |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted(whole, key=lambda one: -statistics.fmean(whole[one].overall)):
        gold, parts = gold_means(whole[name], seed=0).overall, found[name]
        closed = gap_closed(whole["sft"], whole[name], whole["oracle"], seed=0)
        kl, minutes, memory = (
            statistics.fmean(column)
            for column in zip(*((one.kl, one.seconds / 60, one.peak_mib) for one in parts), strict=True)
        )
        lines.append(
            f"| {name} | {gold.mean:.3f} ({gold.low:.3f} to {gold.high:.3f}) | {closed.mean:.0%} "
            f"({closed.low:.0%} to {closed.high:.0%}) | {kl:.2f} | {minutes:.1f} | "
            f"{memory:,.0f} | {parts[0].labels} |"
        )
    return "\n".join(lines)


def _scores(one: Found) -> ArmScores:
    return ArmScores(**{name: tuple(values) for name, values in one.scores.items()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and print the table; with --write, put it into docs/methods.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--arms", nargs="+", choices=[*WITHOUT_TRAINING, *PLANS], default=[*WITHOUT_TRAINING, *PLANS])
    parser.add_argument("--share", type=float, default=1.0, help="do only this share of the work, to try it")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(arguments)
    if given.only:
        only(Work(folder=given.out / f"seed-{given.seeds[0]}", seed=given.seeds[0], share=given.share), given.only)
        return
    run(given.out, given.seeds, given.arms, given.share)
    text = table(given.out, given.seeds, given.arms)
    print(text)
    if given.write:
        page = ROOT / "docs" / "methods.md"
        before, rest = page.read_text().split("<!-- table -->")
        after = rest.split("<!-- end table -->")[1]
        page.write_text(f"{before}<!-- table -->\n{text}\n<!-- end table -->{after}")


if __name__ == "__main__":
    main()
