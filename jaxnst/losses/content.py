"""Content losses: distances between the features of the image and of the content.

A content loss is a row of `CONTENT_LOSSES`. To add your own, make a `ContentLoss` from
a function that sums differences over positions.

Features and targets have the shape h w c. Weights, h w 1, say how much each position
counts. Without weights, each position counts once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.linalg import float32
from jaxnst.losses.sums import WeightedSum, sum_positions, total_weight
from jaxnst.types import Feature, Scalar, Weights


@dataclass(frozen=True)
class ContentLoss:
    """A content loss: a sum over positions, and the distance computed from it.

    Attributes:
        name: Name of the loss in a recipe.
        summarize: `summarize(feature, target, weights) -> summary`, a sum over
            positions, of the image's feature and the content's target. `weights` may
            be None.
        distance: `distance(summary) -> loss`, ≥ 0. Default: the summary's mean.
        measure: `measure(feature, weights) -> statistics`, sums over the positions of
            the content's feature. `prepare` gets them. Default: the result is None.
        prepare: `prepare(feature, statistics) -> target`, of the feature's shape. The
            feature may be that of a tile; the statistics are always those of the whole
            content. Default: the feature itself.
        additive: Whether the summaries of a picture's tiles add up to the summary of
            the picture. If not, the loss cannot be used in tiles.
    """

    name: str
    summarize: Callable[[Feature, Feature, Weights], Any]
    distance: Callable[[Any], Scalar] = lambda summary: summary.mean
    measure: Callable[[Feature, Weights], Any] = lambda feature, weights: None
    prepare: Callable[[Feature, Any], Feature] = lambda feature, statistics: feature
    additive: bool = True


def square_sum(
    feature: Feature, target: Feature, weights: Weights = None
) -> WeightedSum:
    """Sum squared differences over positions, and average them over channels.

    `square_sum(F, P).mean` is `content_loss(F, P)`.
    """
    squares = (float32(feature) - target) ** 2
    total = jnp.sum(squares if weights is None else weights * squares)
    return WeightedSum(total / feature.shape[-1], total_weight(feature, weights))


def content_loss(feature: Feature, target: Feature, weights: Weights = None) -> Scalar:
    """Mean squared difference of two features, `mean((F - P)²)`.

    Example:
        >>> content_loss(jnp.ones((2, 2, 3)), jnp.zeros((2, 2, 3)))
        Array(1., dtype=float32)

    Reference:
        Gatys, Ecker, Bethge (2016). Their eq. 1 is `half_square_sum` instead.
    """
    return square_sum(feature, target, weights).mean


def half_square_sum(
    feature: Feature, target: Feature, weights: Weights = None
) -> Scalar:
    """Half the sum of the squared differences of two features, `½ Σ (F - P)²`.

    Reference:
        Gatys, Ecker, Bethge (2016), eq. 1.
    """
    summary = square_sum(feature, target, weights)
    return summary.total * (feature.shape[-1] / 2)


class Spread(NamedTuple):
    """Per-channel sums, or means, of x and x² over the positions."""

    mean: Float[Array, "_c"]
    square: Float[Array, "_c"]


def spread_sum(feature: Feature, weights: Weights = None) -> WeightedSum:
    """Per-channel sums of a feature x and of x², over the positions."""
    feature = float32(feature)
    sums = Spread(sum_positions(feature, weights), sum_positions(feature**2, weights))
    return WeightedSum(sums, total_weight(feature, weights))


FLAT = 1e-5
"""Added to variances, to avoid a division by zero for a constant channel."""


def standardize(feature: Feature, known: Spread | None = None) -> Feature:
    """Shift and scale each channel to mean 0 and deviation 1 over the positions.

    `known` holds the means of x and x² to use. Default: those of the feature. For a
    tile, pass the means over the whole picture.
    """
    mean, square = known or spread_sum(feature).mean
    variance = jnp.maximum(square - mean**2, 0)
    return (feature - mean[None, None]) * jax.lax.rsqrt(variance + FLAT)[None, None]


class CrossMoments(NamedTuple):
    """Per-channel sums, or means, of x, x², x p and p²: x is a feature, p a target."""

    mean: Float[Array, "_c"]
    square: Float[Array, "_c"]
    product: Float[Array, "_c"]
    target: Float[Array, "_c"]


def cross_sum(
    feature: Feature, target: Feature, weights: Weights = None
) -> WeightedSum:
    """Per-channel sums of x, x², x·p and p² of a feature x and its target p."""
    (mean, square), weight = spread_sum(feature, weights)
    product = sum_positions(float32(feature) * target, weights)
    sums = CrossMoments(mean, square, product, sum_positions(target**2, weights))
    return WeightedSum(sums, weight)


def correlation_loss(m: CrossMoments) -> Scalar:
    """Mean squared difference of two features after their channels are standardised.

    This is `2 (1 - r)`, averaged over the channels, where r is the correlation over the
    positions between a channel of one feature and the same channel of the other. The
    loss compares the spatial arrangement within each channel. It ignores the channel's
    mean and deviation, so palette and contrast are left to the style. It hardly depends
    on the scale of the activations.

    Args:
        m: `cross_sum(feature, target).mean`, of the image's feature and a target that
            is standardised already.

    Returns:
        The loss, in [0, 4].

    Example:
        >>> x = jnp.arange(12.0).reshape(2, 2, 3)
        >>> same = cross_sum(3 * x + 1, standardize(x)).mean
        >>> abs(float(correlation_loss(same))) < 1e-4
        True
    """
    variance = jnp.maximum(m.square - m.mean**2, 0)
    scale = jax.lax.rsqrt(variance + FLAT)
    return jnp.mean(variance * scale**2 + m.target - 2 * m.product * scale)


CONTENT_LOSSES = {
    row.name: row
    for row in (
        ContentLoss("mean", square_sum),
        ContentLoss("half_sum", half_square_sum, distance=lambda total: total),
        ContentLoss(
            "correlation",
            cross_sum,
            distance=lambda summary: correlation_loss(summary.mean),
            measure=spread_sum,
            prepare=lambda feature, statistics: standardize(feature, statistics.mean),
        ),
    )
}
"""Content losses by name."""
