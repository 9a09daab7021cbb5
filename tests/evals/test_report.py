import dataclasses
import html.parser
import math
import re

import pytest

from assent.errors import DataError, RunError
from assent.evals.evidence import Evidence, Sample, from_json
from assent.evals.report import render, visible, write_report

NAMES = ["demo", "three_seeds", "real_data", "sft_only", "reward_only", "ppo_only", "several_runs"]
ALWAYS = {"training", "terms", "run"}
SECTIONS = {
    "demo": {"before-after", "over-optimisation", "kinds", "win-rates", "samples", "reward-model", *ALWAYS},
    "real_data": {"held-out", "win-rates", "samples", "reward-model", *ALWAYS},
    "sft_only": {"held-out", *ALWAYS},
    "reward_only": {"reward-model", *ALWAYS},
    "ppo_only": {"held-out", "samples", *ALWAYS},
}


class Page(html.parser.HTMLParser):
    """Tags, attributes and balance of a page."""

    VOID = frozenset({"meta", "br", "line", "circle", "rect", "polyline"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_whole_small_and_self_contained(evidence_by_name, name):
    text = render(evidence_by_name[name])
    page = Page(text)
    assert page.open == []
    assert len(text.encode()) < 600_000
    assert not {"link", "img", "iframe", "object", "a", "base", "form"} & set(page.tags)
    assert not [key for key, _ in page.attributes if key in {"src", "href", "style"} or key.startswith("on")]
    assert (page.tags.count("script"), page.tags.count("style")) == (1, 1)
    assert text == render(evidence_by_name[name])


@pytest.mark.parametrize("name", SECTIONS)
def test_only_what_the_run_has_is_shown(evidence_by_name, name):
    assert set(re.findall(r'<section id="([^"]+)"', render(evidence_by_name[name]))) == SECTIONS[name]


def test_several_seeds_are_listed(evidence_by_name):
    assert 'id="seeds"' in render(evidence_by_name["three_seeds"])


def test_hostile_text_is_text_and_hidden_characters_are_spelt_out(evidence_by_name):
    text = render(evidence_by_name["real_data"])
    assert "<script>window" not in text
    assert "<img" not in text
    assert "&lt;script&gt;window.__hacked = 1&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text
    for hidden in "\u202e\u202c\u200b\u200d\ufeff\u2066\u2069\x07\x1b":
        assert hidden not in text
        assert f"\u27e8U+{ord(hidden):04X}\u27e9" in text


def test_lone_surrogates_from_broken_tokens_can_be_written(tmp_path):
    sample = Sample(prompt="half \ud83d of a character", kind="x", answers={"ppo": "\udcff"})
    evidence = Evidence(title="t", seeds=(0,), wall_s=1.0, peak_rss_mib=1.0, samples=(sample,))
    page = write_report(evidence, tmp_path)
    assert "\u27e8U+D83D\u27e9" in page.read_text(encoding="utf-8")
    assert from_json((tmp_path / "report.json").read_text(encoding="utf-8")) == evidence


def test_ordinary_text_of_any_script_is_left_alone():
    text = "caf\u00e9 \u4e2d\u6587 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \U0001f600\n\ttab"
    assert visible(text) == text


def test_both_files_are_written_and_nothing_else(evidence_by_name, tmp_path):
    evidence = evidence_by_name["demo"]
    assert write_report(evidence, tmp_path / "new") == tmp_path / "new" / "report.html"
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["report.html", "report.json"]
    assert from_json((tmp_path / "new" / "report.json").read_text()) == evidence


def test_evidence_that_cannot_be_shown_writes_nothing(evidence_by_name, tmp_path):
    with pytest.raises(DataError):
        write_report(dataclasses.replace(evidence_by_name["demo"], wall_s=math.inf), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_named(evidence_by_name, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="file"):
        write_report(evidence_by_name["sft_only"], tmp_path / "file" / "run")
