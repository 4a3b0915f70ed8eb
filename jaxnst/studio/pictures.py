"""Pictures that are chosen on the page: samples, uploads, and sources of results."""

import asyncio
import io
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as pil

from jaxnst.disk import write_whole
from jaxnst.pictures.files import image_shape, is_picture, load_image, thumbnail
from jaxnst.pictures.samples import SAMPLES, sample_path
from jaxnst.pictures.select import PARTS, select_painted
from jaxnst.pictures.source import as_levels
from jaxnst.studio.names import Names
from jaxnst.weights.format import sha256

MOST_BYTES, MOST_PIXELS, MOST_OF_ALL = 200 * 10**6, 120 * 10**6, 4 * 10**9
"""Limits of one upload, and of the bytes of all."""

UNUSED = 3600.0
"""Seconds after which an upload that nobody asked for may make room for others."""

MASK_EDGE = 1024
"""Long edge of a mask that is drawn, in pixels."""

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

    Attributes:
        sizes: Bytes of each upload.
        used: When each of them was last asked for.
    """

    sources: Path
    private: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="jaxnst-studio-"))
    )
    known: dict[str, Picture] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    used: dict[Path, float] = field(default_factory=dict)

    def __post_init__(self):
        for name in SAMPLES:
            path = sample_path(name)
            height, width = image_shape(path)
            self.known[name] = Picture(name, path.name, path, width, height)

    def close(self) -> None:
        """Delete all uploads."""
        shutil.rmtree(self.private, ignore_errors=True)

    @property
    def total(self) -> int:
        """Bytes of all uploads that were not painted from yet."""
        return sum(list(self.sizes.values()))

    def find(self, name: str) -> Picture:
        """The picture of that name, also one that was painted from before."""
        if found := self.known.get(name):
            if found.path in self.sizes:
                self.used[found.path] = time.monotonic()
            return found
        if self.sources.is_dir():
            for path in self.sources.iterdir():
                if path.name == name and path.is_file() and not path.is_symlink():
                    height, width = image_shape(path)
                    given = Names(self.sources).find(name)
                    found = Picture(name, given, path, width, height)
                    return self.known.setdefault(name, found)
        raise ValueError("this picture is gone; choose it again")

    async def add(self, chunks: AsyncIterable[bytes], name: str) -> Path:
        """Write an upload to the private folder; `accept` then looks at it.

        Raises:
            OverflowError: If it is larger than uploads may be.
        """
        name = Path(name.replace("\\", "/")).name
        suffix = Path(name).suffix.lower()
        suffix = suffix if suffix and is_picture(Path(name)) else ".picture"
        stem = plain(Path(name).stem)
        path = self.private / f"{secrets.token_hex(8)}-{stem}{suffix}"
        self.sizes[path], self.used[path] = 0, time.monotonic()
        try:
            with await asyncio.to_thread(path.open, "xb") as file:
                async for chunk in chunks:
                    self.sizes[path] += len(chunk)
                    self.used[path] = time.monotonic()
                    self.check_room(path)
                    await asyncio.to_thread(file.write, chunk)
        except BaseException:  # also a connection that was dropped
            self.forget(path)
            raise
        return path

    def check_room(self, path: Path) -> None:
        """Raise an OverflowError if an upload, or all of them, are too large.

        Others that were not used for long are deleted where that makes room.
        """
        if self.sizes[path] > MOST_BYTES:
            raise OverflowError(
                f"the picture has more than {MOST_BYTES / 1e6:g} MB; save it smaller"
            )
        if self.total <= MOST_OF_ALL:
            return
        long_ago = time.monotonic() - UNUSED
        for other, used in list(self.used.items()):
            if used < long_ago and other != path:
                self.forget(other)
        if self.total > MOST_OF_ALL:
            raise OverflowError(
                f"more than {MOST_OF_ALL / 1e6:g} MB of uploads in all: "
                f"{len(self.sizes) - 1} others wait to be painted from; paint from "
                "them, which frees their room, or restart jaxnst studio, which deletes "
                "them"
            )

    def forget(self, path: Path) -> None:
        """Delete an upload and its copies for the eye."""
        for kind in EDGES:
            self.copy_path(path.name, kind).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        for of_uploads in (self.sizes, self.used):
            of_uploads.pop(path, None)
        self.known.pop(path.name, None)

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
                    f"{path} has {height * width / 1e6:.0f} megapixels, and at most "
                    f"{MOST_PIXELS / 1e6:.0f} can be read; save it smaller"
                )
            for kind in EDGES:
                self.copy(path, path.name, kind)  # decoded, so that damage shows now
        except ValueError as error:
            self.forget(path)
            raise ValueError(str(error).replace(str(path), shown)) from error
        found = Picture(path.name, shown, path, width, height)
        return self.known.setdefault(found.id, found)

    def copy(self, path: Path, key: str, kind: str) -> Path:
        """A JPEG of what is at a path, small enough to look at, made once for a key."""
        target = self.copy_path(key, kind)
        if not target.exists():
            with write_whole(target) as file:
                file.write(as_jpeg(path, EDGES[kind]))
        return target

    def copy_path(self, key: str, kind: str) -> Path:
        """Where a copy for the eye is, once it is made."""
        return self.private / f"{kind}-{key}.jpg"

    def keep(self, picture: Picture) -> Path:
        """Copy what is painted from to the sources, once; give its path there.

        An upload lies only there from then on.
        """
        if picture.path.parent == self.sources:
            return picture.path
        digest = sha256(picture.path)
        stem, suffix = plain(Path(picture.name).stem), picture.path.suffix
        path = self.sources / f"{stem}-{digest[:8]}{suffix}"
        if not path.exists():
            self.sources.mkdir(parents=True, exist_ok=True)
            with write_whole(path) as file, picture.path.open("rb") as original:
                shutil.copyfileobj(original, file)
        Names(self.sources).keep(path.name, picture.name)
        if picture.path in self.sizes:
            self.known[picture.id] = picture._replace(path=path)
            del self.sizes[picture.path], self.used[picture.path]
            picture.path.unlink(missing_ok=True)
        return path


def as_jpeg(path: Path, edge: int) -> bytes:
    """A picture as a JPEG with at most that long an edge."""
    memory = io.BytesIO()
    thumbnail(path, edge).save(memory, "JPEG", quality=90, subsampling=0)
    return memory.getvalue()


def select_part(path: Path, part: str, painted: bytes) -> bytes:
    """A PNG whose alpha is the mask of a part of a picture.

    The part has a name of `PARTS`, or is `painted`: it is about where another PNG of
    that kind is opaque.
    """
    image = load_image(path, size=MASK_EDGE)
    if part in PARTS:
        found = PARTS[part](image)
    else:
        try:
            with pil.open(io.BytesIO(painted), formats=["PNG"]) as ink:
                if max(ink.size) > MASK_EDGE:
                    raise ValueError(f"expected a mask of at most {MASK_EDGE} px")
                alpha = np.asarray(ink.convert("RGBA").getchannel("A"), np.float32)
        except OSError as error:
            raise ValueError(f"expected a mask as a PNG: {error}") from error
        found = select_painted(image, alpha[..., None] / 255)
    memory, levels = io.BytesIO(), as_levels(found.mask)[..., 0]
    white = pil.new("L", (levels.shape[1], levels.shape[0]), 255)
    pil.merge("LA", (white, pil.fromarray(levels))).save(memory, "PNG")
    return memory.getvalue()


def plain(stem: str) -> str:
    """A name of letters, digits, - and _, of at most 40, that no shell changes.

    Example:
        >>> plain("Mein Bild (2)"), plain("../..")
        ('Mein-Bild-2', 'picture')
    """
    kept = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")
    return kept[:40].strip("-") or "picture"
