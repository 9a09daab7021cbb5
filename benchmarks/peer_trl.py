"""The peer's side, with its padded defaults: .venv-peers/bin/python benchmarks/peer_trl.py sft|reward|dpo|ppo.

Gradient checkpointing is off and the precision is the one asked for; everything else is the trainer's default.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
if sys.argv[1:2] == ["ppo"]:  # trl 1.12 is the last release with PPO
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".venv-peers" / "trl-1.12"))

import torch
import workloads as W
from datasets import Dataset
from measuring import Job, Stamps, parse_job, report
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

if sys.argv[1:2] == ["ppo"]:
    from trl.experimental.ppo import PPOConfig, PPOTrainer


class StepStamps(TrainerCallback):
    """Marks the end of every optimiser step."""

    def __init__(self, stamps: Stamps) -> None:
        self.stamps = stamps

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.stamps.mark()


def options(job: Job, **more: Any) -> dict[str, Any]:
    """What every trainer is told."""
    plain = {
        "output_dir": tempfile.mkdtemp(prefix="bench-"), "report_to": "none", "save_strategy": "no", "use_cpu": True,
        "seed": W.SEED, "disable_tqdm": True, "lr_scheduler_type": "constant", "bf16": job.precision == "bf16",
        "gradient_checkpointing": False,
    }  # fmt: skip
    return plain | more


def causal(job: Job) -> Any:
    return AutoModelForCausalLM.from_pretrained(W.MODELS / job.size, dtype=torch.float32)


def classifier(job: Job) -> Any:
    folder = W.MODELS / f"{job.size}-reward"
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)


def tokenizer(job: Job, **more: Any) -> Any:
    return AutoTokenizer.from_pretrained(W.MODELS / job.size, **more)


def train(trainer: Any, job: Job, unit: str, per_step: float | None) -> None:
    """Run a trainer; `per_step` None counts the useful tokens of every batch."""
    steps = job.steps(1)
    stamps = Stamps()
    inner = trainer.training_step

    def counted(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        stamps.done += int(inputs["attention_mask"].sum()) if per_step is None else per_step
        return inner(model, inputs, *rest, **named)

    trainer.training_step = counted
    trainer.add_callback(StepStamps(stamps))
    trainer.train()
    report("trl", job, unit, stamps, (steps.warmup - 1, steps.blocks, steps.block))


def sft(job: Job) -> None:
    steps = job.steps(W.SFT_ITEMS)
    data = Dataset.from_dict({"text": W.Texts(job.size).documents(steps.items * (steps.total + 1))})
    given = options(job, max_steps=steps.total, max_length=W.MAX_LENGTH, per_device_train_batch_size=steps.items)
    trainer = SFTTrainer(
        model=causal(job), args=SFTConfig(**given), train_dataset=data, processing_class=tokenizer(job)
    )
    train(trainer, job, "tokens/s", None)


def pairs(job: Job, steps: W.Steps) -> Any:
    return Dataset.from_list(W.Texts(job.size).pairs(steps.items * (steps.total + 1)))


def reward(job: Job) -> None:
    steps = job.steps(W.PAIRS)
    given = options(job, max_steps=steps.total, max_length=W.MAX_LENGTH, per_device_train_batch_size=steps.items)
    trainer = RewardTrainer(
        model=classifier(job), args=RewardConfig(**given), train_dataset=pairs(job, steps),
        processing_class=tokenizer(job),
    )  # fmt: skip
    train(trainer, job, "tokens/s", None)


def dpo(job: Job) -> None:
    steps = job.steps(W.PAIRS)
    given = options(
        job, max_steps=steps.total, max_length=W.MAX_LENGTH, per_device_train_batch_size=steps.items, beta=W.BETA
    )
    trainer = DPOTrainer(
        model=causal(job), args=DPOConfig(**given), train_dataset=pairs(job, steps), processing_class=tokenizer(job)
    )
    train(trainer, job, "pairs/s", float(steps.items))


def ppo(job: Job) -> None:
    """A policy and a separate value model: this trainer knows no shared trunk."""
    warmup, timed = W.ppo_updates(job.size, quick=job.quick)
    left = tokenizer(job, padding_side="left")
    texts = W.Texts(job.size).prompts(W.PPO_PROMPTS * (warmup + timed))
    data = Dataset.from_dict({"input_ids": [left(text)["input_ids"] for text in texts]})
    given = options(
        job, per_device_train_batch_size=W.PPO_PROMPTS, gradient_accumulation_steps=1, temperature=1.0,
        num_mini_batches=W.PPO_MINI_BATCHES, num_ppo_epochs=W.PPO_EPOCHS, response_length=W.PPO_TOKENS,
        total_episodes=len(texts), local_rollout_forward_batch_size=W.PPO_PROMPTS, num_sample_generations=0,
    )  # fmt: skip
    trainer = PPOTrainer(
        args=PPOConfig(**given), processing_class=left, model=causal(job), ref_model=causal(job),
        reward_model=classifier(job), value_model=classifier(job), train_dataset=data,
        eval_dataset=data.select(range(W.PPO_PROMPTS)),
    )  # fmt: skip
    stamps = Stamps()

    class Iterations(StepStamps):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.stamps.mark()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.stamps.done += W.PPO_PROMPTS
            self.stamps.mark()

    trainer.add_callback(Iterations(stamps))
    trainer.train()
    report("trl", job, "samples/s", stamps, (warmup, timed, 1))


WORKS = {"sft": sft, "reward": reward, "dpo": dpo, "ppo": ppo}

if __name__ == "__main__":
    chosen = parse_job([*WORKS])
    WORKS[chosen.work](chosen)
