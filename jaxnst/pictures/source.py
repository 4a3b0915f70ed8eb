"""Opens picture files, and reads their metadata and pixels."""

import contextlib
import io
import logging
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile
from jaxtyping import Array, Float, UInt8, UInt16
from PIL import ExifTags, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin
from PIL import Image as pil

from jaxnst.disk import check_file
from jaxnst.pictures.geometry import fit_shape, resize
from jaxnst.pictures.tiff import has_page_alpha, open_page, read_page, to_unit

with contextlib.suppress(ImportError):  # an extra
    from pillow_heif import register_heif_opener

    register_heif_opener()

# Otherwise it prints messages about chunks and interlacing.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())

# Image generators and editors write more text than Pillow allows as a safe limit.
PngImagePlugin.MAX_TEXT_CHUNK = 2**24

FORMATS = {x: x for x in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "PPM", "AVIF", "HEIF")}
"""The formats that are opened, with their usual names; the suffix of a file does not
matter. For some of its other formats, Pillow starts a program, such as Ghostscript."""
FORMATS |= {"MPO": "JPEG", "WEBP": "WebP", "JPEG2000": "JPEG 2000"}

Pixels = pil.Image | Float[np.ndarray, "_h _w _c"]
"""Upright pixels in sRGB: usually an image of mode RGB or RGBA. For files of more than
8 bits per channel: floats in [0, 1], h w 3, or h w 4 with alpha."""


def as_levels(
    image: Float[Array, "_h _w _c"] | np.ndarray, bits: int = 8
) -> UInt8[np.ndarray, "_h _w _c"] | UInt16[np.ndarray, "_h _w _c"]:
    """Clip numbers to [0, 1], and round them to integers of 8 or 16 bits.

    Example:
        >>> as_levels(np.array([[[0.5, 2.0]]])).tolist()
        [[[128, 255]]]
    """
    top, kind = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    return (np.clip(np.asarray(image, np.float32), 0, 1) * top + 0.5).astype(kind)


class Source(NamedTuple):
    """An open picture file.

    Attributes:
        shape: Height and width of the picture turned upright.
        bits: Bits per channel.
        has_alpha: Whether the picture may be transparent somewhere.
        description: Text that the file holds; empty if there is none.
        decode: Returns the pixels, for a wanted long edge or None. A JPEG may have
            fewer pixels than in the file, but not fewer than for that edge.
    """

    shape: tuple[int, int]
    bits: int
    has_alpha: bool
    description: str
    decode: Callable[[int | None], Pixels]

    def read(
        self, size: int | None = None, enlarge: bool = False
    ) -> Float[np.ndarray, "_h _w _c"]:
        """Pixels in [0, 1], shrunk to a long edge `size`; enlarged with `enlarge`."""
        pixels = self.decode(size)
        if size is not None and (enlarge or max(self.shape) > size):
            height, width = fit_shape(self.shape, size)
            if not isinstance(pixels, pil.Image):
                return _resize(pixels, (height, width))
            pixels = pixels.resize((width, height), pil.Resampling.LANCZOS)
        if isinstance(pixels, pil.Image):
            return np.asarray(pixels, np.float32) / 255
        return pixels


def _resize(
    values: Float[np.ndarray, "_h _w _c"], shape: tuple[int, int]
) -> Float[np.ndarray, "_new_h _new_w _c"]:
    """Resize floats as Pillow does images: same filter, colours weighted by alpha."""
    rgb, alpha = values[..., :3], values[..., 3:]
    if not alpha.size:
        return np.clip(resize(rgb, shape, method="lanczos"), 0, 1)
    weighted = np.concatenate([rgb * alpha, alpha], axis=2)
    found = np.clip(resize(weighted, shape, method="lanczos"), 0, 1)
    found[..., :3] /= np.maximum(found[..., 3:], 1e-6)
    return np.clip(found, 0, 1)


