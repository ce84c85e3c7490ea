"""Middleware: headers of the reverse proxy, rate and size limits, and security headers of every response."""

from __future__ import annotations

import asyncio
import ipaddress
import math

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from freeu.study.web.limits import Limits, caller

MOST_BYTES = 16 * 1024
"""Maximum size of a request body; the largest form of the study has about 300 bytes."""
BODY_SECONDS = 20.0

POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "frame-src 'none'; connect-src 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Defaults for headers that a response does not set itself."""


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: the application.
        limits: rate limits, by address.
        root_path: the sub-path under which a reverse proxy serves the study, such as "/study". The proxy may strip it
            or not.
        behind_proxy: trust the last entry of X-Forwarded-For, which the nearest proxy adds, and X-Forwarded-Proto.
            Without a proxy, any client could set them.
    """

    def __init__(self, app: ASGIApp, limits: Limits, root_path: str = "", behind_proxy: bool = False) -> None:
        self._app, self._limits = app, limits
        self._root, self._proxied = root_path, behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = self._original(scope)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        wait = self._limits.wait("address", scope["state"]["caller"])
        if wait:
            await too_many(wait)(scope, receive, answer)
            return
        body = await _body(scope, receive)
        if isinstance(body, int):
            reason = {
                413: "the request is too large",
                408: "the request is too slow",
                400: "the request is incomplete or has two lengths",
            }
            await PlainTextResponse(reason[body], body, {"connection": "close"})(scope, receive, answer)
            return
        await self._app(scope, _replay(body, receive), answer)

    def _original(self, scope: Scope) -> Scope:
        """The request as the browser sent it."""
        scope = dict(scope)
        client = scope.get("client")
        address = client[0] if client else ""
        if self._proxied:
            headers = Headers(scope=scope)
            last = ",".join(headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
            address = last if _is_address(last) else address
            if headers.get("x-forwarded-proto", "") in ("http", "https"):
                scope["scheme"] = headers["x-forwarded-proto"]
        scope["state"] = {**scope.get("state", {}), "caller": caller(address)}
        if self._root:
            path = scope["path"]
            if path != self._root and not path.startswith(self._root + "/"):
                scope["path"] = self._root + path
            scope["root_path"] = self._root
        return scope


def too_many(wait: float) -> PlainTextResponse:
    """The response to a client over its rate limit."""
    headers = {"retry-after": str(max(1, math.ceil(wait)))}
    return PlainTextResponse("too many requests: wait a moment", 429, headers)


async def _body(scope: Scope, receive: Receive) -> bytes | int:
    """The whole body, or the HTTP status of the refusal."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers and "content-length" in headers:
        # A proxy that believes the other one sees another end of the request (RFC 9112, 6.1).
        return 400
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or len(length) > 12 or int(length) > MOST_BYTES:
        return 413
    try:
        return await asyncio.wait_for(_gather(receive), BODY_SECONDS)
    except asyncio.TimeoutError:
        return 408


async def _gather(receive: Receive) -> bytes | int:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return 400
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            return 413
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
