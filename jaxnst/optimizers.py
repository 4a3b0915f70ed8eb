"""Optimisers: those that the recipes name, and any of optax.

Each is an `Optimizer`: an optax transformation, and what a run has to know beside it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxnst.pictures.geometry import resize
from jaxnst.recipes import Program
from jaxnst.storage import (
    StateDtype,
    Stored,
    dtype_of,
    put,
    restore,
    store,
    stored_zeros,
    take,
)
from jaxnst.types import Image, Scalar


class Optimizer(NamedTuple):
    """An optimiser, and what a run has to know of it.

    Attributes:
        transform: An optax transformation at a learning rate of 1: the kernel
            multiplies its updates by that of the targets, which is an array. Its
            `update` is also told the loss, as `value`, and that `learning_rate`.
        enlarge: `enlarge(before, fresh, shapes) -> state`: the first state of a scale,
            from the last one of the scale before, a fresh one, and height and width of
            the images of both, in that order.
        shed: `shed(state) -> state` without what `enlarge` does not need, so that its
            memory is free.
        work_bytes: Bytes for each pixel that an update takes beside the state.
    """

    transform: optax.GradientTransformationExtraArgs
    enlarge: Callable[[optax.OptState, optax.OptState, "Shapes"], optax.OptState]
    shed: Callable[[optax.OptState], optax.OptState]
    work_bytes: int


Shapes = tuple[tuple[int, int], tuple[int, int]]


def make_optimizer(
    program: Program, transform: optax.GradientTransformation | None = None
) -> Optimizer:
    """Build the optimiser that a program names, or one around an optax transformation.

    A transformation has a learning rate of 1; see `enlarge_moments`.
    """
    if transform is not None:
        return _moments(optax.with_extra_args_support(transform))
    adam = (1.0, program.beta1, program.beta2, program.epsilon)
    match program.optimizer:
        case "adam":
            return _moments(_first_moment_in(optax.adam(*adam), program.state_dtype))
        case "tf1_adam":
            return _moments(_first_moment_in(tf1_adam(*adam), program.state_dtype))
        case "lbfgs":
            reach = FIRST_MOVE * max(program.units)
            transform = lbfgs(program.history, program.state_dtype, reach)
            return Optimizer(
                transform, enlarge_curvature, without_history, work_bytes=60
            )
    raise ValueError(f"expected adam, tf1_adam or lbfgs, got {program.optimizer!r}")


def _moments(transform: optax.GradientTransformationExtraArgs) -> Optimizer:
    return Optimizer(transform, enlarge_moments, lambda state: state, work_bytes=24)


def enlarge_moments(
    before: optax.OptState, fresh: optax.OptState, shapes: Shapes
) -> optax.OptState:
    """Enlarge the arrays of a state that have the image's shape, linearly.

    Counts and other numbers are kept, so Adam goes on at once with sensible step sizes.
    An array of any other shape that depends on the image's, such as a history, starts
    anew.
    """
    old, new = shapes

    def enlarge(x: Array, begun: Array) -> Array:
        if x.shape == (*old, 3):
            resized = resize(restore(x), new, method="linear")
            return store(resized, dtype_of(x))
        return x if x.shape == begun.shape else begun

    return jax.tree.map(enlarge, before, fresh)


def enlarge_curvature(
    before: optax.OptState, fresh: optax.OptState, shapes: Shapes
) -> optax.OptState:
    """Start L-BFGS anew with the curvature that it has seen.

    Its history is about another function. A loss that is a mean over pixels is the less
    curved in each, the more there are.
    """
    last, begun = cast(list[LbfgsState], [before, fresh])
    (h, w), (new_h, new_w) = shapes
    scale = last.scale * (new_h * new_w * 3) / (h * w * 3)
    return begun._replace(scale=jnp.where(last.count > 0, scale, begun.scale))


def _first_moment_in(
    optimizer: optax.GradientTransformation, dtype: StateDtype
) -> optax.GradientTransformationExtraArgs:
    """Put Adam's first moment away in a type.

    The second one stays float32: with a β2 of 0.999 it decays by less in a step than
    bfloat16 resolves.
    """
    is_adam = lambda x: isinstance(x, optax.ScaleByAdamState)

    def first_moment(change: Callable, state: optax.OptState) -> optax.OptState:
        changed = lambda x: x._replace(mu=change(x.mu))
        return jax.tree.map(changed, state, is_leaf=is_adam)

    put_away = partial(first_moment, partial(store, dtype=dtype))

    def init(params: optax.Params) -> optax.OptState:
        return put_away(optimizer.init(params))

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        updates, new = optimizer.update(updates, first_moment(restore, state), params)
        return updates, put_away(new)

    return optax.GradientTransformationExtraArgs(init, update)


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


FIRST_MOVE = 0.03
"""What the first step moves a pixel by, RMS, of the picture's range [0, 1]."""

