"""The administrator's pages behind a password: progress, report, exports, personal links."""

from __future__ import annotations

import math
import secrets
import threading
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from freeu.errors import FreeUError
from freeu.study.results.live import LiveResults, offered
from freeu.study.results.overview import overview
from freeu.study.web.limits import site_of
from freeu.study.web.pages import Csrf, documented
from freeu.study.web.secrets import MOST_LETTERS
from freeu.study.web.sessions import Sessions
from freeu.study.web.site import YEAR, Site, redirect, root_of

MOST_LINKS = 1_000
MOST_CHECKS = 8
"""Passwords of unknown browsers that are checked or wait for it at once."""
# The report is a single file with inline style; the sandbox isolates it from our cookies and pages.
REPORT_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
TYPES = {
    "csv": "text/csv",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "zip": "application/zip",
}
ARCHIVE = "study.zip"
"""Votes and results of one moment: files that are fetched one after the other differ while raters vote."""


class Doorkeeper:
    """Limits the guesses of the password, without shutting out the administrator while others guess.

    A browser that has logged in before has a signed cookie and limits of its own. Other callers share a limit of wrong
    guesses; where it is used up, each has one try at a time.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._places = threading.BoundedSemaphore(MOST_CHECKS)
        self.cookie = f"{site.cookie}-known"

    def is_password(self, request: Request, password: str) -> bool:
        """Whether this is the password.

        Raises:
            HTTPException: 429, too many guesses.
        """
        site, caller = self._site, site_of(request.state.caller)
        name = self._known(request)
        if name:
            site.limit("login", name)
            return site.keys.is_password(password)
        wait = site.limits.until_full("login", caller) if site.limits.empty("guesses", "") else 0.0
        if wait:
            raise HTTPException(429, headers={"retry-after": str(math.ceil(wait))})
        site.limit("login", caller)
        # Each check takes the processor for 0.1 s: a queue of them must not take the threads of the other pages.
        if not self._places.acquire(blocking=False):
            raise HTTPException(429, headers={"retry-after": "1"})
        try:
            right = site.keys.is_password(password)
        finally:
            self._places.release()
        if not right:
            site.limits.wait("guesses", "")
        return right

    def remember(self, request: Request) -> str:
        """The cookie of a browser that has logged in."""
        name = self._known(request) or secrets.token_hex(16)
        return f"{name}.{self._site.keys.sign('known', name)}"

    def _known(self, request: Request) -> str:
        name, _, signature = request.cookies.get(self.cookie, "").partition(".")
        return name if name and self._site.keys.signed("known", name, signature) else ""


def routes(site: Site) -> APIRouter:
    """The routes of the administrator."""
    router = APIRouter(prefix="/admin")
    sessions, name = Sessions(site.folder.path, site.keys), f"{site.cookie}-admin"
    door = Doorkeeper(site)
    live = LiveResults(site.store, lambda item: site.folder.media(item.id))

    @router.get("/login", response_class=HTMLResponse, responses=documented(303), summary="Log in")
    def login(request: Request) -> Response:
        if sessions.valid(request.cookies.get(name, "")):
            return redirect(request, "/admin")
        return _login_page(request, 200, wrong=False)

    @router.post("/login", response_class=HTMLResponse, responses=documented(303, 403, 422), summary="Log in by form")
    def logged_in(
        request: Request, password: Annotated[str, Form(max_length=MOST_LETTERS)] = "", csrf: Csrf = ""
    ) -> Response:
        site.check(request, site.visit(request).value, csrf, "login")
        if not door.is_password(request, password):
            return _login_page(request, 403, wrong=True)
        answer = redirect(request, "/admin")
        for cookie, value, age in ((name, sessions.begin(), None), (door.cookie, door.remember(request), YEAR)):
            answer.set_cookie(
                cookie,
                value,
                max_age=age,
                path=f"{root_of(request)}/admin",
                httponly=True,
                samesite="strict",
                secure=request.url.scheme == "https",
            )
        return answer

    @router.post("/logout", response_class=HTMLResponse, responses=documented(303, 403, 422), summary="Log out")
    def logout(request: Request, csrf: Csrf = "") -> Response:
        session = _session(request)
        if session:
            site.check(request, session, csrf, "admin-csrf")
            sessions.end(session)
        answer = redirect(request, "/admin/login")
        answer.delete_cookie(name, path=f"{root_of(request)}/admin")
        return answer

    @router.get("", response_class=HTMLResponse, responses=documented(303), summary="Progress")
    def progress(request: Request) -> Response:
        session = _session(request)
        if not session:
            return _to_login(request)
        return _page(request, session, "admin.html", seen=overview(site.store), exports=(ARCHIVE, *offered()))

    @router.post(
        "/links", response_class=HTMLResponse, responses=documented(303, 403, 422), summary="Create personal links"
    )
    def links(request: Request, count: Annotated[int, Form(ge=1, le=MOST_LINKS)], csrf: Csrf = "") -> Response:
        session = _session(request)
        if not session:
            return _to_login(request)
        site.check(request, session, csrf, "admin-csrf")
        base = f"{request.url.scheme}://{request.url.netloc}{root_of(request)}/resume#"
        try:
            codes = site.store.invite(count)
        except FreeUError as error:
            return _page(request, session, "admin_links.html", links=[], problem=str(error))
        return _page(request, session, "admin_links.html", links=[base + code for code in codes], problem="")

    @router.get("/report", response_class=HTMLResponse, responses=documented(303), summary="Report")
    def report(request: Request) -> Response:
        if not _session(request):
            return _to_login(request)
        return HTMLResponse(live.report(), headers={"content-security-policy": REPORT_POLICY})

    @router.get("/export/{file}", response_class=Response, responses=documented(303, 404), summary="Votes and results")
    def export(request: Request, file: str) -> Response:
        if not _session(request):
            return _to_login(request)
        data = live.archive() if file == ARCHIVE else live.export(file)
        if data is None:
            raise HTTPException(404)
        headers = {"content-disposition": f'attachment; filename="{file}"'}
        return Response(data, 200, headers, TYPES[file.rpartition(".")[2]])

    def _session(request: Request) -> str:
        value = request.cookies.get(name, "")
        site.limit("admin", request.state.caller)
        return value if sessions.valid(value) else ""

    def _to_login(request: Request) -> Response:
        return redirect(request, "/admin/login")

    def _login_page(request: Request, status: int, *, wrong: bool) -> Response:
        visit = site.visit(request)
        token = site.keys.sign("login", visit.value)
        html = site.render(request, "admin_login.html", csrf=token, wrong=wrong, logged_in=False)
        answer = HTMLResponse(html, status)
        if visit.fresh:
            site.remember(request, answer, visit.value)
        return answer

    def _page(request: Request, session: str, template: str, status: int = 200, **values: Any) -> Response:
        token = site.keys.sign("admin-csrf", session)
        return HTMLResponse(site.render(request, template, csrf=token, logged_in=True, **values), status)

    return router
