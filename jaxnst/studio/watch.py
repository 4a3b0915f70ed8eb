"""A read-only page that shows one run of the terminal."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from jaxnst.live import LiveReader
from jaxnst.studio.guard import Access
from jaxnst.studio.serve import PAGE, Server, application, listen

LOOK, GOODBYE = 0.4, 2.0
"""Seconds between two looks, and most seconds for tabs to get the last picture."""


class Watch:
    """The handlers of the page's requests, which only read.

    Attributes:
        end: How the run ended, `done` or `stopped`; empty before.
        tabs: Number of tabs that get events.
    """

    def __init__(self, folder: Path, title: str):
        self.reader, self.title = LiveReader(folder), title
        self.end, self.tabs = "", 0
        self.routes = [
            Route("/", lambda request: FileResponse(PAGE / "live.html")),
            Route("/events", self.events),
            Route("/frame", self.frame),
        ]

    def frame(self, request: Request) -> Response:
        """The picture so far."""
        data = self.reader.frame()
        if data is None:
            raise HTTPException(404, "no frame yet")
        return Response(data, media_type="image/jpeg")

    async def events(self, request: Request) -> Response:
        """Tell a tab of every change."""
        return StreamingResponse(self.changes(), media_type="text/event-stream")

    async def changes(self) -> AsyncIterator[str]:
        """Yield the state whenever it has changed, until the run is over."""
        self.tabs += 1
        seen: Any = None
        try:
            while True:
                end = self.end
                self.reader.read()
                now = end, len(self.reader.lines), self.reader.doing
                if now != seen:
                    seen = now
                    yield f"data: {json.dumps(self.state(end))}\n\n"
                if end:
                    break
                await asyncio.sleep(LOOK)
        finally:
            self.tabs -= 1

    def state(self, end: str) -> dict[str, Any]:
        """The state of the run, in the form of a studio's job."""
        shown = self.reader.as_json()
        shown["frame"] += bool(end and shown["now"])  # one more, with the result
        return {"name": self.title, "state": end or "painting", **shown}


@contextlib.contextmanager
def served(folder: Path, *, title: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Serve the page of a run from a thread.

    `tell` gets the address to open, and a new address whenever the last one was opened.
    At the end, open tabs get the last picture.
    """
    watch, host = Watch(folder, title), "127.0.0.1"
    with listen(host, 0) as listener:
        access = Access(host, listener.getsockname()[1])
        access.on_use = lambda: tell(access.address)
        server = Server(application(watch.routes, access))
        run = lambda: server.run(sockets=[listener])
        thread = threading.Thread(target=run, name="live view", daemon=True)
        thread.start()
        try:
            access.on_use()
            yield
            watch.end = "done"
        finally:
            watch.end = watch.end or "stopped"
            ended = time.monotonic() + GOODBYE
            while watch.tabs and time.monotonic() < ended:
                time.sleep(0.05)
            if watch.reader.lines:
                time.sleep(0.3)  # for the requests of the last frame
            server.should_exit = True
            thread.join(timeout=5)
