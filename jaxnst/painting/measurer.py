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
    Styles,
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
from jaxnst.pictures.color import match_palette
from jaxnst.repaint import repaint
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

    Contents are loaded in the shape of their lane, styles in any.
    """

    def __init__(
        self,
        backbone: Backbone,
        load_content: Callable[[Lane], Image],
        load_styles: Callable[[Lane], list[Image]],
    ):
        self.backbone = backbone
        self.load_content, self.load_styles = load_content, load_styles
        self.kept: LRUCache = LRUCache(KEPT_BYTES, getsizeof=_bytes)

    def targets(self, lane: Lane, shape: tuple[int, int]) -> Targets:
        """What a lane is compared with at a scale."""

        def measure() -> Features:
            content = inputs.scale_content(self._content(lane), shape)
            return measure_content(self.backbone, content, lane.recipe.program)

        features = self._once(("features", shape, *self._content_key(lane)), measure)
        statistics = self._once(
            ("statistics", shape, *self._style_key(lane)),
            lambda: self._measure_styles(lane, shape),
        )
        region = region_targets(statistics, None, lane.recipe.program)
        return with_weights(features, [region], lane.recipe)

    def _measure_styles(self, lane: Lane, shape: tuple[int, int]) -> Styles:
        """The style's targets, padded with zeros to the shapes of a square style's.

        A style with few positions has a covariance of lower rank; padded, all batches
        share one program.
        """
        program, blend = lane.recipe.program, _array(lane.blend)
        styles = inputs.scale_styles(self._styles(lane), shape, lane.recipe)
        summaries = [measure_style(self.backbone, style, program) for style in styles]
        shapes = [style.shape for style in styles]
        found = blend_styles(summaries, shapes, program, blend=blend)
        square = style_shape((2**16, 2**16), shape, lane.recipe)
        own, full = (style_ranks(x, program) for x in (shapes, [square] * len(styles)))
        ranks = tuple(map(max, own, full))
        prepare = partial(prepare_styles, program=program, ranks=ranks)
        shares = jax.ShapeDtypeStruct((len(styles),), np.float32)
        wanted = jax.eval_shape(prepare, summaries, shares)
        return jax.tree.map(lambda x, like: pad_zeros(x, like.shape), found, wanted)

    def start(self, lane: Lane, shape: tuple[int, int]) -> Image:
        """The start image of a lane at its coarsest scale."""
        content = inputs.scale_content(self._content(lane), shape)
        styles = inputs.scale_styles(self._styles(lane), shape, lane.recipe)
        return inputs.initial_image(lane.key, content, styles, lane.recipe)

    def detail(
        self, lane: Lane, before: tuple[int, int], shape: tuple[int, int]
    ) -> Image:
        """The detail that is added when a lane's image is enlarged to a scale."""
        return inputs.scale_detail(self._content(lane), before, shape, lane.recipe)

    def repaint(self, lane: Lane, image: Image) -> Image:
        """The image of a lane, laid out of the paint of its styles."""
        shape, blend = (image.shape[0], image.shape[1]), _array(lane.blend)
        content = inputs.scale_content(self._content(lane), shape)
        styles = inputs.scale_styles(self._styles(lane), shape, lane.recipe)
        return repaint(image, content, styles, lane.recipe, blend)

    def _content(self, lane: Lane) -> Image:
        def load() -> Image:
            content = self.load_content(lane)
            if lane.recipe.palette == "content":
                return content
            return match_palette(content, self._styles(lane), blend=_array(lane.blend))

        return self._once(("content", *self._content_key(lane)), load)

    def _styles(self, lane: Lane) -> list[Image]:
        key = ("styles", *self._style_key(lane))
        return self._once(key, lambda: self.load_styles(lane))

    def _content_key(self, lane: Lane) -> tuple:
        recoloured = lane.recipe.palette == "style"
        palette = (lane.styles, lane.blend) if recoloured else ()
        return lane.content, lane.shape, lane.recipe.measured_by, palette

    def _style_key(self, lane: Lane) -> tuple:
        return lane.styles, lane.blend, lane.shape, lane.recipe.measured_by

    def _once(self, key: tuple, make: Callable[[], Any]) -> Any:
        if key in self.kept:
            return self.kept[key]
        value = make()
        if _bytes(value) <= KEPT_BYTES:
            self.kept[key] = value
        return value


def _bytes(tree: PyTree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _array(blend: tuple[float, ...] | None) -> Float[Array, "_n"] | None:
    return None if blend is None else jnp.array(blend)
