"""The Python API: the page about it runs, the examples run, and the few promises that a reader would lean on hold."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
import transformers

import assent
from assent.errors import AssentError
from assent.types import Conversation, Demonstration

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "own_preferences": ("world/preferences.jsonl", "world/held-out.jsonl", "made", "--iterations", "1"),
    "own_pairs_dpo": ("world/preferences.jsonl", "made"),
    "own_reward_function": ("world/prompts.jsonl", "made", "--iterations", "1"),
}


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the page supposes it: `world`, and `runs/base`."""
    (tmp_path / "world").symlink_to(home / "world")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "base").symlink_to(home / "base")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_of_the_page_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    for expected in re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL):
        assert expected in said
    for run, loader in (("sft", "CausalLM"), ("reward", "SequenceClassification"), ("dpo", "CausalLM")):
        getattr(transformers, f"AutoModelFor{loader}").from_pretrained(here / "runs" / run)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "runs/base", *EXAMPLES[name]])
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert "after" in capsys.readouterr().out
    assert list((here / "made").rglob("model.safetensors"))


def test_every_example_is_tried() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


def test_a_reward_model_starts_from_the_policy_as_it_is_now_and_leaves_it_alone(here: Path) -> None:
    policy = assent.load("runs/base")
    with torch.no_grad():
        for parameter in policy.role.parameters().values():
            parameter.add_(0.01)
    before = {name: tensor.clone() for name, tensor in policy.role.body.model.state_dict().items()}
    reward = assent.train_reward(policy, "world/preferences.jsonl", learning_rate=1e-12)
    after = policy.role.body.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    trunk = reward.role.body.model.state_dict()
    torch.testing.assert_close(trunk["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"])


def test_an_adapter_is_trained_and_rewarded_from_memory_and_its_base_is_found_again(here: Path) -> None:
    policy = assent.load("runs/base", lora_rank=2)
    shown = [Demonstration(conversation=Conversation.of_user("Hello!").then("Good day."))]
    policy = assent.sft(policy, shown, batch_size=1, out="made/sft")
    assent.train_reward(policy, "world/preferences.jsonl", out="made/reward")
    again = assent.load_reward("made/reward")
    assert again.role.adapter is not None
    assert isinstance(assent.evaluate(assent.load("made/sft"), ["Hello!"], reward=again, max_tokens=4).mean, float)


def test_same_seed_same_answers_and_settings_are_checked(here: Path) -> None:
    policy = assent.load("runs/base")
    prompts = ["Hello!", "Where?"]
    first, second = (assent.sample(policy, prompts, max_tokens=8, seed=5) for _ in range(2))
    assert first == second != assent.sample(policy, prompts, max_tokens=8, seed=6)
    with pytest.raises(AssentError, match='did you mean "max_tokens"'):
        assent.sample(policy, prompts, max_token=8)
    with pytest.raises(AssentError, match="Give reward="):
        assent.evaluate(policy, prompts)
    with pytest.raises(AssentError, match="trackers"):
        assent.sft(policy, "world/demonstrations.jsonl", trackers=[])


def test_ppo_leaves_a_reward_model_as_it_is_and_what_is_measured_before_and_after_compares(here: Path) -> None:
    policy = assent.load("runs/base")
    reward = assent.train_reward(policy, "world/preferences.jsonl")
    prompts = "world/held-out.jsonl"
    before = assent.evaluate(policy, prompts, reward=reward, max_tokens=8, seed=3)
    policy = assent.ppo(
        policy, prompts, reward=reward, iterations=2, batch_size=4, max_tokens=8, learning_rate=1e-12
    )  # fmt: skip
    assert assent.evaluate(policy, prompts, reward=reward, max_tokens=8, seed=3) == before


def test_several_rewards_are_a_list_or_a_dict_and_their_sum_is_evaluated(here: Path) -> None:
    policy, rows = assent.load("runs/base"), []
    prompts = ["Hello!", "Where?"]

    def long(completions: list[str]) -> list[int]:
        return [len(text) for text in completions]

    def words(completions: list[str]) -> list[int]:
        return [len(text.split()) for text in completions]

    sampling = {"max_tokens": 8, "seed": 4}
    alone = [assent.evaluate(policy, prompts, reward=one, **sampling).mean for one in (long, words)]
    both = assent.evaluate(policy, prompts, reward=[long, words], reward_weights=[2, -1], **sampling)
    assert both.mean == pytest.approx(2 * alone[0] - alone[1])
    assent.ppo(
        policy, prompts, reward={"a": long, "b": words}, reward_weights=[2, -1], iterations=1, batch_size=4,
        max_tokens=4, on_step=rows.append,
    )  # fmt: skip
    assert rows[0]["reward"] == pytest.approx(2 * rows[0]["reward/a"] - rows[0]["reward/b"])
    with pytest.raises(AssentError, match="2 rewards and 1 weights"):
        assent.ppo(policy, prompts, reward=[long, words], reward_weights=[1])
    with pytest.raises(AssentError, match=r"test_python\.py:\d+: the reward function .* asks for the column"):
        assent.ppo(policy, prompts, reward=lambda completions, answer: [0.0], iterations=1)
