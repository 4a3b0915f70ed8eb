"""Statistics of the features of one layer, and distances between them.

Features are h w c, after the ReLU, of float32 or, where the network computes in it, of
bfloat16. Every function takes one image's feature and returns scalars or small matrices
of float32; sums over positions accumulate in float32 at the highest matmul precision,
because TF32 or bfloat16 spoils them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.losses.linalg import (
    HIGHEST,
    eigh,
    float32,
    products,
    root_trace_by_eigenvalues,
    root_trace_by_products,
)
from jaxnst.types import Feature, Scalar


def gram_matrix(feature: Feature) -> Float[Array, "_c _c"]:
    """Mean over the positions of the products of channels, `G = FᵀF / (h w)`.

    Args:
        feature: Feature, h w c.

    Returns:
        Symmetric matrix, c c.

    Example:
        >>> gram_matrix(jnp.full((4, 4, 1), 3.0)).tolist()
        [[9.0]]

    Reference:
        Gatys, Ecker, Bethge (2016), eq. 3; there the sum is not divided by h w.
    """
    f = feature.reshape(-1, feature.shape[-1])
    return products(f) / len(f)


def gram_loss(gram: Float[Array, "_c _c"], target: Float[Array, "_c _c"]) -> Scalar:
    """Mean squared difference of two Gram matrices, `mean((G - A)²)`.

    Args:
        gram: Gram matrix of the image, c c.
        target: Gram matrix of the style, c c.

    Returns:
        The loss, ≥ 0. Gatys et al. (2016), eq. 4, is a quarter of it.
    """
    return jnp.mean((gram - target) ** 2)


class Moments(NamedTuple):
    """Mean (c,) and raw second moment `FᵀF / (h w)` (c, c) over the positions.

    Unlike covariances, moments of several styles may be averaged.
    """

    mean: Float[Array, "_c"]
    second: Float[Array, "_c _c"]


def moments(feature: Feature) -> Moments:
    """Mean and raw second moment of the channels over the positions.

    Args:
        feature: Feature, h w c.

    Returns:
        Moments, (c,) and (c, c).
    """
    return Moments(jnp.mean(float32(feature), axis=(0, 1)), gram_matrix(feature))


def covariance(m: Moments) -> Float[Array, "_c _c"]:
    """Covariance of the channels, `E[FᵀF] - E[F]ᵀE[F]`."""
    return m.second - jnp.outer(m.mean, m.mean)


class Gaussian(NamedTuple):
    """The Gaussian that stands for a style at one layer, ready for `wasserstein2_loss`.

    Attributes:
        mean: Mean of the channels, (c,).
        root: R with covariance `R Rᵀ`, (c, r).
        trace: Trace of the covariance.
        floor: Variances below about this are not told apart from zero.
    """

    mean: Float[Array, "_c"]
    root: Float[Array, "_c _r"]
    trace: Scalar
    floor: Scalar


def gaussian(m: Moments, *, rank: int | None = None) -> Gaussian:
    """Factor the covariance of a style, once, for `wasserstein2_loss`.

    Args:
        m: Moments of the style, or an average of the moments of several.
        rank: Number of factors to keep, at most c. A style with fewer positions than
            channels has a covariance of no more than that rank, and every step gets
            cheaper by leaving the null space out. Default: c.

    Returns:
        The factored Gaussian.
    """
    values, vectors = eigh(covariance(m))
    kept = slice(-min(rank or len(values), len(values)), None)
    values = jnp.maximum(values, 0)
    root = vectors[:, kept] * jnp.sqrt(values[kept])[None]
    # Float32 holds K below to about 1e-7 of its largest eigenvalue, values[-1]², so its
    # square roots to about 3e-4 of values[-1].
    return Gaussian(m.mean, root, jnp.sum(values), 3e-4 * values[-1] + 1e-12)


def wasserstein2_loss(m: Moments, target: Gaussian) -> Scalar:
    """Squared Wasserstein-2 distance between two Gaussians, per channel.

    `c · L = |μ - μ*|² + tr Σ + tr Σ* - 2 tr (Σ*^½ Σ Σ*^½)^½`. With `Σ* = R Rᵀ` the
    cross term is the sum of the square roots of the eigenvalues λ of `K = Rᵀ Σ R`,
    whose gradient is `½ K^-½`, so no Lyapunov equation is solved. It stays right where
    there are fewer positions than channels: zero eigenvalues contribute nothing. Each
    root is smoothed to `λ / √(λ + floor²)`, which bounds the gradient; L is then never
    below the exact distance, and a little above zero for equal Gaussians.

    On a CPU it takes LAPACK's eigenvalues, which are the fastest there, elsewhere
    `root_trace_by_products`.

    Args:
        m: Moments of the image, (c,) and (c, c).
        target: Factored Gaussian of the style.

    Returns:
        The loss, ≥ 0.

    Reference:
        Mroueh (2019), "Wasserstein Style Transfer", eq. 2. The widespread
        implementation adds 1e-4 to the diagonal of both covariances instead and
        approximates the square root by 12 Newton-Schulz rounds.
    """
    sigma = covariance(m)
    root = target.root
    k = jnp.matmul(
        jnp.matmul(root.T, sigma, precision=HIGHEST), root, precision=HIGHEST
    )
    cross = jax.lax.platform_dependent(
        k,
        target.floor,
        cpu=root_trace_by_eigenvalues,
        default=root_trace_by_products,
    )
    transport = jnp.trace(sigma) + target.trace - 2 * cross
    return (jnp.sum((m.mean - target.mean) ** 2) + transport) / len(m.mean)


def normalize_gradient(feature: Feature, norm: Scalar) -> Feature:
    """Leave a feature as it is, and give the gradient that comes back an L1 norm.

    Args:
        feature: Any feature.
        norm: The L1 norm.

    Returns:
        The feature.

    Reference:
        jcjohnson/neural-style (2015), option `-normalize_gradients`.
    """

    @jax.custom_vjp
    def identity(feature: Feature, norm: Scalar) -> Feature:
        return feature

    def forward(feature: Feature, norm: Scalar) -> tuple[Feature, Scalar]:
        return feature, norm

    def backward(norm: Scalar, grad: Feature) -> tuple[Feature, Scalar]:
        scale = norm / (jnp.sum(jnp.abs(float32(grad))) + 1e-8)
        return (grad * scale).astype(grad.dtype), jnp.zeros_like(norm)

    identity.defvjp(forward, backward)
    return identity(feature, norm)
