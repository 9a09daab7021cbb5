"""Your own pairs, without a reward model: direct preference optimisation.

python examples/own_pairs_dpo.py MODEL PAIRS.jsonl OUT
"""

from __future__ import annotations

import argparse
from pathlib import Path

import assent


def main(model: str, pairs: str, out: Path) -> None:
    """Leave the trained policy in `out`, and show what it says before and after."""
    policy = assent.load(model)
    questions = ["What is your name?", "How are you?"]
    before = assent.sample(policy, questions, max_tokens=24, temperature=0.0)
    rows: list[dict[str, float]] = []
    policy = assent.dpo(policy, pairs, out=out, beta=0.1, epochs=2, on_step=rows.append)
    after = assent.sample(policy, questions, max_tokens=24, temperature=0.0)
    print(f"margin of the implicit reward: {rows[0]['margin']:.3f} -> {rows[-1]['margin']:.3f}")
    for question, old, new in zip(questions, before, after, strict=True):
        print(f"{question}\n  before: {old}\n  after:  {new}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pairs")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    main(given.model, given.pairs, given.out)
