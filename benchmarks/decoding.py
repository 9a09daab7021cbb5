"""Decoding a real model beside its peers: python -m benchmarks.decoding MODEL PROMPTS [--pairs N] [--batches 1 16 64].

Our sampler and `transformers.generate` write the same number of tokens for the same prompts, one after the other in one
process with one thread, each pair in the other order than the last. What counts is the ratio of CPU seconds in a pair:
other programs slow both sides. With `--vllm PYTHON` (of `.venv-vllm`, see make_readers.sh) vLLM takes part at the
largest batch, in a process of its own that answers in turn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import transformers

from assent.data.load import ReadOptions, load_prompts
from assent.ports.sampling import SamplingParams
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_language_model
from assent.seeds import derive

LONGEST = 128  # tokens of a prompt
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Run = Callable[[int], float]  # CPU seconds of one repeat


def timed(work: Callable[[int], object]) -> Run:
    """The CPU seconds of a call."""

    def run(repeat: int) -> float:
        start = time.process_time()
        work(repeat)
        return time.process_time() - start

    return run


def sides(folder: str, precision: str, prompts: list[tuple[int, ...]], tokens: int) -> dict[str, Run]:
    """Both sides of this process."""
    model = load_language_model(folder, machine=MachineOptions(precision=precision, threads=1))
    model.template.end_ids = frozenset()
    sampling = SamplingParams(max_tokens=tokens)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[precision]).eval()
    plain.generation_config.eos_token_id = None
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    inputs = tokenizer.pad({"input_ids": [list(ids) for ids in prompts]}, return_tensors="pt")

    def ours(repeat: int) -> None:
        seeds = [derive(repeat, place) for place in range(len(prompts))]
        turns = dict(model.sampler.stream(prompts, sampling=sampling, seeds=seeds))
        assert all(len(turn.completion_ids) == tokens for turn in turns.values())

    def generate(_: int) -> None:
        with torch.no_grad():
            plain.generate(**inputs, do_sample=True, top_k=0, max_new_tokens=tokens, min_new_tokens=tokens)

    return {"ours": timed(ours), "generate": timed(generate)}


def vllm_side(python: str, folder: str, precision: str, prompts: list[tuple[int, ...]], tokens: int) -> Run:
    """The process that answers; it ends with this one."""
    file = Path(tempfile.mkdtemp()) / "prompts.json"
    file.write_text(json.dumps(prompts))
    command = [python, str(Path(__file__).with_name("peer_vllm.py")), folder, precision, str(tokens), str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(_: int) -> float:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        line = next(line for line in process.stdout if line.startswith("RESULT "))
        written, seconds = json.loads(line.removeprefix("RESULT "))
        assert written == tokens * len(prompts)
        return float(seconds)

    return run


def main() -> None:
    """Print a row of a table for every precision, batch and peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("prompts", help="any file of prompts")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="written of every prompt")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--precisions", nargs="+", choices=[*DTYPES], default=[*DTYPES])
    parser.add_argument("--vllm", default="", help="the Python of vLLM's environment")
    given = parser.parse_args()
    torch.set_num_threads(1)
    template = load_language_model(given.model, machine=MachineOptions(threads=1)).template
    asked = load_prompts(Path(given.prompts), ReadOptions(on_bad_row="skip")).examples
    encoded = [ids for ids in map(tuple, template.encode_prompts(list(asked))) if len(ids) <= LONGEST]
    print("| precision | batch | peer | Assent, tokens per CPU s | peer | ratio (range, pairs) |")
    print("|---|---|---|---|---|---|")
    for precision in given.precisions:
        for batch in given.batches:
            prompts = encoded[:batch]
            runs = sides(given.model, precision, prompts, given.tokens)
            if given.vllm and batch == max(given.batches):
                runs["vLLM"] = vllm_side(given.vllm, given.model, precision, prompts, given.tokens)
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            for repeat in range(given.pairs + 1):
                for name in runs if repeat % 2 else reversed(runs):
                    seconds[name].append(runs[name](repeat))
            for name in [*runs][1:]:  # the first repeat warms up
                ratios = sorted(b / a for a, b in zip(seconds["ours"][1:], seconds[name][1:], strict=True))
                rates = [batch * given.tokens / median(seconds[side][1:]) for side in ("ours", name)]
                cells = precision, batch, name, f"{rates[0]:.1f}", f"{rates[1]:.1f}"
                found = f"{median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f}, {given.pairs})"
                print("| " + " | ".join(map(str, (*cells, found))) + " |", flush=True)


if __name__ == "__main__":
    main()
