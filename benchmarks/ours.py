"""Our side, through the code that users run: python benchmarks/ours.py sft|reward|dpo|ppo|generate."""

from __future__ import annotations

import time

import workloads as W
from measuring import Job, Stamps, parse_job, report

from assent.algorithms.dpo import DPO, DPOSettings
from assent.algorithms.loop import Watch
from assent.algorithms.ppo import PPO, PPOSettings
from assent.algorithms.reward import REWARD_MODEL, RewardSettings
from assent.algorithms.sft import SFT, SFTSettings
from assent.ports.sampling import SamplingParams
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import LanguageModel, RewardModel, load_language_model, new_reward_model
from assent.recipes.training.prepare import prepare_offline
from assent.recipes.training.prepare_on_policy import prepare_on_policy
from assent.types import Comparison, Completion, Conversation, Demonstration, Message, Role

RATE = 2e-5


def policy(job: Job) -> LanguageModel:
    return load_language_model(str(W.MODELS / job.size), machine=MachineOptions(precision=job.precision))


def reward_model(job: Job) -> RewardModel:
    machine = MachineOptions(precision=job.precision)
    return new_reward_model(str(W.MODELS / f"{job.size}-reward"), machine=machine, seed=W.SEED)


def sft(job: Job) -> None:
    """Useful tokens per second; every token of a text is learned."""
    steps, model = job.steps(W.SFT_ITEMS), policy(job)
    texts = W.Texts(job.size).documents(steps.items * steps.total)
    said = [
        Demonstration(conversation=Conversation(messages=(Message(role=Role.ASSISTANT, content=text),)))
        for text in texts
    ]
    settings = SFTSettings(batch_size=steps.items, learning_rate=RATE, max_length=W.MAX_LENGTH)
    turns = model.template.encode_turns([one.conversation for one in said])
    lengths = [sum(map(len, examples)) for examples in turns]
    prepared = prepare_offline(SFT, model, said, settings, seed=W.SEED)
    stamps = Stamps()

    def tick(done: int, *_: object) -> None:
        stamps.done += sum(lengths[item] for item in prepared.task.items(done - 1))
        stamps.mark()

    prepared.run(Watch(on_tick=tick))
    report("ours", job, "tokens/s", stamps, (steps.warmup - 1, steps.blocks, steps.block))


def comparisons(job: Job, count: int) -> list[Comparison]:
    return [
        Comparison(
            prompt=Conversation.of_user(pair["prompt"]),
            chosen=Completion(text=pair["chosen"]),
            rejected=Completion(text=pair["rejected"]),
        )
        for pair in W.Texts(job.size).pairs(count)
    ]


def reward(job: Job) -> None:
    """Useful tokens per second of both completions with their prompt."""
    steps, model = job.steps(W.PAIRS), reward_model(job)
    pairs = comparisons(job, steps.items * steps.total)
    settings = RewardSettings(batch_size=steps.items, learning_rate=RATE, max_length=W.MAX_LENGTH)
    sides = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    lengths = [len(one) for one in model.template.encode_completions(sides)]
    prepared = prepare_offline(REWARD_MODEL, model, pairs, settings, seed=W.SEED)
    stamps = Stamps()

    def tick(done: int, *_: object) -> None:
        stamps.done += sum(lengths[2 * item] + lengths[2 * item + 1] for item in prepared.task.items(done - 1))
        stamps.mark()

    prepared.run(Watch(on_tick=tick))
    report("ours", job, "tokens/s", stamps, (steps.warmup - 1, steps.blocks, steps.block))


def dpo(job: Job) -> None:
    """Pairs per second; the time to compute the reference once is spread over the pairs of one epoch."""
    steps, model = job.steps(W.PAIRS), policy(job)
    pairs = comparisons(job, steps.items * steps.total)
    settings = DPOSettings(batch_size=steps.items, learning_rate=RATE, max_length=W.MAX_LENGTH, beta=W.BETA)
    start, used = time.perf_counter(), time.process_time()
    prepared = prepare_offline(DPO, model, pairs, settings, seed=W.SEED)
    share = (time.perf_counter() - start) / steps.total, (time.process_time() - used) / steps.total
    stamps = Stamps()

    def tick(done: int, *_: object) -> None:
        stamps.done += steps.items
        stamps.mark()
        wall, processor, count = stamps.rows[-1]
        stamps.rows[-1] = (wall + done * share[0], processor + done * share[1], count)

    prepared.run(Watch(on_tick=tick))
    report("ours", job, "pairs/s", stamps, (steps.warmup - 1, steps.blocks, steps.block))


def ppo(job: Job) -> None:
    """Samples per second of whole iterations: rollout, scores, four epochs of four mini-batches."""
    warmup, timed = W.ppo_updates(job.size, quick=job.quick)
    prompts = [Conversation.of_user(text) for text in W.Texts(job.size).prompts(W.PPO_PROMPTS * (warmup + timed))]
    settings = PPOSettings(
        iterations=warmup + timed, batch_size=W.PPO_PROMPTS, epochs=W.PPO_EPOCHS, mini_batches=W.PPO_MINI_BATCHES,
        max_tokens=W.PPO_TOKENS, learning_rate=1e-6, critic=job.critic,
        normalise_reward=False, normalise_prompts=2,
    )  # fmt: skip
    prepared = prepare_on_policy(PPO, policy(job), prompts, settings, seed=W.SEED, reward=reward_model(job))
    stamps = Stamps()
    stamps.mark()

    def tick(_: int, __: int, row: object) -> None:
        stamps.done += W.PPO_PROMPTS
        stamps.mark()

    prepared.run(Watch(on_tick=tick))
    report("ours", job, "samples/s", stamps, (warmup, timed, 1))


def generate(job: Job) -> None:
    """New tokens per second at batch 64; sequences that end early are counted as long as they are."""
    model = policy(job)
    prompts = [Conversation.of_user(text) for text in W.Texts(job.size).prompts(W.GENERATE_BATCH)]
    sampling = SamplingParams(max_tokens=W.GENERATE_TOKENS)
    model.template.end_ids = frozenset()  # every sequence is written to the limit, as on the other side
    stamps = Stamps()
    repeats = 1 if job.quick else W.GENERATE_REPEATS
    for repeat in range(repeats + 1):
        turns = model.sampler.sample(prompts, sampling=sampling, seed=repeat)
        stamps.done += sum(len(turn.completion_ids) for turn in turns)
        stamps.mark()
    report("ours", job, "tokens/s", stamps, (0, repeats, 1))


WORKS = {"sft": sft, "reward": reward, "dpo": dpo, "ppo": ppo, "generate": generate}

if __name__ == "__main__":
    chosen = parse_job([*WORKS])
    WORKS[chosen.work](chosen)
