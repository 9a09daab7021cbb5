"""HHH alignment and the loss on neutral text, against what plain transformers says of the same answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from assent.types import Comparison, Completion, Conversation
from examples.real.likelihood import hhh_alignment, losses, neutral_loss

ANSWERED = [
    (Conversation.of_user("what is red ?"), Completion(text="the sun is red .")),
    (Conversation.of_user("what is red ?"), Completion(text="no")),
    (Conversation.of_user("one two ?"), Completion(text="three four")),
    (Conversation.of_user("one two ?"), Completion(text="blue green yes")),
]
ROUNDING = 0.02  # bf16 against float32


@pytest.fixture
def models(folders: dict[str, Path]) -> dict[str, str]:
    return {"base": str(folders["llama"]), "trained": str(folders["qwen2"])}


def truth(folder: str) -> list[tuple[float, int]]:
    """The negative log-probability and the tokens of each answer with its end token."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for prompt, answer in ANSWERED:
        asked = [{"role": "user", "content": prompt.last_user_text}]
        before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        said = tokenizer(f" {answer.text}{tokenizer.eos_token}", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logp = model(torch.tensor([before + said])).logits[0].log_softmax(-1)
        places = range(len(before) - 1, len(before) + len(said) - 1)
        found.append((-sum(logp[at, token].item() for at, token in zip(places, said, strict=True)), len(said)))
    return found


def test_every_answer_has_the_loss_that_transformers_gives_it(models: dict[str, str]) -> None:
    for name, found in losses(models, ANSWERED).items():
        for one, (negative_logp, tokens) in zip(found, truth(models[name]), strict=True):
            assert (one.negative_logp, one.tokens) == (pytest.approx(negative_logp, rel=ROUNDING), tokens)


def test_a_pair_is_right_where_the_better_answer_is_likelier_per_token(models: dict[str, str]) -> None:
    (first, good), (_, bad), (second, fine), (_, poor) = ANSWERED
    pairs = [Comparison(prompt=first, chosen=good, rejected=bad), Comparison(prompt=second, chosen=fine, rejected=poor)]
    found = hhh_alignment(models, pairs)
    for name, folder in models.items():
        a, b, c, d = (total / tokens for total, tokens in truth(folder))
        assert min(abs(a - b), abs(c - d)) > ROUNDING, "a pair too close to call"
        assert found.values[name].mean == ((a < b) + (c < d)) / 2
    assert found.gained.mean == found.values["trained"].mean - found.values["base"].mean


def test_the_loss_is_over_all_tokens_and_its_difference_is_that_of_the_models(models: dict[str, str]) -> None:
    found = neutral_loss(models, ANSWERED)
    for name, folder in models.items():
        totals, tokens = zip(*truth(folder), strict=True)
        assert found.values[name].mean == pytest.approx(sum(totals) / sum(tokens), rel=ROUNDING)
    assert found.gained.mean == pytest.approx(found.values["trained"].mean - found.values["base"].mean)
