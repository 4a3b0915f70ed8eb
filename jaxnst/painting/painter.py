"""Painters: pictures go from stage to stage, each scaled, measured, painted and laid.

What is compiled is called by a `Runner`: a `Preparer` in its place compiles the same
programs ahead of time.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxnst import tiles
from jaxnst.compiled import Runner, kept_jit, shape_of
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
    compose,
    first_image,
    fit_masks,
    keep,
    scale_content,
    sharpened,
)
from jaxnst.pictures.canvas import Canvas, Growth, exact, shared, square
from jaxnst.pictures.geometry import crop_like, crop_middle, resize, resize_compiled
from jaxnst.process import COMPILE_FAST
from jaxnst.recipes import Program, Recipe
from jaxnst.repaint import Layout, lay_levels, level_shapes, make_levels, make_paint
from jaxnst.repaint.bank import Styles
from jaxnst.storage import StoredFeatures
from jaxnst.tiles import smallest_tile
from jaxnst.transfer import State, Transfer, at_rest, current_image
from jaxnst.types import Image


def canvas_of(
    shape: tuple[int, int], recipe: Recipe, *, turned: bool = False
) -> Canvas:
    """The canvas of a picture: one of its own if it is higher than wide."""
    shape = (shape[1], shape[0]) if turned else shape
    wide = shape[0] <= shape[1]
    return shared(shape) if wide and recipe.program.shares_canvases else exact(shape)


def most_pixels(stages: Stages, canvases: Sequence[Canvas]) -> int:
    """Those of the largest canvas on which steps are taken, see `prepare_backbone`."""
    pairs = zip(stages, canvases, strict=True)
    return max((math.prod(x.size) for stage, x in pairs if stage.steps), default=0)


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


def resizer(recipe: Recipe) -> Callable[..., Image]:
    """What the pictures of a recipe are resampled by."""
    return resize if recipe.program.shares_canvases else resize_compiled


def scale(scene: Scene, content: Image, canvas: Canvas, recipe: Recipe) -> Scene:
    """A scene at the size of a stage, with a content in other colours; on the host."""
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
    """How the pictures of a stage are measured.

    Attributes:
        call: Calls the programs.
        backbone: The first one of `prepare_backbone`.
        canvas: Of the content.
        recipe: How the pictures are painted.
        tile: Size of the tiles that pictures are measured in. Default: at once.
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
        """What the image of a stage is compared with.

        What is measured already is from `drawing`, and of each region from `styles`.
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
        """The features of the content that an image is compared with."""
        canvas, program = self.canvas, self.recipe.program
        mask = canvas.mask(scene.content_strength)
        given = self.backbone, canvas.place(scene.content), mask
        if self.tile is None:
            return self.call(measure_content, *given, program=program)
        options = {"program": program, "size": self.tile}
        feats = self.call(tiles.measure_content, *given, **options)
        # Wait, or it would run and hold memory while the styles are measured.
        return jax.block_until_ready(feats)

    def styles(self, region: Region) -> StyleTarget:
        """What a region is compared with.

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
    """`transfer.init`."""
    return transfer.init(image)


def layouts(call: Runner, scene: Scene, image: Image, recipe: Recipe) -> list[Layout]:
    """What is laid out of an image, by region."""
    canvas = canvas_of((image.shape[0], image.shape[1]), recipe)
    ratio, held = recipe.weights.content_ratio, scene.content_strength

    def layout(region: Region, paint: list[Styles]) -> Layout:
        given = image, scene.content, ratio, region.mask, held, paint
        make = partial(make_levels, *given, canvas=canvas, turned=scene.turned)
        return Layout(call.host(make, level_shapes(len(paint), canvas)), paint)

    return list(map(layout, scene.regions, scene.paint))


class Picture(NamedTuple):
    """A picture that is painted.

    Attributes:
        scene: Of the run.
        content: In the colours that it is painted in.
        start: The start image, of any size, or the random key of one.
        recipe: How it is painted.
        canvases: Of its stages.
    """

    scene: Scene
    content: Image
    start: Image | Array
    recipe: Recipe
    canvases: list[Canvas]

    def first(self, number: int, scaled: Scene) -> Float[np.ndarray, "_h _w 3"]:
        """The image that a run begins with, on the canvas of a stage."""
        canvas = self.canvases[number]
        if self.start.ndim == 3:
            middle = crop_like(self.start, canvas.shape)
            image = scale_content(middle, canvas.shape)
        else:
            image = first_image(self.start, scaled, self.recipe)
        return self.place(number, scaled, image)

    def next(self, number: int, image: Image) -> Float[np.ndarray, "_h _w 3"]:
        """The image of the stage before, enlarged to the canvas of a stage."""
        before, canvas = (image.shape[0], image.shape[1]), self.canvases[number]
        larger, detail = resizer(self.recipe)(image, canvas.shape), np.float32(0)
        if self.recipe.look.detail:  # a part of what the stage before cannot show
            coarse = resize(scale_content(self.content, before), canvas.shape)
            finer = scale_content(self.content, canvas.shape) - coarse
            detail = np.float32(self.recipe.look.detail) * finer
        return canvas.place(np.clip(larger + detail, 0, 1))

    def place(
        self, number: int, scaled: Scene, image: Image
    ) -> Float[np.ndarray, "_h _w 3"]:
        """An image on its canvas, with the photograph where nothing is painted."""
        kept = keep(scaled, image, self.scene.content)
        return self.canvases[number].place(kept)


