"""How answers are sampled where people read them: as the model's own configuration says.

Temperature 1 samples from the model as it is. Training and evaluation do that, because it is the distribution that they
are about, but few models are pleasant to talk with that way.
"""

from __future__ import annotations

from dataclasses import replace

from assent.ports.sampling import SamplingParams
from assent.recipes.run.job_settings import AnswerSettings, SamplingSettings
from assent.recipes.run.models import LanguageModel

_CHOSEN = ("temperature", "top_p", "top_k")
_USUAL = {"temperature": 0.7, "top_p": 0.95}


def answer_defaults(model: LanguageModel) -> SamplingParams:
    """What generation_config.json states of temperature, top_p and top_k; 0.7, 0.95 and 0 where it states none."""
    config = model.role.body.model.generation_config
    stated = {name: value for name in _CHOSEN if (value := getattr(config, name, None)) is not None}
    return SamplingParams(**(stated or _USUAL))


def sampling_of(
    settings: SamplingSettings | AnswerSettings, defaults: SamplingParams = SamplingParams()
) -> SamplingParams:
    """The sampling part of the settings; `defaults` stand for what is not set."""
    chosen = {name: value for name in _CHOSEN if (value := getattr(settings, name)) is not None}
    return replace(defaults, max_tokens=settings.max_tokens, **chosen)
