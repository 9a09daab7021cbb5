"""Your own preferences: fine-tune on the answers people chose, learn what they prefer, train against it.

    python examples/own_preferences.py MODEL PREFERENCES.jsonl OUT

A row of the file is, for example, {"prompt": "...", "chosen": "...", "rejected": "..."}.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import assent


def main(model: str, preferences: str, out: Path, *, iterations: int) -> None:
    """Leave `sft`, `reward` and `ppo` in `out`, each a folder that plain transformers loads."""
    policy = assent.sft(assent.load(model), preferences, out=out / "sft")
    reward = assent.train_reward(policy, preferences, out=out / "reward")
    print("before:", assent.evaluate(policy, preferences, reward=reward, max_tokens=32))
    policy = assent.ppo(
        policy, preferences, reward=reward, out=out / "ppo", iterations=iterations, batch_size=32, max_tokens=32
    )
    print("after: ", assent.evaluate(policy, preferences, reward=reward, max_tokens=32))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("preferences")
    parser.add_argument("out", type=Path)
    parser.add_argument("--iterations", type=int, default=100)
    given = parser.parse_args()
    main(given.model, given.preferences, given.out, iterations=given.iterations)
