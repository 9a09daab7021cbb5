"""Your own preferences: fine-tune on the answers people chose, learn what they prefer, train against it.

    python examples/own_preferences.py MODEL PREFERENCES.jsonl HELD_OUT.jsonl OUT

A row of the files is, for example, {"prompt": "...", "chosen": "...", "rejected": "..."}. The reward is measured before
and after PPO on the held-out prompts, by the same reward model on the same scale.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import assent
from assent.evals.intervals import Interval


def main(model: str, preferences: str, held_out: str, out: Path, *, iterations: int, seed: int) -> None:
    """Leave `sft`, `reward` and `ppo` in `out`, each a folder that plain transformers loads."""
    policy = assent.sft(assent.load(model), preferences, out=out / "sft", seed=seed)
    reward = assent.train_reward(policy, preferences, out=out / "reward", seed=seed)
    quality = assent.evaluate(reward, held_out)
    print(f"the reward model ranks {quality.accuracy:.0%} of {quality.pairs} held-out pairs right")
    before = assent.evaluate(policy, held_out, reward=reward, max_tokens=32, seed=seed)
    policy = assent.ppo(
        policy, preferences, reward=reward, out=out / "ppo", iterations=iterations, batch_size=64, max_tokens=32,
        learning_rate=1e-4, seed=seed,
    )  # fmt: skip
    after = assent.evaluate(policy, held_out, reward=reward, max_tokens=32, seed=seed)
    print("mean reward on the held-out prompts")
    print(f"before: {shown(before)}\nafter:  {shown(after)}")


def shown(mean: Interval) -> str:
    """A mean with its 95 % interval."""
    return f"{mean.mean:.2f} ({mean.low:.2f} to {mean.high:.2f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("preferences")
    parser.add_argument("held_out")
    parser.add_argument("out", type=Path)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(
        given.model, given.preferences, given.held_out, given.out, iterations=given.iterations, seed=given.seed
    )  # fmt: skip
