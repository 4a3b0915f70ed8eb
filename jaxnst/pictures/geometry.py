"""Sizes of pictures, and resampling to them."""

from functools import partial
from typing import Literal

import jax

from jaxnst.types import Image


def fit_shape(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Height and width with a given long edge and the same aspect ratio.

    Args:
        shape: Height and width, in pixels.
        size: Long edge, in pixels.

    Returns:
        Height and width, each at least 1.

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
    """Resample an image, with antialiasing when it shrinks.

    Args:
        image: RGB, h w 3.
        shape: Height and width of the result, in pixels.
        method: `cubic`, which may overshoot the range of the image, or `linear`, which
            does not.

    Returns:
        The image with that height and width; not clipped.

    Example:
        >>> image = jax.numpy.ones((6, 8, 3))
        >>> resize(image, (3, 4)).shape
        (3, 4, 3)
    """
    return jax.image.resize(image, (*shape, image.shape[2]), method, antialias=True)
