"""OpenAssistant's conversations: trees of messages with ranked replies, whole or with one message per row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from assent.data.columns import has_value
from assent.data.examples import Example, Format, Kind, prompt_key
from assent.data.rows import Fields, SourceRow, answer_value, number_value, present, role_value, text_value, wrong
from assent.errors import DataError
from assent.types import Completion, Conversation, Message, Ranking, Role

_FLAT = ("message_id", "parent_id", "role", "text", "message_tree_id")
_DEEPEST = 100


def assemble_trees(rows: Sequence[SourceRow]) -> tuple[SourceRow, ...]:
    """Join rows of one message each into one row per tree, at the place of its root; other rows stay unchanged.

    A message that belongs to no tree stays a row, with the reason as its problem.
    """
    first = next((row for row in rows if row.problem is None), None)
    if first is None or not all(name in first.fields for name in _FLAT):
        return tuple(rows)
    nodes: dict[str, dict[str, Any]] = {}
    roots: list[SourceRow] = []
    strange: dict[int, SourceRow] = {}  # by the place in `rows`
    for place, row in enumerate(rows):
        name = row.fields.get("message_id")
        if row.problem is not None or not isinstance(name, str) or name in nodes:
            reason = "is not text" if not isinstance(name, str) else "occurs twice"
            strange[place] = row if row.problem else replace(row, problem=f'field "message_id": the name {reason}')
            continue
        nodes[name] = {**row.fields, "replies": []}
        if not has_value(row.fields.get("parent_id")):
            roots.append(replace(row, fields={"prompt": nodes[name]}))
    for node in nodes.values():
        parent = node.get("parent_id")
        if isinstance(parent, str) and parent in nodes:
            nodes[parent]["replies"].append(node)
    reached = {node["message_id"] for row in roots for node in _all_below(row.fields["prompt"])}
    for place, row in enumerate(rows):
        if place not in strange and row.fields["message_id"] not in reached:
            strange[place] = replace(row, problem='field "parent_id": the message belongs to no tree of this file')
    return tuple(sorted((*roots, *strange.values()), key=lambda row: row.number))


def _all_below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node["replies"]


def read_tree(fields: Fields) -> list[Example]:
    """A ranking of the assistant's ranked replies to every prompt of the tree, 0 is best."""
    found: list[Example] = list(_rankings(_node(present(fields, "prompt"), "prompt"), (), "prompt"))
    if not found:
        raise DataError("no two replies to one prompt have ranks")
    return found


def read_root(fields: Fields) -> list[Example]:
    """The prompt at the root of the tree."""
    return [Conversation(messages=(_message(_node(present(fields, "prompt"), "prompt"), "prompt"),))]


def _rankings(node: Fields, before: tuple[Message, ...], name: str) -> Iterator[Ranking]:
    if len(before) > _DEEPEST:
        raise DataError(f"the tree is deeper than {_DEEPEST} messages")
    talk = (*before, _message(node, name))
    replies = node.get("replies") or []
    if not isinstance(replies, list):
        raise wrong(f"{name}.replies", "a list of messages", replies)
    named = [
        (_node(reply, f"{name}.replies[{place}]"), f"{name}.replies[{place}]") for place, reply in enumerate(replies)
    ]
    kept = [(reply, path) for reply, path in named if not reply.get("deleted")]
    ranked = [(reply, path) for reply, path in kept if reply.get("rank") is not None]
    if len(ranked) > 1 and talk[-1].role is not Role.ASSISTANT and all(_role(*one) is Role.ASSISTANT for one in ranked):
        texts = [answer_value(present(reply, "text"), f"{path}.text") for reply, path in ranked]
        ranks = [number_value(reply["rank"], f"{path}.rank") for reply, path in ranked]
        order = sorted(set(ranks))
        prompt, completions = Conversation(messages=talk), tuple(Completion(text=text) for text in texts)
        places = tuple(order.index(rank) + 1 for rank in ranks)
        yield Ranking(prompt=prompt, completions=completions, ranks=places, group=prompt_key(prompt))
    for reply, path in kept:
        yield from _rankings(reply, talk, path)


def _node(value: Any, name: str) -> Fields:
    if not isinstance(value, Mapping):
        raise wrong(name, "an object with text, role and replies", value)
    return value


def _role(node: Fields, name: str) -> Role:
    return role_value(present(node, "role"), f"{name}.role")


def _message(node: Fields, name: str) -> Message:
    return Message(role=_role(node, name), content=text_value(present(node, "text"), f"{name}.text"))


TREE_FORMAT = Format(
    name="message-tree",
    kind=Kind.RANKINGS,
    matches=lambda row: isinstance(row.get("prompt"), Mapping) and "replies" in row["prompt"],
    read=read_tree,
    read_prompts=read_root,
)
