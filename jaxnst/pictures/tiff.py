"""TIFF files that Pillow reads wrongly, or not at all: planes, deep colours, pages."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Float, Shaped
from PIL import ExifTags
from PIL import Image as pil

# What tifffile logs of damaged files would be printed, a line for each fault.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

RAW = 32803, 34892
"""Photometric interpretations of a sensor's values: colour filter array, linear raw."""

PLAIN = (
    tifffile.PHOTOMETRIC.RGB,
    tifffile.PHOTOMETRIC.MINISBLACK,
    tifffile.PHOTOMETRIC.MINISWHITE,
)
"""What is read here; Pillow reads palettes, CMYK, YCbCr and CIELAB."""

REDUCED, SEPARATE = 1, 2
ASSOCIATED, UNASSOCIATED = 1, 2


def read_tiff(path: Path) -> pil.Image | None:
    """The picture of a TIFF with 8 bits per channel; None if Pillow is to read it.

    It is the first page that is no thumbnail, with its profile and orientation.

    Raises:
        ValueError: If it is the raw data of a camera, or its numbers have no meaning.
    """
    try:
        with tifffile.TiffFile(path) as file:
            pages: list[Any] = [
                part for page in file.pages for part in (page, *(page.pages or ()))
            ]
            if any(_tag(page, "PhotometricInterpretation") in RAW for page in pages):
                raise ValueError("a camera's raw data; develop it to a picture first")
            whole = [page for page in pages if not page.subfiletype & REDUCED]
            page = (whole or pages)[0]
            if page is pages[0] and not _needs_us(page):
                return None
            limit = pil.MAX_IMAGE_PIXELS
            if limit and page.imagewidth * page.imagelength > 2 * limit:
                return None
            return _to_image(page)
    except (tifffile.TiffFileError, KeyError, IndexError):
        return None


def _tag(page: tifffile.TiffPage, name: str, default: Any = None) -> Any:
    found = page.tags.get(name)
    return default if found is None else found.value


def _needs_us(page: tifffile.TiffPage) -> bool:
    """Whether Pillow refuses a page, or garbles it."""
    deep = page.bitspersample > 8 or page.planarconfig == SEPARATE
    return page.photometric in PLAIN and page.samplesperpixel in (1, 2, 3, 4) and deep


def _to_image(page: tifffile.TiffPage) -> pil.Image:
    """Eight bits per channel, alpha not multiplied in, as Pillow would give it."""
    pixels = page.asarray()
    if page.axes.startswith("S"):
        pixels = np.moveaxis(pixels, 0, -1)
    values = _to_unit(pixels.reshape(page.imagelength, page.imagewidth, -1), page)
    colours = 1 if page.photometric in PLAIN[1:] else 3
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        values[..., 0] = 1 - values[..., 0]
    extra = page.extrasamples[:1]
    if extra and extra[0] == ASSOCIATED:
        alpha = values[..., colours : colours + 1]
        values[..., :colours] /= np.maximum(alpha, 1e-6)
    kept = colours + bool(extra and extra[0] in (ASSOCIATED, UNASSOCIATED))
    array = (np.clip(values[..., :kept], 0, 1) * 255 + 0.5).astype(np.uint8)
    image = pil.fromarray(array[..., 0] if kept == 1 else array)
    profile = _tag(page, "InterColorProfile")
    if profile is not None:
        image.info["icc_profile"] = bytes(profile)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = _tag(page, "Orientation", 1)
    exif[ExifTags.Base.ImageDescription] = _tag(page, "ImageDescription", "")
    return image


def _to_unit(
    pixels: Shaped[np.ndarray, "_h _w _c"], page: tifffile.TiffPage
) -> Float[np.ndarray, "_h _w _c"]:
    """Numbers in [0, 1]: integers are divided by the largest, which a tag may tell."""
    low, high, top = pixels.min(), pixels.max(), 1
    if pixels.dtype.kind != "f":
        top = _tag(page, "MaxSampleValue") or 2**page.bitspersample - 1
        top = max(np.ravel(top))
    if not (low >= 0 and high <= top):  # false for NaN too
        raise ValueError(f"numbers from {low:g} to {high:g}, expected 0 to {top:g}")
    return (pixels / top).astype(np.float32)
