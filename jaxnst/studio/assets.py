"""The page: where its files are, and how a refusal is said."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from jaxnst.messages import with_hint

PAGE = Path(__file__).with_name("page")
"""Folder of what the browser gets."""


def refused(request: Request, error: Exception) -> Response:
    """The problem in one line, with no path of this machine."""
    if isinstance(error, HTTPException):
        return PlainTextResponse(error.detail, error.status_code, error.headers)
    if isinstance(error, OSError):
        why = error.strerror or "a file could not be read or written"
        return PlainTextResponse(f"the disk says: {why}", 507)
    return PlainTextResponse(with_hint(str(error)), 400)


REFUSALS = {HTTPException: refused, ValueError: refused, OSError: refused}
"""Exception handlers of an application."""
