"""The page on quality names only functions and tests that exist, and each section names its code and its proof."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:src|tests)/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_the_page_names_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_every_mention_of_a_python_file_is_checked() -> None:
    mentions = re.findall(r"(?:src|tests)/[\w/]+\.py[^`]*", PAGE)
    assert len(mentions) > 60 and all(re.fullmatch(r"[\w/]+\.py::\w+", mention) for mention in mentions)


def test_every_section_names_its_code_and_its_proof() -> None:
    sections = re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE)[1:]
    without = [text.splitlines()[0] for text in sections if "`src/" not in text or "`tests/" not in text]
    headings = ["Reliability of annotators", "Habits of single annotators"]
    assert without == [*headings, "What weighting wins back"]


def test_no_measured_figure_is_left_open() -> None:
    assert not re.search(r"\b(COVERAGE|WINNINGS|SEEDS)\b", PAGE)
