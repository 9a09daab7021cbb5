"""Talking through the studio: blind sides, annotated turns, undo, red-team talks, and endpoints that misbehave."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from feedback.aggregated import pairs_of, red_team_of
from studio.chat_fakes import KEY, KEY_VARIABLE, RUDE, ChatSite, Endpoints, chat_endpoints
from studio.site import Browser, key, open_site, turn_away

from assent.feedback.records import Event, EventKind
from assent.feedback.refusals import Unavailable
from assent.feedback.store.store import FeedbackStore
from assent.studio.app import create_app


@pytest.fixture(scope="module")
def endpoints() -> Iterator[Endpoints]:
    with chat_endpoints() as made:
        yield made


@pytest.fixture
def chat(
    endpoints: Endpoints, filled_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ChatSite]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    endpoints.seen.clear()
    path = tmp_path / "studio.db"
    shutil.copy(filled_store, path)
    with FeedbackStore.open(str(path)) as store:
        yield ChatSite(site=open_site(store, endpoints.settings), endpoints=endpoints)


class Talker:
    """One person's talk in one project, as the page would have it."""

    def __init__(self, chat: ChatSite, project: str, browser: Browser | None = None) -> None:
        self.browser, self.id = browser or chat.browser(), chat.project(project)
        self.talk = self.post("open", {}).json()["talk"]
        self.events: list[dict[str, Any]] = []

    def post(self, verb: str, body: dict[str, Any]) -> Any:
        return self.browser.post(f"/api/chat/{self.id}/{verb}", body)

    def asking(self, text: str) -> Any:
        return self.post("say", {"presentation_id": self.talk["presentation_id"], "text": text})

    def say(self, text: str) -> dict[str, Any]:
        """The last event; the texts are in `texts`."""
        answer = self.asking(text)
        assert answer.status_code == 200, answer.text
        self.events = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]
        return self.events[-1]

    def texts(self) -> list[str]:
        slots = {event["slot"] for event in self.events if "slot" in event}
        return ["".join(e.get("text", "") for e in self.events if e.get("slot") == slot) for slot in sorted(slots)]

    def annotate(self, choice: str, turn_id: str, **changes: Any) -> Any:
        body = {"key": key(), "presentation_id": self.talk["presentation_id"], "turn_id": turn_id, "choice": choice}
        answer = self.post("annotate", body | {"time_taken_ms": 700} | changes)
        if answer.status_code == 201:
            self.talk = answer.json()["talk"]
        return answer

    def undo(self) -> Any:
        answer = self.post("undo", {"key": key(), "presentation_id": self.talk["presentation_id"]})
        if answer.status_code == 201:
            self.talk = answer.json()["talk"]
        return answer


def events_of(chat: ChatSite, project: str) -> list[Event]:
    return chat.site.store.events(chat.project(project))


