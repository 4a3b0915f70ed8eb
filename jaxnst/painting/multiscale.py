"""Coarse to fine: the driver that paints one picture."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.sharding import (
    Mesh,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)
from jaxtyping import Array, Float

from jaxnst import tiles
from jaxnst.network.calibrate import accelerate, calibrate
from jaxnst.network.vgg import Backbone
from jaxnst.objective import (
    Targets,
    blend_styles,
    check_blend,
    measure_content,
    measure_style,
    objective,
    weigh,
)
from jaxnst.optimizers import LbfgsState, map_moments, without_history
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.painting.inputs import initial_image
from jaxnst.painting.memory import choose_tile, process_bytes, usable_memory
from jaxnst.painting.scales import (
    check_content,
    content_size,
    scale_shapes,
    scale_steps,
    style_shape,
)
from jaxnst.pictures.color import match_palette
from jaxnst.pictures.files import image_shape, load_image
from jaxnst.pictures.geometry import resize
from jaxnst.process import forget_programs, single_threaded_lapack
from jaxnst.recipes import Recipe
from jaxnst.storage import dtype_of, restore, store
from jaxnst.tiles import smallest_tile
from jaxnst.transfer import Info, State, make_transfer, picture, run
from jaxnst.types import Image


class Progress(NamedTuple):
    """What is known between two chunks of steps.

    Attributes:
        scale: Index of the scale, coarsest first.
        shapes: Height and width of every scale.
        taken: Steps taken at this scale.
        steps: Steps that will be taken at this scale.
        state: The state; gone once the callback returns, so copy what must stay.
        info: Infos of the last chunk.
        tiles: Size of the tiles of every scale; None where it is painted at once.
    """

    scale: int
    shapes: list[tuple[int, int]]
    taken: int
    steps: int
    state: State
    info: Info
    tiles: list[int | None]


class Result(NamedTuple):
    """A finished picture.

    Attributes:
        image: RGB in [0, 1], h w 3.
        state: The last state.
        infos: Infos of all steps taken in this call, one entry for each scale.
        status: `done`, or `diverged` if a step was not finite; the image is then the
            last one that was.
        seconds: Wall-clock time of each scale, compilation included.
        tiles: Size of the tiles of each scale; None where it was painted at once.
    """

    image: Image
    state: State
    infos: list[Info]
    status: Literal["done", "diverged"]
    seconds: list[float]
    tiles: list[int | None]


def load_content(path: Path, size: int | None, recipe: Recipe) -> Image:
    """Read the content in the size asked for, or by the recipe's rule."""
    size = size or content_size(image_shape(path), recipe)
    return load_image(path, size=size, enlarge=True)


def load_style(path: Path, content: tuple[int, ...], recipe: Recipe) -> Image:
    """Read a style as large as it is looked at beside a content of that size."""
    native = image_shape(path)
    looked_at = style_shape(native, (content[0], content[1]), recipe)
    # Squashed to the content's shape, neither edge is to be enlarged without need.
    ratio = max(x / y for x, y in zip(looked_at, native, strict=True))
    return load_image(path, size=math.ceil(ratio * max(native)))


@partial(jax.jit, static_argnames="recipe")
def resize_state(recipe: Recipe, state: State, detail: Image) -> State:
    """Carry a state over to the next scale.

    The image is the picture so far, enlarged. Adam's moments are enlarged and its step
    count is kept, so it goes on at once with sensible step sizes. L-BFGS starts anew,
    since its history is about another function, but with the curvature it has seen: a
    loss that is a mean over pixels is the less curved in each, the more there are.

    Args:
        recipe: A `Recipe.program`.
        state: The last state of the scale before.
        detail: What is added to the image, of the shape of the next scale.

    Returns:
        The first state of the next scale.
    """
    shape = (detail.shape[0], detail.shape[1])
    image = jnp.clip(resize(picture(state, recipe), shape) + detail, 0, 1)
    fresh = make_transfer(recipe).init(image)
    if recipe.optimizer == "lbfgs":
        before, begun = cast(list[LbfgsState], [state.opt_state, fresh.opt_state])
        scale = before.scale * image.size / state.image.size
        scale = jnp.where(before.count > 0, scale, begun.scale)
        return fresh._replace(opt_state=begun._replace(scale=scale))
    opt_state = map_moments(
        lambda moment: store(
            resize(restore(moment), shape, method="linear"), dtype_of(moment)
        ),
        state.opt_state,
    )
    return fresh._replace(opt_state=opt_state)


