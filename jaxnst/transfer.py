"""The kernel: one optimisation step on an image, and the loop around it.

`make_transfer(recipe)` gives `init` and `step`, after the manner of optax; a step is to
`evaluate` and to `move`. `State` is what the next step needs, and so exactly what a
checkpoint holds; `Info` is what a person wants to see, and so exactly the log.
"""

import time
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg  # noqa: F401  (JAX's LAPACK: there before its threads are limited)
from jax.sharding import Sharding
from jaxtyping import Array, Bool, Float, Int

from jaxnst.network.vgg import Backbone
from jaxnst.objective import Targets, Terms, objective
from jaxnst.optimizers import make_optimizer
from jaxnst.process import return_freed_memory, single_threaded_lapack
from jaxnst.recipes import Recipe
from jaxnst.types import Image, Scalar

Objective = Callable[[Image, Backbone, Targets, Recipe], tuple[Scalar, Terms]]
"""The loss of an image and its terms, such as `objective.objective`."""


class State(NamedTuple):
    """Everything the next step depends on.

    Attributes:
        image: The image that is optimised, h w 3.
        average: Sum of the iterates with geometric weights, h w 3, see `picture`; or
            the best iterate, with a recipe that keeps it.
        lowest: Lowest loss seen.
        step: Number of steps in the average.
        opt_state: The optax optimiser's own state.
    """

    image: Image
    average: Image
    lowest: Float[Array, ""]
    step: Int[Array, ""]
    opt_state: optax.OptState


class Info(NamedTuple):
    """What one step saw, before it moved the image.

    Attributes:
        loss: The loss.
        terms: Its unweighted parts.
        gradient_norm: Euclidean norm of the gradient with respect to the image.
        finite: Whether loss, gradient and update were. Where the loss or the gradient
            was not, a step leaves the state as it was; where the update was not in some
            pixels, these.
    """

    loss: Float[Array, "*_steps"]
    terms: Terms
    gradient_norm: Float[Array, "*_steps"]
    finite: Bool[Array, "*_steps"]


class Slope(NamedTuple):
    """The loss of an image and how it changes with it.

    Attributes:
        loss: The loss.
        terms: Its unweighted parts.
        grad: Gradient of the loss with respect to the image, h w 3.
        norm: Its Euclidean norm.
    """

    loss: Scalar
    terms: Terms
    grad: Image
    norm: Scalar


class Transfer(NamedTuple):
    """A style transfer as pure functions.

    Attributes:
        init: `init(image) -> state`.
        evaluate: `evaluate(image, backbone, targets) -> slope`, by far the most work.
        move: `move(state, slope, learning_rate) -> (state, info)`.
    """

    init: Callable[[Image], State]
    evaluate: Callable[[Image, Backbone, Targets], Slope]
    move: Callable[[State, Slope, Scalar], tuple[State, Info]]

    def step(
        self, state: State, backbone: Backbone, targets: Targets
    ) -> tuple[State, Info]:
        """Evaluate and move."""
        slope = self.evaluate(state.image, backbone, targets)
        return self.move(state, slope, targets.learning_rate)


def make_transfer(recipe: Recipe, *, objective: Objective = objective) -> Transfer:
    """Specialise the kernel to a recipe.

    All of it composes with `jit`, `vmap` and `scan`, with Adam also with `grad`.
    The parameters and the targets are arguments, so another style of the same size, a
    loss weight or a learning rate never recompiles.

    Args:
        recipe: What to minimise and how.
        objective: What to minimise instead: a function of the image, the network, the
            targets, and the recipe's `program`, which gives the loss and its terms. It
            may call `objective.objective` and add to that.

    Returns:
        The functions, the same ones for recipes of the same `Recipe.program`.

    Example:
        >>> import jaxnst
        >>> transfer = make_transfer(jaxnst.get_recipe("painterly"))
        >>> state = transfer.init(jnp.full((32, 32, 3), 0.5))
        >>> state.image.shape
        (32, 32, 3)
    """
    return _make_transfer(recipe.program, objective)


@cache
def _make_transfer(recipe: Recipe, objective: Objective) -> Transfer:
    optimizer = make_optimizer(recipe)
    units = np.array(recipe.units, np.float32)[None, None]

    def init(image: Image) -> State:
        state = State(
            image=image,
            average=jnp.zeros_like(image),
            lowest=jnp.float32(jnp.inf),
            step=jnp.int32(0),
            opt_state=optimizer.init(image * units),
        )
        # Copies, because the loop donates the state: no two leaves may share a buffer.
        return jax.tree.map(jnp.array, state)

    def evaluate(image: Image, backbone: Backbone, targets: Targets) -> Slope:
        def loss_fn(image: Image) -> tuple[Scalar, Terms]:
            return objective(image, backbone, targets, recipe)

        (loss, terms), grad = jax.value_and_grad(loss_fn, has_aux=True)(image)
        # Computed once, and not again for its norm.
        grad = jax.lax.optimization_barrier(grad)
        return Slope(loss, terms, grad, jnp.sqrt(jnp.vdot(grad, grad)))

    def move(state: State, slope: Slope, learning_rate: Scalar) -> tuple[State, Info]:
        # A branch, not a choice between arrays: the state is then changed in its place,
        # and only once the memory of the gradient's tiles is free.
        state, moved = jax.lax.cond(
            jnp.isfinite(slope.loss) & jnp.isfinite(slope.norm),
            descend,
            lambda state, *_: (state, jnp.bool(False)),
            state,
            slope.loss,
            slope.grad,
            learning_rate,
        )
        return state, Info(slope.loss, slope.terms, slope.norm, moved)

    def descend(
        state: State, loss: Scalar, grad: Image, learning_rate: Scalar
    ) -> tuple[State, Bool[Array, ""]]:
        # With z = units · image, the gradient with respect to z is grad / units.
        update, opt_state = optimizer.update(
            grad / units,
            state.opt_state,
            state.image * units,
            value=loss,
            factor=learning_rate,
        )
        update = learning_rate * cast(Image, update) / units
        moves = jnp.isfinite(update)
        image = jnp.where(moves, state.image + update, state.image)
        if recipe.clip:
            image = jnp.clip(image, 0, 1)
        if recipe.keep_best:
            average = jnp.where(loss < state.lowest, image, state.average)
        else:
            decay = recipe.ema_decay
            average = decay * state.average + (1 - decay) * image
        state = State(
            image=image,
            average=average,
            lowest=jnp.minimum(state.lowest, loss),
            step=state.step + 1,
            opt_state=opt_state,
        )
        return state, jnp.all(moves)

    return Transfer(init, evaluate, move)


