"""What a model was made from: hashes of data and parents, settings, seed, versions, machine; and its model card."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from assent.config import fingerprint
from assent.durable import sha256_file, write_atomic
from assent.errors import ConfigError

_PACKAGES = ("assent", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")
_VECTORS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
_WEIGHTS = ("*.safetensors", "*.bin", "config.json", "adapter_config.json")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_TASKS = {  # how a folder's config.json names its class, the class that loads it, the hub's name for the task
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForCausalLM": ("AutoModelForCausalLM", "text-generation"),
}
_ADAPTER_TASKS = {"SEQ_CLS": "ForSequenceClassification", "CAUSAL_LM": "ForCausalLM"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """One input file or folder. `role` is what it was used for: train, eval, prompts."""

    role: str
    name: str
    sha256: str
    rows: int | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """One model a run started from. `role` is policy, reference, reward; `name` a folder's name or a hub name."""

    role: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """All that decides the bits of a result. `device` is cpu or cuda, `precision` fp32 or bf16.

    `machine` names the processor, `commit` the state of Assent's own code (empty where nothing tells it).
    """

    kind: str
    settings: Mapping[str, Any]
    seed: int
    data: tuple[DataSource, ...] = ()
    parents: tuple[Parent, ...] = ()
    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    machine: str = field(default_factory=lambda: machine())
    commit: str = field(default_factory=lambda: commit())

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the fingerprint of the settings."""
        return {**asdict(self), "settings_sha256": fingerprint(self.settings)}


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide results, read without importing them."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """System, processor and the vector instructions that PyTorch chooses its kernels by.

    Two processors of one family round differently, so the same seed may give other numbers on another one.
    """
    info = Path("/proc/cpuinfo").read_text(errors="replace") if Path("/proc/cpuinfo").is_file() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.MULTILINE)
    vectors = " ".join(one for one in _VECTORS if flags and one in flags[1].split())
    processor = (named[1].strip() if named else platform.processor()) or "unknown processor"
    return f"{platform.system()} {platform.machine()}, {processor}" + (f" ({vectors})" if vectors else "")


def commit() -> str:
    """The commit of the checkout this package runs from ("-dirty" if files differ), or that it was installed from."""
    root = Path(__file__).parents[3]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):  # no git here, or a repository that it does not trust
            return ""
    try:
        origin = json.loads(metadata.distribution("assent").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        return ""
    return str(origin.get("vcs_info", {}).get("commit_id", ""))


def parent(model: str | Path, *, role: str) -> Parent:
    """Describe the model a run starts from by its weights and configuration; a hub name is all that is known of it."""
    where = Path(model)
    if where.exists():
        return Parent(role=role, name=folder_name(where), sha256=_hashed(where))
    return Parent(role=role, name=str(model), sha256="")


def named(one: Parent | DataSource, detail: str = "") -> str:
    """Its name, the detail, and the first digits of its sha256: equal text means equal files."""
    name = f"{one.name}: {detail}" if detail else one.name
    return f"{name} ({one.sha256[:8]})" if one.sha256 else name


def folder_name(folder: Path) -> str:
    """What a model folder is called: of a run's `model`, the run."""
    whole = folder.resolve()
    return whole.parent.name if whole.name == "model" and whole.parent.name else whole.name


def sha256_folder(folder: Path, patterns: tuple[str, ...] = ("*",)) -> str:
    """One sha256 over the names and contents of the files below `folder` that match a pattern, in order of name."""
    files = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def write_model_card(
    folder: Path, lineage: Lineage, *, what: str, tags: Sequence[str], metrics: Mapping[str, float]
) -> None:
    """Write `README.md` beside the weights in `folder`: what the model is, from what it was made, how to load it.

    How it loads is read from the folder's own `config.json` or `adapter_config.json`.
    """
    adapter = _read(folder / "adapter_config.json")
    loader, pipeline = _TASKS[_task(_read(folder / "config.json"), adapter)]
    sections = [
        _front_matter(lineage, tags=("assent", *tags), pipeline=pipeline, adapter=bool(adapter)),
        f"# {folder_name(folder)}\n",
        f"{what} Trained with Assent.\n",
        _made_from(lineage),
        _measured(metrics),
        _how_to_load(loader, folder_name(folder), lineage, adapter=bool(adapter)),
        _LIMITS,
    ]
    write_atomic(folder / "README.md", "\n".join(section for section in sections if section))


