"""The web application of a study."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

import freeu
from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.study.plan.folder import StudyFolder
from freeu.study.store.faults import StoreBusyError, StoreError
from freeu.study.store.store import Store
from freeu.study.web import admin, pages, texts, voting
from freeu.study.web import media as media_routes
from freeu.study.web.limits import Limits, Rate
from freeu.study.web.secrets import Secrets
from freeu.study.web.security import Guard
from freeu.study.web.site import STATIC, Site, root_of

_ROOT = re.compile(r"(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")
_LOG = logging.getLogger("freeu.study")


def create_app(
    folder: StudyFolder,
    store: Store,
    secrets: Secrets,
    *,
    root_path: str = "",
    tokens_only: bool = False,
    behind_proxy: bool = False,
    rates: dict[str, Rate] | None = None,
) -> ASGIApp:
    """The ASGI application with its middleware. Any ASGI server can run it, in a single process.

    Args:
        folder: the study.
        store: its votes.
        secrets: its keys.
        root_path: the sub-path under which a reverse proxy serves it, such as "/study"; the proxy may strip it or not.
        tokens_only: admit only raters with a personal link.
        behind_proxy: trust X-Forwarded-For and X-Forwarded-Proto.
        rates: rate limits that replace those of ``limits.RATES``.

    Raises:
        FreeUValueError: an invalid sub-path, or one that begins with the name of a page.
    """
    root = root_path.rstrip("/")
    limits = Limits(rates)
    site = Site(folder, store, secrets, limits, tokens_only=tokens_only)
    app = FastAPI(
        title="freeu study",
        description="A blind preference study: pages for raters and for the administrator.",
        version=freeu.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # such redirects repeat the Host header, which the client chooses
    )
    names = {"static", "openapi.json"}
    for part in (pages, voting, media_routes, admin):
        router = part.routes(site)
        names |= {str(getattr(route, "path", "")).split("/")[1] for route in router.routes} - {""}
        app.include_router(router)
    app.mount("/static", _Kept(StaticFiles(directory=STATIC)), name="static")
    _handle_errors(app, site)
    if not _ROOT.fullmatch(root) or (root and root.split("/")[1] in names):
        raise FreeUValueError(
            f'--root-path must look like "/study" and not begin with the name of a page, got {root_path!r}'
        )
    return Guard(app, limits, root, behind_proxy)


class Told:
    """The log of faults: one line per cause, repeated after ``AGAIN`` seconds.

    Without a handler of its own the logger writes to standard error. No line names a rater, a vote or a request.
    """

    AGAIN = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def warn(self, cause: str) -> None:
        """Log a cause unless that was done a short time ago."""
        now = self._clock()
        with self._lock:
            fresh = now - self._last.get(cause, -math.inf) >= self.AGAIN
            if fresh:
                self._last[cause] = now
        if fresh:
            _LOG.error("freeu study: %s", cause)


class _Kept:
    """Cache headers for style sheet and script, whose URLs change with their content."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                message["headers"] = [*message["headers"], (b"cache-control", b"public, max-age=31536000, immutable")]
            await send(message)

        await self._app(scope, receive, answer)


def _handle_errors(app: FastAPI, site: Site) -> None:
    """Error pages in the rater's language, or JSON for the script. They never repeat the request."""

    def respond(request: Request, status: int, headers: Any = None) -> Response:
        path = request.scope["path"].removeprefix(root_of(request))
        if path.startswith("/api/"):
            return JSONResponse({"error": texts.TEXTS["en"].get(f"error_{status}", "error")}, status, headers)
        try:
            visit = site.visit(request)
        except HTTPException as error:
            return Response("too many requests: wait a moment", 429, error.headers, "text/plain")
        except StoreError as error:
            return faulty(request, error)
        answer = site.page(request, visit, "error.html", status, problem=status)
        answer.headers.update(headers or {})
        return answer

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 429:
            return Response("too many requests: wait a moment", 429, error.headers, "text/plain")
        return respond(request, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        return respond(request, 422)

    told = Told()

    @app.exception_handler(StoreError)
    def faulty(request: Request, error: StoreError) -> Response:
        if not isinstance(error, StoreBusyError):
            told.warn(str(error))
        return Response(
            "the server cannot reach its database: try again", 503, {"retry-after": "2"}, "text/plain; charset=utf-8"
        )

    @app.exception_handler(OSError)
    @app.exception_handler(FreeURuntimeError)
    def unreachable(request: Request, error: Exception) -> Response:
        """A file of the study that cannot be read or written."""
        told.warn(f"cannot reach a file of the study: {error}")
        return Response("the server cannot reach its disk: try again", 503, {"retry-after": "2"}, "text/plain")
