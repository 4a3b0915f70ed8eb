"""The pictures that ship with the package: a content and five styles."""

from pathlib import Path

from jaxnst.pictures.files import load_image
from jaxnst.types import Image

SAMPLES = ("harbour", "swirls", "mosaic", "woodcut", "watercolour", "pointillist")
"""Names of the pictures that ship with the package: a content and five styles."""


def sample_path(name: str) -> Path:
    """Path of a picture that ships with the package."""
    return Path(__file__).with_name(f"{name}.jpg")


def sample(name: str, size: int | None = None) -> Image:
    """Read one of the pictures that ship with the package, see `SAMPLES`.

    Args:
        name: `harbour` (a content) or a style such as `swirls`.
        size: Long edge in pixels. Default: 640.

    Returns:
        RGB in [0, 1], h w 3.
    """
    return load_image(sample_path(name), size=size)
