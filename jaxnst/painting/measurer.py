"""Loads and measures the pictures of a grid once, however many lanes share them."""

from collections.abc import Callable

import jax
import numpy as np
from cachetools import LRUCache, cached
from jaxtyping import PyTree

from jaxnst.compiled import Runner
from jaxnst.network.vgg import Backbone
from jaxnst.objective import Targets
from jaxnst.painting.lanes import Lane
from jaxnst.painting.scene import (
    Masks,
    Scene,
    Style,
    finish,
    keep,
    make_scene,
    on_host,
    painted_content,
    recolored,
)
from jaxnst.painting.stage import (
    canvas_of,
    first_picture,
    layouts,
    measure,
    measure_drawing,
    measure_styles,
    next_picture,
    scale,
)
from jaxnst.pictures.canvas import Canvas
from jaxnst.repaint import Layout
from jaxnst.types import Image

KEPT_BYTES = 2**30
"""Most that a measurer keeps."""


class Measurer:
    """Loads and measures each picture once, however many lanes share it.

    Contents are loaded in the shape of their lane, styles in any; `load_masks` gives
    where and how a lane is painted.
    """

    def __init__(
        self,
        backbone: Backbone,
        load_content: Callable[[Lane], Image],
        load_styles: Callable[[Lane], list[Style | Image]],
        load_masks: Callable[[Lane], Masks] = lambda lane: Masks(),
    ):
        self.backbone, self.load_masks = backbone, load_masks
        self.load_content, self.load_styles = load_content, load_styles
        kept = LRUCache(KEPT_BYTES, getsizeof=_bytes)
        self._once = cached(kept, key=lambda key, make: key)(lambda key, make: make())

    def canvas(self, lane: Lane, stage: int) -> Canvas:
        """The canvas of a stage of a lane."""
        return canvas_of(lane.stages[stage], lane.recipe, turned=lane.turned)

    def targets(self, call: Runner, lane: Lane, stage: int) -> Targets:
        """What a lane is compared with at a stage."""
        scene, canvas = self.scaled(lane, stage), self.canvas(lane, stage)
        given, place = (call, self.backbone), (canvas, lane.recipe)
        drawing = lambda: measure_drawing(*given, scene, *place)
        features = self._once(("features", canvas, *self._content_key(lane)), drawing)
        each = lambda: [measure_styles(*given, x, *place) for x in scene.regions]
        styles = self._once(("statistics", canvas, *self._style_key(lane)), each)
        return measure(*given, scene, *place, content=features, styles=styles)

    def start(self, lane: Lane, stage: int) -> Image:
        """The start image of a lane, on its canvas."""
        given = self.scaled(lane, stage), lane.key, self.canvas(lane, stage)
        return first_picture(self._scene(lane), *given, lane.recipe)

    def enlarged(self, lane: Lane, stage: int, canvas: Image) -> Image:
        """The image of a lane at the stage before, on the canvas of a stage."""
        image = self.canvas(lane, stage - 1).crop(canvas)
        given = self._content(lane), self.canvas(lane, stage), lane.recipe
        return next_picture(image, *given)

    def layouts(self, lane: Lane, stage: int, canvas: Image) -> list[Layout]:
        """What is laid out of the image of a lane, by region."""
        image = self.canvas(lane, stage).crop(canvas)
        return layouts(Runner(), self.scaled(lane, stage), image, lane.recipe)

    def keep(self, lane: Lane, stage: int, image: Image) -> Image:
        """An image of a lane, on its canvas, as it was where nothing is painted."""
        kept = keep(self.scaled(lane, stage), image, self._scene(lane).content)
        return self.canvas(lane, stage).place(kept)

    def recolored(self, lane: Lane) -> Image:
        """The content of a lane that is not painted, in the colours of its styles."""
        return recolored(self._scene(lane), lane.recipe)

    def finish(self, lane: Lane, image: Image) -> Image:
        """The image of a lane, not turned, in the colours that its recipe asks for."""
        given = self._scene(lane), image, self._photograph(lane), lane.recipe
        return finish(*given, on_host(self._masks(lane).palette))

    def scaled(self, lane: Lane, stage: int) -> Scene:
        """The scene of a lane at a stage."""
        canvas = self.canvas(lane, stage)
        key = "scaled", canvas, *self._content_key(lane), *self._style_key(lane)
        given = self._scene(lane), self._content(lane), canvas, lane.recipe
        return self._once(key, lambda: scale(*given))

    def _scene(self, lane: Lane) -> Scene:
        key = "styles", *self._style_key(lane)
        styles = self._once(key, lambda: self.load_styles(lane))
        blend = None if lane.blend is None else np.array(lane.blend, np.float32)
        options: dict = {"masks": self._masks(lane), "turned": lane.turned}
        given = self._photograph(lane), styles, lane.recipe
        key = "scene", *self._content_key(lane), *self._style_key(lane)
        return self._once(key, lambda: make_scene(*given, blend=blend, **options))

    def _masks(self, lane: Lane) -> Masks:
        key = "masks", lane.parts, lane.recipe.program, lane.recipe.sizes, lane.shape
        return self._once(key, lambda: self.load_masks(lane))

    def _photograph(self, lane: Lane) -> Image:
        key = "photograph", lane.content, lane.shape
        return self._once(key, lambda: on_host(self.load_content(lane)))

    def _content(self, lane: Lane) -> Image:
        """The content in the colours that it is painted in."""
        key = ("content", *self._content_key(lane))
        return self._once(key, lambda: painted_content(self._scene(lane), lane.recipe))

    def _content_key(self, lane: Lane) -> tuple:
        recoloured = lane.recipe.look.palette == "style"
        palette = (lane.styles, lane.blend) if recoloured else ()
        program, look = lane.recipe.program, lane.recipe.look
        return lane.content, lane.shape, program, look, palette, lane.parts

    def _style_key(self, lane: Lane) -> tuple:
        alike = lane.parts is None and lane.recipe.look.colors == "style"
        place = (lane.shape,) if alike else self._content_key(lane)
        program, sizes, look = lane.recipe.program, lane.recipe.sizes, lane.recipe.look
        return lane.styles, lane.blend, program, sizes, look, place


def _bytes(tree: PyTree) -> int:
    return sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(tree))
