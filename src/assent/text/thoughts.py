"""A thought before an answer, as text: `<think>`, what was thought, `</think>`, the answer."""

from __future__ import annotations

OPENING, CLOSING = "<think>", "</think>"
_EMPTY = f"{OPENING}\n\n{CLOSING}\n\n"


def with_thought(thought: str, answer: str) -> str:
    """The answer behind its thought; an answer that already begins with one, or no thought, changes nothing."""
    if not thought.strip() or answer.lstrip().startswith(OPENING):
        return answer
    return f"{OPENING}\n{thought.strip()}\n{CLOSING}\n\n{answer}"


def split_thought(text: str) -> tuple[str | None, str]:
    """(thought, answer), both stripped; the thought is None where the text does not begin with a whole one."""
    thought, closed, answer = text.lstrip().partition(CLOSING)
    if not closed or not thought.startswith(OPENING):
        return None, text
    return thought.removeprefix(OPENING).strip(), answer.strip()


def open_thought(prompt: str) -> str:
    """The end of a prompt that opens a thought for the answer to go on with (`<think>\\n`), or empty text."""
    _, opening, after = prompt.rpartition(OPENING)
    return opening + after if opening and not after.strip() else ""


def going_on(opened: str, text: str) -> str:
    """An answer as it goes on from `opened`: it continues the thought, or closes an empty one first."""
    if CLOSING not in text:
        return _EMPTY.removeprefix(opened) + text if _EMPTY.startswith(opened) else f"\n{CLOSING}\n\n{text}"
    if text.startswith(opened):
        return text.removeprefix(opened)
    return text.lstrip().removeprefix(OPENING).lstrip() if text.lstrip().startswith(OPENING) else text
