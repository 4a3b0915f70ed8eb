"""A socket to listen on, and the server that answers there."""

import socket
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.types import ASGIApp


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is one that is free.

    Raises:
        ValueError: If the address cannot be had, in one line.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Of a socket that names no protocol, asyncio holds back what is small for 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise ValueError(
            f"{host} port {port} cannot be had ({error.strerror}); choose another "
            "--port or --host"
        ) from error
    return found


class Server(uvicorn.Server):
    """A server that logs only its own mistakes, and ends though tabs are open.

    `leave` is called when it ends, before what is still being answered is waited for.
    """

    def __init__(self, app: ASGIApp, leave: Callable[[], Awaitable[None]]):
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
        """End what goes on without end, then what uvicorn ends."""
        await self.leave()
        await super().shutdown(sockets)
