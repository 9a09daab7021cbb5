"""The studio's application: every route with its guard, behind one shield."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from starlette.responses import JSONResponse, Response

from assent import __version__
from assent.feedback.store.store import FeedbackStore
from assent.studio import error_page
from assent.studio.accounts_api import accounts_router
from assent.studio.answers import DurableEvents, add_answer_route
from assent.studio.chat_api import chat_router
from assent.studio.labeling_api import labeling_router
from assent.studio.model_opinions import ModelOpinions
from assent.studio.operator_api import operator_routers
from assent.studio.pages import pages_router
from assent.studio.project_api import project_router
from assent.studio.queue_api import queue_router
from assent.studio.security import ADMIN, Guard, check_every_route
from assent.studio.settings import StudioSettings
from assent.studio.shield import Shield


def create_app(store: FeedbackStore, settings: StudioSettings) -> FastAPI:
    """The application over an open store; who opened the store closes it."""
    app = FastAPI(
        title="Assent studio", version=__version__, openapi_url=None, docs_url=None, redoc_url=None,
        redirect_slashes=False, telemetry={"tracing": False, "metrics": False, "logs": False},
    )  # fmt: skip
    app.state.guard = Guard(store, settings)
    error_page.install(app)
    durable, opinions = DurableEvents(store), ModelOpinions(store)
    add_answer_route(app.router, store, durable, opinions)
    routers = [
        labeling_router(store, durable), accounts_router(store), project_router(store, opinions), pages_router(store),
        queue_router(store), chat_router(store, settings), *operator_routers(store, settings),
    ]  # fmt: skip
    for router in routers:
        app.include_router(router)

    @app.get("/api/openapi.json", include_in_schema=False, dependencies=[Depends(ADMIN)])
    def description() -> Response:
        """The API in words for machines."""
        return JSONResponse(app.openapi())

    check_every_route(app)
    app.add_middleware(error_page.ErrorPages)
    app.add_middleware(Shield, settings=settings)
    return app
