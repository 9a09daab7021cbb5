"""On a CUDA device the sampler writes what the learner would score, and greedily what the CPU writes."""

from __future__ import annotations

import pytest
import torch
from on_cuda import CUDA, every_precision, needs_cuda, on_cuda
from small_models import CAUSAL, VOCABULARY, body_of, causal_lm

from assent.backends.local.learner import LocalLearner
from assent.model.body import Body, Precision
from assent.model.generation import Sampled, generate
from assent.model.roles import LanguageRole
from assent.model.stepping import Begun, StepDecoder
from assent.ports.learning import Need, Outputs, Roles
from assent.ports.sampling import Sampling
from assent.text.template import Encoded

pytestmark = needs_cuda
PROMPTS = [[5, 9, 2], [7], [11, 12, 13, 14, 15, 16, 17], [3, 3, 8, 21], [40, 41, 42], [99, 98]]
ENDS = frozenset(range(0, VOCABULARY, 12))
LARGEST, MEAN = {"fp32": 1e-4, "bf16": 0.35}, {"fp32": 2e-5, "bf16": 0.05}  # nats by which log-probabilities differ


def written(body: Body, sampling: Sampling, prompts: list[list[int]]) -> list[Sampled]:
    seeds = list(range(len(prompts)))
    role = LanguageRole(body)
    return [one for _, one in sorted(generate(role, prompts, sampling=sampling, end_ids=ENDS, seeds=seeds))]


@every_precision
@pytest.mark.parametrize("name", CAUSAL)
def test_the_learner_scores_what_the_sampler_said(name: str, precision: Precision) -> None:
    body, prompts = on_cuda(name, precision), PROMPTS * 4
    turns = written(body, Sampling(max_tokens=20), prompts)
    examples = [
        Encoded(ids=(*prompt, *turn.ids), assistant_mask=(False,) * len(prompt) + (True,) * len(turn.ids))
        for prompt, turn in zip(prompts, turns, strict=True)
    ]
    logp_M = Outputs.joined(LocalLearner(Roles(policy=LanguageRole(body))).score(examples, Need()))["logp"]
    apart_M = (logp_M - torch.tensor([logp for turn in turns for logp in turn.logps])).abs()
    assert apart_M.max() < LARGEST[precision] and apart_M.mean() < MEAN[precision]


@pytest.mark.parametrize("name", CAUSAL)
def test_greedy_samples_are_the_cpus(name: str) -> None:
    greedy = Sampling(max_tokens=20, temperature=0.0)
    mine, theirs = written(on_cuda(name), greedy, PROMPTS), written(body_of(causal_lm(name)), greedy, PROMPTS)
    assert [one.ids for one in mine] == [one.ids for one in theirs]
    assert [one.ended for one in mine] == [one.ended for one in theirs]


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=12), Sampling(max_tokens=12, top_p=0.8, top_k=20)])
def test_the_same_seeds_give_the_same_samples(sampling: Sampling) -> None:
    body = on_cuda("llama", "bf16")
    assert written(body, sampling, PROMPTS) == written(body, sampling, PROMPTS)


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral"])
def test_step_by_step_the_tokens_are_those_of_writing_at_once(name: str) -> None:
    greedy = Sampling(max_tokens=10, temperature=0.0)
    role = LanguageRole(on_cuda(name))
    decoder = StepDecoder(role, end_ids=ENDS)
    drawn: dict[int, list[int]] = {}
    for step in range(16):
        if step < 4:
            one = Begun(key=step, prompt_ids=PROMPTS[step], sampling=greedy, seed=step)
            decoder.begin([one])
        for token in decoder.step():
            drawn.setdefault(token.key, []).append(token.id)
    alone = written(role.body, greedy, PROMPTS[:4])
    assert [tuple(drawn[key]) for key in range(4)] == [one.ids for one in alone]
    assert role.body.device.type == CUDA.type
