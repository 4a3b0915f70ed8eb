"""Image files to arrays and back: float32 RGB, sRGB-encoded, in [0, 1], h w 3."""

import contextlib
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import imagecodecs
import jax
import jax.numpy as jnp
import numpy as np
import tifffile
from jaxtyping import Array, Float
from PIL import ExifTags
from PIL import Image as pil
from PIL.PngImagePlugin import putchunk

from jaxnst.checks import OPTIMIZED, check_image
from jaxnst.disk import write_whole
from jaxnst.pictures.color import LUMA
from jaxnst.pictures.source import (
    KEYWORD,
    UNREAD,
    as_levels,
    open_pillow,
    open_source,
    readable_suffixes,
    srgb_profile,
)
from jaxnst.types import Image, Mask

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Formats that `save_image` writes, by suffix."""

LONGEST = {"WEBP": 16_383, "JPEG": 65_500}
"""Longest edge that a format can hold, in pixels, where there is a limit."""

PNG_LEVEL, PNG_STRATEGY = 4, imagecodecs.PNG.STRATEGY.FILTERED
"""Compression level of PNGs, 0 to 9, and strategy. Level 4 takes about a third of the
time of zlib's default 6, and 4 % more bytes."""

PNG_HEADER = 33
"""Bytes of a PNG before its second chunk."""


def load_image(
    path: str | Path, *, size: int | None = None, enlarge: bool = False
) -> Image:
    """Read a picture as it is meant to be seen, with all its bits.

    The picture is turned upright, its colour profile is applied, and transparent parts
    are laid over white.

    Args:
        path: A file of one of `source.FORMATS`.
        size: Long edge that the picture is resized to, in pixels. Default: the file's.
        enlarge: Whether to enlarge a picture smaller than `size`.

    Returns:
        RGB in [0, 1], h w 3.

    Raises:
        ValueError: If the file is not a readable picture, or has so many pixels that
            they may fill the memory, see `any_number_of_pixels`.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> load_image(sample_path("harbour"), size=64).shape
        (48, 64, 3)
    """
    return jnp.asarray(_over_white(*_read(path, size, enlarge)))


def thumbnail(path: str | Path, size: int) -> pil.Image:
    """A picture as `load_image` reads it, with a long edge of at most `size`, to show.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> thumbnail(sample_path("harbour"), 64).size
        (64, 48)
    """
    return pil.fromarray(as_levels(_over_white(*_read(path, size))))


def _over_white(rgb: np.ndarray, alpha: np.ndarray) -> Float[np.ndarray, "_h _w 3"]:
    return 1 - alpha * (1 - rgb) if alpha.size else rgb


class Cutout(NamedTuple):
    """A picture, and its alpha: h w 1 in [0, 1], or None if all pixels are opaque."""

    image: Image
    alpha: Mask | None


def load_cutout(
    path: str | Path, *, size: int | None = None, enlarge: bool = False
) -> Cutout:
    """Read a picture as `load_image` does, but with its transparency.

    Fully transparent pixels get the colours around them, so that they add no edges.
    Raises a ValueError if all pixels are fully transparent.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> load_cutout(sample_path("harbour"), size=64).alpha is None
        True
    """
    rgb, alpha = _read(path, size, enlarge)
    if (alpha == 1).all():
        return Cutout(jax.device_put(rgb), None)
    if not alpha.any():
        raise ValueError(f"{path} is transparent everywhere; choose another picture")
    return Cutout(jnp.asarray(_fill(rgb, alpha > 0)), jnp.asarray(alpha))


