"""A studio in a process of its own, to be killed and started again: `serve_process.py STORE PORT [ENDPOINTS]`.

ENDPOINTS is JSON: an OpenAI-compatible address by name.
"""

import json
import sys
from functools import partial

from assent.feedback.store.store import FeedbackStore
from assent.studio.server import bind, serve
from assent.studio.settings import EndpointSettings, StudioSettings


def main() -> None:
    """Serve until a signal comes."""
    urls = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    endpoints = {name: EndpointSettings(url=url, model="tiny") for name, url in urls.items()}
    settings = StudioSettings(port=int(sys.argv[2]), requests_per_minute=100_000, endpoints=endpoints)
    with FeedbackStore.open(sys.argv[1]) as store:
        serve(store, settings, bind(settings), say=partial(print, flush=True))


if __name__ == "__main__":
    main()
