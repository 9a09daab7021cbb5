"""The Python API: the page about it runs, the examples run, and the few promises that a reader would lean on hold."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import sys
from pathlib import Path

import pandas
import pytest
import torch
import transformers

import assent
from assent.algorithms.methods import FUNCTIONS
from assent.errors import AssentError
from assent.types import Completion, Conversation, Demonstration, Rating

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


def test_the_api_is_seen_by_dir_star_and_help() -> None:
    names = {*FUNCTIONS, "evaluate", "load", "load_reward", "sample", "set_threads"}
    assert {"sft", "train_reward", "ppo", "grpo", "dpo", "kto"} <= names
    assert set(dir(assent)) == {*names, "__version__"}
    star: dict[str, object] = {}
    exec("from assent import *", star)
    assert names <= star.keys()
    for name in names:
        shown = inspect.signature(getattr(assent, name)).parameters
        assert inspect.getdoc(getattr(assent, name)), name
        assert "settings" not in shown, name
    shown = inspect.signature(assent.ppo).parameters
    assert (shown["iterations"].default, shown["iterations"].annotation) == (100, int)
    assert list(shown)[:3] == ["model", "data", "reward"]


def test_type_checkers_see_every_function_that_is_not_made_from_the_table_of_methods() -> None:
    tree = ast.parse(Path(str(assent.__file__)).read_text())
    (seen,) = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "assent.api"]
    assert {alias.name for alias in seen.names} == set(assent.__all__) - {"__version__", *FUNCTIONS}


def test_held_out_data_is_measured_during_training_and_asked_for_where_it_is_missing(here: Path) -> None:
    policy, shown, held = assent.load("runs/base"), "world/demonstrations.jsonl", "world/held-out.jsonl"
    for function, data in ((assent.sft, shown), (assent.train_reward, held), (assent.dpo, held)):
        rows: list[dict[str, float]] = []
        small = {"batch_size": 4, "evaluate_every": 1, "on_step": rows.append}
        function(policy, data, eval_data=held, **small)
        assert len(rows) > 1 and all("eval_loss" in row for row in rows)
        with pytest.raises(AssentError, match="evaluate_every: there is no held-out data"):
            function(policy, data, **small)
        with pytest.raises(AssentError, match='unknown setting "checkpoint_every"'):
            function(policy, data, checkpoint_every=2)


def test_a_model_says_what_it_is(here: Path, home: Path) -> None:
    plain, adapted = assent.load("runs/base"), assent.load("runs/base", lora_rank=2)
    assert re.fullmatch(
        r"LanguageModel\(runs/base/model: LlamaForCausalLM, [\d.]+ k parameters, cpu, fp32\)", repr(plain)
    )
    assert "an adapter trains" in repr(adapted)
    assert re.match(
        r"RewardModel\(.*reward/model: LlamaForSequenceClassification", repr(assent.load_reward(home / "reward"))
    )


def test_a_call_that_does_not_fit_is_explained() -> None:
    with pytest.raises(AssentError, match=r"assent\.ppo: missing a required argument: 'model'\. help\(assent\.ppo\)"):
        assent.ppo()  # type: ignore[call-arg]
    with pytest.raises(AssentError, match="got an unexpected keyword argument 'thread'"):
        assent.load("runs/base", thread=2)  # type: ignore[call-arg]
    with pytest.raises(AssentError, match='"threads": expected greater than or equal to 1, got 0'):
        assent.set_threads(0)


def test_one_text_is_a_prompt_unless_it_names_a_file_or_looks_like_a_path(here: Path) -> None:
    policy = assent.load("runs/base")
    ask = {"max_tokens": 4, "temperature": 0.0}
    expected = assent.sample(policy, ["Hello!"], **ask)
    assert assent.sample(policy, "Hello!", **ask) == expected
    assert assent.sample(policy, [{"role": "user", "content": "Hello!"}], **ask) == expected
    assert assent.sample(policy, pandas.DataFrame({"prompt": ["Hello!"]}), **ask) == expected
    (here / "Hello!").write_text("One\nTwo\n")
    with pytest.raises(AssentError, match="If it is meant as a prompt, put it into a list"):
        assent.sample(policy, "Hello!", **ask)
    (here / "two.txt").write_text("One\nTwo\n")
    assert len(assent.sample(policy, "two.txt", **ask)) == len(assent.sample(policy, Path("two.txt"), **ask)) == 2
    for missing in ("three.txt", "either/or"):
        with pytest.raises(AssentError, match=f"{missing}: there is no such file.*put it into a list"):
            assent.sample(policy, missing, **ask)
    assert len(assent.sample(policy, ["three.txt", "either/or"], **ask)) == 2


def test_rows_in_memory_train_to_the_bits_of_their_file(here: Path) -> None:
    def trained(data: object) -> torch.Tensor:
        policy = assent.dpo(assent.load("runs/base"), data, batch_size=4, learning_rate=1e-3)  # type: ignore[arg-type]
        return torch.cat([parameter.flatten() for parameter in policy.role.parameters().values()])

    frame = pandas.read_json("world/held-out.jsonl", lines=True)
    assert torch.equal(trained("world/held-out.jsonl"), trained(frame))
    assert torch.equal(trained(Path("world/held-out.jsonl")), trained(frame.to_dict("records")))


def test_labels_in_memory_make_a_classifier_and_other_scores_make_pairs(here: Path) -> None:
    def rated(*scores: float) -> list[Rating]:
        asked = Conversation.of_user("Who?")
        return [Rating(prompt=asked, completion=Completion(text=f"It is {s:g}."), score=s) for s in scores]

    reward = assent.train_reward("runs/base", rated(1.0, 0.0), batch_size=1)
    assert hasattr(assent.evaluate(reward, rated(1.0, 0.0)), "auc")
    assert assent.evaluate(reward, rated(0.2, 0.9)).pairs == 1
    with pytest.raises(AssentError, match="cannot be made of Rating"):
        assent.evaluate(reward, rated(0.2))


def test_a_result_never_replaces_what_it_needs(here: Path) -> None:
    shown = [Demonstration(conversation=Conversation.of_user("Hello!").then("Good day."))]
    assent.sft(assent.load("runs/base"), shown, batch_size=1, out="made/base")
    adapter = assent.load("made/base", lora_rank=2)
    with pytest.raises(AssentError, match="this model is still needed"):
        assent.sft(adapter, shown, batch_size=1, out="made/base")
    with pytest.raises(AssentError, match="this model is still needed"):
        assent.train_reward("made/base", "world/preferences.jsonl", out="made/base")
    (here / "taken").write_text("x")
    for out, said in (("taken", "this is a file"), ("taken/model", "this is a file"), ("world", "holds no model")):
        with pytest.raises(AssentError, match=said):
            assent.sft(adapter, shown, batch_size=1, out=out)
