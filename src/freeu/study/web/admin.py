"""The administrator's pages behind a password: progress, report, exports, personal links."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from freeu.errors import FreeUError
from freeu.study.results.live import LiveResults
from freeu.study.results.overview import overview
from freeu.study.web.pages import Csrf, documented
from freeu.study.web.secrets import MOST_LETTERS
from freeu.study.web.site import Site, redirect, root_of

SESSION_SECONDS = 12 * 3600
MOST_LINKS = 1_000
# The report is a single file with inline style; the sandbox isolates it from our cookies and pages.
REPORT_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
TYPES = {"csv": "text/csv", "json": "application/json", "parquet": "application/vnd.apache.parquet"}


class Sessions:
    """Signed session cookies of the administrator. Sessions that logged out are remembered until they expire."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ended: dict[str, int] = {}
        self._lock = threading.Lock()
        self.cookie = f"{site.cookie}-admin"

    def begin(self) -> str:
        """The value of a new cookie."""
        text = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_hex(16)}"
        return f"{text}.{self._sign(text)}"

    def valid(self, value: str) -> bool:
        """Whether the cookie is genuine, has not expired and has not logged out."""
        text, _, signature = value.rpartition(".")
        expiry = text.partition(".")[0]
        if not self._site.keys.signed("admin", text, signature):
            return False
        with self._lock:
            return int(expiry) > time.time() and text not in self._ended

    def end(self, value: str) -> None:
        """Log out: the cookie is invalid from now on, also in other browsers."""
        text = value.rpartition(".")[0]
        with self._lock:
            self._ended = {one: end for one, end in self._ended.items() if end > time.time()}
            self._ended[text] = int(text.partition(".")[0])

    def _sign(self, text: str) -> str:
        return self._site.keys.sign("admin", text)


def routes(site: Site) -> APIRouter:
    """The routes of the administrator."""
    router = APIRouter(prefix="/admin")
    sessions = Sessions(site)
    live = LiveResults(site.store, lambda item: site.folder.media(item.id))

    @router.get("/login", response_class=HTMLResponse, responses=documented(303), summary="Log in")
    def login(request: Request) -> Response:
        if sessions.valid(request.cookies.get(sessions.cookie, "")):
            return redirect(request, "/admin")
        return _login_page(request, 200, wrong=False)

    @router.post("/login", response_class=HTMLResponse, responses=documented(303, 403, 422), summary="Log in by form")
    def logged_in(
        request: Request, password: Annotated[str, Form(max_length=MOST_LETTERS)] = "", csrf: Csrf = ""
    ) -> Response:
        site.check(request, site.visit(request).value, csrf, "login")
        site.limit("login", request.state.caller)
        site.limit("logins", "")
        if not site.keys.is_password(password):
            return _login_page(request, 403, wrong=True)
        answer = redirect(request, "/admin")
        answer.set_cookie(
            sessions.cookie,
            sessions.begin(),
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
        answer.delete_cookie(sessions.cookie, path=f"{root_of(request)}/admin")
        return answer

    @router.get("", response_class=HTMLResponse, responses=documented(303), summary="Progress")
    def progress(request: Request) -> Response:
        session = _session(request)
        return _page(request, session, "admin.html", seen=overview(site.store)) if session else _to_login(request)

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

    @router.get("/export/{name}", response_class=Response, responses=documented(303, 404), summary="Votes and results")
    def export(request: Request, name: str) -> Response:
        if not _session(request):
            return _to_login(request)
        data = live.export(name)
        if data is None:
            raise HTTPException(404)
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(data, 200, headers, TYPES[name.rpartition(".")[2]])

    def _session(request: Request) -> str:
        value = request.cookies.get(sessions.cookie, "")
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
