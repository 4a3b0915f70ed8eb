"""Statistics of the features of one layer, and distances between them.

Features are h w c, after the ReLU, of float32 or, where the network computes in it, of
bfloat16. Every function takes one image's feature and returns scalars or small matrices
of float32; sums over positions accumulate in float32 at the highest matmul precision,
because TF32 or bfloat16 spoils them.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float

from jaxnst.types import Feature, Image, Scalar

HIGHEST = jax.lax.Precision.HIGHEST


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
    return jnp.mean((_float32(feature) - target) ** 2)


def _float32(x: Array) -> Array:
    return x.astype(jnp.float32)


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
        *spread(feature), over(_float32(feature) * target), over(target**2)
    )


class Spread(NamedTuple):
    """Means over the positions of x and x², by channel."""

    mean: Float[Array, "_c"]
    square: Float[Array, "_c"]


def spread(feature: Feature) -> Spread:
    """Where the activations of each channel lie, and how far around."""
    feature = _float32(feature)
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
    return _products(f) / len(f)


@jax.custom_vjp
def _products(f: Float[Array, "_n _c"]) -> Float[Array, "_c _c"]:
    """`FᵀF` in float32, with a derivative that multiplies once instead of twice.

    Products of two bfloat16 are exact in float32, so a GPU's fast ones spoil nothing.
    """
    return jnp.matmul(f.T, f, precision=HIGHEST, preferred_element_type=jnp.float32)


def _products_forward(f):
    return _products(f), f


def _products_backward(f, cotangent):
    # Rounded like any cotangent on its way back through convolutions in bfloat16.
    both = (cotangent + cotangent.T).astype(f.dtype)
    return (jnp.matmul(f, both, precision=HIGHEST),)


_products.defvjp(_products_forward, _products_backward)


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
    return Moments(jnp.mean(_float32(feature), axis=(0, 1)), gram_matrix(feature))


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


@jax.custom_jvp
def eigh(
    matrix: Float[Array, "_c _c"],
) -> tuple[Float[Array, "_c"], Float[Array, "_c _c"]]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix.

    `jnp.linalg.eigh`, but under `vmap` on a CPU it takes one matrix after the other:
    the batched routine waits for threads of the very pool that it runs in, and several
    of them at a time, such as those of several layers, may wait forever.

    Args:
        matrix: Symmetric matrix, c c.

    Returns:
        Eigenvalues (c,), and the eigenvectors as columns, c c.

    Example:
        >>> values, vectors = eigh(jnp.array([[2.0, 1.0], [1.0, 2.0]]))
        >>> [round(float(value), 5) for value in values]
        [1.0, 3.0]
    """
    return jax.lax.platform_dependent(matrix, cpu=sequential_vmap(_eigh), default=_eigh)


def _eigh(matrix: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


@eigh.defjvp
def _eigh_jvp(primals, tangents):
    """`dλ_i = (Vᵀ dK V)_ii` and `dV = V [(Vᵀ dK V)_ij / (λ_j - λ_i)]`."""
    values, vectors = eigh(*primals)
    matmul = partial(jnp.matmul, precision=HIGHEST)
    change = matmul(matmul(vectors.T, tangents[0]), vectors)
    gaps = values[None] - values[:, None]
    rotation = change / jnp.where(gaps == 0, jnp.inf, gaps)
    return (values, vectors), (jnp.diagonal(change), matmul(vectors, rotation))


@jax.custom_jvp
def root_trace_by_products(k: Float[Array, "_c _c"], floor: Scalar) -> Scalar:
    """`Σ λ / √(λ + floor²)` over the eigenvalues λ of K, by products of matrices only.

    With `A = K + floor²` and `S = A^-½` that is `tr(K S)`, and its gradient is
    `½ (S + floor² S³)`. S comes from Newton-Schulz rounds whose factors are the best
    for the interval that is left; since the floor bounds the eigenvalues of A from
    below, `ROUNDS` of them, three products each, reach a few parts in 10⁵ in float32.
    The floor is raised to where float32 can tell K from its rounding.

    Args:
        k: Symmetric matrix without negative eigenvalues, c c.
        floor: See above.

    Returns:
        The sum. Derivatives with respect to the floor are left out.

    Reference:
        Chen, Chow (2014), "A Stable Scaling of Newton-Schulz for Improving the Sign
        Function Computation of a Hermitian Matrix".
    """
    return _root_trace_and_slope(k, floor)[0]


@root_trace_by_products.defjvp
def _root_trace_by_products_jvp(primals, tangents):
    value, slope = _root_trace_and_slope(*primals)
    return value, jnp.sum(slope * tangents[0])


ROUNDS, SMALLEST = 12, 2e-4
"""Newton-Schulz rounds, enough for singular values of 1 down to the smallest."""


def _scales() -> list[float]:
    """The best factor for each round, from the smallest singular value that is left."""
    scales, low = [], SMALLEST
    for _ in range(ROUNDS):
        scales.append(math.sqrt(3 / (1 + low + low**2)))
        low = scales[-1] * low * (3 - (scales[-1] * low) ** 2) / 2
    return scales


def _root_trace_and_slope(
    k: Float[Array, "_c _c"], floor: Scalar
) -> tuple[Scalar, Float[Array, "_c _c"]]:
    matmul = partial(jnp.matmul, precision=HIGHEST)
    eye = jnp.eye(len(k))
    # Rounding of K is about 1e-7 of it, and may make small eigenvalues negative.
    floor = jnp.sqrt(jnp.maximum(floor**2, 1e-7 * jnp.linalg.norm(k)))
    a = k + floor**2 * eye
    norm = jnp.linalg.norm(a)

    def body(carry: tuple[Array, Array], scale: Scalar) -> tuple[Any, None]:
        y, z = carry
        factor = scale * (3 * eye - scale**2 * matmul(z, y)) / 2
        return (matmul(y, factor), matmul(factor, z)), None

    # Not unrolled: XLA would tune the products of every round anew, for minutes.
    (_, z), _ = jax.lax.scan(body, (a / norm, eye), jnp.array(_scales()))
    s = (z + z.T) / (2 * jnp.sqrt(norm))
    scaled = floor * s
    return jnp.sum(k * s), (s + matmul(scaled, matmul(scaled, s))) / 2


def _root_trace_by_eigenvalues(k: Float[Array, "_c _c"], floor: Scalar) -> Scalar:
    values = jnp.maximum(eigh(k)[0], 0)
    return jnp.sum(values / jnp.sqrt(values + floor**2))


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
        cpu=_root_trace_by_eigenvalues,
        default=root_trace_by_products,
    )
    transport = jnp.trace(sigma) + target.trace - 2 * cross
    return (jnp.sum((m.mean - target.mean) ** 2) + transport) / len(m.mean)


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
        scale = norm / (jnp.sum(jnp.abs(_float32(grad))) + 1e-8)
        return (grad * scale).astype(grad.dtype), jnp.zeros_like(norm)

    identity.defvjp(forward, backward)
    return identity(feature, norm)
