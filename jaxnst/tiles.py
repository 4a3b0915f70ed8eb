"""Exact losses and gradients, tile by tile, of pictures that do not fit into memory.

The loss depends on the features only through sums over positions (`Summary`). So it is
computed in two passes over overlapping tiles. The first pass adds up the sums, then
gives the loss and its gradient with respect to the sums. The second pass takes that
gradient back through the network. Each position belongs to one tile, whose halo covers
the position's receptive field. The position's weight is 1 in this tile and 0 in all
others. Tiles end where the picture ends, so they are padded like the picture. The
result is that of the whole picture, up to rounding.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Int, PyTree

from jaxnst.compiled import kept_jit
from jaxnst.masks import layer_weights
from jaxnst.network.vgg import Backbone, channels, deepest, receptive_field, stride
from jaxnst.objective import (
    StyleSummary,
    Summary,
    Targets,
    Terms,
    compare,
    layer_names,
    measure,
    normalize_summary,
    summarize,
    summarize_style,
)
from jaxnst.pictures.canvas import extend
from jaxnst.recipes import Program
from jaxnst.storage import Stored, StoredFeatures, put, stored_zeros, take
from jaxnst.types import Feature, Features, Image, Mask, Scalar


class Tile(NamedTuple):
    """A tile's first pixel, and the pixels [first, end) it owns along each axis."""

    start: Int[Array, "*_n 2"]
    owned: Int[Array, "*_n 2 2"]


class Tiles(NamedTuple):
    """Tiles of a picture: their shape, halo included, and the fields of each `Tile`."""

    shape: tuple[int, int]
    starts: Int[np.ndarray, "_n 2"]
    owned: Int[np.ndarray, "_n 2 2"]

    def cut(self, image: Image, tile: Tile) -> Image:
        """The pixels of a tile."""
        return take(image, (*tile.start, 0), (*self.shape, 3))


@cache
def halo(layers: tuple[str, ...]) -> int:
    """Margin around a tile's own pixels, in pixels: a multiple of the largest stride.

    Example:
        >>> halo(("relu5_1",)), halo(("relu1_1", "relu4_2"))
        (80, 40)
    """
    step = stride(deepest(layers))
    beyond = max((receptive_field(layer) - stride(layer)) / 2 for layer in layers)
    return math.ceil(beyond / step) * step


@cache
def smallest_tile(layers: tuple[str, ...]) -> int:
    """Smallest size of tiles, in pixels, whatever the size of the picture.

    The part that such a tile owns is about as wide as its halo on one side.
    """
    return 3 * halo(layers) + 2 * stride(deepest(layers))


def plan_tiles(shape: tuple[int, ...], layers: tuple[str, ...], size: int) -> Tiles:
    """Divide a picture into as few tiles as possible, each as small as possible.

    Tiles start at multiples of the deepest layer's stride, so that they pool the same
    pixels as the whole picture. Modulo this stride, each side of a tile equals the same
    side of the picture. All tiles are inside the picture. No side of a tile, halo
    included, is longer than `size`. A `size` below `smallest_tile` raises a ValueError.

    Example:
        >>> tiles = plan_tiles((100, 1000), ("relu5_1",), size=512)
        >>> tiles.shape, tiles.starts.tolist()
        ((100, 456), [[0, 0], [0, 272], [0, 544]])
        >>> tiles.owned[:, 1].tolist()
        [[0, 352], [352, 624], [624, 1000]]
    """
    (h, rows), (w, columns) = (_along(side, layers, size) for side in shape[:2])
    both = [(row, column) for row in rows for column in columns]
    return Tiles(
        shape=(h, w),
        starts=np.array([(row[0], column[0]) for row, column in both]),
        owned=np.array([(row[1:], column[1:]) for row, column in both]),
    )


def tile_shape(
    shape: tuple[int, ...], layers: tuple[str, ...], size: int
) -> tuple[int, int]:
    """Height and width of the tiles that `plan_tiles` makes."""
    height, width = (_along(side, layers, size)[0] for side in shape[:2])
    return height, width


