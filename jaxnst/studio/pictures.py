"""Pictures that are chosen on the page: samples, uploads, and sources of results."""

import contextlib
import io
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jaxnst.disk import write_whole
from jaxnst.pictures.files import UNREAD, image_shape, readable_suffixes, thumbnail
from jaxnst.pictures.samples import SAMPLES, sample_path
from jaxnst.weights.format import sha256

MOST_BYTES, MOST_PIXELS, MOST_OF_ALL = 200 * 10**6, 120 * 10**6, 4 * 10**9
"""Limits of one upload, and of the bytes of all."""

EDGES = {"thumb": 192, "view": 1600}
"""Long edges of the copies that the page shows, in pixels."""


class Picture(NamedTuple):
    """A picture that can be chosen; `id` is its name on the page."""

    id: str
    name: str
    path: Path
    width: int
    height: int

    def as_json(self) -> dict[str, str | int]:
        """What the page knows of it; never where it lies."""
        shown = ("id", "name", "width", "height")
        return {key: getattr(self, key) for key in shown}


@dataclass
class Pictures:
    """Pictures by their names on the page.

    Uploads lie in a private temporary folder. What is painted from is copied to
    `sources`, the folder beside the results, so that a result can be painted again.
    """

    sources: Path
    private: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="jaxnst-studio-"))
    )
    known: dict[str, Picture] = field(default_factory=dict)
    total: int = 0

    def __post_init__(self):
        for name in SAMPLES:
            path = sample_path(name)
            height, width = image_shape(path)
            self.known[name] = Picture(name, path.name, path, width, height)

    def close(self) -> None:
        """Delete all uploads."""
        shutil.rmtree(self.private, ignore_errors=True)

    def find(self, name: str) -> Picture:
        """The picture of that name, also one that was painted from before."""
        if name in self.known:
            return self.known[name]
        if self.sources.is_dir():
            for path in self.sources.iterdir():
                if path.name == name and path.is_file() and not path.is_symlink():
                    height, width = image_shape(path)
                    found = Picture(name, path.name, path, width, height)
                    return self.known.setdefault(name, found)
        raise ValueError("expected a picture that is there, got none; choose it again")

    async def add(self, chunks: AsyncIterable[bytes], name: str) -> Path:
        """Write an upload to the private folder; `accept` then looks at it.

        Raises:
            OverflowError: If it is larger than uploads may be.
        """
        name = Path(name.replace("\\", "/")).name
        suffix = Path(name).suffix.lower()
        suffix = suffix if suffix in readable_suffixes() | UNREAD.keys() else ".picture"
        stem = plain(Path(name).stem)
        path = self.private / f"{secrets.token_hex(8)}-{stem}{suffix}"
        size, room = 0, min(MOST_BYTES, MOST_OF_ALL - self.total)
        try:
            with path.open("xb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > room:
                        raise OverflowError(
                            f"expected at most {room / 1e6:.0f} MB, got more; save the "
                            "picture smaller"
                        )
                    file.write(chunk)
        except BaseException:  # also a connection that was dropped
            path.unlink(missing_ok=True)
            raise
        self.total += size
        return path

    def accept(self, path: Path, name: str) -> Picture:
        """Take an upload up if it is a picture; otherwise delete it.

        Raises:
            ValueError: In one line, with the name that it had.
        """
        shown = Path(name.replace("\\", "/")).name or "the file"
        try:
            height, width = image_shape(path)
            if height * width > MOST_PIXELS:
                raise ValueError(
                    f"expected at most {MOST_PIXELS / 1e6:.0f} megapixels, got "
                    f"{height * width / 1e6:.0f} in {path}; save it smaller"
                )
            found = Picture(path.name, shown, path, width, height)
            self.view(found, "view")  # decoded once, so that damage shows now
            self.view(found, "thumb")
        except ValueError as error:
            with contextlib.suppress(FileNotFoundError):
                self.total -= path.stat().st_size
                path.unlink()
            raise ValueError(str(error).replace(str(path), shown)) from error
        self.known[found.id] = found
        return found

    def view(self, picture: Picture, kind: str) -> Path:
        """A JPEG of a picture, small enough to look at."""
        path = self.private / f"{kind}-{picture.id}.jpg"
        if not path.exists():
            with write_whole(path) as file:
                file.write(as_jpeg(picture.path, EDGES[kind]))
        return path

    def keep(self, picture: Picture) -> Path:
        """Copy what is painted from to the sources, once; give its path there."""
        if picture.path.parent == self.sources:
            return picture.path
        digest = sha256(picture.path)
        stem, suffix = plain(Path(picture.name).stem), picture.path.suffix
        path = self.sources / f"{stem}-{digest[:8]}{suffix}"
        if not path.exists():
            self.sources.mkdir(parents=True, exist_ok=True)
            with write_whole(path) as file, picture.path.open("rb") as original:
                shutil.copyfileobj(original, file)
        return path


def as_jpeg(path: Path, edge: int) -> bytes:
    """A picture as a JPEG with at most that long an edge."""
    memory = io.BytesIO()
    thumbnail(path, edge).save(memory, "JPEG", quality=90, subsampling=0)
    return memory.getvalue()


def plain(stem: str) -> str:
    """A name of letters, digits, - and _, of at most 40, that no shell changes.

    Example:
        >>> plain("Mein Bild (2)"), plain("../..")
        ('Mein-Bild-2', 'picture')
    """
    kept = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")
    return kept[:40].strip("-") or "picture"
