"""The names that people gave to pictures which are kept under names of our own."""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnst.foreign import convert, read_json, write_json

FILE, LONGEST = "names.json", 200
"""Where names are kept, and the letters of one, at most."""


@dataclass(frozen=True)
class Names:
    """Names by file, in a file of the folder of the pictures.

    Example:
        >>> from tempfile import mkdtemp
        >>> names = Names(Path(mkdtemp()))
        >>> names.keep("Bild-2-0123abcd.jpg", "Bild (2).jpg")
        >>> names.find("Bild-2-0123abcd.jpg"), names.find("tower-0123abcd.jpg")
        ('Bild (2).jpg', 'tower.jpg')
    """

    folder: Path

    def all(self) -> dict[str, str]:
        """All names; what else is in the file, which anybody can write, is left out."""
        with contextlib.suppress(OSError, ValueError):
            found = convert(read_json(self.folder / FILE), dict[str, Any], "names")
            return {file: name for file, name in found.items() if _is_name(name)}
        return {}

    def keep(self, file: str, name: str) -> None:
        """Keep the name of a file."""
        if (names := self.all()).get(file) != name:
            write_json(self.folder / FILE, names | {file: name})

    def find(self, file: str) -> str:
        """The name of a file; of one without, its own, as far as people chose it."""
        return self.all().get(file) or re.sub(r"-[0-9a-f]{8}(?=\.\w+$)", "", file)


def _is_name(value: Any) -> bool:
    """Whether that is a text which can be sent: no half of a character."""
    fits = isinstance(value, str) and 0 < len(value) <= LONGEST
    return fits and not re.search("[\ud800-\udfff]", value)