@contextlib.contextmanager
def open_source(path: Path, *, profiled: bool = True) -> Iterator[Source]:
    """Open a picture of one of `FORMATS`; every failure is a ValueError of one line.

    If `profiled` is False, the picture's profile and gamma are ignored, and integers of
    more than 8 bits in a TIFF are divided by 65535.
    """
    check_file(path, "a picture")
    try:
        with warnings.catch_warnings(), open_page(path) as page:
            # Pillow warns at half the number of pixels at which it refuses.
            warnings.simplefilter("ignore", pil.DecompressionBombWarning)
            if page is not None:
                yield _of_page(page, profiled)
            else:
                with open_pillow(_repair_jpeg_end(path)) as file:
                    yield _of_pillow(file, path, profiled)
    except pil.DecompressionBombError as error:
        raise ValueError(
            f"{path} has so many pixels that it may fill the memory "
            f"({_first_line(error)}); if you trust it, pass --allow-huge"
        ) from error
    except MemoryError as error:
        raise ValueError(
            f"the pixels of {path} do not fit into the memory; save it smaller"
        ) from error
    except Exception as error:  # each decoder raises exceptions of its own
        why, cure = _why(path, error)
        raise ValueError(
            f"expected a readable picture at {path}, got {why}; {cure}"
        ) from error


def open_pillow(file: Path | io.BytesIO) -> pil.Image:
    """Open a picture with Pillow, if it is of one of `FORMATS`."""
    pil.init()
    return pil.open(file, formats=[name for name in FORMATS if name in pil.OPEN])


def _of_pillow(file: pil.Image, path: Path, profiled: bool) -> Source:
    height, width = file.height, file.width
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        # Some versions of Pillow report the size of a TIFF as if it were upright.
        tags = ExifTags.Base.ImageLength, ExifTags.Base.ImageWidth
        height, width = (int(file.tag_v2[tag]) for tag in tags)
    bits = {"F": 32, "I": 16}.get(file.mode[0], 8)
    if file.format == "PNG":  # Pillow reads only 8 of 16 bits in colour
        chunks = _png_chunks(path)
        bits = chunks[b"IHDR"][8]
        _add_profile(file.info, chunks.get(b"cICP"))
        if b"eXIf" in chunks:  # it may come after the pixels
            file.info["exif"] = chunks[b"eXIf"]
    if not profiled:
        file.info.pop("icc_profile", None)
    exif = {}
    with contextlib.suppress(Exception):  # each kind of damage raises its own
        exif = pil.Image.getexif(file)
    turn, about = map(exif.get, (ExifTags.Base.Orientation, TITLE))

    def decode(size: int | None) -> Pixels:
        if bits > 8:
            return _turn(_decode_deep(file, path), turn)
        return _decode(file, bits, turn, size)

    return Source(
        shape=_upright((height, width), turn),
        bits=bits,
        has_alpha=file.has_transparency_data,
        description=str(file.info.get(KEYWORD) or about or ""),
        decode=decode,
    )


KEYWORD, TITLE = "Description", ExifTags.Base.ImageDescription
"""Where the description is: a keyword in a PNG, and a tag in EXIF."""


def _of_page(page: tifffile.TiffPage, profiled: bool) -> Source:
    turn = page.tags.valueof("Orientation", 1)
    profile = page.tags.valueof("InterColorProfile") if profiled else None

    def decode(size: int | None) -> Pixels:
        # Pictures that are not profiled are labels: numbers mean the same in all files.
        values = read_page(page, largest=None if profiled else 65535)
        return _turn(_to_srgb(values, profile), turn)

    return Source(
        shape=_upright((page.imagelength, page.imagewidth), turn),
        bits=page.bitspersample,
        has_alpha=has_page_alpha(page),
        description=str(page.tags.valueof("ImageDescription", "")),
        decode=decode,
    )


def _upright(shape: tuple[int, int], orientation: int | None) -> tuple[int, int]:
    """Height and width of a picture turned upright, from the stored ones."""
    height, width = shape
    return (width, height) if orientation in (5, 6, 7, 8) else shape


