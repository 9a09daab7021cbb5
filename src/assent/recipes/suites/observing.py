"""What is seen of a suite's items: log-likelihoods by a learner, answers by the decoder, preferences by a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from assent.backends.local.engine import LocalEngine
from assent.constitution.chat_model import ChatModel, EngineModel, Written, ask
from assent.constitution.comparison import PrincipleJudge
from assent.constitution.scoring import DirectScorer
from assent.errors import RunError
from assent.evals.suites.suite import Answering, Asked, Item, Observed, Row
from assent.ports.generation import GenerationRequest
from assent.ports.learning import LearnerSettings, Need, Roles
from assent.ports.sampling import SamplingParams, Scorer
from assent.recipes.run.models import LanguageModel, RewardModel
from assent.recipes.run.progress import Display
from assent.text.continuations import encode_continuations
from assent.text.template import Encoded
from assent.types import Completion, Conversation

_SHOTS, _SHOT_SEED = 5, 1234  # as lm-eval draws them


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """The options of an item as token sequences: what they share is read once."""

    sequences: tuple[Encoded, ...]


def cut(asked: Asked, max_tokens: int | None) -> Asked:
    """The suite with shorter answers than its harness has; its data says so."""
    answering = asked.suite.answering
    if answering is None or max_tokens is None or max_tokens >= answering.max_tokens:
        return asked
    suite = replace(asked.suite, answering=replace(answering, max_tokens=max_tokens))
    return replace(asked, suite=suite, data=f"{asked.data}, answers cut at {max_tokens} tokens")


def fitting(asked: Asked, model: LanguageModel, display: Display) -> Asked:
    """The suite without the items that do not fit in the model, which are counted."""
    holds = model.role.body.max_length
    if holds is None or asked.suite.asks == "preference":
        return asked
    room = holds - (asked.suite.answering.max_tokens if asked.suite.answering else 0)
    kept = tuple(item for item in asked.items if _length(item, model) <= room)
    left_out = len(asked.items) - len(kept)
    if left_out:
        display.say(f"{asked.suite.name}: left out, as too long for the model: {left_out} items")
    if not kept:
        raise RunError(f"no item fits in the model, which holds {holds} tokens", where=f"--suite {asked.suite.name}")
    return replace(asked, items=kept, left_out=asked.left_out + left_out)


def _length(item: Item, model: LanguageModel) -> int:
    if item.options:
        return max(len(one) for one in _encoded(item, model).sequences)
    if isinstance(item.prompt, str):
        return len(model.template.continuation_ids(item.prompt))
    return len(model.template.encode_prompt(item.prompt))


def _encoded(item: Item, model: LanguageModel) -> _Options:
    pairs = [(one.prompt, one.text) for one in item.options if isinstance(one.prompt, str)]
    return _Options(sequences=tuple(encode_continuations(model.template, pairs)))


def log_likelihoods(
    items: Sequence[Item], model: LanguageModel, display: Display, *, name: str, micro_batch_tokens: int
) -> list[Observed]:
    """The summed log-likelihood of every option behind its prompt."""
    examples = [_encoded(item, model) for item in items]
    settings = LearnerSettings(micro_batch_tokens=micro_batch_tokens)
    learner = model.backend.learner(Roles(policy=model.role), settings)
    with display.stage(name, len(examples), unit="items") as stage:
        outputs = learner.score(examples, Need(), progress=stage.counter)
    found = []
    for example, output in zip(examples, outputs, strict=True):
        ends = np.cumsum([sequence.predicted for sequence in example.sequences])[:-1]
        parts = np.split(output["logp"].double().numpy(), ends)
        found.append(Observed(scores=tuple(float(part.sum()) for part in parts)))
    return found


def answers(
    items: Sequence[Item], answering: Answering, model: LanguageModel, display: Display, *, name: str
) -> list[Observed]:
    """What the model writes, greedily."""
    sampling = SamplingParams(max_tokens=answering.max_tokens, temperature=0.0, stop=answering.stop)
    requests = [GenerationRequest(prompt=item.prompt, sampling=sampling) for item in items]
    with display.stage(name, len(requests), unit="texts") as stage:
        written = ask(EngineModel(LocalEngine(model.role, model.template)), requests, progress=stage.counter)
    if failed := next((one.problem for one in written if one.problem), None):
        raise RunError(f"an answer could not be written: {failed}", where=name)
    return [Observed(answer=one.text) for one in written]


def with_shots(items: Sequence[Item], shots: Sequence[Row], shot: Callable[[Row], str]) -> tuple[Item, ...]:
    """Raw prompts behind five worked examples each, drawn with the generator and the seed of lm-eval."""
    rng = Random(_SHOT_SEED)
    return tuple(
        replace(item, prompt="".join(map(shot, rng.sample(list(shots), _SHOTS))) + str(item.prompt)) for item in items
    )


def graded(asked: Asked, seen: Sequence[Observed], judge: ChatModel, display: Display, *, name: str) -> list[Observed]:
    """The answers with a judge's verdicts. Equal questions to the judge are asked once; empty answers are not asked."""
    assert asked.suite.answering is not None and asked.suite.answering.grader is not None
    grader = asked.suite.answering.grader
    sampling = SamplingParams(max_tokens=grader.max_tokens, temperature=0.0)
    questions = {
        grader.question(item.shown, one.answer): None
        for item, one in zip(asked.items, seen, strict=True) if one.answer.strip()
    }  # fmt: skip
    requests = [GenerationRequest(prompt=question, sampling=sampling) for question in questions]
    with display.stage(name, len(requests), unit="verdicts") as stage:
        replies = dict(zip(questions, ask(judge, requests, progress=stage.counter), strict=True))
    return [
        replace(one, verdict=_verdict(replies[grader.question(item.shown, one.answer)], grader.verdict)
                if one.answer.strip() else grader.empty)
        for item, one in zip(asked.items, seen, strict=True)
    ]  # fmt: skip


