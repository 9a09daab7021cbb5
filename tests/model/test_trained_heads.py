"""A trained head is the one in the weights: found, sized, named, read where transformers reads it, and trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from small_models import CAUSAL, VOCABULARY, bert_config, causal_lm, seeded
from torch import Tensor
from torch.testing import assert_close
from training_jobs import CPU, comparisons, train_reward_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from assent.algorithms.reward import RewardSettings
from assent.errors import ConfigError
from assent.model.flat import flatten
from assent.model.loading import load_classifier
from assent.recipes.run.machine import LoraOptions
from assent.recipes.run.models import (
    RewardModel,
    load_language_model,
    load_reward_model,
    new_reward_model,
    save_language_model,
    save_reward_model,
)
from assent.recipes.training.prepare import score_judged
from assent.types import Completion, Conversation, Rating

PROMPT, ANSWER = Conversation.of_user("what is red ?"), Completion(text="the sun")
STILL = RewardSettings(epochs=1, batch_size=11, learning_rate=1e-12)


def classifier(name: str = "llama", labels: int = 1, **more: object) -> PreTrainedModel:
    config = CAUSAL[name]() if name != "bert" else bert_config()
    config.num_labels = labels
    for key, value in more.items():
        setattr(config, key, value)
    return seeded(lambda: transformers.AutoModelForSequenceClassification.from_config(config))


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Callable[..., Path]:
    """Saves a model with the tokenizer, and changes its weights and configuration on the disk."""

    def write(
        model: PreTrainedModel, name: str = "model", *, weights: Callable[[dict[str, Tensor]], object] | None = None,
        **changes: object,
    ) -> Path:  # fmt: skip
        out = tmp_path / name
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        if weights is not None:
            held = load_file(out / "model.safetensors")
            weights(held)
            save_file(held, out / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((out / "config.json").read_text()) | changes
        kept = {key: value for key, value in config.items() if value is not None}
        (out / "config.json").write_text(json.dumps(kept))
        return out

    return write


def renamed(old: str, *new: str) -> Callable[[dict[str, Tensor]], None]:
    def change(weights: dict[str, Tensor]) -> None:
        weight = weights.pop(old)
        weights.update({name: weight.clone() for name in new})

    return change


def score(reward: RewardModel) -> float:
    return reward.scorer.score([PROMPT], [ANSWER])[0]


NAMES = (
    ("value_head.weight",), ("v_head.summary.weight",), ("score.0.weight", "score.2.weight"), ("rank_head.weight",),
    ("regression_head.weight",), ("classifier.weight",), ("reward_head.weight",), (),
)  # fmt: skip


@pytest.mark.parametrize("names", NAMES)
def test_a_head_of_another_name_is_never_a_fresh_one(names: tuple[str, ...], folder: Callable[..., Path]) -> None:
    path = folder(classifier(), weights=renamed("score.weight", *names))
    with pytest.raises(ConfigError, match=r'trained head is not in the weights: "score.weight" is missing') as caught:
        load_reward_model(str(path), machine=CPU)
    assert all(name in str(caught.value) for name in names[:1])
    with pytest.raises(ConfigError, match="trained head"):
        new_reward_model(str(path), machine=CPU, seed=0)


def test_the_head_of_an_encoder_is_looked_for_too(folder: Callable[..., Path]) -> None:
    path = folder(classifier("bert"), weights=renamed("classifier.weight", "cls.weight"))
    with pytest.raises(ConfigError, match=r'"classifier.weight" is missing'):
        load_reward_model(str(path), machine=CPU)
    path = folder(classifier("bert"), weights=renamed("bert.pooler.dense.weight"))
    with pytest.raises(ConfigError, match="pooler"):
        load_reward_model(str(path), machine=CPU)


def test_weights_that_the_architecture_has_not_are_not_left_out_in_silence(folder: Callable[..., Path]) -> None:
    def more(weights: dict[str, Tensor]) -> None:
        weights["model.layers.0.self_attn.q_proj.bias"] = torch.ones(32)

    for path, load in (
        (folder(causal_lm("llama"), "language", weights=more), load_language_model),
        (folder(classifier(), "reward", weights=more), load_reward_model),
    ):
        with pytest.raises(ConfigError, match=r"q_proj.bias"):
            load(str(path), machine=CPU)
    with pytest.raises(ConfigError, match=r"q_proj.bias"):
        new_reward_model(str(folder(causal_lm("llama"), "trunk", weights=more)), machine=CPU, seed=0)
    bare = folder(causal_lm("llama").model, "bare", weights=lambda held: held.update({"layers.0.bias": torch.ones(3)}))
    with pytest.raises(ConfigError, match=r"layers.0.bias"):
        new_reward_model(str(bare), machine=CPU, seed=0)


def test_a_bare_trunk_and_a_language_model_take_a_fresh_head(folder: Callable[..., Path]) -> None:
    for name, model in (("bare", causal_lm("llama").model), ("language", causal_lm("llama"))):
        reward = new_reward_model(str(folder(model, name)), machine=CPU, seed=0)
        assert not reward.goes_on and reward.role.head.weight.any()


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_the_number_of_outputs_is_read_from_the_head(labels: int, folder: Callable[..., Path]) -> None:
    path = folder(classifier(labels=labels), id2label=None, label2id=None, num_labels=None)
    reward = load_reward_model(str(path), machine=CPU, positive="0")
    assert len(reward.names) == reward.role.head.out_features == labels


def test_a_head_and_a_configuration_that_differ_are_both_named(folder: Callable[..., Path]) -> None:
    path = folder(classifier(labels=1), id2label={"0": "a", "1": "b", "2": "c"}, label2id=None)
    with pytest.raises(ConfigError, match=r"1 outputs in the weights and 3 in config.json"):
        load_reward_model(str(path), machine=CPU)


OTHER_HEADS = {
    "distilbert": transformers.DistilBertConfig(vocab_size=VOCABULARY, dim=32, n_layers=1, n_heads=4, hidden_dim=48),
    "albert": transformers.AlbertConfig(
        vocab_size=VOCABULARY, hidden_size=32, embedding_size=16, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=48,
    ),
    "modernbert": transformers.ModernBertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
        pad_token_id=1, eos_token_id=0, bos_token_id=2, cls_token_id=2, sep_token_id=0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_HEADS)
def test_an_encoder_whose_head_reads_something_else_is_refused(name: str, folder: Callable[..., Path]) -> None:
    model = seeded(lambda: transformers.AutoModelForSequenceClassification.from_config(OTHER_HEADS[name]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    with pytest.raises(ConfigError, match="change this model's outputs"):
        load_classifier(str(folder(model)), device=torch.device("cpu"))


# where a reward is read


@torch.no_grad()
def in_transformers(path: Path, ids: list[int], *, padded: int | None = None) -> float:
    """One sequence alone or, with `padded`, beside a longer one, padded with that token."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path)
    rows = torch.tensor([ids if padded is None else ids + [padded] * 5])
    if padded is not None:
        rows = torch.cat([rows, torch.full_like(rows, 9)])
    mask = torch.ones_like(rows)
    mask[0, len(ids) :] = 0
    return float(model(rows, attention_mask=mask).logits[0, 0])