def _turn(
    values: Float[np.ndarray, "_h _w _c"], orientation: int | None
) -> Float[np.ndarray, "_new_h _new_w _c"]:
    """Turn a picture upright, as its EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return values[::rows, ::columns]


def _decode(
    file: pil.Image, bits: int, turn: int | None, size: int | None
) -> pil.Image:
    if size is not None:
        # A JPEG decodes fast at ½, ¼ or ⅛ of its size; never below the target.
        file.draft("RGB", fit_shape(file.size, size))
    lay_background(file)
    file.load()
    image = ImageOps.exif_transpose(file) if turn else file
    alpha = None
    clear = image.info.get("transparency")
    if file.format == "PNG" and image.mode == "L" and clear is not None:
        # Pillow scales pixels of 1, 2 and 4 bits, but not the transparent level.
        image.info["transparency"] = clear * 255 // (2**bits - 1)
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
    image = from_profile(image).convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
    return image


def lay_background(file: pil.Image) -> None:
    """Give a GIF its background, which shows around a smaller first frame."""
    color = file.info.get("background")
    if file.format == "GIF" and color is not None:
        file.im = pil.new(file.mode, file.size, color).im


def _decode_deep(file: pil.Image, path: Path) -> Float[np.ndarray, "_h _w _c"]:
    """Pixels, with all bits, of a PNG, or of a file of grey integers or floats."""
    png = file.format == "PNG"
    values = imagecodecs.png_decode(path.read_bytes()) if png else np.asarray(file)
    values = to_unit(values, 1 if file.mode == "F" else 65535)
    values = values.reshape(*values.shape[:2], -1)
    return _to_srgb(values, file.info.get("icc_profile"))


def _to_srgb(
    values: Float[np.ndarray, "_h _w _c"], profile: bytes | None
) -> Float[np.ndarray, "_h _w _n"]:
    """Convert grey or RGB in [0, 1] to sRGB by its profile; alpha stays."""
    colors = 3 if values.shape[2] > 2 else 1
    shown, alpha = values[..., :colors], values[..., colors:]
    space = profile[16:20] if profile else b""
    if space == b"RGB ":
        shown = shown.repeat(3 // colors, axis=2)
    kind = {b"RGB ": "rgb", b"GRAY": "minisblack"}.get(bytes(space))
    # A broken profile, or one of other colours, is ignored.
    with contextlib.suppress(imagecodecs.CmsError, ValueError):
        if profile and kind and (kind == "rgb" or colors == 1):
            shown = imagecodecs.cms_transform(
                np.ascontiguousarray(shown.squeeze(2) if kind != "rgb" else shown),
                bytes(profile),
                srgb_profile(),
                colorspace=kind,
                outcolorspace="rgb",
            )
    shown = shown.repeat(3 // shown.shape[2], axis=2)
    return np.concatenate([np.clip(shown, 0, 1), alpha], axis=2)


def srgb_profile() -> bytes:
    """The colour profile of sRGB, the same bytes each time."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Bytes 24 to 35 are its creation time.
    return profile[:24] + bytes.fromhex("07d0 0001 0001 0000 0000 0000") + profile[36:]


def from_profile(image: pil.Image) -> pil.Image:
    """Apply a picture's colour profile, unless it is broken."""
    profile = io.BytesIO(image.info.get("icc_profile") or b"")
    with contextlib.suppress(ImageCms.PyCMSError, OSError, KeyError):
        its_own: Any = ImageCms.ImageCmsProfile(profile)
        space = its_own.profile.xcolor_space
        mode = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}[space]
        grey = image.mode in ("1", "L", "LA")
        if (mode == "CMYK") == (image.mode == "CMYK") and (grey or mode != "L"):
            srgb = ImageCms.createProfile("sRGB")
            source = image.convert(mode)
            moved = ImageCms.profileToProfile(source, its_own, srgb, outputMode="RGB")
            return moved or image
    return image


WHITE, SRGB = (0.3127, 0.3290), (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
GAMUTS = {9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), 11: P3, 12: P3}
"""Red, green and blue primaries in x and y, of wide gamuts, by their codes in cICP."""

POWERS = {4: 2.2, 5: 2.8, 8: 1.0}
"""Exponents from numbers to light, by codes in cICP; other codes are read as sRGB."""

HDR = 16, 18
"""Codes of PQ and HLG in cICP."""