def _verdict(reply: Written, read: Callable[[str], str | None]) -> str | None:
    return None if reply.problem else read(reply.text)


def classified(asked: Asked, seen: Sequence[Observed], classifier: RewardModel) -> list[Observed]:
    """The answers with P(class): softmax over the classes, sigmoid where there is one."""
    prompts = [item.prompt for item in asked.items if isinstance(item.prompt, Conversation)]
    completions = [Completion(text=one.answer) for one in seen]
    classes = range(classifier.role.head.out_features)
    scorers = [replace(classifier, positive=place).scorer for place in classes]
    logits_NC = np.array([one.score(prompts, completions) for one in scorers]).T
    if len(classes) == 1:
        logits_NC = np.concatenate([np.zeros_like(logits_NC), logits_NC], axis=1)
    likelihood_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    chosen = classifier.positive if len(classes) > 1 else 1
    shares_N = likelihood_NC[:, chosen] / likelihood_NC.sum(axis=1)
    return [replace(one, score=float(share)) for one, share in zip(seen, shares_N, strict=True)]


def rewarded(items: Sequence[Item], scorer: Scorer) -> list[Observed]:
    """The reward of every option."""
    options = [option for item in items for option in item.options]
    prompts = [option.prompt for option in options if isinstance(option.prompt, Conversation)]
    rewards = iter(scorer.score(prompts, [Completion(text=option.text) for option in options]))
    return [Observed(scores=tuple(next(rewards) for _ in item.options)) for item in items]


def preferred(items: Sequence[Item], judge: PrincipleJudge, scorer: DirectScorer, display: Display) -> list[Observed]:
    """Pairs by a judge in both orders, as P(first) and P(second); more than two answers by its scores from 1 to 10."""
    if any(len(item.options) != 2 for item in items):
        return rewarded(items, scorer)
    prompts = [item.options[0].prompt for item in items]
    both = ([Completion(text=item.options[place].text) for item in items] for place in (0, 1))
    with display.stage("judge", 2 * len(items), unit="calls") as stage:
        judged = judge.judge([one for one in prompts if isinstance(one, Conversation)], *both, progress=stage.counter)
    found = []
    for one in judged:
        if one.probability is None:
            found.append(Observed())
            continue
        both_orders = [
            (verdict.forward, verdict.backward)
            for verdict in one.verdicts
            if verdict.forward is not None and verdict.backward is not None
        ]
        flipped = any((forward > 0.5) != (backward > 0.5) for forward, backward in both_orders)
        scores = (one.probability, 1 - one.probability)
        found.append(Observed(scores=scores, verdict="flipped" if flipped else "steady"))
    return found
