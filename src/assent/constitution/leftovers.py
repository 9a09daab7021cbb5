"""What a revision says about itself, found and taken away: "Here is a revised answer:" must not be learned."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NEW = r"(?:revised|rewritten|updated|improved|edited|corrected|amended|modified|new|better|alternative)"
_ANSWER = r"(?:answer|response|reply|version|revision|rewrite|text)"
_POLITE = (
    r"(?:(?:sure|certainly|of course|okay|ok|absolutely|thank you|thanks|i apologi[sz]e)\b[^.!:\n]{0,80}[.!,:]\s*)?"
)
_OPENING = re.compile(
    rf"^\s*{_POLITE}(?:\**\s*(?:"
    rf"(?:here(?:'s|’s| is| are)|below is|this is|the following is)\b[^.:\n]{{0,80}}?\b{_ANSWER}\b[^.:\n]{{0,120}}[:.]"
    rf"|(?:my |the )?{_NEW}\s+{_ANSWER}\s*:"
    rf"|(?:revision|rewrite|rewritten|revised)\s*:"
    rf")\**\s*)",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"\n\s*(?:\(?(?:note|explanation)\s*:\s*)?(?:this|the|my|in this|i hope this|i have|i've)\s[^\n]{{0,40}}\b"
    rf"(?:{_NEW}\s+{_ANSWER}|revision|rewrite|rewritten|revised|removed|rephrased)\b[^\n]*\s*$",
    re.IGNORECASE,
)
_TELLTALE = re.compile(
    rf"\b(?:(?:revised|rewritten|amended)\s+{_ANSWER}|(?:original|previous|preceding|first)\s+(?:answer|response|reply)"
    r"|the critique|critique request|revision request)\b",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"^\W*(?:nothing|none|no (?:criticism|critique|issues?|problems?|changes?|objections?|concerns?))\b"
    r"(?:\s+(?:to criticise|to criticize|to add|to change|found|needed|at all|here|wrong|is wrong))*\W*$",
    re.IGNORECASE,
)
_QUOTES = (('"', '"'), ("“", "”"), ("```", "```"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """A revision without what it says about itself; `stripped` is what was taken away.

    `text` is empty where nothing is left, or where it still speaks about revisions: then it cannot be used.
    """

    text: str
    stripped: str = ""


def clean(text: str) -> Cleaned:
    """Take away the sentence that announces the revision, remarks after it, and quotation marks around all of it."""
    whole = text.strip()
    kept = _OPENING.sub("", whole, count=1)
    kept = _CLOSING.sub("", kept, count=1).strip()
    if kept != whole:
        for start, end in _QUOTES:
            if len(kept) > len(start + end) and kept.startswith(start) and kept.endswith(end):
                kept = kept[len(start) : -len(end)].strip()
    stripped = "" if kept == whole else whole.replace(kept, " ... ", 1).strip() if kept else whole
    return Cleaned(text="" if _TELLTALE.search(kept) else kept, stripped=stripped)


def finds_nothing(critique: str) -> bool:
    """Whether a critique says, and says only, that there is nothing to criticise. An empty one says nothing at all."""
    return bool(_NOTHING.match(critique.strip()))
