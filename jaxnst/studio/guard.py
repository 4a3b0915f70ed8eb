"""Who may talk to the server: a page that has its cookie, from its own address."""

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
"""Names of this machine that nobody else's page can have."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: only what this server sends."""

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
    "this address was opened before, and each opens one browser; open the newest one "
    "that jaxnst printed in its terminal, or end it there and start it again"
)
"""What who has no cookie is told."""

MOST_JSON = 10**6
"""Bytes of a body that is no picture, at most."""

random_text = partial(secrets.token_urlsafe, 32)
"""256 random bits."""


@dataclass
class Access:
    """Where a server listens, and what opens it: a token, once, and then a cookie.

    Other users of a machine can see an address: `--open` makes it an argument of the
    browser. A cookie is seen by the browser alone.

    Attributes:
        host: Address that the server listens on.
        port: Its port.
        token: The token of the next address.
        secret: The value of the cookie.
        on_use: Called when an address was opened, and `token` is a new one.
    """

    host: str
    port: int
    token: str = field(default_factory=random_text)
    secret: str = field(default_factory=random_text)
    on_use: Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        """What to open in a browser on this machine, once."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Name of the cookie; it has the port, since browsers send it to all ports."""
        return f"jaxnst-{self.port}"

    def spend(self, token: str) -> bool:
        """Whether that is the token, which from now on it is no more."""
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

    The host shows that no other name was made to point here; the origin, that no other
    page sent it; the cookie, that whoever reads the terminal opened the page.
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
        """What is answered in place of what a request asks for, if anything."""
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
        # All addresses were asked for: one in numbers cannot be made to point here.
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return host == socket.gethostname().lower()

    def at_door(self, request: Request) -> Response | None:
        """Turn away who has no cookie, or exchange the token of an address for one."""
        opens = request.scope["path"] == "/" and request.method == "GET"
        token = request.query_params.get("token", "") if opens else ""
        cookie, secret = self.access.cookie, self.access.secret
        known = _same(request.cookies.get(cookie, ""), secret)
        if known and not token:
            return None
        if not known and not self.access.spend(token):
            return _refuse(403, OPENED if token else STRANGER)
        # No redirect: after a link on another site, browsers send it no strict cookie.
        found = HTMLResponse('<a href="/">Go on</a>', headers={"refresh": "0; url=/"})
        if not known:
            found.set_cookie(cookie, secret, httponly=True, samesite="strict")
        return found


def _refuse(code: int, why: str) -> Response:
    # Closed, since otherwise what is left of a body, however long, would be read.
    headers = {"connection": "close"}
    return PlainTextResponse(f"jaxnst: {why}\n", status_code=code, headers=headers)
