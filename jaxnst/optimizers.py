"""Optimisers that the recipes ask for and optax does not have."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxnst.recipes import Recipe
from jaxnst.storage import StateDtype, Stored, put, restore, store, stored_zeros, take
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
            return _first_moment_in(optax.adam(*adam), recipe.state_dtype)
        case "tf1_adam":
            return _first_moment_in(tf1_adam(*adam), recipe.state_dtype)
        case "lbfgs":
            return lbfgs(recipe.history, dtype=recipe.state_dtype)
    raise ValueError(f"expected adam, tf1_adam or lbfgs, got {recipe.optimizer!r}")


def _first_moment_in(
    optimizer: optax.GradientTransformation, dtype: StateDtype
) -> optax.GradientTransformationExtraArgs:
    """Put Adam's first moment away in a type.

    The second one stays float32: with a β2 of 0.999 it decays by less in a step than
    bfloat16 resolves.
    """

    def first_moment(change: Callable, state: optax.OptState) -> optax.OptState:
        return jax.tree.map(
            lambda x: x._replace(mu=change(x.mu)),
            state,
            is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState),
        )

    def init(params: optax.Params) -> optax.OptState:
        return first_moment(partial(store, dtype=dtype), optimizer.init(params))

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        updates, new = optimizer.update(updates, first_moment(restore, state), params)
        return updates, first_moment(partial(store, dtype=dtype), new)

    return optax.GradientTransformationExtraArgs(init, update)


def map_moments(
    change: Callable[[Image], Image], state: optax.OptState
) -> optax.OptState:
    """Apply a function to the arrays of an Adam's state that are like an image."""
    return jax.tree.map(lambda x: change(x) if x.ndim == 3 else x, state)


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
        steps: Differences of positions, history h w 3.
        changes: Differences of gradients, likewise.
        curvatures: Their products, `sᵀy`.
        scale: Initial inverse curvature, `sᵀy / yᵀy` of the newest pair; before there
            is one, what makes the first step short.
    """

    count: Int[Array, ""]
    params: Image
    value: Scalar
    grad: Image
    steps: Stored
    changes: Stored
    curvatures: Float[Array, "_history"]
    scale: Scalar


def without_history(state: optax.OptState) -> optax.OptState:
    """An optimiser's state without what is about the scale that is done."""
    if not isinstance(state, LbfgsState):
        return state
    none = jnp.zeros(0)
    return state._replace(params=none, grad=none, steps=none, changes=none)


def lbfgs(
    history: int, dtype: StateDtype = "float32"
) -> optax.GradientTransformationExtraArgs:
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
        history: Number of pairs remembered.
        dtype: Type that they are kept in.

    Reference:
        Nocedal, Wright (2006), "Numerical Optimization", algorithm 7.4.
    """

    def init(params: optax.Params) -> LbfgsState:
        params = cast(Image, params)
        pairs = stored_zeros((history, *params.shape), dtype)
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

        # Written into its place, and nothing else touched: the pairs are by far the
        # largest part of a state, and need not be there twice.
        def take_up(past: Array, new: Array) -> Array:
            start = (place, *(0,) * new.ndim)
            kept = take(past, start, (1, *new.shape))
            return put(past, jnp.where(accepted, new[None], kept), start)

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
        onward = -_inverse_hessian_times(grad, new)
        return jnp.where(astray, -0.75 / factor * step, onward), new

    return optax.GradientTransformationExtraArgs(init, update)


def _inverse_hessian_times(vector: Image, state: LbfgsState) -> Image:
    """The two loops over the pairs: newest first, then oldest first."""
    history = len(state.steps)
    known = jnp.minimum(state.count, history)

    def pair(place: Array) -> list[Image]:
        start, shape = (place, *(0,) * vector.ndim), (1, *vector.shape)
        return [take(past, start, shape)[0] for past in (state.steps, state.changes)]

    def forward(i: Array, carry: tuple[Image, Array]) -> tuple[Image, Array]:
        vector, factors = carry
        place = (state.count - 1 - i) % history
        step, change = pair(place)
        factor = jnp.vdot(step, vector) / state.curvatures[place]
        return vector - factor * change, factors.at[place].set(factor)

    vector, factors = jax.lax.fori_loop(
        0, known, forward, (vector, jnp.zeros(history, vector.dtype))
    )

    def backward(i: Array, vector: Image) -> Image:
        place = (state.count - known + i) % history
        step, change = pair(place)
        factor = jnp.vdot(change, vector) / state.curvatures[place]
        return vector + (factors[place] - factor) * step

    return jax.lax.fori_loop(0, known, backward, state.scale * vector)
