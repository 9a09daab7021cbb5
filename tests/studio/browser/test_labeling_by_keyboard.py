"""Whole sessions without a mouse: every mode, corrections, own answers, flags, skips, undo of any depth, drafts."""

import pytest
from studio.browser.serving import Studio, as_shown, items, settings

from assent.feedback.records import EventKind, TaskMode

CRITERIA = ("helpful", "honest", "harmless")
COUNT = 9


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    made = Studio(tmp_path_factory.mktemp("keyboard"))
    for mode, answers in [("ranking", 3), ("pairwise", 2), ("rating", 2), ("good_bad", 3), ("demonstration", 0)]:
        made.add_project(mode, settings(TaskMode(mode)), items(COUNT, answers), "# Rules\n\n- be **fair**")
    for mode, answers in [("ranking", 2), ("pairwise", 2)]:
        made.add_project(f"{mode} by criteria", settings(TaskMode(mode), criteria_share=1.0), items(3, answers))
    for name in [
        "corrections",
        "own answers",
        "flags",
        "undo",
        "deep undo",
        "old undo",
        "draft",
        "unfinished",
        "turns",
        "keys off",
    ]:
        made.add_project(name, settings(TaskMode.PAIRWISE), items(COUNT))
    instructed = settings(TaskMode.PAIRWISE, instructions="Rank by how much it *helps*.")
    made.add_project("instructed", instructed, items(3))
    made.add_project("instructed at length", instructed, items(3), "# Rules\n\n- be **fair**")
    said = {"model": "m", "probability": 0.83}
    made.add_judged_project("audit", settings(TaskMode.PAIRWISE, overlap=2), items(2), said)
    made.add_project("moving", settings(TaskMode.RANKING), items(3, 4))
    made.start()
    yield made
    made.stop()


def test_answers_are_put_in_order_with_digits_and_a_tie(studio, seat):
    ana = seat(studio)
    ana.open("ranking")
    ana.press("2", "1", "=", "3", "Enter", "3", "3", "3", "2", "1", "Enter", "1", "2", "3", "=", "Enter", "=", "Enter")
    ana.wait_saved(4)
    assert [as_shown(event, "ranks") for event in studio.standing("ranking")] == [
        [2, 1, 2],
        [3, 2, 1],
        [1, 2, 2],
        [1, 1, 1],
    ]
    assert ana.complaints == []


def test_a_pair_is_weighed_with_brackets_and_digits(studio, seat):
    ana = seat(studio)
    ana.open("pairwise")
    for keys in (["]", "]"], ["[", "[", "[", "["], ["="], ["2"], ["1", "1", "1"], ["]", "["]):
        ana.press(*keys, "Enter")
    ana.wait_saved(6)
    strengths = [
        event.payload["strength"] * (1 if event.order == (0, 1) else -1) for event in studio.standing("pairwise")
    ]
    assert strengths == [2, -3, 0, 1, -3, 0]
    assert all(event.time_taken_ms > 0 for event in studio.standing("pairwise"))


def test_ratings_run_from_cell_to_cell(studio, seat):
    ana = seat(studio)
    ana.open("rating")
    ana.press(
        "7", "6", "5", "4", "3", "2", "Enter", "1", "ArrowUp", "2", "ArrowRight", "5", "5", "5", "3", "3", "Enter"
    )
    ana.wait_saved(2)
    first, second = studio.standing("rating")
    seen = [
        [event.payload["ratings"][name][place] for place in event.order for name in CRITERIA]
        for event in (first, second)
    ]
    assert seen == [[7, 6, 5, 4, 3, 2], [2, 5, 3, 3, 5, 5]]
    assert ana.complaints == []


def test_good_and_bad_with_a_reason(studio, seat):
    ana = seat(studio)
    ana.open("good_bad")
    ana.press("g", "b", "c", "2", "r")
    ana.page.keyboard.type("guesses, u know")
    ana.press("Escape", "Enter")
    ana.wait_saved(1)
    event = studio.standing("good_bad")[0]
    assert as_shown(event, "good") == [True, False, None]
    assert as_shown(event, "reasons") == ["", "guesses, u know", ""]


def test_the_answer_is_written_by_hand(studio, seat):
    ana = seat(studio)
    ana.open("demonstration")
    ana.page.keyboard.type("Because the Moon pulls,\nand the Earth turns.")
    ana.press("Control+Enter")
    ana.wait_saved(1)
    assert studio.standing("demonstration")[0].payload == {"text": "Because the Moon pulls,\nand the Earth turns."}