class Painter:
    """Takes pictures with the same program from stage to stage.

    The state of a batch has a first axis of lanes.

    Args:
        pictures: One, or those of a batch.
        stages: Of the first one; the canvases of the others have the same size.
        transfers: The kernel of each stage.
        batched: Whether they are a batch.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        stages: Stages,
        transfers: Sequence[Transfer],
        *,
        batched: bool = False,
    ):
        self.pictures, self.stages, self.batched = pictures, stages, batched
        self.transfers, self.recipe = transfers, pictures[0].recipe

    def begin(
        self, call: Runner, scenes: Sequence[Scene], number: int, state: State | None
    ) -> State:
        """The first state of a stage, after that of the stage before, if there is one.

        The scenes are those of the pictures at the stage.
        """
        transfer, pictures = self.transfers[number], self.pictures
        like = shape_of((*pictures[0].canvases[number].size, 3))
        if state is None:
            pairs = zip(pictures, scenes, strict=True)
            first = lambda: self.join([x.first(number, scene) for x, scene in pairs])
            return call(init, call.host(first, like), transfer=transfer)

        def enlarge() -> Float[np.ndarray, "*_lanes _h _w 3"]:
            pairs = zip(pictures, self.images(state, number - 1), strict=True)
            return self.join([x.next(number, image) for x, image in pairs])

        enlarged = call.host(enlarge, like)
        if not self.stages[number].steps:
            return at_rest(enlarged)
        fresh = call(init, enlarged, transfer=transfer)
        if not state.opt_state:  # it was at rest
            return fresh
        pairs = [(x.canvases[number - 1], x.canvases[number]) for x in pictures]
        growth = Growth(pairs, batched=self.batched)
        return call.host(lambda: transfer.enlarge(state, fresh, growth), fresh)

    def end(
        self, call: Runner, scenes: Sequence[Scene], number: int, state: State
    ) -> State:
        """Lay the images of a state out of their styles, if the recipe does."""
        if not self.recipe.look.repaint:
            return self.transfers[number].drop_history(state)
        like = [np.zeros_like(scene.content) for scene in scenes]
        images = call.host(lambda: self.images(state, number), like)
        del state
        laid = self.lay(call, scenes, images)
        if number == len(self.stages) - 1:
            laid = call.host(lambda: list(map(sharpened, scenes, laid)), laid)
        each = zip(self.pictures, scenes, laid, strict=True)
        return at_rest(self.join([x.place(number, *own) for x, *own in each]))

    def lay(
        self, call: Runner, scenes: Sequence[Scene], images: Sequence[Image]
    ) -> list[Image]:
        """Images of a stage, laid out of patches of their styles, see `repaint`."""
        given = zip(scenes, images, self.pictures, strict=True)
        found = [layouts(call, x, image, own.recipe) for x, image, own in given]
        regions = [self.lay_region(call, x) for x in zip(*found, strict=True)]
        laid = call.host(lambda: jax.device_get(regions), [images] * len(regions))
        made = []
        for scene, image, *parts in zip(scenes, images, *laid, strict=True):
            h, w, _ = image.shape
            made.append(compose(scene, image, [part[:h, :w] for part in parts]))
        return made

    def lay_region(self, call: Runner, layouts: Sequence[Layout]) -> Sequence[Any]:
        """Lay a region of all pictures."""
        return [jax.block_until_ready(lay_levels(x, call)) for x in layouts]

    def images(self, state: State, number: int) -> list[Image]:
        """The pictures so far, as they are painted: some may be turned."""
        on_host = jax.device_get(state._replace(opt_state=()))
        found = current_image(on_host, self.recipe.program)
        pairs = zip(self.pictures, found if self.batched else [found], strict=True)
        return [picture.canvases[number].crop(image) for picture, image in pairs]

    def join(self, images: Sequence[Image]) -> Float[np.ndarray, "*_lanes _h _w 3"]:
        """Images on their canvases, as a state has them."""
        return np.stack(images) if self.batched else images[0]
