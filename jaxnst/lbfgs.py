"""L-BFGS with a trust radius in place of a line search."""

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxnst.linalg import HIGHEST
from jaxnst.pictures.canvas import Growth
from jaxnst.storage import StateDtype, Stored, put, restore, stored_zeros, take, unpack
from jaxnst.types import Image, Scalar

FIRST_MOVE = 0.03
"""RMS change of the pixels in the first step; pixels are in [0, 1]."""

HIGHEST_RISE = 0.2
"""Largest accepted rise above the lowest loss, as a fraction of that loss."""

SHORTEST = 0.01
"""Smallest radius, as a fraction of the first one. Shorter steps would change the loss
by little more than rounding errors, which would shorten further steps for ever."""

GROWTH = 2.0
"""After a successful step, the next one may be this many times as long."""


class LbfgsState(NamedTuple):
    """State of L-BFGS.

    Attributes:
        count: Number of pairs accepted so far; the newest is at `count - 1`, modulo
            the length of the history.
        params: Image after the last accepted step.
        value: Loss at `params`; infinite before the first step.
        grad: Gradient at `params`.
        lowest: Lowest loss seen.
        radius: Longest trusted step, RMS over the pixels.
        steps: Step s of each pair, a difference of images, history h w 3.
        changes: Change y of the gradient in each pair, history h w 3.
        curvatures: Product `sᵀy` of each pair.
        gamma: Initial inverse curvature, `sᵀy / yᵀy` of the newest pair; zero before
            the first pair.
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
    gamma: Scalar


def enlarge_curvature(
    before: optax.OptState, fresh: optax.OptState, growth: Growth
) -> optax.OptState:
    """Start L-BFGS anew, but keep the curvature of the scale before.

    The history is dropped, because it belongs to another function. A loss that averages
    more pixels curves less along each pixel, so `gamma` grows with their number.
    """
    last, begun = cast(list[LbfgsState], [before, fresh])
    scale = growth.pixels * np.asarray(last.gamma)
    begins = np.asarray(last.count) > 0
    return begun._replace(gamma=np.where(begins, scale, np.asarray(begun.gamma)))


def without_history(state: optax.OptState) -> optax.OptState:
    """A state of L-BFGS without the arrays of the finished scale."""
    done: dict[str, Any] = dict.fromkeys(("params", "grad", "steps", "changes"))
    return cast(LbfgsState, state)._replace(**done)


def lbfgs(
    history: int, dtype: StateDtype = "float32", initial_radius: float = FIRST_MOVE
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with a trust radius in place of a line search.

    The recipes of the literature use `torch.optim.LBFGS` and Lua's `optim.lbfgs`, which
    accept every step; on hatched or noisy pictures the loss then rises or stalls. Here:

    - Each step takes one gradient. The scale of the loss has no effect.
    - The history is of pairs: a step s, and the change y of the gradient along it. A
      pair is accepted if `sᵀy > 1e-6 |s| |y|`.
    - A step that ends more than a fifth above the lowest loss is taken back. The
      history is then dropped if the slope along the step was upward (clipping can cause
      this), or if the radius was already at its lower limit.
    - No step is longer than the radius, which begins at `initial_radius`. Without a
      pair, the step is as long as the radius, so that the gradient changes by more than
      rounding. Lengths are RMS changes of the image after clipping, divided by the
      learning rate.
    - After a step that lowered the loss by at least a tenth of what its slope promised,
      the radius grows to twice the step's length, if that is more.
    - After a step that raised the loss, the radius shrinks to the distance at which the
      parabola through both losses and the slope is lowest, but to no less than a tenth
      and no more than a half of the step.

    Reference:
        Nocedal, Wright (2006), "Numerical Optimization", algorithms 7.4 (the two
        loops), 4.1 (the radius) and section 3.5 (the parabola). Byrd, Nocedal, Schnabel
        (1994), "Representations of Quasi-Newton Matrices and Their Use in Limited
        Memory Methods", eq. 3.1 (the compact form).
    """
    return optax.GradientTransformationExtraArgs(
        partial(_init, history, dtype, initial_radius), partial(_update, initial_radius)
    )


def _init(
    history: int, dtype: StateDtype, initial_radius: float, params: optax.Params
) -> LbfgsState:
    if not hasattr(params, "shape"):
        raise ValueError(
            f"expected one array to optimise, got a {type(params).__name__}; flatten "
            "it with jax.flatten_util.ravel_pytree"
        )
    params = cast(Array, params)
    pairs = stored_zeros((history, *params.shape), dtype)
    return LbfgsState(
        count=jnp.int32(0),
        params=params,
        value=jnp.float32(jnp.inf),
        grad=jnp.zeros_like(params),
        lowest=jnp.float32(jnp.inf),
        radius=jnp.float32(initial_radius),
        steps=pairs,
        changes=pairs,
        curvatures=jnp.zeros(history, params.dtype),
        gamma=jnp.float32(0),
    )


