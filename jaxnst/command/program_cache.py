"""Compiled programs that are kept on disk: where, how many, and what goes wrong."""

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
"""Bytes of kept programs in a folder of ours, at most."""


def programs_folder() -> tuple[Path, bool]:
    """Folder of compiled programs, and whether it is ours and not the user's."""
    told = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return Path(told or cache_folder() / "xla"), not told


def kept_programs(folder: Path) -> list[Path]:
    """Files in a folder in which JAX keeps compiled programs; none if it is missing."""
    if not folder.is_dir():
        return []
    return [x for x in folder.iterdir() if PROGRAM.fullmatch(x.name) and x.is_file()]


def delete_programs(programs: Iterable[Path]) -> None:
    """Delete kept programs, but for those in use or of another user."""
    for path in programs:
        with contextlib.suppress(OSError):
            path.unlink()


def bound_programs(folder: Path, most: int) -> None:
    """Delete the least recently used programs of a folder that holds too many bytes.

    JAX has a bound of its own, but before each program that it writes, it reads the
    times of all others: 0.4 s where there are 14,000.
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
    """Let JAX save compiled programs in a folder, which is made, and load them.

    `most` are the bytes that they may take, of a folder of ours. A folder of the user's
    has no bound but JAX's own, `JAX_COMPILATION_CACHE_MAX_SIZE`. Returns why JAX does
    not; empty if it does.
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
    # Also programs that compile fast: there are a hundred, which together take seconds.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return why


TROUBLE = re.compile(
    r"Error (reading|writing) persistent compilation cache entry"
    r"(?: for '.*?': (\w+): (.*))?",
    re.DOTALL,
)
"""JAX's warning about a kept program: what failed, the exception and its message."""


class Listener:
    """Takes the place of `warnings.showwarning`, and that of an earlier listener.

    It tells once that kept programs cannot be read or written; JAX would each time.
    Where one in a folder of ours is damaged, all in it are deleted, since JAX never
    replaces a damaged one.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None], *, ours: bool = True):
        self.folder, self.tell, self.ours = folder, tell, ours
        before = warnings.showwarning
        self.show = before.show if isinstance(before, Listener) else before
        self.told = False

    def __call__(self, message: Warning | str, *where: Any, **more: Any) -> None:
        """Show a warning, in our words if it is about a kept program."""
        if (trouble := TROUBLE.match(str(message))) is None:
            self.show(message, *where, **more)
        elif not self.told:
            self.told = True
            self.tell(f"{self.explain(*trouble.groups(default=''))}; compiling anew")

    def explain(self, verb: str, kind: str, why: str) -> str:
        """What is wrong; damaged programs are deleted."""
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
    """Tell where compiled programs are kept and what they take, or delete them."""
    folder, ours = programs_folder()
    found = kept_programs(folder)
    programs = [path for path in found if path.name.endswith("-cache")]
    size = gigabytes(sum(x.stat().st_size for x in found if x.exists()))
    if args.clear:
        delete_programs(found)
        left = sum(path.exists() for path in found)
        stay = f"; {left} files stay, in use or another user's" if left else ""
        gone = sum(not path.exists() for path in programs)
        print(f"deleted {gone} of {len(programs)} programs in {folder}{stay}")
        return 0
    most = f", of at most {gigabytes(MOST_PROGRAMS)}" if ours else ""
    print(f"folder    {folder}{'' if ours else ' (JAX_COMPILATION_CACHE_DIR)'}")
    print(f"programs  {len(programs)}\nsize      {size}{most}")
    if not jax.config.values["jax_enable_compilation_cache"]:
        print("no more are kept: JAX_ENABLE_COMPILATION_CACHE turns them off")
    return 0
