"""Constitutions: the package's own, files that people write, and files that were published."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from running import assent, worked

from assent.constitution.constitution_file import default_path, load_constitution
from assent.constitution.principles import TAGS, Constitution, Principle
from assent.errors import ConfigError
from assent.seeds import python_rng

GOOD = """name = "mine"
[[principles]]
id = "calm"
text = "Stay calm."
critique = "Is it calm?"
revision = "Make it calm."
comparison = "Which is calmer?"
"""
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "open" / "constitution"


def file_of(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_our_own_covers_all_three_and_every_principle_can_do_all_jobs() -> None:
    found = load_constitution(default_path())
    assert 12 <= len(found.principles) <= 20
    counts = Counter(tag for one in found.principles for tag in one.tags)
    assert all(counts[tag] >= 3 for tag in TAGS)
    assert all(one.comparison.endswith("?") for one in found.principles)
    assert found.examples, "small models need to see how a chain goes"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("comparison = ", "# "), r'mine.toml: principle 1 \("calm"\) has no comparison question. Add comparison = '),
        (("text = ", "txt = "), 'mine.toml:2: unknown setting "principles.0.txt"'),
        (('"calm"\n', '"calm"\nweight = -1\n'), "mine.toml:2: .*principles.0.weight.*greater than 0, got -1"),
        (('"calm"\n', '"calm"\ntags = ["nice"]\n'), "'helpful', 'honest' or 'harmless', got \"nice\""),
        ((GOOD, 'name = "mine"'), "there is no principle"),
        (("name = ", "name ~ "), "mine.toml:1: not valid TOML"),
        ((GOOD, GOOD + GOOD.split("\n", 1)[1]), 'two principles have the id "calm"; give each its own'),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        load_constitution(file_of(tmp_path, GOOD.replace(*change)))


def test_principles_are_drawn_by_weight_and_again_only_when_all_were_taken() -> None:
    made = {"text": "t", "critique": "c", "revision": "r", "comparison": "q?"}
    rare, often = Principle(id="rare", **made), Principle(id="often", weight=3.0, **made)
    found = Constitution(name="two", principles=(rare, often))
    first = Counter(found.draw(1, python_rng(0, place))[0].id for place in range(4000))
    assert first["often"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert sorted(one.id for one in found.draw(5, python_rng(0))) == ["often", "rare"]
    assert found.draw(1, python_rng(0), without=frozenset({"often"})) == [rare]
    assert found.draw(1, python_rng(0), without=frozenset({"often", "rare"}))


def test_tags_choose_principles_and_a_tag_that_none_has_is_an_error(tmp_path: Path) -> None:
    found = load_constitution(default_path())
    assert all("honest" in one.tags for one in found.tagged(("honest",)).principles)
    with pytest.raises(ConfigError, match='no principle of "mine" is tagged honest'):
        load_constitution(file_of(tmp_path, GOOD)).tagged(("honest",))


def test_published_files_are_read_and_say_that_they_cannot_judge(tmp_path: Path) -> None:
    chat = [{"role": "x", "content": text} for text in ("p", "a", "ask c", "c", "ask r", "r")]
    path = tmp_path / "published.json"
    path.write_text(json.dumps({"constitutions": [{"critic": "C?", "revision": "R."}], "system_chat": [chat]}))
    found = load_constitution(path)
    (principle,), (example,) = found.principles, found.few_shots(found.principles[0], 3)
    assert (principle.critique, principle.revision) == ("C?", "R.")
    assert (example.critique_request, example.revision) == ("ask c", "r"), "an example keeps its own requests"
    with pytest.raises(ConfigError, match="has no comparison question"):
        found.require_comparisons(str(path))
    path.write_text(json.dumps({"constitutions": [{"critic": "C?"}]}))
    with pytest.raises(ConfigError, match=r"not a published constitution .KeyError: 'revision'"):
        load_constitution(path)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published constitutions are not here")
def test_the_published_constitutions_are_read_whole() -> None:
    sizes = {path.stem: load_constitution(path) for path in PUBLISHED.glob("*.json")}
    assert sizes and all(len(one.principles) >= 2 and len(one.examples) >= 1 for one in sizes.values())


def test_show_lists_every_principle_and_a_broken_file_ends_with_an_error(tmp_path: Path) -> None:
    out = worked("constitution", "show").out
    assert all(one.id in out and one.comparison in out for one in load_constitution(default_path()).principles)
    assert "mine: 1 principles" in worked("constitution", "show", "--constitution", file_of(tmp_path, GOOD)).out
    refused = assent("constitution", "show", "--constitution", tmp_path / "none.toml")
    assert refused.code == 2 and "none.toml" in refused.err
