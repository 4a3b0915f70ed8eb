"""Variation losses measure how rough an image is; each is a row of `VARIATION_LOSSES`.

The weight of a pixel applies to its differences from the pixels to the right and below.
Without weights, every difference counts once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxnst.checks import OPTIMIZED, check_image
from jaxnst.pictures.canvas import pad_edge
from jaxnst.types import Image, Scalar, Weights


@dataclass(frozen=True)
class VariationLoss:
    """A variation loss: `summarize` sums over pixels, `distance` makes the loss of it.

    Attributes:
        name: Name of the loss in a recipe.
        summarize: `summarize(image, weights) -> sums`, with an image h w 3, and weights
            h w 1 or None. The sums of tiles add up to the sums of the picture.
        distance: `distance(sums, shape) -> loss`; the shape is the image's height and
            width, and may be an array.
    """

    name: str
    summarize: Callable[[Image, Weights], Any]
    distance: Callable[[Any, Any], Scalar]


def squared_variation(image: Image, weights: Weights = None) -> Scalar:
    """Half the sum of squared differences of neighbouring pixels.

    `½ Σ ((x_{i,j+1} - x_{i,j})² + (x_{i+1,j} - x_{i,j})²)`. The sum is over all pixels
    (i, j) except the last row and the last column, which count only as neighbours.

    Example:
        >>> float(squared_variation(jnp.eye(2)[:, :, None].repeat(3, 2)))
        3.0

    Reference:
        jcjohnson/neural-style (2015), whose `TVLoss` is the gradient of this loss.
    """
    check_image(image, beyond=OPTIMIZED)
    each = jnp.ones((*image.shape[:2], 1)) if weights is None else weights
    here = image[:-1, :-1]
    squares = (image[:-1, 1:] - here) ** 2 + (image[1:, :-1] - here) ** 2
    return jnp.sum(each[:-1, :-1] * squares) / 2


class Differences(NamedTuple):
    """Sums of squared differences of neighbouring pixels, for `total_variation`.

    Attributes:
        straight: Sum for horizontal and vertical neighbours.
        diagonal: Sum for diagonal neighbours.
    """

    straight: Scalar
    diagonal: Scalar


def differences(image: Image, weights: Weights = None) -> Differences:
    """Sum the squared differences of neighbouring pixels, over pixels and channels.

    `pad_edge` first pads the image and the weights by one pixel on each side.
    """
    check_image(image, beyond=OPTIMIZED)
    each = jnp.ones((*image.shape[:2], 1)) if weights is None else weights
    x, each = (pad_edge(a) for a in (image, each))
    right = x[1:-1, 2:] - x[1:-1, 1:-1]
    down = x[2:, 1:-1] - x[1:-1, 1:-1]
    falling = x[1:, 1:] - x[:-1, :-1]
    rising = x[:-1, 1:] - x[1:, :-1]
    return Differences(
        straight=jnp.sum(each[1:-1, 1:-1] * (right**2 + down**2)),
        diagonal=jnp.sum(each[:-1, :-1] * (falling**2 + rising**2)),
    )


def total_variation(d: Differences, shape: Any) -> Scalar:
    """Weighted mean squared difference between each pixel and its eight neighbours.

    `2 (⟨dx²⟩/3 + ⟨dy²⟩/3 + ⟨d↘²⟩/12 + ⟨d↙²⟩/12)`: ⟨ ⟩ is the mean over pixels and
    channels. dx, dy, d↘ and d↙ are differences of neighbours along an axis or a
    diagonal, with edges replicated. Opposite neighbours give equal terms, hence the
    factor 2. The loss is the energy of the nine-point Laplacian, which is isotropic to
    second order.

    Args:
        d: `differences` of an image.
        shape: Height and width of the image.

    Returns:
        The loss, ≥ 0; zero for a flat image.

    Example:
        >>> float(total_variation(differences(jnp.ones((8, 8, 3))), (8, 8)))
        0.0
    """
    h, w = shape[:2]
    straight, diagonal = d.straight / (3 * h * w), d.diagonal / (3 * (h + 1) * (w + 1))
    return 2 * (straight / 3 + diagonal / 12)


VARIATION_LOSSES = {
    row.name: row
    for row in (
        VariationLoss("nine_point", differences, total_variation),
        VariationLoss("squares", squared_variation, lambda total, shape: total),
    )
}
"""Variation losses by name."""
