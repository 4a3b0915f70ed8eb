"""The picture that is returned: how it comes from the iterates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxnst.recipes import Program
from jaxnst.types import Image, Scalar


class Average(NamedTuple):
    """The iterates' average with geometric weights, see `average_iterates`.

    Attributes:
        total: `Σ_t (1 - decay) decay^(n-t) x_t`, h w 3.
    """

    total: Image


class Best(NamedTuple):
    """The iterate that follows the lowest loss, see `keep_best`.

    Attributes:
        image: That iterate, h w 3.
        lowest: The lowest loss.
    """

    image: Image
    lowest: Scalar


class Output(NamedTuple):
    """How the picture that is returned comes from the iterates.

    Attributes:
        init: `init(image) -> output`, before the first step.
        update: `update(output, image, loss) -> output`, with the image after a step and
            the loss before it.
        read: `read(output, steps) -> image`, after so many steps, at least one.
    """

    init: Callable[[Image], Any]
    update: Callable[[Any, Image, Scalar], Any]
    read: Callable[[Any, Int[Array, ""]], Image]


def average_iterates(decay: float) -> Output:
    """Return the average of the iterates; a decay of 0 returns the last one.

    `Σ_t decay^(n-t) x_t / Σ_t decay^(n-t)`, whose bias is corrected as Adam corrects
    that of its moments.
    """

    def update(output: Average, image: Image, loss: Scalar) -> Average:
        return Average(decay * output.total + (1 - decay) * image)

    def read(output: Average, steps: Int[Array, ""]) -> Image:
        weight = 1 - jnp.float32(decay) ** steps
        return output.total / jnp.maximum(weight, 1e-6)

    return Output(lambda image: Average(jnp.zeros_like(image)), update, read)


def keep_best() -> Output:
    """Return the iterate that follows the lowest loss."""

    def update(output: Best, image: Image, loss: Scalar) -> Best:
        best = jnp.where(loss < output.lowest, image, output.image)
        return Best(best, jnp.minimum(output.lowest, loss))

    return Output(
        lambda image: Best(jnp.zeros_like(image), jnp.float32(jnp.inf)),
        update,
        lambda output, steps: output.image,
    )


def make_output(program: Program) -> Output:
    """How a program's picture comes from its iterates."""
    return keep_best() if program.keep_best else average_iterates(program.ema_decay)
