"""The page: style sheets and scripts that a browser gets, all from this folder."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

PAGE = Path(__file__).with_name("page")
"""Folder of what the browser gets."""

FILES = {x.name: x for x in PAGE.iterdir() if x.suffix in (".css", ".js", ".svg")}
"""Style sheets, scripts and the icon, by name."""


async def send_asset(request: Request) -> Response:
    """A style sheet or a script of the page."""
    path = FILES.get(request.path_params["name"])
    if path is None:
        raise HTTPException(404, "expected a part of the page")
    return FileResponse(path)


def refused(request: Request, error: Exception) -> Response:
    """One line that says what was expected, and no path of this machine."""
    if isinstance(error, HTTPException):
        return PlainTextResponse(error.detail, error.status_code, error.headers)
    if isinstance(error, OSError):
        why = error.strerror or "a file could not be read or written"
        return PlainTextResponse(f"the disk says: {why}", 507)
    return PlainTextResponse(str(error), 400)


REFUSALS = {HTTPException: refused, ValueError: refused, OSError: refused}
"""Exception handlers of an application."""
