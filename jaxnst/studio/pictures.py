"""Pictures that are chosen on the page: samples, uploads, and sources of results."""

import asyncio
import contextlib
import hashlib
import io
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta
from PIL import Image as pil
from starlette.exceptions import HTTPException

from jaxnst.disk import write_whole
from jaxnst.foreign import convert, read_json, write_json
from jaxnst.pictures.files import image_shape, is_picture, load_image, thumbnail
from jaxnst.pictures.samples import SAMPLES, sample_path
from jaxnst.pictures.select import PARTS, select_painted
from jaxnst.pictures.source import as_levels
from jaxnst.weights.format import sha256

MOST_BYTES, MOST_PIXELS, MOST_OF_ALL = 200 * 10**6, 120 * 10**6, 4 * 10**9
"""Most bytes and pixels of one upload, and most bytes of all uploads."""

MASK_EDGE = 1024
"""Long edge of a drawn mask, in pixels."""

EDGES = {"thumb": 192, "view": 1600}
"""Long edges of the copies that the page shows, in pixels."""

NAMES = "names.json"
"""File beside the sources with the names that people gave them."""

Name = Annotated[str, Meta(pattern=r"^[^\ud800-\udfff]{1,200}$")]
"""A name that can be sent: without surrogates."""

decoding = threading.Lock()
"""Lock of decoding, so that only one large picture is in memory at a time."""


class Picture(NamedTuple):
    """A picture that can be chosen. Requests name its `id`; people see its `name`."""

    id: str
    name: str
    path: Path
    width: int
    height: int

    def as_json(self) -> dict[str, str | int]:
        """The fields that the page gets; never the path."""
        shown = ("id", "name", "width", "height")
        return {key: getattr(self, key) for key in shown}


