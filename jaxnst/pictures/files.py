"""Image files to arrays and back: float32 RGB, sRGB-encoded, in [0, 1], h w 3."""

import contextlib
import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import png
import tifffile
from jaxtyping import Array, Float
from PIL import ExifTags, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin
from PIL import Image as pil

from jaxnst.disk import write_whole
from jaxnst.messages import found_at
from jaxnst.pictures.geometry import fit_shape
from jaxnst.pictures.tiff import read_tiff
from jaxnst.types import Image, Mask

with contextlib.suppress(ImportError):  # an extra
    from pillow_heif import register_heif_opener

    register_heif_opener()

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


def load_image(
    path: str | Path, *, size: int | None = None, enlarge: bool = False
) -> Image:
    """Read a picture as it is meant to be seen.

    It is turned upright, its colour profile is applied, and it is laid over white.

    Args:
        path: File in any format that Pillow reads.
        size: Long edge to resize it to, in pixels. Default: the file's own size.
        enlarge: Whether to enlarge a picture smaller than `size`.

    Returns:
        RGB in [0, 1], h w 3.

    Raises:
        ValueError: If it is not a readable picture, or has so many pixels that they may
            fill the memory, see `any_number_of_pixels`.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> load_image(sample_path("harbour"), size=64).shape
        (48, 64, 3)
    """
    image = _over_white(_read(Path(path), size, enlarge))
    return jnp.asarray(np.asarray(image, np.float32) / 255)


def thumbnail(path: str | Path, size: int) -> pil.Image:
    """A picture as `load_image` shows it, at most that large, to look at.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> thumbnail(sample_path("harbour"), 64).size
        (64, 48)
    """
    return _over_white(_read(Path(path), size, False))


def _over_white(image: pil.Image) -> pil.Image:
    if image.mode == "RGBA":
        white = pil.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image


class Cutout(NamedTuple):
    """A picture, and what of it is seen: h w 1 in [0, 1], or None if all of it is."""

    image: Image
    alpha: Mask | None


def load_cutout(
    path: str | Path, *, size: int | None = None, enlarge: bool = False
) -> Cutout:
    """Read a picture as `load_image` does, but with its transparency.

    What is wholly transparent gets the colours around it, so that it adds no edges. A
    ValueError says if nothing is seen.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> load_cutout(sample_path("harbour"), size=64).alpha is None
        True
    """
    image = _read(Path(path), size, enlarge)
    if _is_opaque(image):
        rgb = np.asarray(image.convert("RGB"), np.float32)
        return Cutout(jax.device_put(rgb / 255), None)
    rgb, alpha = np.split(np.asarray(image, np.float32) / 255, [3], axis=-1)
    if not alpha.any():
        raise ValueError(f"expected something to see in {path}, got a clear picture")
    return Cutout(jnp.asarray(_fill(rgb, alpha > 0)), jnp.asarray(alpha))


