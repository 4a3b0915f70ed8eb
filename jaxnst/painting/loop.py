"""The loop around the kernel: steps in launches of compiled code."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Array, Int

from jaxnst.checks import check_untraced
from jaxnst.network.vgg import Backbone
from jaxnst.objective import Targets
from jaxnst.process import STEP_OPTIONS, return_freed_memory, single_threaded_lapack
from jaxnst.transfer import Info, State, Transfer


class Launches(NamedTuple):
    """How steps are divided into launches of compiled code.

    Attributes:
        start: Steps taken in earlier calls.
        chunk: Steps per launch, at most; each multiple of it ends a launch.
        interval: Seconds per launch, about; the result does not depend on it.
        host: CPU with more memory that keeps the state. Default: the network's device.
        on_chunk: Called with state and infos after each launch.
    """

    start: int = 0
    chunk: int = 50
    interval: float = 2.0
    host: Sharding | None = None
    on_chunk: Callable[[State, Info], None] | None = None


@single_threaded_lapack
def run(
    transfer: Transfer,
    state: State,
    backbone: Backbone,
    targets: Targets,
    *,
    steps: int,
    launches: Launches = Launches(),
) -> tuple[State, Info]:
    """Take a number of steps in compiled chunks.

    Progress, previews, checkpoints and interruption happen between launches, in
    `launches.on_chunk`. The loop ends early after a launch in which each image of the
    state had a step that was not finite.

    Args:
        transfer: From `make_transfer` or, for many images, `grid.make_batch_transfer`.
        state: Where to start. It is donated: use the returned one from then on.
        backbone: The network, prepared for the recipe.
        targets: From `objective.make_targets`.
        steps: Number of steps, at least one.
        launches: How they are divided.

    Returns:
        The last state, and the infos of all steps, stacked.

    Example:
        >>> import jaxnst
        >>> recipe = jaxnst.get_recipe("painterly")
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> backbone = jaxnst.calibrate(backbone, recipe.activations)
        >>> content, style = jaxnst.sample("harbour", 48), jaxnst.sample("swirls", 48)
        >>> transfer = jaxnst.make_transfer(recipe)
        >>> targets = jaxnst.make_targets(backbone, content, [style], recipe)
        >>> state, info = run(
        ...     transfer, transfer.init(content), backbone, targets, steps=2
        ... )
        >>> info.loss.shape
        (2,)
    """
    check_untraced("run", state, backbone, targets)
    start, chunk, interval, host, on_chunk = launches
    if host is None:
        launch = partial(run_chunk, transfer=transfer, chunk=chunk)
    else:
        launch = partial(_run_on_host, transfer=transfer, host=host)
    # Compile with no steps, and free the compiler's memory before the first one.
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
    return state, jax.tree.map(lambda *xs: np.concatenate(xs), *infos)


@partial(
    jax.jit,
    static_argnames=("transfer", "chunk"),
    donate_argnames="state",
    compiler_options=STEP_OPTIONS,
)
def run_chunk(
    state: State,
    backbone: Backbone,
    targets: Targets,
    count: int | Int[Array, ""],
    *,
    transfer: Transfer,
    chunk: int,
) -> tuple[State, Info]:
    """Take `count` ≤ `chunk` steps; the rest of the infos is left empty.

    `count` is an argument, so a last, shorter chunk needs no program of its own.
    """
    step = jax.jit(transfer.step)  # traced once for both uses

    def body(i: Int[Array, ""], carry: tuple[State, Array]) -> tuple[State, Array]:
        state, rows = carry
        state, info = step(state, backbone, targets)
        # One row for all parts of an info: on a GPU, one kernel instead of six.
        parts = [x.astype(jnp.float32) for x in jax.tree.leaves(info)]
        return state, rows.at[i].set(jnp.stack(parts, axis=-1))

    _, info = jax.eval_shape(step, state, backbone, targets)
    parts, tree = jax.tree.flatten(info)
    rows = jnp.zeros((chunk, *parts[0].shape, len(parts)))
    state, rows = jax.lax.fori_loop(0, count, body, (state, rows))
    found = [rows[..., k].astype(x.dtype) for k, x in enumerate(parts)]
    return state, tree.unflatten(found)


def _run_on_host(
    state: State,
    backbone: Backbone,
    targets: Targets,
    count: int,
    *,
    transfer: Transfer,
    host: Sharding,
) -> tuple[State, Info | None]:
    """Take `count` steps with the state on another device than the network."""
    there = jax.tree.leaves(backbone)[0].sharding
    evaluate = jax.jit(transfer.evaluate)
    move = jax.jit(transfer.move, donate_argnums=0)
    infos = []
    for _ in range(count):
        image = jax.device_put(state.image, there)
        evaluation = evaluate(image, backbone, targets)
        del image
        evaluation, rate = jax.device_put((evaluation, targets.learning_rate), host)
        state, info = move(state, evaluation, rate)
        infos.append(info)
    return state, jax.tree.map(lambda *xs: jnp.stack(xs), *infos) if infos else None
