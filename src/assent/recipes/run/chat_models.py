"""A chat model by what a user names: a folder or hub name, which runs in this process, or an address."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from assent.backends.local.engine import LocalEngine
from assent.constitution.chat_model import ChatModel, EngineModel
from assent.constitution.endpoint import Endpoint, EndpointOptions
from assent.errors import ConfigError
from assent.recipes.run.inputs import model_folder
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import load_language_model
from assent.runs.lineage import Parent, parent


@contextmanager
def chat_model(given: str, options: EndpointOptions, machine: MachineOptions) -> Iterator[tuple[ChatModel, Parent]]:
    """The model and what it is for the lineage; connections are closed at the end."""
    if not given.startswith(("http://", "https://")):
        loaded = load_language_model(model_folder(given), machine=machine)
        yield EngineModel(LocalEngine(loaded.role, loaded.template)), parent(loaded.path, role="model")
        return
    endpoint = Endpoint(given, options, key=_key(options.key_env))
    try:
        where = hashlib.sha256(f"{endpoint.model} at {given}".encode()).hexdigest()
        yield endpoint, Parent(role="model", name=endpoint.model, sha256=where)
    finally:
        endpoint.close()


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        now = "Set it to the key of the server."
        raise ConfigError("the environment variable is not set", where=f"endpoint.key_env {variable}", now=now)
    return key