def _fill(rgb: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Colours of what is not seen, from the smallest square around it that is."""
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
    """Read a mask: white counts and black does not, or what is opaque, if it has alpha.

    Args:
        path: A picture of any mode.

    Returns:
        h w 1 in [0, 1].

    Raises:
        ValueError: If it cannot be read, as in `load_image`.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> load_mask(sample_path("harbour")).shape
        (480, 640, 1)
    """
    image = _read(Path(path), None, False)
    grey = image.convert("L") if _is_opaque(image) else image.getchannel("A")
    return jnp.asarray(np.asarray(grey, np.float32)[..., None] / 255)


def _is_opaque(image: pil.Image) -> bool:
    return image.mode != "RGBA" or image.getchannel("A").getextrema()[0] == 255


def has_alpha(path: str | Path) -> bool:
    """Whether a picture may be transparent somewhere, from its header."""
    with _open(Path(path)) as file:
        return file.has_transparency_data


def _read(path: Path, size: int | None, enlarge: bool) -> pil.Image:
    """A picture in sRGB, upright and in its size, of mode RGB or RGBA."""
    if size is not None and size < 1:
        raise ValueError(f"expected a size of at least 1 px, got {size}")
    with _open(path) as file:
        shape = _upright_shape(file)
        if size is not None:
            # A JPEG decodes fast at ½, ¼ or ⅛ of its size; never below the target.
            file.draft("RGB", fit_shape(file.size, size))
        file.load()
        image = _to_srgb(ImageOps.exif_transpose(file) if _exif(file) else file)
    if size is not None and (enlarge or max(shape) > size):
        image = image.resize(fit_shape(shape[::-1], size), pil.Resampling.LANCZOS)
    return image


def image_shape(path: str | Path) -> tuple[int, int]:
    """Height and width of a picture as `load_image` reads it, from its header.

    Example:
        >>> from jaxnst.pictures.samples import sample_path
        >>> image_shape(sample_path("harbour"))
        (480, 640)
    """
    with _open(Path(path)) as file:
        return _upright_shape(file)


def _upright_shape(file: pil.Image) -> tuple[int, int]:
    """Height and width of the picture turned upright."""
    height, width = file.height, file.width
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        # Some versions of Pillow report the size of a TIFF as if it were upright.
        height, width = (
            int(file.tag_v2[tag])
            for tag in (ExifTags.Base.ImageLength, ExifTags.Base.ImageWidth)
        )
    turned = _exif(file).get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def _exif(file: pil.Image) -> Mapping:
    """What is known of a picture; nothing where that cannot be read."""
    try:
        return file.getexif()
    except Exception:  # each kind of damage raises its own
        return {}


@contextlib.contextmanager
def _open(path: Path) -> Iterator[pil.Image]:
    """Open a picture; every failure is a ValueError of one line."""
    if not path.is_file():
        raise ValueError(
            f"expected a picture at {path}, got {found_at(path)}; check the path"
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns from half as many pixels on as it refuses.
            warnings.simplefilter("ignore", pil.DecompressionBombWarning)
            with read_tiff(path) or pil.open(_mended(path)) as file:
                yield file
    except pil.DecompressionBombError as error:
        raise ValueError(
            f"expected fewer pixels at {path}, got a picture that may fill the memory "
            f"({_first_line(error)}); if you trust it, say --allow-huge"
        ) from error
    except MemoryError as error:
        raise ValueError(
            f"expected memory for the pixels of {path}, got too little; save it smaller"
        ) from error
    except Exception as error:  # each decoder raises exceptions of its own
        kind = path.suffix.lower()
        why, cure = f"one that cannot be decoded ({_first_line(error)})", RESAVE
        if kind in UNREAD and kind not in readable_suffixes():
            why, cure = UNREAD[kind]
        if kind in VIDEOS:
            cure = "a video is painted by jaxnst video"
        raise ValueError(
            f"expected a readable picture at {path}, got {why}; {cure}"
        ) from error


VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""Usual suffixes of video files."""

RESAVE = "open it in an image program and save it again"

_HEIF = "a HEIF picture", "pip install 'jaxnst[heif]'"
_RAW = "a camera's raw data", "develop it to a picture first"
_RAW_SUFFIXES = (
    *(".nef", ".cr2", ".cr3", ".arw", ".dng"),
    *(".raf", ".rw2", ".orf", ".pef"),
)
UNREAD = {
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIF),
    **dict.fromkeys(_RAW_SUFFIXES, _RAW),
    ".jxl": ("a JPEG XL picture", RESAVE),
}
"""Pictures that Pillow cannot read and people have: what they are, and what to do."""

END, PADDING = b"\xff\xd9", b"\x55" * 256


