"""JSON from untrusted files: limited in size, and checked against types."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from jaxnst.disk import check_file, write_whole

MOST_BYTES = 10**6
"""Most bytes of a file; a manifest has a few thousand."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: If the path is no file, or the file is too large or not JSON.
        OSError: If the file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = path.write_text('{"seed": 3}')
        >>> read_json(path)
        {'seed': 3}
    """
    check_file(path, "a file")  # not a pipe, which would never end
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"expected at most {MOST_BYTES} bytes in {path}, got more")
    try:
        return parse_json(data)
    except ValueError as error:
        raise ValueError(f"{error} in {path}") from error


def parse_json(data: str | bytes) -> Any:
    """Parse JSON; a ValueError if it is not JSON, or nested too deeply."""
    try:
        return json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError("expected JSON, got something else") from error


def _no_number(name: str) -> None:
    raise ValueError(name)  # NaN, or an infinity


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with write_whole(path) as file:
        file.write(json.dumps(value, indent=2, allow_nan=False).encode())


def shown(value: Any) -> str:
    """A value as text, cut to 60 characters."""
    try:
        found = repr(value)
    except (ValueError, RecursionError):  # nested too deep, or thousands of digits
        found = f"a {type(value).__name__}"
    return found if len(found) <= 60 else f"{found[:60]}…"


Text = Annotated[str, Meta(pattern=r"^[^\0\ud800-\udc7f\udd00-\udfff]{0,4096}$")]
"""A text that could be a file name: up to 4096 characters, no NUL, and no surrogates
but those that stand for undecodable bytes."""

TERMS = {
    r" \| null": "",
    r"str matching regex '.*'": "a text",
    r"\bint\b": "a whole number",
    r"\bfloat\b": "a number",
    r"\bstr\b": "a text",
    r"\barray\b": "a list",
}
"""Terms in messages of msgspec, and plain words for them."""


def convert(value: Any, kind: Any, name: str) -> Any:
    """Convert parsed JSON to an annotated type, such as a dataclass.

    `msgspec.Meta` sets bounds. Fields that the type does not have are ignored. If the
    value does not fit, a ValueError says why in one line, and calls the value `name`.

    Example:
        >>> convert([3, 4], tuple[int, ...], "sizes")
        (3, 4)
    """
    try:
        return msgspec.convert(value, kind, dec_hook=_read_path)
    except (ValueError, RecursionError) as error:
        why = re.sub(r" - at \$\.?", " at ", str(error).replace("`", ""))
        for term, words in TERMS.items():
            why = re.sub(term, words, why)
        raise ValueError(f"{why[:1].lower()}{why[1:]} in {name}") from None


def _read_path(kind: type, value: Any) -> Any:
    """Turn a text that could be a file name into a path."""
    if kind is Path:
        return Path(msgspec.convert(value, Text))
    raise ValueError("expected a path")
