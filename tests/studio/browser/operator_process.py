"""A studio with simulated work behind it, in a process of its own: `operator_process.py FOLDER PORT`."""

import sys
from functools import partial
from pathlib import Path

from assent.feedback.store.store import FeedbackStore
from assent.studio.server import bind, serve
from assent.studio.settings import StudioSettings


def main() -> None:
    """Serve the folder's store and runs until a signal comes."""
    folder = Path(sys.argv[1])
    settings = StudioSettings(port=int(sys.argv[2]), runs=folder / "runs", requests_per_minute=100_000)
    with FeedbackStore.open(str(folder / "studio.db")) as store:
        serve(store, settings, bind(settings), say=partial(print, flush=True))


if __name__ == "__main__":
    main()
