"""Download a file from the first address that works, check it, and save it whole."""

import hashlib
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from jaxnst.disk import write_whole

REASONS = {
    TimeoutError: "the network timed out",
    ssl.SSLError: "no secure connection",
    OSError: "no network",
    HTTPException: "the server's answer is broken",
    ValueError: "the server's answer is broken",  # a redirect without an address
}


class FetchError(ValueError):
    """A file cannot be fetched; `reason` says why in a few words, without addresses."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file on the network: addresses (best first), size in bytes, checksum in hex."""

    urls: tuple[str, ...]
    size: int
    algorithm: Literal["md5", "sha256"]
    digest: str


def fetch(
    remote: Remote, target: Path, *, timeout: float = 20.0, quiet: bool = True
) -> None:
    """Fetch a file, trying its addresses in turn.

    Args:
        remote: The file to fetch.
        target: Path to save it at, whole or not at all.
        timeout: Seconds to wait for a connection, and for each piece of the file.
        quiet: Whether to hide the progress bar, which only a terminal shows.

    Raises:
        FetchError: If no address gave a file of the right size and checksum.
        ValueError: If the target cannot be written.
    """
    failures: dict[str, FetchError] = {}
    for url in remote.urls:
        try:
            return _fetch_from(url, remote, target, timeout, quiet)
        except FetchError as error:
            failures[url] = error
    got = "; ".join(f"{url} : {error}" for url, error in failures.items())
    raise FetchError(
        f"{target.name} cannot be fetched ({got}); check the network or try again "
        "later",
        ", ".join(dict.fromkeys(error.reason for error in failures.values())),
    )


def _fetch_from(
    url: str, remote: Remote, target: Path, timeout: float, quiet: bool
) -> None:
    """Save a file from one address, if its size and checksum are right."""
    # Some systems allow md5 only where, as here, it does not guard against attacks.
    digest = hashlib.new(remote.algorithm, usedforsecurity=False)
    look = {"desc": target.name, "unit": "B", "unit_scale": True, "leave": False}
    hidden = quiet or None  # None: unless stderr is a terminal
    with (
        write_whole(target) as file,
        tqdm(total=remote.size, disable=hidden, **look) as bar,
    ):
        for piece in _pieces(url, timeout):
            file.write(piece)
            digest.update(piece)
            bar.update(len(piece))
            if file.tell() >= remote.size:
                break
        expected = f"{remote.size} bytes of {remote.algorithm} {remote.digest}"
        got = f"{file.tell()} bytes of {remote.algorithm} {digest.hexdigest()}"
        if got != expected:
            raise FetchError(
                f"expected {expected}, got {got}", "the server has another file"
            )


def _pieces(url: str, timeout: float) -> Iterator[bytes]:
    """The bytes at an address; a `FetchError` if they cannot be read."""
    request = urllib.request.Request(url, headers={"User-Agent": "jaxnst"})
    try:
        response: Any
        with urllib.request.urlopen(request, timeout=timeout) as response:
            while piece := response.read1(1 << 18):
                yield piece
            if response.length:
                raise IncompleteRead(b"", response.length)
    except HTTPError as error:
        error.close()
        # The library describes a redirect loop in several lines.
        text = f"HTTP {error.code} {error.msg}".splitlines()[0].strip()
        raise FetchError(text, f"the server answers HTTP {error.code}") from error
    except tuple(REASONS) as error:
        cause = error.reason if isinstance(error, URLError) else error
        reason = next(x for kind, x in REASONS.items() if isinstance(cause, kind))
        text = (str(cause) or type(cause).__name__).splitlines()[0]
        raise FetchError(text, reason) from error