def _fill(rgb: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Give unseen pixels the mean of the smallest square around with seen ones."""
    h, w, _ = rgb.shape
    if seen.all():
        return rgb
    pads = ((0, h % 2), (0, w % 2), (0, 0))
    squares = lambda x: np.pad(x, pads).reshape(-(-h // 2), 2, -(-w // 2), 2, -1)
    count = squares(seen).sum((1, 3))
    mean = squares(np.where(seen, rgb, 0)).sum((1, 3)) / np.maximum(count, 1)
    coarse = _fill(mean.astype(rgb.dtype), count > 0)
    return np.where(seen, rgb, coarse.repeat(2, 0).repeat(2, 1)[:h, :w])


def load_mask(path: str | Path) -> Mask:
    """Read a mask: the alpha of a picture, or its brightness if all of it is opaque.

    Args:
        path: A picture of any mode.

    Returns:
        h w 1 in [0, 1]: 1 where the picture is opaque, or white.

    Raises:
        ValueError: If the picture cannot be read, as in `load_image`.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> load_mask(sample_path("harbour")).shape
        (480, 640, 1)
    """
    rgb, alpha = _read(path)
    opaque = (alpha == 1).all()
    return jnp.asarray(np.minimum(rgb @ LUMA[:, None], 1) if opaque else alpha)


def load_numbers(path: str | Path) -> Float[np.ndarray, "_h _w 3"]:
    """Read the numbers of a picture, such as labels, scaled to [0, 1]; ignore profiles.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> load_numbers(sample_path("harbour")).shape
        (480, 640, 3)
    """
    return _over_white(*_read(path, profiled=False))


def has_alpha(path: str | Path) -> bool:
    """Whether a picture may be transparent somewhere, from its header."""
    with open_source(Path(path)) as source:
        return source.has_alpha


def image_shape(path: str | Path) -> tuple[int, int]:
    """Height and width of a picture as `load_image` reads it, from its header.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> image_shape(sample_path("harbour"))
        (480, 640)
    """
    with open_source(Path(path)) as source:
        return source.shape


def _read(
    path: str | Path,
    size: int | None = None,
    enlarge: bool = False,
    profiled: bool = True,
) -> tuple[Float[np.ndarray, "_h _w 3"], Float[np.ndarray, "_h _w _a"]]:
    """RGB and alpha of a picture; the alpha has no channel if there is none."""
    if size is not None and size < 1:
        raise ValueError(f"expected a size of at least 1 px, got {size}")
    with open_source(Path(path), profiled=profiled) as source:
        values = source.read(size, enlarge)
    return values[..., :3], values[..., 3:]


@contextlib.contextmanager
def any_number_of_pixels() -> Iterator[None]:
    """Let `load_image` read pictures that Pillow would refuse as too large.

    The limit is lifted for all threads until the block ends.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> with any_number_of_pixels():
        ...     image = load_image(sample_path("harbour"))
    """
    usual, pil.MAX_IMAGE_PIXELS = pil.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        pil.MAX_IMAGE_PIXELS = usual


def is_picture(path: Path) -> bool:
    """Whether a file has the suffix of a picture, or without a suffix, is a picture.

    Suffixes of pictures that cannot be read here, such as `.heic`, count, too.

    Example:
        >>> is_picture(Path("a.JPG")), is_picture(Path("a.heic")), is_picture(Path("a"))
        (True, True, False)
    """
    if path.suffix:
        return path.suffix.lower() in readable_suffixes() | UNREAD.keys()
    with contextlib.suppress(Exception), open_pillow(path):
        return True
    return False


def save_image(
    path: str | Path,
    image: Float[Array, "_h _w _c"] | np.ndarray,
    *,
    quality: int = 95,
    bits: Literal[8, 16] = 8,
    description: str = "",
) -> None:
    """Write a picture as sRGB, whole or not at all. Equal pictures give equal files.

    Args:
        path: File that ends in .png, .jpg, .jpeg, .webp, .tif or .tiff. A TIFF is
            tiled, and a BigTIFF if it is too large for a TIFF.
        image: RGB, h w 3, or with alpha, h w 4; clipped to [0, 1]. For a JPEG,
            which has no alpha, it is laid over white.
        quality: Quality of a JPEG or WebP, 1 to 100. A JPEG keeps the resolution of its
            colours (4:4:4).
        bits: Bits per channel; only PNG and TIFF have 16.
        description: ASCII text to store in the file, see `read_description`.

    Raises:
        ValueError: If `output_format` refuses the path, the image is not of floats, or
            the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> save_image(path, np.full((4, 6, 3), 0.5))
        >>> image_shape(path)
        (4, 6)
    """
    with_alpha = getattr(image, "shape", ())[2:] == (4,)
    check_image(image[..., :3] if with_alpha else image, beyond=OPTIMIZED)
    path, image = Path(path), np.asarray(image, np.float32)
    kind = output_format(path, image.shape, bits=bits)
    if kind == "JPEG":
        image = np.clip(image, 0, 1)
        image = _over_white(image[..., :3], image[..., 3:])
    pixels = as_levels(image, bits)
    with write_whole(path) as file:
        if kind == "TIFF":
            tifffile.imwrite(
                file,
                pixels,
                bigtiff=pixels.nbytes > 2**32 - 2**25,
                photometric="rgb",
                compression="zlib",
                predictor=True,
                tile=(256, 256),
                iccprofile=srgb_profile(),
                description=description or None,
                extrasamples=["unassalpha"] if with_alpha else None,
                metadata=None,
                software=False,
            )
        elif kind == "PNG":
            file.write(_as_png(pixels, description))
        else:
            options: dict = {"subsampling": 0} if kind == "JPEG" else {}
            if description:
                options["exif"] = pil.Exif()
                options["exif"][ExifTags.Base.ImageDescription] = description
            pil.fromarray(pixels).save(
                file, kind, icc_profile=srgb_profile(), quality=quality, **options
            )


def _as_png(pixels: np.ndarray, description: str) -> bytes:
    """A PNG with the sRGB profile and a description."""
    pixels = np.ascontiguousarray(pixels)  # a picture that was turned is not
    data = bytes(imagecodecs.png_encode(pixels, level=PNG_LEVEL, strategy=PNG_STRATEGY))
    chunks = io.BytesIO()
    putchunk(chunks, b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile()))
    if description:
        putchunk(chunks, b"tEXt", f"{KEYWORD}\0{description}".encode("latin-1"))
    return data[:PNG_HEADER] + chunks.getvalue() + data[PNG_HEADER:]


def read_description(path: str | Path) -> str:
    """The text that `save_image` put into a picture; empty if there is none.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "grey.jpg"
        >>> save_image(path, np.full((4, 6, 3), 0.5), description="all grey")
        >>> read_description(path)
        'all grey'
    """
    with open_source(Path(path)) as source:
        return source.description


def output_format(path: Path, shape: tuple[int, ...], *, bits: int = 8) -> str:
    """Pillow's name of the format of an output file, checked before painting.

    Raises a ValueError if the suffix is not in `SUFFIXES`, or the format cannot hold
    that shape (h, w, …) or that many bits per channel.

    Example:
        >>> output_format(Path("a.jpg"), (480, 640, 3))
        'JPEG'
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"jaxnst cannot write the format of {path}; end the name in "
            f"{', '.join(SUFFIXES)}"
        )
    if bits == 16 and kind not in ("PNG", "TIFF"):
        raise ValueError(
            f"{path} cannot have 16 bits per channel; end it in .png, .tif or .tiff"
        )
    if max(shape[:2]) > LONGEST.get(kind, math.inf):
        raise ValueError(
            f"expected at most {LONGEST[kind]} px on each side for {path.suffix}, got "
            f"{shape[1]} x {shape[0]} px; write a .tif"
        )
    return kind
