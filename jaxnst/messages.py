"""Phrases that error messages share."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of the known names, at least one, that is most similar to a mistyped one.

    Example:
        >>> nearest("relu42", ["relu4_1", "relu4_2"])
        'relu4_2'
    """
    return get_close_matches(name, list(known), 1, 0.0)[0]


def gigabytes(count: int) -> str:
    """A number of bytes as a person reads it: in gigabytes (10⁹ bytes), or megabytes.

    Example:
        >>> gigabytes(1_540_000_000), gigabytes(3_000_000)
        ('1.5 GB', '3 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 10**8 else f"{count / 1e6:.0f} MB"


def with_hint(message: str, otherwise: str = "") -> str:
    """A message in one line, with what to do after `hint:`.

    Example:
        >>> with_hint("expected a file, got a folder; name a file")
        'expected a file, got a folder; hint: name a file'
    """
    problem, _, hint = " ".join(message.split()).partition("; ")
    hint = hint or otherwise
    return f"{problem}; hint: {hint}" if hint else problem
