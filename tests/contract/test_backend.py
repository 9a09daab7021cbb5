"""What every Backend promises: its samplers write with the weights that its learners train, once they are published."""

from __future__ import annotations

import pytest
import torch
from learners import full_weights, low_rank, plain_loss, rows
from torch.testing import assert_close

from assent.backends.local.backend import LocalBackend
from assent.ports.learning import Backend, Need, Outputs, Roles
from assent.ports.sampling import SamplingParams
from assent.text.template import ChatTemplate, Encoded
from assent.types import Conversation, Turn

BACKENDS: dict[str, Backend] = {"local": LocalBackend()}
PROMPTS = [Conversation.of_user(text) for text in ("red", "one two", "blue") for _ in range(4)]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


def encoded(turn: Turn) -> Encoded:
    mask = (False,) * len(turn.prompt_ids) + (True,) * len(turn.completion_ids)
    return Encoded(ids=turn.prompt_ids + turn.completion_ids, assistant_mask=mask)


@pytest.mark.parametrize("make", [full_weights, low_rank])
def test_a_sampler_writes_with_the_weights_that_were_published(
    make: type[Roles], backend: Backend, template: ChatTemplate
) -> None:
    roles = make()
    assert roles.policy is not None
    learner, sampler = backend.learner(roles), backend.sampler(roles.policy, template, rollouts=True)
    sampling, version = SamplingParams(max_tokens=6), learner.publish()
    before = sampler.sample(PROMPTS, sampling=sampling, seed=1)
    assert {turn.version for turn in before} == {version}
    learner.update(rows(), Need(), plain_loss, 10.0, 1e-2)
    assert learner.publish() == version + 1
    turns = sampler.sample(PROMPTS, sampling=sampling, seed=1)
    assert {turn.version for turn in turns} == {version + 1}
    assert [turn.logps for turn in turns] != [turn.logps for turn in before]
    states, examples = [turn.states for turn in turns], [encoded(turn) for turn in turns]
    drawn = torch.tensor([logp for turn in turns for logp in turn.logps])
    read, spared = learner.score(examples, Need()), learner.score(examples, Need(), states=states)
    assert (drawn - Outputs.joined(read)["logp"]).abs().mean() < learner.drift_limit
    assert_close(Outputs.joined(spared)["logp"], Outputs.joined(read)["logp"], atol=1e-4, rtol=1e-4)
    assert not any(outputs.from_states for outputs in read)
    assert not all(outputs.from_states for outputs in spared), "some are read all the same, or drift would not show"
