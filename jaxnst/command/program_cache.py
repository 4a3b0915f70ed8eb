"""The cache of compiled programs on disk: its folder, its size and its errors."""

import argparse
import builtins
import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

from jaxnst.messages import gigabytes
from jaxnst.weights.registry import cache_folder

PROGRAM = re.compile(r".+-[0-9a-f]{64}-(cache|atime)")
"""Name of a file in which JAX keeps a compiled program, or the time of its last use."""

MOST_PROGRAMS = 10**9
"""Most bytes of kept programs in jaxnst's own folder."""


def programs_folder() -> tuple[Path, bool]:
    """Folder of compiled programs, and whether it is jaxnst's own, not the user's."""
    told = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return Path(told or cache_folder() / "xla"), not told


def kept_programs(folder: Path) -> list[Path]:
    """Files in a folder in which JAX keeps compiled programs; none if it is missing."""
    if not folder.is_dir():
        return []
    return [x for x in folder.iterdir() if PROGRAM.fullmatch(x.name) and x.is_file()]


def delete_programs(programs: Iterable[Path]) -> None:
    """Delete kept programs, except those in use or of another user."""
    for path in programs:
        with contextlib.suppress(OSError):
            path.unlink()


def bound_programs(folder: Path, most: int) -> None:
    """Delete the least recently used programs of a folder that holds too many bytes.

    JAX has its own limit, but before it writes a program, it reads the times of all
    others: 0.4 s for 14,000 programs.
    """
    found = []
    for path in kept_programs(folder):
        with contextlib.suppress(FileNotFoundError):  # another process deletes, too
            about = path.stat()
            found.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > most:
            delete_programs([path])


def keep_programs(folder: Path, most: int | None = None) -> str:
    """Make a folder, and let JAX save compiled programs there and load them.

    `most` limits the bytes of programs in jaxnst's own folder. A user's folder has only
    JAX's limit, `JAX_COMPILATION_CACHE_MAX_SIZE`. Returns why programs cannot be kept;
    empty if they can.
    """
    why = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if most is not None:
            # Programs are loaded only from where nobody else may write.
            folder.chmod(0o700)
            bound_programs(folder, most)
    except OSError as error:
        why = f"compiled programs cannot be kept in {folder} ({error.strerror})"
    jax.config.update("jax_compilation_cache_dir", None if why else str(folder))
    # Keep fast programs, too: there are a hundred, which take seconds together.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return why


TROUBLE = re.compile(
    r"Error (reading|writing) persistent compilation cache entry"
    r"(?: for '.*?': (\w+): (.*))?",
    re.DOTALL,
)
"""JAX's warning about a kept program: what failed, the exception and its message."""


class Listener:
    """Replaces `warnings.showwarning`, or an earlier listener.

    If programs cannot be read or written, it reports this once; JAX would report it
    each time. If a program in jaxnst's own folder is damaged, all programs there are
    deleted, since JAX never replaces a damaged program.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None], *, ours: bool = True):
        self.folder, self.tell, self.ours = folder, tell, ours
        before = warnings.showwarning
        self.show = before.show if isinstance(before, Listener) else before
        self.told = False

    def __call__(self, message: Warning | str, *where: Any, **more: Any) -> None:
        """Show a warning; reword it if it is about a kept program."""
        if (trouble := TROUBLE.match(str(message))) is None:
            self.show(message, *where, **more)
        elif not self.told:
            self.told = True
            self.tell(f"{self.explain(*trouble.groups(default=''))}; compiling anew")

    def explain(self, verb: str, kind: str, why: str) -> str:
        """Say what is wrong with kept programs; delete damaged ones."""
        # A file that is locked, gone or somebody else's is not damaged.
        error = getattr(builtins, kind, Exception)
        if verb == "writing" or kind == "Timeout" or issubclass(error, OSError):
            verb = {"reading": "read from", "writing": "kept in"}[verb]
            return f"compiled programs cannot be {verb} {self.folder} ({why})"
        programs = f"programs in {self.folder}"
        if not self.ours:
            return f"{programs} are damaged: jaxnst cache --clear deletes them"
        delete_programs(kept_programs(self.folder))
        return f"{programs} were damaged and are deleted"


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `cache`."""
    clear = "delete the programs; the next picture of each size is compiled anew"
    p.add_argument("--clear", action="store_true", help=clear)
    p.set_defaults(call=cache_command)


def cache_command(args: argparse.Namespace) -> int:
    """Print the folder, number and size of compiled programs, or delete them."""
    folder, ours = programs_folder()
    found = kept_programs(folder)
    programs = [path for path in found if path.name.endswith("-cache")]
    size = gigabytes(sum(x.stat().st_size for x in found if x.exists()))
    if args.clear:
        delete_programs(found)
        left = sum(path.exists() for path in found)
        stay = f"; {left} files remain, in use or another user's" if left else ""
        gone = sum(not path.exists() for path in programs)
        print(f"deleted {gone} of {len(programs)} programs in {folder}{stay}")
        return 0
    most = f", of at most {gigabytes(MOST_PROGRAMS)}" if ours else ""
    print(f"folder    {folder}{'' if ours else ' (JAX_COMPILATION_CACHE_DIR)'}")
    print(f"programs  {len(programs)}\nsize      {size}{most}")
    if not jax.config.values["jax_enable_compilation_cache"]:
        print("no more are kept: JAX_ENABLE_COMPILATION_CACHE turns the cache off")
    return 0
