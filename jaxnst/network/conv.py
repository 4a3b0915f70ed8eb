"""3 x 3 convolution of stride 1: direct, or by Winograd's algorithm if that is faster.

XLA's derivative of a convolution is a convolution in another layout. On a CPU, the
other layout is many times slower, above all inside loops. So both algorithms define
their own derivative: one more convolution in the plain layout.
"""

import math
import operator
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnst.compiled import kept_jit
from jaxnst.types import Feature

# Winograd's F(4 x 4, 3 x 3), from the points 0, ±1, ±2, ∞: with k the kernel and d a
# tile of 6 x 6 inputs, the 4 x 4 outputs are A [(G k Gᵀ) ∘ (B d Bᵀ)] Aᵀ. See Lavin and
# Gray (2016), "Fast Algorithms for Convolutional Neural Networks", section 4.3.
A = np.array([
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
])  # fmt: skip
B = np.array([
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
])  # fmt: skip
G = np.array([
    [6, 0, 0],
    [-4, -4, -4],
    [-4, 4, -4],
    [1, 2, 4],
    [1, -2, 4],
    [0, 0, 24],
]) / 24  # fmt: skip


MOST_DIRECT = 2**26
"""Largest product of positions, input channels and output channels of a direct
convolution. Up to there, Winograd's algorithm would save only a few milliseconds a
step, and compile for ten times as long."""


class WinogradKernel(NamedTuple):
    """A kernel with its Winograd transforms, made once and used at every step.

    Derivatives with respect to the kernel are zero. `backward` is the transform of the
    flipped kernel.
    """

    direct: Float[Array, "3 3 _in _out"]
    forward: Float[Array, "36 _in _out"]
    backward: Float[Array, "36 _out _in"]


Kernel = Float[Array, "3 3 _in _out"] | WinogradKernel


@kept_jit(name="the network")
def transform_kernels(
    kernels: dict[str, Float[Array, "3 3 _in _out"]],
) -> dict[str, tuple[Float[Array, "36 _in _out"], Float[Array, "36 _out _in"]]]:
    """Winograd's transforms of each kernel and of the flipped kernel, by name."""

    def transform(k: Float[Array, "3 3 _in _out"]) -> Float[Array, "36 _in _out"]:
        both = jnp.asarray(np.kron(G, G), k.dtype)
        flat = jnp.matmul(both, k.reshape(9, -1), precision="highest")
        return flat.reshape(36, *k.shape[2:])

    return {name: (transform(k), transform(_flip(k))) for name, k in kernels.items()}


def is_large(positions: int | float, kernel: Float[Any, "3 3 _in _out"]) -> bool:
    """Whether Winograd's algorithm is faster for a convolution at `positions`."""
    return positions * kernel.shape[-2] * kernel.shape[-1] > MOST_DIRECT


def convolve(x: Feature, kernel: Kernel, pad: int = 1) -> Feature:
    """Convolve a feature with 3 x 3 kernels: `y_ijo = Σ x_(i+u)(j+v)c k_uvco`.

    As in neural networks, kernels are not flipped. `pad` is the number of zeros on each
    side. With a `WinogradKernel`, the result differs by a few parts in 10⁶.

    Example:
        >>> y = convolve(jnp.ones((3, 4, 1)), jnp.ones((3, 3, 1, 1)))
        >>> y[:, :, 0].tolist()
        [[4.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 6.0], [4.0, 6.0, 6.0, 4.0]]
    """
    if isinstance(kernel, WinogradKernel):
        kernel = jax.lax.stop_gradient(kernel)
        if pad == 1 and is_large(math.prod(x.shape[:2]), kernel.direct):
            return _winograd(x, kernel)
        kernel = kernel.direct
    return _direct(x, kernel, pad)


def _flip(kernel: Float[Array, "3 3 _in _out"]) -> Float[Array, "3 3 _out _in"]:
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _convolution(x: Feature, kernel: Float[Array, "3 3 _in _out"], pad: int) -> Feature:
    return jax.lax.conv_general_dilated(
        x[None],
        kernel,
        window_strides=(1, 1),
        padding=((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0]


_direct = jax.custom_vjp(_convolution, nondiff_argnames=("pad",))


def _direct_backward(pad, residuals, cotangent):
    x, kernel = residuals
    _, kernel_vjp = jax.vjp(lambda k: _convolution(x, k, pad), kernel)
    return _convolution(cotangent, _flip(kernel), 2 - pad), *kernel_vjp(cotangent)


_direct.defvjp(
    lambda x, kernel, pad: (_convolution(x, kernel, pad), (x, kernel)), _direct_backward
)


@jax.jit  # traced once for all layers of one shape
def _winograd_tiles(x: Feature, kernel: Float[Array, "36 _in _out"]) -> Feature:
    """Winograd's convolution of the zero-padded feature, tile by tile."""
    h, w, channels = x.shape
    down, across = -(-h // 4), -(-w // 4)
    x = jnp.pad(x, ((1, 4 * down - h + 1), (1, 4 * across - w + 1), (0, 0)))
    x = _combine(B, [x[i : i + 4 * down - 3 : 4] for i in range(6)], axis=0)
    x = _combine(B, [x[:, :, j : j + 4 * across - 3 : 4] for j in range(6)], axis=1)
    products = jnp.matmul(x.reshape(36, -1, channels), kernel)
    y = products.reshape(6, 6, down, across, -1)
    y = _combine(A, list(y), axis=1)
    y = _combine(A, list(y), axis=3).swapaxes(0, 1)
    return y.reshape(4 * down, 4 * across, -1)[:h, :w]


def _combine(matrix: np.ndarray, parts: list[Array], axis: int) -> Array:
    """Linear combinations of arrays, one for each row of a matrix, along a new axis."""
    rows = []
    for row in matrix:
        terms = zip(row, parts, strict=True)
        scaled = (part if m == 1 else float(m) * part for m, part in terms if m)
        rows.append(reduce(operator.add, scaled))
    # The barrier keeps XLA from computing each combination again wherever it is used.
    return jax.lax.optimization_barrier(jnp.stack(rows, axis))


@jax.custom_vjp
def _winograd(x: Feature, kernel: WinogradKernel) -> Feature:
    return _winograd_tiles(x, kernel.forward)


_winograd.defvjp(
    lambda x, kernel: (_winograd_tiles(x, kernel.forward), kernel),
    lambda kernel, cotangent: (_winograd_tiles(cotangent, kernel.backward), None),
)
