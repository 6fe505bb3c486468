"""Who may ask the inspector: this machine's user, with the token, from its own page.

The token travels in a link that works once; the answer to it is a cookie that no script reads and no other site sends. A
name that was made to point here (DNS rebinding) fails at the host, a page of another origin at the origin, and whoever
never had the link at the cookie. Plain ASGI, below every route.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
SendMessage = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, SendMessage], Awaitable[None]]
Header = tuple[bytes, bytes]

# A browser sends a cookie to every port of this machine: each inspector has a name of its own behind this.
COOKIE = "power_loop_inspector"
HOSTS = ("127.0.0.1", "localhost", "[::1]")

# Nothing but this page's own files runs, is shown, is asked for or frames it.
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
     b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)  # fmt: skip


class Guard:
    """Lets requests through that carry the cookie and come from this page. ``token``: of the link, for its first visit."""

    def __init__(self, app: App, token: str, *, writes: bool = False) -> None:
        self._app, self._methods = app, ("GET", "HEAD", "POST") if writes else ("GET", "HEAD")
        self._token: str | None = token
        self._cookie, self._secret = f"{COOKIE}_{secrets.token_hex(4)}", secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: SendMessage) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            await _answer(send, *refusal)
        elif self._token is not None and _same(_query(scope), self._token):
            # The token leaves the address bar (and the history) with this answer, and opens nothing any more.
            self._token, cookie = None, f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 303, "", (b"location", b"/"), (b"set-cookie", cookie.encode("latin-1")))
        elif not _same(_cookie(headers.get("cookie", ""), self._cookie), self._secret):
            used = "It was used already: start the inspector again for another.\n" if self._token is None else ""
            await _answer(send, 401, f"Open the link that `power-loop inspect` printed; it works once. {used}\n")
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, method: str, headers: Mapping[str, str]) -> tuple[int, str, *tuple[Header, ...]] | None:
        host = headers.get("host", "")
        if host.rsplit(":", 1)[0] not in HOSTS:
            return 421, "The inspector answers on 127.0.0.1 only.\n"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Another site may not ask the inspector.\n"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return 403, "Another site may not ask the inspector.\n"
        if method not in self._methods:
            allowed = b"allow", ", ".join(self._methods).encode()
            return 405, "The inspector only reads; start it with --allow-actions to answer approvals and questions.\n", allowed
        # A form of another site can send neither this type nor this header.
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return 415, "Send JSON.\n"
        return None


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())


def _query(scope: Scope) -> str:
    if scope["path"] != "/":
        return ""
    return parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]


def _cookie(header: str, name: str) -> str:
    """The value of our cookie; what other programs on this machine left beside it may be malformed."""
    given = (part.strip().partition("=") for part in header.split(";"))
    return next((value for key, _, value in given if key == name), "")


def _with_headers(send: SendMessage) -> SendMessage:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return answer


async def _answer(send: SendMessage, status: int, text: str, *more: Header) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
