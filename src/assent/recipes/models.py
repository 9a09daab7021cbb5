"""The composition root for models: what a role is made of, for full weights and for adapters, in one place."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from pydantic import Field
from torch import nn

from assent.backends.local.sampler import LocalSampler, RewardScorer
from assent.config import Settings
from assent.errors import ConfigError
from assent.model.allocator import keep_few_products, keep_freed_memory
from assent.model.body import Body, LoraSettings, Precision
from assent.model.loading import class_names, load_causal_lm, load_classifier, load_trunk, pick_device
from assent.model.roles import LanguageRole, ScalarRole, fresh_head, head_of_weights, own_head
from assent.model.saving import save_adapter, save_full, whole_folder
from assent.model.waiting import watch_cores
from assent.recipes.model_checks import check_model
from assent.text.template import ChatTemplate

MOST_THREADS, MOST_RANKS = 1024, 65_536
POLICY, REFERENCE, CRITIC, REWARD = "policy", "reference", "critic", "reward"


class LoraOptions(Settings):
    """Low-rank adapters instead of full weights: rank 0 trains all weights."""

    rank: int = Field(default=0, ge=0, le=MOST_RANKS)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str = "all-linear"

    def settings(self) -> LoraSettings:
        """For the body."""
        targets = self.targets if "," not in self.targets else tuple(self.targets.split(","))
        return LoraSettings(rank=self.rank, alpha=self.alpha, dropout=self.dropout, targets=targets)


class MachineOptions(Settings):
    """Where to compute: device auto, cpu or cuda; fp32, or bf16 products over fp32 weights; CPU threads."""

    device: str = "auto"
    precision: Precision = "fp32"
    threads: int = Field(default=0, ge=0, le=MOST_THREADS)

    def pick(self) -> torch.device:
        """The device; also sets CPU threads, if a number was given, how they wait, and what memory is kept."""
        keep_freed_memory()
        if self.threads:
            torch.set_num_threads(self.threads)
        watch_cores()
        device = pick_device(self.device)
        if device.type == "cpu" and self.precision == "bf16":
            keep_few_products()
        return device


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LanguageModel:
    """A policy (or any language model) with its chat template; `path` is where it came from."""

    role: LanguageRole
    template: ChatTemplate
    path: str

    @property
    def sampler(self) -> LocalSampler:
        """Writes with these weights."""
        return LocalSampler(self.role, self.template)

    def __repr__(self) -> str:
        return f"LanguageModel({self.path}: {_described(self.role)})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RewardModel:
    """A reward model or classifier with its tokenizer; `positive` is the class whose logit is the reward."""

    role: ScalarRole
    template: ChatTemplate
    path: str
    positive: int = 0

    @property
    def scorer(self) -> RewardScorer:
        """Scores with these weights."""
        return RewardScorer(self.role, self.template, positive=self.positive)

    def __repr__(self) -> str:
        classes = self.role.head.out_features
        told = f", class {self.positive} of {classes} is the reward" if classes > 1 else ""
        return f"RewardModel({self.path}: {_described(self.role)}{told})"


def _described(role: LanguageRole | ScalarRole) -> str:
    """Architecture, size, what is trained, place and precision."""
    body = role.body
    size = sum(parameter.numel() for parameter in body.model.parameters())
    adapter = sum(parameter.numel() for parameter in role.parameters().values())
    trained = f", of which an adapter trains {_count(adapter)}" if role.adapter is not None else ""
    name = f"{type(body.model).__name__}, {_count(size)} parameters{trained}"
    return f"{name}, {body.device}, {body.precision}"


def _count(number: int) -> str:
    """Three digits: 1.43 M, 135 M."""
    for unit, size in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def load_language_model(path: str, *, machine: MachineOptions, lora: LoraOptions | None = None) -> LanguageModel:
    """A causal LM folder, adapter folder or hub name; with `lora`, a fresh trainable adapter on the frozen weights."""
    device = machine.pick()
    check_model(path, wanted="language")
    base = adapter_base(path)
    template = _template_of(path, base)
    with _hushed():
        body = load_causal_lm(base or path, device=device, precision=machine.precision)
    _check_vocabulary(body, template, path)
    adapter = None
    if base is not None:
        if more := body.load_adapter(POLICY, path):
            raise ConfigError(f"the adapter replaces whole modules: {', '.join(more)}", where=path, now=_MERGE)
        adapter = POLICY
    elif lora is not None and lora.rank:
        body.add_adapter(POLICY, lora.settings())
        adapter = POLICY
    return LanguageModel(role=LanguageRole(body, adapter), template=template, path=path)


def _template_of(path: str, base: str | None) -> ChatTemplate:
    """The tokenizer of a model folder; of an adapter folder that has none, its base model's."""
    bare = base is not None and not (Path(path) / "tokenizer_config.json").is_file()
    folder = base if bare and base is not None else path
    try:
        return ChatTemplate.load(folder)
    except ConfigError as error:
        raise ConfigError(error.what, where=error.where or folder, now=error.now) from error


