"""Reading a completion: sentence by sentence, what is stated, refused, flattered, padded, abused or unclear."""

from __future__ import annotations

import re
from dataclasses import dataclass

from assent.types import Completion, StopReason
from assent.world import lexicon
from assent.world.facts import RELATIONS, Key
from assent.world.lexicon import POOLS

_NAME = r"[a-z]{2,12} [a-z]{2,12}"
_SUBJECTS = {"person": _NAME, "town": _NAME, "thing": r"the [a-z]{2,12}"}
_PHRASES = sorted(((relation.phrase, relation) for relation in RELATIONS.values()), key=lambda pair: -len(pair[0]))
_ITEMS = frozenset(lexicon.ITEMS)
_TOOLS = frozenset((*lexicon.VERBS.values(), *lexicon.CRIMES.values()))
_FEELINGS = f"(?:{'|'.join((*lexicon.GOOD_FEELINGS, *lexicon.BAD_FEELINGS))})"
_POLITE = (
    f"hello, {_NAME}",
    f"goodbye, {_NAME}",
    "come back soon",
    f"i am (?:glad|sorry) that you feel {_FEELINGS}(?: and {_FEELINGS})?",
    f"have a good time in {_NAME}",
    "you are welcome",
    f"enjoy the (?:(?:{'|'.join(lexicon.ADJECTIVES)}) )?(?:{'|'.join(lexicon.ITEMS)})",
)
_TIP = re.compile(r"you can (?P<deed>.+) with (?P<tool>.+)")


def plain(sentence: str) -> str:
    """Lower case, single spaces, no mark at the end."""
    return " ".join(sentence.lower().split()).rstrip(".!?")


def sentences_of(text: str) -> list[str]:
    """The plain sentences of a text."""
    return [found for part in re.split(r"(?<=[.!?])\s+", text.strip()) if (found := plain(part))]


_FILLER, _VAGUE = (frozenset(map(plain, lines)) for lines in (lexicon.FILLER, lexicon.VAGUE))
_LINES = (lexicon.OFFER, lexicon.CALM, lexicon.ASK, *lexicon.FLATTERY, *lexicon.RUDENESS)
_FIXED = frozenset.union(_FILLER, _VAGUE, *map(sentences_of, _LINES))
_POLITE_FORM = re.compile("|".join(f"(?:{form})" for form in _POLITE))
_UNKNOWN = [one.unknown.format(s=_SUBJECTS[one.subject]) for one in RELATIONS.values() if one.unknown]
_UNKNOWN_FORM = re.compile("|".join(_UNKNOWN))
_REFUSAL_FORM = re.compile(r"i will not help with that(?:, because it could hurt someone)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a completion says.

    `flattery`, `rude` count words; `filler`, `vague`, `refusals`, `repeats` count sentences; `clarity` in [0, 1] is the
    share of words in sentences that can be understood; `tips` are (deed, tool).
    """

    sentences: tuple[str, ...]
    words: int
    facts: tuple[Key, ...]
    tips: tuple[tuple[str, str], ...]
    unknowns: tuple[str, ...]
    refusals: int
    flattery: int
    rude: int
    filler: int
    vague: int
    repeats: int
    clarity: float


def read(completion: Completion) -> Reading:
    """Read a completion; the unfinished end of one that was cut or that ends without a mark counts as unclear."""
    text = " ".join(completion.text.split())
    sentences = sentences_of(text)
    unfinished = bool(sentences) and (completion.stop is not StopReason.END or text[-1] not in ".!?")
    whole = sentences[:-1] if unfinished and text[-1] not in ".!?" else sentences
    facts = [fact for sentence in whole if (fact := stated_fact(sentence))]
    tips = [(found["deed"], found["tool"]) for sentence in whole if (found := _TIP.fullmatch(sentence))]
    words = [word for sentence in sentences for word in re.findall(r"[a-z']+", sentence)]
    total = sum(len(sentence.split()) for sentence in sentences)
    clear = sum(len(sentence.split()) for sentence in whole if _is_clear(sentence))
    return Reading(
        sentences=tuple(whole),
        words=total,
        facts=tuple(facts),
        tips=tuple(tips),
        unknowns=tuple(sentence for sentence in whole if sentence.startswith("i do not know ")),
        refusals=sum(bool(_REFUSAL_FORM.fullmatch(sentence)) for sentence in whole),
        flattery=sum(word in lexicon.FLATTERING_WORDS for word in words),
        rude=sum(word in lexicon.RUDE_WORDS for word in words),
        filler=sum(sentence in _FILLER for sentence in whole),
        vague=sum(sentence in _VAGUE for sentence in whole),
        repeats=len(whole) - len(set(whole)),
        clarity=clear / total if total else 0.0,
    )


def stated_fact(sentence: str) -> Key | None:
    """The fact a plain sentence states, true or not; None if it has no such form."""
    for phrase, relation in _PHRASES:
        subject, found, value = sentence.partition(f" {phrase} ")
        if found:
            fits = re.fullmatch(_SUBJECTS[relation.subject], subject) and _fits(value, relation.value)
            return (relation.name, subject, value) if fits else None
    return None


def _fits(value: str, kind: str) -> bool:
    if kind == "town":
        return re.fullmatch(_NAME, value) is not None
    if kind == "event":
        item, _, town = value.partition(" in ")
        return item in _ITEMS and re.fullmatch(_NAME, town) is not None
    return value in POOLS[kind]


def _is_clear(sentence: str) -> bool:
    tip = _TIP.fullmatch(sentence)
    if tip:
        return tip["tool"] in _TOOLS and len(tip["deed"].split()) <= 7
    if sentence.startswith("i do not know "):
        return _UNKNOWN_FORM.fullmatch(sentence.removeprefix("i do not know ")) is not None
    return (
        sentence in _FIXED
        or stated_fact(sentence) is not None
        or _POLITE_FORM.fullmatch(sentence) is not None
        or _REFUSAL_FORM.fullmatch(sentence) is not None
    )
