"""How much memory a picture takes, known before it is painted; and tiles that fit."""

import bisect
import contextlib
import math
import sys
from pathlib import Path
from typing import Any

import jax
import psutil

from jaxnst.network.vgg import channels, stride
from jaxnst.painting.scales import scale_shapes
from jaxnst.pictures.geometry import fit_shape
from jaxnst.recipes import Recipe
from jaxnst.tiles import smallest_tile, tile_shape

WORK = {"float32": 2350, "bfloat16": 1800}
"""Bytes of a step for each pixel that it takes through the network at once, by
`Recipe.dtype`. XLA's own analysis says 2170 to 2550, and 1650 to 1810, over the
recipes; hardly more than the first two blocks counts."""


GRADIENT = 12
"""Bytes of a step for each pixel of a picture in tiles, beside its state."""


MOVE = {"lbfgs": 60, "adam": 24, "tf1_adam": 24}
"""Bytes for each pixel that the optimiser takes once the tiles are done."""


PROCESS = {"cpu": 1_000_000_000, "gpu": 500_000_000}
"""Bytes that are taken whatever is painted: the network and, on a CPU, its prepared
kernels, Python, and JAX. On other devices a guess."""


PROGRAMS = {"cpu": 110_000_000, "gpu": 0}
"""Bytes of the compiled programs of a scale. One in tiles has twice as many, since it
is measured in tiles too, but those of the scales before are gone by then."""


COMPILING = {"cpu": 450_000_000, "gpu": 0}
"""Bytes that compiling takes before the first step of a scale, and gives back."""


def state_bytes(recipe: Recipe) -> int:
    """Bytes that stay for each pixel of a picture: the state, and the content.

    On a device whose host keeps the state: the image, the content and its features.

    Example:
        >>> from jaxnst import get_recipe
        >>> state_bytes(get_recipe("painterly"))
        396
        >>> lean = {"state_dtype": "bfloat16", "history": 3}
        >>> state_bytes(get_recipe("painterly").replace(**lean))
        144
    """
    number = {"float32": 4, "bfloat16": 2}[recipe.state_dtype]
    image = 3 * 4
    images = 3  # the image, the average, and the content
    moments = 3 * (number + 4)
    if recipe.optimizer == "lbfgs":
        images, moments = images + 2, 3 * 2 * recipe.history * number
    if recipe.state_memory == "host":
        images, moments = 2, 0
    features = sum(channels(x) / stride(x) ** 2 for x, _ in recipe.content_layers)
    return round(images * image + moments + features * number)


def step_bytes(shape: tuple[int, int], recipe: Recipe, tile: int | None = None) -> int:
    """Bytes that painting a picture takes on a device, beside the network.

    Args:
        shape: Height and width.
        recipe: How it is painted.
        tile: Size of tiles. Default: the picture is painted at once.
    """
    pixels, work = math.prod(shape), WORK[recipe.dtype]
    if tile is None:
        return pixels * (state_bytes(recipe) + work)
    at_once = math.prod(tile_shape(shape, recipe.layers, tile))
    move = MOVE[recipe.optimizer] if recipe.state_memory == "device" else 0
    rest = max(at_once * work, pixels * move)
    return pixels * (state_bytes(recipe) + GRADIENT) + rest


def process_bytes(
    shape: tuple[int, int], recipe: Recipe, tile: int | None = None
) -> int:
    """Bytes that painting a picture takes on a device, with all there is beside it.

    A CPU is its own host.
    """
    device = "gpu"
    if jax.devices()[0].platform == "cpu":
        device, recipe = "cpu", recipe.replace(state_memory="device")
    compiling = math.prod(shape) * state_bytes(recipe) + COMPILING[device]
    taken = max(step_bytes(shape, recipe, tile), compiling)
    programs = len(scale_shapes(shape, recipe)) if tile is None else 2
    return taken + PROCESS[device] + programs * PROGRAMS[device]


def host_bytes(shape: tuple[int, int], recipe: Recipe) -> int:
    """Bytes that a picture takes on the host of an accelerator, if it is kept there."""
    if recipe.state_memory == "device" or jax.devices()[0].platform == "cpu":
        return 0
    kept = state_bytes(recipe.replace(state_memory="device"))
    return math.prod(shape) * (kept + MOVE[recipe.optimizer])


