"""Loading models from folders and hub names, and refusing what flat batches cannot reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from assent.errors import ConfigError
from assent.model.attention import FLAT, FlatLayout
from assent.model.body import Body, LanguageHead, Precision, first_line, is_causal, is_causal_lm
from assent.model.flat import flatten
from assent.model.narrow import reading

_PROBE = ((1, 2, 3, 4), (3, 1, 2), (2, 2, 3))
_PROBE_TOLERANCE = 2e-3


def pick_device(name: str) -> torch.device:
    """`auto` takes the CUDA device if there is one; a device that is not there is an error, never a silent CPU run."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError('device "cuda" was asked for and PyTorch sees none', now="Use --set machine.device=cpu.")
    if name not in ("cpu", "cuda") and not name.startswith("cuda:"):
        raise ConfigError(f'unknown device "{name}"', now='Use "auto", "cpu" or "cuda".')
    return torch.device(name)


def load_causal_lm(path: str, *, device: torch.device, precision: Precision = "fp32") -> Body:
    """A causal language model from a local folder or hub name; refuses what flat batches cannot carry."""
    body = Body(_from_pretrained(AutoModelForCausalLM, path), device=device, precision=precision)
    verify_flat(body, path)
    return body


def load_classifier(path: str, *, labels: int, device: torch.device, precision: Precision = "fp32") -> Body:
    """A sequence classifier with `labels` outputs; a fresh head is put on a model that has none (or another size)."""
    known = getattr(_config(path), "num_labels", None) if _has_classifier(path) else None
    if known is not None and known != labels:
        raise ConfigError(f"this classifier has {known} outputs, {labels} are needed", where=path)
    model = _from_pretrained(AutoModelForSequenceClassification, path, num_labels=labels)
    body = Body(model, device=device, precision=precision)
    verify_flat(body, path)
    return body


def class_names(path: str) -> dict[int, str]:
    """The classes of a sequence classifier by number; a model without a trained head is refused."""
    if not _has_classifier(path):
        raise ConfigError(
            "this is not a reward model or classifier: it has no trained head",
            where=path,
            now="Train one with `assent reward`, or name a sequence classifier.",
        )
    return {int(number): str(name) for number, name in _config(path).id2label.items()}


def load_trunk(path: str, *, device: torch.device, precision: Precision = "fp32") -> Body:
    """A model as trunk for scalar roles, with whatever head it has or none that counts."""
    labels = int(getattr(_config(path), "num_labels", 1)) if _has_classifier(path) else 1
    return load_classifier(path, labels=labels, device=device, precision=precision)


def _has_classifier(path: str) -> bool:
    architectures = getattr(_config(path), "architectures", None) or []
    return any("SequenceClassification" in name for name in architectures)


def _config(path: str) -> Any:
    _check_folder(path)
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"no model can be loaded: {first_line(error)}", where=path, now=_MODEL_ADVICE) from error


def _from_pretrained(kind: type, path: str, **options: object) -> PreTrainedModel:
    _config(path)
    try:
        model, report = kind.from_pretrained(  # type: ignore[attr-defined]
            path, dtype=torch.float32, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"no model can be loaded: {first_line(error)}", where=path, now=_MODEL_ADVICE) from error
    assert isinstance(model, PreTrainedModel)
    absent = sorted(name for name in report["missing_keys"] if not name.startswith(_FRESH))
    if absent:
        raise ConfigError(
            f'the weights do not fill this architecture: "{absent[0]}" and {len(absent) - 1} more are missing',
            where=path,
            now="Is it a model of another kind, or is a file of weights missing?",
        )
    return model


_FRESH = ("score.", "classifier.", "bert.pooler.", "roberta.pooler.")  # heads that are trained after loading


_MODEL_ADVICE = "Give a folder with config.json and model.safetensors, or a hub name that this machine can reach."


def _check_folder(path: str) -> None:
    folder = Path(path)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ConfigError("the folder holds no config.json", where=path, now=_MODEL_ADVICE)
    if not folder.exists() and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise ConfigError("there is no such model folder", where=path, now=_MODEL_ADVICE)


def verify_flat(body: Body, path: str) -> None:
    """Compare flat and native outputs on a few tokens; a model whose numbers differ is refused, not trained wrongly.

    Of a language model the logits are compared, of a classifier the last hidden states.
    """
    model, was_training = body.model, body.model.training
    model.eval()
    batch = flatten(_PROBE).to(body.device)
    with torch.no_grad():
        try:
            flat = body._run(batch.ids_N[None], batch.position_N[None], FlatLayout.of(batch.lengths))[0]
            rows_R = torch.arange(0, batch.ids_N.shape[0], 2, device=body.device)
            with reading(body._last_block, rows_R, batch.ids_N.shape[0]):
                some = body._run(batch.ids_N[None], batch.position_N[None], FlatLayout.of(batch.lengths))[0]
            narrowed = (some - flat)[rows_R].abs().max().item()
            flat = LanguageHead.of(model).logits(flat) if is_causal_lm(model) else flat
        except ConfigError as error:
            raise ConfigError(error.what, where=path, now=error.now) from error
        except (TypeError, AttributeError, KeyError) as error:
            raise ConfigError(
                f"this architecture cannot run on flat batches: {first_line(error)}", where=path
            ) from error
        model.set_attn_implementation("eager")
        native = torch.cat([_native(body, torch.tensor([row], device=body.device)) for row in _PROBE])
        model.set_attn_implementation(FLAT)
    model.train(was_training)
    worst = max(narrowed, (flat - native).abs().max().item())
    if not worst < _PROBE_TOLERANCE:
        raise ConfigError(
            f"flat batches change this model's outputs by {worst:.2g}",
            where=path,
            now="Its attention or head is of a kind that Assent does not reproduce; use another architecture.",
        )


def _native(body: Body, ids: Tensor) -> Tensor:
    """Logits or last hidden states of one sequence, the library's own way."""
    extra = {"use_cache": False} if is_causal(body.model) else {}
    if is_causal_lm(body.model):
        return body.model(ids, **extra).logits[0]  # type: ignore[no-any-return]
    return body.trunk(ids, **extra).last_hidden_state[0]  # type: ignore[no-any-return]
