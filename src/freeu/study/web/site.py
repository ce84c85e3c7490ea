"""What every page needs: session, language, form tokens, and rendering of templates."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from freeu.study.plan.folder import StudyFolder
from freeu.study.store import codes
from freeu.study.store.progress import RaterProgress
from freeu.study.store.records import Rater
from freeu.study.store.store import Store
from freeu.study.web import texts
from freeu.study.web.limits import Limits
from freeu.study.web.secrets import Secrets

STATIC = Path(__file__).parent / "static"
YEAR = 365 * 24 * 3600
LANGUAGE_COOKIE = "freeu-language"
_VISIT = re.compile(r"v[0-9a-f]{32}")


@dataclass(frozen=True)
class Visit:
    """The session of a request.

    Args:
        value: of the cookie: "v" and a random number for a visitor, or "r" and the personal code for a rater.
        fresh: whether the browser does not have this cookie yet.
        language: of the response.
        rater: a rater who has started or has a reserved slot, or None.
        progress: of the rater.
    """

    value: str
    fresh: bool
    language: str
    rater: Rater | None = None
    progress: RaterProgress | None = None

    @property
    def code(self) -> str:
        """The personal code of the rater."""
        return self.value[1:]

    @property
    def taking_part(self) -> bool:
        """Whether there is a rater who has given consent."""
        return self.rater is not None and self.rater.joined is not None


class Site:
    """A study on the web.

    Args:
        folder: plan and media.
        store: the votes.
        keys: for signatures and the administrator's password.
        limits: rate limits.
        tokens_only: only raters with a personal link are admitted.
    """

    def __init__(
        self, folder: StudyFolder, store: Store, keys: Secrets, limits: Limits, *, tokens_only: bool = False
    ) -> None:
        self.folder, self.store, self.keys, self.limits = folder, store, keys, limits
        self.tokens_only = tokens_only
        self.plan = folder.plan
        # Cookies ignore ports: studies on one host need different names.
        self.cookie = f"freeu-{self.plan.sha256[:10]}"
        self._templates = Environment(
            loader=PackageLoader("freeu.study.web"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    @cached_property
    def assets(self) -> str:
        """A version of the style sheet and the script for their URLs, so that browsers can cache them."""
        data = b"".join(path.read_bytes() for path in sorted(STATIC.iterdir()))
        return hashlib.sha256(data).hexdigest()[:12]

    def visit(self, request: Request) -> Visit:
        """The session of a request.

        Raises:
            HTTPException: 429, too many requests in one session.
        """
        value = request.cookies.get(self.cookie, "")
        code = codes.normalized(value[1:]) if value.startswith("r") else None
        found = self.store.find(code) if code else None
        if found:
            self.limit("session", found[0].id)
            return Visit(f"r{code}", False, self._language(request, found[0]), *found)
        if _VISIT.fullmatch(value):
            self.limit("session", value)
            return Visit(value, False, self._language(request))
        return Visit(f"v{secrets.token_hex(16)}", True, self._language(request))

    def limit(self, purpose: str, who: str) -> None:
        """Apply a rate limit.

        Raises:
            HTTPException: 429.
        """
        wait = self.limits.wait(purpose, who)
        if wait:
            raise HTTPException(429, headers={"retry-after": str(max(1, math.ceil(wait)))})

    def csrf(self, visit: Visit) -> str:
        """The CSRF token for the forms of this session."""
        return self.keys.sign("csrf", visit.value)

    def check(self, request: Request, session: str, token: str, purpose: str = "csrf") -> None:
        """Check that a form was sent from our own page in the same session.

        Args:
            request: its Sec-Fetch-Site header, if present, must not name another site.
            session: value of the cookie.
            token: of the form; may be in the header X-CSRF-Token instead.
            purpose: for which the token was signed.

        Raises:
            HTTPException: 403.
        """
        token = token or request.headers.get("x-csrf-token", "")
        own = request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        if not own or not self.keys.signed(purpose, session, token):
            raise HTTPException(403)

    def page(
        self, request: Request, visit: Visit, template: str, status: int = 200, *, at: str = "/", **values: Any
    ) -> HTMLResponse:
        """A page for raters.

        Args:
            at: path of the page, for the language links. Never the path of the request, which can be "//other.site".
        """
        html = self.render(
            request,
            template,
            visit.language,
            path=root_of(request) + at,
            languages=[(name, texts.TAGS[name], texts.NAMES[name]) for name in self.plan.languages],
            rater=visit.rater if visit.taking_part else None,
            csrf=self.csrf(visit),
            **values,
        )
        answer = HTMLResponse(html, status)
        if visit.fresh:
            self.remember(request, answer, visit.value)
        if request.query_params.get("lang") == visit.language:
            self._set(request, answer, LANGUAGE_COOKIE, visit.language, YEAR)
        return answer

    def render(self, request: Request, template: str, language: str = "en", **values: Any) -> str:
        """Render a template with the texts of a language."""
        return self._templates.get_template(template).render(
            root=root_of(request),
            assets=self.assets,
            plan=self.plan,
            language=language,
            tag=texts.TAGS[language],
            t=texts.TEXTS[language],
            **values,
        )

    def remember(self, request: Request, answer: Response, value: str) -> None:
        """Set the session cookie: for a visitor until the browser is closed, for a rater for a year."""
        self._set(request, answer, self.cookie, value, YEAR if value.startswith("r") else None)

    def leave(self, request: Request, answer: Response) -> None:
        """Delete the session cookie."""
        answer.delete_cookie(self.cookie, path=root_of(request) or "/")

    def _set(self, request: Request, answer: Response, name: str, value: str, age: int | None) -> None:
        secure = request.url.scheme == "https"
        path = root_of(request) or "/"
        answer.set_cookie(name, value, max_age=age, path=path, httponly=True, samesite="lax", secure=secure)

    def _language(self, request: Request, rater: Rater | None = None) -> str:
        preferences = (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE), rater and rater.language)
        for language in preferences:
            if language in self.plan.languages:
                return str(language)
        return texts.negotiated(request.headers.get("accept-language", ""), self.plan.languages)


def root_of(request: Request) -> str:
    """The sub-path under which the study is served: "" or a path such as "/study"."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def redirect(request: Request, path: str) -> RedirectResponse:
    """A redirect to another page of the study."""
    return RedirectResponse(root_of(request) + path, 303)
