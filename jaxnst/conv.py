"""3 x 3 convolution with stride 1."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnst.types import Feature


@partial(jax.custom_vjp, nondiff_argnames=("padding",))
def convolve(
    x: Feature,
    kernel: Float[Array, "3 3 _in _out"],
    padding: Literal["SAME", "VALID"] = "SAME",
) -> Feature:
    """Convolve a feature with 3 x 3 kernels (as networks do: without flipping them).

    The derivative is written out because XLA on a CPU only has a fast program for the
    plain layout: the one that automatic differentiation gives is several times slower
    inside a loop.

    Args:
        x: Feature, h w in.
        kernel: Kernels, 3 3 in out.
        padding: `SAME` pads one zero on each side, `VALID` loses one pixel there.

    Returns:
        Feature, h w out, or h-2 w-2 out.
    """
    return _direct(x, kernel, 1 if padding == "SAME" else 0)


def _direct(x: Feature, kernel: Float[Array, "3 3 _in _out"], pad: int) -> Feature:
    return jax.lax.conv_general_dilated(
        x[None],
        kernel,
        window_strides=(1, 1),
        padding=((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0]


def _forward(x, kernel, padding):
    return convolve(x, kernel, padding), (x, kernel)


def _backward(padding, residuals, cotangent):
    x, kernel = residuals
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    pad = 1 if padding == "SAME" else 0
    _, kernel_vjp = jax.vjp(lambda k: _direct(x, k, pad), kernel)
    return _direct(cotangent, flipped, 2 - pad), *kernel_vjp(cotangent)


convolve.defvjp(_forward, _backward)
