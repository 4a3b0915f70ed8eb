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
from tifffile import PHOTOMETRIC

# What tifffile logs of damaged files would be printed, a line for each fault.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

RAW = 32803, 34892
"""Photometric interpretations of a sensor's values: colour filter array, linear raw."""

PLAIN = PHOTOMETRIC.RGB, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE
"""What is read here; Pillow reads palettes, CMYK, YCbCr and CIELAB."""

REDUCED, MASK, SEPARATE = 1, 4, 2
ASSOCIATED, UNASSOCIATED = 1, 2

PAGES = 16
"""Pages that are looked at, at most: a file may have many, or lead round in circles."""


@contextlib.contextmanager
def open_page(path: Path) -> Iterator[tifffile.TiffPage | None]:
    """The page of a TIFF that is its picture; None if Pillow is to read the file.

    It is the first page that is no thumbnail.

    Raises:
        ValueError: If it is the raw data of a camera, or has planes of other colours.
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
    if any(tag_value(page, "PhotometricInterpretation") in RAW for page in pages):
        raise ValueError("a camera's raw data; develop it to a picture first")
    separate = pages[0].planarconfig == SEPARATE and pages[0].samplesperpixel > 1
    if separate and pages[0].photometric not in PLAIN:
        raise ValueError("separate planes that are neither grey nor RGB")
    whole = [page for page in pages if not page.subfiletype & (REDUCED | MASK)]
    page, limit = (whole or pages)[0], pil.MAX_IMAGE_PIXELS
    deep = page.bitspersample > 8 or page.planarconfig == SEPARATE
    pillows = page is pages[0] and not (deep and page.photometric in PLAIN)
    bomb = limit and page.imagewidth * page.imagelength > 2 * limit
    return None if pillows or bomb else page


def tag_value(page: tifffile.TiffPage, name: str, default: Any = None) -> Any:
    """The value of a tag, or a default where the page lacks it."""
    found = page.tags.get(name)
    return default if found is None else found.value


def has_page_alpha(page: tifffile.TiffPage) -> bool:
    """Whether the first channel after the colours is a page's alpha."""
    return page.extrasamples[:1] in ((ASSOCIATED,), (UNASSOCIATED,))


def read_page(
    page: tifffile.TiffPage, *, largest: int | None = None
) -> Float[np.ndarray, "_h _w _c"]:
    """Grey or RGB in [0, 1], as stored, with the alpha, which is not multiplied in.

    Args:
        page: From `open_page`.
        largest: What deep integers are divided by. Default: their largest number.

    Raises:
        ValueError: If its numbers have no meaning.
    """
    pixels = page.asarray()
    if page.axes.startswith("S"):
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(page.imagelength, page.imagewidth, -1)
    values = _to_unit(pixels, page, largest)
    colors = 1 if page.photometric in PLAIN[1:] else 3
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        values[..., 0] = 1 - values[..., 0]
    if page.extrasamples[:1] == (ASSOCIATED,):
        alpha = values[..., colors : colors + 1]
        values[..., :colors] /= np.maximum(alpha, 1e-6)
    return np.clip(values[..., : colors + has_page_alpha(page)], 0, 1)


def _to_unit(
    pixels: Shaped[np.ndarray, "_h _w _c"], page: tifffile.TiffPage, largest: int | None
) -> Float[np.ndarray, "_h _w _c"]:
    """Numbers in [0, 1]: integers are divided by the largest, which a tag may tell."""
    low, high, top = pixels.min(), pixels.max(), 1
    if pixels.dtype.kind != "f":
        usual = 2 ** (page.bitspersample - (pixels.dtype.kind == "i")) - 1
        top = max(np.ravel(tag_value(page, "MaxSampleValue") or usual))
        top = largest if largest and page.bitspersample > 8 else top
    if not (low >= 0 and high <= top):  # false for NaN too
        raise ValueError(f"numbers from {low:g} to {high:g}, expected 0 to {top:g}")
    return (pixels / np.float32(top)).astype(np.float32)
