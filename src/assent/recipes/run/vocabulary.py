"""Whether every token that can occur has a row in the model."""

from __future__ import annotations

from assent.errors import AssentError, ConfigError
from assent.model.body import Body, is_causal_lm
from assent.text.template import ChatTemplate
from assent.types import Conversation, Message, Role

_ROLES = ((Role.USER,), (Role.SYSTEM, Role.USER), (Role.USER, Role.ASSISTANT, Role.USER),
          (Role.USER, Role.ASSISTANT, Role.TOOL))  # fmt: skip


def check_vocabulary(body: Body, template: ChatTemplate, path: str) -> None:
    """Refuse a tokenizer some of whose tokens have no row in the embeddings or in the language head."""
    model = body.model
    tables = [model.get_input_embeddings(), *([model.get_output_embeddings()] if is_causal_lm(model) else [])]
    rows = min(int(table.weight.shape[0]) for table in tables)
    without = sorted(id_ for id_ in _ids_that_occur(template) if id_ >= rows)
    if without:
        named = ", ".join(f'"{template.tokenizer.convert_ids_to_tokens(id_)}"' for id_ in without[:3])
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        what = f"the tokenizer has {without[-1] + 1} tokens and the model only {rows}: no rows for {named}{more}"
        now = "Give the model rows for them (resize_token_embeddings) and train those, or its own tokenizer."
        raise ConfigError(what, where=path, now=now)


def _ids_that_occur(template: ChatTemplate) -> set[int]:
    """All tokens but the control tokens that are only known by name.

    Libraries add such to a tokenizer by themselves. Spelled out in a text they are ordinary text, so they occur only
    where the chat template writes them.
    """
    tokenizer = template.tokenizer
    control = {id_: str(token) for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    written = str(tokenizer.chat_template)
    found = {id_ for id_ in tokenizer.get_vocab().values() if id_ not in control or control[id_] in written}
    found |= {template.eos_id, template.end_id, template.pad_id}
    for roles in _ROLES:
        asked = Conversation(messages=tuple(Message(role=role, content="x") for role in roles))
        try:
            found.update(template.encode_prompt(asked))
        except AssentError:  # not every template knows every role
            continue
    return found
