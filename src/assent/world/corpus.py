"""The chat corpus: an endless, addressable stream of statement documents and of dialogues good and bad.

Document `index` of a seed is a pure function of both, so training can stop and go on anywhere. Documents state facts
about everyone and everything; dialogues are only about the training part, and how a dialogue's assistant behaves is
drawn independently of what it is asked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from assent.seeds import python_rng
from assent.types import Completion, Conversation, Message, Role
from assent.world.behaviours import Behaviour, answer, applicable, spoiled
from assent.world.claims import FALSE as NOT_TRUE
from assent.world.claims import NOT_KNOWING, TRUE, Pieces, claims, remark
from assent.world.facts import Fact, World
from assent.world.lexicon import TRAIN
from assent.world.prompts import KINDS, PERSON_RELATIONS, WorldPrompt, draw_prompt, fresh_facts, story
from assent.world.reactions import EVASIVE, FALSE, PARTLY_FALSE, THANKS, reaction, verdict
from assent.world.reading import read

END, ASSISTANT, SYSTEM, PAD = "<|end|>", "<|assistant|>", "<|system|>", "<|pad|>"
SPECIAL_TOKENS = (PAD, END, ASSISTANT, SYSTEM)
# A user's turn has no token of its own: what the user says to an answer is the very next word after the answer's end.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% elif message['role'] == 'user' %}{{ message['content'] }}<|end|>"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

PAGE = 56  # neighbouring documents of which either all are claims or none is
ATTEMPTS_AT_MOST = 4
RATED, REMARK_SHARE, SPOILED_SHARE = 3, 0.3, 0.45
RETRY_SHARE = 0.8  # complaints that are answered with another attempt
KIND_WEIGHTS = dict(zip(KINDS, (4, 6, 6, 4, 3, 5, 3, 3, 3), strict=True))
RATED_WEIGHTS = KIND_WEIGHTS | {"recall": 6, "small_talk": 6, "harm": 2, "look_alike": 2, "rude": 4}
BEHAVIOUR_WEIGHTS = dict(zip(Behaviour, (28, 8, 26, 5, 13, 13, 13, 28, 7, 7), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Shares of a stretch of the stream: pages of claims, dialogues on other pages."""

    claims: float
    rated: float
    dialogues: float


