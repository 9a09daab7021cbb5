"""A client of a running studio: what programs do there goes through the same doors as what people do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from assent.errors import ConfigError, StoreError
from assent.feedback.exchange.imported_items import ImportedItem
from assent.feedback.records import EventKind, NewItem, conversation_to_json

PASSWORD_VARIABLE = "ASSENT_STUDIO_PASSWORD"
_TIMEOUT_S = 60.0
_ITEMS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An item as this client's person sees it: the prompt's messages and the texts in the order shown."""

    presentation_id: str
    prompt: tuple[Mapping[str, str], ...]
    texts: tuple[str, ...]
    mode: str


class StudioClient:
    """One signed-in person. Every refusal of the studio is a StoreError with its own words."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f'"{url}" is no address of a studio', where="--studio", now="It begins with http://.")
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=_TIMEOUT_S, headers={"Origin": self.url})
        self._csrf = ""

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def sign_in(self, name: str, password: str | None = None) -> Self:
        """Sign in; without a password it comes from the environment variable ASSENT_STUDIO_PASSWORD."""
        secret = password or os.environ.get(PASSWORD_VARIABLE)
        if not secret:
            now = "Put it into this environment variable."
            raise ConfigError("no password for the studio", where=PASSWORD_VARIABLE, now=now)
        try:
            self._csrf = str(self.post("/api/sign-in", {"name": name, "password": secret})["csrf"])
        except StoreError as error:
            raise StoreError(f'cannot sign in as "{name}": {error.what}', where=error.where, now=error.now) from None
        return self

    def join(self, token: str, name: str, password: str) -> Self:
        """Accept an invitation and be signed in."""
        self.post("/api/join", {"token": token, "name": name, "password": password})
        return self.sign_in(name, password)

    def get(self, path: str, **query: str | int) -> Any:
        """JSON of a GET."""
        return self._ask("GET", path, params=query).json()

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """JSON of a POST."""
        return self._ask("POST", path, json=body).json()

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """JSON of a PUT."""
        return self._ask("PUT", path, json=body).json()

    def project(self, name: str, settings: Mapping[str, Any] | None = None) -> int:
        """The number of the project of this name; with `settings` it is made if it is not there."""
        for project in self.get("/api/projects"):
            if project["name"] == name:
                return int(project["id"])
        if settings is None:
            raise StoreError(f'there is no project "{name}"', where=self.url, now="Make it on the studio's pages.")
        return int(self.post("/api/projects", {"name": name, "settings": dict(settings)})["id"])

    def add_items(self, project_id: int, items: Iterable[NewItem | ImportedItem]) -> tuple[int, int]:
        """(added, already there by key); in parts, so items without a key may be added twice after a failure.

        Of answers that items bring along, a model's preference is the only kind that is sent.
        """
        lines = [json.dumps(item_to_json(item), ensure_ascii=False) for item in items]
        added = known = 0
        for start in range(0, len(lines), _ITEMS_AT_ONCE):
            body = "\n".join(lines[start : start + _ITEMS_AT_ONCE]).encode()
            found = self._ask("POST", f"/api/projects/{project_id}/items", content=body).json()
            added, known = added + int(found["added"]), known + int(found["already_there"])
        return added, known

    def queue(self, project_id: int) -> Iterator[dict[str, Any]]:
        """The project's items as they stand in its queue, by number."""
        after: int | None = 0
        while after is not None:
            page = self.get(f"/api/projects/{project_id}/queue", after=after)
            yield from page["items"]
            after = page["last"]

    def set_priorities(self, project_id: int, priority: Mapping[int, float]) -> None:
        """Order the queue anew, all or nothing."""
        self.put(f"/api/projects/{project_id}/priorities", {"priority": dict(priority)})

    def set_predictions(self, project_id: int, predicted: Mapping[int, Sequence[float]]) -> None:
        """Say what a reward model thinks of items, in parts; the same again changes nothing."""
        numbers = list(predicted)
        for start in range(0, len(numbers), _ITEMS_AT_ONCE):
            part = {number: list(predicted[number]) for number in numbers[start : start + _ITEMS_AT_ONCE]}
            self.put(f"/api/projects/{project_id}/predictions", {"predicted": part})

    def next_items(self, project_id: int, count: int = 1) -> tuple[list[Shown], int]:
        """The next items for this person, and how many labels are still wanted from anybody."""
        found = self.get(f"/api/projects/{project_id}/next", count=count)
        items = []
        for one in found["items"]:
            texts = tuple(slot["text"] for slot in one["shown"])
            items.append(Shown(presentation_id=one["id"], prompt=tuple(one["prompt"]), texts=texts, mode=one["mode"]))
        return items, int(found["left"] or 0)

    def answer(self, shown: Shown, kind: str, payload: Mapping[str, Any], *, key: str, time_taken_ms: int) -> None:
        """Send an answer; it is on the disk when this returns. The same key twice is one answer."""
        body = {"key": key, "presentation_id": shown.presentation_id, "kind": kind, "payload": dict(payload)}
        self.post("/api/answers", body | {"time_taken_ms": time_taken_ms})

    def export(self, project_id: int, path: Path, format_: str) -> None:
        """Write the project's annotations to `path` in one of the export formats (JSON lines)."""
        address, params = f"/api/projects/{project_id}/export", {"format": format_, "file": "jsonl"}
        with self._http.stream("GET", address, params=params) as reply:
            if reply.status_code >= 400:
                reply.read()
                raise _refusal(reply, self.url)
            part = path.with_name(f".{path.name}.part")
            with part.open("wb") as file:
                for chunk in reply.iter_bytes():
                    file.write(chunk)
            part.replace(path)

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"X-CSRF-Token": self._csrf} if method != "GET" else {}
        try:
            reply = self._http.request(method, path, headers=headers, **more)
        except httpx.HTTPError as error:
            what = f"the studio does not answer ({type(error).__name__})"
            raise StoreError(what, where=self.url, now="Is `assent studio` running?") from error
        if reply.status_code >= 400:
            raise _refusal(reply, self.url)
        return reply


def _refusal(reply: httpx.Response, url: str) -> StoreError:
    try:
        said = reply.json()["error"]
        return StoreError(str(said["what"]), where=said.get("where") or url, now=said.get("now"))
    except (ValueError, KeyError, TypeError):
        return StoreError(f"the studio refused with status {reply.status_code}", where=f"{url}{reply.url.path}")


def item_to_json(given: NewItem | ImportedItem) -> dict[str, Any]:
    """An item as a line of an upload."""
    item, answers = (given.item, given.answers) if isinstance(given, ImportedItem) else (given, ())
    candidates = [
        {
            "text": one.text, "stop": str(one.stop), "model": one.model, "checkpoint_sha256": one.checkpoint_sha256,
            "sampling": dict(one.sampling),
        }
        for one in item.candidates
    ]  # fmt: skip
    line: dict[str, Any] = {"prompt": conversation_to_json(item.prompt), "candidates": candidates}
    for name in ("overlap", "priority", "control_answer", "serves", "topic", "sensitive", "key", "batch"):
        value = getattr(item, name)
        if value not in (None, "", False):
            line[name] = value
    if item.predicted is not None:
        line["predicted"] = list(item.predicted)
    for answer in answers:
        assert answer.kind is EventKind.MODEL_PREFERENCE
        line["model_preference"] = dict(answer.payload)
    return line


def texts_of(messages: Sequence[Mapping[str, str]]) -> str:
    """The last thing the user said."""
    return next((one["content"] for one in reversed(messages) if one["role"] == "user"), "")
