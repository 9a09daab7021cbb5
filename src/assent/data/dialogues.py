"""Rows of whole conversations: as demonstrations, as prompts, and as logged dialogues with rewards."""

from __future__ import annotations

from collections.abc import Mapping

from assent.data.examples import Example
from assent.data.prompts import with_system
from assent.data.rows import (
    Fields,
    demonstration_conversation,
    list_of,
    messages_value,
    number_value,
    present,
    prompt_conversation,
)
from assent.errors import DataError
from assent.types import Demonstration, Message, RewardedDialogue, Role

MESSAGES = ("messages", "conversations", "conversation")
REWARD, REWARDS = "reward", "rewards"


def messages_of(fields: Fields) -> tuple[tuple[Message, ...], str]:
    """The messages of a row, a system prompt beside them included, and their field's name."""
    name = next((name for name in MESSAGES if name in fields), MESSAGES[0])
    return with_system(messages_value(present(fields, name), name), fields), name


def read_messages(fields: Fields) -> list[Example]:
    """A list of messages under `messages`, `conversations` or `conversation`; the assistant has the last word."""
    messages, name = messages_of(fields)
    return [Demonstration(conversation=demonstration_conversation(messages, name))]


def read_messages_as_prompt(fields: Fields) -> list[Example]:
    """The messages before the assistant's last word, or all of them if the assistant is next."""
    messages, name = messages_of(fields)
    asked = messages[:-1] if messages[-1].role is Role.ASSISTANT else messages
    return [prompt_conversation(asked, name)]


def read_rewarded_messages(fields: Fields) -> list[Example]:
    """Messages up to the assistant's last word, with rewards in one of three places.

    They are `reward` in the assistant's messages (0 where there is none), or in the row `rewards`, one for each message
    of the assistant that is learned, or `reward`, for the last of them.
    """
    messages, name = messages_of(fields)
    spoken = [place for place, message in enumerate(messages) if message.role is Role.ASSISTANT]
    talk = demonstration_conversation(messages[: spoken[-1] + 1] if spoken else messages, name)
    learned = [place for place in spoken if messages[place].learned]
    inside = _rewards_inside(fields, name, messages)
    places = [place for place in (REWARDS, REWARD) if fields.get(place) is not None] + [name] * bool(inside)
    if len(places) != 1:
        found = f'rewards stand in "{places[0]}" and in "{places[1]}"' if places else "there is no reward"
        raise DataError(f'field "{name}": {found}; expected {REWARD} in messages, or {REWARDS} or {REWARD} in the row')
    if fields.get(REWARDS) is not None:
        given = [number_value(one, f"{REWARDS}[{number}]") for number, one in enumerate(list_of(fields, REWARDS))]
        if len(given) != len(learned):
            wanted = f"expected {len(learned)} numbers, one for each message of the assistant that is learned"
            raise DataError(f'field "{REWARDS}": {wanted}, got {len(given)}')
        inside = dict(zip(learned, given, strict=True))
    elif fields.get(REWARD) is not None:
        inside = {learned[-1]: number_value(fields[REWARD], REWARD)}
    return [RewardedDialogue(conversation=talk, rewards=tuple(inside.get(place, 0.0) for place in learned))]


def _rewards_inside(fields: Fields, name: str, messages: tuple[Message, ...]) -> dict[int, float]:
    """The rewards in messages, by the message's place."""
    raw = fields[name] if not isinstance(fields[name], Mapping) else [fields[name]]
    before = len(messages) - len(raw)  # a system prompt of the row
    found: dict[int, float] = {}
    for number, one in enumerate(raw):
        if one.get(REWARD) is None:
            continue
        message, field = messages[before + number], f"{name}[{number}].{REWARD}"
        if message.role is not Role.ASSISTANT or not message.learned:
            what = "is not learned" if message.role is Role.ASSISTANT else f"is by {message.role.value}"
            raise DataError(f'field "{field}": a reward belongs to what the assistant says, and this message {what}')
        found[before + number] = number_value(one[REWARD], field)
    return found
