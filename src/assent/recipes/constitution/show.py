"""`assent constitution show`: the principles of a constitution."""

from __future__ import annotations

from pathlib import Path

from assent.constitution.constitution_file import default_path, load_constitution
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request


def constitution_path(request: Request) -> Path:
    """What --constitution names, or the package's own."""
    given = request.text("constitution")
    return Path(given) if given else default_path()


def run_constitution_show(request: Request, display: Display) -> None:
    """Print every principle with its tags, weight and questions; the file to copy comes first."""
    path = constitution_path(request)
    found = load_constitution(path)
    print(f"{found.name}: {len(found.principles)} principles, {len(found.examples)} shared examples ({path})")
    for one in found.principles:
        weight = f", weight {one.weight:g}" if one.weight != 1 else ""
        print(f"\n{one.id} [{', '.join(one.tags) or 'no tags'}{weight}]\n  {one.text}")
        told = {
            "critique": one.critique,
            "revision": one.revision,
            "comparison": one.comparison or "none: cannot judge",
        }
        for name, text in told.items():
            if text != one.text:
                print(f"  {name + ':':<12}{text}")
        if one.examples:
            print(f"  {len(one.examples)} examples")