def test_the_better_answer_goes_on_and_the_turn_is_kept_with_names_and_sampling(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    assert talker.talk["compare"] and talker.talk["suggestion"] == "hello 0" and talker.talk["messages"] == []
    turn = talker.say("hello there")["turn_id"]
    texts = talker.texts()
    assert len(texts) == 2 and len([event for event in talker.events if event.get("slot") == 0]) > 3
    answer = talker.annotate("b", turn)
    assert answer.status_code == 201
    said = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": texts[1]}]
    assert talker.talk["messages"] == said and talker.talk["turns"] == 1
    (event,) = events_of(chat, "compare")
    kept = event.payload
    assert event.seq == answer.json()["seq"] and event.time_taken_ms == 700
    assert (kept["a"], kept["b"], kept["choice"], kept["goes_on"], kept["turn"]) == (*texts, "b", "b", 1)
    assert sorted(kept["models"]) == ["first", "second"] and kept["conversation"] == said[:1]
    assert all(set(one) == {"temperature", "seed"} for one in kept["sampling"])
    assert kept["sampling"][0]["seed"] != kept["sampling"][1]["seed"]
    (pair,) = pairs_of(chat.site.store.answered_items(chat.project("compare")))
    assert (pair.chosen.text, pair.rejected.text) == (texts[1], texts[0])


def test_nothing_that_reaches_the_browser_names_a_model_its_address_or_its_key(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    answer = talker.asking("hello")
    pages = [answer.text, json.dumps(talker.talk), talker.browser.get(f"/chat/{talker.id}").text]
    turn = json.loads(answer.text.strip().split("\n\n")[-1][6:])["turn_id"]
    pages += [talker.annotate("a", turn).text, talker.undo().text, talker.post("open", {}).text]
    hidden = ("first", "second", KEY, KEY_VARIABLE, *(url.removeprefix("http://") for url in chat.endpoints.addresses))
    for text in pages:
        assert not [word for word in hidden if word in text], text
    for _ in range(20):
        assert "first" not in json.dumps(talker.talk)


def test_sides_are_drawn_anew_for_every_turn(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    for _ in range(24):
        talker.annotate("a", talker.say("hello")["turn_id"])
    sides = Counter(tuple(event.payload["models"]) for event in events_of(chat, "compare"))
    assert set(sides) == {("first", "second"), ("second", "first")}, "fails once in 8 million runs"


@pytest.mark.parametrize(("choice", "length"), [("a", 2), ("b", 2), ("tie", 2), ("both_bad", 0)])
def test_how_the_talk_goes_on_follows_the_choice(chat: ChatSite, choice: str, length: int) -> None:
    talker = Talker(chat, "compare")
    turn = talker.say("hello")["turn_id"]
    talker.annotate(choice, turn)
    texts = talker.texts()
    assert len(talker.talk["messages"]) == length
    if length:
        assert talker.talk["messages"][-1]["content"] == texts[1 if choice == "b" else 0]
    assert talker.post("open", {"presentation_id": talker.talk["presentation_id"]}).json()["talk"] == talker.talk


def test_the_model_is_asked_with_the_whole_talk(chat: ChatSite) -> None:
    talker = Talker(chat, "whole")
    for text in ("one", "two"):
        talker.annotate("a", talker.say(text)["turn_id"])
    sent = chat.endpoints.seen[-1]["body"]
    clean = "all at once \ufffd\ufffd"
    assert [m["content"] for m in sent["messages"]] == ["one", clean, "two"] and sent["stream"] is True
    assert chat.endpoints.seen[-1]["headers"]["authorization"] == f"Bearer {KEY}"


def test_undo_brings_the_same_answers_back_to_be_annotated_again_turn_by_turn(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    texts = []
    for text in ("one", "two"):
        turn = talker.say(text)["turn_id"]
        texts.append(talker.texts())
        talker.annotate("a", turn)
    assert talker.undo().status_code == 201
    pending = talker.talk["pending"]
    assert pending["message"] == "two" and [side["text"] for side in pending["shown"]] == texts[1]
    assert talker.annotate("b", pending["turn_id"]).status_code == 201
    assert talker.talk["messages"][-1]["content"] == texts[1][1] and talker.talk["turns"] == 2
    assert talker.undo().status_code == talker.undo().status_code == 201
    assert talker.talk["pending"]["message"] == "one" and talker.talk["turns"] == 0 and not talker.talk["can_undo"]
    assert talker.undo().status_code == 409
    kinds = [event.kind for event in events_of(chat, "compare")]
    assert kinds.count(EventKind.UNDO) == 3 and kinds.count(EventKind.CHAT_TURN) == 3, "history is kept"
    assert chat.site.store.answered_items(chat.project("compare")) == []
    last = next(event for event in events_of(chat, "compare") if event.kind is EventKind.CHAT_TURN)
    talker.annotate("a", talker.talk["pending"]["turn_id"])
    again = events_of(chat, "compare")[-1]
    assert again.payload["models"] == last.payload["models"] and again.payload["sampling"] == last.payload["sampling"]


def test_a_repeated_or_doubled_annotation_counts_once(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    turn = talker.say("hello")["turn_id"]
    same = key()
    first = talker.annotate("a", turn, key=same)
    again = talker.annotate("a", turn, key=same)
    assert again.status_code == 201 and again.json()["seq"] == first.json()["seq"]
    assert talker.annotate("b", turn).status_code == 409
    turn = talker.say("more")["turn_id"]
    with ThreadPoolExecutor(6) as threads:
        codes = list(threads.map(lambda n: talker.annotate("ab"[n % 2], turn).status_code, range(6)))
    assert sorted(codes) == [201, *[409] * 5] and len(events_of(chat, "compare")) == 2


def test_answers_that_wait_must_be_annotated_before_more_is_said(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    talker.say("hello")
    assert talker.asking("again").status_code == 409
    reloaded = talker.post("open", {"presentation_id": talker.talk["presentation_id"]}).json()["talk"]
    assert [side["text"] for side in reloaded["pending"]["shown"]] == talker.texts()


def test_one_model_alone_is_good_or_bad(chat: ChatSite) -> None:
    talker = Talker(chat, "alone")
    assert not talker.talk["compare"]
    turn = talker.say("hello")["turn_id"]
    assert talker.annotate("tie", turn).status_code == 422
    assert talker.annotate("a", turn).status_code == 201
    payload = events_of(chat, "alone")[0].payload
    assert payload["b"] is None and payload["models"] == ["first", None] and payload["sampling"][1] is None


def test_a_finished_talk_makes_room_for_the_next_and_the_server_may_forget(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    first = talker.talk["presentation_id"]
    talker.annotate("a", talker.say("hello")["turn_id"])
    following = talker.post("open", {}).json()["talk"]
    assert following["presentation_id"] != first and following["suggestion"] == "hello 1"
    fresh = Talker(chat, "compare", talker.browser)  # and the first one can still be gone on with
    assert fresh.post("open", {"presentation_id": first}).json()["talk"]["turns"] == 1
    talker.browser.post("/api/answers", {
        "key": key(), "presentation_id": following["presentation_id"], "kind": "skip", "payload": {"reason": "unclear"},
    })  # fmt: skip
    assert talker.post("open", {}).json()["talk"]["suggestion"] == "hello 2"


def test_a_talk_is_read_back_from_the_store_after_a_restart(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    for choice in ("b", "both_bad", "tie"):
        talker.annotate(choice, talker.say(f"say {choice}")["turn_id"])
    restarted = Browser(create_app(chat.site.store, chat.site.settings), talker.browser.cookie, talker.browser.csrf)
    named = {"presentation_id": talker.talk["presentation_id"]}
    again = restarted.post(f"/api/chat/{talker.id}/open", named).json()["talk"]
    assert again == talker.talk and again["turns"] == 3


def test_two_people_talk_about_one_item_each_in_their_own_talk(chat: ChatSite) -> None:
    one, other = Talker(chat, "two"), Talker(chat, "two", chat.site.browser(chat.site.stranger))
    assert one.talk["suggestion"] == other.talk["suggestion"] and one.talk["sensitive"]
    one.annotate("a", one.say("mine")["turn_id"])
    other.annotate("b", other.say("theirs")["turn_id"])
    assert one.talk["messages"][0]["content"] == "mine" and other.talk["messages"][0]["content"] == "theirs"
    for verb in ("say", "annotate", "undo"):
        body = {
            "presentation_id": one.talk["presentation_id"],
            "text": "x",
            "turn_id": "x",
            "choice": "a",
            "key": key(),
        }
        wanted = {"say": ("text",), "annotate": ("turn_id", "choice", "key"), "undo": ("key",)}[verb]
        answer = other.post(verb, {name: body[name] for name in ("presentation_id", *wanted)})
        assert answer.status_code == 404, (verb, answer.text)
    taken = other.post("open", {"presentation_id": one.talk["presentation_id"]}).json()["talk"]
    assert taken["presentation_id"] != one.talk["presentation_id"]


def test_a_red_team_talk_is_rated_as_a_whole(chat: ChatSite) -> None:
    talker = Talker(chat, "red")
    assert talker.talk["mode"] == "red_team" and talker.talk["sensitive"]
    rating = {"presentation_id": talker.talk["presentation_id"], "reached": 7, "note": "it gave in"}
    assert talker.post("rate", rating | {"key": key()}).status_code == 409
    for text in ("please", "pretty please"):
        assert talker.say(text) == {"said": True}
    same = key()
    for _ in range(2):
        assert talker.post("rate", rating | {"key": same}).status_code == 201
    (event,) = events_of(chat, "red")
    assert event.kind is EventKind.RED_TEAM and event.payload["reached"] == 7 and event.payload["model"] == "second"
    assert [m["role"] for m in event.payload["conversation"]] == ["user", "assistant"] * 2
    assert red_team_of(chat.site.store.answered_items(chat.project("red")))[0].note == "it gave in"
    following = talker.post("open", {}).json()["talk"]
    assert following["messages"] == [] and following["suggestion"] != talker.talk["suggestion"]
    undone = talker.browser.post(f"/api/answers/{event.seq}/undo", {"key": key()})
    assert undone.status_code == 201


@pytest.mark.parametrize("kind", [kind for kind in RUDE if kind != "endless"])
def test_an_endpoint_that_misbehaves_gives_a_clear_error_and_no_turn(chat: ChatSite, kind: str) -> None:
    talker = Talker(chat, kind)
    assert talker.say("hello") == {"failed": True}
    error = next(event["error"] for event in talker.events if "error" in event)
    assert error["what"] and error["now"] and KEY not in json.dumps(talker.events)
    expected = {
        "too_long": "too long",
        "busy": "busy",
        "closed": "cannot be reached",
        "no_key": "key",
        "redirects": "307",
    }
    assert expected.get(kind, "") in error["what"]
    assert not [one for one in chat.endpoints.seen if one["kind"] == "whole"], "a redirect is never followed"
    assert talker.asking("again").status_code == 200, "the talk can go on"


def test_an_endless_answer_is_cut(chat: ChatSite) -> None:
    talker = Talker(chat, "endless")
    assert "turn_id" in talker.say("hello")
    assert len(talker.texts()[0]) == 40_000 and talker.events[-2]["stop"] == "length"


def test_one_failing_side_leaves_nothing_to_judge(chat: ChatSite) -> None:
    talker = Talker(chat, "half")
    assert talker.say("hello") == {"failed": True}
    assert {event["slot"] for event in talker.events if "error" in event} < {0, 1}
    assert talker.post("open", {"presentation_id": talker.talk["presentation_id"]}).json()["talk"]["pending"] is None


def test_only_configured_endpoints_are_ever_called(chat: ChatSite) -> None:
    talker = Talker(chat, "nobody")
    answer = talker.asking("hello")
    assert answer.status_code == 409 and "no model is set up" in answer.json()["error"]["what"]
    body = {"presentation_id": talker.talk["presentation_id"], "text": "x", "url": "http://127.0.0.1:1/"}
    assert talker.post("say", body).status_code == 422


def test_other_projects_other_modes_and_other_roles_are_kept_out(chat: ChatSite) -> None:
    site, number = chat.site, chat.project("compare")
    pairs = site.browser(site.annotator)
    assert pairs.post(f"/api/chat/{site.project.id}/open", {}).status_code == 409
    assert pairs.post(f"/api/chat/{site.foreign.id}/open", {}).status_code == 404
    assert pairs.post(f"/api/chat/{chat.project('red')}/annotate", {
        "key": key(), "presentation_id": "x", "turn_id": "x", "choice": "a"}).status_code == 409  # fmt: skip
    assert site.browser(site.stranger).post(f"/api/chat/{number}/open", {}).status_code == 404
    assert site.browser(site.viewer).post(f"/api/chat/{number}/open", {}).status_code == 403
    assert site.browser().post(f"/api/chat/{number}/open", {}).status_code == 401
    assert pairs.ask("POST", f"/api/chat/{number}/open", json={}, without="x-csrf-token").status_code == 403


@pytest.mark.parametrize("text", ["", "   ", "x" * 20_001, "a\0b"])
def test_messages_without_words_or_with_too_many_are_refused(chat: ChatSite, text: str) -> None:
    assert Talker(chat, "alone").asking(text).status_code == 422


def test_the_labeling_page_leads_to_the_talk(chat: ChatSite) -> None:
    number = chat.project("compare")
    answer = chat.browser().get(f"/label/{number}")
    assert answer.status_code == 303 and answer.headers["location"] == f"/chat/{number}"


def test_chat_turns_cannot_be_made_up(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    payload = {"conversation": [{"role": "user", "content": "x"}], "a": "1", "b": "2", "choice": "a"}
    body = {"key": key(), "presentation_id": talker.talk["presentation_id"], "kind": "chat_turn", "payload": payload}
    assert talker.browser.post("/api/answers", body).status_code == 422
    assert events_of(chat, "compare") == []


def _restarted(chat: ChatSite, talker: Talker) -> Talker:
    """The same person at a server that has just been started on the same store, at the same talk."""
    app = create_app(chat.site.store, chat.site.settings)
    name = chat.site.store.project(talker.id).name
    again = Talker(chat, name, Browser(app, talker.browser.cookie, talker.browser.csrf))
    again.talk = again.post("open", {"presentation_id": talker.talk["presentation_id"]}).json()["talk"]
    return again


def test_answers_that_wait_outlive_the_server_and_are_annotated_after_it(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    talker.annotate("a", talker.say("first")["turn_id"])
    turn, texts = talker.say("and then?")["turn_id"], talker.texts()
    again = _restarted(chat, talker)
    pending = again.talk["pending"]
    assert pending["turn_id"] == turn and pending["message"] == "and then?"
    assert [side["text"] for side in pending["shown"]] == texts and again.talk["turns"] == 1
    assert again.annotate("b", turn).status_code == 201 and again.talk["pending"] is None
    payload = events_of(chat, "compare")[-1].payload
    assert [payload["a"], payload["b"]] == texts and set(payload["models"]) == {"first", "second"}
    assert _restarted(chat, again).talk == again.talk, "what was annotated waits no more"


def test_a_annotation_taken_back_waits_again_after_a_restart(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    talker.annotate("a", talker.say("first")["turn_id"])
    talker.undo()
    again = _restarted(chat, talker)
    assert again.talk == talker.talk and again.talk["pending"] is not None
    assert again.annotate("tie", again.talk["pending"]["turn_id"]).status_code == 201


def test_a_red_team_talk_goes_on_after_a_restart_and_is_rated_whole(chat: ChatSite) -> None:
    talker = Talker(chat, "red")
    talker.say("please")
    again = _restarted(chat, talker)
    assert (
        again.talk["turns"] == 1 and again.talk["suggestion"] == "" and again.talk["messages"][0]["content"] == "please"
    )
    assert again.say("pretty please") == {"said": True}
    last = _restarted(chat, again)
    rating = {"presentation_id": talker.talk["presentation_id"], "reached": 3, "note": "", "key": key()}
    answer = last.post("rate", rating)
    assert answer.status_code == 201, answer.text
    (event,) = events_of(chat, "red")
    assert [m["content"] for m in event.payload["conversation"]][::2] == ["please", "pretty please"]
    assert event.payload["model"] == "second" and event.payload["sampling"]
    last.browser.post(f"/api/answers/{event.seq}/undo", {"key": key()})
    assert _restarted(chat, last).talk["turns"] == 2, "a rating that was taken back leaves the talk to be rated again"


def test_an_answer_that_cannot_be_kept_is_refused_and_the_talk_goes_on(
    chat: ChatSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker = Talker(chat, "compare")
    with monkeypatch.context() as full:
        full.setattr(FeedbackStore, "save_pending_talk", _full_disk)
        last = talker.say("hello")
    assert last["failed"] and "disk is full" in last["error"]["what"]
    assert _restarted(chat, talker).talk["pending"] is None
    assert "turn_id" in talker.say("hello")


def _full_disk(*_: object) -> None:
    raise Unavailable("the disk is full", now="Wait.")


def test_a_key_stands_for_one_annotation_of_one_turn(chat: ChatSite) -> None:
    talker = Talker(chat, "compare")
    first, same = talker.say("one")["turn_id"], key()
    for _ in range(2):
        assert talker.annotate("a", first, key=same).status_code == 201
    assert talker.annotate("b", first, key=same).status_code == 409
    second = talker.say("two")["turn_id"]
    assert talker.annotate("a", second, key=same).status_code == 409
    assert len(events_of(chat, "compare")) == 1
    assert talker.annotate("a", second).status_code == 201
    undo = {"key": same, "presentation_id": talker.talk["presentation_id"]}
    assert talker.post("undo", undo).status_code == 409
    assert len(events_of(chat, "compare")) == 2


def test_a_key_stands_for_one_rating(chat: ChatSite) -> None:
    talker, same = Talker(chat, "red"), key()
    talker.say("please")
    rating = {"presentation_id": talker.talk["presentation_id"], "reached": 7, "note": "", "key": same}
    assert talker.post("rate", rating).status_code == 201
    assert talker.post("rate", rating | {"reached": 2}).status_code == 409
    assert talker.post("rate", rating).status_code == 201
    assert len(events_of(chat, "red")) == 1


@pytest.mark.parametrize("state", ["removed", "archived", "closed", "viewer"])
@pytest.mark.parametrize("name", ["compare", "red"])
def test_who_is_asked_no_more_talks_no_more(chat: ChatSite, name: str, state: str) -> None:
    talker, store = Talker(chat, name), chat.site.store
    shown = {"presentation_id": talker.talk["presentation_id"]}
    turn = talker.say("hello").get("turn_id", "x")
    requests = {
        "open": {}, "say": shown | {"text": "more"}, "annotate": shown | {"key": key(), "turn_id": turn, "choice": "a"},
        "undo": shown | {"key": key()}, "rate": shown | {"key": key(), "reached": 1},
    }  # fmt: skip
    turn_away(chat.site, talker.id, state)  # behind the server's back: another process did it
    before = store.events()
    for verb, body in requests.items():
        answer = talker.post(verb, body)
        assert answer.status_code >= 400 or (verb == "open" and answer.json()["talk"] is None), (verb, answer.text)
    skip = {"key": key(), "kind": "skip", "payload": {"reason": "other"}} | shown
    assert talker.browser.post("/api/answers", skip).status_code == 404
    assert talker.browser.post(f"/api/presentations/{shown['presentation_id']}/renew").status_code == 404
    assert store.events() == before
