"""The composition root for models: what a role is made of, for full weights and for adapters, in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import transformers

from assent.backends.local.backend import LocalBackend
from assent.backends.local.sampler import RewardScorer
from assent.errors import ConfigError
from assent.model.adapters import is_head_alone, read_adapter
from assent.model.body import Body, is_causal
from assent.model.gguf import from_gguf
from assent.model.loading import class_names, has_classifier, load_causal_lm, load_classifier, load_trunk, names_in
from assent.model.personal_heads import PersonalHeads
from assent.model.roles import LanguageRole, ScalarRole, fresh_head, head_name, head_of_weights, own_head
from assent.model.saving import name_classes, save_adapter, save_class_names, save_full, whole_folder
from assent.model.verification import verify_flat
from assent.ports.learning import Backend
from assent.ports.sampling import Sampler
from assent.recipes.run.adapters import adapter_base, base_of, on_one_base, put_adapter
from assent.recipes.run.described import described
from assent.recipes.run.machine import ClockOptions, LoraOptions, MachineOptions
from assent.recipes.run.model_checks import check_model, is_reward_model
from assent.recipes.run.vocabulary import check_vocabulary
from assent.text.template import ChatTemplate

POLICY, REWARD = "policy", "reward"
PEOPLE = "annotators"  # the folder of their heads in that of a reward model


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LanguageModel:
    """A policy (or any language model) with its chat template; `path` is where it came from."""

    role: LanguageRole
    template: ChatTemplate
    path: str
    backend: Backend = field(default_factory=LocalBackend)

    @property
    def sampler(self) -> Sampler:
        """Writes with these weights."""
        return self.backend.sampler(self.role, self.template)

    def __repr__(self) -> str:
        return f"LanguageModel({self.path}: {described(self.role)})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RewardModel:
    """A reward model or classifier with its tokenizer; `positive` is the class whose logit is the reward.

    `names` are those of its classes, `annotator` says whose head it has (empty: the population's). `goes_on`: its head
    was trained before, and is to be trained further.
    """

    role: ScalarRole
    template: ChatTemplate
    path: str
    positive: int = 0
    names: tuple[str, ...] = ("LABEL_0",)
    annotator: str = ""
    goes_on: bool = False
    backend: Backend = field(default_factory=LocalBackend)

    @property
    def scorer(self) -> RewardScorer:
        """Scores with these weights."""
        return RewardScorer(self.role, self.template, positive=self.positive)

    def __repr__(self) -> str:
        classes = self.role.head.out_features
        told = f", class {self.positive} of {classes} is the reward" if classes > 1 else ""
        return f"RewardModel({self.path}: {described(self.role)}{told})"


def load_language_model(path: str, *, machine: MachineOptions, lora: LoraOptions | None = None) -> LanguageModel:
    """A causal LM (folder, GGUF file, adapter or hub name); with `lora`, a fresh adapter on the frozen weights."""
    device, path = machine.pick(), from_gguf(path)
    check_model(path, wanted="language")
    base = adapter_base(path)
    template = template_of(path, base, machine)
    with _hushed():
        body = load_causal_lm(base or path, device=device, precision=machine.precision)
    check_vocabulary(body, template, path)
    role = LanguageRole(body, POLICY if put_adapter(body, POLICY, path, lora) else None)
    role.load_action_values(path)
    return LanguageModel(role=role, template=template, path=path)


def template_of(path: str, base: str | None, clock: ClockOptions) -> ChatTemplate:
    """The tokenizer of a model folder; of an adapter folder that has none, its base model's."""
    bare = base is not None and not (Path(path) / "tokenizer_config.json").is_file()
    folder = base if bare and base is not None else path
    try:
        return ChatTemplate.load(folder, ends_of=() if base is None else (path, base), clock=clock.moment)
    except ConfigError as error:
        raise ConfigError(error.what, where=error.where or folder, now=error.now) from error


def load_policy_on(model: LanguageModel, path: str, *, name: str, clock: ClockOptions) -> LanguageModel:
    """Another policy on the weights of `model`: the adapter of a folder, worn under `name`. ConfigError."""
    check_model(path, wanted="language")
    if not on_one_base(path, model.path):
        base = adapter_base(model.path) or model.path
        now = "Train it on that base with lora.rank, or serve it alone."
        raise ConfigError(f"this is not an adapter on {base}", where=path, now=now)
    template, body = template_of(path, adapter_base(path), clock), model.role.body
    check_vocabulary(body, template, path)
    put_adapter(body, name, path, None)
    return LanguageModel(role=LanguageRole(body, name), template=template, path=path)


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


def new_reward_model(
    path: str, *, machine: MachineOptions, seed: int, lora: LoraOptions | None = None, classes: int = 1,
    names: Sequence[str] = ("bad", "good"),
) -> RewardModel:  # fmt: skip
    """A reward model to be trained: the model's trunk with a fresh head; the head of a reward model goes on.

    All weights are trained or, with `lora`, an adapter on them; where `path` is an adapter itself, that one goes on.
    `names` are those of two classes.
    """
    device, path = machine.pick(), from_gguf(path)
    check_model(path, wanted="trunk")
    base = adapter_base(path)
    if has_classifier(base or path) or (base is not None and is_reward_model(path)):
        return _trained_on(load_reward_model(path, machine=machine, positive="0"), classes, lora)
    template = template_of(path, base, machine)
    adapted = base is not None or (lora is not None and lora.rank > 0)
    with _hushed():
        body = load_trunk(
            base or path, labels=classes, device=device, precision=machine.precision, fresh_pooler=not adapted
        )
    check_vocabulary(body, template, path)
    head = own_head(body, where=path)
    with torch.no_grad():
        head.weight.copy_(fresh_head(head.in_features, seed=seed, name=REWARD, outputs=classes).weight)
        if head.bias is not None:
            head.bias.zero_()
    if classes > 1:
        name_classes(body.model.config, names)
    if not put_adapter(body, REWARD, path, lora):
        _agree_on_padding(body, template)
    role = ScalarRole(body, head, REWARD if adapted else None)
    names = names_in(body.model.config, classes)
    return RewardModel(role=role, template=template, path=path, positive=classes - 1, names=names)


def head_alone(reward: RewardModel) -> RewardModel:
    """The same to train its head alone; saved, it is a small head on the model at `path`, unless that is an encoder."""
    reward.role.frozen = reward.role.adapter is None and is_causal(reward.role.body.model)
    return reward


def _trained_on(reward: RewardModel, classes: int, lora: LoraOptions | None) -> RewardModel:
    """A trained reward model whose head goes on."""
    outputs = reward.role.head.out_features
    if outputs != classes:
        raise ConfigError(
            f"this reward model has {outputs} outputs, and classes is {classes}", where=reward.path,
            now=f"Use --set classes={outputs} to train it on, or give a language model for a fresh head."
            if outputs <= 2 else "Give a language model or encoder for a fresh head.",
        )  # fmt: skip
    if reward.role.adapter is None and lora is not None and lora.rank:
        reward.role.body.add_adapter(REWARD, lora.settings())
        reward.role.adapter = REWARD
    elif reward.role.frozen:  # all weights train from now on, so the head becomes the classifier's own
        setattr(reward.role.body.model, head_name(reward.role.body), reward.role.head)
        name_classes(reward.role.body.model.config, reward.names)
    reward.role.frozen, reward.role.people = False, None  # what is known of people belongs to the head as it was
    return replace(reward, positive=classes - 1, goes_on=True)


def _agree_on_padding(body: Body, template: ChatTemplate) -> None:
    """Let tokenizer and configuration name one padding token, so that `transformers` reads what is read here."""
    tokenizer, config = template.tokenizer, body.model.config.get_text_config()
    if tokenizer.pad_token_id is None:
        named = tokenizer.added_tokens_decoder.get(config.pad_token_id)
        tokenizer.pad_token = str(named) if named is not None and named.special else tokenizer.eos_token
    config.pad_token_id = tokenizer.pad_token_id


def load_reward_model(path: str, *, machine: MachineOptions, positive: str | None = None) -> RewardModel:
    """A trained reward model or classifier; `positive` names the class (or its number) whose logit is the reward."""
    device = machine.pick()
    check_model(path, wanted="reward")
    base = adapter_base(path)
    with _hushed():
        if base is None or has_classifier(base):
            body = load_classifier(base or path, device=device, precision=machine.precision)
        else:
            body = load_trunk(base, labels=1, device=device, precision=machine.precision, fresh_pooler=False)
    return _trained_reward(body, path, positive, machine)


def load_reward_for(
    model: LanguageModel, path: str, *, machine: MachineOptions, positive: str | None = None
) -> RewardModel:
    """The reward model to train `model` against. Adapters of one base share it: one copy carries all roles."""
    if model.role.adapter is None or not on_one_base(path, model.path):
        return load_reward_model(path, machine=machine, positive=positive)
    check_model(path, wanted="reward")
    return _trained_reward(model.role.body, path, positive, machine)


def _trained_reward(body: Body, path: str, positive: str | None, clock: ClockOptions) -> RewardModel:
    """The reward model of a folder on its own body, or as an adapter on the body of its base."""
    base = adapter_base(path)
    template = template_of(path, base, clock)
    check_vocabulary(body, template, path)
    adapter = None if base is None or is_head_alone(path) else REWARD
    if base is None:
        head = own_head(body, where=path)
    elif adapter is None:
        head = head_of_weights(read_adapter(path)[1], where=path)
    else:
        beside = body.load_adapter(REWARD, path)
        kept = not beside and has_classifier(base)  # the base's own trained head
        head = own_head(body, where=path) if kept else head_of_weights(beside, where=path)
        verify_flat(body, path, REWARD)
    count = head.out_features
    names = class_names(path if base is None or (Path(path) / "config.json").is_file() else base, count)
    role, chosen = ScalarRole(body, head, adapter), _class_number(positive, names, path)
    role.frozen = base is not None and adapter is None
    role.people = PersonalHeads.load(Path(path) / PEOPLE) if (Path(path) / PEOPLE).is_dir() else None
    return RewardModel(role=role, template=template, path=path, positive=chosen, names=names)


def _class_number(wanted: str | None, names: Sequence[str], path: str) -> int:
    if wanted is None:
        if len(names) > 2:
            now = "Say which one is the reward with --set positive=NAME."
            raise ConfigError(f"this classifier has {len(names)} classes: {', '.join(names)}", where=path, now=now)
        return len(names) - 1
    for number, name in enumerate(names):
        if wanted in (name, str(number), f"LABEL_{number}"):  # the last is what transformers calls any class
            return number
    raise ConfigError(f'no class is called "{wanted}"; there are: {", ".join(names)}', where=path)


def save_language_model(model: LanguageModel, folder: Path) -> None:
    """A folder that plain `transformers` (or `peft`) loads; it is whole or not there."""
    role = model.role
    with _hushed(), whole_folder(folder) as place:
        if role.adapter is None:
            save_full(role.body, place)
        else:
            save_adapter(role.body, role.adapter, place, base=base_of(model.path))
        if role.action_values is not None:
            role.action_values.save(place)
        model.template.save(place)


def save_reward_model(reward: RewardModel, folder: Path) -> None:
    """A sequence classifier that plain `transformers` (or `peft`) loads; it is whole or not there."""
    role = reward.role
    with _hushed(), whole_folder(folder) as place:
        if role.adapter is None and not role.frozen:
            save_full(role.body, place)
        else:
            save_adapter(role.body, role.adapter, place, base=base_of(reward.path), head=role.head)
            save_class_names(role.body, reward.names, place)
        if role.people is not None:
            role.people.save(place / PEOPLE)
        reward.template.save(place)
