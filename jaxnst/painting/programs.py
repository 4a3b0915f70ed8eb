"""The compiled programs of a scale: its pictures and targets, its last image.

Their settings come as a `Recipe.structure`, so that no loss weight recompiles them.
"""

import dataclasses
import math
from functools import partial

import jax
from jaxtyping import Array

from jaxnst import tiles
from jaxnst.network.calibrate import accelerate, calibrate, transform
from jaxnst.network.vgg import Backbone
from jaxnst.objective import (
    RegionTargets,
    StyleSummary,
    Targets,
    blend_styles,
    measure_content,
    measure_style,
    region_targets,
    with_weights,
)
from jaxnst.painting import inputs
from jaxnst.painting.scene import (
    Region,
    Scene,
    Style,
    first_image,
    keep,
    repaint_scene,
    scale_scene,
)
from jaxnst.pictures.geometry import crop_like, crop_middle
from jaxnst.process import COMPILE_FAST
from jaxnst.recipes import Program, Recipe
from jaxnst.tiles import smallest_tile
from jaxnst.transfer import State, Transfer, current_image
from jaxnst.types import Image, Scalar


def prepare_backbone(backbone: Backbone, recipe: Recipe) -> tuple[Backbone, Backbone]:
    """The network with a recipe's activations: to measure with, and to step with.

    The second has the recipe's dtype. In float32 on a CPU, it holds prepared kernels as
    well, and shares the plain ones with the first.
    """
    layers = recipe.layers
    if jax.default_backend() == "cpu" and recipe.dtype == "float32":
        backbone, transforms = transform(backbone, recipe.activations, layers)
        return backbone, accelerate(backbone, layers, transforms)
    backbone = calibrate(backbone, recipe.activations)
    cast = lambda x: x.astype(recipe.dtype)
    params = jax.tree.map(cast, backbone.params)
    return backbone, dataclasses.replace(backbone, params=params)


@partial(
    jax.jit,
    static_argnames=("transfer", "recipe"),
    compiler_options=COMPILE_FAST,
)
def begin_scale(
    scene: Scene,
    scaled: Scene,
    content: Image,
    start: Image | Array,
    state: State | None,
    *,
    transfer: Transfer,
    recipe: Recipe,
) -> State:
    """The state that a scale begins with.

    Args:
        scene: Of the run.
        scaled: That of the scale.
        content: Of the run, in the colours that it is painted in.
        start: The start image, of any size, or the random key of one.
        state: That the scale before ended with. None where the run begins.
        transfer: Of the scale.
        recipe: The structure of the recipe.

    Returns:
        The state.
    """
    shape = scaled.content.shape[0], scaled.content.shape[1]
    if state is None:
        if start.ndim == 3:
            image = inputs.scale_content(crop_like(start, shape), shape)
        else:
            image = first_image(start, scaled, recipe)
        return transfer.init(keep(scaled, image, scene.content))
    before = state.image.shape[0], state.image.shape[1]
    detail = inputs.scale_detail(content, before, shape, recipe)
    return transfer.enlarge(state, detail)


@partial(
    jax.jit,
    static_argnames=("transfer", "recipe"),
    compiler_options=COMPILE_FAST,
)
def repaint_scale(
    scene: Scene,
    photograph: Image,
    state: State,
    content_ratio: float | Scalar,
    *,
    transfer: Transfer,
    recipe: Recipe,
) -> State:
    """Lay the image of a state out of its styles, and begin anew with it.

    Args:
        scene: Of the scale.
        photograph: What stays where nothing is painted, of any size.
        state: Without the optimiser's part.
        content_ratio: Of the recipe.
        transfer: Of the scale.
        recipe: The structure of the recipe.

    Returns:
        The state.
    """
    image = repaint_scene(scene, current_image(state, recipe), content_ratio)
    return transfer.init(keep(scene, image, photograph))


def measure_targets(
    backbone: Backbone, scene: Scene, recipe: Recipe, *, tile: int | None = None
) -> Targets:
    """`objective.make_targets` of a scene, measured in tiles if their size is given.

    A style that would take more memory than a step is measured in tiles, too.
    """
    at_once = tile is None and is_small(scene)
    measure = measure_scene if at_once else _measure
    return measure(backbone, scene, recipe.arrays, program=recipe.program, tile=tile)


def is_small(scene: Scene) -> bool:
    """Whether no style takes more memory to measure than a step on the content."""
    enough = _enough(scene.content.shape)
    styles = [style for region in scene.regions for style in region.styles]
    return all(math.prod(style.image.shape[:2]) <= enough for style in styles)


def _enough(shape: tuple[int, ...]) -> int:
    """Pixels that take as much memory to measure as a step on that shape takes."""
    return 2 * math.prod(shape[:2])


def _measure(
    backbone: Backbone,
    scene: Scene,
    arrays: dict[str, Scalar],
    *,
    program: Program,
    tile: int | None = None,
) -> Targets:
    """The targets of a scene; `arrays` are those of the recipe."""
    content, hold, loss = scene.content, scene.hold, program.losses.style
    if tile is None:
        feats = measure_content(backbone, content, program, hold)
    else:
        feats = tiles.measure_content(backbone, content, program, tile, hold)
        # Wait, or it would run and hold memory while the styles are measured.
        jax.block_until_ready(feats)
    enough = _enough(content.shape)
    parts = tile or max(math.isqrt(enough), smallest_tile(program.layers))

    def summarize(style: Style) -> StyleSummary:
        image, mask = style.image, style.mask
        small = tile is None and math.prod(image.shape[:2]) <= enough
        if loss.match is not None:
            crop = lambda x: None if x is None else crop_middle(x, parts**2)
            image, mask = crop_middle(image, parts**2), crop(mask)
        if small or not loss.additive or loss.match is not None:
            return measure_style(backbone, image, program, mask)
        found = tiles.measure_style(backbone, image, program, parts, mask)
        return jax.block_until_ready(found)

    def measure(region: Region) -> RegionTargets:
        found = [summarize(style) for style in region.styles]
        shapes = [style.image.shape for style in region.styles]
        measured = blend_styles(found, shapes, program, blend=region.blend)
        return region_targets(measured, region.mask, program)

    regions = [measure(region) for region in scene.regions]
    return with_weights(feats, regions, arrays, hold=hold, paint=scene.paint)


measure_scene = jax.jit(
    _measure, static_argnames=("program", "tile"), compiler_options=COMPILE_FAST
)
"""`_measure` as one program, where nothing is measured in tiles."""


scale_pictures = jax.jit(
    scale_scene, static_argnames=("shape", "recipe"), compiler_options=COMPILE_FAST
)
"""`scene.scale_scene` as one program."""


@partial(jax.jit, static_argnames=("shape", "recipe"), compiler_options=COMPILE_FAST)
def measure_scale(
    backbone: Backbone,
    scene: Scene,
    content: Image,
    arrays: dict[str, Scalar],
    *,
    shape: tuple[int, int],
    recipe: Recipe,
) -> tuple[Scene, Targets]:
    """Scale pictures and measure them: `scale_pictures` and `measure_scene` as one.

    It is apart from what makes the state, so that a run that is resumed has the same
    pictures bit for bit.

    Args:
        backbone: To measure with.
        scene: Of the run, its styles small enough at the scale, see `is_small`.
        content: Of the run, in the colours that it is painted in.
        arrays: Of the recipe.
        shape: Height and width of the scale.
        recipe: The structure of the recipe.

    Returns:
        The scene of the scale, and its targets.
    """
    scaled = scale_scene(scene, content, shape, recipe)
    return scaled, _measure(backbone, scaled, arrays, program=recipe.program)
