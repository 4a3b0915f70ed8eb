"""Loads and measures the pictures of a grid once, however many lanes share them."""

from collections.abc import Callable

import jax
import numpy as np
from cachetools import LRUCache, cached
from jaxtyping import PyTree

from jaxnst.compiled import Runner
from jaxnst.network.vgg import Backbone
from jaxnst.objective import Targets
from jaxnst.painting.lanes import (
    Lane,
)
from jaxnst.painting.painter import Picture
from jaxnst.painting.scene import (
    Masks,
    Scene,
    Style,
    finish,
    make_scene,
    on_host,
    painted_content,
    recolored,
)
from jaxnst.painting.stage import Measuring, scale
from jaxnst.types import Image

KEPT_BYTES = 2**30
"""Bytes that a measurer caches, at most."""


class Measurer:
    """Loads and measures each picture once, however many lanes share it.

    `load_content` gives the content in the shape of its lane, `load_styles` the styles
    in any shape, and `load_masks` where and how the lane is painted.
    """

    def __init__(
        self,
        load_content: Callable[[Lane], Image],
        load_styles: Callable[[Lane], list[Style | Image]],
        load_masks: Callable[[Lane], Masks] = lambda lane: Masks(),
    ):
        self.load_content, self.load_styles = load_content, load_styles
        self.load_masks = load_masks
        kept = LRUCache(KEPT_BYTES, getsizeof=_bytes)
        self._once = cached(kept, key=lambda key, make: key)(lambda key, make: make())

    def picture(self, lane: Lane) -> Picture:
        """The picture of a lane."""
        scene, key = self._scene(lane), ("content", *self._content_key(lane))
        painted = self._once(key, lambda: painted_content(scene, lane.recipe))
        return Picture(scene, painted, lane.key, lane.recipe, lane.canvases)

    def scaled(self, lane: Lane, number: int) -> Scene:
        """The scene of a lane at a stage."""
        picture, canvas = self.picture(lane), lane.canvases[number]
        key = "scaled", canvas, *self._content_key(lane), *self._style_key(lane)
        given = picture.scene, picture.content, canvas, lane.recipe
        return self._once(key, lambda: scale(*given))

    def targets(
        self, call: Runner, backbone: Backbone, lane: Lane, number: int
    ) -> Targets:
        """The targets of a lane at a stage."""
        scene, canvas = self.scaled(lane, number), lane.canvases[number]
        measuring = Measuring(call, backbone, canvas, lane.recipe)
        key = "features", canvas, *self._content_key(lane)
        features = self._once(key, lambda: measuring.drawing(scene))
        key = "statistics", canvas, *self._style_key(lane)
        styles = self._once(key, lambda: list(map(measuring.styles, scene.regions)))
        return measuring.targets(scene, content=features, styles=styles)

    def recolored(self, lane: Lane) -> Image:
        """The content in the colours of the styles, for a lane that takes no steps."""
        return self.finish(lane, recolored(self._scene(lane), lane.recipe))

    def finish(self, lane: Lane, image: Image) -> Image:
        """The image of a lane, not turned, in the colours that its recipe asks for."""
        given = self._scene(lane), image, self._photograph(lane), lane.recipe
        return finish(*given, on_host(self._masks(lane).palette))

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
