"""How rough an image is."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.types import Image, Scalar


def squared_variation(
    image: Image, counted: Float[Array, "_h _w 1"] | None = None
) -> Scalar:
    """Half the sum of squared differences to the right and lower neighbours.

    `½ Σ (x[i, j] - x[i, j+1])² + (x[i, j] - x[i+1, j])²` over the channels and all
    pixels but the last row and column. A sum: it grows with the size of the image.

    Args:
        image: RGB, h w 3.
        counted: Which pixels i, j the sum is over. Default: all.

    Returns:
        The loss, ≥ 0.

    Example:
        >>> float(squared_variation(jnp.eye(2)[:, :, None].repeat(3, 2)))
        3.0

    Reference:
        jcjohnson/neural-style (2015), whose `TVLoss` is the gradient of this.
    """
    counted = jnp.ones((*image.shape[:2], 1)) if counted is None else counted
    here = image[:-1, :-1]
    squares = (image[:-1, 1:] - here) ** 2 + (image[1:, :-1] - here) ** 2
    return jnp.sum(counted[:-1, :-1] * squares) / 2


class Differences(NamedTuple):
    """Sums of squared differences of neighbouring pixels, for `total_variation`.

    Attributes:
        straight: Of pixels beside and below each other.
        diagonal: Of pixels that touch at a corner.
    """

    straight: Scalar
    diagonal: Scalar


def differences(
    image: Image, counted: Float[Array, "_h _w 1"] | None = None
) -> Differences:
    """Sums of squared differences of neighbouring pixels, edges replicated.

    Args:
        image: RGB, h w 3.
        counted: Which pixels' differences from those to the right and below the sums
            are over; the replicated ones count with their originals. Default: all.

    Returns:
        The sums, over the channels too.
    """
    counted = jnp.ones((*image.shape[:2], 1)) if counted is None else counted
    x, counted = (
        jnp.pad(a, ((1, 1), (1, 1), (0, 0)), mode="edge") for a in (image, counted)
    )
    right = x[1:-1, 2:] - x[1:-1, 1:-1]
    down = x[2:, 1:-1] - x[1:-1, 1:-1]
    falling = x[1:, 1:] - x[:-1, :-1]
    rising = x[:-1, 1:] - x[1:, :-1]
    return Differences(
        straight=jnp.sum(counted[1:-1, 1:-1] * (right**2 + down**2)),
        diagonal=jnp.sum(counted[:-1, :-1] * (falling**2 + rising**2)),
    )


def total_variation(d: Differences, shape: tuple[int, ...]) -> Scalar:
    """Mean squared difference of neighbouring pixels, in eight directions.

    `2 (⟨dx²⟩/3 + ⟨dy²⟩/3 + ⟨d↘²⟩/12 + ⟨d↙²⟩/12)`, edges replicated: the nine-point
    Laplacian's energy, the same in all directions to second order.

    Args:
        d: `differences` of an image.
        shape: Its height and width.

    Returns:
        The loss, ≥ 0; zero for a flat image.

    Example:
        >>> float(total_variation(differences(jnp.ones((8, 8, 3))), (8, 8)))
        0.0
    """
    h, w = shape[:2]
    straight, diagonal = d.straight / (3 * h * w), d.diagonal / (3 * (h + 1) * (w + 1))
    return 2 * (straight / 3 + diagonal / 12)
