"""Pictures of a grid: found in files, folders and patterns."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxnst.disk import check_readable, matches
from jaxnst.pictures.files import is_picture, load_image


def check_name(path: Path) -> None:
    """Raise a ValueError unless a name is UTF-8, so that a page can show it."""
    try:
        os.fsencode(path).decode()
    except UnicodeError:
        raise ValueError(f"expected a name in UTF-8, got {path}; rename it") from None


def find_pictures(patterns: Sequence[str], kind: str) -> tuple[list[Path], list[str]]:
    """Pictures in files, folders (not deeper) and patterns, in order, folders sorted.

    For each one that cannot be read, there is a line that tells why; it is printed at
    once.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            files = (x for x in path.iterdir() if x.name[0] != "." and x.is_file())
            paths = sorted(filter(is_picture, files))
            if not paths:
                raise ValueError(
                    f"expected pictures in {path}, got none; {kind} needs one"
                )
        elif not (paths := matches(path, "pictures"))[0].exists():
            raise ValueError(f"expected a picture at {path}, got no such file")
        found |= {x.resolve(): x for x in paths if x.resolve() not in found}
    names: dict[str, Path] = {}
    for path in found.values():
        other = names.setdefault(path.name.casefold(), path)
        if other is not path:
            raise ValueError(
                f"expected {kind}s of different names, got {other} and {path}; "
                "results are named after them, so rename one"
            )
    readable, problems = [], []
    for path in found.values():
        try:
            check_name(path)
            check_readable(path)
            load_image(path, size=16)
            readable.append(path)
        except ValueError as error:
            problems.append(str(error))
            print(f"jaxnst: left out: {error}", file=sys.stderr, flush=True)
    if not readable:
        raise ValueError(f"expected a {kind} that can be read, got none")
    return readable, problems
