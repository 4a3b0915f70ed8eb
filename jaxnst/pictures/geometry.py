"""Sizes of pictures, and resampling to them."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import numpy as np
from jaxtyping import Array, Float
from PIL import Image as pil

from jaxnst.types import Image

Method = Literal["cubic", "linear"]


def fit_shape(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Height and width, at least 1, with a long edge `size` and the same aspect ratio.

    Example:
        >>> fit_shape((600, 800), 400)
        (300, 400)
    """
    longest = max(shape)
    height, width = (max(1, round(side * size / longest)) for side in shape)
    return height, width


def crop_like(image: Image, shape: tuple[int, ...]) -> Image:
    """Crop an image to the aspect ratio of a shape; keep as much of the middle as fits.

    Example:
        >>> import jax.numpy as jnp
        >>> crop_like(jnp.zeros((60, 80, 3)), (30, 30)).shape
        (60, 60, 3)
    """
    (h, w, _), (high, wide) = image.shape, shape[:2]
    height, width = min(h, round(w * high / wide)), min(w, round(h * wide / high))
    height, width = max(1, height), max(1, width)
    y, x = (h - height) // 2, (w - width) // 2
    return image[y : y + height, x : x + width]


def crop_middle(
    image: Float[Array | np.ndarray, "_h _w _c"], pixels: int
) -> Float[Array | np.ndarray, "_new_h _new_w _c"]:
    """Crop an image to its middle, with the same aspect ratio and at most `pixels`.

    Example:
        >>> import jax.numpy as jnp
        >>> crop_middle(jnp.zeros((60, 80, 3)), 1200).shape
        (30, 40, 3)
    """
    h, w, _ = image.shape
    part = min(1, math.sqrt(pixels / (h * w)))
    height, width = int(h * part), int(w * part)
    y, x = (h - height) // 2, (w - width) // 2
    return image[y : y + height, x : x + width]


@partial(jax.jit, static_argnames=("shape", "method"))
def resize_compiled(
    image: Image, shape: tuple[int, int], *, method: Method = "cubic"
) -> Image:
    """`resize` in compiled code, with other rounding, and compiled for each size.

    Recipes that keep exact shapes use it. The rounding of `resize` would change their
    pictures, since Wasserstein losses, L-BFGS and Adam amplify rounding.
    """
    return jax.image.resize(image, (*shape, image.shape[2]), method, antialias=True)


FILTERS = {
    "lanczos": pil.Resampling.LANCZOS,
    "cubic": pil.Resampling.BICUBIC,
    "linear": pil.Resampling.BILINEAR,
}


def resize(
    image: Float[Array | np.ndarray, "_h _w _c"],
    shape: tuple[int, int],
    *,
    method: Method | Literal["lanczos"] = "cubic",
) -> Float[np.ndarray, "_new_h _new_w _c"]:
    """Resample an image on the host, antialiased when it shrinks; not clipped.

    All methods but `linear` may overshoot the range of the image. `resize` cannot be
    part of `jit`, and compiles nothing.

    Example:
        >>> resize(np.ones((4, 6, 1), np.float32), (2, 3)).shape
        (2, 3, 1)
    """
    image = np.asarray(image, np.float32)
    if image.shape[:2] == shape:
        return image
    height, width = shape
    return _each_channel(image, lambda x: x.resize((width, height), FILTERS[method]))


def _each_channel(
    image: Float[np.ndarray, "_h _w _c"], change: Callable[[pil.Image], pil.Image]
) -> Float[np.ndarray, "_new_h _new_w _c"]:
    """Apply a function of Pillow to each channel, in floats."""
    channels = map(pil.fromarray, np.moveaxis(image, 2, 0))
    return np.stack([np.asarray(change(channel)) for channel in channels], axis=2)


def rotate(
    image: Float[Array | np.ndarray, "_h _w _c"], degrees: int
) -> Float[np.ndarray, "_new_h _new_w _c"]:
    """Rotate an image anticlockwise.

    If the angle is not a multiple of 90 degrees, the result is cropped to the largest
    square inside the rotated image, and may overshoot the range of the image, as with
    `resize`.

    Example:
        >>> image = np.ones((40, 60, 3), np.float32)
        >>> rotate(image, 90).shape, rotate(image, 45).shape
        ((60, 40, 3), (28, 28, 3))
    """
    image = np.asarray(image, np.float32)
    if degrees % 90 == 0:
        return np.rot90(image, degrees // 90)
    shortest, angle = min(image.shape[:2]), math.radians(degrees)
    side = int(shortest / (abs(math.cos(angle)) + abs(math.sin(angle))))
    turned = _each_channel(image, lambda x: x.rotate(degrees, FILTERS["cubic"]))
    y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return turned[y : y + side, x : x + side]
