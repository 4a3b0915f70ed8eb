"""Descriptors of patches, and the bank of all patches of the styles."""

from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnst.repaint.flow import FAINT
from jaxnst.types import Image, Mask

RADIUS = 3
"""Pixels from the centre of a patch to its edge: patches are 7 x 7 px at each level."""

SIDE = 2 * RADIUS + 1

WINDOW = np.exp(-2 * (np.arange(-RADIUS, RADIUS + 1) / RADIUS) ** 2)
"""Weights of the pixels of a patch along each axis, for comparing patches."""

COLORS = np.array([(1, 1, 1), (1, 0, -1), (1, -2, 1)]) / np.sqrt([[3], [2], [6]])
"""Lightness and two colour differences, as factors on red, green and blue."""

WAVES = (4, 2, 2)
"""For lightness and each colour difference: frequencies i and j along the two axes are
used if i + j is below this number. These are ten, three and three frequencies."""

LARGEST_GAIN = 2
"""Largest factor by which the contrast of queries is raised, or lowered."""

DIRECTION = 2.6
"""Weight of the direction of a stroke, in a style whose strokes flow."""

LENGTH = 1.6
"""Length of the directions to search for, relative to the length of those of the
styles. The length says how certain a direction is, see `flow`."""

NOWHERE = 1e3
"""Value of the descriptors where no patch may be used, so nothing matches them."""

Descriptors = Float[Array, "_h _w _c"]


class Styles(NamedTuple):
    """Styles at a level, each on a square canvas.

    Attributes:
        pixels: RGB, n s s 3.
        weights: Weight of the patch around each pixel; 0 where no patch is used.
        heights: Height of each pixel in its picture, see `find_heights`.
        flow: How much the strokes of each style flow, 0 to 1, see `flow.find_flow`.
        plain: How empty each style is, 0 to 1, see `filters.find_plain`.
    """

    pixels: Float[Array | np.ndarray, "_n _s _s 3"]
    weights: Float[Array | np.ndarray, "_n _s _s"]
    heights: Float[Array | np.ndarray, "_n _s _s 1"]
    flow: Float[Array | np.ndarray, "_n"]
    plain: Float[Array | np.ndarray, "_n"]


class Bank(NamedTuple):
    """The patches of all styles at a level, row after row.

    Attributes:
        pixels: RGB, N 3.
        descriptors: Descriptor of the patch around each pixel, N c.
        factors: Factor on the distance to each patch, h w. All styles are stacked
            vertically.
        mean: Mean of the descriptors, without directions.
        deviation: Standard deviation of the descriptors, without directions.
        length: RMS length of the directions.
    """

    pixels: Float[Array, "_n 3"]
    descriptors: Float[Array, "_n _c"]
    factors: Float[Array, "_h _w"]
    mean: Float[Array, "_d"]
    deviation: Float[Array, "_d"]
    length: Float[Array, ""]


class RowMoments(NamedTuple):
    """Mean of the descriptors, and of their squares, over each row of pixels, h c."""

    mean: Float[Array, "_h _c"]
    square: Float[Array, "_h _c"]


def _cosines(waves: int) -> Float[np.ndarray, "7 _waves"]:
    """The lowest frequencies along an axis of a patch, weighted by `WINDOW`."""
    along = np.cos(np.pi / SIDE * np.outer(np.arange(SIDE) + 0.5, np.arange(waves)))
    along *= WINDOW[:, None]
    return (along / np.linalg.norm(along, axis=0)).astype(np.float32)


def describe(image: Image) -> Descriptors:
    """Descriptor of the patch around each pixel: a cosine transform of its colours.

    On a CPU, one convolution compiles and runs fastest. A TPU would compile it for
    20 s.
    """
    padded = jnp.pad(image, [(RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)], mode="edge")
    return jax.lax.platform_dependent(padded, cpu=_convolve, default=_sum_up)


def _sum_up(padded: Image) -> Descriptors:
    def mean(x: Array, axis: int, waves: int) -> Array:
        """Sums of patches along an axis, weighted by cosines, on a new last axis."""
        size, weights = x.shape[axis] - 2 * RADIUS, _cosines(waves)
        part = partial(jax.lax.slice_in_dim, x, axis=axis)
        along = lambda i: weights[i].reshape(*x.ndim * [1], -1)
        parts = [part(i, i + size)[..., None] * along(i) for i in range(SIDE)]
        return reduce(jnp.add, parts)

    found = []
    for color, waves in zip(COLORS.astype(np.float32), WAVES, strict=True):
        plane = jnp.sum(padded * color[None, None], axis=-1)
        both = mean(mean(plane, 0, waves), 1, waves)
        found += [both[..., i, : waves - i] for i in range(waves)]
    return jnp.concatenate(found, axis=-1)


