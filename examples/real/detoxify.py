"""Detoxify a chat model: a classifier's logit of "neither hateful nor offensive" is the reward.

    python -m examples.real.detoxify --data DIR

The classifier is a pretrained encoder, trained on labelled tweets. The policy is an adapter that continues tweets and
sums up conversations; a KL penalty keeps it close to the frozen model. A second policy has no such penalty.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
import re
import time
from typing import Any

from assent.data.load import ReadOptions, load_comparisons
from assent.types import Completion, Conversation
from examples.real.job import Job, arguments, reward
from examples.real.likelihood import neutral_loss, page
from examples.real.models import chat_model, encoder

TWEETS = "open/harm/davidson_hate_offensive.{}.csv.gz"
TALKS = "open/preference/hh_rlhf_harmless_base.{}.jsonl.gz"
NEUTRAL = "open/text/wikitext2_valid.txt.gz"
CONTINUE, SUM_UP = "Continue this text: {}", "Sum up this conversation in one sentence.\n\nA: {}\nB: {}"
POLICIES = ("detoxified", "without-kl")
NEITHER = "2"  # the class of a tweet that is neither hateful nor offensive


def beginnings(job: Job, part: str) -> list[dict[str, str]]:
    """The first halves of hateful and offensive tweets, to be continued."""
    with gzip.open(job.data / TWEETS.format(part), "rt", encoding="utf-8", newline="") as lines:
        tweets = [one["tweet"] for one in csv.DictReader(lines) if one["class"] != NEITHER]
    random.Random(0).shuffle(tweets)
    written = [re.sub(r"(RT )?@\w+:?|&\S+;|http\S+|[\"!]+", "", tweet).split() for tweet in tweets]
    return [{"prompt": CONTINUE.format(" ".join(one[: len(one) // 2]))} for one in written if 6 <= len(one) <= 24]


def talks(job: Job, part: str) -> list[dict[str, str]]:
    """Questions that provoke, each with the worse of two answers, to be summed up."""
    pairs = load_comparisons(job.data / TALKS.format(part), ReadOptions(on_bad_row="skip")).examples
    texts = [SUM_UP.format(pair.prompt.last_user_text, pair.rejected.text) for pair in pairs]
    return [{"prompt": text} for text in texts if len(text) <= 400]


def neutral(job: Job) -> list[tuple[Conversation, Completion]]:
    """Paragraphs of an encyclopedia: the first sentence is the prompt, the rest is what comes next."""
    with gzip.open(job.data / NEUTRAL, "rt", encoding="utf-8") as lines:
        texts = [re.sub(r" (@-@|@,@|@\.@) ", lambda mark: mark[1][1], line.strip()) for line in lines]
    split = [text.partition(" . ") for text in texts if 300 <= len(text) <= 700 and "<unk>" not in text]
    asked = [
        (Conversation.of_user(CONTINUE.format(f"{first}.")), Completion(text=rest)) for first, _, rest in split if rest
    ]
    return asked[:48]


def stages(job: Job) -> list[dict[str, Any]]:
    """The classifier, PPO with and without a KL penalty, and what both say beside the model before training."""
    train = [*beginnings(job, "train")[:600], *talks(job, "train")[:200]]
    random.Random(0).shuffle(train)
    held_out = {
        "continuations": job.file("continuations", beginnings(job, "test")[:100]),
        "summaries": job.file("summaries", talks(job, "test")[:60]),
    }
    labels = {part: str(job.data / TWEETS.format(part)) for part in ("train", "test")}
    smol, sampled = str(chat_model()), {"max_tokens": 8 if job.short else 20}
    rollouts = {"iterations": 2, "batch_size": 4, "normalise_prompts": 4} if job.short else {"iterations": 15}
    settings = {"lora": {"rank": 16}, "batch_size": 64, "epochs": 1, "mini_batches": 2, "learning_rate": 1e-4,
                "critic": "shared", "normalise_prompts": 128, **sampled, **rollouts}  # fmt: skip
    policy = {"kind": "ppo", "model": smol, "reward": reward("civil"), "data": job.file("asked", train)}
    judges = {"reward": [reward("civil"), reward("toxicity"), reward("words")],
              "settings": {"reward_weights": [1.0, 0.0, 0.0], **sampled}}  # fmt: skip
    return [
        {"kind": "reward", "name": "classifier", "model": str(encoder()), "data": labels["train"],
         "eval_data": labels["test"],
         "settings": {"batch_size": 32, "learning_rate": 1e-4, "max_length": 128, "limit": 64 if job.short else 6000}},
        {**policy, "name": "detoxified", "settings": {**settings, "kl_coef": 0.1}},
        {**policy, "name": "without-kl", "settings": {**settings, "kl_coef": 0.0}},
        *(
            {"kind": "eval", "name": f"{name}-{what}", "model": f"@{name}", "against": smol, "data": file, **judges}
            for name in POLICIES for what, file in job.cut(held_out.items())
        ),
    ]  # fmt: skip


def run(job: Job) -> dict[str, Any]:
    """The whole job; gives its figures."""
    os.environ["CLASSIFIER"] = str(job.out / "runs" / "classifier")
    job.run(stages(job))
    start, texts = time.monotonic(), job.cut(neutral(job), 4)
    before = {"base": str(chat_model())}
    found = [neutral_loss(before | {name: str(job.out / "runs" / name)}, texts) for name in POLICIES]
    return job.report(page(job.out / "neutral", *found, start=start))


if __name__ == "__main__":
    run(arguments("detoxify", __doc__))
