"""Helpful and harmless: people's preferences, a reward model of them, and PPO and DPO with adapters.

    python -m examples.real.preferences --data DIR

The pairs are HH-RLHF (harmless and helpful) and PandaLM, cut to the last question. Two thirds of the conversations
train the policy and its reward model. The other third trains the judge, a second reward model that no training sees.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from assent.data.load import ReadOptions, load_comparisons
from assent.types import Comparison
from examples.real.facts import FACTS
from examples.real.job import Job, arguments, reward
from examples.real.likelihood import hhh_alignment, page
from examples.real.models import chat_model

PAIRS = {
    "harmless": "open/preference/hh_rlhf_harmless_base.{}.jsonl.gz",
    "helpful": "nc/preference/hh_rlhf_helpful_base_dsp.{}.jsonl.gz",
    "pandalm": "open/preference/pandalm_human_3annotators.{}.jsonl.gz",
}
HH = ("harmless", "helpful")
HHH = ("harmless", "helpful", "honest", "other")
MOST_CHARACTERS = 600  # of a pair; longer ones are left out of training
MOST_ASKED = 200
LORA = {"rank": 16}


def pairs(job: Job, name: str, part: str) -> list[Comparison]:
    """The pairs of a file that people agree on, in random order."""
    found = load_comparisons(job.data / PAIRS[name].format(part), ReadOptions(on_bad_row="skip")).examples
    kept = [pair for pair in found if pair.probability != 0.5]
    random.Random(0).shuffle(kept)
    return kept


def is_for_judge(pair: Comparison) -> bool:
    """A third of the conversations, by their first message, so that no conversation is on both sides."""
    return sha256(pair.prompt.messages[0].content.encode()).digest()[0] % 3 == 0


def row(pair: Comparison) -> dict[str, str]:
    """The last question with the better and the worse answer."""
    chosen, rejected = pair.chosen.text, pair.rejected.text
    better, worse = (chosen, rejected) if pair.probability > 0.5 else (rejected, chosen)
    return {"prompt": pair.prompt.last_user_text, "chosen": better, "rejected": worse}


def rows(found: Iterable[Comparison]) -> list[dict[str, str]]:
    """Rows of training: none that is very long."""
    return [one for one in map(row, found) if sum(map(len, one.values())) <= MOST_CHARACTERS]


def prompts(found: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Questions to be answered, each once."""
    return [{"prompt": one} for one in dict.fromkeys(row["prompt"] for row in found) if len(one) <= MOST_ASKED]


def stages(job: Job) -> list[dict[str, Any]]:
    """SFT, the reward model, the judge, PPO, DPO, and both against SFT: by the judge, and by what they know."""
    train = {name: pairs(job, name, "train") for name in PAIRS}
    own = {name: rows(pair for pair in found if not is_for_judge(pair)) for name, found in train.items()}
    others = [one for found in train.values() for one in rows(pair for pair in found if is_for_judge(pair))]
    mixed = [one for found in own.values() for one in found]
    random.Random(0).shuffle(mixed)
    tests = {name: job.file(name, map(row, pairs(job, name, "test"))) for name in PAIRS}
    questions = prompts(row(pair) for name in HH for pair in pairs(job, name, "test"))
    random.Random(0).shuffle(questions)
    held_out = job.file("held-out", questions[:160])
    facts = job.file("facts", ({"prompt": question, "expected": answer} for question, answer in FACTS))
    policy, smol = {"model": "@sft"}, str(chat_model())
    sampled = {"max_tokens": 8 if job.short else 32}
    rollouts = {"iterations": 2, "batch_size": 4, "normalise_prompts": 4} if job.short else {"iterations": 15}
    return [
        {"kind": "sft", "model": smol, "data": job.file("chosen", mixed[:320]),
         "settings": {"lora": LORA, "batch_size": 16, "learning_rate": 2e-4}},
        {"kind": "reward", "model": smol, "data": job.file("pairs", mixed), "eval_data": tests["harmless"],
         "settings": {"train": "head"}},
        {"kind": "reward", "name": "judge", "model": smol, "data": job.file("other-pairs", others),
         "eval_data": [tests[name] for name in HH], "settings": {"train": "head"}},
        *(
            {"kind": "eval", "name": f"reward-on-{name}", "model": "@reward", "data": tests[name]}
            for name in ("helpful", "pandalm")
        ),
        {"kind": "ppo", **policy, "reward": "@reward", "data": job.file("asked", prompts(mixed)),
         "settings": {"lora": LORA, "batch_size": 48, "epochs": 1, "mini_batches": 2, "learning_rate": 1e-4,
                      "critic": "shared", "normalise_prompts": 96, **sampled, **rollouts}},
        {"kind": "dpo", **policy, "data": job.file("dpo-pairs", mixed[:400]),
         "settings": {"lora": LORA, "batch_size": 16, "learning_rate": 1e-4}},
        *(
            {"kind": "eval", "name": f"{name}-by-the-judge", "model": f"@{name}", "against": "@sft", "data": held_out,
             "reward": ["@judge", reward("words")], "settings": {"reward_weights": [1.0, 0.0], **sampled}}
            for name in ("ppo", "dpo")
        ),
        *(
            {"kind": "eval", "name": f"{name}-on-facts", "model": f"@{name}", "against": smol, "data": facts,
             "reward": reward("knows"), "settings": {"temperature": 0.0, "max_tokens": 24}}
            for name in job.cut(("ppo", "dpo", "sft"))
        ),
    ]  # fmt: skip


def run(job: Job) -> dict[str, Any]:
    """The whole job; gives its figures."""
    job.run(stages(job))
    start = time.monotonic()
    aligned = [load_comparisons(job.data / f"open/eval/hhh_alignment_{part}.derived.jsonl.gz").examples for part in HHH]
    found = [pair for part in aligned for pair in job.cut(part, 2)]
    models = {"base": str(chat_model()), **{name: str(job.out / "runs" / name) for name in ("ppo", "dpo")}}
    return job.report(page(job.out / "hhh", hhh_alignment(models, found), start=start))


if __name__ == "__main__":
    run(arguments("preferences", __doc__))
