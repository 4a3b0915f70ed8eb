"""Download a file once: resumed after a cut, checked, whole or not at all."""

import contextlib
import hashlib
import os
import re
import ssl
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError, URLError

from filelock import FileLock
from tqdm import tqdm

from jaxnst.disk import check_target

PAUSE = 0.5
"""Seconds before the second attempt at an address; doubled before each further one."""

CHUNK = 1 << 18
"""Most bytes to read at a time."""

_SCHEMES = ("https://", "http://")


class FetchError(OSError):
    """A file cannot be fetched: there is no network, or the server refuses.

    The message tells all, with addresses, and the reason the cause in a few words.
    """

    def __init__(self, message: str, reason: str = "no network"):
        super().__init__(message)
        self.reason = reason


class WrongFile(ValueError):
    """A server offers another file than the one expected; see `FetchError`."""

    def __init__(self, message: str, reason: str = "the server has another file"):
        super().__init__(message)
        self.reason = reason


class _Refused(FetchError):
    """An answer that would be the same if asked again."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file on the network whose size and checksum are known.

    Args:
        urls: Its addresses, http or https: the official one first, then mirrors.
        size: Its size, in bytes.
        algorithm: Algorithm of the checksum.
        digest: The checksum, hexadecimal.

    Raises:
        ValueError: If there is no address, or one that is not http or https.
    """

    urls: tuple[str, ...]
    size: int
    algorithm: Literal["md5", "sha256"]
    digest: str

    def __post_init__(self) -> None:
        wrong = [url for url in self.urls if not url.startswith(_SCHEMES)]
        if wrong or not self.urls:
            got = ", ".join(wrong) or "none"
            raise ValueError(f"expected http:// or https:// addresses, got {got}")


def fetch(
    remote: Remote,
    target: Path,
    *,
    timeout: float = 20.0,
    attempts: int = 3,
    quiet: bool = True,
) -> Path:
    """Fetch a file unless it is there already.

    The bytes are kept in a `.part` file beside the target, which the next attempt
    resumes, even in a later process. Of several processes one downloads, the others
    wait. Addresses are tried in turn.

    Args:
        remote: The file to fetch.
        target: Path to save it at; its folder is created.
        timeout: Seconds to wait for a connection, and for each piece of the file.
        attempts: Number of attempts at each address, at least 1.
        quiet: Whether to hide the progress bar, which only a terminal shows.

    Returns:
        The target, whose size and checksum are right.

    Raises:
        FetchError: If no address could be reached, or none gave the whole file.
        WrongFile: If one of the addresses offers a file of another size or checksum,
            and none the right one.
        ValueError: If `attempts` is below 1, or the target cannot be written.
    """
    if attempts < 1:
        raise ValueError(f"expected at least 1 attempt, got {attempts}")
    if _is_right(remote, target):
        return target
    with contextlib.suppress(OSError):  # the next line tells the reason
        target.parent.mkdir(parents=True, exist_ok=True)
    check_target(target)
    part = target.with_name(target.name + ".part")
    with FileLock(target.with_name(target.name + ".lock")):
        # Another process may have fetched it while this one waited.
        if not _is_right(remote, target):
            _Download(remote, part, timeout, attempts, quiet).try_mirrors()
            os.replace(part, target)
    return target


def _is_right(remote: Remote, path: Path) -> bool:
    return (
        path.is_file()
        and path.stat().st_size == remote.size
        and _digest(remote, path) == remote.digest.lower()
    )


