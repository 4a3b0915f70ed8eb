"""Loads and measures the pictures of a grid once, however many lanes share them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cachetools import LRUCache
from jaxtyping import Array, Float, PyTree

from jaxnst.network.vgg import Backbone
from jaxnst.objective import (
    RegionTargets,
    Targets,
    blend_styles,
    measure_content,
    measure_style,
    prepare_styles,
    region_targets,
    style_ranks,
    with_weights,
)
from jaxnst.painting import inputs
from jaxnst.painting.lanes import Lane
from jaxnst.painting.scales import style_shape
from jaxnst.painting.scene import (
    Masks,
    Region,
    Scene,
    Style,
    finish,
    first_image,
    keep,
    make_scene,
    painted_content,
    repaint_scene,
    scale_scene,
)
from jaxnst.types import Features, Image


def pad_zeros(x: Array, shape: tuple[int, ...]) -> Array:
    """An array with zeros at the end of each axis, up to a shape."""
    if x.shape == shape:
        return x
    return jnp.pad(x, [(0, b - a) for a, b in zip(x.shape, shape, strict=True)])


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
        self.kept: LRUCache = LRUCache(KEPT_BYTES, getsizeof=_bytes)

    def targets(self, lane: Lane, shape: tuple[int, int]) -> Targets:
        """What a lane is compared with at a scale."""
        scene = self._scaled(lane, shape)

        def measure() -> Features:
            given = self.backbone, scene.content, lane.recipe.program, scene.hold
            return measure_content(*given)

        def measure_styles() -> list[RegionTargets]:
            return [self._measure(x, lane, shape) for x in scene.regions]

        content, style = self._content_key(lane), self._style_key(lane)
        features = self._once(("features", shape, *content), measure)
        regions = self._once(("statistics", shape, *style), measure_styles)
        options = {"hold": scene.hold, "paint": scene.paint}
        return with_weights(features, regions, lane.recipe.arrays, **options)

    def _measure(
        self, region: Region, lane: Lane, shape: tuple[int, int]
    ) -> RegionTargets:
        """A region's targets, padded with zeros to the shapes of a square style's.

        A style with few positions has a covariance of lower rank; padded, all batches
        share one program.
        """
        program, styles = lane.recipe.program, region.styles
        summaries = [
            measure_style(self.backbone, style.image, program, style.mask)
            for style in styles
        ]
        shapes = [style.image.shape for style in styles]
        found = blend_styles(summaries, shapes, program, blend=region.blend)
        square = style_shape((2**16, 2**16), shape, lane.recipe)
        own, full = (style_ranks(x, program) for x in (shapes, [square] * len(styles)))
        ranks = tuple(map(max, own, full))
        prepare = partial(prepare_styles, program=program, ranks=ranks)
        shares = jax.ShapeDtypeStruct((len(styles),), np.float32)
        wanted = jax.eval_shape(prepare, summaries, shares)
        padded = jax.tree.map(lambda x, like: pad_zeros(x, like.shape), found, wanted)
        return region_targets(padded, region.mask, program)

    def start(self, lane: Lane, shape: tuple[int, int]) -> Image:
        """The start image of a lane at its coarsest scale."""
        scene = self._scaled(lane, shape)
        return self._keep(lane, scene, first_image(lane.key, scene, lane.recipe))

    def detail(
        self, lane: Lane, before: tuple[int, int], shape: tuple[int, int]
    ) -> Image:
        """The detail that is added when a lane's image is enlarged to a scale."""
        return inputs.scale_detail(self._content(lane), before, shape, lane.recipe)

    def repaint(self, lane: Lane, image: Image) -> Image:
        """The image of a lane, laid out of the paint of its styles."""
        scene = self._scaled(lane, (image.shape[0], image.shape[1]))
        laid = repaint_scene(scene, image, lane.recipe.content_ratio)
        return self._keep(lane, scene, laid)

    def finish(self, lane: Lane, image: Image) -> Image:
        """The image of a lane in the colours that its recipe asks for."""
        given = self._scene(lane), image, self._photograph(lane), lane.recipe
        return finish(*given, self._masks(lane).palette)

    def _keep(self, lane: Lane, scene: Scene, image: Image) -> Image:
        return keep(scene, image, self._scene(lane).content)

    def _scaled(self, lane: Lane, shape: tuple[int, int]) -> Scene:
        scene = self._scene(lane)
        return scale_scene(scene, self._content(lane), shape, lane.recipe)

    def _scene(self, lane: Lane) -> Scene:
        styles = self._once(
            ("styles", *self._style_key(lane)), lambda: self.load_styles(lane)
        )
        options = {"blend": _array(lane.blend), "masks": self._masks(lane)}
        given = self._photograph(lane), styles, lane.recipe
        key = "scene", *self._content_key(lane), *self._style_key(lane)
        return self._once(key, lambda: make_scene(*given, **options))

    def _masks(self, lane: Lane) -> Masks:
        key = "masks", lane.parts, lane.recipe.structure, lane.shape
        return self._once(key, lambda: self.load_masks(lane))

    def _photograph(self, lane: Lane) -> Image:
        key = "photograph", lane.content, lane.shape
        return self._once(key, lambda: self.load_content(lane))

    def _content(self, lane: Lane) -> Image:
        """The content in the colours that it is painted in."""
        key = ("content", *self._content_key(lane))
        return self._once(key, lambda: painted_content(self._scene(lane), lane.recipe))

    def _content_key(self, lane: Lane) -> tuple:
        recoloured = lane.recipe.palette == "style"
        palette = (lane.styles, lane.blend) if recoloured else ()
        return lane.content, lane.shape, lane.recipe.structure, palette, lane.parts

    def _style_key(self, lane: Lane) -> tuple:
        alike = lane.parts is None and lane.recipe.colors == "style"
        place = (lane.shape,) if alike else self._content_key(lane)
        return lane.styles, lane.blend, lane.recipe.structure, place

    def _once(self, key: tuple, make: Callable[[], Any]) -> Any:
        if key in self.kept:
            return self.kept[key]
        value = make()
        if _bytes(value) <= KEPT_BYTES:
            self.kept[key] = value
        return value


def _bytes(tree: PyTree) -> int:
    return sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(tree))


def _array(blend: tuple[float, ...] | None) -> Float[Array, "_n"] | None:
    return None if blend is None else jnp.array(blend)