def _add_profile(info: dict[str | tuple[int, int], Any], codes: bytes | None) -> None:
    """Give a PNG a profile made from its cICP, or from its cHRM and gAMA."""
    if codes:
        if codes[1] in HDR:
            raise ValueError("HDR colours, which are not supported")
        info.pop("icc_profile", None)  # cICP overrides it
        stated, power = WHITE + GAMUTS.get(codes[0], SRGB), POWERS.get(codes[1])
    elif info.get("gamma") and not {"icc_profile", "srgb"} & info.keys():
        stated, power = info.get("chromaticity", WHITE + SRGB), 1 / info["gamma"]
    else:
        return
    usual = np.abs(np.subtract(stated, WHITE + SRGB)).max() < 0.002
    if usual and (power is None or abs(1 / power - 1 / 2.2) < 0.005):
        return
    x = np.linspace(0, 1, 4096)
    srgb = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    light = np.float32(srgb if power is None else x**power)
    given = {"whitepoint": stated[:2], "primaries": stated[2:]}
    with contextlib.suppress(imagecodecs.CmsError, ValueError):
        info["icc_profile"] = imagecodecs.cms_profile(
            "rgb", **given, transferfunction=light
        )


def _png_chunks(path: Path) -> dict[bytes, bytes]:
    """Chunks of a PNG that Pillow ignores, or finds only by decoding all pixels."""
    found = {}
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            end = file.tell() + length + 4
            if kind in (b"IHDR", b"cICP", b"eXIf"):
                found.setdefault(kind, file.read(length))
            file.seek(end)
    return found


END, PADDING = b"\xff\xd9", b"\x55" * 256


def _repair_jpeg_end(path: Path) -> Path | io.BytesIO:
    """A picture's path; or, if a JPEG lacks only its end marker, its repaired bytes."""
    with path.open("rb") as file:
        if file.read(2) != b"\xff\xd8":
            return path
        file.seek(-2, io.SEEK_END)
        if file.read(2) == END:
            return path
    data = path.read_bytes().removesuffix(END[:1])
    # If pixels are missing, padding is decoded in their place, so the two differ.
    tails = (END, PADDING + END)
    with contextlib.suppress(Exception):  # truncated: reading it later says so
        first, second = (open_pillow(io.BytesIO(data + tail)) for tail in tails)
        if first.tobytes() == second.tobytes():
            return io.BytesIO(data + END)
    return path


VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""Usual suffixes of video files."""

RESAVE = "open it in an image program and save it again"

_HEIF = "a HEIF picture", "pip install 'jaxnst[heif]'"
_RAW = "a camera's raw data", "develop it to a picture first"
_RAW_SUFFIXES = [".nef", ".cr2", ".cr3", ".arw", ".dng", ".raf", ".rw2", ".orf", ".pef"]
UNREAD = {
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIF),
    **dict.fromkeys(_RAW_SUFFIXES, _RAW),
    ".jxl": ("a JPEG XL picture", RESAVE),
}
"""Suffixes of common pictures that are not opened: kind of picture, and remedy."""


def _why(path: Path, error: Exception) -> tuple[str, str]:
    """Why a file cannot be opened, and what to do."""
    kind = path.suffix.lower()
    if kind in UNREAD and kind not in readable_suffixes():
        return UNREAD[kind]
    if kind in VIDEOS:
        return "a video", "paint it with jaxnst video"
    if isinstance(error, pil.UnidentifiedImageError):
        with path.open("rb") as file:
            start = file.read(16)
        if name := {b"%PDF": "PDF", b"<svg": "SVG", b"<?xm": "XML"}.get(start[:4]):
            return f"a file of the format {name}", "save it as a PNG"
        for name in pil.OPEN.keys() - FORMATS.keys():
            factory, accept = pil.OPEN[name]
            # Some return a text instead of False; some need more bytes.
            with contextlib.suppress(struct.error):
                if accept is not None and accept(start) is True:
                    known = ", ".join(dict.fromkeys(FORMATS.values()))
                    kind = f"one of the format {factory.format_description}"
                    return kind, f"save it as one of {known}"
    return f"one that cannot be decoded ({_first_line(error)})", RESAVE


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def readable_suffixes() -> set[str]:
    """Suffixes of the formats that are opened, in lower case, with their dot.

    Example:
        >>> {".jpg", ".png", ".tif"} <= readable_suffixes()
        True
    """
    known = pil.registered_extensions()
    return {suffix for suffix, kind in known.items() if kind in FORMATS}
