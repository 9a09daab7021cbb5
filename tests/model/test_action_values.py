"""Action values: columns as if tokens x vocabulary were there, writing by shifted logits, targets, and the file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import VOCABULARY, body_of, causal_lm
from torch import Tensor
from torch.testing import assert_close
from training_jobs import CPU, LORA, PROMPTS

from assent.backends.local.learner import LocalLearner
from assent.backends.local.sampler import LocalSampler
from assent.errors import ConfigError
from assent.model.action_values import FILE, ActionValues
from assent.model.adapters import LoraSettings
from assent.model.body import Body
from assent.model.flat import flatten
from assent.model.generation import Decoder, Generation
from assent.model.roles import LanguageRole
from assent.ports.learning import LossResult, Need, Outputs, Roles
from assent.ports.sampling import SamplingParams
from assent.recipes.run.models import load_language_model, save_language_model
from assent.text.template import ChatTemplate, Encoded

COLUMNS = ("q1", "q1_logp", "q2", "q2_logp", "target_q", "v")


@torch.no_grad()
def shaken(values: ActionValues, seed: int = 0) -> ActionValues:
    """Values that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in values.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return values


def policy(*, adapted: bool = False, beta: float = 2.0, learning: bool = False) -> LanguageRole:
    body = body_of(causal_lm("qwen3"))
    if adapted:
        body.add_adapter("policy", LoraSettings(rank=4))
    role = LanguageRole(body, "policy" if adapted else None)
    role.learn_action_values(beta=beta, target_step=0.25, seed=3)
    assert role.action_values is not None
    shaken(role.action_values)
    if not learning:
        role.action_values.online = None
    return role


def values_of(role: LanguageRole) -> ActionValues:
    assert role.action_values is not None
    return role.action_values


def whole(head: Any, hidden: Tensor) -> Tensor:
    """A value head by its formula."""
    inner = (hidden @ head.first.weight.T + head.first.bias).clamp_min(0)
    out: Tensor = inner @ head.last.weight.T + head.last.bias
    return out


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_columns_and_gradients_are_those_of_whole_tables(kind: torch.dtype) -> None:
    values = shaken(ActionValues(8, 50, seed=1)).to(kind)
    values.learn(beta=1.0, target_step=0.5)
    shaken(values, seed=2)
    generator = torch.Generator().manual_seed(4)
    hidden_MH = torch.randn(9, 8, generator=generator, dtype=kind).requires_grad_()
    target_M = torch.randint(50, (9,), generator=generator)
    found = values.columns(hidden_MH, target_M)
    assert values.online is not None and set(found) == {*COLUMNS}
    q1, q2, slow1, slow2 = (
        whole(head, hidden_MH)
        for head in (values.online.q1, values.online.q2, values.target.q1, values.target.q2)
    )  # fmt: skip
    rows = torch.arange(9)
    tables = {
        "q1": q1[rows, target_M], "q1_logp": q1.log_softmax(1)[rows, target_M],
        "q2": q2[rows, target_M], "q2_logp": q2.log_softmax(1)[rows, target_M],
        "target_q": torch.minimum(slow1, slow2)[rows, target_M].detach(), "v": whole(values.v, hidden_MH)[:, 0],
    }  # fmt: skip
    assert all(found[name].requires_grad is (name != "target_q") for name in COLUMNS)
    wanted = [hidden_MH, *values.trained().values()]
    for name in COLUMNS:
        assert_close(found[name], tables[name], msg=name)
    mine, slow = (torch.stack([one[name].square().sum() for name in COLUMNS]).sum() for one in (found, tables))
    for ours, theirs in zip(torch.autograd.grad(mine, wanted), torch.autograd.grad(slow, wanted), strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def logits_of(role: LanguageRole, ids: list[int]) -> Tensor:
    """The last logits by the definition: log pi + beta (min Q - V)."""
    values = values_of(role)
    with torch.no_grad():
        hidden = role.body.hidden(flatten([ids]), adapter=role.adapter)[-1:]
        q = torch.minimum(whole(values.target.q1, hidden), whole(values.target.q2, hidden))
        advantage = q - whole(values.v, hidden)
        return (role.head.logits(hidden).log_softmax(-1) + values.beta * advantage).log_softmax(-1)[0]


@pytest.mark.parametrize("adapted", [False, True])
def test_writing_draws_from_the_behaviour_policy_shifted_by_advantage(adapted: bool) -> None:
    role, prompt = policy(adapted=adapted), [5, 9, 77]
    decoder = Decoder(role, end_ids=frozenset({0}))
    sampling = SamplingParams(max_tokens=5, top_logprobs=VOCABULARY)
    one = Generation(key=0, prompt_ids=prompt, sampling=sampling, seed=11)
    decoder.add([one])
    while decoder.under_way:
        before = [*prompt, *one.ids]
        decoder.step()
        true_V = logits_of(role, before)
        found_V = torch.tensor([logp for _, logp in sorted(one.top_logprobs)])
        assert_close(found_V, true_V, rtol=1e-4, atol=1e-4)
        assert one.logps[-1] == pytest.approx(true_V[one.ids[-1]].item(), abs=1e-4)
        plain_V = role.head.logits(role.body.hidden(flatten([before]), adapter=role.adapter)[-1:])[0].log_softmax(-1)
        assert (true_V - plain_V).abs().max() > 0.1


def test_values_that_are_fresh_or_weigh_nothing_change_no_bit_of_what_is_written(template: ChatTemplate) -> None:
    plain, fresh, mute = LanguageRole(body_of(causal_lm("qwen3"))), policy(), policy(beta=0.0)
    fresh.action_values = ActionValues(fresh.body.hidden_size, VOCABULARY, beta=9.0)
    written = [
        LocalSampler(role, template).sample(PROMPTS, sampling=SamplingParams(max_tokens=6), seed=4)
        for role in (plain, fresh, mute, policy())
    ]
    assert written[0] == written[1] == written[2] != written[3]


def test_a_prepared_role_in_bf16_writes_by_its_values_too() -> None:
    body = Body(causal_lm("llama"), device=torch.device("cpu"), precision="bf16")
    role = LanguageRole(body, action_values=shaken(ActionValues(body.hidden_size, VOCABULARY, beta=3.0)))
    twin = role.prepared()
    assert twin is not role and twin.action_values is role.action_values


def rows() -> list[Encoded]:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in (70, 4, 9)]
    return [Encoded(ids=tuple(one), assistant_mask=(True,) * len(one)) for one in ids]


