"""The examples on the page of data files: each is found to be its format, and holds what it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assent.data.files import read_file
from assent.data.formats import FORMATS, detect
from assent.data.load import (
    load_comparisons,
    load_demonstrations,
    load_prompts,
    load_rankings,
    load_ratings,
    load_texts,
)
from assent.errors import DataError
from assent.types import Comparison, Conversation, Demonstration, Ranking, Rating

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^`([\w-]+)`\n\n```json\n(.*?)\n```$", PAGE, flags=re.MULTILINE | re.DOTALL))

ASKED = "Two plus two?"
PAIR = (ASKED, "Four.", "Five.", 1.0)
RATED = (ASKED, "Four.", 1.0)
SHOWN = [("user", ASKED), ("assistant", "Four.")]
ADDED = [("user", "Add the numbers.\n\n2 2"), ("assistant", "Four.")]
POST = "SUBREDDIT: r/cats\n\nTITLE: My cat\n\nPOST: I lost my cat. It came back.\n\nTL;DR:"
PASSAGE = f"Two and two are four.\n\n{ASKED}"

HOLDS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "hh": (load_comparisons, [PAIR]),
    "preference": (load_comparisons, [PAIR]),
    "preference-messages": (load_comparisons, [PAIR]),
    "good-and-bad": (load_comparisons, [PAIR, (ASKED, "Four.", "Six.", 1.0)]),
    "pairwise": (load_comparisons, [PAIR]),
    "summaries": (load_comparisons, [(POST, "Cat lost, cat back.", "A cat.", 1.0)]),
    "alpaca-eval": (load_comparisons, [PAIR]),
    "pandalm": (load_comparisons, [(ASKED, "Four.", "Five.", 2.5 / 3)]),
    "fine-grained-qa": (load_comparisons, [(PASSAGE, "Four.", "Five.", 1.0)] * 4),
    "tool-augmented": (load_comparisons, [PAIR]),
    "ranked": (load_rankings, [(ASKED, ("Five.", "Four.", "Six."), (2, 1, 2))]),
    "scored": (load_ratings, [(ASKED, "Five.", 1.5), (ASKED, "Four.", 9.0)]),
    "dsp": (load_comparisons, [PAIR]),
    "message-tree": (load_rankings, [(ASKED, ("Five.", "Four."), (2, 1))]),
    "labelled-messages": (load_ratings, [RATED]),
    "labelled-completions": (load_ratings, [RATED]),
    "rated-completions": (load_ratings, [(ASKED, "Four.", 4.0)]),
    "dialogue-ratings": (load_ratings, [(ASKED, "Four.", 5.0)]),
    "labelled-texts": (load_ratings, [("", "What a lovely day.", 1.0)]),
    "davidson": (load_ratings, [("", "What a lovely day.", 1.0)]),
    "moderation": (load_ratings, [("", "What a lovely day.", 1.0)]),
    "stepwise": (load_prompts, ["Two plus two plus two?"]),
    "messages": (load_demonstrations, [SHOWN]),
    "sharegpt": (load_demonstrations, [SHOWN]),
    "input-output-turns": (load_demonstrations, [SHOWN]),
    "alpaca": (load_demonstrations, [ADDED]),
    "self-instruct": (load_demonstrations, [ADDED]),
    "prompt-completion": (load_demonstrations, [SHOWN]),
    "prompts": (load_prompts, [ASKED]),
    "text": (load_texts, ["Two and two are four."]),
}


def content(example: Any) -> Any:
    """What an example holds, without lineage and groups."""
    match example:
        case Comparison():
            chosen, rejected = example.chosen.text, example.rejected.text
            return (example.prompt.last_user_text, chosen, rejected, pytest.approx(example.probability))
        case Ranking():
            return (example.prompt.last_user_text, tuple(one.text for one in example.completions), example.ranks)
        case Rating():
            return (example.prompt.last_user_text, example.completion.text, example.score)
        case Demonstration():
            return [(str(message.role), message.content) for message in example.conversation.messages]
        case Conversation():
            return example.last_user_text
    return example


def test_the_page_has_one_example_of_each_format() -> None:
    assert list(EXAMPLES) == list(HOLDS) and set(HOLDS) == {known.name for known in FORMATS}


@pytest.mark.parametrize("name", HOLDS)
def test_an_example_of_the_page_is_its_format_and_holds_what_it_shows(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(EXAMPLES[name] + "\n", encoding="utf-8")
    load, wanted = HOLDS[name]
    assert detect(read_file(path).rows).name == name
    dataset = load(path)
    assert dataset.format == name and [content(one) for one in dataset.examples] == wanted


def test_steps_are_refused_where_answers_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text(EXAMPLES["stepwise"] + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds step labels .*fields are: prompt, completions, labels"):
        load_comparisons(path)
