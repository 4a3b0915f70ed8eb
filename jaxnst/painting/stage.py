"""The parts of a stage: scale its pictures, measure them, prepare their patches.

They are pure functions of one picture. A `Runner` calls their compiled programs; a
`Preparer` in its place compiles the same programs ahead of time.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

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
from jaxnst.painting.plan import Stages
from jaxnst.painting.scales import style_shape
from jaxnst.painting.scene import (
    Region,
    Scene,
    Style,
    fit_masks,
)
from jaxnst.pictures.canvas import Canvas, exact, shared, square
from jaxnst.pictures.geometry import crop_middle, resize, resize_compiled
from jaxnst.process import COMPILE_FAST
from jaxnst.recipes import Program, Recipe
from jaxnst.repaint import Layout, level_shapes, make_levels, make_paint
from jaxnst.repaint.bank import Styles
from jaxnst.storage import StoredFeatures
from jaxnst.tiles import smallest_tile
from jaxnst.transfer import State, Transfer
from jaxnst.types import Image


def canvas_of(
    shape: tuple[int, int], recipe: Recipe, *, turned: bool = False
) -> Canvas:
    """The canvas of a picture: shared, if the recipe allows it and width ≥ height."""
    shape = (shape[1], shape[0]) if turned else shape
    wide = shape[0] <= shape[1]
    return shared(shape) if wide and recipe.program.shares_canvases else exact(shape)


def most_pixels(stages: Stages, canvases: Sequence[Canvas]) -> int:
    """Pixels of the largest canvas that takes steps, see `prepare_backbone`."""
    pairs = zip(stages, canvases, strict=True)
    return max((math.prod(x.size) for stage, x in pairs if stage.steps), default=0)


def prepare_backbone(
    backbone: Backbone,
    program: Program,
    *,
    pixels: int | float = math.inf,
    turned: bool = False,
) -> tuple[Backbone, Backbone]:
    """Two networks with a program's activations: for measuring, and for steps.

    The second network has the program's dtype. In float32 on a CPU, it shares the plain
    kernels with the first network. It also holds prepared kernels, where they save time
    for pictures of `pixels` pixels. If pictures are `turned`, the kernels are, too.
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


def resizer(recipe: Recipe) -> Callable[..., Image]:
    """The function that resamples the pictures of a recipe."""
    return resize if recipe.program.shares_canvases else resize_compiled


def scale(scene: Scene, content: Image, canvas: Canvas, recipe: Recipe) -> Scene:
    """Scale a scene to the size of a stage; `content` replaces the scene's content."""
    shape, sample = canvas.shape, resizer(recipe)

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
        own = canvas_of(shape, recipe)
        return make_paint(images, masks, region.blend, own, turned=scene.turned)

    return scene._replace(paint=tuple(map(paint, regions)))


class Measuring(NamedTuple):
    """Measures the pictures of a stage.

    Attributes:
        call: Calls the programs.
        backbone: The first network of `prepare_backbone`.
        canvas: Canvas of the content.
        recipe: How the pictures are painted.
        tile: Size of the tiles that pictures are measured in. Default: no tiles.
    """

    call: Runner
    backbone: Backbone
    canvas: Canvas
    recipe: Recipe
    tile: int | None = None

    def targets(
        self,
        scene: Scene,
        *,
        content: StoredFeatures | None = None,
        styles: Sequence[StyleTarget] | None = None,
    ) -> Targets:
        """The targets of the loss at a stage.

        If they are already measured, pass the content's features from `drawing` and the
        target of each region from `styles`.
        """
        canvas, regions = self.canvas, scene.regions
        content = self.drawing(scene) if content is None else content
        styles = list(map(self.styles, regions)) if styles is None else styles
        masks = [canvas.mask(region.mask) for region in regions]
        targets = assemble_targets(
            content,
            list(zip(styles, masks, strict=True)),
            self.recipe,
            canvas,
            content_strength=canvas.mask(scene.content_strength),
            paint_mask=canvas.mask(scene.paint_mask),
        )
        return self.call.host(lambda: jax.device_put(targets), targets)

    def drawing(self, scene: Scene) -> StoredFeatures:
        """Features of the content, for the content loss."""
        canvas, program = self.canvas, self.recipe.program
        mask = canvas.mask(scene.content_strength)
        given = self.backbone, canvas.place(scene.content), mask
        if self.tile is None:
            return self.call(measure_content, *given, program=program)
        options = {"program": program, "size": self.tile}
        feats = self.call(tiles.measure_content, *given, **options)
        # Wait, so that its memory is free when the styles are measured.
        return jax.block_until_ready(feats)

    def styles(self, region: Region) -> StyleTarget:
        """The style target of a region.

        A style that would take more memory than a step on the content is measured in
        tiles.
        """
        recipe, canvas, tile = self.recipe, self.canvas, self.tile
        program, loss = recipe.program, recipe.program.losses.style
        enough = 2 * math.prod(canvas.size)
        parts = tile or max(math.isqrt(enough), smallest_tile(program.layers))
        shapes = []

        def summarize(style: Style) -> StyleSummary:
            image, mask = style.image, style.mask
            own = exact(image.shape)
            if canvas.part is not None:
                large, scale = (2**16, 2**16), style.stroke_scale
                edge = max(style_shape(large, canvas.size, recipe, scale))
                own = square(image.shape, edge)
            small = tile is None and math.prod(own.size) <= enough
            if loss.summarize_against is not None and math.prod(own.size) > parts**2:
                crop = lambda x: None if x is None else crop_middle(x, parts**2)
                image, mask = crop_middle(image, parts**2), crop(mask)
                own = exact(image.shape)
            shapes.append(own.size)
            given = self.backbone, own.place(image), own.mask(mask)
            if small or not loss.additive or loss.summarize_against is not None:
                return self.call(measure_style, *given, program=program)
            options = {"program": program, "size": parts}
            found = self.call(tiles.measure_style, *given, **options)
            return jax.block_until_ready(found)

        summaries = list(map(summarize, region.styles))
        blend = even_blend(region.blend, len(summaries))
        options = {"program": program, "ranks": style_ranks(shapes, program)}
        return self.call(prepare_styles, summaries, blend, **options)


@kept_jit("transfer", name="the start", compiler_options=COMPILE_FAST)
def init(image: Image, *, transfer: Transfer) -> State:
    """The start state of an image, see `Transfer.init`."""
    return transfer.init(image)


def layouts(call: Runner, scene: Scene, image: Image, recipe: Recipe) -> list[Layout]:
    """For each region, the levels of an image's pyramid and their style patches."""
    canvas = canvas_of((image.shape[0], image.shape[1]), recipe)
    ratio, held = recipe.weights.content_ratio, scene.content_strength

    def layout(region: Region, paint: list[Styles]) -> Layout:
        given = image, scene.content, ratio, region.mask, held, paint
        make = partial(make_levels, *given, canvas=canvas, turned=scene.turned)
        return Layout(call.host(make, level_shapes(len(paint), canvas)), paint)

    return list(map(layout, scene.regions, scene.paint))
