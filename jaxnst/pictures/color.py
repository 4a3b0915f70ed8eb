"""Colour transfer between images."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.linalg import eigh
from jaxnst.types import Image

HIGHEST = jax.lax.Precision.HIGHEST


def match_palette(
    image: Image,
    references: list[Image],
    *,
    blend: Float[Array, "_n"] | None = None,
    epsilon: float = 1e-3,
) -> Image:
    """Give an image the mean and covariance of the colours of other images.

    `x ↦ ν + T (x - μ)` with `T = A^-½ (A^½ B A^½)^½ A^-½`, where μ and A are mean and
    covariance of the image, ν and B those of the references. This is the optimal
    transport between the two Gaussians: of all linear maps from one to the other, it
    changes the colours least.

    Args:
        image: RGB in [0, 1], h w 3.
        references: At least one image, RGB in [0, 1], each of any size.
        blend: Weights of the references (n,); they are made to sum to 1. Default: equal
            weights.
        epsilon: Added to the variances of image and references, so that faint colours
            of the image, above all noise, are not amplified to the strength of the
            references'.

    Returns:
        The image in its new colours, h w 3, clipped to [0, 1].

    Example:
        >>> x = jax.random.uniform(jax.random.key(0), (8, 8, 3), minval=0.4, maxval=0.6)
        >>> bool(jnp.allclose(match_palette(x, [x]), x, atol=1e-4))
        True

    Reference:
        Pitié, Kokaram (2007), "The linear Monge-Kantorovitch linear colour mapping".
    """
    weights = jnp.ones(len(references)) if blend is None else jnp.abs(blend)
    weights = weights / jnp.sum(weights)
    mean, a = _moments(image, epsilon)
    means, covariances = zip(*(_moments(x, epsilon) for x in references), strict=True)
    target = jnp.tensordot(weights, jnp.stack(means), 1, precision=HIGHEST)
    b = jnp.tensordot(weights, jnp.stack(covariances), 1, precision=HIGHEST)
    root, inverse = _power(a, 0.5), _power(a, -0.5)
    product = lambda *matrices: jnp.linalg.multi_dot(matrices, precision=HIGHEST)
    transport = product(inverse, _power(product(root, b, root), 0.5), inverse)
    moved = jnp.matmul(image - mean[None, None], transport, precision=HIGHEST)
    return jnp.clip(moved + target[None, None], 0, 1)


def _moments(
    image: Image, epsilon: float
) -> tuple[Float[Array, "3"], Float[Array, "3 3"]]:
    """Mean and covariance of the colours."""
    pixels = image.reshape(-1, 3)
    mean = pixels.mean(0)
    centred = pixels - mean[None]
    covariance = jnp.matmul(centred.T, centred, precision=HIGHEST) / len(pixels)
    return mean, covariance + epsilon * jnp.eye(3)


def _power(matrix: Float[Array, "3 3"], exponent: float) -> Float[Array, "3 3"]:
    """Power of a positive definite matrix."""
    values, vectors = eigh(matrix)
    powers = jnp.maximum(values, 1e-12) ** exponent
    return jnp.matmul(vectors * powers[None], vectors.T, precision=HIGHEST)