def test_criteria_are_asked_one_after_the_other(studio, seat):
    ana = seat(studio)
    ana.open("ranking by criteria")
    ana.press("1", "2", "2", "1", "=", "1", "2", "Enter")
    ana.wait_saved(1)
    kept = studio.standing("ranking by criteria")[0]
    shown = {name: [ranks[place] for place in kept.order] for name, ranks in kept.payload["criteria"].items()}
    assert as_shown(kept, "ranks") == [1, 2]
    assert shown == {"helpful": [2, 1], "honest": [1, 1], "harmless": [1, 2]}
    ana.open("pairwise by criteria")
    ana.press("1", "1", "Enter", "2", "Enter", "=", "ArrowDown", "]", "]", "]", "Enter")
    ana.wait_saved(1)
    kept = studio.standing("pairwise by criteria")[0]
    sign = 1 if kept.order == (0, 1) else -1
    assert {name: sign * value for name, value in kept.payload["criteria"].items()} == {
        "helpful": 1,
        "honest": 0,
        "harmless": 3,
    }
    assert sign * kept.payload["strength"] == -2


def test_an_edit_goes_with_what_was_annotated_and_asserts_nothing_else(studio, seat):
    ana = seat(studio)
    ana.open("corrections")
    original = ana.page.locator(".answer[data-slot='1'] .said").inner_text()
    ana.press("2", "2", "e")
    ana.page.keyboard.type("Surely: ")
    ana.page.locator(".changes ins", has_text="Surely").first.wait_for()
    assert ana.page.locator(".changes ins").inner_text().strip().startswith("Surely")
    ana.press("Control+Enter", "ArrowRight", "e", "Control+End")
    ana.page.keyboard.type(" Yes.")
    assert not ana.page.get_by_label("the best of those shown").is_checked()
    ana.press("Control+Enter")
    ana.wait_saved(2)
    first, second = studio.standing("corrections")
    assert first.kind is EventKind.CORRECTION
    assert first.payload["text"] == f"Surely: {original}"
    assert first.order[1] == first.payload["slot"]
    assert as_shown(first, "ranks") == [2, 1]
    assert "ranks" not in second.payload
    assert second.order[0] == second.payload["slot"]


def test_an_unchanged_text_is_not_a_correction(studio, seat):
    ana = seat(studio)
    ana.open("unfinished")
    ana.press("e", "Control+Enter", "Escape", "Enter")
    assert ana.page.locator("#missing").inner_text() == "which of the two is better?"
    assert studio.events("unfinished") == []


def test_own_answers_flags_and_skips(studio, seat):
    ana = seat(studio)
    ana.open("own answers")
    ana.press("w")
    ana.page.keyboard.type("My own.")
    ana.press("Control+Enter")
    ana.wait_saved(1)
    ana.press("2", "f", "2", "Tab")
    ana.page.locator("#ask-note").focus()
    ana.page.keyboard.type("a phone number, 1 of 2")
    ana.press("Control+Enter")
    ana.wait_saved(2)
    ana.press("s", "5", "Enter")
    ana.wait_saved(3)
    ana.press("s", "Escape", "=", "Enter")
    ana.wait_saved(4)
    own, flag, skip, tie = studio.standing("own answers")
    assert own.payload == {"text": "My own."}
    assert flag.payload == {"flag": "private_data", "slot": flag.order[1], "note": "a phone number, 1 of 2"}
    assert skip.payload == {"reason": "other", "note": ""}
    assert tie.payload == {"strength": 0}


def test_undo_takes_back_steps_and_then_the_sent_answer_which_stays_in_the_history(studio, seat):
    ana = seat(studio)
    ana.open("undo")
    first = ana.heading()
    ana.press("]", "]", "Enter")
    ana.wait_saved(1)
    second = ana.heading()
    assert second != first
    ana.press("[", "[", "u", "u", "u")
    ana.wait_heading(first)
    assert ana.page.locator(".readout").inner_text() in ("Answer 2 is better", "Answer 1 is better")
    ana.press("=", "Enter")
    ana.wait_saved(2)
    assert ana.heading() == second
    kinds = [event.kind for event in studio.events("undo")]
    assert kinds == [EventKind.PAIRWISE, EventKind.UNDO, EventKind.PAIRWISE]
    assert [event.payload for event in studio.standing("undo")] == [{"strength": 0}]