def _check_vocabulary(body: Body, template: ChatTemplate, path: str) -> None:
    """Every id that can occur must have a row; control tokens that were only added by name never occur."""
    rows = int(body.model.get_input_embeddings().weight.shape[0])
    needed = max(int(template.tokenizer.vocab_size), 1 + max(template.end_ids), 1 + template.pad_id)
    if needed > rows:
        raise ConfigError(
            f"the tokenizer has {needed} tokens and the model only {rows}",
            where=path,
            now="Tokenizer and model do not belong together; copy the model folder again.",
        )


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the library's own report on loading and saving: what matters of it is checked here, and said."""
    before = transformers.utils.logging.get_verbosity()
    bar = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(before)
        if bar:
            transformers.utils.logging.enable_progress_bar()


_MERGE = "Merge it into its base model and give that folder."


def adapter_base(path: str) -> str | None:
    """The base model that an adapter folder names, or None for a full model."""
    file = Path(path) / "adapter_config.json"
    return str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]) if file.is_file() else None


def new_reward_model(
    path: str, *, machine: MachineOptions, seed: int, lora: LoraOptions | None = None, classes: int = 1
) -> RewardModel:
    """A reward model to be trained: the model's trunk with a fresh head.

    All weights are trained or, with `lora`, an adapter on them; where `path` is an adapter itself, that one goes on.
    """
    device = machine.pick()
    check_model(path, wanted="trunk")
    base = adapter_base(path)
    template = _template_of(path, base)
    with _hushed():
        body = load_classifier(base or path, labels=classes, device=device, precision=machine.precision)
    _check_vocabulary(body, template, path)
    head = own_head(body, where=path)
    with torch.no_grad():
        head.weight.copy_(fresh_head(head.in_features, seed=seed, name=REWARD, outputs=classes).weight)
        if head.bias is not None:
            head.bias.zero_()
    adapter = None
    if base is not None:
        body.load_adapter(REWARD, path)
        adapter = REWARD
    elif lora is not None and lora.rank:
        body.add_adapter(REWARD, lora.settings())
        adapter = REWARD
    role = ScalarRole(body, head, adapter)
    return RewardModel(role=role, template=template, path=path, positive=classes - 1)


def load_reward_model(path: str, *, machine: MachineOptions, positive: str | None = None) -> RewardModel:
    """A trained reward model or classifier; `positive` names the class (or its number) whose logit is the reward."""
    device = machine.pick()
    check_model(path, wanted="reward")
    base = adapter_base(path)
    if base is not None:
        with _hushed():
            trunk = load_trunk(base, device=device, precision=machine.precision)
        return _reward_adapter(trunk, path, positive)
    names = class_names(path)
    labels = len(names)
    chosen, template = _class_number(positive, names, labels, path), ChatTemplate.load(path)
    with _hushed():
        body = load_classifier(path, labels=labels, device=device, precision=machine.precision)
    _check_vocabulary(body, template, path)
    role = ScalarRole(body, own_head(body, where=path))
    return RewardModel(role=role, template=template, path=path, positive=chosen)


def load_reward_for(
    model: LanguageModel, path: str, *, machine: MachineOptions, positive: str | None = None
) -> RewardModel:
    """The reward model to train `model` against. Adapters of one base share it: one copy carries all roles."""
    base = adapter_base(path)
    own = adapter_base(model.path) or model.path
    if base is None or model.role.adapter is None or Path(base).resolve() != Path(own).resolve():
        return load_reward_model(path, machine=machine, positive=positive)
    check_model(path, wanted="reward")
    return _reward_adapter(model.role.body, path, positive)


def _reward_adapter(body: Body, path: str, positive: str | None) -> RewardModel:
    head = head_of_weights(body.load_adapter(REWARD, path), where=path)
    names = {number: f"LABEL_{number}" for number in range(head.out_features)}
    chosen = _class_number(positive, names, head.out_features, path)
    role = ScalarRole(body, head, REWARD)
    return RewardModel(role=role, template=_template_of(path, adapter_base(path)), path=path, positive=chosen)


