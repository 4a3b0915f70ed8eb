"""The pictures of a run: read in the right size, and at the size of a scale."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnst.painting.scales import content_size, style_shape
from jaxnst.pictures.files import Cutout, image_shape, load_cutout
from jaxnst.pictures.geometry import resize, resize_compiled
from jaxnst.recipes import Recipe
from jaxnst.types import Image


def load_content(path: Path, size: int | None, recipe: Recipe) -> Cutout:
    """Read a content with that long edge, or the one of the recipe's rule."""
    size = size or content_size(image_shape(path), recipe)
    return load_cutout(path, size=size, enlarge=True)


def load_style(
    path: Path, content: tuple[int, ...], recipe: Recipe, scale: float = 1.0
) -> Cutout:
    """Read a style as large as it is measured beside a content of that shape."""
    native = image_shape(path)
    measured = style_shape(native, (content[0], content[1]), recipe, scale)
    # Squashed to the content's shape, neither edge is to be enlarged without need.
    ratio = max(x / y for x, y in zip(measured, native, strict=True))
    return load_cutout(path, size=math.ceil(ratio * max(native)))


def check_key(key: Any) -> None:
    """Raise a ValueError unless this is one random key, of the new kind or the old."""
    try:
        jax.eval_shape(jax.random.bits, key)
    except (TypeError, ValueError) as error:
        got = f"shape {key.shape}" if hasattr(key, "shape") else repr(key)
        raise ValueError(
            f"expected one random key, such as jax.random.key(0), got {got}"
        ) from error


def initial_image(
    key: Array, content: Image, styles: Sequence[Image], recipe: Recipe
) -> Image:
    """The image that the optimisation starts from, of the content's shape.

    By the recipe's `init` it is the content; `noise`, of the deviation `noise` around
    the mean colour of ImageNet; or `style`, noise that has mean and standard deviation
    of the styles' colours.
    """
    if recipe.look.init == "content":
        return content
    mean, spread = np.array([0.485, 0.458, 0.408]), np.full(3, recipe.look.noise)
    if recipe.look.init == "style":
        pixels = np.concatenate([style.reshape(-1, 3) for style in styles])
        mean, spread = pixels.mean(0), pixels.std(0)
    given = mean.astype(np.float32), spread.astype(np.float32)
    return np.asarray(_noise(key, *given, shape=content.shape))


@partial(jax.jit, static_argnames="shape")
def _noise(
    key: Array,
    mean: Float[Array, "3"],
    spread: Float[Array, "3"],
    shape: tuple[int, int, int],
) -> Image:
    noise = jax.random.normal(key, shape)
    return jnp.clip(mean[None, None] + spread[None, None] * noise, 0, 1)


def scale_content(content: Image, shape: tuple[int, int]) -> Image:
    """A content, or a start image, at the size of a scale, clipped to [0, 1]."""
    return np.clip(resize(content, shape), 0, 1)


def resizer(recipe: Recipe) -> Callable[..., Image]:
    """What the pictures of a recipe are resampled by."""
    return resize if recipe.program.shares_canvases else resize_compiled
