"""Files written whole or not at all, and checks made before work begins."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO


def check_folder(folder: Path) -> None:
    """Raise a ValueError unless files can be made in a folder."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        got = "one that cannot be written to" if folder.is_dir() else "no such folder"
        raise ValueError(
            f"expected a folder that can be written to at {folder}, got {got}; "
            "create it or choose another output"
        )


LONGEST_NAME = 230
"""Bytes of the name of a picture, at most: systems allow 255, and the names of what
is written beside it are longer."""


def check_target(path: Path) -> None:
    """Raise a ValueError unless a file can be written at a path."""
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise ValueError(
            f"expected a name of at most {LONGEST_NAME} bytes, got {path.name}"
        )
    check_folder(path.parent)
    if path.is_dir():
        raise ValueError(f"expected a file to write at {path}, got a folder")


@contextlib.contextmanager
def write_whole(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that replaces it once all is written.

    Raises:
        ValueError: If the folder does not exist or cannot be written to.
    """
    path = Path(path)
    check_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        with open(name, "wb") as file:  # which has a name, as some writers expect
            yield file
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@cache
def _umask() -> int:
    mask = os.umask(0)  # for a moment in all threads: only once
    os.umask(mask)
    return mask
