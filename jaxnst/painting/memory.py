"""Estimates of the memory that a picture needs, and the tiles that fit into it."""

import bisect
import contextlib
import math
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import psutil

from jaxnst.messages import gigabytes
from jaxnst.network.vgg import channels, shrinkage, stride
from jaxnst.optimizers import make_optimizer
from jaxnst.painting.scales import scale_shapes, takes_steps
from jaxnst.pictures.geometry import fit_shape
from jaxnst.recipes import Program, Recipe
from jaxnst.tiles import smallest_tile, tile_shape

STEP = {"float32": 2350, "bfloat16": 1800}
"""Bytes that a step takes for each pixel that passes through the network at once, by
`Program.dtype`. XLA's own analysis says 2170 to 2550, and 1650 to 1810 for bfloat16."""

PICTURE = 80
"""The part of `STEP` that the picture itself takes. It stays the same if the network
sees a smaller copy of the picture."""

REPAINT = 1040
"""Bytes that laying out a picture takes for each of its first 2²⁰ pixels."""

RECOLOR = 100
"""Bytes per pixel of a picture that only changes its colours."""

GRADIENT = 12
"""Bytes per pixel that a step in tiles takes for the gradient of the picture."""

IMAGE = 12
"""Bytes per pixel of an image: three float32."""

PROCESS = {"cpu": 1_000_000_000, "gpu": 500_000_000}
"""Bytes of network, prepared kernels, Python and JAX; for GPUs, a guess."""

PROGRAMS = {"cpu": 110_000_000, "gpu": 0}
"""Bytes of the compiled programs of a scale. A scale in tiles takes twice as many,
since it also measures in tiles. But programs of earlier scales are freed before it."""

COMPILING = {"cpu": 450_000_000, "gpu": 0}
"""Bytes that compiling takes temporarily, before the first step of a scale."""


class Cost(NamedTuple):
    """Bytes that a run takes for each pixel of its picture.

    Attributes:
        state: Kept throughout: image, output, content and its features, and the
            optimiser's state.
        step: Temporary memory of a step, for pixels that pass through the network.
        update: Temporary memory of the optimiser's update, which follows the tiles.
    """

    state: int
    step: int
    update: int


@cache
def cost(program: Program) -> Cost:
    """Bytes per pixel that a program takes.

    Example:
        >>> from jaxnst import get_recipe
        >>> cost(get_recipe("painterly").program).state
        324
        >>> lean = {"state_dtype": "bfloat16", "history": 3}
        >>> cost(get_recipe("painterly").replace(**lean).program).state
        108
    """
    optimizer = make_optimizer(program)
    image = jax.ShapeDtypeStruct((8, 8, 3), np.float32)
    arrays = jax.tree.leaves(jax.eval_shape(optimizer.transform.init, image))
    moments = sum(x.size * x.dtype.itemsize for x in arrays if x.ndim >= 3) / 8**2
    number = {"float32": 4, "bfloat16": 2}[program.state_dtype]
    features = number * sum(
        channels(layer) / stride(layer) ** 2 for layer, _ in program.content_layers
    )
    content = IMAGE + features
    seen = min(map(shrinkage, program.layers))
    return Cost(
        state=round(2 * IMAGE + moments + content),
        step=round(PICTURE + (STEP[program.dtype] - PICTURE) / seen**2),
        update=optimizer.work_bytes,
    )


def step_bytes(shape: tuple[int, int], recipe: Recipe, tile: int | None = None) -> int:
    """Bytes that painting a picture takes on a device, without the network.

    Without a tile, the picture is painted whole.
    """
    pixels, each = math.prod(shape), cost(recipe.program)
    laying = 0
    if recipe.look.repaint:  # without the optimiser's state
        laying = REPAINT * min(pixels, 2**20) + 3 * IMAGE * pixels
    if not takes_steps(shape, recipe):
        return laying
    if tile is None:
        return max(laying, pixels * (each.state + each.step))
    at_once = math.prod(tile_shape(shape, recipe.program.layers, tile))
    rest = max(at_once * each.step, pixels * each.update)
    return max(laying, pixels * (each.state + GRADIENT) + rest)


