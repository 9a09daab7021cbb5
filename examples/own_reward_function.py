"""A reward that you can write down: any Python function of prompts and completions, and PPO against it.

    python examples/own_reward_function.py MODEL PROMPTS.jsonl OUT

Here the function likes answers of eight words that end with a full stop. From the command line the same is
`assent ppo --reward examples/own_reward_function.py:reward ...`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import assent


def reward(prompts: list[str], completions: list[str]) -> list[float]:
    """One number per completion, higher is better."""
    return [float(text.rstrip().endswith(".")) - abs(len(text.split()) - 8) / 8 for text in completions]


def main(model: str, prompts: str, out: Path, *, iterations: int) -> None:
    """Leave the trained policy in `out`."""
    policy = assent.load(model)
    print("before:", assent.evaluate(policy, prompts, reward=reward, max_tokens=24))
    policy = assent.ppo(
        policy, prompts, reward=reward, out=out, iterations=iterations, batch_size=32, max_tokens=24, learning_rate=1e-4
    )
    print("after: ", assent.evaluate(policy, prompts, reward=reward, max_tokens=24))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("prompts")
    parser.add_argument("out", type=Path)
    parser.add_argument("--iterations", type=int, default=100)
    given = parser.parse_args()
    main(given.model, given.prompts, given.out, iterations=given.iterations)