def prepare_backbone(backbone: Backbone, recipe: Recipe) -> tuple[Backbone, Backbone]:
    """The network as a recipe wants it: to measure with, and to take many steps with.

    The second one is in the type that the recipe computes in. If that is float32, on a
    CPU, it has prepared kernels, and shares the first one's plain ones.
    """
    backbone = calibrate(backbone, recipe.activations)
    if jax.default_backend() == "cpu" and recipe.dtype == "float32":
        return backbone, accelerate(backbone, recipe.layers)
    cast = lambda x: x.astype(recipe.dtype)
    params = jax.tree.map(cast, backbone.params)
    return backbone, dataclasses.replace(backbone, params=params)


def scale_content(content: Image, shape: tuple[int, int]) -> Image:
    """A content, or a start image, at the size of a scale."""
    return jnp.clip(resize(content, shape=shape), 0, 1)


def scale_detail(
    content: Image, before: tuple[int, int], shape: tuple[int, int], recipe: Recipe
) -> Image:
    """What a recipe adds of a content where the image is enlarged to a scale."""
    if recipe.detail == 0:
        return jnp.zeros((*shape, 3))
    coarse = resize(scale_content(content, before), shape)
    return recipe.detail * (scale_content(content, shape) - coarse)


def scale_styles(
    styles: Sequence[Image], shape: tuple[int, int], recipe: Recipe
) -> list[Image]:
    """Styles as large as they are measured beside a content of that size."""
    return [
        resize(style, shape=style_shape(style.shape[:2], shape, recipe))
        for style in styles
    ]


def measure_targets(
    backbone: Backbone,
    content: Image,
    styles: Sequence[Image],
    recipe: Recipe,
    *,
    blend: Float[Array, "_n"] | None = None,
    tile: int | None = None,
) -> Targets:
    """`objective.make_targets`, by tiles of that size if there is one.

    So is a style that would take more memory than a step does.
    """
    program = recipe.program
    if tile is None:
        feats = measure_content(backbone, content, program)
    else:
        feats = tiles.measure_content(backbone, content, program, tile)
        # Or it would go on beside what comes next, and take its memory as well.
        jax.block_until_ready(feats)
    # Measuring takes half as much for each pixel as a step does.
    enough = 2 * math.prod(content.shape[:2])
    parts = tile or max(math.isqrt(enough), smallest_tile(recipe.layers))
    found = [
        measure_style(backbone, style, program)
        if tile is None and math.prod(style.shape[:2]) <= enough
        else jax.block_until_ready(tiles.measure_style(backbone, style, program, parts))
        for style in styles
    ]
    shapes = [style.shape for style in styles]
    return weigh(feats, blend_styles(found, shapes, program, blend=blend), recipe)


