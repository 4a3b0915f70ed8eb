"""A socket to listen on, the application that answers there, and its server."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Lifespan

from jaxnst.messages import with_hint
from jaxnst.studio.guard import Access, Guard

PAGE = Path(__file__).with_name("page")
"""Folder of the files of the page."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 means any free port.

    Raises:
        ValueError: If the address cannot be used, in one line.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # If a socket names no protocol, asyncio delays small packets by 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise ValueError(
            f"{host} port {port} cannot be used ({error.strerror}); choose another "
            "--port or --host"
        ) from error
    return found


def application(
    routes: Sequence[BaseRoute],
    access: Access,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """An application behind the guard that also sends the files of the page."""
    return Starlette(
        routes=[Mount("/page", StaticFiles(directory=PAGE)), *routes],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers=dict.fromkeys(REFUSED, _refused),
        lifespan=lifespan,
    )


REFUSED = HTTPException, ValueError, OSError, ClientDisconnect
"""Exceptions that are reported to the browser."""


def _refused(request: Request, error: Exception) -> Response:
    """The problem in one line, with no path of this machine."""
    if isinstance(error, HTTPException):
        return PlainTextResponse(error.detail, error.status_code, error.headers)
    if isinstance(error, OSError):
        why = error.strerror or "a file could not be read or written"
        return PlainTextResponse(f"the disk says: {why}", 507)
    return PlainTextResponse(with_hint(str(error)), 400)


class Server(uvicorn.Server):
    """A server that logs only errors, and ends even if tabs are open.

    `leave` is called at the end, before the server waits for open requests.
    """

    def __init__(self, app: Starlette, leave: Callable[[], None] = lambda: None):
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=200,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=32_768,
            http="h11",
            ws="none",
            lifespan="on",
        )
        super().__init__(config)
        self.leave = leave

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the endless streams, then let uvicorn end the rest."""
        self.leave()
        await super().shutdown(sockets)
