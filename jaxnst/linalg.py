"""Products, eigenvalues and roots of matrices, with fast and stable derivatives."""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float

from jaxnst.types import Scalar

HIGHEST = jax.lax.Precision.HIGHEST


def float32(x: Array) -> Array:
    """The array in float32."""
    return x.astype(jnp.float32)


@jax.custom_vjp
def products(
    f: Float[Array, "_n _c"], weights: Float[Array, "_n 1"] | None = None
) -> Float[Array, "_c _c"]:
    """`FᵀWF` in float32, with a derivative of one matrix product instead of two.

    The weights are the diagonal of W; derivatives treat them as constant. Products of
    two bfloat16 are exact in float32, so a GPU's fast bfloat16 products lose nothing.
    """
    weighted = f if weights is None else (weights * f).astype(f.dtype)
    return jnp.matmul(
        f.T, weighted, precision=HIGHEST, preferred_element_type=jnp.float32
    )


def _products_backward(residuals, cotangent):
    f, weights = residuals
    # Rounded like any cotangent on its way back through convolutions in bfloat16.
    both = (cotangent + cotangent.T).astype(f.dtype)
    grad = jnp.matmul(f, both, precision=HIGHEST)
    if weights is None:
        return grad, None
    return (weights * grad).astype(f.dtype), jnp.zeros_like(weights)


products.defvjp(
    lambda f, weights: (products(f, weights), (f, weights)), _products_backward
)


@jax.custom_jvp
def eigh(
    matrix: Float[Array, "_c _c"],
) -> tuple[Float[Array, "_c"], Float[Array, "_c _c"]]:
    """Eigenvalues and eigenvectors of a symmetric matrix: `K = V diag(λ) Vᵀ`.

    This is `jnp.linalg.eigh`, except that `vmap` on a CPU computes one matrix after
    another. XLA's batched routine waits for threads of the pool that it runs in, so
    several calls at a time, such as those of several layers, may deadlock.

    Returns:
        Eigenvalues in ascending order, and the eigenvectors as columns.

    Example:
        >>> values, vectors = eigh(jnp.array([[2.0, 1.0], [1.0, 2.0]]))
        >>> [round(float(value), 5) for value in values]
        [1.0, 3.0]
    """
    lapack = lambda matrix: tuple(jnp.linalg.eigh(matrix))
    return jax.lax.platform_dependent(
        matrix, cpu=sequential_vmap(lapack), default=lapack
    )


@eigh.defjvp
def _eigh_jvp(primals, tangents):
    """`dλ_i = (Vᵀ dK V)_ii` and `dV = V [(Vᵀ dK V)_ij / (λ_j - λ_i)]`."""
    values, vectors = eigh(*primals)
    matmul = partial(jnp.matmul, precision=HIGHEST)
    change = matmul(matmul(vectors.T, tangents[0]), vectors)
    gaps = values[None] - values[:, None]
    rotation = change / jnp.where(gaps == 0, jnp.inf, gaps)
    return (values, vectors), (jnp.diagonal(change), matmul(vectors, rotation))


SMALL = 256
"""Matrices up to this size are padded to one size, and multiplied as one batch."""


def root_traces(
    ks: Sequence[Float[Array, "_c _c"]], floors: Sequence[Scalar]
) -> list[Scalar]:
    """`Σ λ / √(λ + floor²)` over the eigenvalues λ of each of several matrices.

    The matrices are symmetric, without negative eigenvalues, and of any sizes. A CPU
    uses LAPACK's eigenvalues. Other devices use products of matrices. There, small
    matrices are padded with zeros, which add nothing, so that a few large kernels
    replace many, and derivatives with respect to the floors are left out.

    Example:
        >>> root_traces([jnp.diag(jnp.array([4.0, 9.0]))], [jnp.float32(0)])[0].round(3)
        Array(5., dtype=float32)
    """
    given = list(ks), list(floors)
    one_by_one = lambda ks, floors: list(map(root_trace_by_eigenvalues, ks, floors))
    return jax.lax.platform_dependent(*given, cpu=one_by_one, default=_side_by_side)


