"""TIFF files that Pillow reads wrongly, or not at all: planes, deep colours, pages."""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Float, Shaped
from PIL import Image as pil
from tifffile import EXTRASAMPLE, FILETYPE, PHOTOMETRIC, PLANARCONFIG

# Otherwise tifffile prints a line for each fault of a damaged file.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

RAW = PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW
"""Photometric interpretations of a sensor's values."""

PLAIN = PHOTOMETRIC.RGB, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE
"""Interpretations that are read here; Pillow reads palettes, CMYK, YCbCr and CIELAB."""

PAGES = 16
"""Most pages that are examined: a file may have many, or link them in a circle."""


@contextlib.contextmanager
def open_page(path: Path) -> Iterator[tifffile.TiffPage | None]:
    """The page of a TIFF that holds its picture; None if Pillow should read the file.

    It is the first page that is neither a thumbnail nor a mask.

    Raises:
        ValueError: If the file has a camera's raw data, or separate planes that are
            neither grey nor RGB.
    """
    with contextlib.ExitStack() as stack:
        page = None
        with contextlib.suppress(tifffile.TiffFileError, KeyError, IndexError):
            page = _find_page(stack.enter_context(tifffile.TiffFile(path)))
        yield page


def _find_page(file: tifffile.TiffFile) -> tifffile.TiffPage | None:
    own = itertools.islice(file.pages, PAGES)
    pages: list[Any] = [
        part for page in own for part in (page, *itertools.islice(page.pages or (), 8))
    ]
    if any(page.tags.valueof("PhotometricInterpretation") in RAW for page in pages):
        raise ValueError("a camera's raw data; develop it to a picture first")
    first, separate = pages[0], PLANARCONFIG.SEPARATE
    planes = first.planarconfig == separate and first.samplesperpixel > 1
    if planes and first.photometric not in PLAIN:
        raise ValueError("separate planes that are neither grey nor RGB")
    other = FILETYPE.REDUCEDIMAGE | FILETYPE.MASK
    whole = [page for page in pages if not page.subfiletype & other]
    page, limit = (whole or pages)[0], pil.MAX_IMAGE_PIXELS
    deep = page.bitspersample > 8 or page.planarconfig == separate
    pillows = page is first and not (deep and page.photometric in PLAIN)
    bomb = limit and page.imagewidth * page.imagelength > 2 * limit
    return None if pillows or bomb else page


def has_page_alpha(page: tifffile.TiffPage) -> bool:
    """Whether the first channel after the colours of a page is alpha."""
    kinds = EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA
    return page.extrasamples != () and page.extrasamples[0] in kinds


def read_page(
    page: tifffile.TiffPage, *, largest: int | None = None
) -> Float[np.ndarray, "_h _w _c"]:
    """The stored grey or RGB of a page in [0, 1], not premultiplied, then any alpha.

    Args:
        page: From `open_page`.
        largest: Divisor of integers of more than 8 bits. Default: the largest number
            that a tag states, or that so many bits can hold.

    Raises:
        ValueError: If a number of the page is out of range.
    """
    pixels = page.asarray()
    if page.axes.startswith("S"):
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(page.imagelength, page.imagewidth, -1)
    top = 1
    if pixels.dtype.kind != "f":
        usual = 2 ** (page.bitspersample - (pixels.dtype.kind == "i")) - 1
        top = int(max(np.ravel(page.tags.valueof("MaxSampleValue") or usual)))
        top = largest if largest and page.bitspersample > 8 else top
    values = to_unit(pixels, top)
    colors = 1 if page.photometric in PLAIN[1:] else 3
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        values[..., 0] = 1 - values[..., 0]
    if page.extrasamples[:1] == (EXTRASAMPLE.ASSOCALPHA,):
        alpha = values[..., colors : colors + 1]
        values[..., :colors] /= np.maximum(alpha, 1e-6)
    return np.clip(values[..., : colors + has_page_alpha(page)], 0, 1)


def to_unit(
    numbers: Shaped[np.ndarray, "*_shape"], top: int
) -> Float[np.ndarray, "*_shape"]:
    """Scale numbers from [0, top] to [0, 1]; a ValueError if any lies outside."""
    low, high = numbers.min(), numbers.max()
    if not (low >= 0 and high <= top):  # false for NaN too
        raise ValueError(f"numbers from {low:g} to {high:g}, expected 0 to {top:g}")
    return (numbers / np.float32(top)).astype(np.float32)
