"""Sizes of pictures, and resampling."""

from functools import partial
from typing import Literal

import jax

from jaxnst.types import Image


def fit_shape(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Height and width with a given long edge and the same aspect ratio.

    Args:
        shape: Height and width.
        size: Long edge, in pixels.

    Returns:
        Height and width, at least 1 each.

    Example:
        >>> fit_shape((600, 800), 400)
        (300, 400)
    """
    longest = max(shape)
    height, width = (max(1, round(side * size / longest)) for side in shape)
    return height, width


@partial(jax.jit, static_argnames=("shape", "method"))
def resize(
    image: Image,
    shape: tuple[int, int],
    *,
    method: Literal["cubic", "linear"] = "cubic",
) -> Image:
    """Resample an image in float, with antialiasing when it shrinks.

    Args:
        image: h w 3.
        shape: Height and width.
        method: `cubic`, which may overshoot, or `linear`, which never does.

    Returns:
        The image, `shape` 3; not clipped.
    """
    return jax.image.resize(image, (*shape, image.shape[2]), method, antialias=True)
