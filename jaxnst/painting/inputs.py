"""The pictures of a run at the size of a scale."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxnst.types import Image


def initial_image(
    key: Array,
    content: Image,
    styles: list[Image],
    *,
    kind: Literal["content", "noise", "style"] = "content",
    deviation: float = 0.1,
) -> Image:
    """The image that the optimisation starts from.

    Args:
        key: Random key; unused by `content`.
        content: The content, h w 3.
        styles: The styles, of any size.
        kind: `content`; `noise`, noise around the mean colour of ImageNet; or `style`,
            noise that has mean and standard deviation of the styles' colours.
        deviation: Standard deviation of `noise`.

    Returns:
        RGB in [0, 1], of the content's shape.
    """
    if kind == "content":
        return content
    noise = jax.random.normal(key, content.shape)
    if kind == "noise":
        grey = jnp.array([0.485, 0.458, 0.408])
        return jnp.clip(grey[None, None] + deviation * noise, 0, 1)
    pixels = jnp.concatenate([style.reshape(-1, 3) for style in styles])
    mean, spread = pixels.mean(0), pixels.std(0)
    return jnp.clip(mean[None, None] + spread[None, None] * noise, 0, 1)
