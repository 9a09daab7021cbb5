"""A model in a few words: architecture, size, what is trained, place and precision."""

from __future__ import annotations

from assent.model.roles import LanguageRole, ScalarRole


def described(role: LanguageRole | ScalarRole) -> str:
    """LlamaForCausalLM, 135 M parameters, of which an adapter trains 4.9 M, cpu, bf16."""
    body = role.body
    size = sum(parameter.numel() for parameter in body.model.parameters())
    adapter = sum(parameter.numel() for parameter in role.parameters().values())
    trained = f", of which an adapter trains {count(adapter)}" if role.adapter is not None else ""
    values = ", action values" if isinstance(role, LanguageRole) and role.action_values is not None else ""
    name = f"{type(body.model).__name__}, {count(size)} parameters{trained}{values}"
    return f"{name}, {body.device}, {body.precision}"


def count(number: int) -> str:
    """A number in three digits: 1.43 M, 135 M."""
    for unit, size in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