def test_undo_goes_as_deep_as_one_likes(studio, seat):
    ana = seat(studio)
    ana.open("deep undo")
    prompts = []
    for _ in range(4):
        prompts.append(ana.heading())
        ana.press("1", "Enter")
    ana.wait_saved(4)
    for prompt in reversed(prompts):
        ana.press("u")
        ana.wait_heading(prompt)
        ana.press("u")
    assert studio.standing("deep undo") == []
    ana.page.locator("#notice", has_text="nothing left to undo").wait_for()


def test_what_was_sent_before_a_reload_can_be_undone_too(studio, seat):
    ana = seat(studio)
    ana.open("old undo")
    first = ana.heading()
    ana.press("1", "Enter")
    ana.wait_saved(1)
    ana.open("old undo")
    ana.press("u")
    ana.wait_heading(first)
    assert studio.standing("old undo") == []


def test_a_reload_keeps_the_item_and_what_was_decided_and_written(studio, seat):
    ana = seat(studio)
    ana.open("draft")
    prompt = ana.heading()
    ana.press("]", "]", "]", "e")
    ana.page.keyboard.type("Half of a thought")
    ana.page.wait_for_timeout(300)
    ana.page.reload()
    ana.page.wait_for_selector(".editor textarea")
    assert ana.heading() == prompt
    assert ana.page.locator(".editor textarea").input_value().startswith("Half of a thought")
    assert ana.page.locator(".readout").inner_text() == "Answer 2 is much better"


def test_placed_answers_move_with_the_arrow_keys(studio, seat):
    ana = seat(studio)
    ana.open("moving")
    ana.press("1", "2", "3", "4")
    ana.page.locator("[data-chip='overall-3']").focus()
    ana.press("ArrowLeft", "ArrowLeft", "Backspace")
    assert ana.page.locator(".groups").inner_text().split() == ["1", "2", "4"]
    ana.press("3")
    ana.page.locator("#heading").focus()
    ana.press("Enter")
    ana.wait_saved(1)
    assert as_shown(studio.standing("moving")[0], "ranks") == [1, 2, 4, 3]


def test_single_keys_can_be_switched_off(studio, seat):
    ana = seat(studio)
    ana.open("keys off")
    ana.page.locator("#open-settings").press("Enter")
    ana.page.locator("#set-keys").uncheck()
    ana.press("Escape", "s", "]", "1")
    assert ana.page.locator("dialog[open]").count() == 0
    assert ana.page.locator(".readout").inner_text() == "Not decided yet"


def test_the_next_item_is_there_at_once(studio, seat, record_property):
    ana = seat(studio)
    ana.open("turns")
    for number in range(1, COUNT):
        ana.press("2", "Enter")
        ana.wait_saved(number)
    took = ana.page.evaluate("performance.getEntriesByName('assent:turn').map(entry => entry.duration)")
    record_property("milliseconds from send to next", [round(one, 1) for one in took])
    print("milliseconds from send to next:", [round(one, 1) for one in took])
    assert len(took) == COUNT - 1
    assert len({event.item_id for event in studio.standing("turns")}) == COUNT - 1


def test_instructions_stand_beside_the_task_until_they_are_put_away(studio, seat):
    ana = seat(studio)
    guide = ana.page.locator("#guide")
    for name, words in (("instructed", ["helps"]), ("instructed at length", ["helps", "fair"])):
        ana.open(name)
        guide.wait_for()
        told = ana.page.locator("#guide-text").inner_text()
        assert all(word in told for word in words)
    ana.press("i")
    guide.wait_for(state="hidden")
    ana.open("instructed")
    ana.press("1")
    assert guide.is_hidden() and not ana.page.locator("#open-guide.news").count()
    small = seat(studio, width=320)
    small.open("instructed")
    small.page.locator("#open-guide.news").wait_for()
    assert small.page.locator("#guide").is_hidden()
    assert ana.complaints == small.complaints == []


def test_what_a_model_says_of_an_item_is_shown_after_the_answer(studio, seat):
    ana = seat(studio)
    ana.open("audit")
    assert ana.page.locator("#notice").inner_text() == ""
    ana.press("1", "Enter")
    notice = ana.page.locator("#notice", has_text="AI says")
    notice.wait_for()
    (event,) = [one for one in studio.standing("audit") if one.kind is EventKind.PAIRWISE]
    first = event.order[0] == 0  # the model prefers the first in canonical order, the person the first shown
    told = f"AI says {'A' if first else 'B'}, 0.83. You {'agree' if first else 'chose the other'}"
    assert told in notice.inner_text()
    assert ana.complaints == []