def _digest(remote: Remote, path: Path) -> str:
    # Here md5 guards against accidents, not attacks; some systems allow it only then.
    new = lambda: hashlib.new(remote.algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, new).hexdigest()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else."""

    def http_error_302(self, req, fp, code, msg, headers):
        with fp:  # the library leaves it open if the new address cannot be parsed
            return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_302
    http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith(_SCHEMES[:1] if req.type == "https" else _SCHEMES):
            msg = f"redirects from {req.type} to {newurl}, which is not followed"
            raise HTTPError(newurl, code, msg, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@dataclass
class _Download:
    """One download to a `.part` file, from the first address that gives the file."""

    remote: Remote
    part: Path
    timeout: float
    attempts: int
    quiet: bool

    def try_mirrors(self) -> None:
        """Try every address in turn."""
        failures: dict[str, FetchError | WrongFile] = {}
        for url in self.remote.urls:
            try:
                return self.from_one(url)
            except (FetchError, WrongFile) as error:
                failures[url] = error
        wrong = any(isinstance(error, WrongFile) for error in failures.values())
        got = "; ".join(f"{url} : {error}" for url, error in failures.items())
        advice = (
            f"try again, it goes on from {self.part}"
            if self.part.exists()
            else "check the network or try again later"
        )
        raise (WrongFile if wrong else FetchError)(
            f"expected to fetch {self.part.stem}, got {got}; {advice}",
            ", ".join(dict.fromkeys(error.reason for error in failures.values())),
        )

    def from_one(self, url: str) -> None:
        """Fetch from one address, resuming where a connection was cut."""
        resumed = self.size() > 0
        for attempt in range(self.attempts):
            try:
                self.receive(url)
                break
            except FetchError as error:
                if isinstance(error, _Refused) or attempt == self.attempts - 1:
                    raise
                time.sleep(PAUSE * 2**attempt)
        if _is_right(self.remote, self.part):
            return
        got = _digest(self.remote, self.part)
        self.part.unlink()
        if resumed:  # the bytes that were there before may be the wrong ones
            return self.from_one(url)
        raise WrongFile(
            f"expected {self.remote.algorithm} {self.remote.digest}, got {got}"
        )

    def size(self) -> int:
        """Number of bytes in the part."""
        return self.part.stat().st_size if self.part.exists() else 0

    def receive(self, url: str) -> None:
        """Append to the part until it has its size or the connection is cut."""
        size, done = self.remote.size, self.size()
        if done >= size:
            return
        headers = {"User-Agent": "jaxnst"}
        if done:
            headers["Range"] = f"bytes={done}-"
        request = urllib.request.Request(url, headers=headers)
        opener = urllib.request.build_opener(_Redirects)
        try:
            with _network():
                response: Any = opener.open(request, timeout=self.timeout)
        except FetchError as error:
            if done and getattr(error.__cause__, "code", None) == 416:
                self.part.unlink()
                return self.receive(url)
            raise
        with response:
            if response.status == 206:
                span = response.headers["Content-Range"]
                if not re.fullmatch(rf"bytes {done}-\d+/({size}|\*)", span or ""):
                    raise WrongFile(f"expected bytes {done}- of {size}, got {span}")
            else:
                length = response.headers["Content-Length"]
                if length not in (None, str(size)):
                    raise WrongFile(f"expected {size} bytes, got {length}")
                done = 0
            with (
                self.part.open("ab" if done else "wb") as file,
                tqdm(
                    desc=self.part.stem,
                    total=size,
                    initial=done,
                    unit="B",
                    unit_scale=True,
                    leave=False,
                    disable=self.quiet or None,  # None: unless stderr is a terminal
                ) as bar,
            ):
                while done < size:
                    with _network():
                        chunk = response.read1(min(CHUNK, size - done))
                    if not chunk:
                        raise FetchError(
                            f"cut after {done} of {size} bytes",
                            "the connection was cut",
                        )
                    file.write(chunk)
                    done += len(chunk)
                    bar.update(len(chunk))


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Turn errors of the network, but not of the disk, into a `FetchError`."""
    try:
        yield
    except HTTPError as error:
        error.close()
        # The library describes a redirect loop in several lines.
        text = f"HTTP {error.code} {error.msg}".splitlines()[0].strip()
        passing = error.code in (408, 429) or error.code >= 500
        kind = FetchError if passing else _Refused
        raise kind(text, f"the server answers HTTP {error.code}") from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a bad Location
        cause = error.reason if isinstance(error, URLError) else error
        match cause:
            case TimeoutError():
                reason = "the network timed out"
            case ssl.SSLError():
                reason = "no secure connection"
            case HTTPException() | ValueError():
                reason = "the server's answer is broken"
            case _:
                reason = "no network"
        text = str(cause) or type(cause).__name__
        raise FetchError(text.splitlines()[0], reason) from error
