"""Access control: only the server's own page, with its cookie, may send requests."""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine, which no page of another machine can have."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Security policy of the page: it may load only files of this server."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

STRANGER = (
    "this browser is not known here; open the newest address that jaxnst printed in "
    "its terminal"
)
OPENED = (
    "this address was opened before, and each address opens one browser; open the "
    "newest address that jaxnst printed in its terminal, or restart jaxnst there"
)
"""Answers to a browser without the cookie."""

MOST_JSON = 10**6
"""Most bytes of a request's body, unless it is a picture."""

random_text = partial(secrets.token_urlsafe, 32)
"""Makes a text of 256 random bits."""


@dataclass
class Access:
    """Where a server listens, and its secrets: a token for one use, and a cookie.

    Other users of the machine can see an address, because `--open` passes it to the
    browser as an argument. Only the browser sees the cookie.

    Attributes:
        host: Address that the server listens on.
        port: Port that the server listens on.
        token: The token of the next address.
        secret: The value of the cookie.
        on_use: Called after an address was opened; `token` is then a new token.
    """

    host: str
    port: int
    token: str = field(default_factory=random_text)
    secret: str = field(default_factory=random_text)
    on_use: Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        """The address to open in one browser on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Name of the cookie, with the port: browsers send a cookie to all ports."""
        return f"jaxnst-{self.port}"

    def spend(self, token: str) -> bool:
        """Whether the token is right; if so, a new one replaces it."""
        if not _same(token, self.token):
            return False
        self.token = random_text()
        self.on_use()
        return True


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


@dataclass(frozen=True)
class Guard:
    """Middleware: checks the host, the origin and the cookie of every request.

    The host shows that no foreign name points here. The origin shows that no other page
    sent the request. The cookie shows that the page was opened from the terminal.
    """

    app: ASGIApp
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self.refusal(Request(scope)) or self.app
        await answer(scope, receive, send_safely)

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request that is not passed on; None if it is passed on."""
        headers, reading = request.headers, request.method in ("GET", "HEAD")
        name, origin = headers.get("host", ""), headers.get("origin")
        if not self.is_ours(name):
            return _refuse(421, "this is not the address of this server")
        if origin is None and not reading or origin not in (None, f"http://{name}"):
            return _refuse(403, "the request comes from another page")
        if (answer := self.at_door(request)) is not None:
            return answer
        if not reading and request.scope["path"] != "/pictures":
            length = headers.get("content-length", "0")
            known = length.isdecimal() and "transfer-encoding" not in headers
            if not known or int(length) > MOST_JSON:
                return _refuse(
                    413, f"the body has more than {MOST_JSON} bytes, or no length"
                )
        return None

    def is_ours(self, name: str) -> bool:
        """Whether a Host header names this server."""
        own = self.access.host
        try:
            parts = urlsplit(f"//{name}")
            host, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.access.port or parts.path or parts.username is not None:
            return False
        if host in (*LOOPBACK, own):
            return True
        if own not in ("0.0.0.0", "::"):
            return False
        # It listens on all addresses: nobody can make a numeric one point here.
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return host == socket.gethostname().lower()

    def at_door(self, request: Request) -> Response | None:
        """Refuse a browser without the cookie, or give the cookie for a token."""
        opens = request.scope["path"] == "/" and request.method == "GET"
        token = request.query_params.get("token", "") if opens else ""
        cookie, secret = self.access.cookie, self.access.secret
        known = _same(request.cookies.get(cookie, ""), secret)
        if known and not token:
            return None
        if not known and not self.access.spend(token):
            return _refuse(403, OPENED if token else STRANGER)
        # No redirect: after a link on another site, it would lack the strict cookie.
        found = HTMLResponse('<a href="/">Go on</a>', headers={"refresh": "0; url=/"})
        if not known:
            found.set_cookie(cookie, secret, httponly=True, samesite="strict")
        return found


def _refuse(code: int, why: str) -> Response:
    # Close the connection, or the server would read the rest of the body.
    headers = {"connection": "close"}
    return PlainTextResponse(f"jaxnst: {why}\n", status_code=code, headers=headers)
