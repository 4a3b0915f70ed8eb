"""Download a file from the first address that has it, checked, whole or not at all."""

import hashlib
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from typing import IO, Any, Literal
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from jaxnst.disk import write_whole

CHUNK = 1 << 18
"""Most bytes to read at a time."""

REASONS = {
    TimeoutError: "the network timed out",
    ssl.SSLError: "no secure connection",
    OSError: "no network",
    HTTPException: "the server's answer is broken",
    ValueError: "the server's answer is broken",  # it redirects to no address
}


class FetchError(ValueError):
    """A file cannot be fetched.

    The message tells all, with addresses, and the reason the cause in a few words.
    """

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file on the network whose size and checksum are known.

    Args:
        urls: Its addresses: the official one first, then mirrors.
        size: Its size, in bytes.
        algorithm: Algorithm of the checksum.
        digest: The checksum, hexadecimal, in lower case.
    """

    urls: tuple[str, ...]
    size: int
    algorithm: Literal["md5", "sha256"]
    digest: str


def fetch(
    remote: Remote, target: Path, *, timeout: float = 20.0, quiet: bool = True
) -> None:
    """Fetch a file. Addresses are tried in turn.

    Args:
        remote: The file to fetch.
        target: Path to save it at.
        timeout: Seconds to wait for a connection, and for each piece of the file.
        quiet: Whether to hide the progress bar, which only a terminal shows.

    Raises:
        FetchError: If no address gave a file of the right size and checksum.
        ValueError: If the target cannot be written.
    """
    failures: dict[str, FetchError] = {}
    for url in remote.urls:
        pieces = _pieces(url, timeout)
        try:
            with write_whole(target) as file:
                return _receive(remote, pieces, file, target.name, quiet)
        except FetchError as error:
            failures[url] = error
    got = "; ".join(f"{url} : {error}" for url, error in failures.items())
    raise FetchError(
        f"{target.name} cannot be fetched ({got}); check the network or try again "
        "later",
        ", ".join(dict.fromkeys(error.reason for error in failures.values())),
    )


def _receive(
    remote: Remote, pieces: Iterator[bytes], file: IO[bytes], name: str, quiet: bool
) -> None:
    """Write a file, and check that it is the right one."""
    # Here md5 guards against accidents, not attacks; some systems allow it only then.
    digest = hashlib.new(remote.algorithm, usedforsecurity=False)
    with tqdm(
        desc=name,
        total=remote.size,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=quiet or None,  # None: unless stderr is a terminal
    ) as bar:
        for piece in pieces:
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
    """The bytes at an address; a `FetchError` if they cannot be had."""
    request = urllib.request.Request(url, headers={"User-Agent": "jaxnst"})
    try:
        response: Any
        with urllib.request.urlopen(request, timeout=timeout) as response:
            while piece := response.read1(CHUNK):
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
