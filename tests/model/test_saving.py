"""What is saved loads in plain transformers and peft, gives the same numbers, and names no place of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from assent.errors import ConfigError, RunError
from assent.model.flat import flatten
from assent.ports.sampling import SamplingParams
from assent.recipes.run.machine import LoraOptions, MachineOptions
from assent.recipes.run.models import (
    LanguageModel,
    RewardModel,
    load_language_model,
    load_reward_for,
    load_reward_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.run.roles import critic_of, reference_of
from assent.types import Completion, Conversation

CPU = MachineOptions(device="cpu")
LORA = LoraOptions(rank=4, alpha=8.0)
IDS = [7, 9, 11, 40, 8]
HEADS = [("llama", 1), ("llama", 2), ("gpt2", 1), ("gpt2", 2), ("bert", 1)]
ARCHITECTURES = ["llama", "qwen2", "mistral", "gpt2", "neox"]


@torch.no_grad()
def shake(parameters: dict[str, torch.nn.Parameter], seed: int = 3) -> None:
    """As if trained."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters.values():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@torch.no_grad()
def logits_of(model: LanguageModel) -> Tensor:
    batch = flatten([IDS])
    return model.role.head.logits(model.role.body.hidden(batch, adapter=model.role.adapter))


@torch.no_grad()
def score_of(reward: RewardModel) -> Tensor:
    return reward.role.logits(flatten([IDS]))


def texts_in(folder: Path) -> str:
    return "\n".join(path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".jinja", ".txt"))