HIGHEST_RISE = 0.2
"""A step may end this much above the lowest loss, as a part of it."""

SHORTEST = 0.01
"""The radius is never below this part of the first one: a shorter step changes the loss
by little more than rounding, which would shorten it for ever."""

GROWTH = 2.0
"""A step may be this many times as long as one that did well."""


class LbfgsState(NamedTuple):
    """What L-BFGS remembers.

    Attributes:
        count: Number of pairs taken up so far; the newest is at `count - 1`, modulo
            the length of the history.
        params: Where the last accepted step led; value and gradient are those there.
        value: Infinite before the first step.
        lowest: Lowest loss seen.
        radius: Longest step that is trusted, RMS over the pixels.
        steps: Differences of positions, history h w 3.
        changes: Differences of gradients, likewise.
        curvatures: Their products, `sᵀy`.
        scale: Initial inverse curvature, `sᵀy / yᵀy` of the newest pair; zero before
            there is one.
    """

    count: Int[Array, ""]
    params: Image
    value: Scalar
    grad: Image
    lowest: Scalar
    radius: Scalar
    steps: Stored
    changes: Stored
    curvatures: Float[Array, "_history"]
    scale: Scalar


def without_history(state: optax.OptState) -> optax.OptState:
    """A state of L-BFGS without what is about the scale that is done."""
    done: dict[str, Any] = dict.fromkeys(("params", "grad", "steps", "changes"))
    return cast(LbfgsState, state)._replace(**done)


