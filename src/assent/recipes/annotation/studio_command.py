"""`assent studio`: open the store, serve the site. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from assent.config import parse
from assent.feedback.store.store import FeedbackStore
from assent.studio.server import bind, serve
from assent.studio.settings import StudioSettings

DEFAULT_STORE = "studio.db"


def run_studio(
    *,
    store: str = DEFAULT_STORE,
    host: str | None = None,
    port: int | None = None,
    runs: str | None = None,
    settings_file: str | None = None,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Serve the studio over the `store` (a path or URL) until it is interrupted.

    `host`, `port` and `runs` win over the settings. Raises ConfigError (settings, port) and StoreError (the store
    cannot be opened, or another process has it).
    """
    settings = parse(StudioSettings, file=Path(settings_file) if settings_file else None, overrides=overrides)
    given = {"host": host, "port": port, "runs": Path(runs) if runs else None}
    chosen = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    door = bind(chosen)
    try:
        with FeedbackStore.open(store) as opened:
            serve(opened, chosen, door, say=say)
    finally:
        door.listener.close()
