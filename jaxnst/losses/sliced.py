"""The sliced Wasserstein distance between the features of two pictures."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.linalg import HIGHEST, float32
from jaxnst.types import Feature, Scalar, Weights

SLICES = 64
"""Largest number of directions that features are projected on. There are never more
directions than channels."""

QUANTILES = 1024
"""Number of quantiles of a style kept for each direction."""


class Slices(NamedTuple):
    """Projections of features on each direction, sorted.

    Attributes:
        values: Projections, in ascending order along the first axis.
        shares: Weight of each projection; the weights along a direction sum to 1.
    """

    values: Float[Array, "_n _d"]
    shares: Float[Array, "_n _d"]


def directions(channels: int) -> Float[Array, "_c _d"]:
    """Orthonormal directions in the space of the channels, always the same."""
    shape = channels, min(channels, SLICES)
    return jnp.linalg.qr(jax.random.normal(jax.random.key(0), shape))[0]


def slices(feature: Feature, weights: Weights = None) -> Slices:
    """Project a feature on each of the `directions`, and sort the projections."""
    rows = float32(feature).reshape(-1, feature.shape[-1])
    found = jnp.matmul(rows, directions(rows.shape[1]), precision=HIGHEST)
    order = jnp.argsort(found, axis=0)
    each = jnp.ones(len(rows)) if weights is None else weights.reshape(-1)
    shares = each[order] / jnp.sum(each)
    return Slices(jnp.take_along_axis(found, order, axis=0), shares)


def quantiles(found: Slices) -> Float[Array, "_q _d"]:
    """The values at `QUANTILES` evenly spaced ranks, along each direction."""
    wanted = (jnp.arange(QUANTILES) + 0.5) / QUANTILES

    def along(values: Float[Array, "_n"], ends: Float[Array, "_n"]) -> Array:
        places = jnp.searchsorted(ends, wanted)
        return values[jnp.minimum(places, len(values) - 1)]

    ends = jnp.cumsum(found.shares, axis=0)
    return jax.vmap(along, in_axes=1, out_axes=1)(found.values, ends)


def blend_quantiles(found: list[Slices], shares: Float[Array, "_n"]) -> Slices:
    """The barycentre of several styles: the average of their quantiles."""
    mean = sum(s * quantiles(x) for s, x in zip(shares, found, strict=True))
    values = jnp.sort(jnp.asarray(mean), axis=0)
    return Slices(values, jnp.full(values.shape, 1 / QUANTILES))


def sliced_wasserstein_loss(found: Slices, target: Float[Array, "_q _d"]) -> Scalar:
    """Squared Wasserstein-2 distance of projections, averaged over the directions.

    `L = mean over v of Σᵢ wᵢ (⟨fᵢ, v⟩ - T_v(rᵢ))²` with the features fᵢ of the image,
    weights wᵢ of sum 1, and directions v. Here rᵢ is the rank of `⟨fᵢ, v⟩`, 0 to 1, and
    T_v is the quantile function of the style, interpolated between `QUANTILES` ranks.
    Unlike losses of means and covariances, this loss compares whole distributions.

    Args:
        found: Projections of the image's feature, from `slices`.
        target: Quantiles of the style, from `quantiles`.

    Returns:
        The loss, ≥ 0.

    Example:
        >>> ramp = jnp.arange(16.0).reshape(4, 4, 1)
        >>> target = quantiles(slices(ramp + 3))
        >>> round(float(sliced_wasserstein_loss(slices(ramp), target)), 3)
        9.0

    Reference:
        Heitz et al. (2021), "A Sliced Wasserstein Loss for Neural Texture Synthesis".
        There each step draws new directions; here they are fixed, so a step is pure.
    """
    known = jnp.arange(len(target)) + 0.5
    at = partial(jnp.interp, xp=known / len(target))
    # Rank of each value: the weight of all smaller values, plus half its own.
    ranks = jnp.cumsum(found.shares, axis=0) - found.shares / 2
    wanted = jax.vmap(lambda r, t: at(r, fp=t), in_axes=1, out_axes=1)(
        jax.lax.stop_gradient(ranks), target
    )
    squares = found.shares * (found.values - wanted) ** 2
    return jnp.sum(squares) / found.values.shape[1]
