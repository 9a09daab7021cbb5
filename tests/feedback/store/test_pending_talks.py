"""What of a talk is no event yet is kept on either database, one's own only, and forgotten when nobody comes back."""

from __future__ import annotations

import pytest
from feedback.store_fixtures import Clock, annotators, clock, postgres_server, ranking_project, store, store_url

from assent.feedback.refusals import NotFound
from assent.feedback.store.pending_talks import KEPT_S
from assent.feedback.store.store import FeedbackStore

__all__ = ["clock", "postgres_server", "store", "store_url"]


def test_the_latest_state_is_kept_with_whatever_characters_a_model_writes(store: FeedbackStore, clock: Clock) -> None:
    project = ranking_project(store, count=2)
    ann, bob = annotators(store, project, 2)
    shown, other = store.lease(project, ann)[0], store.lease(project, bob)[0]
    assert store.pending_talk(shown.id, ann) is None
    for text in ("first", "nul \0, half a pair \ud800, \u202e, 'quotes' ü"):
        state = {"annotated": [1, 2], "pending": {"sides": [{"text": text, "sampling": {"seed": 2**31, "t": 0.8}}]}}
        store.save_pending_talk(shown.id, ann, state)
        assert store.pending_talk(shown.id, ann) == state
    assert store.pending_talk(shown.id, bob) is None and store.pending_talk(other.id, bob) is None
    for stranger, presentation in ((bob, shown.id), (ann, "no such presentation")):
        with pytest.raises(NotFound):
            store.save_pending_talk(presentation, stranger, {})
    assert store.pending_talk(shown.id, ann) == state
    clock.now += KEPT_S + 1
    store.save_pending_talk(other.id, bob, {"annotated": []})
    assert store.pending_talk(shown.id, ann) is None and store.pending_talk(other.id, bob) == {"annotated": []}
