"""Decoding by vLLM on a CPU, in `.venv-vllm`: peer_vllm.py MODEL PRECISION TOKENS PROMPTS. One line out for each in.

PROMPTS is a JSON file of lists of token ids. Each line read writes all of them once and prints tokens and CPU seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}

from vllm import LLM, SamplingParams, TokensPrompt  # reads the environment when it is imported


def main() -> None:
    """Load, then answer."""
    folder, precision, tokens, file = sys.argv[1:]
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in json.loads(Path(file).read_text())]
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    model = LLM(folder, dtype=dtype, enforce_eager=True, max_model_len=1024, max_num_seqs=len(prompts))
    sampling = SamplingParams(temperature=1.0, max_tokens=int(tokens), ignore_eos=True)
    for _ in sys.stdin:
        start = time.process_time()
        written = sum(len(one.outputs[0].token_ids) for one in model.generate(prompts, sampling, use_tqdm=False))
        print("RESULT " + json.dumps([written, time.process_time() - start]), flush=True)


if __name__ == "__main__":
    main()
