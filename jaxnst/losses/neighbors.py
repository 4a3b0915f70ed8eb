"""Style loss: the distance of each feature to the nearest feature of the style."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxnst.linalg import HIGHEST, float32
from jaxnst.losses.sums import WeightedSum, sum_positions, total_weight
from jaxnst.types import Feature, Weights

SAMPLES = 4096
"""Number of features of a style that are kept at each layer, chosen at random. If a
style has fewer features, some repeat, so that styles of all sizes share programs."""

FAINTEST = 1e-3
"""A feature is kept if its weight exceeds this fraction of the largest weight."""

BLOCK = 1024
"""Number of the image's features that are searched for at once, to bound the memory."""


class FeatureSample(NamedTuple):
    """A sample of the features of a style, or of several styles, at one layer.

    Attributes:
        rows: The features, in random order. `index_features` replaces each feature by
            its direction from the mean, a vector of length 1.
        mean: Mean of all features of the style.
        shares: Weight of each feature. The search divides the distance to a feature by
            the feature's weight.
    """

    rows: Float[Array, "_n _c"]
    mean: Float[Array, "_c"]
    shares: Float[Array, "_n"]


def sample_features(feature: Feature, weights: Weights = None) -> FeatureSample:
    """Choose `SAMPLES` features of a style at random, none of negligible weight."""
    rows = float32(feature).reshape(-1, feature.shape[-1])
    order = jax.random.permutation(jax.random.key(0), len(rows))
    each, count = jnp.ones(len(rows)), jnp.int32(len(rows))
    if weights is not None:
        each = weights.reshape(-1)
        counts = each > FAINTEST * jnp.max(each)
        order, count = order[jnp.argsort(~counts[order])], jnp.sum(counts)
    chosen = order[jnp.arange(SAMPLES) % count]
    mean = sum_positions(float32(feature), weights) / total_weight(feature, weights)
    return FeatureSample(rows[chosen], mean, each[chosen])


def blend_samples(
    found: list[FeatureSample], shares: Float[Array, "_n"]
) -> FeatureSample:
    """Join equally many features of each style, weighted by the style's share."""
    part = -(-SAMPLES // len(found))
    rows = jnp.concatenate([own.rows[:part] for own in found])[:SAMPLES]
    weights = [
        s * own.shares[:part] for s, own in zip(jnp.abs(shares), found, strict=True)
    ]
    mean = sum(s * own.mean for s, own in zip(shares, found, strict=True))
    return FeatureSample(rows, jnp.asarray(mean), jnp.concatenate(weights)[:SAMPLES])


def index_features(found: FeatureSample) -> FeatureSample:
    """Turn features into directions from the style's mean, for `neighbor_sum`."""
    return found._replace(rows=_directions(found.rows, found.mean))


def _directions(
    rows: Float[Array, "_n _c"], mean: Float[Array, "_c"]
) -> Float[Array, "_n _c"]:
    """Directions from the mean; near the mean they are shorter than 1."""
    centred = rows - mean[None]
    squares = jnp.sum(centred**2, axis=1, keepdims=True)
    return centred * jax.lax.rsqrt(squares + 1e-6 * rows.shape[1])


def neighbor_sum(
    feature: Feature, target: FeatureSample, weights: Weights = None
) -> WeightedSum:
    """Sum the distances from the image's features to the style's nearest features.

    The mean is `Σᵢ wᵢ min_j (1 - cos(fᵢ - μ, sⱼ - μ)) / Σᵢ wᵢ`. Here fᵢ are the
    features of the image, with weights wᵢ, and sⱼ are those of the style, with mean μ.
    Each step searches the whole sample anew; the gradient treats the choice of sⱼ as
    constant. With several styles, the search divides each distance by the share of the
    style.

    Args:
        feature: Feature of the image.
        target: Features of the style, from `index_features`.
        weights: How much each position counts.

    Example:
        >>> f = jax.random.normal(jax.random.key(0), (8, 8, 3))
        >>> abs(float(neighbor_sum(f, index_features(sample_features(f))).mean)) < 1e-4
        True

    Reference:
        Kolkin et al. (2022), "Neural Neighbor Style Transfer", the final pass. There
        the image's features are centred at their own mean, which a tile does not know.
        Here they are centred at the style's mean.
    """
    rows = float32(feature).reshape(-1, feature.shape[-1])
    found = _directions(rows, target.mean)

    def nearest(row: Float[Array, "_c"]) -> Int[Array, ""]:
        cosines = jnp.matmul(target.rows, row, precision=HIGHEST)
        far = (1 - cosines) / jnp.where(target.shares > 0, target.shares, 1)
        return jnp.argmin(jnp.where(target.shares > 0, far, jnp.inf))

    places = jax.lax.map(nearest, jax.lax.stop_gradient(found), batch_size=BLOCK)
    distance = 1 - jnp.sum(found * target.rows[places], axis=1)
    total = sum_positions(distance.reshape(*feature.shape[:2], 1), weights)[0]
    return WeightedSum(total, total_weight(feature, weights))
