"""Runs in an environment of vLLM or lm-evaluation-harness: readers.py NAME GIVEN FOUND, the last two JSON files.

`vllm` writes greedy completions of token ids; `lm_eval` gives the log-likelihood of a text after another.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def vllm(given: dict[str, Any]) -> list[list[int]]:
    from vllm import LLM, SamplingParams, TokensPrompt
    from vllm.lora.request import LoRARequest

    adapter = given["adapter"]
    model = LLM(
        given["folder"], dtype="float32", enforce_eager=True, max_model_len=512, max_num_seqs=32,
        enable_lora=bool(adapter), max_lora_rank=8,
    )  # fmt: skip
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in given["prompts"]]
    sampling = SamplingParams(temperature=0.0, max_tokens=given["max_tokens"])
    chosen = LoRARequest("adapter", 1, adapter) if adapter else None
    return [[*one.outputs[0].token_ids] for one in model.generate(prompts, sampling, lora_request=chosen)]


def lm_eval(given: dict[str, Any]) -> list[float]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=given["folder"], peft=given["adapter"], device="cpu", dtype="float32", batch_size=4)
    asked = [Instance("loglikelihood", {}, tuple(pair), place) for place, pair in enumerate(given["texts"])]
    return [logp for logp, _ in model.loglikelihood(asked)]


if __name__ == "__main__":
    name, given, found = sys.argv[1:]
    answer = {"vllm": vllm, "lm_eval": lm_eval}[name](json.loads(Path(given).read_text()))
    Path(found).write_text(json.dumps(answer))
