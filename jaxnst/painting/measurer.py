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
    style_ranks,
    with_weights,
)
from jaxnst.painting.inputs import (
    initial_image,
    scale_content,
    scale_detail,
    scale_styles,
)
from jaxnst.painting.lanes import (
    Lane,
)
from jaxnst.painting.scales import style_shape
from jaxnst.pictures.color import match_palette
from jaxnst.types import Features, Image


def pad_zeros(x: Array, shape: tuple[int, ...]) -> Array:
    """An array with zeros at the end of each axis, up to a shape."""
    if x.shape == shape:
        return x
    return jnp.pad(
        x, [(0, most - own) for most, own in zip(shape, x.shape, strict=True)]
    )


class Measurer:
    """Loads and measures each picture once, however many lanes share it.

    An LRU cache keeps up to `KEPT_BYTES` of the results.

    Args:
        backbone: The network to measure with.
        load_content: Gives the content of a lane, of the lane's shape.
        load_styles: Gives the styles of a lane, of any size.
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

        def features() -> Features:
            content = scale_content(self._content(lane), shape)
            return measure_content(self.backbone, content, lane.recipe.program)

        return with_weights(
            self._once(("features", shape, *self._content_key(lane)), features),
            self._once(
                ("statistics", shape, *self._style_key(lane)),
                lambda: self._measure_styles(lane, shape),
            ),
            lane.recipe,
        )

    def _measure_styles(self, lane: Lane, shape: tuple[int, int]) -> Styles:
        """The style's targets, padded to the shapes of those of a square style.

        A style with few positions has a covariance of lower rank. Padding it with zeros
        changes nothing, and lets all batches share one program.
        """
        program, blend = lane.recipe.program, _array(lane.blend)
        styles = scale_styles(self._styles(lane), shape, lane.recipe)
        summaries = [measure_style(self.backbone, style, program) for style in styles]
        shapes = [style.shape for style in styles]
        found = blend_styles(summaries, shapes, program, blend=blend)
        square = style_shape((2**16, 2**16), shape, lane.recipe)
        pairs = zip(
            style_ranks(shapes, program),
            style_ranks([square] * len(styles), program),
            strict=True,
        )
        prepare = partial(prepare_styles, program=program, ranks=tuple(map(max, pairs)))
        shares = jax.ShapeDtypeStruct((len(styles),), np.float32)
        wanted = jax.eval_shape(prepare, summaries, shares)
        return jax.tree.map(lambda x, like: pad_zeros(x, like.shape), found, wanted)

    def start(self, lane: Lane, shape: tuple[int, int]) -> Image:
        """The start image of a lane at its coarsest scale."""
        return initial_image(
            lane.key,
            scale_content(self._content(lane), shape),
            scale_styles(self._styles(lane), shape, lane.recipe),
            lane.recipe,
        )

    def detail(
        self, lane: Lane, before: tuple[int, int], shape: tuple[int, int]
    ) -> Image:
        """The detail that is added when a lane's image is enlarged to a scale."""
        return scale_detail(self._content(lane), before, shape, lane.recipe)

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


KEPT_BYTES = 2**30


def _bytes(tree: PyTree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _array(blend: tuple[float, ...] | None) -> Float[Array, "_n"] | None:
    return None if blend is None else jnp.array(blend)
