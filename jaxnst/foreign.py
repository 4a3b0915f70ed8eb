"""JSON that anybody may have written: read within bounds, and checked value by value.

A reader is a function of a value's name and of what was found there. It returns the
value, or raises a ValueError that says in one line what was expected.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnst.messages import found_at

MOST_BYTES = 10**6
"""Bytes of a file, at most: a manifest has a few thousand."""

Reader = Callable[[str, Any], Any]


def read_json(path: Path) -> Any:
    """What a file of JSON holds.

    Raises:
        ValueError: If it is no file, too large, or no JSON.
        OSError: If it cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = path.write_text('{"seed": 3}')
        >>> read_json(path)
        {'seed': 3}
    """
    if not path.is_file():  # also a pipe, which would never end
        raise ValueError(f"expected a file at {path}, got {found_at(path)}")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"expected at most {MOST_BYTES} bytes in {path}, got more")
    try:
        return parse_json(data)
    except ValueError as error:
        raise ValueError(f"{error} in {path}") from error


def parse_json(data: str | bytes) -> Any:
    """What a text of JSON holds; a ValueError if it is none, or nests too deep."""
    try:
        return json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError("expected JSON, got something else") from error


def _no_number(name: str) -> None:
    raise ValueError(name)  # NaN, or an infinity


def wrong(name: str, wanted: str, value: Any) -> ValueError:
    """The error of a value that is not as it should be."""
    return ValueError(f"expected {wanted} for {name}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value, cut to what fits into a line."""
    try:
        found = repr(value)
    except (ValueError, RecursionError):  # nested too deep, or thousands of digits
        found = f"a {type(value).__name__}"
    return found if len(found) <= 60 else f"{found[:60]}…"


def whole(low: int, high: int) -> Reader:
    """A reader of whole numbers."""

    def read(name: str, value: Any) -> int:
        if type(value) is int and low <= value <= high:
            return value
        raise wrong(name, f"a whole number from {low} to {high}", value)

    return read


def number(low: float = -math.inf, high: float = math.inf) -> Reader:
    """A reader of finite numbers."""

    def read(name: str, value: Any) -> float:
        bound = abs(value) if type(value) in (int, float) else math.nan
        if bound < 1e300 and low <= value <= high:
            return float(value)
        limits = "" if high == math.inf else f" from {low:g} to {high:g}"
        raise wrong(name, f"a number{limits}", value)

    return read


def text(name: str, value: Any, longest: int = 4096) -> str:
    """Read a text that could be the name of a file."""
    if isinstance(value, str) and len(value) <= longest and "\0" not in value:
        try:
            os.fsencode(value)
        except UnicodeError:  # half a character
            raise wrong(name, "a text", value) from None
        return value
    raise wrong(name, "a text", value)


def flag(name: str, value: Any) -> bool:
    """Read true or false."""
    if isinstance(value, bool):
        return value
    raise wrong(name, "true or false", value)


def one_of(choices: Sequence[Any]) -> Reader:
    """A reader of texts or numbers that are known."""

    def read(name: str, value: Any) -> Any:
        if type(value) in (str, int) and value in choices:
            return value
        raise wrong(name, f"one of {', '.join(map(str, choices))}", value)

    return read


def many(each: Reader, most: int = 10**4) -> Reader:
    """A reader of lists, as tuples."""

    def read(name: str, value: Any) -> tuple:
        if isinstance(value, list) and len(value) <= most:
            return tuple(each(name, x) for x in value)
        raise wrong(name, f"at most {most} values", value)

    return read


def row(*each: Reader) -> Reader:
    """A reader of lists of that length, as tuples."""

    def read(name: str, value: Any) -> tuple:
        if isinstance(value, list) and len(value) == len(each):
            return tuple(one(name, x) for one, x in zip(each, value, strict=True))
        raise wrong(name, f"{len(each)} values", value)

    return read


def shallow(levels: int) -> Reader:
    """A reader of any value that holds lists at most that many levels deep."""

    def read(name: str, value: Any) -> Any:
        if isinstance(value, list) and levels:
            return many(shallow(levels - 1))(name, value)
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise wrong(name, "a number, a text or a list of them", value)

    return read


def each_value(read: Reader) -> Reader:
    """A reader of objects with any fields."""

    def read_all(name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong(name, "an object", value)
        return {key: read(f"{key} of {name}", x) for key, x in value.items()}

    return read_all


def maybe(read: Reader) -> Reader:
    """A reader of what may be null."""
    return lambda name, value: None if value is None else read(name, value)


def read_fields(name: str, value: Any, needed: Mapping[str, Reader]) -> dict[str, Any]:
    """The fields of an object that have a reader, all of which must be there.

    Example:
        >>> read_fields("a result", {"seed": 3, "more": []}, {"seed": whole(0, 9)})
        {'seed': 3}
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected {name}, got {shown(value)}")
    if missing := [key for key in needed if key not in value]:
        raise ValueError(f"expected {name}, got an object without {missing[0]}")
    return {key: read(key, value[key]) for key, read in needed.items()}
