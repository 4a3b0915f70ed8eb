"""Who may talk to the server: a page that has its token, from its own address."""

import hmac
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
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

MOST_JSON = 10**6
"""Bytes of a body that is no picture, at most."""


@dataclass(frozen=True)
class Guard:
    """Middleware: checks the host, the origin and the token of every request.

    The host shows that no other name was made to point here; the origin, that no other
    page sent it; the token, that whoever reads the terminal opened the page. A first
    visit with the token in the address gets it as a cookie instead.

    Attributes:
        host: Address that the server listens on.
        port: Its port, which is part of the cookie's name: cookies ignore ports.
        token: What a visitor must know.
    """

    app: ASGIApp
    host: str
    port: int
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope) or self.visit(scope)
        answer = self.app if refusal is None else refusal

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await answer(scope, receive, send_safely)

    def refusal(self, scope: Scope) -> Response | None:
        """Why a request is refused, whatever it asks for."""
        headers = Headers(scope=scope)
        name = headers.get("host", "")
        if not self.is_ours(name):
            return _refuse(421, "expected a request to this server's own address")
        origin, reading = headers.get("origin"), scope["method"] in ("GET", "HEAD")
        if origin is None and not reading or origin not in (None, f"http://{name}"):
            return _refuse(403, "expected a request of this page, got another origin")
        if not self.knows_token(scope):
            return _refuse(
                403,
                "expected the token; open the whole address that jaxnst printed in the "
                "terminal",
            )
        if not reading and scope["path"] != "/pictures":
            length = headers.get("content-length", "0")
            known = length.isdecimal() and "transfer-encoding" not in headers
            if not known or int(length) > MOST_JSON:
                return _refuse(413, f"expected a body of at most {MOST_JSON} bytes")
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

    def knows_token(self, scope: Scope) -> bool:
        """Whether a request has the token, as a cookie or in the page's address."""
        cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
        given = [cookies.get(self.cookie, ""), self.asked(scope)]
        return any(hmac.compare_digest(x.encode(), self.token.encode()) for x in given)

    def asked(self, scope: Scope) -> str:
        """The token in the address of the page, if it is there."""
        if scope["path"] != "/" or scope["method"] != "GET":
            return ""
        try:
            query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8)
        except ValueError:
            return ""
        return query.get("token", [""])[0]

    def visit(self, scope: Scope) -> Response | None:
        """Move the token of a first visit from the address into a cookie."""
        if not self.asked(scope):
            return None
        found = RedirectResponse("/", status_code=303)
        found.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
        return found


def _refuse(code: int, why: str) -> Response:
    # Closed, since otherwise what is left of a body, however long, would be read.
    headers = {"connection": "close"}
    return PlainTextResponse(f"jaxnst: {why}\n", status_code=code, headers=headers)