def test_a_learner_says_how_likely_the_policy_is_to_write_a_text() -> None:
    role, long = policy(), 60
    examples = [Encoded(ids=one.ids[:long], assistant_mask=one.assistant_mask[:long]) for one in rows()]
    for outputs, example in zip(LocalLearner(Roles(policy=role)).score(examples, Need()), examples, strict=True):
        true = [logits_of(role, [*example.ids[:n]])[example.ids[n]].item() for n in range(1, len(example))]
        assert outputs["logp"].tolist() == pytest.approx(true, abs=1e-3)
    behaviour = policy(learning=True)
    outputs = LocalLearner(Roles(policy=behaviour)).score(examples[1:2], Need(action_values=True))[0]
    behaviour.action_values = None
    plain = LocalLearner(Roles(policy=behaviour)).score(examples[1:2], Need())[0]
    assert torch.equal(outputs["logp"], plain["logp"]) and {*outputs.columns} == {"logp", *COLUMNS}


def test_targets_follow_by_their_step_after_a_good_update_and_not_after_a_bad_one() -> None:
    role = policy(learning=True)
    learner, values = LocalLearner(Roles(policy=role)), values_of(role)
    assert values.online is not None
    before = {name: p.clone() for name, p in values.target.named_parameters()}

    def loss(outputs: Outputs, run: Any, count: float) -> LossResult:
        return LossResult(loss=outputs["q1"].square().sum() / count, sums={}, count=1.0)

    def broken(outputs: Outputs, run: Any, count: float) -> LossResult:
        return LossResult(loss=outputs["q1"].sum() * float("nan"), sums={}, count=1.0)

    assert learner.update(rows(), Need(action_values=True), broken, 9.0, 1e-2).skipped
    assert all(torch.equal(before[name], p) for name, p in values.target.named_parameters())
    learner.update(rows(), Need(action_values=True), loss, 9.0, 1e-2)
    online = dict(values.online.named_parameters())
    moved = 0
    for name, slow in values.target.named_parameters():
        assert_close(slow, before[name] + 0.25 * (online[name].detach() - before[name]))
        moved += not torch.equal(slow, before[name])
    assert moved and all(p.grad is None for p in values.target.parameters())


@pytest.mark.parametrize("adapted", [False, True])
def test_a_saved_model_writes_the_same_and_goes_on_learning(
    adapted: bool, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU, lora=LORA if adapted else None)
    model.role.learn_action_values(beta=2.5, target_step=0.1, seed=1)
    shaken(values_of(model.role))
    save_language_model(model, tmp_path / "saved")
    again = load_language_model(str(tmp_path / "saved"), machine=CPU)
    sampling = SamplingParams(max_tokens=6)
    assert again.sampler.sample(PROMPTS, sampling=sampling, seed=1) == model.sampler.sample(
        PROMPTS, sampling=sampling, seed=1
    )
    found, made = values_of(again.role), values_of(model.role)
    assert found.beta == 2.5 and found.online is None and not found.trained()
    again.role.learn_action_values(beta=1.5, target_step=0.1, seed=9)
    assert found.beta == 1.5 and found.online is not None
    for name, slow in made.target.named_parameters():
        assert torch.equal(dict(found.online.named_parameters())[name], slow)
    assert "action_values.online.q1.last.weight" in again.role.parameters()


def test_values_that_do_not_fit_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    model.role.learn_action_values(beta=1.0, target_step=0.1, seed=1)
    save_language_model(model, tmp_path / "good")
    held = load_file(tmp_path / "good" / FILE)
    less = {name: tensor for name, tensor in held.items() if name != "v.last.bias"}
    other = held | {"target.q1.last.weight": torch.zeros(7, 64)}
    mute = {name: tensor for name, tensor in held.items() if name != "beta"}
    for number, (tensors, told) in enumerate([(less, "v.last.bias"), (other, "size mismatch"), (mute, "beta")]):
        folder = tmp_path / f"bad-{number}"
        shutil.copytree(tmp_path / "good", folder)
        save_file(tensors, folder / FILE)
        with pytest.raises(ConfigError, match=rf"action_values.safetensors: the action values .*{told}"):
            load_language_model(str(folder), machine=CPU)
    (tmp_path / "bad-0" / FILE).write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="the action values"):
        load_language_model(str(tmp_path / "bad-0"), machine=CPU)
