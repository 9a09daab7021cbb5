"""A server that dies in the middle of a talk: the annotator's page goes on with what was said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from serving.endpoint_fakes import WordEngine, listening
from studio.browser.serving import Studio, settings

from assent.feedback.records import EventKind, NewItem, TaskMode
from assent.serving.endpoint import ServedModel, create_endpoint
from assent.types import Conversation


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    one = Studio(tmp_path)
    with ExitStack() as stack:
        for name in ("first", "second"):
            one.endpoints[name] = (
                f"{stack.enter_context(listening(create_endpoint({'tiny': ServedModel(engine=WordEngine())})))}/v1"
            )
        for mode in (TaskMode.CHAT, TaskMode.RED_TEAM):
            asked = [NewItem(prompt=Conversation.of_user("hello"))]
            one.add_project(str(mode), settings(mode, endpoints=("first", "second")), asked)
        one.start()
        yield one
        one.stop()


def _open(page: Any, studio: Studio, mode: TaskMode, phase: str) -> None:
    page.goto(f"{studio.url}/chat/{studio.projects[str(mode)].id}")
    page.locator(f'body[data-phase="{phase}"]').wait_for()


def test_a_annotation_waits_for_the_server_and_is_of_what_was_shown(studio: Studio, seat: Any) -> None:
    page = seat(studio).page
    _open(page, studio, TaskMode.CHAT, "saying")
    page.keyboard.press("Enter")
    page.locator('body[data-phase="annotating"]').wait_for()
    texts = [text.strip() for text in page.locator(".answer .said").all_inner_texts()]
    studio.kill()
    page.keyboard.press("2")
    page.locator("#notice", has_text="cannot be reached").wait_for()
    studio.start()
    page.keyboard.press("2")
    page.locator("#save", has_text=re.compile("^saved$")).wait_for()
    (event,) = studio.events("chat")
    assert event.kind is EventKind.CHAT_TURN and event.payload["choice"] == "b"
    assert [event.payload["a"].strip(), event.payload["b"].strip()] == texts
    page.locator('body[data-phase="saying"]').wait_for()
    page.keyboard.type("and then?")
    page.keyboard.press("Enter")
    page.locator('body[data-phase="annotating"]').wait_for()
    studio.kill()
    studio.start()
    _open(page, studio, TaskMode.CHAT, "annotating")
    page.keyboard.press("1")
    page.locator("#save", has_text=re.compile("^saved$")).wait_for()
    assert len(studio.events("chat")) == 2


def test_a_red_team_talk_goes_on_where_it_stopped(studio: Studio, seat: Any) -> None:
    page = seat(studio).page
    _open(page, studio, TaskMode.RED_TEAM, "covered")
    page.keyboard.press("v")
    page.locator('body[data-phase="saying"]').wait_for()
    page.locator("#words").fill("please")
    page.keyboard.press("Enter")
    page.locator("#count", has_text="1 turn").wait_for()
    studio.kill()
    page.locator("#words").fill("pretty please")
    page.keyboard.press("Enter")
    page.locator("#notice", has_text="cannot be reached").wait_for()
    studio.start()
    assert page.locator("#words").input_value() == "pretty please"
    page.keyboard.press("Enter")
    page.locator("#count", has_text="2 turns").wait_for()
    assert "please" in page.locator("main").inner_text()