PADDINGS = {"own": 1, "the end token": 0, "none": None, "a word": 9}  # of the configuration; the tokenizer ends with 0


def ids_of(reward: RewardModel) -> list[int]:
    return list(reward.template.encode_completion(PROMPT, ANSWER).ids)


@pytest.mark.parametrize("pad", PADDINGS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_a_reward_model_of_transformers_says_here_what_it_says_there(
    name: str, pad: str, folder: Callable[..., Path]
) -> None:
    path = folder(classifier(name, pad_token_id=PADDINGS[pad]))
    reward = load_reward_model(str(path), machine=CPU)
    true = in_transformers(path, ids_of(reward))
    assert score(reward) == pytest.approx(true, abs=1e-5)
    longer = Completion(text="the sun is red and yellow")
    both = reward.scorer.score([PROMPT, PROMPT], [longer, ANSWER])
    assert both[1] == pytest.approx(true, abs=1e-5)
    features = torch.from_numpy(reward.scorer.features([PROMPT, PROMPT], [longer, ANSWER]))
    assert float(features[1] @ reward.role.head.weight[0].detach()) == pytest.approx(true, abs=1e-5)


@pytest.mark.parametrize("told", [None, 0, 1])  # the padding token of the tokenizer
@pytest.mark.parametrize("pad", PADDINGS)
def test_a_reward_model_of_ours_says_there_what_it_says_here_also_beside_others(
    pad: str, told: int | None, tmp_path: Path, tokenizer: PreTrainedTokenizerFast, folders: dict[str, Path]
) -> None:
    config = CAUSAL["llama"]()
    config.pad_token_id = PADDINGS[pad]
    seeded(lambda: transformers.AutoModelForCausalLM.from_config(config)).save_pretrained(tmp_path / "base")
    own = transformers.AutoTokenizer.from_pretrained(folders["llama"])
    own.pad_token = None if told is None else own.convert_ids_to_tokens(told)
    own.save_pretrained(tmp_path / "base")
    reward = new_reward_model(str(tmp_path / "base"), machine=CPU, seed=0)
    train_reward_model(reward, comparisons(), RewardSettings(epochs=1, batch_size=4, learning_rate=1e-2), seed=0)
    save_reward_model(reward, tmp_path / "out")
    padding = transformers.AutoTokenizer.from_pretrained(tmp_path / "out").pad_token_id
    assert padding == transformers.AutoConfig.from_pretrained(tmp_path / "out").pad_token_id is not None
    for padded in (None, padding):
        true = in_transformers(tmp_path / "out", ids_of(reward), padded=padded)
        assert score(reward) == pytest.approx(true, abs=1e-5)
    assert score(load_reward_model(str(tmp_path / "out"), machine=CPU)) == score(reward)


@pytest.mark.parametrize("pad", PADDINGS)
def test_a_reward_adapter_is_read_by_its_bases_padding(pad: str, folder: Callable[..., Path], tmp_path: Path) -> None:
    base = folder(causal_lm("llama"), pad_token_id=PADDINGS[pad])
    reward = new_reward_model(str(base), machine=CPU, seed=0, lora=LoraOptions(rank=2))
    save_reward_model(reward, tmp_path / "adapter")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    plain = peft.PeftModel.from_pretrained(plain, str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        assert float(plain(torch.tensor([ids_of(reward)])).logits) == pytest.approx(score(reward), abs=1e-5)
    assert score(load_reward_model(str(tmp_path / "adapter"), machine=CPU)) == pytest.approx(score(reward), abs=1e-6)


def test_a_sequence_of_padding_alone_is_read_at_its_first_token(folder: Callable[..., Path]) -> None:
    path = folder(classifier(pad_token_id=9))
    reward, ids = load_reward_model(str(path), machine=CPU), [9, 9, 9]
    with torch.no_grad():
        found = reward.role.logits(flatten([[5, 9], ids, [7]]))[:, 0].tolist()
    assert found == pytest.approx([in_transformers(path, row) for row in ([5, 9], ids, [7])], abs=1e-5)


def score_of_transformers(path: Path, ids: list[int]) -> float:
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    with torch.no_grad():
        return float(plain(torch.tensor([ids])).logits[0, 0])


def test_a_padding_token_of_minus_one_is_none(folder: Callable[..., Path]) -> None:
    path = folder(classifier(), pad_token_id=-1)
    reward = load_reward_model(str(path), machine=CPU)
    assert score(reward) == pytest.approx(score_of_transformers(path, ids_of(reward)), abs=1e-5)


@pytest.mark.parametrize("pad_id", [VOCABULARY, [2], "pad"])
def test_a_padding_token_that_cannot_be_is_one_error(pad_id: object, folder: Callable[..., Path]) -> None:
    path = folder(classifier(), pad_token_id=pad_id)
    with pytest.raises(ConfigError, match=r"config\.json.*(Padding_idx|pad_token_id).*Correct config\.json"):
        load_reward_model(str(path), machine=CPU)


# training on


def test_a_reward_models_head_goes_on(folder: Callable[..., Path]) -> None:
    for labels in (1, 2):
        path = folder(classifier(labels=labels), f"model{labels}")
        before = score(load_reward_model(str(path), machine=CPU))
        for lora in (None, LoraOptions(rank=2)):
            reward = new_reward_model(str(path), machine=CPU, seed=3, classes=labels, lora=lora)
            assert reward.goes_on and score(reward) == pytest.approx(before, abs=1e-6)
            train_reward_model(reward, comparisons(), STILL, seed=0)
            assert score(reward) == pytest.approx(before, abs=1e-4)


def test_a_reward_adapter_goes_on_with_its_head(folders: dict[str, Path], tmp_path: Path) -> None:
    for base in ("llama", "bert"):
        reward = new_reward_model(str(folders[base]), machine=CPU, seed=3, lora=LoraOptions(rank=2))
        settings = RewardSettings(epochs=1, batch_size=4, learning_rate=1e-2)
        train_reward_model(reward, comparisons(), settings, seed=0)
        save_reward_model(reward, tmp_path / base)
        again = new_reward_model(str(tmp_path / base), machine=CPU, seed=7)
        assert again.goes_on and again.role.adapter is not None
        assert score(again) == pytest.approx(score(reward), abs=1e-6)
        train_reward_model(again, comparisons(), settings, seed=0)
        assert abs(score(again) - score(reward)) > 1e-3


def test_another_number_of_classes_is_refused_with_both_numbers(folder: Callable[..., Path]) -> None:
    for labels, classes in ((2, 1), (1, 2), (3, 2)):
        path = folder(classifier(labels=labels), f"model{labels}")
        with pytest.raises(ConfigError, match=f"has {labels} outputs, and classes is {classes}"):
            new_reward_model(str(path), machine=CPU, seed=0, classes=classes)


# adapters and their heads


def reward_adapter(base: Path, out: Path, model: PreTrainedModel, **options: object) -> Path:
    """A sequence classifier's adapter as peft writes it."""
    made = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **options))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    made.peft_config["default"].base_model_name_or_path = str(base)
    made.save_pretrained(str(out))
    return out