def _mended(path: Path) -> Path | io.BytesIO:
    """A picture's file; a JPEG that lacks only its end gets one.

    If all pixels are there, what follows them does not matter; if some are missing, it
    is decoded as pixels.
    """
    with path.open("rb") as file:
        if file.read(2) != b"\xff\xd8":
            return path
        file.seek(-2, io.SEEK_END)
        if file.read(2) == END:
            return path
    data = path.read_bytes().removesuffix(END[:1])
    tails = (END, PADDING + END)
    with contextlib.suppress(Exception):  # truncated, so reading says what is wrong
        first, second = (pil.open(io.BytesIO(data + tail)) for tail in tails)
        if first.tobytes() == second.tobytes():
            return io.BytesIO(data + END)
    return path


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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _to_srgb(image: pil.Image) -> pil.Image:
    """Convert any Pillow image to 8-bit sRGB, with alpha if it has any."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    alpha = None
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
    image = _from_profile(image).convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
    return image


def _from_profile(image: pil.Image) -> pil.Image:
    """Apply a picture's colour profile, or the gamma that a PNG states instead."""
    profile, gamma = image.info.get("icc_profile"), image.info.get("gamma")
    if not profile:
        if gamma and "srgb" not in image.info and abs(gamma - 1 / 2.2) > 0.005:
            return _from_gamma(image, gamma)
        return image
    # A broken profile is ignored.
    with contextlib.suppress(ImageCms.PyCMSError, OSError, KeyError):
        its_own: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}[
            its_own.profile.xcolor_space
        ]
        if (mode == "CMYK") == (image.mode == "CMYK"):
            srgb = ImageCms.createProfile("sRGB")
            source = image.convert(mode)
            moved = ImageCms.profileToProfile(source, its_own, srgb, outputMode="RGB")
            return moved or image
    return image