def _side_by_side(ks: list[Array], floors: list[Scalar]) -> list[Scalar]:
    small = [i for i, k in enumerate(ks) if len(k) <= SMALL]
    large = [i for i, k in enumerate(ks) if len(k) > SMALL]
    found = {}
    for group in filter(None, (small, large)):
        size = max(len(ks[i]) for i in group)
        padded = jnp.stack([jnp.pad(ks[i], (0, size - len(ks[i]))) for i in group])
        sums = jax.vmap(root_trace_by_products)(
            padded, jnp.stack([floors[i] for i in group])
        )
        found |= dict(zip(group, sums, strict=True))
    return [found[i] for i in range(len(ks))]


@jax.custom_jvp
def root_trace_by_products(k: Float[Array, "_c _c"], floor: Scalar) -> Scalar:
    """`Σ λ / √(λ + floor²)` over the eigenvalues λ of K, by products of matrices only.

    With `A = K + floor²` and `S = A^-½` the sum is `tr(K S)`, and its gradient is
    `½ (S + floor² S³)`. S comes from Newton-Schulz rounds, each with the best factor
    for the remaining interval of singular values. The floor bounds the eigenvalues of A
    from below, so `ROUNDS` rounds of three products reach a few parts in 10⁵ in
    float32. The floor is raised above the rounding errors of K, and further until the
    rounds converge. Derivatives with respect to the floor are left out.

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
"""Newton-Schulz rounds, enough for singular values from 1 down to `SMALLEST`."""


def _scales() -> list[float]:
    """Best factor for each round, given the smallest singular value before it."""
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

    def invert(k: Array, size: Scalar, squared: Scalar) -> tuple[Array, Array]:
        """S, and the norm of S A S - 1; `size` is the norm of K."""
        norm = size + squared  # at least the largest eigenvalue of A
        step = lambda scale, zy: 1.5 * scale * eye - 0.5 * scale**3 * zy
        y = (k + squared * eye) / norm

        def take(yz: tuple[Array, Array], scale: Scalar) -> tuple[tuple, None]:
            factor = step(scale, matmul(yz[1], yz[0]))
            return (matmul(yz[0], factor), matmul(factor, yz[1])), None

        def rounds(unroll: bool, y: Array, z: Array) -> tuple[Array, Array]:
            return jax.lax.scan(
                take, (y, z), np.array(rest, np.float32), unroll=unroll
            )[0]

        # In the first round Z is 1. On a GPU, unrolled rounds need few kernels; on a
        # TPU, they would compile for 15 s.
        first, *rest = _scales()
        z = step(first, y)
        y, z = jax.lax.platform_dependent(
            matmul(y, z), z, tpu=partial(rounds, False), default=partial(rounds, True)
        )
        error = jnp.linalg.norm(matmul(z, y) - eye)
        return (z + z.T) / (2 * jnp.sqrt(norm)), error

    def failed(state: tuple[Scalar, Array, Array]) -> Array:
        squared, _, error = state
        return ~(error < 0.1) & (squared <= 2 * size)  # also if it is NaN

    def again(state: tuple[Scalar, Array, Array]) -> tuple[Scalar, Array, Array]:
        squared = 16 * state[0]
        return squared, *invert(*jax.lax.stop_gradient((k, size)), squared)

    # Rounding makes small eigenvalues of K negative: by 1e-7 of its norm, or by more if
    # K is the small difference of large moments, as for a flat picture.
    size = jnp.linalg.norm(k)
    start = jnp.maximum(floor**2, 1e-7 * size) + 1e-18
    first = (start, *invert(k, size, start))
    squared, last, _ = jax.lax.while_loop(failed, again, jax.lax.stop_gradient(first))
    # A `while_loop` cannot be differentiated; where it ran, second derivatives are 0.
    s = jnp.where(squared == start, first[1], last)
    scaled = jnp.sqrt(squared) * s
    return jnp.sum(k * s), (s + matmul(scaled, matmul(scaled, s))) / 2


@jax.jit  # traced once for all layers of one shape
def root_trace_by_eigenvalues(k: Float[Array, "_c _c"], floor: Scalar) -> Scalar:
    """`root_trace_by_products` by LAPACK's eigenvalues, which are faster on a CPU."""
    values = jnp.maximum(eigh(k)[0], 0)
    return jnp.sum(values / jnp.sqrt(values + floor**2))
