"""A reward that can be verified: word problems whose answers are checked, trained with PPO and with GRPO.

    python -m examples.real.arithmetic --data DIR

A few solved problems teach the form. Then the policy writes, and earns 1 for the right number, 0.2 for the right form
and up to -0.5 for rambling. Held out are problems of our own generator, with other things and people, and MAWPS.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from typing import Any

from examples.real.job import Job, arguments, reward
from examples.real.models import chat_model

FORM = ' End with "Answer: NUMBER".'
REWARDS = [reward(name) for name in ("right", "in_form", "brief")]
LORA = {"rank": 16}
SETTINGS = {
    "reward_weights": [1.0, 0.2, 0.5], "normalise_reward": False, "normalise_prompts": 32, "missing_eos_penalty": 0.0,
    "lora": LORA, "iterations": 40, "max_tokens": 24, "learning_rate": 1e-4, "mini_batches": 2,
}  # fmt: skip
PEOPLE = ("Ada", "Ben", "Chloe", "Dan", "Eva", "Finn", "Grace", "Hugo"), ("Ines", "Jonas", "Kim", "Leo")
THINGS = ("apples", "books", "coins", "shells", "pencils", "stamps", "cards", "eggs"), ("marbles", "stickers", "plums")
STORIES = (
    ("{who} has {a} {things} and gets {b} more. How many {things} does {who} have now?", "+"),
    ("{who} has {a} {things} and {other} has {b}. How many {things} do they have together?", "+"),
    ("{who} had {a} {things} and gave {b} to {other}. How many {things} are left?", "-"),
    ("There were {a} {things} on the table. {who} took {b} of them. How many {things} are still there?", "-"),
    ("{who} has {a} {things} and {other} has {b}. How many more {things} does {who} have?", "-"),
    ("{who} fills {b} boxes with {a} {things} each. How many {things} is that?", "x"),
    ("A bag holds {a} {things}. How many {things} are in {b} bags?", "x"),
)


def problems(seed: int, *, held_out: bool = False) -> Iterator[dict[str, Any]]:
    """Word problems without end, as `prompt`, the `expected` number and the `solution` that shows the form."""
    dice = random.Random(seed)
    people, things = PEOPLE[held_out], THINGS[held_out]
    while True:
        (story, sign), (who, other) = dice.choice(STORIES), dice.sample(people, 2)
        a, b = dice.randint(2, 9 if sign == "x" else 60), dice.randint(2, 9 if sign == "x" else 40)
        a, b = (max(a, b) + 1, min(a, b)) if sign == "-" else (a, b)
        answer = {"+": a + b, "-": a - b, "x": a * b}[sign]
        prompt = story.format(who=who, other=other, things=dice.choice(things), a=a, b=b)
        yield {"prompt": prompt + FORM, "expected": answer, "solution": f"{a} {sign} {b} = {answer}. Answer: {answer}"}


def distinct(seed: int, count: int, *, held_out: bool = False) -> list[dict[str, Any]]:
    """That many problems, no two of them alike."""
    found: dict[str, dict[str, Any]] = {}
    for one in problems(seed, held_out=held_out):
        found.setdefault(one["prompt"], one)
        if len(found) == count:
            break
    return list(found.values())


def mawps(job: Job, count: int) -> list[dict[str, Any]]:
    """Problems that people wrote, with whole numbers as answers."""
    with gzip.open(job.data / "open/math/pal_mawpssingleop.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    whole = [row for row in rows if float(row["target"]).is_integer() and len(row["input"]) < 240]
    random.Random(0).shuffle(whole)
    return [{"prompt": row["input"] + FORM, "expected": int(row["target"])} for row in whole[:count]]


def stages(job: Job) -> list[dict[str, Any]]:
    """SFT on solved problems, PPO and GRPO from there, and what each of the three gets right."""
    solved = [{"prompt": one["prompt"], "completion": one["solution"]} for one in distinct(0, 160)]
    train = job.file("asked", without_solutions(distinct(1, 2000)))
    tests = {
        "own": job.file("own", without_solutions(distinct(2, 200, held_out=True))),
        "mawps": job.file("mawps", mawps(job, 200)),
    }
    smol = str(chat_model())
    policy = {"model": "@sft", "data": train, "reward": REWARDS}
    sizes = {"iterations": 2, "normalise_prompts": 4, "max_tokens": 8} if job.short else {}
    few = {**sizes, "batch_size": 2, "samples_per_prompt": 2} if job.short else {"batch_size": 4}
    watched = {"reward_weights": [1.0, 0.0, 0.0], "max_tokens": 8 if job.short else 24}
    return [
        {"kind": "sft", "model": smol, "data": job.file("solved", solved),
         "settings": {"lora": LORA, "epochs": 2.0, "batch_size": 16, "learning_rate": 5e-4}},
        {"kind": "ppo", **policy, "settings": {**SETTINGS, "batch_size": 4 if job.short else 32, "epochs": 1, **sizes}},
        {"kind": "grpo", **policy, "settings": {**SETTINGS, "samples_per_prompt": 8, **few}},
        *(
            {"kind": "eval", "name": f"{name}-on-{test}", "model": f"@{name}", "against": before, "reward": REWARDS,
             "data": rows, "settings": watched}
            for test, rows in job.cut(tests.items())
            for name, before in (("sft", smol), ("ppo", "@sft"), ("grpo", "@sft"))
        ),
    ]  # fmt: skip


def without_solutions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the policy is asked, and what the checker knows."""
    return [{"prompt": one["prompt"], "expected": one["expected"]} for one in rows]


def run(job: Job) -> dict[str, Any]:
    """The whole job; gives its figures."""
    job.run(stages(job))
    return job.report()


if __name__ == "__main__":
    run(arguments("arithmetic", __doc__))