def process_bytes(
    shape: tuple[int, int], recipe: Recipe, tile: int | None = None
) -> int:
    """Bytes that painting a picture takes on a device, with network and programs.

    On a CPU, this includes all memory of the host that the process takes.
    """
    device = "cpu" if jax.devices()[0].platform == "cpu" else "gpu"
    if not recipe.paints:
        return PROCESS[device] + RECOLOR * math.prod(shape)
    scales, taken = len(scale_shapes(shape, recipe)), step_bytes(shape, recipe, tile)
    if takes_steps(shape, recipe):
        state = math.prod(shape) * cost(recipe.program).state
        taken = max(taken, state + COMPILING[device])
    stepping = scales if recipe.schedule.steps else 1
    programs = 2 if tile else stepping + recipe.look.repaint
    return taken + PROCESS[device] + programs * PROGRAMS[device]


def mask_bytes(shape: tuple[int, ...], recipe: Recipe, count: int) -> int:
    """Bytes of `count` masks, each held twice in full size and once for each layer."""
    cells = sum(stride(layer) ** -2 for layer in recipe.program.layers)
    return round(4 * math.prod(shape[:2]) * count * (2 + cells))


def free_memory(device: Any) -> int:
    """Free bytes of a device; for a CPU, of the host."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return free_host_memory()


def free_host_memory(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that are free on the host, or within the limit of its container.

    `group` is the cgroup folder of the container. Cached files count as free, because
    the system drops them when memory is short.
    """
    allowed = sys.maxsize
    with contextlib.suppress(OSError, ValueError):  # there is no file, or no limit
        limit = int((group / "memory.max").read_text())
        pairs = map(str.split, (group / "memory.stat").read_text().splitlines())
        files = int(dict(pairs).get("inactive_file", 0))
        allowed = limit - int((group / "memory.current").read_text()) + files
    return max(0, min(psutil.virtual_memory().available, allowed))


def usable_memory() -> int:
    """Bytes that this process may use: 90 % of the free ones and, on a CPU, its own."""
    device = jax.devices()[0]
    own = psutil.Process().memory_info().rss if device.platform == "cpu" else 0
    return int(0.9 * free_memory(device)) + own


def choose_tile(shape: tuple[int, int], recipe: Recipe, memory: int) -> int | None:
    """Size of the largest tiles that fit; None if the whole picture fits.

    Raises:
        ValueError: If not even the smallest tiles fit.

    Example:
        >>> from jaxnst import get_recipe
        >>> choose_tile((384, 512), get_recipe("delicate"), 8 * 10**9)
        >>> choose_tile((3072, 4096), get_recipe("delicate"), 8 * 10**9)
        864
    """
    for tile in _choices(shape, recipe):
        if process_bytes(shape, recipe, tile) <= memory:
            return tile
    raise ValueError(_memory_message(shape, recipe, memory))


def largest_size(shape: tuple[int, int], recipe: Recipe, memory: int) -> int:
    """Largest long edge that fits, for the aspect ratio of `shape`: a multiple of 16.

    Returns 0 if no picture fits.
    """
    too_large = lambda edge: _least(fit_shape(shape, edge), recipe) > memory
    return 16 * bisect.bisect_left(range(16, 2**18, 16), True, key=too_large)


def _choices(shape: tuple[int, int], recipe: Recipe) -> list[int | None]:
    """Sizes of tiles that a picture may be painted in, the fastest first."""
    if not (recipe.program.additive and takes_steps(shape, recipe)):
        return [None]
    smallest = smallest_tile(recipe.program.layers)
    return [None, *range(max(2048, smallest), smallest, -32), smallest]


def _least(shape: tuple[int, int], recipe: Recipe) -> int:
    """Bytes that a picture needs with the best choice of tiles."""
    return min(process_bytes(shape, recipe, tile) for tile in _choices(shape, recipe))


def _memory_message(shape: tuple[int, int], recipe: Recipe, memory: int) -> str:
    lean: dict[str, Any] = {"state_dtype": "bfloat16"}
    if recipe.program.optimizer == "lbfgs":
        lean["history"] = min(3, recipe.program.history)
    others = []
    if size := largest_size(shape, recipe, memory):
        others.append(f"--size {size}")
    if _least(shape, recipe.replace(**lean)) <= memory:
        others.append(" ".join(f"--set {name}={x}" for name, x in lean.items()))
    use = " or ".join(others) or "more memory"
    needed, have = gigabytes(_least(shape, recipe)), gigabytes(memory)
    return (
        f"{shape[1]} x {shape[0]} px need {needed} of memory, and {have} are free; use "
        f"{use}"
    )
