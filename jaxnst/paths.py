"""Paths within a flag of the command, written so that none can be misread."""

import re
from collections.abc import Sequence
from pathlib import Path

PART = r'(?:"(?:[^"]|"")+"|[^",=]+)'
"""Regular expression of a path in a flag: in quotes, or without what divides paths."""


def quoted(path: Path) -> str:
    """A path as it stands in a flag, between `=` and commas.

    Example:
        >>> quoted(Path("a.jpg")), quoted(Path("a,b.jpg")), quoted(Path('a".jpg'))
        ('a.jpg', '"a,b.jpg"', '"a"".jpg"')
    """
    text = str(path)
    plain = re.fullmatch(PART, text) and not text.startswith(('"', "-"))
    return text if plain else '"' + text.replace('"', '""') + '"'


def unquoted(text: str, pattern: str) -> list[Path]:
    """The paths of a flag that quotes one of them; none if the pattern does not match.

    Example:
        >>> paths = unquoted('"a,b.jpg"=c.jpg', f"{PART}={PART}")
        >>> [path.name for path in paths]
        ['a,b.jpg', 'c.jpg']
    """
    if '"' not in text or not re.fullmatch(pattern, text):
        return []
    parts = re.findall(PART, text)
    return [Path(x[1:-1].replace('""', '"') if x.startswith('"') else x) for x in parts]


def divided(text: str) -> list[Path]:
    """Paths with commas between them: files that are there, the longest names first."""
    parts = text.split(",")
    return list(map(Path, _files(parts) or parts))


def _files(parts: Sequence[str]) -> list[str]:
    """Joined parts, all of them files; none if there is no such way."""
    for count in range(len(parts), 0, -1):
        first, rest = ",".join(parts[:count]), parts[count:]
        if first and Path(first).is_file():
            more = _files(rest) if rest else []
            if more or not rest:
                return [first, *more]
    return []


def as_argument(path: Path) -> str:
    """A path as an argument that is not taken for a flag.

    Example:
        >>> as_argument(Path("-a.jpg"))
        './-a.jpg'
    """
    text = str(path)
    return f"./{text}" if text.startswith("-") else text
