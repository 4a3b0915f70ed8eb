"""Sums over positions, each position counted by a weight.

A weight is 0 if another tile owns the position, or a mask excludes the position.
Without weights, every position counts once.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.types import Scalar, Weights


class WeightedSum(NamedTuple):
    """A sum over positions, and the sum of their weights.

    The sums of a picture's tiles add up, field by field, to the sum of the picture.

    Attributes:
        total: `Σ w_i x_i`, an array or a tree of arrays.
        weight: `Σ w_i`.
    """

    total: Any
    weight: Scalar

    @property
    def mean(self) -> Any:
        """The weighted mean, `Σ w_i x_i / Σ w_i`, of the same structure as `total`."""
        return jax.tree.map(lambda x: x / self.weight, self.total)


def sum_positions(
    x: Float[Array, "_h _w _c"], weights: Weights = None
) -> Float[Array, "_c"]:
    """Add up an array over its positions, by channel: `Σ w_ij x_ij`.

    Example:
        >>> sum_positions(jnp.ones((2, 3, 1))).tolist()
        [6.0]
    """
    return jnp.sum(x if weights is None else weights * x, axis=(0, 1))


def total_weight(x: Float[Array, "_h _w _c"], weights: Weights = None) -> Scalar:
    """Sum of the weights of an array's positions. Without weights, it is h times w."""
    if weights is None:
        return jnp.float32(x.shape[0] * x.shape[1])
    return jnp.sum(weights)


def blend_means(
    summaries: list[WeightedSum], shares: Float[Array, "_n"]
) -> WeightedSum:
    """Weighted average of the means of several pictures, whatever their sizes.

    Args:
        summaries: Summary of each picture.
        shares: Weight of each picture; the absolute values sum to 1.

    Returns:
        A `WeightedSum` of weight 1, whose mean is the average of the means.
    """
    mixed = jax.tree.map(
        lambda *xs: sum(w * x for w, x in zip(shares, xs, strict=True)),
        *(summary.mean for summary in summaries),
    )
    return WeightedSum(mixed, jnp.float32(1))
