"""Paths within a flag of the command, written so that none can be misread."""

import re
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
    """The paths of a flag, some in quotes; none if the text is not of the pattern.

    Example:
        >>> paths = unquoted('"a,b.jpg"=c.jpg', f"{PART}={PART}")
        >>> [path.name for path in paths]
        ['a,b.jpg', 'c.jpg']
    """
    if not re.fullmatch(pattern, text):
        return []
    parts = re.findall(PART, text)
    return [Path(x[1:-1].replace('""', '"') if x.startswith('"') else x) for x in parts]


def as_argument(path: Path) -> str:
    """A path as an argument that is not taken for a flag.

    Example:
        >>> as_argument(Path("-a.jpg"))
        './-a.jpg'
    """
    text = str(path)
    return f"./{text}" if text.startswith("-") else text
