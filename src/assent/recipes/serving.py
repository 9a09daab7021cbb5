"""`assent serve`: a local model, and adapters on it under names of their own, at an OpenAI-compatible address."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from assent.backends.local.engine import LocalEngine
from assent.errors import ConfigError
from assent.recipes.run.answer_sampling import answer_defaults
from assent.recipes.run.inputs import model_folder
from assent.recipes.run.machine import MachineOptions
from assent.recipes.run.models import LanguageModel, load_language_model, load_policy_on
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.serving.endpoint import ServedModel, ServingLimits, create_endpoint
from assent.serving.openai_responses import encodable
from assent.serving.server import hosts_of, run_endpoint

HOST, PORT = "127.0.0.1", 8000
_HIGHEST_PORT = 65535


class ServeJob(ServingLimits):
    """`assent serve`."""

    machine: MachineOptions = MachineOptions()


def run_serve(request: Request, display: Display) -> None:
    """Serve the model and its adapters until SIGTERM or SIGINT."""
    settings = request.settings(ServeJob)
    path, host, port = request.text("model") or "", request.text("host") or HOST, _port(request.text("port"))
    key = _key(request.text("api_key_env"))
    name = _sendable(request.text("name") or name_of(path), "--name")
    folders = _named_adapters(request.own.get("adapters", ()), name)
    clock = settings.machine.with_real_clock()
    model = load_language_model(model_folder(path), machine=clock)
    models = {name: model} | {
        own: load_policy_on(model, model_folder(folder), name=f"adapter {number}", clock=clock)
        for number, (own, folder) in enumerate(folders.items(), start=1)
    }
    served = {
        own: ServedModel(
            engine=LocalEngine(one.role, one.template), sampling=answer_defaults(one), fingerprint=fingerprint_of(one)
        )
        for own, one in models.items()
    }
    app = create_endpoint(served, limits=settings, api_key=key, hosts=hosts_of(host))
    if hosts_of(host) is None and key is None:
        display.say("Anyone who reaches this machine can use the model; --api-key-env NAME asks for a key.")
    told = ", ".join(f'"{own}"' for own in served)
    run_endpoint(app, host=host, port=port, on_ready=lambda url: display.say(f"serving {told} at {url}"))
    display.say("stopped")


def _named_adapters(given: Sequence[str], taken: str) -> dict[str, str]:
    """The folder of each adapter by the name that requests give it, from NAME=FOLDER."""
    folders: dict[str, str] = {}
    for one in given:
        name, _, folder = one.partition("=")
        if not name or not folder:
            raise ConfigError("expected NAME=FOLDER", where=f"--adapter {one}")
        if name == taken or name in folders:
            raise ConfigError("this name is taken", where=f"--adapter {one}", now="Give every adapter its own name.")
        folders[_sendable(name, "--adapter")] = folder
    return folders


def _sendable(name: str, flag: str) -> str:
    if encodable(name) != name:
        raise ConfigError("the name is not valid UTF-8", where=ascii(name), now=f"Give another with {flag}.")
    return name


def name_of(path: str) -> str:
    """What a model is called by default: its file's or folder's name (of a run's `model`, the run's), or the hub's."""
    folder = Path(path)
    if not folder.is_dir():
        return folder.stem if folder.is_file() else path
    folder = folder.resolve()
    return folder.parent.name if folder.name == "model" and folder.parent.name else folder.name


def fingerprint_of(model: LanguageModel) -> str:
    """Changes when the weights may have: of the files of a local folder, names, sizes and times."""
    lines = [model.path]
    for file in sorted(Path(model.path).glob("*")) if Path(model.path).is_dir() else []:
        known = file.stat()
        lines.append(f"{file.name} {known.st_size} {known.st_mtime_ns}")
    return "fp_" + hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        now = "Set it to the key that clients must send, or leave --api-key-env out."
        raise ConfigError("the environment variable is not set", where=f"--api-key-env {variable}", now=now)
    if not (key.isascii() and key.isprintable()):
        now = "No header can carry other characters; choose another key."
        raise ConfigError("the key must be printable ASCII", where=f"--api-key-env {variable}", now=now)
    return key


def _port(text: str | None) -> int:
    if text is None:
        return PORT
    if not (text.isdecimal() and int(text) <= _HIGHEST_PORT):
        raise ConfigError(f"expected a port from 0 to {_HIGHEST_PORT}, got {text}", where="--port")
    return int(text)
