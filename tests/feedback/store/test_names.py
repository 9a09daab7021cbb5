"""Names of accounts: spellings that are one name, and names that look alike."""

from __future__ import annotations

import itertools

import pytest

from assent.feedback.store.names import folded, skeletons

ALIKE = (
    ("ann", "\u0430nn"),  # a Cyrillic a
    ("paypal", "p\u0430yp\u0430l"),
    ("Ian", "lan"),
    ("Ian", "1an"),
    ("ian", "\u0456an"),
    ("Ian", "\u0456an"),
    ("bob", "b0b"),
    ("Bob", "\u0412\u041e\u0412"),  # all Cyrillic
    ("Tom", "\u0422\u043e\u043c"),
    ("modern", "rnodern"),
    ("Will", "VVill"),
    ("will", "\u0461ill"),
    ("Marie", "\u039carie"),  # a Greek capital
    ("olga", "\u0585lga"),  # an Armenian o
    ("full", "\uff46\uff55\uff4c\uff4c"),
    ("bold", "\U0001d41b\U0001d428\U0001d425\U0001d41d"),
    ("two words", "two\u2003 words"),
    ("ann", "a\u200bnn"),
    ("JOS\u00c9", "jose\u0301"),
)
UNLIKE = (
    "ann",
    "anna",
    "Neil",
    "Nell",
    "Jose",
    "Jos\u00e9",
    "Zoe",
    "Zo\u00eb",
    "\u0418\u0432\u0430\u043d",
    "\u674e",
    "\u738b",
    "Bob 2",
    "Bob 3",
)


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_share_a_form(one: str, other: str) -> None:
    assert skeletons(one) & skeletons(other)


@pytest.mark.parametrize(("one", "other"), itertools.combinations(UNLIKE, 2))
def test_names_that_people_tell_apart_share_none(one: str, other: str) -> None:
    assert not skeletons(one) & skeletons(other)


@pytest.mark.parametrize("spelling", ["outsider", "OUTSIDER", " Outsider ", "\uff4futsider", "out\u017fider"])
def test_spellings_of_one_name_have_one_form(spelling: str) -> None:
    assert folded(spelling) == "outsider" and folded(folded(spelling)) == folded(spelling)


@pytest.mark.parametrize("strange", ["\ud800", "a\0b", "\u0345\u0399", ""])
def test_any_text_has_a_form_that_a_database_can_hold(strange: str) -> None:
    folded(strange).encode()
    assert "\0" not in folded(strange)