def lbfgs(
    history: int, dtype: StateDtype = "float32", reach: float = FIRST_MOVE
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with a trust radius in place of a line search.

    `torch.optim.LBFGS` and Lua's `optim.lbfgs`, which the recipes of the literature
    come with, take every step, whatever becomes of the loss; on hatched or noisy
    pictures they climb or stand still.

    One gradient for each step. A step that ends more than a fifth above the lowest loss
    is taken back: the next one starts where it did, and its pair is not taken up. If it
    was not even downhill at its start, as clipping to [0, 1] can make it, or was as
    short as steps become, the history is dropped, and the next step goes down the
    gradient.

    No step is longer than the radius. That is `reach` at first. After a step that won
    at least a tenth of what its slope promised it is twice its length, or what it was.
    After one that went uphill, taken back or not, it is where the parabola through both
    losses and the slope is lowest: between a tenth and a half of the step. Without a
    pair there is no curvature, and the step is as long as the radius, so that the first
    change of the gradient is more than rounding.

    A pair of a step s and a change y of the gradient is taken up if
    `sᵀy > 1e-6 |s| |y|`. Nothing depends on the scale of the loss.

    A step is what became of it, `params - state.params`, after clipping. Lengths are
    RMS, those of the quasi-Newton step, before the learning rate.

    Reference:
        Nocedal, Wright (2006), "Numerical Optimization", algorithms 7.4 (the two
        loops), 4.1 (the radius) and section 3.5 (the parabola).
    """
    return optax.GradientTransformationExtraArgs(
        partial(_lbfgs_init, history, dtype, reach), partial(_lbfgs_update, reach)
    )


def _lbfgs_init(
    history: int, dtype: StateDtype, reach: float, params: optax.Params
) -> LbfgsState:
    params = cast(Image, params)
    pairs = stored_zeros((history, *params.shape), dtype)
    return LbfgsState(
        count=jnp.int32(0),
        params=params,
        value=jnp.float32(jnp.inf),
        grad=jnp.zeros_like(params),
        lowest=jnp.float32(jnp.inf),
        radius=jnp.float32(reach),
        steps=pairs,
        changes=pairs,
        curvatures=jnp.zeros(history, params.dtype),
        scale=jnp.float32(0),
    )


def _lbfgs_update(
    reach: float,
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    value: Any = None,
    learning_rate: Any = 1.0,
    **extra_args: Any,
) -> tuple[optax.Updates, LbfgsState]:
    grad, params, old = cast(tuple[Image, Image, LbfgsState], (updates, params, state))
    step, change = params - old.params, grad - old.grad
    begun = jnp.isfinite(old.value)
    # Before the first step all that is compared with is infinite, or zero.
    astray = begun & (value > old.lowest + HIGHEST_RISE * jnp.abs(old.lowest))
    curvature, bend = jnp.vdot(step, change), jnp.vdot(change, change)
    straight = curvature <= 1e-6 * jnp.sqrt(jnp.vdot(step, step) * bend)
    accepted = begun & ~astray & ~straight
    slope, shortest = jnp.vdot(old.grad, step), SHORTEST * reach
    lost = astray & ((slope >= 0) | (old.radius <= shortest))
    scale = jnp.where(accepted, curvature / bend, old.scale)
    radius = _next_radius(old, _rms(step) / learning_rate, slope, value)
    stay = lambda before, now: jnp.where(astray, before, now)
    take_up = partial(_take_up, old.count % len(old.steps), accepted)
    new = LbfgsState(
        count=jnp.where(lost, 0, old.count + accepted),
        params=stay(old.params, params),
        value=stay(old.value, value),
        grad=stay(old.grad, grad),
        lowest=jnp.minimum(old.lowest, value),
        radius=jnp.maximum(radius, shortest),
        steps=take_up(old.steps, step),
        changes=take_up(old.changes, change),
        curvatures=take_up(old.curvatures, curvature),
        scale=jnp.where(lost, 0, scale),
    )
    onward = _within(-_inverse_hessian_times(new.grad, new), new.radius)
    # The first part is zero unless a step is taken back.
    return (new.params - params) / learning_rate + onward, new


def _take_up(place: Array, accepted: Array, past: Stored, new: Array) -> Stored:
    """Write one of a pair into its place, if it is accepted.

    Nothing else is touched: the pairs are by far the largest part of a state, and need
    not be there twice.
    """
    start = (place, *(0,) * new.ndim)
    kept = take(past, start, (1, *new.shape))
    return put(past, jnp.where(accepted, new[None], kept), start)


def _next_radius(
    old: LbfgsState, length: Scalar, slope: Scalar, value: Scalar
) -> Scalar:
    """Radius after a step of a length, down a slope, that led to a loss."""
    rise = value - old.value  # before the first step, minus infinity
    # Where the parabola is lowest, as a part of the step: below a half after a rise.
    bottom = -slope / jnp.maximum(2 * (rise - slope), 1e-30)
    shorter = jnp.where(slope < 0, jnp.maximum(bottom, 0.1), 0.5) * length
    longer = jnp.maximum(old.radius, GROWTH * length)
    kept = jnp.where(rise < 0.1 * slope, longer, old.radius)
    return jnp.where(rise > 0, jnp.minimum(old.radius, shorter), kept)


def _rms(image: Image) -> Scalar:
    return jnp.sqrt(jnp.vdot(image, image) / image.size)


def _within(step: Image, radius: Scalar) -> Image:
    """A step, shortened to a length at most. Zero stays zero."""
    return step * jnp.minimum(1, radius / jnp.maximum(_rms(step), 1e-30))


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

    # Without a scale, a vector as long as the radius.
    downhill = state.radius / jnp.maximum(_rms(vector), 1e-30)
    scale = jnp.where(state.scale > 0, state.scale, downhill)
    vector, factors = jax.lax.fori_loop(
        0, known, forward, (vector, jnp.zeros(history, vector.dtype))
    )

    def backward(i: Array, vector: Image) -> Image:
        place = (state.count - known + i) % history
        step, change = pair(place)
        factor = jnp.vdot(change, vector) / state.curvatures[place]
        return vector + (factors[place] - factor) * step

    return jax.lax.fori_loop(0, known, backward, scale * vector)
