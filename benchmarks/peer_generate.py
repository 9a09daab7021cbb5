"""Decoding by plain transformers: python benchmarks/peer_generate.py generate."""

from __future__ import annotations

import torch
import workloads as W
from measuring import Job, Stamps, parse_job, report
from transformers import AutoModelForCausalLM, AutoTokenizer


def generate(job: Job) -> None:
    """`generate` with its defaults at batch 64, sampling from the whole distribution."""
    dtype = torch.bfloat16 if job.precision == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(W.MODELS / job.size, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(W.MODELS / job.size, padding_side="left")
    texts = W.Texts(job.size).prompts(W.GENERATE_BATCH)
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    model.generation_config.eos_token_id = None
    stamps = Stamps()
    repeats = 1 if job.quick else W.GENERATE_REPEATS
    for _ in range(repeats + 1):
        with torch.no_grad():
            found = model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=True, top_k=0,
                max_new_tokens=W.GENERATE_TOKENS, min_new_tokens=W.GENERATE_TOKENS,
            )  # fmt: skip
        stamps.done += found.shape[0] * (found.shape[1] - inputs["input_ids"].shape[1])
        stamps.mark()
    report("transformers", job, "tokens/s", stamps, (0, repeats, 1))


if __name__ == "__main__":
    generate(parse_job(["generate"]))
