"""Who may talk to the server: a page that has its cookie, from its own address."""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
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


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


@dataclass
class Keys:
    """What opens the door: an address with a token, once, and from then on a cookie.

    Other users of a machine can see an address: `--open` makes it an argument of the
    browser. A cookie is seen by the browser alone.

    Attributes:
        token: The token of the next address.
        secret: The value of the cookie.
        on_use: Called when an address was opened, and `token` is a new one.
    """

    token: str = field(default_factory=new_token)
    secret: str = field(default_factory=new_token)
    on_use: Callable[[], None] = lambda: None

    def spend(self, token: str) -> bool:
        """Whether that is the token, which from now on it is no more."""
        if not _same(token, self.token):
            return False
        self.token = new_token()
        self.on_use()
        return True

    def address(self, host: str, port: int) -> str:
        """What to open in a browser on this machine, once."""
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{port}/?token={self.token}"


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


@dataclass(frozen=True)
class Guard:
    """Middleware: checks the host, the origin and the cookie of every request.

    The host shows that no other name was made to point here; the origin, that no other
    page sent it; the cookie, that whoever reads the terminal opened the page.

    Attributes:
        host: Address that the server listens on.
        port: Its port, which is part of the cookie's name: cookies ignore ports.
        keys: What a visitor must know.
    """

    app: ASGIApp
    host: str
    port: int
    keys: Keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        answer = self.app if refusal is None else refusal

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await answer(scope, receive, send_safely)

    def refusal(self, scope: Scope) -> Response | None:
        """What is answered in place of what a request asks for, if anything."""
        headers = Headers(scope=scope)
        name = headers.get("host", "")
        if not self.is_ours(name):
            return _refuse(421, "this is not the address of this server")
        origin, reading = headers.get("origin"), scope["method"] in ("GET", "HEAD")
        if origin is None and not reading or origin not in (None, f"http://{name}"):
            return _refuse(403, "the request comes from another page")
        if (answer := self.at_door(scope)) is not None:
            return answer
        if not reading and scope["path"] != "/pictures":
            length = headers.get("content-length", "0")
            known = length.isdecimal() and "transfer-encoding" not in headers
            if not known or int(length) > MOST_JSON:
                return _refuse(
                    413, f"the body has more than {MOST_JSON} bytes, or no length"
                )
        return None

    def is_ours(self, name: str) -> bool:
        """Whether a Host header names this server."""
        try:
            parts = urlsplit(f"//{name}")
            host, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.port or parts.path or parts.username is not None:
            return False
        if host in (*LOOPBACK, self.host):
            return True
        if self.host not in ("0.0.0.0", "::"):
            return False
        # All addresses were asked for: one in numbers cannot be made to point here.
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return host == socket.gethostname().lower()

    @property
    def cookie(self) -> str:
        """Name of the cookie."""
        return f"jaxnst-{self.port}"

    def at_door(self, scope: Scope) -> Response | None:
        """Turn away who has no cookie, or exchange the token of an address for one."""
        cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
        known = _same(cookies.get(self.cookie, ""), self.keys.secret)
        token = self.asked(scope)
        if known and not token:
            return None
        if not known and not self.keys.spend(token):
            return _refuse(403, OPENED if token else STRANGER)
        # No redirect: after a link on another site, browsers send it no strict cookie.
        found = HTMLResponse('<a href="/">Go on</a>', headers={"refresh": "0; url=/"})
        if not known:
            safe: dict[str, Any] = {"httponly": True, "samesite": "strict", "path": "/"}
            found.set_cookie(self.cookie, self.keys.secret, **safe)
        return found

    def asked(self, scope: Scope) -> str:
        """The token in the address of the page, if it is there."""
        if scope["path"] != "/" or scope["method"] != "GET":
            return ""
        try:
            query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8)
        except ValueError:
            return ""
        return query.get("token", [""])[0]


def _refuse(code: int, why: str) -> Response:
    # Closed, since otherwise what is left of a body, however long, would be read.
    headers = {"connection": "close"}
    return PlainTextResponse(f"jaxnst: {why}\n", status_code=code, headers=headers)
