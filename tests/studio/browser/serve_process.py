"""A studio in a process of its own, to be killed and started again: `serve_process.py STORE PORT`."""

import sys
from functools import partial

from assent.feedback.store import FeedbackStore
from assent.studio.server import bind, serve
from assent.studio.settings import StudioSettings


def main() -> None:
    """Serve until a signal comes."""
    settings = StudioSettings(port=int(sys.argv[2]), requests_per_minute=100_000)
    with FeedbackStore.open(sys.argv[1]) as store:
        serve(store, settings, bind(settings), say=partial(print, flush=True))


if __name__ == "__main__":
    main()