def test_an_adapter_without_its_head_is_refused_unless_its_base_has_one(
    folders: dict[str, Path], folder: Callable[..., Path], tmp_path: Path
) -> None:
    base = folders["llama"]
    fresh = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    path = reward_adapter(base, tmp_path / "headless", fresh)
    with pytest.raises(ConfigError, match="expected a head"):
        load_reward_model(str(path), machine=CPU)
    trained = folder(classifier())
    path = reward_adapter(trained, tmp_path / "on-trained", classifier())
    reward = load_reward_model(str(path), machine=CPU)
    plain = peft.PeftModel.from_pretrained(classifier(), str(path)).eval()
    with torch.no_grad():
        assert float(plain(torch.tensor([ids_of(reward)])).logits) == pytest.approx(score(reward), abs=1e-5)


def test_an_adapter_on_a_trained_head_goes_on_with_it_whatever_task_it_names(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    path = reward_adapter(folder(classifier()), tmp_path / "untyped", classifier())
    assert json.loads((path / "adapter_config.json").read_text())["task_type"] is None
    again = new_reward_model(str(path), machine=CPU, seed=5)
    assert again.goes_on and again.role.adapter is not None
    assert score(again) == score(load_reward_model(str(path), machine=CPU))


@pytest.mark.parametrize("load", [load_reward_model, load_language_model])
def test_an_adapter_in_a_pickle_is_refused_with_the_way_out(
    load: Callable[..., object], folder: Callable[..., Path], tmp_path: Path
) -> None:
    path = reward_adapter(folder(classifier()), tmp_path / "old", classifier())
    weights = path / "adapter_model.safetensors"
    torch.save(load_file(weights), path / "adapter_model.bin")
    weights.unlink()
    with pytest.raises(ConfigError, match=r"must be in adapter_model\.safetensors.*save_pretrained"):
        load(str(path), machine=CPU)
    peft.PeftModel.from_pretrained(classifier(), str(path)).save_pretrained(str(path))
    load_reward_model(str(path), machine=CPU)


def test_a_head_in_an_adapter_is_found_whatever_task_it_names(folders: dict[str, Path], tmp_path: Path) -> None:
    fresh = transformers.AutoModelForSequenceClassification.from_pretrained(folders["llama"], num_labels=1)
    path = reward_adapter(folders["llama"], tmp_path / "made", fresh, modules_to_save=["score"])
    assert new_reward_model(str(path), machine=CPU, seed=0).goes_on
    before = load_reward_model(str(path), machine=CPU)
    assert score(new_reward_model(str(path), machine=CPU, seed=0)) == score(before)


def test_a_language_models_adapter_carries_a_fresh_head_but_not_its_own(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    lora = LoraOptions(rank=2, targets="q_proj,lm_head")
    model = load_language_model(str(folders["qwen2"]), machine=CPU, lora=lora)
    with torch.no_grad():
        for parameter in model.role.parameters().values():
            parameter.add_(0.05)
    save_language_model(model, tmp_path / "language")
    reward = new_reward_model(str(tmp_path / "language"), machine=CPU, seed=0)
    batch = flatten([[7, 9, 11]])
    with torch.no_grad():
        trunk = reward.role.body.hidden(batch, adapter=reward.role.adapter)
        assert_close(trunk, model.role.body.hidden(batch, adapter=model.role.adapter))
    assert not reward.goes_on


def test_a_fresh_pooler_is_the_same_every_time_and_no_adapter_is_put_on_it(folder: Callable[..., Path]) -> None:
    path = folder(seeded(lambda: transformers.BertForMaskedLM(bert_config())))
    first, again = (new_reward_model(str(path), machine=CPU, seed=0) for _ in range(2))
    assert score(first) == score(again)
    with pytest.raises(ConfigError, match="pooler"):
        new_reward_model(str(path), machine=CPU, seed=0, lora=LoraOptions(rank=2))


# class names


@pytest.mark.parametrize("lora", [None, LoraOptions(rank=2)])
def test_the_names_of_classes_are_saved_and_pick_the_reward(
    lora: LoraOptions | None, folders: dict[str, Path], tmp_path: Path
) -> None:
    made = new_reward_model(str(folders["llama"]), machine=CPU, seed=1, classes=2, lora=lora, names=("toxic", "fine"))
    save_reward_model(made, tmp_path / "out")
    save_reward_model(load_reward_model(str(tmp_path / "out"), machine=CPU), tmp_path / "again")
    with torch.no_grad():
        logits = made.role.logits(flatten([ids_of(made)]))[0].tolist()
    for path in (tmp_path / "out", tmp_path / "again"):
        for name, value in zip(("toxic", "fine"), logits, strict=True):
            assert score(load_reward_model(str(path), machine=CPU, positive=name)) == pytest.approx(value, abs=1e-6)
    assert load_reward_model(str(tmp_path / "out"), machine=CPU).names == ("toxic", "fine")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == {0: "toxic", 1: "fine"} and config.label2id == {"toxic": 0, "fine": 1}
    assert load_reward_model(str(tmp_path / "out"), machine=CPU, positive="LABEL_1").positive == 1
    with pytest.raises(ConfigError, match='called "nice"; there are: toxic, fine'):
        load_reward_model(str(tmp_path / "out"), machine=CPU, positive="nice")


@pytest.mark.parametrize("stated", [{"1": "good", "0": "bad"}, {"0": "bad", "1": "good"}])
def test_the_names_of_classes_go_by_their_number_not_by_their_place_in_the_file(
    stated: dict[str, str], folder: Callable[..., Path]
) -> None:
    path = folder(classifier(labels=2), id2label=stated, label2id=None)
    reward = load_reward_model(str(path), machine=CPU)
    assert reward.names == ("bad", "good") and reward.positive == 1
    assert new_reward_model(str(path), machine=CPU, seed=0, classes=2).names == ("bad", "good")
    with torch.no_grad():
        bad, _ = reward.role.logits(flatten([ids_of(reward)]))[0].tolist()
    assert score(load_reward_model(str(path), machine=CPU, positive="bad")) == pytest.approx(bad, abs=1e-6)


def test_names_of_classes_with_other_numbers_are_not_used(folder: Callable[..., Path]) -> None:
    path = folder(classifier(labels=2), id2label={"1": "bad", "2": "good"}, label2id=None)
    assert load_reward_model(str(path), machine=CPU).names == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("labels", [2, 3])
def test_a_classifier_is_judged_by_the_log_odds_of_the_class_that_is_chosen(
    labels: int, folder: Callable[..., Path]
) -> None:
    path = folder(classifier(labels=labels))
    judged = [Rating(prompt=PROMPT, completion=ANSWER, score=1.0)]
    for chosen in range(labels):
        reward = load_reward_model(str(path), machine=CPU, positive=str(chosen))
        with torch.no_grad():
            chances = reward.role.logits(flatten([ids_of(reward)]))[0].softmax(0)
        ((found,),) = score_judged(reward, judged, RewardSettings()).rewards
        assert found == pytest.approx(float((chances[chosen] / (1 - chances[chosen])).log()), abs=1e-4)
