"""Canvases: a few sizes, so that pictures of all shapes share compiled programs.

A picture lies in the upper left corner of its canvas. The rest is filler: it repeats
the picture's edge, and has no weight in the loss.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxnst.pictures.geometry import resize
from jaxnst.types import Weights

Values = Float[Array | np.ndarray, "_h _w _c"]

PARTS = (1 / 8, 1 / 4, 3 / 8, 9 / 16, 3 / 4, 1.0)
"""Short edges of small canvases, as fractions of the long edge."""

SMALL = 512
"""Largest long edge of small canvases. The short edges of larger canvases are multiples
of 1/16 of the long edge, since filler takes longer there than another compilation."""

MARGIN = 1 / 128
"""Added to each fraction, since photographs rarely have an exact aspect ratio."""

NARROWEST = 64
"""Smallest long edge of the canvas of a pyramid's level."""


class Canvas(NamedTuple):
    """The canvas of a picture.

    Attributes:
        shape: Height and width of the picture.
        size: Height and width of the canvas.
        part: Short edge as a fraction of the long edge. None if no other picture shares
            the canvas.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    part: float | None = None

    @property
    def extent(self) -> Int[np.ndarray, "2"] | None:
        """The picture's shape as an array; None if the canvas is not shared."""
        return None if self.part is None else np.array(self.shape, np.int32)

    def halved(self, times: int) -> "Canvas":
        """The canvas of the picture after `times` halvings, for a level of a pyramid.

        The canvas of a halved picture has a power of two as its long edge, so levels of
        all scales share canvases.
        """
        halve = lambda side: math.ceil(side / 2**times)
        shape = halve(self.shape[0]), halve(self.shape[1])
        if self.part is None:
            return exact(shape)
        if times == 0:
            return self
        width = 2 ** math.ceil(math.log2(halve(self.size[1])))
        return Canvas(shape, _size(self.part, max(NARROWEST, width)), self.part)

    def place(
        self, image: Values, mode: Literal["edge", "constant"] = "edge"
    ) -> Float[np.ndarray, "_new_h _new_w _c"]:
        """Lay a picture on the canvas; repeat its edge (`edge`) or fill with zeros."""
        image = np.asarray(image, np.float32)
        pairs = zip(self.size, self.shape, strict=True)
        return np.pad(image, [*((0, big - own) for big, own in pairs), (0, 0)], mode)

    def mask(self, mask: Weights) -> Weights:
        """Lay a mask on the canvas; the result is 0 outside the picture.

        A mask of None counts as 1 everywhere. On a canvas that is not shared, the
        result is then None, too.
        """
        if mask is None and self.part is None:
            return None
        whole = np.ones((*self.shape, 1), np.float32)
        return self.place(whole if mask is None else mask, "constant")

    def crop(self, canvas: Values) -> Values:
        """Take the picture off the canvas."""
        return canvas[: self.shape[0], : self.shape[1]]


class Growth(NamedTuple):
    """Enlarges arrays from the canvas of a scale to that of the next.

    Attributes:
        pairs: Old and new canvas of each picture.
        batched: Whether arrays have a first axis of lanes.
    """

    pairs: Sequence[tuple[Canvas, Canvas]]
    batched: bool = False

    @property
    def pixels(self) -> Float[np.ndarray, "*_lanes"]:
        """New number of pixels of the picture, divided by the old one."""
        ratios = [math.prod(b.shape) / math.prod(a.shape) for a, b in self.pairs]
        return np.array(ratios if self.batched else ratios[0], np.float32)

    def fits(self, array: Array | np.ndarray) -> bool:
        """Whether an array lies on the old canvas."""
        size = self.pairs[0][0].size
        return array.ndim == 3 + self.batched and array.shape[-3:-1] == size

    def enlarge(self, array: Array | np.ndarray) -> np.ndarray:
        """Enlarge an array that `fits`, linearly."""
        planes = np.asarray(array) if self.batched else np.asarray(array)[None]
        larger = [
            new.place(resize(old.crop(plane), new.shape, method="linear"))
            for plane, (old, new) in zip(planes, self.pairs, strict=True)
        ]
        return np.stack(larger) if self.batched else larger[0]


def exact(shape: tuple[int, ...]) -> Canvas:
    """A picture's own canvas, without filler."""
    height, width = shape[:2]
    return Canvas((height, width), (height, width))


def shared(shape: tuple[int, ...]) -> Canvas:
    """The shared canvas of a picture that is at least as wide as high.

    Example:
        >>> shared((384, 512)).size, shared((341, 512)).size, shared((683, 1024)).size
        ((388, 512), (388, 512), (712, 1024))
    """
    height, width = shape[:2]
    parts = PARTS if width <= SMALL else [i / 16 for i in range(1, 17)]
    part = next(x for x in parts if _size(x, width)[0] >= height)
    return Canvas((height, width), _size(part, width), part)


def square(shape: tuple[int, ...], edge: int) -> Canvas:
    """The square canvas of side `edge`, or of the picture's long edge if longer."""
    height, width = shape[:2]
    edge = max(edge, height, width)
    return Canvas((height, width), (edge, edge), 1.0)


def _size(part: float, width: int) -> tuple[int, int]:
    return min(width, 4 * math.ceil(width * (part + MARGIN) / 4)), width


def extend(
    image: Shaped[Any, "_h _w _c"], extent: Int[Array | np.ndarray, "2"] | None
) -> Shaped[Any, "_h _w _c"]:
    """Repeat the edge of a picture over the rest of its canvas, in compiled code.

    `extent` is the picture's height and width; None: the picture fills the canvas. The
    derivative adds the gradient of the filler to that of the edge.

    Example:
        >>> canvas = jnp.arange(4.0).reshape(1, 4, 1).repeat(3, -1)
        >>> extend(canvas, jnp.array([1, 2]))[0, :, 0].tolist()
        [0.0, 1.0, 1.0, 1.0]
    """
    if extent is None:
        return image
    for axis in (0, 1):
        place = jnp.expand_dims(jnp.arange(image.shape[axis]), (1 - axis, 2))
        edge = jax.lax.dynamic_index_in_dim(image, extent[axis] - 1, axis)
        image = jnp.where(place < extent[axis], image, edge)
    return image


@jax.custom_vjp
def pad_edge(image: Shaped[Any, "_h _w _c"]) -> Shaped[Any, "_h2 _w2 _c"]:
    """Pad an image by one pixel on each side, repeating its edge.

    The derivative of JAX's `pad` would compile to many loops instead of one.
    """
    return jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")


def _pad_edge_backward(_: None, cotangent: Array) -> tuple[Array]:
    def fold_rows(x: Array) -> Array:
        rest = len(x) - 3
        first = jnp.pad(x[:1], ((0, rest), (0, 0), (0, 0)))
        return x[1:-1] + first + jnp.pad(x[-1:], ((rest, 0), (0, 0), (0, 0)))

    return (fold_rows(fold_rows(cotangent).swapaxes(0, 1)).swapaxes(0, 1),)


pad_edge.defvjp(lambda image: (pad_edge(image), None), _pad_edge_backward)


def inside(
    shape: tuple[int, ...], extent: Int[Array | np.ndarray, "2"] | None
) -> Weights:
    """Mask of a picture on its canvas, h w 1; None without an `extent`."""
    if extent is None:
        return None
    rows, columns = (jnp.arange(shape[axis]) < extent[axis] for axis in (0, 1))
    return (rows[:, None, None] & columns[None, :, None]).astype(jnp.float32)