@torch.no_grad()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_full_model_loads_in_plain_transformers(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_language_model(str(folders[name]), machine=CPU)
    shake(model.role.parameters())
    save_language_model(model, tmp_path / "out")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert_close(plain(torch.tensor([IDS])).logits[0], logits_of(model), atol=1e-5, rtol=1e-4)
    assert (
        transformers.AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
        == model.template.tokenizer.chat_template
    )
    assert torch.equal(logits_of(load_language_model(str(tmp_path / "out"), machine=CPU)), logits_of(model))


@torch.no_grad()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_adapter_loads_in_plain_peft_and_again_here(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_language_model(str(folders[name]), machine=CPU, lora=LORA)
    shake(model.role.parameters())
    save_language_model(model, tmp_path / "out")
    base = transformers.AutoModelForCausalLM.from_pretrained(folders[name])
    plain = peft.PeftModel.from_pretrained(base, str(tmp_path / "out")).eval()
    assert_close(plain(torch.tensor([IDS])).logits[0], logits_of(model), atol=1e-5, rtol=1e-4)
    again = load_language_model(str(tmp_path / "out"), machine=CPU)
    assert again.role.adapter is not None and torch.equal(logits_of(again), logits_of(model))


@torch.no_grad()
@pytest.mark.parametrize(("name", "classes"), HEADS)
def test_a_reward_model_loads_as_a_plain_sequence_classifier(
    name: str, classes: int, folders: dict[str, Path], tmp_path: Path
) -> None:
    reward = new_reward_model(str(folders[name]), machine=CPU, seed=1, classes=classes)
    shake(reward.role.parameters())
    save_reward_model(reward, tmp_path / "out")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert_close(plain(torch.tensor([IDS])).logits, score_of(reward), atol=1e-5, rtol=1e-4)
    again = load_reward_model(str(tmp_path / "out"), machine=CPU)
    assert torch.equal(score_of(again), score_of(reward)) and again.positive == classes - 1


@torch.no_grad()
@pytest.mark.parametrize(("name", "classes"), HEADS)
def test_a_reward_adapter_loads_in_plain_peft_and_again_here(
    name: str, classes: int, folders: dict[str, Path], tmp_path: Path
) -> None:
    reward = new_reward_model(str(folders[name]), machine=CPU, seed=1, classes=classes, lora=LORA)
    shake(reward.role.parameters())
    save_reward_model(reward, tmp_path / "out")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(folders[name], num_labels=classes)
    plain = peft.PeftModel.from_pretrained(base, str(tmp_path / "out")).eval()
    assert_close(plain(torch.tensor([IDS])).logits, score_of(reward), atol=1e-5, rtol=1e-4)
    again = load_reward_model(str(tmp_path / "out"), machine=CPU)
    assert_close(score_of(again), score_of(reward))
    assert again.positive == classes - 1
    save_reward_model(again, tmp_path / "twice")
    assert_close(score_of(load_reward_model(str(tmp_path / "twice"), machine=CPU)), score_of(reward))


def test_a_saved_folder_names_no_private_attention_and_no_place(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_language_model(str(folders["qwen2"]), machine=CPU)
    save_language_model(model, tmp_path / "full")
    reward = new_reward_model(str(folders["qwen2"]), machine=CPU, seed=1)
    save_reward_model(reward, tmp_path / "reward")
    for folder in (tmp_path / "full", tmp_path / "reward"):
        assert "assent_flat" not in texts_in(folder) and str(tmp_path.parent) not in texts_in(folder)
        assert not list(folder.glob("*.bin"))
    save_language_model(load_language_model(str(folders["qwen2"]), machine=CPU, lora=LORA), tmp_path / "adapter")
    named = [line for line in texts_in(tmp_path / "adapter").splitlines() if str(tmp_path.parent) in line]
    assert all("base_model_name_or_path" in line for line in named)  # peft needs that one


def four_roles(folders: dict[str, Path], tmp_path: Path) -> tuple[LanguageModel, RewardModel]:
    trained = new_reward_model(str(folders["llama"]), machine=CPU, seed=1, lora=LORA)
    shake(trained.role.parameters())
    save_reward_model(trained, tmp_path / "reward")
    model = load_language_model(str(folders["llama"]), machine=CPU, lora=LORA)
    return model, load_reward_for(model, str(tmp_path / "reward"), machine=CPU)


def test_one_base_carries_policy_reference_critic_and_reward(folders: dict[str, Path], tmp_path: Path) -> None:
    model, reward = four_roles(folders, tmp_path)
    reference = reference_of(model)
    critic = critic_of(model, reward, name="critic", shared_trunk=False, seed=0)
    assert model.role.body is reward.role.body is reference.body is critic.body
    assert {model.role.adapter, reward.role.adapter, critic.adapter} == {"policy", "reward", "critic"}
    base = {id(p) for name, p in model.role.body.model.named_parameters() if "lora_" not in name}
    for role in (model.role, reward.role, critic):
        trunk = {id(p) for name, p in role.body.model.named_parameters() if "lora_" not in name}
        assert trunk == base


def test_a_reward_on_the_policys_base_says_what_it_says_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    model, reward = four_roles(folders, tmp_path)
    alone = load_reward_model(str(tmp_path / "reward"), machine=CPU)
    assert alone.role.body is not model.role.body
    assert torch.equal(score_of(reward), score_of(alone))
    shake(model.role.parameters())
    assert torch.equal(score_of(reward), score_of(alone))
    prompts = [Conversation.of_user(text) for text in ("one", "two three", "red")]
    answers = [Completion(text=text) for text in ("yes", "no", "blue green")]
    assert reward.scorer.score(prompts, answers) == alone.scorer.score(prompts, answers)


def test_a_reward_on_another_base_keeps_its_own_body(folders: dict[str, Path], tmp_path: Path) -> None:
    trained = new_reward_model(str(folders["qwen2"]), machine=CPU, seed=1, lora=LORA)
    save_reward_model(trained, tmp_path / "reward")
    model = load_language_model(str(folders["llama"]), machine=CPU, lora=LORA)
    assert load_reward_for(model, str(tmp_path / "reward"), machine=CPU).role.body is not model.role.body


def test_a_critic_from_the_reward_model_gives_the_normalised_reward_at_the_last_token(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for model, reward in (
        four_roles(folders, tmp_path),
        (
            load_language_model(str(folders["llama"]), machine=CPU),
            new_reward_model(str(folders["llama"]), machine=CPU, seed=4),
        ),
    ):
        critic = critic_of(model, reward, name="critic", shared_trunk=False, seed=0, gain=1 / 1.7, offset=-0.3 / 1.7)
        prompt, answer = Conversation.of_user("what is red ?"), Completion(text="the sun")
        (expected,) = reward.scorer.score([prompt], [answer])
        ids = reward.template.encode_completion(prompt, answer).ids
        with torch.no_grad():
            value_M = critic.values(flatten([[*ids, 5]]))  # position of the last token predicts the next
        assert_close(value_M[-1].item(), (expected - 0.3) / 1.7, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_reference_stays_when_the_policy_moves(folders: dict[str, Path], tmp_path: Path) -> None:
    adapter = load_language_model(str(folders["llama"]), machine=CPU, lora=LORA)
    shake(adapter.role.parameters())
    save_language_model(adapter, tmp_path / "adapter")
    for model in (
        load_language_model(str(folders["llama"]), machine=CPU),
        load_language_model(str(folders["llama"]), machine=CPU, lora=LORA),
        load_language_model(str(tmp_path / "adapter"), machine=CPU),
    ):
        batch, reference = flatten([IDS]), reference_of(model)
        before = model.role.hidden(batch)
        assert torch.equal(reference.hidden(batch), before)
        shake(model.role.parameters(), seed=8)
        assert torch.equal(reference.hidden(batch), before)
        assert not torch.equal(model.role.hidden(batch), before)


@pytest.mark.parametrize("damage", ["shape", "missing", "extra", "torn", "kind"])
def test_an_adapter_that_does_not_fit_is_refused(damage: str, folders: dict[str, Path], tmp_path: Path) -> None:
    save_language_model(load_language_model(str(folders["llama"]), machine=CPU, lora=LORA), tmp_path / "adapter")
    file, settings = tmp_path / "adapter" / "adapter_model.safetensors", tmp_path / "adapter" / "adapter_config.json"
    weights = load_file(file)
    first = next(iter(weights))
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:50])
    elif damage == "kind":
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "peft_type": "IA3"}))
    else:
        changed = dict(weights)
        tensor = changed.pop(first)
        changed |= {"shape": {first: tensor[:-1].contiguous()}, "missing": {}}.get(damage, {first: tensor})
        changed |= {"base_model.model.lm_head.weight": torch.zeros(2, 2)} if damage == "extra" else {}
        save_file(changed, file)
    with pytest.raises(ConfigError, match="adapter"):
        load_language_model(str(tmp_path / "adapter"), machine=CPU)


def test_a_model_still_samples_after_it_was_saved(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_language_model(str(folders["llama"]), machine=CPU)
    prompts, sampling = [Conversation.of_user("red")], SamplingParams(max_tokens=4)
    before = model.sampler.sample(prompts, sampling=sampling, seed=1)
    save_language_model(model, tmp_path / "out")
    assert model.sampler.sample(prompts, sampling=sampling, seed=1) == before


def test_saving_over_a_folder_replaces_it_whole(folders: dict[str, Path], tmp_path: Path) -> None:
    save_language_model(load_language_model(str(folders["llama"]), machine=CPU), tmp_path / "out")
    (tmp_path / "out" / "stray.json").write_text("{}")
    save_language_model(load_language_model(str(folders["gpt2"]), machine=CPU), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "gpt2"
    assert not (tmp_path / "out" / "stray.json").exists() and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_no_model_is_left_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("you")
    with pytest.raises(RunError, match="holds no model"):
        save_language_model(load_language_model(str(folders["llama"]), machine=CPU), tmp_path / "letters")
    assert (tmp_path / "letters" / "dear.txt").read_text() == "you"


def test_a_language_model_is_no_reward_model(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="not a reward model"):
        load_reward_model(str(folders["llama"]), machine=CPU)
