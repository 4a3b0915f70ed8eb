"""Optimisers that the recipes ask for and optax does not have."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxnst.recipes import Recipe
from jaxnst.types import Image, Scalar


def make_optimizer(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """Build the optimiser that a recipe asks for, at a learning rate of 1.

    The learning rate is a factor on the step of all of them; `transfer` multiplies by
    that of the targets, which is an array. `update` is also told the loss, as `value`,
    and that learning rate, as `factor`.
    """
    adam = (1.0, recipe.beta1, recipe.beta2, recipe.epsilon)
    match recipe.optimizer:
        case "adam":
            return optax.with_extra_args_support(optax.adam(*adam))
        case "tf1_adam":
            return optax.with_extra_args_support(tf1_adam(*adam))
        case "lbfgs":
            return lbfgs(1.0, recipe.history)
    raise ValueError(f"expected adam, tf1_adam or lbfgs, got {recipe.optimizer!r}")


def tf1_adam(
    learning_rate: float, beta1: float, beta2: float, epsilon: float
) -> optax.GradientTransformation:
    """Adam as `tf.train.AdamOptimizer` computes it.

    `x -= learning_rate · √(1 - β2ᵗ) / (1 - β1ᵗ) · m / (√v + ε)`. The ε joins √v before
    the correction of its bias, which `optax.adam` makes first; with the ε of 0.1 of the
    blog post, its first steps are 32 times as careful.

    Reference:
        Kingma, Ba (2015), "Adam", end of section 2, there called ε-hat.
    """

    def init(params: optax.Params) -> optax.ScaleByAdamState:
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(jnp.int32(0), zeros, zeros)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        grad, state = cast(tuple[Image, optax.ScaleByAdamState], (updates, state))
        count = state.count + 1
        mu = beta1 * cast(Image, state.mu) + (1 - beta1) * grad
        nu = beta2 * cast(Image, state.nu) + (1 - beta2) * grad**2
        rate = learning_rate * jnp.sqrt(1 - beta2**count) / (1 - beta1**count)
        step = -rate * mu / (jnp.sqrt(nu) + epsilon)
        return step, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


class LbfgsState(NamedTuple):
    """What L-BFGS remembers.

    Attributes:
        count: Number of pairs taken up so far; the newest is at `count - 1`, modulo
            the length of the history.
        params: Where it was last.
        value: Loss there; infinite before the first step.
        grad: Gradient there.
        steps: Differences of positions.
        changes: Differences of gradients.
        curvatures: Their products, `sᵀy`.
        scale: Initial inverse curvature, `sᵀy / yᵀy` of the newest pair; before there
            is one, what makes the first step short.
    """

    count: Int[Array, ""]
    params: Image
    value: Scalar
    grad: Image
    steps: Float[Array, "_history _h _w 3"]
    changes: Float[Array, "_history _h _w 3"]
    curvatures: Float[Array, "_history"]
    scale: Scalar


def lbfgs(learning_rate: float, history: int) -> optax.GradientTransformationExtraArgs:
    """L-BFGS without a line search, as `torch.optim.LBFGS` and Lua's `optim.lbfgs` do.

    One gradient for each step. The first step goes down the gradient by an L1 length of
    1; a pair of a step s and a change y of the gradient is taken up if `sᵀy` is above
    zero. `optax.lbfgs` takes up every pair, so that without a line search a concave
    stretch sends it uphill.

    A step that more than doubles the loss is taken back, all but a quarter. There those
    two go astray, most often on the second step of a large image, whose first step was
    so short that the change of its gradient is rounding.

    torch's first step is no longer than the gradient, and it compares `sᵀy` with 1e-10;
    we compare with `1e-6 |s| |y|`. Ours does not depend on the scale of the loss.

    Args:
        learning_rate: Factor on the step.
        history: Number of pairs remembered.

    Reference:
        Nocedal, Wright (2006), "Numerical Optimization", algorithm 7.4.
    """

    def init(params: optax.Params) -> LbfgsState:
        params = cast(Image, params)
        pairs = jnp.zeros((history, *params.shape), params.dtype)
        return LbfgsState(
            count=jnp.int32(0),
            params=params,
            value=jnp.float32(jnp.inf),
            grad=jnp.zeros_like(params),
            steps=pairs,
            changes=pairs,
            curvatures=jnp.zeros(history, params.dtype),
            scale=jnp.float32(0),
        )

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        value: Any = None,
        factor: Any = 1.0,
        **extra_args: Any,
    ) -> tuple[optax.Updates, LbfgsState]:
        grad, params, old = cast(
            tuple[Image, Image, LbfgsState], (updates, params, state)
        )
        step, change = params - old.params, grad - old.grad
        curvature = jnp.vdot(step, change)
        lengths = jnp.sqrt(jnp.vdot(step, step) * jnp.vdot(change, change))
        begun = jnp.isfinite(old.value)
        astray = begun & (value > old.value + jnp.abs(old.value))
        accepted = begun & ~astray & (curvature > 1e-6 * lengths)
        place = old.count % history

        def take_up(past: Array, new: Array) -> Array:
            return past.at[place].set(jnp.where(accepted, new, past[place]))

        count = old.count + accepted
        scale = jnp.where(accepted, curvature / jnp.vdot(change, change), old.scale)
        # Where the gradient is zero, at a minimum, the step is zero and not NaN.
        first = 1 / jnp.maximum(jnp.sum(jnp.abs(grad)), 1e-30)
        stay = lambda before, now: jnp.where(astray, before, now)
        new = LbfgsState(
            count=count,
            params=stay(old.params, params),
            value=stay(old.value, value),
            grad=stay(old.grad, grad),
            steps=take_up(old.steps, step),
            changes=take_up(old.changes, change),
            curvatures=take_up(old.curvatures, curvature),
            scale=jnp.where(scale > 0, scale, first),
        )
        onward = -learning_rate * _inverse_hessian_times(grad, new)
        return stay(-0.75 / factor * step, onward), new

    return optax.GradientTransformationExtraArgs(init, update)


def _inverse_hessian_times(vector: Image, state: LbfgsState) -> Image:
    """The two loops over the pairs: newest first, then oldest first."""
    history = len(state.steps)
    known = jnp.minimum(state.count, history)

    def forward(i: Array, carry: tuple[Image, Array]) -> tuple[Image, Array]:
        vector, factors = carry
        place = (state.count - 1 - i) % history
        factor = jnp.vdot(state.steps[place], vector) / state.curvatures[place]
        return vector - factor * state.changes[place], factors.at[place].set(factor)

    def backward(i: Array, vector: Image) -> Image:
        place = (state.count - known + i) % history
        factor = jnp.vdot(state.changes[place], vector) / state.curvatures[place]
        return vector + (carry[1][place] - factor) * state.steps[place]

    carry = jax.lax.fori_loop(
        0, known, forward, (vector, jnp.zeros(history, vector.dtype))
    )
    return jax.lax.fori_loop(0, known, backward, state.scale * carry[0])