def _along(
    length: int, layers: tuple[str, ...], size: int
) -> tuple[int, list[tuple[int, int, int]]]:
    """Length of the tiles along an axis, and for each its start and what it owns."""
    least = smallest_tile(layers)
    if size < least:
        raise ValueError(
            f"expected tiles of at least {least} px for {deepest(layers)}, got {size}"
        )
    if length <= size:
        return length, [(0, 0, length)]
    # In strides: the picture has `whole` of them, and a remainder.
    step, beyond = stride(deepest(layers)), halo(layers)
    whole, rest = divmod(length, step)
    margin, largest = 2 * beyond // step, (size - rest) // step
    gaps = math.ceil((whole - largest) / (largest - margin))
    tile = step * math.ceil((whole + margin * gaps) / (gaps + 1)) + rest
    free = (length - tile) // step
    starts = [step * (i * free // gaps) for i in range(gaps + 1)]
    bounds = [0, *(start + beyond for start in starts[1:]), length]
    return tile, list(zip(starts, bounds, bounds[1:], strict=False))


def tile_mesh() -> Mesh | None:
    """This process's devices, as a mesh with an axis `tile`. None for one device."""
    devices = jax.local_devices()
    return Mesh(np.array(devices), ("tile",)) if len(devices) > 1 else None


@dataclass(frozen=True)
class Tiled:
    """Computes `objective.objective` tile by tile: the same loss, terms and gradients.

    Pass it to `make_transfer` as `objective`. Tiles cost a second forward pass, and the
    work for the halos.

    Attributes:
        size: Upper limit of the sides of a tile, in pixels, halo included.
        mesh: Mesh with one axis, `tile`: the devices that share the tiles. Each device
            holds the whole picture; summaries and gradients are summed. Default: one
            device.

    Example:
        >>> import jaxnst
        >>> recipe = jaxnst.get_recipe("painterly")
        >>> transfer = jaxnst.make_transfer(recipe.program, objective=Tiled(size=1024))
    """

    size: int
    mesh: Mesh | None = None

    def __call__(
        self, image: Image, backbone: Backbone, targets: Targets, program: Program
    ) -> tuple[Scalar, Terms]:
        """Compute the loss of an image, and its terms; raise as `check_additive`."""
        check_additive(program)
        image = extend(image, targets.extent)
        tiles = plan_tiles(image.shape, program.layers, self.size)
        # `compare` computes the agreement pixel by pixel, so it needs no tiles.
        summed = targets._replace(agreement=None)
        summary = _summary(image, backbone, summed, program, tiles, self.mesh)
        return compare(summary, image, targets, program)


def check_additive(program: Program) -> None:
    """Raise a ValueError unless a program can paint a picture in tiles."""
    if program.normalize_gradients:
        raise ValueError(
            "expected a recipe without normalize_gradients for a picture in tiles; "
            "leave that option out, or use a smaller size"
        )
    if not program.additive:
        content, style, _ = program.losses
        name = (style if content.additive else content).name
        raise ValueError(
            f"expected losses that are sums over positions for a picture in tiles, got "
            f"{name}; use another loss, or a smaller size"
        )


def _summary(
    image: Image,
    backbone: Backbone,
    targets: Targets,
    program: Program,
    tiles: Tiles,
    mesh: Mesh | None,
) -> Summary:
    """The summary of an image, differentiable with respect to the image."""
    constants, part = (backbone, targets), partial(_summarize, program)

    def part_of(tile: Tile, image: Image, constants: Any) -> Summary:
        return part(tile, constants, tiles.cut(image, tile))

    def add_grad(
        total: Image, tile: Tile, image: Image, constants: Any, cotangent: Summary
    ) -> Image:
        _, pullback = jax.vjp(partial(part, tile, constants), tiles.cut(image, tile))
        (grad,) = pullback(cotangent)
        return put(total, tiles.cut(total, tile) + grad, (*tile.start, 0))

    @jax.custom_vjp
    def summary(image: Image) -> Summary:
        return _total(part_of, tiles, (image, constants), mesh)

    def backward(image: Image, cotangent: Summary) -> tuple[Image]:
        arrays = image, constants, cotangent
        return (_fold(add_grad, jnp.zeros_like(image), tiles, arrays, mesh),)

    summary.defvjp(lambda image: (summary(image), image), backward)
    return cast(Summary, summary(image))


def _summarize(
    program: Program, tile: Tile, constants: tuple[Backbone, Targets], pixels: Image
) -> Summary:
    """Summary of a tile, to be added to the summary of the picture."""
    backbone, targets = constants
    content, shape = targets.content, pixels.shape
    weights = partial(_weights, tile, shape, program.layers)
    extent = None if targets.extent is None else targets.extent - tile.start
    own = targets._replace(
        content={layer: _cut(x, tile, shape, layer) for layer, x in content.items()},
        regions=tuple(x._replace(weights=weights(x.weights)) for x in targets.regions),
        held=weights(targets.held),
        extent=extent,
    )
    owned = _owned(tile, shape, 1).astype(jnp.float32)
    return summarize(pixels, backbone, own, program, owned)


def _weights(
    tile: Tile,
    shape: tuple[int, ...],
    layers: tuple[str, ...],
    whole: Mapping[str, Mask],
) -> dict[str, Mask]:
    """Weights of a tile's positions, by layer: 0 where another tile owns them.

    Elsewhere they are those of the whole picture, or 1 at a layer without weights.
    """

    def cut(layer: str) -> Mask:
        owned = _owned(tile, shape, stride(layer)).astype(jnp.float32)
        if layer not in whole:
            return owned
        return owned * _cut(whole[layer], tile, shape, layer)

    return {layer: cut(layer) for layer in layers}


def _owned(tile: Tile, shape: tuple[int, ...], step: int) -> Bool[Array, "_h _w 1"]:
    """Mask of the positions that a tile of a shape owns, at a layer's stride `step`."""

    def along(axis: int) -> Bool[Array, "_n"]:
        place = tile.start[axis] // step + jnp.arange(shape[axis] // step)
        first, end = tile.owned[axis, 0], tile.owned[axis, 1]
        # The last tile of an axis owns up to the end, where a stride may be incomplete.
        return (place >= first // step) & (place < -(-end // step))

    return along(0)[:, None, None] & along(1)[None, :, None]


def _place(tile: Tile, layer: str) -> tuple:
    """Where a tile's feature begins in the picture's feature, at a layer."""
    return (*(tile.start // stride(layer)), 0)


def _cut(whole: Stored, tile: Tile, shape: tuple[int, ...], layer: str) -> Feature:
    """The part of a layer's array that a tile of a shape covers."""
    step = stride(layer)
    part = shape[0] // step, shape[1] // step, whole.shape[-1]
    return take(whole, _place(tile, layer), part)


def _fold(
    add: Callable[..., PyTree],
    total: PyTree,
    tiles: Tiles,
    arrays: tuple[PyTree, ...] = (),
    mesh: Mesh | None = None,
) -> PyTree:
    """Fold `add` over tiles, one after another on each device, from a zero total."""

    def fold(total: PyTree, rows: Tile, arrays: tuple[PyTree, ...]) -> PyTree:
        step = lambda total, tile: (add(total, tile, *arrays), None)
        return jax.lax.scan(step, total, rows)[0]

    rows = Tile(jnp.asarray(tiles.starts), jnp.asarray(tiles.owned))
    if mesh is None:
        return fold(total, rows, arrays)
    # Add tiles that own nothing, so that all devices get the same number.
    missing = -len(tiles.starts) % mesh.size
    rows = jax.tree.map(
        lambda x: jnp.pad(x, ((0, missing), *((0, 0) for _ in x.shape[1:]))), rows
    )
    each, everywhere = PartitionSpec("tile"), PartitionSpec()
    return jax.shard_map(
        lambda *args: jax.lax.psum(fold(*args), "tile"),
        mesh=mesh,
        in_specs=(everywhere, each, everywhere),
        out_specs=everywhere,
        check_vma=False,
    )(total, rows, arrays)


@kept_jit("program", "size", name="the targets")
def measure_content(
    backbone: Backbone,
    content: Image,
    content_strength: Mask | None = None,
    *,
    program: Program,
    size: int,
) -> StoredFeatures:
    """`objective.measure_content` of a large content, in tiles of at most `size` px."""
    layers, loss = layer_names(program.content_layers), program.losses.content
    held = layer_weights(content_strength, layers)
    tiles = plan_tiles(content.shape, layers, size)

    def see(tile: Tile) -> Features:
        return measure(backbone, tiles.cut(content, tile), program, layers)

    def statistics_of(tile: Tile) -> dict[str, Any]:
        feats = see(tile)
        weights = _weights(tile, tiles.shape, layers, held)
        return {layer: loss.measure(x, weights[layer]) for layer, x in feats.items()}

    def write(whole: StoredFeatures, tile: Tile) -> StoredFeatures:
        written = {}
        for layer, feat in see(tile).items():
            old = _cut(whole[layer], tile, tiles.shape, layer)
            owned = _owned(tile, tiles.shape, stride(layer))
            new = jnp.where(owned, loss.prepare(feat, statistics[layer]), old)
            written[layer] = put(whole[layer], new, _place(tile, layer))
        return written

    def empty(layer: str) -> Stored:
        h, w = (side // stride(layer) for side in content.shape[:2])
        return stored_zeros((h, w, channels(layer)), program.state_dtype)

    # Each tile is prepared and stored at once, so the whole is never in float32.
    statistics = _total(statistics_of, tiles)
    return _fold(write, {layer: empty(layer) for layer in layers}, tiles)


@kept_jit("program", "size", name="the targets")
def measure_style(
    backbone: Backbone,
    style: Image,
    mask: Mask | None = None,
    *,
    program: Program,
    size: int,
) -> StyleSummary:
    """`objective.measure_style` of a large picture, in tiles of at most `size` px."""
    layers = layer_names(program.style_layers)
    shown = layer_weights(mask, layers)
    tiles = plan_tiles(style.shape, layers, size)

    def part(tile: Tile) -> StyleSummary:
        weights = _weights(tile, tiles.shape, layers, shown)
        return summarize_style(backbone, tiles.cut(style, tile), weights, program)

    return normalize_summary(_total(part, tiles), program)


def _total(
    part: Callable[..., PyTree],
    tiles: Tiles,
    arrays: tuple[PyTree, ...] = (),
    mesh: Mesh | None = None,
) -> PyTree:
    """The sum of `part(tile, *arrays)` over tiles."""
    first = Tile(jnp.asarray(tiles.starts[0]), jnp.asarray(tiles.owned[0]))
    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(part, first, *arrays))
    add = lambda total, *given: jax.tree.map(jnp.add, total, part(*given))
    return _fold(add, zero, tiles, arrays, mesh)