_LIMITS = """## Limits

The model is what its data and its judges made of it; where they were wrong, so is it. It may state false things with
confidence, and a model trained against a reward may have found ways to please the reward rather than people. Judge it
on your own prompts before others rely on it.
"""


def _front_matter(lineage: Lineage, *, tags: Sequence[str], pipeline: str, adapter: bool) -> str:
    lines = ["---", f"library_name: {'peft' if adapter else 'transformers'}", f"pipeline_tag: {pipeline}"]
    base = [made.name for made in lineage.parents if made.role == "policy" and _HUB_NAME.fullmatch(made.name)]
    if base:  # a local folder's name would point to somebody else's model on a hub
        lines += [f"base_model: {json.dumps(base[0])}"]
        lines += [f"base_model_relation: {'adapter' if adapter else 'finetune'}"]
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in tags)]
    return "\n".join([*lines, "---\n"])


def _made_from(lineage: Lineage) -> str:
    rows = ["| | name | rows | format | sha256 |", "|---|---|---|---|---|"]
    for source in lineage.data:
        count = "" if source.rows is None else str(source.rows)
        rows += [f"| data: {source.role} | {_cell(source.name)} | {count} | {source.format or ''} | {source.sha256} |"]
    for made in lineage.parents:
        rows += [f"| parent: {made.role} | {_cell(made.name)} | | | {made.sha256} |"]
    code = f" Assent's code: {lineage.commit}." if lineage.commit else ""
    used = ", ".join(f"{name} {version}" for name, version in lineage.versions.items())
    return "\n".join(
        [
            "## Made from\n",
            *(rows if len(rows) > 2 else ["Nothing but the settings below."]),
            f"\nSeed {lineage.seed}; {lineage.device}, {lineage.precision}, {lineage.threads} threads;",
            f"{lineage.machine}.{code}",
            f"Versions: {used}.\n\nSettings (sha256 {fingerprint(lineage.settings)}):\n",
            f"```json\n{json.dumps(dict(lineage.settings), indent=2, ensure_ascii=False)}\n```\n",
        ]
    )


def _measured(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return ""
    rows = [f"| {_cell(name)} | {value:.4g} |" for name, value in metrics.items()]
    return "\n".join(["## Measured\n", "| metric | value |", "|---|---|", *rows, ""])


def _how_to_load(loader: str, name: str, lineage: Lineage, *, adapter: bool) -> str:
    quoted = json.dumps(name)
    lines = [
        f"from transformers import {loader}, AutoTokenizer",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({quoted})",
    ]
    if adapter:
        base = next((made.name for made in lineage.parents if made.role == "policy"), "the-base-model")
        lines = ["from peft import PeftModel", *lines]
        lines += [f"base = {loader}.from_pretrained({json.dumps(base)})"]
        lines += [f"model = PeftModel.from_pretrained(base, {quoted})"]
    else:
        lines += [f"model = {loader}.from_pretrained({quoted})"]
    return "\n".join(["## How to load\n", "```python", *lines, "```\n"])


def _task(config: Mapping[str, Any], adapter: Mapping[str, Any]) -> str:
    if adapter:
        return _ADAPTER_TASKS.get(str(adapter.get("task_type")), "ForCausalLM")
    names = config.get("architectures") or [""]
    return next((task for task in _TASKS if str(names[0]).endswith(task)), "ForCausalLM")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _hashed(path: Path) -> str:
    try:
        return sha256_folder(path, _WEIGHTS) if path.is_dir() else sha256_file(path)
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=str(path), now="Check its permissions.") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ConfigError("not valid JSON", where=str(path), now="The model folder is damaged.") from None
    return document if isinstance(document, dict) else {}
