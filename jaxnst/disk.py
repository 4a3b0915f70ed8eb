"""Files written whole or not at all, and checks made before work begins."""

import contextlib
import glob
import os
import platform
import tempfile
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import IO

import psutil
from filelock import FileLock, Timeout


def check_folder(folder: Path) -> None:
    """Raise a ValueError unless files can be made in a folder.

    The folder may be missing if its parent exists, because `write_whole` makes it.
    """
    if not os.path.lexists(folder) and folder.parent.is_dir():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        why = "is no folder" if os.path.lexists(folder) else "does not exist"
        why = "cannot be written to" if folder.is_dir() else why
        raise ValueError(f"{folder} {why}; create it or choose another output")


LONGEST_NAME = 230
"""Most bytes that the name of a picture may have. Systems allow 255, and the files
written next to a picture have longer names."""


def check_target(path: Path) -> None:
    """Raise a ValueError unless a file can be written. The file may already exist."""
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise ValueError(
            f"{path.name} is too long; choose a name of at most {LONGEST_NAME} bytes"
        )
    check_folder(path.parent)
    check_regular(path)


def check_regular(path: Path) -> None:
    """Raise a ValueError if a path exists and is not a regular file."""
    kind = "a folder" if path.is_dir() else "a device or a pipe"
    if os.path.islink(os.path.realpath(path)):
        kind = "a link that leads to itself"
    elif path.is_file() or not path.exists():
        return
    raise ValueError(f"{path} is {kind}; choose another output")


def check_file(path: Path, what: str, cure: str = "check the path") -> None:
    """Raise a ValueError unless a path is a regular file; a pipe is not."""
    if not path.is_file():
        problem = "matches no file" if glob.has_magic(str(path)) else "does not exist"
        problem = "is a folder" if path.is_dir() else problem
        raise ValueError(f"{path} {problem}, expected {what}; {cure}")


def check_readable(path: Path) -> None:
    """Raise a ValueError if this user may not read a path that exists."""
    try:
        allowed = not path.exists() or os.access(path, os.R_OK)
    except PermissionError:  # a folder in the path may not be read
        allowed = False
    if not allowed:
        raise ValueError(f"{path} may not be read; change its permissions")


def matches(path: Path, kind: str = "files") -> list[Path]:
    """Files that match a pattern, sorted. Some shells do not expand patterns.

    A path that exists, or is no pattern, is returned alone.

    Raises:
        ValueError: If nothing matches the pattern, or a file may not be read.
    """
    check_readable(path)
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    if found := sorted(map(Path, glob.glob(str(path)))):
        for file in found:
            check_readable(file)
        return found
    raise ValueError(f"no {kind} match {path}; check the pattern")


def numbered(path: Path) -> Iterator[Path]:
    """Yield a path, then the path with -2, -3, … before its suffix.

    Example:
        >>> names = numbered(Path("a.png"))
        >>> next(names).name, next(names).name
        ('a.png', 'a-2.png')
    """
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def free_path(path: Path) -> Path:
    """The first path of `numbered` that does not exist."""
    return next(x for x in numbered(path) if not x.exists())


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Reserve the name of an output; yield False if another run has reserved it.

    A lock on a hidden file next to the output excludes other processes and threads. The
    hidden file is deleted at the end. If the process is killed, the system frees the
    lock. For a link, the target is reserved.
    """
    path = path.resolve()
    made = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    place = path.with_name(f".{path.name}.lock")
    lock = FileLock(place, timeout=0)
    try:
        lock.acquire()
        while not place.exists():  # its owner deleted it in between
            lock.release()
            lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            place.unlink()
        lock.release()
        if made:
            with contextlib.suppress(OSError):
                path.parent.rmdir()


@contextlib.contextmanager
def write_whole(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` once everything is written.

    The temporary file is in the same folder, which is made if its parent exists. If the
    block raises, the file is deleted and `path` stays unchanged. If the process is
    killed, the next write to `path` deletes the file. For a link, the target is
    replaced.

    Raises:
        ValueError: If the folder cannot be written to.
        OSError: If writing fails, as on a full disk; the message says where.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with write_whole(folder / "a.txt") as file:
        ...     _ = file.write(b"all of it")
        >>> (folder / "a.txt").read_text()
        'all of it'
    """
    asked, path = path, Path(os.path.realpath(path))
    check_folder(path.parent)
    check_regular(path)
    path.parent.mkdir(exist_ok=True)
    remove_abandoned(path)
    name = ""
    try:
        prefix = f"{_prefix(path)}{os.getpid():x}-"
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
        os.close(handle)
        with open(name, "wb") as file:  # opened by name: some writers ask for `.name`
            yield file
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        if isinstance(error.__cause__, OSError):
            raise  # of another file, which was written meanwhile
        why = error.strerror or str(error)
        raise OSError(f"{asked} cannot be written ({why}); write elsewhere") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def remove_abandoned(path: Path) -> None:
    """Delete the temporary files of a path that killed processes left."""
    prefix = _prefix(path)
    for other in path.parent.glob(glob.escape(prefix) + "*"):
        owner = other.name.removeprefix(prefix).partition("-")[0]
        with contextlib.suppress(OSError, ValueError):
            if not psutil.pid_exists(int(owner, 16)):
                other.unlink()


def _prefix(path: Path) -> str:
    """Prefix of the names of a path's temporary files, on this machine."""
    return f".{path.name}.{zlib.crc32(platform.node().encode()) % 2**16:04x}-"


@cache
def _umask() -> int:
    mask = os.umask(0)  # sets it for all threads for a moment, so only once
    os.umask(mask)
    return mask
