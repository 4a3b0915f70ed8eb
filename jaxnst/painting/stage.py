"""A stage of a run: scale its pictures, measure them, begin, and lay the patches.

Pure functions of one picture. What is compiled is called by a `Runner`: a `Preparer`
in its place compiles the same programs ahead of time.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxnst import tiles
from jaxnst.compiled import Runner, kept_jit
from jaxnst.masks import fit_mask
from jaxnst.network.calibrate import accelerate, calibrate
from jaxnst.network.vgg import Backbone
from jaxnst.objective import (
    StyleSummary,
    StyleTarget,
    Targets,
    assemble_targets,
    even_blend,
    measure_content,
    measure_style,
    prepare_styles,
    style_ranks,
)
from jaxnst.painting import inputs
from jaxnst.painting.plan import Stage
from jaxnst.painting.scales import style_shape
from jaxnst.painting.scene import (
    Region,
    Scene,
    Style,
    compose,
    first_image,
    fit_masks,
    keep,
)
from jaxnst.pictures.canvas import Canvas, exact, shared, square
from jaxnst.pictures.geometry import crop_like, crop_middle, resize
from jaxnst.process import COMPILE_FAST
from jaxnst.recipes import Program, Recipe
from jaxnst.repaint import Layout, lay_levels, level_shapes, make_levels, make_paint
from jaxnst.repaint.bank import Styles
from jaxnst.storage import StoredFeatures
from jaxnst.tiles import smallest_tile
from jaxnst.transfer import State, Transfer, current_image
from jaxnst.types import Image


def canvas_of(stage: Stage, recipe: Recipe, *, turned: bool = False) -> Canvas:
    """The canvas of a stage."""
    height, width = stage.shape
    return canvas_for((width, height) if turned else stage.shape, recipe)


def canvas_for(shape: tuple[int, int], recipe: Recipe) -> Canvas:
    """The canvas of a picture: one of its own if it is higher than wide."""
    wide = shape[0] <= shape[1]
    return shared(shape) if wide and recipe.program.shares_canvases else exact(shape)


def most_pixels(stages: Sequence[Stage], canvas: Callable[[Stage], Canvas]) -> int:
    """Those of the largest canvas on which steps are taken, see `prepare_backbone`."""
    return max((math.prod(canvas(x).size) for x in stages if x.steps), default=0)


def prepare_backbone(
    backbone: Backbone,
    program: Program,
    *,
    pixels: int | float = math.inf,
    turned: bool = False,
) -> tuple[Backbone, Backbone]:
    """The network with a program's activations: to measure with, and to step with.

    The second has the program's dtype. In float32 on a CPU, it holds prepared kernels
    as well, those that pay for pictures of so many pixels, and shares the plain ones
    with the first. For pictures that are turned, the kernels are.
    """
    layers = program.layers
    if turned:
        flip = lambda x: np.swapaxes(np.asarray(x), 0, 1) if x.ndim == 4 else x
        params = jax.device_put(jax.tree.map(flip, backbone.params))
        backbone = dataclasses.replace(backbone, params=params)
    backbone = calibrate(backbone, program.activations)
    if jax.default_backend() == "cpu" and program.dtype == "float32":
        return backbone, accelerate(backbone, layers, pixels)
    cast = lambda x: x.astype(program.dtype)
    params = jax.tree.map(cast, backbone.params)
    return backbone, dataclasses.replace(backbone, params=params)


def scale(scene: Scene, content: Image, canvas: Canvas, recipe: Recipe) -> Scene:
    """A scene at the size of a stage, with a content in other colours; on the host."""
    shape, sample = canvas.shape, inputs.resizer(recipe)

    def small(style: Style) -> Style:
        native = style.image.shape[:2]
        size = style_shape(native, shape, recipe, style.stroke_scale)
        mask = None if style.mask is None else fit_mask(style.mask, size)
        return style._replace(image=np.asarray(sample(style.image, size)), mask=mask)

    scene = fit_masks(scene, shape)
    regions = [x._replace(styles=[*map(small, x.styles)]) for x in scene.regions]
    drawn = np.clip(sample(content, shape), 0, 1)
    scene = scene._replace(content=drawn, regions=tuple(regions))
    if not recipe.look.repaint:
        return scene

    def paint(region: Region) -> list[Styles]:
        images, masks = zip(*((x.image, x.mask) for x in region.styles), strict=True)
        own = canvas_for(shape, recipe)
        return make_paint(images, masks, region.blend, own, turned=scene.turned)

    return scene._replace(paint=tuple(map(paint, regions)))


def measure(
    call: Runner,
    backbone: Backbone,
    scene: Scene,
    canvas: Canvas,
    recipe: Recipe,
    *,
    tile: int | None = None,
    content: StoredFeatures | None = None,
    styles: Sequence[StyleTarget] | None = None,
) -> Targets:
    """What the image of a stage is compared with.

    Args:
        call: Calls the programs.
        backbone: To measure with.
        scene: Of the stage.
        canvas: Likewise.
        recipe: What to measure.
        tile: Size of the tiles that it is measured in. Default: at once.
        content: From `measure_drawing`, if it is measured already.
        styles: From `measure_styles` of each region, likewise.

    Returns:
        The targets.
    """
    given, options = (call, backbone), {"tile": tile}
    if content is None:
        content = measure_drawing(*given, scene, canvas, recipe, **options)
    if styles is None:
        measured = lambda x: measure_styles(*given, x, canvas, recipe, **options)
        styles = [measured(region) for region in scene.regions]
    masks = [canvas.mask(region.mask) for region in scene.regions]
    places = ("content_strength", "paint_mask")
    masked = {name: canvas.mask(getattr(scene, name)) for name in places}
    pairs = list(zip(styles, masks, strict=True))
    targets = assemble_targets(content, pairs, recipe, canvas, **masked)
    return call.host(lambda: jax.device_put(targets), targets)


def measure_drawing(
    call: Runner,
    backbone: Backbone,
    scene: Scene,
    canvas: Canvas,
    recipe: Recipe,
    *,
    tile: int | None = None,
) -> StoredFeatures:
    """The features of the content that an image is compared with."""
    given = backbone, canvas.place(scene.content), canvas.mask(scene.content_strength)
    if tile is None:
        return call(measure_content, *given, program=recipe.program)
    feats = call(tiles.measure_content, *given, program=recipe.program, size=tile)
    # Wait, or it would run and hold memory while the styles are measured.
    return jax.block_until_ready(feats)


def measure_styles(
    call: Runner,
    backbone: Backbone,
    region: Region,
    canvas: Canvas,
    recipe: Recipe,
    *,
    tile: int | None = None,
) -> StyleTarget:
    """What a region is compared with.

    A style that would take more memory than a step on the content is measured in tiles.
    """
    program, loss = recipe.program, recipe.program.losses.style
    enough = 2 * math.prod(canvas.size)
    parts = tile or max(math.isqrt(enough), smallest_tile(program.layers))
    shapes = []

    def summarize(style: Style) -> StyleSummary:
        image, mask = style.image, style.mask
        own = exact(image.shape)
        if canvas.part is not None:
            edge = max(
                style_shape((2**16, 2**16), canvas.size, recipe, style.stroke_scale)
            )
            own = square(image.shape, edge)
        small = tile is None and math.prod(own.size) <= enough
        if loss.summarize_against is not None and math.prod(own.size) > parts**2:
            crop = lambda x: None if x is None else crop_middle(x, parts**2)
            image, mask = crop_middle(image, parts**2), crop(mask)
            own = exact(image.shape)
        shapes.append(own.size)
        given = backbone, own.place(image), own.mask(mask)
        if small or not loss.additive or loss.summarize_against is not None:
            return call(measure_style, *given, program=program)
        found = call(tiles.measure_style, *given, program=program, size=parts)
        return jax.block_until_ready(found)

    summaries = [summarize(style) for style in region.styles]
    blend = even_blend(region.blend, len(summaries))
    ranks = style_ranks(shapes, program)
    return call(prepare_styles, summaries, blend, program=program, ranks=ranks)


@kept_jit("transfer", name="the start", compiler_options=COMPILE_FAST)
def init(image: Image, *, transfer: Transfer) -> State:
    """`transfer.init`."""
    return transfer.init(image)


def first_picture(
    scene: Scene, scaled: Scene, start: Image | Array, canvas: Canvas, recipe: Recipe
) -> Float[np.ndarray, "_h _w 3"]:
    """The image that a run begins with, on its canvas.

    Args:
        scene: Of the run.
        scaled: Of the stage.
        start: The start image, of any size, or the random key of one.
        canvas: Of the stage.
        recipe: How it is painted.

    Returns:
        The canvas.
    """
    if start.ndim == 3:
        image = inputs.scale_content(crop_like(start, canvas.shape), canvas.shape)
    else:
        image = first_image(start, scaled, recipe)
    return canvas.place(keep(scaled, image, scene.content))


def next_picture(
    image: Image, content: Image, canvas: Canvas, recipe: Recipe
) -> Float[np.ndarray, "_h _w 3"]:
    """The image of a scale, enlarged to the canvas of the next.

    Args:
        image: That of the scale before.
        content: Of the run, in the colours that it is painted in.
        canvas: Of the next scale.
        recipe: For the detail of the content that is added.

    Returns:
        The canvas.
    """
    before, shape = (image.shape[0], image.shape[1]), canvas.shape
    larger, detail = inputs.resizer(recipe)(image, shape), np.float32(0)
    if recipe.look.detail:  # a part of what the scale before cannot show
        coarse = resize(inputs.scale_content(content, before), shape)
        finer = inputs.scale_content(content, shape) - coarse
        detail = np.float32(recipe.look.detail) * finer
    return canvas.place(np.clip(larger + detail, 0, 1))


def image_of(state: State, program: Program) -> Float[np.ndarray, "*_lanes _h _w 3"]:
    """The picture so far, on the host."""
    return current_image(jax.device_get(state._replace(opt_state=())), program)


def lay(
    call: Runner, scene: Scene, image: Image, recipe: Recipe
) -> Float[np.ndarray, "_h _w 3"]:
    """An image of a stage, laid out of patches of its styles, see `repaint.repaint`."""
    h, w, _ = image.shape
    found = (lay_levels(x, call) for x in layouts(call, scene, image, recipe))
    parts = [call.host(lambda x=x: np.asarray(x)[:h, :w], image) for x in found]
    return compose(scene, image, parts)


def layouts(call: Runner, scene: Scene, image: Image, recipe: Recipe) -> list[Layout]:
    """What is laid out of an image, by region."""
    canvas = canvas_for((image.shape[0], image.shape[1]), recipe)
    ratio, held = recipe.weights.content_ratio, scene.content_strength

    def layout(region: Region, paint: list[Styles]) -> Layout:
        given = image, scene.content, ratio, region.mask, held, paint
        make = partial(make_levels, *given, canvas=canvas, turned=scene.turned)
        return Layout(call.host(make, level_shapes(len(paint), canvas)), paint)

    return list(map(layout, scene.regions, scene.paint))
