"""The page of algorithms names only functions and tests that exist, and leaves out no loss."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:src|tests)/[\w/]+\.py)::(\w+)`", PAGE)))


def definitions(path: Path) -> set[str]:
    """Names of the functions and classes at the top level of a file."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, kinds)}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_the_page_names_exists(path: str, name: str) -> None:
    assert name in definitions(ROOT / path)


def test_every_mention_of_a_python_file_is_checked() -> None:
    mentions = re.findall(r"(?:src|tests)/[\w/]+\.py[^`]*", PAGE)
    assert mentions and all(re.fullmatch(r"[\w/]+\.py::\w+", mention) for mention in mentions)


def test_every_section_names_its_code() -> None:
    sections = re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE)[1:]
    without = [section.splitlines()[0] for section in sections if "`src/" not in section]
    assert without == ["Reward models", "PPO", "On-policy methods without a critic"]  # headings over sections


def test_every_public_function_of_the_losses_is_on_the_page() -> None:
    functions = {
        (f"src/assent/losses/{path.name}", node.name)
        for path in (ROOT / "src" / "assent" / "losses").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert functions and functions <= set(NAMED)


def test_every_test_of_the_losses_named_on_the_page_stands_beside_its_code() -> None:
    proofs = [name for path, name in NAMED if path.startswith("tests/")]
    assert len(proofs) > 40 and all(name.startswith("test_") for name in proofs)