def _convolve(padded: Image) -> Descriptors:
    filters = [
        np.multiply.outer(np.outer(along[:, i], along[:, j]), color)
        for color, along in zip(COLORS, map(_cosines, WAVES), strict=True)
        for i in range(along.shape[1])
        for j in range(along.shape[1] - i)
    ]
    return jax.lax.conv_general_dilated(
        padded[None],
        jnp.asarray(np.stack(filters, axis=-1), jnp.float32),
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )[0]


def find_directions(image: Image) -> Float[Array, "_h _w 2"]:
    """Direction of the stroke around each pixel, see `flow`.

    `(J_xx - J_yy, 2 J_xy) / (J_xx + J_yy)`, with the structure tensor J of the patch.
    """
    grey = jnp.pad(jnp.mean(image, axis=-1), RADIUS + 1, mode="edge")
    along = (grey[1:-1, 2:] - grey[1:-1, :-2]) / 2
    down = (grey[2:, 1:-1] - grey[:-2, 1:-1]) / 2
    tensor = jnp.stack([along**2, down**2, along * down], axis=-1)
    weights = list(enumerate((WINDOW / WINDOW.sum()).tolist()))
    for axis, size in enumerate(image.shape[:2]):
        part = partial(jax.lax.slice_in_dim, tensor, axis=axis)
        tensor = reduce(jnp.add, [x * part(i, i + size) for i, x in weights])
    xx, yy, xy = jnp.moveaxis(tensor, -1, 0)
    return jnp.stack([xx - yy, 2 * xy], axis=-1) / (xx + yy + FAINT)[..., None]


def mean_around(x: Float[Array, "_h _w _c"]) -> Float[Array, "_h _w _c"]:
    """Mean over the 9 x 9 px around each pixel, with zeros beyond the border."""
    for window in ((9, 1, 1), (1, 9, 1)):
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, 1, 1), "SAME")
    return x / 81


def make_bank(styles: Styles) -> Bank:
    """Make the bank of styles. The descriptor of a patch of weight 0 is `NOWHERE`."""
    weights = jnp.concatenate(list(styles.weights))
    total = jnp.sum(weights)

    def describe_style(style: Styles) -> tuple[Descriptors, Array, Array]:
        pixels, own, heights, flow, _ = style
        directions = DIRECTION * flow * find_directions(pixels)
        whole = jnp.concatenate([describe(pixels), heights, directions], axis=-1)
        each = own[..., None] / total
        sums = jnp.sum(each * whole, axis=(0, 1)), jnp.sum(each * whole**2, axis=(0, 1))
        return jnp.where(each > 0, whole, NOWHERE), *sums

    # One style after another: at once, they would take three times as much memory.
    descriptors, *sums = jax.lax.map(describe_style, styles)
    mean, square = (jnp.sum(x, axis=0) for x in sums)
    deviation = jnp.sqrt(jnp.maximum(square - mean**2, 0))
    flat = lambda x: jnp.asarray(x).reshape(-1, x.shape[-1])
    return Bank(
        pixels=flat(styles.pixels),
        descriptors=flat(descriptors),
        factors=1 / jnp.where(weights > 0, weights, 1),
        mean=mean[:-2],
        deviation=deviation[:-2],
        length=jnp.sqrt(jnp.sum(square[-2:])),
    )


def count_rows(descriptors: Descriptors, weights: Mask) -> RowMoments:
    """Weighted `RowMoments` of descriptors, for weights whose overall mean is 1."""
    mean = lambda x: jnp.mean(weights * x, axis=1)
    return RowMoments(mean(descriptors), mean(descriptors**2))


def match_moments(queries: Descriptors, counted: RowMoments, bank: Bank) -> Descriptors:
    """Give queries, whose moments are `counted`, the bank's mean and deviation."""
    mean, square = (jnp.mean(rows, axis=0) for rows in counted)
    deviation = jnp.sqrt(jnp.maximum(square - mean**2, 0))
    gain = jnp.clip(bank.deviation / (deviation + 1e-6), 1 / LARGEST_GAIN, LARGEST_GAIN)
    return queries * gain[None, None] + (bank.mean - gain * mean)[None, None]
