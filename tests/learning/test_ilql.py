"""ILQL finds what is best from behaviour that is bad on average: on a Markov chain with known Q, and in dialogues."""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from learning.test_learning import PROMPT, SEEDS, every_seed, talker
from running import worked
from torch import Tensor
from training_jobs import timeless

import assent
from assent.algorithms.ilql import ILQL, ILQLSettings
from assent.losses.ilql import ILQLShape, TokenValues, ilql_loss
from assent.metrics import Metrics
from assent.ports.sampling import SamplingParams
from assent.recipes.run.models import LanguageModel
from assent.recipes.training.prepare import prepare_offline
from assent.types import Conversation, Message, RewardedDialogue, Role

__all__ = ["talker"]  # a fixture
GAMMA = 0.9
LEFT, RIGHT, MIDDLE = 0, 1, 2  # states
ON, OUT = 0, 1  # in LEFT and RIGHT: on to MIDDLE, or out with a reward; in MIDDLE: the good and the bad end
Walk = tuple[tuple[int, int, float], ...]  # state, action, reward


def walks(seed: int) -> list[Walk]:
    """Who comes from LEFT always ends badly in MIDDLE, and a third of those from RIGHT end well."""
    rng, found = random.Random(seed), list[Walk]()
    for _ in range(240):
        start = rng.choice([LEFT, RIGHT])
        if rng.random() < 0.5:
            found.append(((start, OUT, 0.3),))
        else:
            well = start == RIGHT and rng.random() < 1 / 3
            found.append(((start, ON, 0.0), (MIDDLE, ON if well else OUT, 1.0 if well else -1.0)))
    return found


def fixed_point(data: list[Walk], expectile: float) -> Tensor:
    """Q (states, actions) by enumeration: V the expectile of the Q of what was done, Q the reward and the next V."""
    done = [step for walk in data for step in walk]
    ends = torch.tensor([[0.0, 0.3], [0.0, 0.3], [1.0, -1.0]], dtype=torch.float64)
    q, v = ends.clone(), 0.0
    in_middle = [q[MIDDLE, action].item() for state, action, _ in done if state == MIDDLE]
    for _ in range(2000):
        weights = [expectile if one >= v else 1 - expectile for one in in_middle]
        v = sum(w * one for w, one in zip(weights, in_middle, strict=True)) / sum(weights)
    q[LEFT, ON] = q[RIGHT, ON] = GAMMA * v
    return q


@dataclass
class Tables:
    """Tables in the place of networks."""

    online: Tensor
    target: Tensor
    v: Tensor

    @staticmethod
    def drawn(seed: int) -> Tables:
        generator = torch.Generator().manual_seed(seed)
        online = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64).requires_grad_()
        return Tables(online, online.detach().clone(), torch.zeros(3, dtype=torch.float64, requires_grad=True))


def learned(data: list[Walk], shape: ILQLShape, seed: int) -> Tensor:
    """The lesser Q (states, actions) after training."""
    tables = Tables.drawn(seed)
    state_N, action_N = (torch.tensor([step[part] for walk in data for step in walk]) for part in (0, 1))
    reward_N = torch.tensor([step[2] for walk in data for step in walk], dtype=torch.float64)
    lengths = [len(walk) for walk in data]
    optimizer = torch.optim.Adam([tables.online, tables.v], lr=0.02)
    for _ in range(1500):
        values = TokenValues(
            q_2N=tables.online[:, state_N, action_N],
            q_logp_2N=tables.online.log_softmax(-1)[:, state_N, action_N],
            target_q_N=tables.target[:, state_N, action_N].amin(0),
            v_N=tables.v[state_N], logp_N=torch.zeros_like(reward_N),
        )  # fmt: skip
        optimizer.zero_grad()
        ilql_loss(values, reward_N, lengths, shape, step_tokens=len(reward_N)).loss.backward()
        optimizer.step()
        tables.target.lerp_(tables.online.detach(), 0.05)
    return tables.target.amin(0)


PLAIN = ILQLShape(gamma=GAMMA, expectile=0.9, cql_coef=0.0, awac_coef=0.0, awac_beta=0.0)


