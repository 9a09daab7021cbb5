"""On a CUDA device the sampler writes what the learner would score, and greedily what the CPU writes."""

from __future__ import annotations

import pytest
import torch
from on_cuda import CUDA, every_precision, needs_cuda, on_cuda
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm

from assent.backends.local.learner import LocalLearner
from assent.model.body import Body, Precision
from assent.model.generation import Decoder, Generation
from assent.model.roles import LanguageRole
from assent.ports.learning import Need, Outputs, Roles
from assent.ports.sampling import SamplingParams
from assent.text.template import Encoded

pytestmark = needs_cuda
PROMPTS = [[5, 9, 2], [7], [11, 12, 13, 14, 15, 16, 17], [3, 3, 8, 21], [40, 41, 42], [99, 98]]
ENDS = frozenset(range(0, VOCABULARY, 12))
LARGEST, MEAN = {"fp32": 1e-4, "bf16": 0.35}, {"fp32": 2e-5, "bf16": 0.05}  # nats by which log-probabilities differ


def written(body: Body, sampling: SamplingParams, prompts: list[list[int]], every: int = 0) -> list[Generation]:
    """The prompts' completions; with `every`, one prompt comes that many steps after the other."""
    decoder = Decoder(LanguageRole(body), end_ids=ENDS)
    begun = [Generation(key=key, prompt_ids=ids, sampling=sampling, seed=key) for key, ids in enumerate(prompts)]
    for one in begun:
        decoder.add([one])
        for _ in range(every):
            decoder.step()
    while decoder.under_way:
        decoder.step()
    return begun


@every_precision
@pytest.mark.parametrize("name", CAUSAL)
def test_the_learner_scores_what_the_sampler_said(name: str, precision: Precision) -> None:
    body, prompts = on_cuda(name, precision), PROMPTS * 4
    turns = written(body, SamplingParams(max_tokens=20), prompts)
    examples = [
        Encoded(ids=(*prompt, *turn.ids), assistant_mask=(False,) * len(prompt) + (True,) * len(turn.ids))
        for prompt, turn in zip(prompts, turns, strict=True)
    ]
    logp_M = Outputs.joined(LocalLearner(Roles(policy=LanguageRole(body))).score(examples, Need()))["logp"]
    apart_M = (logp_M - torch.tensor([logp for turn in turns for logp in turn.logps])).abs()
    assert apart_M.max() < LARGEST[precision] and apart_M.mean() < MEAN[precision]


@pytest.mark.parametrize("name", CAUSAL)
def test_greedy_samples_are_the_cpus(name: str) -> None:
    greedy = SamplingParams(max_tokens=20, temperature=0.0)
    mine, theirs = written(on_cuda(name), greedy, PROMPTS), written(body_of(causal_lm(name)), greedy, PROMPTS)
    assert [one.ids for one in mine] == [one.ids for one in theirs]
    assert [one.stop for one in mine] == [one.stop for one in theirs]


@pytest.mark.parametrize(
    "sampling", [SamplingParams(max_tokens=12), SamplingParams(max_tokens=12, top_p=0.8, top_k=20)]
)
def test_the_same_seeds_give_the_same_samples(sampling: SamplingParams) -> None:
    body = on_cuda("llama", "bf16")
    one, other = written(body, sampling, PROMPTS), written(body, sampling, PROMPTS)
    assert [(a.ids, a.logps) for a in one] == [(b.ids, b.logps) for b in other]


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral"])
def test_prompts_that_come_later_get_the_tokens_of_writing_at_once(name: str) -> None:
    greedy, body = SamplingParams(max_tokens=10, temperature=0.0), on_cuda(name)
    together, later = written(body, greedy, PROMPTS), written(body, greedy, PROMPTS, every=2)
    assert [one.ids for one in later] == [one.ids for one in together]
    assert body.device.type == CUDA.type
