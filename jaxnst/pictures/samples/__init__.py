"""The pictures that ship with the package, drawn by `scripts/samples`."""

from pathlib import Path

from jaxnst.pictures.files import load_image
from jaxnst.types import Image

SAMPLES = ("harbour", "swirls", "mosaic", "woodcut", "watercolour", "pointillist")
"""Names of the samples: a content, then five styles."""


def sample_path(name: str) -> Path:
    """Path of one of `SAMPLES`, a JPEG file, 640 px wide.

    Example:
        >>> sample_path("swirls").name
        'swirls.jpg'
    """
    return Path(__file__).with_name(f"{name}.jpg")


def sample(name: str, size: int | None = None) -> Image:
    """Read one of the pictures that ship with the package.

    Args:
        name: One of `SAMPLES`: `harbour`, a content, or a style such as `swirls`.
        size: Long edge, in pixels. Default: 640, that of the file.

    Returns:
        RGB in [0, 1], h w 3.

    Example:
        >>> sample("harbour", 64).shape
        (48, 64, 3)
    """
    return load_image(sample_path(name), size=size)
