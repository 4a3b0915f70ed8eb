"""How far the features of an image are from the content's."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.losses.linalg import float32
from jaxnst.types import Feature, Scalar


def content_loss(feature: Feature, target: Feature) -> Scalar:
    """Mean squared difference of two features, `mean((F - P)²)`.

    Gatys et al. (2016), eq. 1, has `½ Σ (F - P)²`; that is `h w c / 2` times this.

    Args:
        feature: Feature of the image, h w c.
        target: Feature of the content, the same shape.

    Returns:
        The loss, ≥ 0.

    Example:
        >>> content_loss(jnp.ones((2, 2, 3)), jnp.zeros((2, 2, 3)))
        Array(1., dtype=float32)
    """
    return jnp.mean((float32(feature) - target) ** 2)


class CrossMoments(NamedTuple):
    """Means over the positions of x, x², x p and p², by channel.

    Attributes:
        mean: Of a feature x.
        square: Of its square.
        product: Of its product with a target p.
        target: Of the target's square.
    """

    mean: Float[Array, "_c"]
    square: Float[Array, "_c"]
    product: Float[Array, "_c"]
    target: Float[Array, "_c"]


def cross_moments(feature: Feature, target: Feature) -> CrossMoments:
    """Means over the positions that tell how a feature goes along with a target.

    Args:
        feature: Feature of the image, h w c.
        target: `standardize`d feature of the content, the same shape.

    Returns:
        The means, (c,) each.
    """
    over = lambda x: jnp.mean(x, axis=(0, 1))
    return CrossMoments(
        *spread(feature), over(float32(feature) * target), over(target**2)
    )


class Spread(NamedTuple):
    """Means over the positions of x and x², by channel."""

    mean: Float[Array, "_c"]
    square: Float[Array, "_c"]


def spread(feature: Feature) -> Spread:
    """Where the activations of each channel lie, and how far around."""
    feature = float32(feature)
    over = lambda x: jnp.mean(x, axis=(0, 1))
    return Spread(over(feature), over(feature**2))


def standardize(feature: Feature, known: Spread | None = None) -> Feature:
    """Shift and scale each channel to mean 0 and deviation 1 over the positions.

    Args:
        feature: Feature, h w c.
        known: The `spread` of the feature that this is a part of. Default: its own.

    Returns:
        The standardised feature, the same shape.
    """
    mean, square = known or spread(feature)
    variance = jnp.maximum(square - mean**2, 0)
    return (feature - mean[None, None]) * jax.lax.rsqrt(variance + FLAT)[None, None]


FLAT = 1e-5
"""Added to variances, so that a channel that is constant does not divide by zero."""


def correlation_loss(m: CrossMoments) -> Scalar:
    """Squared difference of two features once each channel has mean 0 and deviation 1.

    That is `2 (1 - r)`, with r the correlation of a channel with its target over the
    positions, averaged over the channels. It asks for the arrangement of the content
    and leaves mean and strength of every channel, so palette and contrast, to the
    style. It is about the same at any scale of the activations.

    Args:
        m: `cross_moments` of the image's feature with a standardised target.

    Returns:
        The loss, in [0, 4].

    Example:
        >>> x = jnp.arange(12.0).reshape(2, 2, 3)
        >>> same = cross_moments(3 * x + 1, standardize(x))
        >>> abs(float(correlation_loss(same))) < 1e-4
        True
    """
    variance = jnp.maximum(m.square - m.mean**2, 0)
    scale = jax.lax.rsqrt(variance + FLAT)
    return jnp.mean(variance * scale**2 + m.target - 2 * m.product * scale)
