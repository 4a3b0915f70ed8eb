"""Pictures of a grid: found in files, folders and patterns."""

import glob
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxnst.pictures.files import load_image, readable_suffixes


def find_pictures(patterns: Sequence[str], kind: str) -> tuple[list[Path], list[str]]:
    """Collect pictures from files, folders and patterns.

    Args:
        patterns: Paths of files or folders, or patterns. Folders are not searched
            deeper, and files in them that are no pictures by their suffix are left out.
        kind: `content` or `style`, for messages.

    Returns:
        Pictures that can be read, in the order given, folders sorted; and for each one
        that cannot, which is said at once, a line that tells why.

    Raises:
        ValueError: If nothing is found or can be read, or two names are the same.
    """
    found: dict[Path, Path] = {}
    suffixes = readable_suffixes()
    for pattern in patterns:
        path = Path(pattern)
        paths = [path]
        if path.is_dir():
            paths = sorted(
                x
                for x in path.iterdir()
                if x.suffix.lower() in suffixes and x.name[0] != "." and x.is_file()
            )
            if not paths:
                raise ValueError(
                    f"expected pictures in {path}, got none; {kind} needs one"
                )
        elif not path.exists() and glob.has_magic(pattern):
            paths = sorted(map(Path, glob.glob(pattern)))
            if not paths:
                raise ValueError(f"expected pictures like {pattern}, got none")
        elif not path.exists():
            raise ValueError(f"expected a picture at {path}, got nothing there")
        found |= {x.resolve(): x for x in paths if x.resolve() not in found}
    stems: dict[str, Path] = {}
    for path in found.values():
        other = stems.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise ValueError(
                f"expected {kind}s of different names, got {other} and {path}; "
                "results are named after them, so rename one"
            )
    readable, problems = [], []
    for path in found.values():
        try:
            str(path).encode()
            load_image(path, size=16)
            readable.append(path)
        except ValueError as error:
            problems.append(str(error))
            print(f"jaxnst: left out: {error}", file=sys.stderr, flush=True)
    if not readable:
        raise ValueError(f"expected a {kind} that can be read, got none")
    return readable, problems