@every_seed
@pytest.mark.parametrize("expectile", [0.5, 0.8, 0.99])
def test_the_values_of_a_chain_are_those_of_its_enumeration(expectile: float, seed: int) -> None:
    """Nobody came from LEFT and ended well, so returns say: out. The best that was done in MIDDLE says: on."""
    data = walks(seed)
    assert not any(walk[0][:2] == (LEFT, ON) and walk[-1][2] > 0 for walk in data)
    found, true = learned(data, replace(PLAIN, expectile=expectile), seed), fixed_point(data, expectile)
    assert (found - true).abs().max() < 0.02
    first = ON if expectile == 0.99 else OUT  # the mean of what was done in MIDDLE is below what OUT gives
    assert found.argmax(-1).tolist() == [first, first, ON]


@every_seed
def test_in_the_limit_the_values_are_those_of_the_best_policy(seed: int) -> None:
    best = torch.tensor([[GAMMA, 0.3], [GAMMA, 0.3], [1.0, -1.0]], dtype=torch.float64)
    assert (fixed_point(walks(seed), 1 - 1e-9) - best).abs().max() < 1e-6


def test_the_conservative_term_keeps_the_order_and_pulls_down_what_was_not_done() -> None:
    data = [walk for walk in walks(1) if walk[0][:2] != (RIGHT, OUT)]
    plain, conservative = (learned(data, replace(PLAIN, expectile=0.99, cql_coef=coef), 1) for coef in (0.0, 0.02))
    assert conservative[RIGHT, OUT] < plain[RIGHT, OUT] - 0.5
    assert conservative.argmax(-1).tolist() == [ON, ON, ON]


def turn(talk: Conversation, said: str, asked: str = "") -> Conversation:
    then = talk.then(said)
    return replace(then, messages=(*then.messages, Message(role=Role.USER, content=asked))) if asked else then


def logged(seed: int) -> list[RewardedDialogue]:
    """Half say blue and get 0.3; half say red, and of those one in five then says yes and gets 1, the others -1."""
    rng = random.Random(seed)
    red, made = turn(PROMPT, "red", "four ?"), list[RewardedDialogue]()
    for place in range(40):
        if place % 2:
            made.append(RewardedDialogue(conversation=turn(PROMPT, "blue"), rewards=(0.3,)))
        else:
            well = place % 10 == 0
            made.append(
                RewardedDialogue(conversation=turn(red, "yes" if well else "no"), rewards=(0.0, 2.0 * well - 1))
            )
    rng.shuffle(made)
    return made


def greedy(model: LanguageModel, prompt: Conversation) -> str:
    (written,) = model.sampler.sample([prompt], sampling=SamplingParams(max_tokens=6, temperature=0.0), seed=0)
    return written.completion.text


def trained(model: LanguageModel, seed: int, **more: object) -> list[Metrics]:
    given = {"epochs": 60, "batch_size": 20, "learning_rate": 3e-3, "gamma": 1.0, "expectile": 0.97, "target_step": 0.1}
    settings = ILQLSettings(**{**given, "cql_coef": 0.01, "beta": 20.0, **more})
    return timeless(prepare_offline(ILQL, model, logged(seed), settings, seed=seed).run())


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
def test_dialogues_that_end_badly_on_average_teach_what_is_best(
    seed: int, talker: Callable[[], LanguageModel]
) -> None:  # fmt: skip
    """Greedy, the behaviour policy says blue and, after red, no. Values of its average say blue; ILQL says red, yes."""
    model, average, red = talker(), talker(), turn(PROMPT, "red", "four ?")
    rows = trained(model, seed)
    assert (greedy(model, PROMPT), greedy(model, red)) == ("red", "yes")
    assert rows[-1]["q_loss"] < 0.01 < rows[0]["q_loss"]
    trained(average, seed, expectile=0.5)
    assert (greedy(average, PROMPT), greedy(average, red)) == ("blue", "yes")
    assert model.role.action_values is not None
    model.role.action_values.beta.fill_(0.0)
    assert greedy(model, red) == "no"


@pytest.mark.slow
def test_the_example_of_the_page_asks_and_answers_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the base model of the embedded world, from the command line."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    section = page.split("## ilql: ")[1].split("\n## ")[0]
    Path("dialogues.jsonl").write_text(section.split("```json\n")[1].split("```")[0])
    commands = section.split("```bash\n")[1].split("```")[0].splitlines()
    base = Path(assent.__file__).parent / "world" / "base"
    for command in commands:
        worked(*(str(base) if word == "runs/sft" else word for word in shlex.split(command)[1:]))
    answers = {
        (row["prompt"][-1]["content"], row["completions"][0])
        for row in map(json.loads, Path("answers.jsonl").read_text().splitlines())
    }
    assert answers == {("My parcel is late.", "What is its number?"), ("Seven.", "It comes tomorrow.")}