@single_threaded_lapack
def stylize(
    backbone: Backbone,
    content: Image,
    styles: Sequence[Image],
    recipe: Recipe,
    *,
    key: Array,
    blend: Float[Array, "_n"] | None = None,
    init: Image | None = None,
    resume: Checkpoint | None = None,
    memory: int | None = None,
    mesh: Mesh | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
    chunk: int = 50,
    throw: bool = True,
) -> Result:
    """Paint a picture in the style of one or more others.

    Args:
        backbone: From `load_backbone`.
        content: RGB in [0, 1], h w 3; the result has its size.
        styles: One or more RGB images of any size.
        recipe: What to minimise and how.
        key: Random key of the start image; unused by recipes that start from the
            content.
        blend: Weight of each style. Default: equal weights.
        init: Start image of any size. Default: as the recipe says.
        resume: Checkpoint of the same run to go on from.
        memory: Bytes that this process may take. A scale that takes more is painted in
            tiles, with the same result up to rounding. Default: what is free.
        mesh: Devices with one axis, `tile`, to spread tiles over.
        on_chunk: Called between chunks of steps, for progress, previews, checkpoints.
            An exception it raises, such as KeyboardInterrupt, ends the run.
        chunk: Steps between two calls, at most; there is one at each multiple of it.
        throw: Raise when a step was not finite. Otherwise the result says so.

    Returns:
        The result.

    Raises:
        ValueError: If an image is too small, `blend` does not match the styles, or the
            memory is not enough even in tiles.
        FloatingPointError: If a step was not finite and `throw` is set.

    Example:
        >>> import jax, jaxnst
        >>> backbone = jaxnst.load_backbone("embedded")
        >>> content, style = jaxnst.sample("harbour", 48), jaxnst.sample("swirls", 48)
        >>> recipe = jaxnst.get_recipe("painterly").replace(first_steps=2)
        >>> result = stylize(
        ...     backbone, content, [style], recipe, key=jax.random.key(0)
        ... )
        >>> result.image.shape
        (36, 48, 3)
    """
    if not styles:
        raise ValueError("expected at least one style, got none")
    if blend is not None:
        check_blend(blend, len(styles))
    check_content(content.shape, recipe)
    shapes = scale_shapes(content.shape[:2], recipe)
    host = device = None
    if recipe.state_memory == "host":
        host = SingleDeviceSharding(jax.devices("cpu")[0])
        device = jax.tree.leaves(backbone)[0].sharding
    content, styles, init = jax.device_put((content, list(styles), init), host)
    memory = usable_memory() if memory is None else memory
    # The finest first, since it is the one that may not fit.
    sizes = [choose_tile(shape, recipe, memory) for shape in reversed(shapes)][::-1]
    if resume is not None:
        sizes = [
            before if process_bytes(shape, recipe, before) <= memory else tile
            for shape, before, tile in zip(shapes, resume.tiles, sizes, strict=True)
        ]
    backbone, stepping = prepare_backbone(backbone, recipe)
    plan = scale_steps(recipe, len(shapes))
    state: State | None = None
    infos: list[Info] = []
    seconds: list[float] = []
    for scale, (shape, steps) in enumerate(zip(shapes, plan, strict=True)):
        if resume is not None and scale < resume.scale:
            continue
        start = time.perf_counter()
        tile = sizes[scale]
        if tile is not None:
            # Those of the scales before are of no more use, and together take as much
            # as a tile.
            forget_programs()
        transfer = make_transfer(
            recipe, objective=objective if tile is None else tiles.Tiled(tile, mesh)
        )
        recoloured = content
        if recipe.palette == "style":
            # Anew for each scale: it takes less time than keeping it takes memory.
            recoloured = match_palette(content, list(styles), blend=blend)
        scaled = scale_content(recoloured, shape)
        scaled_styles = scale_styles(styles, shape, recipe)
        taken = 0
        if resume is not None and scale == resume.scale:
            # A copy, since the first step takes its memory.
            state = jax.device_put(resume.state, host, may_alias=False)
            state = cast(State, state)
            taken = resume.taken
            if taken == steps:
                continue
        elif state is None:
            start_image = (
                scale_content(init, shape)
                if init is not None
                else initial_image(
                    key, scaled, scaled_styles, kind=recipe.init, deviation=recipe.noise
                )
            )
            # Compiled, so that all of the state is where the image is.
            state = cast(State, jax.jit(transfer.init)(start_image))
            del start_image
        else:
            state = state._replace(opt_state=without_history(state.opt_state))
            detail = scale_detail(recoloured, shapes[scale - 1], shape, recipe)
            state = cast(State, resize_state(recipe.program, state, detail))
            del detail
        del recoloured
        scaled, scaled_styles = jax.device_put((scaled, scaled_styles), device)
        targets = measure_targets(
            backbone, scaled, scaled_styles, recipe, blend=blend, tile=tile
        )
        # From here on, their memory and that of the scale before is free.
        del scaled, scaled_styles
        if tile is not None and mesh is not None:
            # Where the step leaves its results, or it would compile once more for them.
            everywhere = NamedSharding(mesh, PartitionSpec())
            stepping, targets = jax.device_put((stepping, targets), everywhere)
            if host is None:
                state = cast(State, jax.device_put(state, everywhere))

        def report(state: State, info: Info, scale=scale, steps=steps) -> None:
            nonlocal taken
            taken += len(info.loss)
            if on_chunk is not None:
                on_chunk(Progress(scale, shapes, taken, steps, state, info, sizes))

        state, info = run(
            transfer,
            state,
            stepping,
            targets,
            steps=steps - taken,
            start=taken,
            chunk=chunk,
            host=host,
            on_chunk=report,
        )
        infos.append(info)
        seconds.append(time.perf_counter() - start)
        if not info.finite.all():
            if throw:
                step = taken - len(info.finite) + int(info.finite.argmin()) + 1
                raise FloatingPointError(
                    f"step {step} at {shape[1]} x {shape[0]} px was not finite; lower "
                    "the learning rate or the loss weights, or use throw=False to keep "
                    "the last finite image"
                )
            return Result(
                picture(state, recipe), state, infos, "diverged", seconds, sizes
            )
    assert state is not None  # there is always one scale
    return Result(picture(state, recipe), state, infos, "done", seconds, sizes)