def _class_number(wanted: str | None, names: dict[int, str], labels: int, path: str) -> int:
    if wanted is None:
        if labels > 2:
            raise ConfigError(
                f"this classifier has {labels} classes: {', '.join(names.values())}",
                where=path,
                now="Say which one is the reward with --set positive=NAME.",
            )
        return labels - 1
    for number, name in names.items():
        if wanted in (name, str(number)):
            return number
    raise ConfigError(f'no class is called "{wanted}"; there are: {", ".join(names.values())}', where=path)


def reference_of(model: LanguageModel) -> LanguageRole:
    """The frozen reference: the policy as it is now. An adapter's base is shared; full weights are copied."""
    body, adapter = model.role.body, model.role.adapter
    if adapter is None:
        copied = Body(copy.deepcopy(body.model), device=body.device, precision=body.precision)
        copied.model.requires_grad_(False)
        return LanguageRole(copied)
    if _is_fresh(body, adapter):
        return LanguageRole(body, None)
    body.add_adapter(REFERENCE, _lora_of(body, adapter))
    body.copy_adapter(adapter, REFERENCE)
    return LanguageRole(body, REFERENCE)


def _is_fresh(body: Body, adapter: str) -> bool:
    return all(not p.any() for name, p in body.adapter_parameters(adapter).items() if "lora_B" in name)


def _lora_of(body: Body, adapter: str) -> LoraSettings:
    assert body.peft is not None
    config = body.peft.peft_config[adapter]
    targets = config.target_modules
    kept = targets if isinstance(targets, str) else tuple(sorted(targets))
    return LoraSettings(rank=config.r, alpha=config.lora_alpha, dropout=config.lora_dropout, targets=kept)


def critic_of(model: LanguageModel, reward: RewardModel | None, *, shared_trunk: bool, seed: int) -> ScalarRole:
    """The critic: a head on the policy's trunk, or a network of its own that starts from the reward model.

    A critic of its own can start from the reward model only where both read the same tokens; otherwise, and without
    a reward model, it starts from the policy's weights with a fresh head.
    """
    body = model.role.body
    head = fresh_head(body.hidden_size, seed=seed, name=CRITIC)
    if shared_trunk:
        with torch.no_grad():
            head.weight.zero_()
        return ScalarRole(body, head, model.role.adapter)
    if reward is not None and _same_tokens(model, reward) and not reward.role.reads_first_token:
        return _critic_of_reward(model, reward)
    if model.role.adapter is not None:
        body.add_adapter(CRITIC, _lora_of(body, model.role.adapter))
        return ScalarRole(body, head, CRITIC)
    copied = Body(copy.deepcopy(body.model), device=body.device, precision=body.precision)
    return ScalarRole(copied, head)


def _critic_of_reward(model: LanguageModel, reward: RewardModel) -> ScalarRole:
    source = reward.role
    head = nn.Linear(source.head.in_features, 1, bias=source.head.bias is not None)
    with torch.no_grad():
        head.weight.copy_(source.head.weight[reward.positive : reward.positive + 1])
        if source.head.bias is not None:
            head.bias.copy_(source.head.bias[reward.positive : reward.positive + 1])
    if source.adapter is not None and source.body is model.role.body:
        source.body.add_adapter(CRITIC, _lora_of(source.body, source.adapter))
        source.body.copy_adapter(source.adapter, CRITIC)
        critic = ScalarRole(source.body, head, CRITIC)
    else:
        copied = copy.deepcopy(source.body)
        critic = ScalarRole(copied, head, source.adapter)
    critic.shift, critic.spread = source.shift, source.spread
    return critic


def _same_tokens(model: LanguageModel, reward: RewardModel) -> bool:
    return bool(model.template.tokenizer.get_vocab() == reward.template.tokenizer.get_vocab())


def save_language_model(model: LanguageModel, folder: Path) -> None:
    """A folder that plain `transformers` (or `peft`) loads; it is whole or not there."""
    role = model.role
    with _hushed(), whole_folder(folder) as place:
        if role.adapter is None:
            save_full(role.body, place)
        else:
            save_adapter(role.body, role.adapter, place, base=_base_of(model.path))
        model.template.save(place)


def _base_of(path: str) -> str:
    """The base model as an adapter names it: a folder by its whole path, so that it is found from anywhere."""
    base = adapter_base(path) or path
    return str(Path(base).resolve()) if Path(base).is_dir() else base


def save_reward_model(reward: RewardModel, folder: Path) -> None:
    """A sequence classifier that plain `transformers` (or `peft`) loads; it is whole or not there."""
    role = reward.role
    with _hushed(), whole_folder(folder) as place:
        if role.adapter is None:
            save_full(role.body, place)
        else:
            save_adapter(role.body, role.adapter, place, base=_base_of(reward.path), head=role.head)
        reward.template.save(place)