def picture(state: State, recipe: Recipe) -> Image:
    """The result so far: the average of the iterates or the best, clipped to [0, 1].

    `average / (1 - decay^step)`, as Adam corrects the bias of its moments.
    """
    weight = 1 - jnp.float32(recipe.ema_decay) ** state.step  # 1 for the best
    mean = state.average / jnp.maximum(weight, 1e-6)
    return jnp.clip(jnp.where(state.step > 0, mean, state.image), 0, 1)


@partial(jax.jit, static_argnames=("transfer", "chunk"), donate_argnames="state")
def _run_chunk(
    state: State,
    backbone: Backbone,
    targets: Targets,
    count: int | Int[Array, ""],
    *,
    transfer: Transfer,
    chunk: int,
) -> tuple[State, Info]:
    """Take `count` ≤ `chunk` steps; the rest of the infos is left empty.

    The number of steps is an argument, so a last, shorter chunk needs no program of its
    own.
    """
    step = jax.jit(transfer.step)  # traced once for both uses

    def body(i: Int[Array, ""], carry: tuple[State, Info]) -> tuple[State, Info]:
        state, infos = carry
        state, info = step(state, backbone, targets)
        return state, jax.tree.map(lambda xs, x: xs.at[i].set(x), infos, info)

    _, info = jax.eval_shape(step, state, backbone, targets)
    infos = jax.tree.map(lambda x: jnp.zeros((chunk, *x.shape), x.dtype), info)
    return jax.lax.fori_loop(0, count, body, (state, infos))


def _run_on_host(
    state: State,
    backbone: Backbone,
    targets: Targets,
    count: int,
    *,
    transfer: Transfer,
    host: Sharding,
) -> tuple[State, Info | None]:
    """Take `count` steps with the state on another device than the network.

    Only the image goes there, and its gradient comes back.
    """
    there = jax.tree.leaves(backbone)[0].sharding
    evaluate = jax.jit(transfer.evaluate)
    move = jax.jit(transfer.move, donate_argnums=0)
    infos = []
    for _ in range(count):
        image = jax.device_put(state.image, there)
        slope = evaluate(image, backbone, targets)
        del image
        slope, rate = jax.device_put((slope, targets.learning_rate), host)
        state, info = move(state, slope, rate)
        infos.append(info)
    return state, jax.tree.map(lambda *xs: jnp.stack(xs), *infos) if infos else None


@single_threaded_lapack
def run(
    transfer: Transfer,
    state: State,
    backbone: Backbone,
    targets: Targets,
    *,
    steps: int,
    start: int = 0,
    chunk: int = 50,
    interval: float = 2.0,
    host: Sharding | None = None,
    on_chunk: Callable[[State, Info], None] | None = None,
) -> tuple[State, Info]:
    """Take a number of steps in compiled chunks.

    Whatever a host has to do (progress, preview, checkpoint, interruption) happens
    between chunks, in `on_chunk`; nothing calls back from inside compiled code. The
    loop ends early at the first chunk in which a step was not finite, or, with several
    images in one state, after which each of them has had such a step.

    Args:
        transfer: From `make_transfer`, or of many images, `grid.make_batch_transfer`.
        state: Where to start. It is donated: use the returned one from then on.
        backbone: The network, as the recipe wants it.
        targets: From `objective.make_targets`.
        steps: Number of steps, at least one.
        start: Steps taken before, in an earlier call.
        chunk: Steps per launch, at most; each multiple of it ends a launch.
        interval: Seconds per launch, about: a slow machine takes fewer steps at a time.
            What is computed does not depend on it.
        host: Where the state is, if not where the network is: a CPU with more memory.
        on_chunk: Called with the state and the chunk's infos.

    Returns:
        The last state, and the infos of all steps, stacked.
    """
    if host is None:
        launch = partial(_run_chunk, transfer=transfer, chunk=chunk)
    else:
        launch = partial(_run_on_host, transfer=transfer, host=host)
    # No steps yet, but compiled: what that took shall be free before the first one.
    state, _ = launch(state, backbone, targets, 0)
    return_freed_memory()
    infos, taken, count = [], 0, 1
    while taken < steps:
        count = min(count, chunk - (start + taken) % chunk, steps - taken)
        began = time.perf_counter()
        state, info = launch(state, backbone, targets, count)
        info = jax.device_get(info)
        infos.append(jax.tree.map(lambda x, n=count: x[:n], info))
        taken += count
        count = max(1, int(interval * count / (time.perf_counter() - began)))
        if on_chunk is not None:
            on_chunk(state, infos[-1])
        if not infos[-1].finite.all(axis=0).any():
            break
    return state, jax.tree.map(lambda *xs: jnp.concatenate(xs), *infos)
