"""The ways in which the store says no; each is a StoreError, the kind tells a caller what to do about it."""

from __future__ import annotations

from assent.errors import StoreError


class NotFound(StoreError):
    """There is no such thing, or it is not for this person."""


class Taken(StoreError):
    """Somebody else has it, or it has been done already: a name, a slot of an item, an invitation."""


class Invalid(StoreError):
    """What was sent cannot be kept; `where` is the path of the field."""


class Unavailable(StoreError):
    """The store cannot write or read now (full disk, database gone). Nothing acknowledged is lost; send again."""

    exit_code = 1


def text_of(value: object, where: str, *, least: int = 0, most: int = 200_000) -> str:
    """`value` as text that every database can hold: no NUL, no lone surrogate, `least` to `most` characters."""
    if not isinstance(value, str):
        raise Invalid("expected text", where=where, now="Send text.")
    if not least <= len(value) <= most:
        size = f"between {least} and {most}" if least else f"at most {most}"
        raise Invalid(f"expected {size} characters, got {len(value)}", where=where, now="Change its length.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid("the text is not valid Unicode", where=where, now="Remove the broken characters.") from None
    if "\0" in value:
        raise Invalid("the text holds a NUL character", where=where, now="Remove it.")
    return value