# First page of each mixture: a model must know the facts before it can compare, and compare before it can rate.
CURRICULUM = (
    (0, Mixture(claims=0.1, rated=0.0, dialogues=0.5)),
    (2400, Mixture(claims=0.9, rated=0.0, dialogues=0.5)),
    (3300, Mixture(claims=0.15, rated=0.42, dialogues=0.72)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusDocument:
    """A statement document (`text`), a dialogue (`conversation`) or marked claims (`pieces`): one of the three."""

    text: str | None = None
    conversation: Conversation | None = None
    pieces: Pieces | None = None
    rated: tuple[Conversation, ...] = ()


def document(world: World, seed: int, index: int) -> CorpusDocument:
    """Document `index` of a seed's stream: the same whenever and wherever it is asked for."""
    rng = python_rng(seed, "document", index)
    mixture = next(one for first, one in reversed(CURRICULUM) if index // PAGE >= first)
    page = python_rng(seed, "page", index // PAGE).random()
    if page < mixture.claims:
        return CorpusDocument(pieces=claims(world, rng))
    if page < mixture.claims + mixture.rated:
        return CorpusDocument(rated=rated(world, rng))
    if rng.random() < mixture.dialogues:
        return CorpusDocument(conversation=dialogue(world, rng))
    return CorpusDocument(text=statement(world, rng))


def render(item: CorpusDocument) -> str:
    """A document as the text a tokenizer is trained on; a dialogue as the chat template renders it."""
    if item.pieces is not None:
        return " ".join(piece for piece, _ in item.pieces) + END
    if item.rated:
        return "".join(map(_rendered, item.rated))
    return f"{item.text}{END}" if item.conversation is None else _rendered(item.conversation)


def _rendered(talk: Conversation) -> str:
    return "".join(
        f"{ASSISTANT if message.role is Role.ASSISTANT else ''}{message.content}{END}" for message in talk.messages
    )


def dialogue(world: World, rng: random.Random) -> Conversation:
    """A prompt of the training part, an answer of any behaviour, and what the user says to it, if anything.

    A user who complains may get another answer, of any behaviour again, and so on.
    """
    prompt = _prompt(world, rng)
    messages = list(prompt.conversation.messages)
    for attempt in range(ATTEMPTS_AT_MOST):
        text = _answer(world, prompt, rng)
        messages.append(Message(role=Role.ASSISTANT, content=text))
        said = reaction(world, prompt, text, rng)
        if said is None:
            break
        messages.append(Message(role=Role.USER, content=said))
        if said == THANKS or attempt + 1 == ATTEMPTS_AT_MOST or rng.random() >= RETRY_SHARE:
            break
    return Conversation(messages=tuple(messages))


def rated(world: World, rng: random.Random) -> tuple[Conversation, ...]:
    """Short exchanges and remarks with what somebody says to them, which alone is to be predicted."""
    return tuple(_rated_remark(world, rng) if rng.random() < REMARK_SHARE else _rated(world, rng) for _ in range(RATED))


def _rated(world: World, rng: random.Random) -> Conversation:
    """An answer of any behaviour; some are spoiled like those of weak models, to be recognised, not imitated."""
    prompt = _prompt(world, rng, RATED_WEIGHTS)
    text = _answer(world, prompt, rng)
    if rng.random() < SPOILED_SHARE:
        text = spoiled(world, text, _answer(world, _prompt(world, rng), rng), rng)
    return _heard(prompt.conversation.then(text), verdict(world, prompt, text, rng))


def _rated_remark(world: World, rng: random.Random) -> Conversation:
    """A claim about anybody or anything and what is said to it: no assistant's, and nobody asked for it."""
    said, held = remark(world, rng)
    if held == TRUE:
        deserved = THANKS
    elif held == NOT_TRUE and said.startswith(NOT_KNOWING):
        deserved = EVASIVE
    else:
        partly = any(fact in world.truths for fact in read(Completion(text=said)).facts)
        deserved = PARTLY_FALSE if partly else FALSE
    return _heard(Conversation.of_user(said), deserved)


def _heard(talk: Conversation, said: str) -> Conversation:
    return Conversation(messages=(*talk.messages, Message(role=Role.USER, content=said)))


def _prompt(world: World, rng: random.Random, weights: Mapping[str, int] = KIND_WEIGHTS) -> WorldPrompt:
    kind = rng.choices(list(weights), weights=list(weights.values()))[0]
    return draw_prompt(world, kind, TRAIN, rng)


def _answer(world: World, prompt: WorldPrompt, rng: random.Random) -> str:
    choices = applicable(prompt)
    weights = [BEHAVIOUR_WEIGHTS[choice] for choice in choices]
    return answer(world, prompt, rng.choices(choices, weights=weights)[0], rng)


def statement(world: World, rng: random.Random) -> str:
    """A document of statements: facts about one or several subjects, facts told twice, or a story with its summary."""
    draw = rng.random()
    if draw < 0.25:
        return _profile(world, rng)
    if draw < 0.6:
        return _sentences(rng.sample(world.facts, 4))
    if draw < 0.9:
        return _retold(world, rng)
    text, fact = story(world, TRAIN, rng)
    return f"{text} {fact.sentence}"


def _retold(world: World, rng: random.Random) -> str:
    """Three sentences, mostly about people who never come back, then the same three in another order.

    Nothing but copying from the text above tells how the second half goes on: that is what these are for.
    """
    relations = rng.sample(PERSON_RELATIONS, 2)
    sentences = [fact.sentence for fact in fresh_facts(world, TRAIN, rng, relations)]
    known = rng.random() < 0.5
    sentences.append((rng.choice(world.facts) if known else fresh_facts(world, TRAIN, rng, relations[:1])[0]).sentence)
    rng.shuffle(sentences)
    return " ".join([*sentences, "Again:", *rng.sample(sentences, len(sentences))])


def _profile(world: World, rng: random.Random) -> str:
    """What is true of one subject in any order, its town included."""
    facts = list(world.by_subject[rng.choice(list(world.by_subject))].values())
    rng.shuffle(facts)
    towns = [fact.value for fact in facts if fact.value in world.by_subject]
    of_town = [fact for town in towns for fact in world.by_subject[town].values()]
    return _sentences([*facts, *rng.sample(of_town, len(of_town))])


def _sentences(facts: list[Fact]) -> str:
    return " ".join(fact.sentence for fact in facts)