def _from_gamma(image: pil.Image, gamma: float) -> pil.Image:
    """Levels `light ** gamma` to those of sRGB."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    bright = 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    levels = np.where(light < 0.0031308, 12.92 * light, bright)
    table = np.rint(levels * 255).astype(int).tolist()
    return image.convert("RGB").point(table * 3)


def _to_8_bits(image: pil.Image) -> pil.Image:
    """Convert grey of 16 bits, or of floats in [0, 1], to 8 bits."""
    grey, top = np.asarray(image, np.float64), 1 if image.mode == "F" else 65535
    if not (grey.min() >= 0 and grey.max() <= top):  # false for NaN too
        raise ValueError(
            f"numbers from {grey.min():g} to {grey.max():g}, expected 0 to {top}"
        )
    found = pil.fromarray(np.uint8(grey / top * 255 + 0.5))
    found.info = dict(image.info)
    if "transparency" in found.info:
        found.info["transparency"] = round(found.info["transparency"] / 257)
    return found


def readable_suffixes() -> set[str]:
    """Suffixes of the files that Pillow can read, in lower case, with their dot.

    Example:
        >>> {".jpg", ".png", ".tif"} <= readable_suffixes()
        True
    """
    known = pil.registered_extensions()  # fills `OPEN`
    # Pillow knows the suffixes of these four without being able to read them.
    kinds = pil.OPEN.keys() - {"BUFR", "GRIB", "HDF5", "MPEG"}
    return {suffix for suffix, kind in known.items() if kind in kinds}


def is_picture(path: Path) -> bool:
    """Whether a file is named like a picture, readable or not, or looks like one.

    Example:
        >>> is_picture(Path("a.JPG")), is_picture(Path("a.heic")), is_picture(Path("a"))
        (True, True, False)
    """
    if path.suffix:
        return path.suffix.lower() in readable_suffixes() | UNREAD.keys()
    with contextlib.suppress(Exception), pil.open(path):
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
    """Write a picture as sRGB, whole or not at all, the same bytes each time.

    Args:
        path: File that ends in .png, .jpg, .jpeg, .webp, .tif or .tiff. A TIFF is
            tiled, and a BigTIFF if it is too large for a TIFF.
        image: RGB, h w 3, or with alpha, h w 4; clipped to [0, 1]. A JPEG, which has no
            alpha, gets white below it.
        quality: Quality of a JPEG or WebP, 1 to 100. A JPEG keeps the resolution of its
            colours (4:4:4).
        bits: Bits of each number; only PNG and TIFF have 16.
        description: ASCII text that the file carries, see `read_description`.

    Raises:
        ValueError: If `output_format` refuses the path, or the folder cannot be written
            to.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "grey.png"
        >>> save_image(path, np.full((4, 6, 3), 0.5))
        >>> image_shape(path)
        (4, 6)
    """
    path, image = Path(path), np.clip(np.asarray(image, np.float32), 0, 1)
    kind = output_format(path, image.shape, bits=bits)
    clear = image.shape[2] == 4
    if clear and kind == "JPEG":
        clear, image = False, 1 - image[..., 3:] * (1 - image[..., :3])
    top, dtype = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    pixels = (image * top + 0.5).astype(dtype)
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
                iccprofile=_srgb_profile(),
                description=description or None,
                extrasamples=["unassalpha"] if clear else None,
                metadata=None,
                software=False,
            )
        elif bits == 16:
            # Pillow cannot write RGB of 16 bits.
            height, width = pixels.shape[:2]
            rgb: dict = {"greyscale": False, "bitdepth": 16, "alpha": clear}
            writer = _TaggedWriter(width, height, **rgb)
            writer.description = description
            writer.write_packed(file, (row.tobytes() for row in pixels.astype(">u2")))
        else:
            options: dict = {"quality": quality}
            if kind == "PNG":
                options = {"pnginfo": PngImagePlugin.PngInfo()}
                if description:
                    options["pnginfo"].add_text(KEYWORD, description)
            elif description:
                options["exif"] = pil.Exif()
                options["exif"][ExifTags.Base.ImageDescription] = description
            if kind == "JPEG":
                options["subsampling"] = 0
            pil.fromarray(pixels).save(
                file, kind, icc_profile=_srgb_profile(), **options
            )


KEYWORD = "Description"
"""Keyword of the description in a PNG."""


def read_description(path: str | Path) -> str:
    """The text that `save_image` put into a picture; empty if there is none.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "grey.jpg"
        >>> save_image(path, np.full((4, 6, 3), 0.5), description="all grey")
        >>> read_description(path)
        'all grey'
    """
    with _open(Path(path)) as file:
        tag = ExifTags.Base.ImageDescription
        return str(file.info.get(KEYWORD) or _exif(file).get(tag) or "")


class _TaggedWriter(png.Writer):
    """Writes a PNG with the sRGB profile and a description."""

    description = ""

    def write_preamble(self, outfile: IO[bytes]) -> None:
        """Write what comes before the pixels."""
        super().write_preamble(outfile)
        profile = zlib.compress(_srgb_profile())
        png.write_chunk(outfile, b"iCCP", b"sRGB\0\0" + profile)
        if self.description:
            text = f"{KEYWORD}\0{self.description}".encode("latin-1")
            png.write_chunk(outfile, b"tEXt", text)


def output_format(path: Path, shape: tuple[int, ...], *, bits: int = 8) -> str:
    """Format of an output file, checked before anything is painted.

    Args:
        path: Path of the output.
        shape: Height and width of the picture, in pixels, and anything after them.
        bits: Bits of each number, 8 or 16.

    Returns:
        Pillow's name of the format.

    Raises:
        ValueError: If the suffix is none of `SUFFIXES`, or the format cannot hold
            pictures of that size or with 16 bits.

    Example:
        >>> output_format(Path("a.jpg"), (480, 640, 3))
        'JPEG'
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"expected an output ending in {', '.join(SUFFIXES)}, got {str(path)!r}"
        )
    deep = [suffix for suffix, name in SUFFIXES.items() if name in ("PNG", "TIFF")]
    if bits == 16 and path.suffix.lower() not in deep:
        raise ValueError(
            f"expected an output ending in {', '.join(deep)} for 16 bits, got "
            f"{str(path)!r}"
        )
    if max(shape[:2]) > LONGEST.get(kind, math.inf):
        raise ValueError(
            f"expected at most {LONGEST[kind]} px on each side for {path.suffix}, got "
            f"{shape[1]} x {shape[0]} px; write a .tif"
        )
    return kind


def _srgb_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Bytes 24 to 35 are its creation time; a fixed one gives the same file each time.
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]
