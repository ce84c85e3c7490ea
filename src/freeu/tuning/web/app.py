"""The web application of a search by votes. It looks as the pages of a study do, and shares their style sheet."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

import freeu
from freeu.errors import FreeUValueError
from freeu.pipelines.pages.rendering import render
from freeu.study.store.faults import StoreError
from freeu.study.web.limits import Limits
from freeu.study.web.security import Guard
from freeu.study.web.site import STATIC as STUDY_STATIC
from freeu.tuning.votes.ballots import DONE, FINAL, Pair
from freeu.tuning.votes.images import PairImages
from freeu.tuning.votes.search import VoteSearch

STATIC = Path(__file__).parent / "static"
LOCAL_HOSTS = ("127.0.0.1", "localhost")
SHOWN_AHEAD = 2
"""Pairs that the browser loads: the one on the page, and the next."""


class VoteForm(BaseModel):
    """A vote as the page sends it."""

    pair: int = Field(ge=0, le=10**9)
    revision: int = Field(ge=0, le=10**9)
    choice: Literal["left", "right", "tie"]
    seconds: float = Field(ge=0.0, le=1e7, allow_inf_nan=False)


class FinishForm(BaseModel):
    """Which stage is to end: a second click must not end the next one."""

    stage: Literal["search", "final"]


def create_app(
    search: VoteSearch,
    images: PairImages,
    texts: tuple[str, ...],
    size: tuple[int, int],
    *,
    when_done: Callable[[], None] = lambda: None,
    host: str = "127.0.0.1",
) -> ASGIApp:
    """The ASGI application of one search, for one person.

    Args:
        search: takes the votes.
        images: makes what is shown.
        texts: prompts by number.
        size: of the images, width and height in pixels.
        when_done: called after the answer that shows the verdict was sent.
        host: where it listens: on this machine alone, requests that name another host are refused.
    """
    app = FastAPI(title="freeu tune", version=freeu.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    if host in LOCAL_HOSTS:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL_HOSTS))
    token = secrets.token_urlsafe(24)
    # In the addresses of images, so that a browser never shows those of an earlier search at the same address.
    once = secrets.token_hex(6)
    assets = hashlib.sha256(b"".join(path.read_bytes() for path in _assets())).hexdigest()[:12]

    def own(x_csrf_token: Annotated[str, Header()] = "", sec_fetch_site: Annotated[str, Header()] = "none") -> None:
        """Only the page itself may vote."""
        if sec_fetch_site not in ("same-origin", "none") or not secrets.compare_digest(x_csrf_token, token):
            raise HTTPException(403)

    def shown(pair: Pair) -> dict[str, Any]:
        files = {side: f"/image/{once}/{pair.id}/{side}" for side in ("left", "right")}
        return {"id": pair.id, "revision": pair.revision, "prompt": texts[pair.prompt], **files}

    def state() -> dict[str, Any]:
        done, total = search.progress
        waiting = search.ahead(SHOWN_AHEAD)
        ready = [images.ready(pair) for pair in waiting]
        return {
            "stage": search.stage,
            "done": done,
            "total": total,
            "undo": search.can_undo,
            "pair": shown(waiting[0]) if waiting else None,
            "ready": bool(ready and ready[0]),
            "next": shown(waiting[1]) if len(waiting) > 1 and ready[1] else None,
            "verdict": search.result().text if search.stage == DONE else "",
            "failure": str(images.failure) if images.failure is not None else "",
        }

    def moved(tasks: BackgroundTasks, counted: bool) -> dict[str, Any]:
        images.wake()
        if search.stage == DONE:
            tasks.add_task(when_done)
        return {"counted": counted, "state": state()}

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        now = state()
        final = now["stage"] == FINAL
        return render("freeu.tuning.web", "vote.html", state=now, token=token, assets=assets, size=size, final=final)

    @app.get("/api/state")
    def current() -> dict[str, Any]:
        return state()

    @app.post("/api/vote", dependencies=[Depends(own)])
    def vote(form: VoteForm, tasks: BackgroundTasks) -> dict[str, Any]:
        try:
            counted = search.vote(form.pair, form.choice, form.seconds, form.revision)
        except FreeUValueError:
            raise HTTPException(404) from None
        return moved(tasks, counted)

    @app.post("/api/undo", dependencies=[Depends(own)])
    def undo(tasks: BackgroundTasks) -> dict[str, Any]:
        return moved(tasks, search.undo())

    @app.post("/api/finish", dependencies=[Depends(own)])
    def finish(form: FinishForm, tasks: BackgroundTasks) -> dict[str, Any]:
        if search.stage == form.stage:
            search.finish()
        return moved(tasks, True)

    @app.get("/image/{run}/{pair}/{side}")
    def image(run: str, pair: int, side: Literal["left", "right"]) -> Response:
        found = {one.id: one for one in search.pairs}.get(pair)
        if run != once or found is None or not images.path(found, side).is_file():
            raise HTTPException(404)
        keep = {"cache-control": "private, max-age=3600"}
        # The name of the file is the same whenever the same settings are shown; the page must not see it.
        return FileResponse(images.path(found, side), media_type="image/png", headers=keep)

    @app.exception_handler(StoreError)
    def unreachable(_request: Request, error: StoreError) -> Response:
        return JSONResponse({"error": str(error)}, 503, {"retry-after": "2"})

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.mount("/study", StaticFiles(directory=STUDY_STATIC), name="study")
    return Guard(app, Limits())


def _assets() -> list[Path]:
    return [*sorted(STATIC.iterdir()), *sorted(STUDY_STATIC.iterdir())]
