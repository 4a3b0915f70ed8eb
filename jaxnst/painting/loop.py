"""The loop around the kernel: steps in launches of compiled code."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxnst.checks import check_untraced
from jaxnst.compiled import Runner, kept_jit
from jaxnst.network.vgg import Backbone
from jaxnst.objective import Targets
from jaxnst.process import STEP_OPTIONS, return_freed_memory, single_threaded_lapack
from jaxnst.transfer import Info, State, Transfer


class ChunkSchedule(NamedTuple):
    """How steps are divided into launches of compiled code.

    Attributes:
        start: Steps taken in earlier calls.
        chunk: Maximum number of steps per launch. A launch also ends when the number of
            all steps taken, including `start`, is a multiple of `chunk`.
        interval: Approximate seconds per launch; no effect on the result.
        on_chunk: Called with state and infos after each launch.
        call: Calls the compiled steps.
    """

    start: int = 0
    chunk: int = 50
    interval: float = 2.0
    on_chunk: Callable[[State, Info], None] | None = None
    call: Runner = Runner()


@single_threaded_lapack
def run(
    transfer: Transfer,
    state: State,
    backbone: Backbone,
    targets: Targets,
    *,
    steps: int,
    schedule: ChunkSchedule = ChunkSchedule(),
) -> tuple[State, Info]:
    """Take a number of steps in compiled chunks.

    Progress, previews, checkpoints and interruption happen between launches, in
    `schedule.on_chunk`. The loop ends early if every image of the state had a step that
    was not finite in the same launch.

    Args:
        transfer: From `make_transfer` or, for many images, `grid.BatchTransfer`.
        state: Start state. It is donated, so continue with the returned state.
        backbone: The network, calibrated for the recipe.
        targets: From `objective.make_targets`.
        steps: Number of steps, at least one.
        schedule: How the steps are divided into launches.

    Returns:
        The last state, and the infos of all steps, stacked.

    Example:
        >>> import jaxnst
        >>> recipe = jaxnst.get_recipe("painterly")
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> backbone = jaxnst.calibrate(backbone, recipe.program.activations)
        >>> content, style = jaxnst.sample("harbour", 48), jaxnst.sample("swirls", 48)
        >>> transfer = jaxnst.make_transfer(recipe.program)
        >>> targets = jaxnst.make_targets(backbone, content, [style], recipe)
        >>> state, info = run(
        ...     transfer, transfer.init(content), backbone, targets, steps=2
        ... )
        >>> info.loss.shape
        (2,)
    """
    check_untraced("run", state, backbone, targets)
    start, chunk, interval, on_chunk, call = schedule
    launch = partial(call, run_chunk, transfer=transfer)
    # Compile with no steps, and free the compiler's memory before the first one.
    state, _ = launch(state, backbone, targets, np.int32(0))
    return_freed_memory()
    infos, taken, count = [], 0, 1
    while taken < steps:
        count = min(count, CHUNK_LIMIT, chunk - (start + taken) % chunk, steps - taken)
        began = time.perf_counter()
        state, info = launch(state, backbone, targets, np.int32(count))
        info = jax.device_get(info)
        infos.append(jax.tree.map(lambda x, n=count: x[:n], info))
        taken += count
        count = max(1, int(interval * count / (time.perf_counter() - began)))
        if on_chunk is not None:
            on_chunk(state, infos[-1])
        if not infos[-1].finite.all(axis=0).any():
            break
    return state, jax.tree.map(lambda *xs: np.concatenate(xs), *infos)


CHUNK_LIMIT = 50
"""Largest number of steps in a launch."""


@kept_jit(
    "transfer", name="the steps", donate=("state",), compiler_options=STEP_OPTIONS
)
def run_chunk(
    state: State,
    backbone: Backbone,
    targets: Targets,
    count: Int[Array | np.ndarray, ""],
    *,
    transfer: Transfer,
) -> tuple[State, Info]:
    """Take `count` ≤ `CHUNK_LIMIT` steps; rows of the infos after `count` are zeros."""
    step = jax.jit(transfer.step)  # traced once for both uses

    def body(i: Int[Array, ""], carry: tuple[State, Array]) -> tuple[State, Array]:
        state, rows = carry
        state, info = step(state, backbone, targets)
        # One row for all parts of an info: on a GPU, one kernel instead of six.
        parts = [x.astype(jnp.float32) for x in jax.tree.leaves(info)]
        return state, rows.at[i].set(jnp.stack(parts, axis=-1))

    _, info = jax.eval_shape(step, state, backbone, targets)
    parts, tree = jax.tree.flatten(info)
    rows = jnp.zeros((CHUNK_LIMIT, *parts[0].shape, len(parts)))
    state, rows = jax.lax.fori_loop(0, count, body, (state, rows))
    found = [rows[..., k].astype(x.dtype) for k, x in enumerate(parts)]
    return state, tree.unflatten(found)
