"""Eigenvalues that are safe under `vmap` on a CPU."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float


@jax.custom_jvp
def eigh(
    matrix: Float[Array, "_c _c"],
) -> tuple[Float[Array, "_c"], Float[Array, "_c _c"]]:
    """Eigenvalues and eigenvectors of a symmetric matrix: `K = V diag(λ) Vᵀ`.

    It calls `jnp.linalg.eigh`, but under `vmap` on a CPU one matrix after another:
    XLA's batched routine waits for threads of the pool that it runs in, so several
    calls at a time, such as those of several layers, may wait forever.

    Args:
        matrix: Symmetric matrix, c c.

    Returns:
        Eigenvalues in ascending order (c,), and the eigenvectors as columns, c c.

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
    matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    change = matmul(matmul(vectors.T, tangents[0]), vectors)
    gaps = values[None] - values[:, None]
    rotation = change / jnp.where(gaps == 0, jnp.inf, gaps)
    return (values, vectors), (jnp.diagonal(change), matmul(vectors, rotation))