def free_memory(device: Any) -> int:
    """Bytes that are free on a device, or for this process, if the device is a CPU."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return free_host_memory()


def free_host_memory(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that are free for this process, and in a container for that.

    Files that the system keeps in memory do not count: it lets go of them.

    Args:
        group: Folder where Linux tells what a container may take, and takes.
    """
    allowed = sys.maxsize
    with contextlib.suppress(OSError, ValueError):  # there is no file, or no limit
        limit = int((group / "memory.max").read_text())
        pairs = map(str.split, (group / "memory.stat").read_text().splitlines())
        files = int(dict(pairs).get("inactive_file", 0))
        allowed = limit - int((group / "memory.current").read_text()) + files
    return max(0, min(psutil.virtual_memory().available, allowed))


def usable_memory() -> int:
    """Bytes that this process may take: its own, and nine tenths of what is free."""
    device = jax.devices()[0]
    own = psutil.Process().memory_info().rss if device.platform == "cpu" else 0
    return int(0.9 * free_memory(device)) + own


def choose_tile(shape: tuple[int, int], recipe: Recipe, memory: int) -> int | None:
    """Size of the largest tiles that fit; None if the whole picture does.

    Args:
        shape: Height and width of the picture.
        recipe: How it is painted.
        memory: Bytes that the process may take, see `process_bytes`.

    Returns:
        The size, or None.

    Raises:
        ValueError: If not even the smallest tiles fit, or what the host shall keep.

    Example:
        >>> from jaxnst import get_recipe
        >>> choose_tile((384, 512), get_recipe("painterly"), 8 * 10**9)
        >>> choose_tile((3072, 4096), get_recipe("painterly"), 10 * 10**9)
        1440
    """
    kept, free = host_bytes(shape, recipe), free_host_memory()
    if kept > free:
        raise ValueError(
            f"expected {in_gigabytes(kept)} of host memory for {shape[1]} x {shape[0]} "
            f"px, got {in_gigabytes(free)}; use a smaller size, or leave state_memory "
            "as it is"
        )
    for tile in _choices(recipe):
        if process_bytes(shape, recipe, tile) <= memory:
            return tile
    raise ValueError(_too_large(shape, recipe, memory))


def largest_size(shape: tuple[int, int], recipe: Recipe, memory: int) -> int:
    """Long edge of the largest picture of a shape that fits, in whole 16 pixels.

    Args:
        shape: Height and width of a picture of any size.
        recipe: How it is painted.
        memory: Bytes that the process may take.

    Returns:
        The edge; 0 if none fits.
    """

    def too_large(edge: int) -> bool:
        sides = fit_shape(shape, edge)
        return min(process_bytes(sides, recipe, x) for x in _choices(recipe)) > memory

    edges = range(16, 2**18, 16)
    return 16 * bisect.bisect_left(edges, True, key=too_large)


def _choices(recipe: Recipe) -> list[int | None]:
    """Sizes of tiles that a recipe may be painted in, the fastest first."""
    if recipe.normalize_gradients:
        return [None]
    smallest = smallest_tile(recipe.layers)
    return [None, *range(max(2048, smallest), smallest, -32), smallest]


def _too_large(shape: tuple[int, int], recipe: Recipe, memory: int) -> str:
    def least(recipe: Recipe) -> int:
        return min(process_bytes(shape, recipe, x) for x in _choices(recipe))

    on_host: dict[str, Any] = {"state_memory": "host"}
    lean: dict[str, Any] = {"state_dtype": "bfloat16"}
    if recipe.optimizer == "lbfgs":
        lean["history"] = min(3, recipe.history)
    others = []
    if size := largest_size(shape, recipe, memory):
        others.append(f"--size {size}")
    others += [
        " ".join(f"--set {name}={x}" for name, x in changes.items())
        for changes in (on_host, lean)
        if least(recipe.replace(**changes)) <= memory
    ]
    use = " or ".join(others) or "another machine"
    return (
        f"expected {in_gigabytes(least(recipe))} of memory for {shape[1]} x {shape[0]} "
        f"px, got {in_gigabytes(memory)}; use {use}"
    )


def in_gigabytes(count: int) -> str:
    """A number of bytes for people.

    Example:
        >>> in_gigabytes(1_540_000_000)
        '1.5 GB'
    """
    return f"{count / 1e9:.1f} GB"
