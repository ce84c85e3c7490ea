"""The pages around voting: start page, personal links, privacy."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from freeu.study.store import codes
from freeu.study.web.site import Site, Visit, redirect, root_of

MOST_LETTERS = 40
SECONDS_A_TASK = 6.0

Csrf = Annotated[str, Form(max_length=200, description="The token of the page's own form.")]
Text = Annotated[str, Form(max_length=400)]

TEXT: dict[str, Any] = {"content": {"text/html": {}, "text/plain": {}}}
_ERRORS = {
    303: "Redirect.",
    400: "The request cannot be read.",
    401: "The session has no rater.",
    403: "The form token is invalid or expired.",
    404: "Not found for this session.",
    409: "Every slot is taken.",
    413: "The request is too large.",
    422: "A field is missing or invalid.",
    429: "Too many requests.",
    503: "The database is busy.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses of a page for the OpenAPI document, besides the page itself."""
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": _ERRORS[status], **TEXT} for status in (*statuses, 413, 429, 503)
    }
    if 303 in statuses:
        found[303] = {"description": _ERRORS[303]}
    return found


def nickname_of(text: str) -> str | None:
    """A nickname without control characters and surrounding spaces, of at most 40 letters; None if nothing is left."""
    kept = "".join(letter for letter in text if unicodedata.category(letter)[0] != "C")
    return " ".join(kept.split())[:MOST_LETTERS].strip() or None


def routes(site: Site) -> APIRouter:
    """The routes of these pages."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse, responses=documented(303), summary="Start page")
    def first(request: Request) -> Response:
        visit = site.visit(request)
        if visit.taking_part:
            return redirect(request, "/vote")
        if site.tokens_only and visit.rater is None:
            return site.page(request, visit, "resume.html", wrong=False, invited_only=True)
        tasks = site.store.tasks(visit.rater) if visit.rater else site.plan.slots[0]
        minutes = round(len(tasks) * SECONDS_A_TASK / 60)
        video = any(item.media == "video" for item in site.plan.items)
        return site.page(request, visit, "first.html", total=len(tasks), minutes=minutes, video=video)

    @router.post(
        "/start", response_class=HTMLResponse, responses=documented(303, 403, 409, 422), summary="Start as a rater"
    )
    def start(request: Request, consent: Text = "", nickname: Text = "", csrf: Csrf = "") -> Response:
        visit = site.visit(request)
        site.check(request, visit.value, csrf)
        if visit.taking_part:
            return redirect(request, "/vote")
        if consent != "yes":
            raise HTTPException(422)
        site.limit("start", request.state.caller)
        if visit.rater is not None:
            site.store.join(visit.rater, visit.language, nickname_of(nickname))
            return redirect(request, "/vote")
        if site.tokens_only:
            raise HTTPException(403)
        claimed = site.store.claim_slot(visit.language, nickname_of(nickname))
        if claimed is None:
            return site.page(request, visit, "full.html", 409)
        return _enter(request, claimed[1], "/vote")

    @router.get("/resume", response_class=HTMLResponse, responses=documented(), summary="Enter a personal code")
    def resume(request: Request) -> Response:
        return site.page(request, site.visit(request), "resume.html", at="/resume", wrong=False, invited_only=False)

    @router.post(
        "/resume", response_class=HTMLResponse, responses=documented(303, 403, 422), summary="Continue with a code"
    )
    def resumed(request: Request, code: Text = "", csrf: Csrf = "") -> Response:
        visit = site.visit(request)
        site.check(request, visit.value, csrf)
        site.limit("resume", request.state.caller)
        known = codes.normalized(code)
        found = site.store.find(known) if known else None
        if known is None or found is None:
            return site.page(
                request, visit, "resume.html", 422, at="/resume", wrong=True, invited_only=site.tokens_only
            )
        return _enter(request, known, "/vote" if found[0].joined else "/")

    @router.get("/link", response_class=HTMLResponse, responses=documented(303), summary="Personal link")
    def link(request: Request) -> Response:
        visit = site.visit(request)
        if not visit.taking_part:
            return redirect(request, "/")
        address = f"{request.url.scheme}://{request.url.netloc}{root_of(request)}/resume#{visit.code}"
        return site.page(request, visit, "link.html", at="/link", code=visit.code, address=address)

    @router.get("/privacy", response_class=HTMLResponse, responses=documented(), summary="What is stored")
    def privacy(request: Request) -> Response:
        return site.page(request, site.visit(request), "privacy.html", at="/privacy")

    @router.post(
        "/forget", response_class=HTMLResponse, responses=documented(401, 403, 422), summary="Delete one's data"
    )
    def forget(request: Request, csrf: Csrf = "") -> Response:
        visit = site.visit(request)
        site.check(request, visit.value, csrf)
        if visit.rater is None:
            raise HTTPException(401)
        site.store.forget(visit.rater)
        visitor = Visit(visit.value, False, visit.language)
        answer = site.page(request, visitor, "forgotten.html")
        site.leave(request, answer)
        return answer

    def _enter(request: Request, code: str, path: str) -> RedirectResponse:
        answer = redirect(request, path)
        site.remember(request, answer, f"r{code}")
        return answer

    return router
