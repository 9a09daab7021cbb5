"""What follows a sampled turn has the ids that the whole conversation has, in every family that keeps earlier turns."""

from __future__ import annotations

import pytest
from chat_templates import FAMILIES, chat_of

from assent.types import Completion, Conversation, Message, Role

QUESTION = Conversation.of_user("What is red? A colour.")


@pytest.mark.parametrize("name", sorted(name for name, family in FAMILIES.items() if not family.alone))
@pytest.mark.parametrize("said", ["A colour.", "hi", "1"])
@pytest.mark.parametrize("reply", ["k", "and more, even more words", "no\n\nHuman: no"])
def test_a_reply_goes_on_where_the_sampled_turn_ended(name: str, said: str, reply: str) -> None:
    chat, more = chat_of(name), (Message(role=Role.USER, content=reply),)
    turn = chat.encode_completion(QUESTION, Completion(text=said))
    answer = Message(role=Role.ASSISTANT, content=said)
    whole = chat.encode_prompt(Conversation(messages=(*QUESTION.messages, answer, *more)))
    assert (*turn.ids, *chat.encode_reply(QUESTION, answer, more)) == whole
