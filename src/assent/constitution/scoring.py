"""A judge as reward, without a reward model: the expected score from 1 to 10, from the probabilities of the numbers.

    score = sum_{k = 1..10} k P(k) / sum_{k = 1..10} P(k)        Lee et al. (2023), direct RLAIF

Where "10" is two tokens, its probability is P("1") P("0" after "1"), which is known if the model chose "1"; otherwise
"1" counts as 1.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

from assent.constitution.chat_model import ChatModel, Written, ask
from assent.constitution.comparison import LIKELIEST, MARKS
from assent.constitution.principles import Constitution, Principle
from assent.errors import RunError
from assent.feedback.records import conversation_to_json
from assent.ports.generation import GenerationRequest
from assent.ports.sampling import SamplingParams
from assent.seeds import python_rng
from assent.types import Completion, Conversation

_LEAST_MASS = 0.1
_TOKENS = 3


class DirectScorer:
    """A `Scorer` that asks a model how well a completion keeps a principle; the mean over `principles` drawn ones.

    Which are drawn depends on the prompt, the completion and the seed alone. 0 asks by every principle.
    """

    def __init__(self, model: ChatModel, constitution: Constitution, *, principles: int = 0, seed: int = 0) -> None:
        self._model, self._constitution = model, constitution
        self._count, self._seed = principles or len(constitution.principles), seed

    def score(self, prompts: Sequence[Conversation], completions: Sequence[Completion]) -> list[float]:
        """Scores from 1 to 10. Raises RunError for a completion of which the model names no number."""
        sampling = SamplingParams(max_tokens=_TOKENS, temperature=0.0, top_logprobs=LIKELIEST)
        asked = [
            GenerationRequest(prompt=Conversation.of_user(_question(prompt, completion, principle)), sampling=sampling)
            for prompt, completion in zip(prompts, completions, strict=True)
            for principle in self._drawn(prompt, completion)
        ]
        written = ask(self._model, asked)
        scores = [expected_score(one) for one in written]
        found, count = [], min(self._count, len(self._constitution.principles))
        for place, completion in enumerate(completions):
            own = [score for score in scores[place * count : (place + 1) * count] if score is not None]
            if not own:
                why = written[place * count].problem or "the judge names no number from 1 to 10"
                now = "Direct scores need a model that gives log-probabilities and follows instructions."
                raise RunError(why, where=repr(completion.text[:80]), now=now)
            found.append(math.fsum(own) / len(own))
        return found

    def _drawn(self, prompt: Conversation, completion: Completion) -> list[Principle]:
        told = json.dumps([conversation_to_json(prompt), completion.text])
        key = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        return self._constitution.draw(self._count, python_rng(self._seed, "score", key))


def expected_score(written: Written) -> float | None:
    """The expectation over 1 to 10 at the first place where numbers have a tenth of the probability."""
    for place, likeliest in enumerate(written.likeliest):
        mass = dict.fromkeys(range(1, 11), 0.0)
        for token, logp in likeliest.items():
            told = token.strip(MARKS)
            if told.isdecimal() and int(told) in mass:
                mass[int(told)] += math.exp(logp)
        if (total := math.fsum(mass.values())) >= _LEAST_MASS:
            chosen = max(likeliest, key=lambda token: likeliest[token]).strip(MARKS)
            if chosen == "1" and not mass[10] and place + 1 < len(written.likeliest):
                after = written.likeliest[place + 1]
                mass[10] = mass[1] * math.fsum(math.exp(logp) for token, logp in after.items() if token == "0")
                mass[1] -= mass[10]
            return math.fsum(number * p for number, p in mass.items()) / total
    return None


def _question(prompt: Conversation, completion: Completion, principle: Principle) -> str:
    talk = "\n".join(f"{str(one.role).capitalize()}: {one.content}" for one in prompt.messages)
    return (
        f"Consider this conversation:\n\n{talk}\nAssistant: {completion.text}\n\nHow well does the assistant's last "
        f"answer keep this principle?\n{principle.text}\nAnswer with one number from 1 (not at all) to 10 (fully)."
    )
