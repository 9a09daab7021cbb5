"""Runs in the environment of lm-eval: its own tasks on files given as JSON, and the figures and samples they make.

python lm_eval_figures.py MODEL TASKS.json OUT.json; TASKS.json: {name: {"yaml", "data": {split: file}, "shots"}}.
"""

from __future__ import annotations

import ast
import json
import math
import sys
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import numpy as np
from lm_eval.tasks._yaml_loader import load_yaml

TASKS = Path(lm_eval.__file__).parent / "tasks"


def figures(model: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Results and samples of every task; the task files are lm-eval's, only the data is ours."""
    configs = []
    for name, one in asked.items():
        config = load_yaml(TASKS / one["yaml"])
        config |= {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": one["data"]}}
        config.pop("dataset_name", None)
        configs.append({**config, "num_fewshot": one.get("shots", 0)})
    found = lm_eval.simple_evaluate(
        model="hf", model_args=f"pretrained={model},dtype=float32", tasks=configs, device="cpu", batch_size=1,
        bootstrap_iters=0, log_samples=True,
    )  # fmt: skip
    samples = {name: [{"responses": one["resps"]} for one in rows] for name, rows in found["samples"].items()}
    return {"results": found["results"], "samples": samples}


def ties(rows: list[dict[str, Any]]) -> float:
    """The Ties score of rewardbench 0.1.4, whose two functions are read from its file."""
    source = Path(sys.executable).parents[1] / "rewardbench-0.1.4" / "rewardbench" / "utils.py"
    names = ("sample_stats", "process_single_model")
    wanted = [node for node in ast.parse(source.read_text()).body if getattr(node, "name", "") in names]
    space: dict[str, Any] = {"np": np, "math": math, "Dataset": datasets.Dataset}
    exec(compile(ast.Module(body=wanted, type_ignores=[]), str(source), "exec"), space)
    return float(space["process_single_model"](rows)[1])


if __name__ == "__main__":
    model, given, out = sys.argv[1:]
    asked = json.loads(Path(given).read_text())
    answer = {"ties": ties(asked)} if model == "ties" else figures(model, asked)
    Path(out).write_text(json.dumps(answer, default=str))