class Pictures:
    """The pictures that can be chosen, by id.

    Uploads are in a private temporary folder. Inputs of results are copied to
    `sources`, a folder beside the results, so that results can be repainted.

    Attributes:
        known: The pictures that were requested so far, by id.
        uploads: Bytes of each upload that is not an input of a result yet.
    """

    def __init__(self, sources: Path):
        self.sources = sources
        self.private = Path(tempfile.mkdtemp(prefix="jaxnst-studio-"))
        self.known: dict[str, Picture] = {}
        self.uploads: dict[Path, int] = {}
        for name in SAMPLES:
            self.know(name, sample_path(name))

    def know(self, id: str, path: Path, name: str = "") -> Picture:
        """Register a picture by its id on the page, with the name that it was given.

        Raises a ValueError if the file is not a picture.
        """
        height, width = image_shape(path)
        found = Picture(id, name or path.name, path, width, height)
        return self.known.setdefault(id, found)

    def close(self) -> None:
        """Delete all uploads."""
        shutil.rmtree(self.private, ignore_errors=True)

    def find(self, id: str) -> Picture:
        """The picture with that id, also from the sources of earlier results."""
        if found := self.known.get(id):
            return found
        if self.sources.is_dir():
            for path in self.sources.iterdir():
                if path.name == id and path.is_file() and not path.is_symlink():
                    own = re.sub(r"-[0-9a-f]{8}(?=\.\w+$)", "", id)  # without its hash
                    return self.know(id, path, self.given_names().get(id, own))
        raise ValueError("this picture is gone; choose it again")

    def given_names(self) -> dict[str, str]:
        """The names that people gave to sources; empty if their file is damaged."""
        with contextlib.suppress(OSError, ValueError):
            return convert(read_json(self.sources / NAMES), dict[str, Name], "names")
        return {}

    async def add(self, chunks: AsyncIterable[bytes], name: str) -> Picture:
        """Register an upload if it is a picture; otherwise delete it.

        Raises:
            HTTPException: If it is too large.
            ValueError: If it is not a picture, in one line with its original name.
        """
        stem, suffix = plain(Path(name).stem), Path(name).suffix.lower()
        suffix = suffix if suffix and is_picture(Path(name)) else ".picture"
        path = self.private / f"{secrets.token_hex(8)}-{stem}{suffix}"
        self.uploads[path] = 0
        try:
            with await asyncio.to_thread(path.open, "xb") as file:
                async for chunk in chunks:
                    self.uploads[path] += len(chunk)
                    self.check_room(path)
                    await asyncio.to_thread(file.write, chunk)
            return await asyncio.to_thread(self.accept, path, name)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), name)) from error
        finally:
            if path.name not in self.known:  # also if the connection was dropped
                del self.uploads[path]
                path.unlink(missing_ok=True)

    def accept(self, path: Path, name: str) -> Picture:
        """Register an upload; a ValueError says if it is no picture, or too large."""
        height, width = image_shape(path)
        if height * width > MOST_PIXELS:
            raise ValueError(
                f"{path} has {height * width / 1e6:.0f} megapixels, and at most "
                f"{MOST_PIXELS / 1e6:.0f} can be read; save it smaller"
            )
        for kind in EDGES:
            self.copy(path, kind)  # decode now, so that damage is found
        return self.know(path.name, path, name)

    def check_room(self, path: Path) -> None:
        """Refuse an upload if it is too large, or if all uploads together are."""
        why = ""
        if self.uploads[path] > MOST_BYTES:
            why = f"the picture has more than {MOST_BYTES / 1e6:g} MB; save it smaller"
        elif sum(self.uploads.values()) > MOST_OF_ALL:
            why = (
                f"more than {MOST_OF_ALL / 1e6:g} MB of uploads in all: "
                f"{len(self.uploads) - 1} others are not used yet; paint with them, "
                "which frees their room, or restart jaxnst studio, which deletes them"
            )
        if why:  # close the connection, since the rest is not read
            raise HTTPException(413, why, {"connection": "close"})

    def copy(self, path: Path, kind: str) -> Path:
        """Path of a small JPEG of a picture; made again only if the picture changes."""
        version = hashlib.sha256(f"{path} {path.stat().st_mtime_ns}".encode())
        target = self.private / f"{kind}-{version.hexdigest()}.jpg"
        if not target.exists():
            with decoding, write_whole(target) as file:
                small = thumbnail(path, EDGES[kind])
                small.save(file, "JPEG", quality=90, subsampling=0)
        return target

    def keep(self, id: str) -> str:
        """Copy an input of a result to the sources, once; return its name there.

        An upload is moved instead.
        """
        picture = self.find(id)
        if picture.path.parent == self.sources:
            return picture.path.name
        digest = sha256(picture.path)
        stem, suffix = plain(Path(picture.name).stem), picture.path.suffix
        path = self.sources / f"{stem}-{digest[:8]}{suffix}"
        if not path.exists():
            self.sources.mkdir(parents=True, exist_ok=True)
            with write_whole(path) as file, picture.path.open("rb") as original:
                shutil.copyfileobj(original, file)
        names = self.given_names()
        if names.get(path.name) != picture.name:
            write_json(self.sources / NAMES, names | {path.name: picture.name})
        if picture.path in self.uploads:
            self.known[id] = picture._replace(path=path)
            del self.uploads[picture.path]
            picture.path.unlink(missing_ok=True)
        return path.name


def select_part(path: Path, part: str, painted: bytes) -> bytes:
    """A PNG whose alpha is the mask of a part of a picture.

    `part` is a name of `PARTS`, or `painted`. In the second case, the part is roughly
    where the PNG in `painted` is opaque.
    """
    with decoding:
        image = load_image(path, size=MASK_EDGE)
        if part in PARTS:
            found = PARTS[part](image)
        else:
            found = select_painted(image, _opaque(painted))
    levels = pil.fromarray(as_levels(found.mask)[..., 0])
    memory = io.BytesIO()
    pil.merge("LA", (pil.new("L", levels.size, 255), levels)).save(memory, "PNG")
    return memory.getvalue()


def _opaque(data: bytes) -> np.ndarray:
    """Where a PNG is opaque, h w 1 in [0, 1]."""
    try:
        with pil.open(io.BytesIO(data), formats=["PNG"]) as ink:
            if max(ink.size) > MASK_EDGE:
                raise ValueError(f"expected a mask of at most {MASK_EDGE} px")
            alpha = ink.convert("RGBA").getchannel("A")
    except (OSError, pil.DecompressionBombError) as error:
        raise ValueError(f"expected a mask as a PNG: {error}") from error
    return np.asarray(alpha, np.float32)[..., None] / 255


def plain(stem: str) -> str:
    """A name of at most 40 letters, digits, - and _, which is safe in any shell.

    Example:
        >>> plain("Mein Bild (2)"), plain("../..")
        ('Mein-Bild-2', 'picture')
    """
    kept = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")
    return kept[:40].strip("-") or "picture"