def _update(
    initial_radius: float,
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    value: Any = None,
    learning_rate: Any = 1.0,
    **extra_args: Any,
) -> tuple[optax.Updates, LbfgsState]:
    if value is None or params is None:
        raise ValueError(
            "expected update(grad, state, params, value=loss), got no value or params"
        )
    grad, params, old = cast(tuple[Image, Image, LbfgsState], (updates, params, state))
    step, change = params - old.params, grad - old.grad
    begun = jnp.isfinite(old.value)
    # Before the first step, the old values are infinite or zero.
    astray = begun & (value > old.lowest + HIGHEST_RISE * jnp.abs(old.lowest))
    curvature, bend = jnp.vdot(step, change), jnp.vdot(change, change)
    straight = curvature <= 1e-6 * jnp.sqrt(jnp.vdot(step, step) * bend)
    accepted = begun & ~astray & ~straight
    slope, shortest = jnp.vdot(old.grad, step), SHORTEST * initial_radius
    lost = astray & ((slope >= 0) | (old.radius <= shortest))
    scale = jnp.where(accepted, curvature / bend, old.gamma)
    radius = _next_radius(old, _rms(step) / learning_rate, slope, value)
    stay = lambda before, now: jnp.where(astray, before, now)
    accept = partial(_accept_pair, old.count % len(old.steps), accepted)
    new = LbfgsState(
        count=jnp.where(lost, 0, old.count + accepted),
        params=stay(old.params, params),
        value=stay(old.value, value),
        grad=stay(old.grad, grad),
        lowest=jnp.minimum(old.lowest, value),
        radius=jnp.maximum(radius, shortest),
        steps=accept(old.steps, step),
        changes=accept(old.changes, change),
        curvatures=accept(old.curvatures, curvature),
        gamma=jnp.where(lost, 0, scale),
    )
    onward = _within(-_inverse_hessian_times(new.grad, new), new.radius)
    # The first part is zero unless a step is taken back.
    return (new.params - params) / learning_rate + onward, new


def _accept_pair(place: Array, accepted: Array, past: Stored, new: Array) -> Stored:
    """Write one array of a pair into its place in the history, if accepted.

    Only that place is written: a `where` over the whole history would keep two copies.
    """
    start = (place, *(0,) * new.ndim)
    kept = take(past, start, (1, *new.shape))
    return put(past, jnp.where(accepted, new[None], kept), start)


def _next_radius(
    old: LbfgsState, length: Scalar, slope: Scalar, value: Scalar
) -> Scalar:
    """Radius after a step of a length and a slope, from the new loss `value`."""
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
    """A step, shortened if it is longer than the radius. Zero stays zero."""
    return step * jnp.minimum(1, radius / jnp.maximum(_rms(step), 1e-30))


def _inverse_hessian_times(vector: Image, state: LbfgsState) -> Image:
    """A vector times the inverse Hessian that the pairs approximate.

    On a CPU by two loops, which touch one pair at a time; elsewhere in compact form, by
    a few large kernels.
    """
    # Before the first pair, the result is as long as the radius.
    downhill = state.radius / jnp.maximum(_rms(vector), 1e-30)
    state = state._replace(gamma=jnp.where(state.gamma > 0, state.gamma, downhill))
    return jax.lax.platform_dependent(vector, state, cpu=two_loops, default=compact)


def compact(vector: Image, state: LbfgsState) -> Image:
    """`_inverse_hessian_times` in compact form.

    `γ g + S R⁻ᵀ (D p + γ YᵀY p - γ Yᵀg) - γ Y p` with the vector g and `p = R⁻¹ Sᵀg`.
    The steps are the columns of S, and the changes those of Y, oldest first. R is the
    upper triangle of SᵀY, D is its diagonal, and γ is `gamma`.
    """
    history, scale = len(state.steps), state.gamma
    place = jnp.arange(history)
    known = place < jnp.minimum(state.count, history)
    # Index of the i-th oldest pair; unused places come last.
    order = (place + jnp.where(state.count > history, state.count, 0)) % history
    both = known[:, None] & known[None]
    ordered = lambda matrix: jnp.where(both, matrix[order][:, order], 0)
    curvatures = jnp.where(known, state.curvatures[order], 1)
    mixed = jnp.triu(ordered(_cross_products(state.steps, state.changes)), 1)
    mixed = mixed + jnp.diag(curvatures)
    changed = ordered(_cross_products(state.changes, state.changes))
    along = lambda pairs: jnp.where(known, _products(pairs, vector)[order], 0)
    solve = partial(jax.scipy.linalg.solve_triangular, mixed)
    p = solve(along(state.steps))
    inner = jnp.matmul(changed, p, precision=HIGHEST) - along(state.changes)
    # Back to the order in which the pairs are stored; unused places get 0.
    put_back = lambda x: jnp.zeros(history).at[order].set(jnp.where(known, x, 0))
    by_steps = put_back(solve(curvatures * p + scale * inner, trans="T"))
    by_changes = put_back(-scale * p)
    each = lambda x: x[:, None, None, None]
    return scale * vector + jnp.sum(
        each(by_steps) * restore(state.steps)
        + each(by_changes) * restore(state.changes),
        axis=0,
    )


def _cross_products(a: Stored, b: Stored) -> Float[Array, "_history _history"]:
    """Inner products of each array of `a` with each array of `b`."""
    a, b = (unpack(x).reshape(len(x), -1) for x in (a, b))
    return jnp.matmul(a, b.T, precision=HIGHEST, preferred_element_type=jnp.float32)


def _products(pairs: Stored, vector: Image) -> Float[Array, "_history"]:
    """Inner products of a vector with each array of `pairs`."""
    return jnp.sum(jnp.sum(restore(pairs) * vector[None], axis=(2, 3)), axis=1)


def two_loops(vector: Image, state: LbfgsState) -> Image:
    """`_inverse_hessian_times` by two loops: newest pair first, then oldest first."""
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

    return jax.lax.fori_loop(0, known, backward, state.gamma * vector)
