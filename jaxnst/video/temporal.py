"""Warps frames of a video to other frames, and measures how well they fit.

A flow from frame i to frame j is h w 2: pixel p of i is pixel `p + flow(p)` of j. It
holds x, to the right, then y, down, in pixels.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnst.pictures.geometry import fit_shape
from jaxnst.types import Image, Mask, Scalar

Flow = Float[Any, "_h _w 2"]
"""Place of each pixel of a frame in another frame, minus its place in its own frame."""

Planes = Float[Any, "_h _w _c"]
"""Numbers of any kind at each pixel."""

SMOOTH, GRAIN = 0.8, 1.6
"""Standard deviations of two blurs, in pixels. `SMOOTH` blurs the reliability. `GRAIN`
blurs changes, to remove their grain."""

DARK = 0.02
"""Added to colours before their ratio is taken, since black would divide by zero."""

CELLS, OUTLIER = 12, 0.1
"""`relight` measures light in `CELLS` cells along the long edge. There, a pixel whose
colours differ by `OUTLIER` has half the weight."""

CHANGE = 0.075
"""Change of colours at which paint is half as reliable; at 1.5 times this change, it is
not reliable at all. Errors of the flow at strong edges cause slightly less."""


@partial(jax.jit, static_argnames="degree")
def warp(image: Planes, flow: Flow, *, degree: int = 1) -> Planes:
    """Warp an image by a flow.

    `y(p) = x(p + flow(p))`, where B-splines interpolate x between pixels. Beyond the
    border, x is the nearest pixel of the border.

    Args:
        image: The frame that the flow leads to, h w c.
        flow: h w 2, in pixels.
        degree: Degree of the splines, odd; 1 is linear. In repeated warps, degrees 1
            and 3 blur fine strokes. Degree 7 keeps them, but may overshoot the range.

    Returns:
        The image as seen from the frame that the flow starts at, h w c.

    Example:
        >>> ramp = jnp.arange(4.0)[None, :, None] * jnp.ones((3, 1, 1))
        >>> half = jnp.full((3, 4, 2), jnp.array([0.5, 0]))
        >>> warp(ramp, half)[0, :, 0].tolist()
        [0.5, 1.5, 2.5, 3.0]

    Reference:
        Unser, Aldroubi, Eden (1993), "B-spline signal processing".
    """
    h, w, _ = image.shape
    x = jnp.clip(jnp.arange(w)[None] + flow[..., 0], 0, w - 1)
    y = jnp.clip(jnp.arange(h)[:, None] + flow[..., 1], 0, h - 1)
    left, top = jnp.floor(x), jnp.floor(y)
    across, down = _splines(x - left, degree), _splines(y - top, degree)
    before, taps = degree // 2, degree + 1
    pads = [(before, before + 1), (before, before + 1), (0, 0)]
    coefficients = _convolve(image, _inverse(degree), "reflect")
    source = jnp.pad(coefficients, pads, mode="reflect")
    column, row = left.astype(int), top.astype(int)

    def add(k: Array, total: Array) -> Array:
        i, j = jnp.divmod(k, taps)
        return total + (down[i] * across[j])[..., None] * source[row + i, column + j]

    return jax.lax.fori_loop(0, taps**2, add, jnp.zeros_like(image))


def _splines(t: Array, degree: int) -> Array:
    """The B-splines that are not 0 at places t in [0, 1], by Cox and de Boor."""
    found = [jnp.ones_like(t)]
    for n in range(1, degree + 1):
        left, right = [*found, jnp.zeros_like(t)], [jnp.zeros_like(t), *found]
        found = [
            ((i + 1 - t) * x + (t + n - i) * y) / n
            for i, (x, y) in enumerate(zip(left, right, strict=True))
        ]
    return jnp.stack(found)


def _inverse(degree: int) -> np.ndarray:
    """The filter from pixels to coefficients, without values below 1e-6."""
    from scipy.interpolate import BSpline  # slow to import, only for videos

    spline = BSpline.basis_element(np.arange(degree + 2) - (degree + 1) / 2)
    values = np.nan_to_num(spline(np.arange(-64, 64), extrapolate=False))
    inverse = np.fft.ifft(1 / np.fft.fft(np.fft.ifftshift(values)))
    found = np.fft.fftshift(inverse.real)
    return found[np.abs(found) > 1e-6].astype(np.float32)


def _convolve(image: Planes, window: np.ndarray, border: str) -> Planes:
    """Convolve rows and columns; `border` is a mode of `jnp.pad`."""
    weights, reach = jnp.asarray(window, jnp.float32), len(window) // 2

    def along(x: Array, axis: int) -> Array:
        pads = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
        padded, length = jnp.pad(x, pads, mode=border), x.shape[axis]
        cut = partial(jax.lax.dynamic_slice_in_dim, padded, axis=axis)
        add = lambda i, total: total + weights[i] * cut(i, length)
        return jax.lax.fori_loop(0, len(window), add, jnp.zeros_like(x))

    return along(along(image, 0), 1)


def _blur(image: Planes, deviation: float) -> Planes:
    """Convolve with a Gaussian; border pixels are repeated."""
    reach = round(3.75 * deviation)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    return _convolve(image, window / window.sum(), "edge")


@jax.jit
def reliability(away: Flow, back: Flow | None = None) -> Mask:
    """How reliable a flow is at each pixel, from 0 to 1.

    A pixel is unreliable in three cases. It leaves the picture. It is hidden in the
    other frame, so the flow back does not return:
    `|w + v|² ≥ 0.01 (|w|² + |v|²) + 0.5`. It is at the border of a motion:
    `|∇w|² > 0.01 |w|² + 0.002`. The result is blurred a little, so pixels near hidden
    ones are unreliable, too.

    Args:
        away: The flow w from this frame to the other.
        back: The flow from the other frame to this one; v is `back`, warped by w.
            Default: hidden pixels are not found.

    Returns:
        h w 1 in [0, 1]; 0 is unreliable.

    Example:
        >>> still = jnp.zeros((4, 6, 2))
        >>> float(reliability(still, still).min())
        1.0

    Reference:
        Sundaram, Brox, Keutzer (2010), "Dense point trajectories by GPU-accelerated
        large displacement optical flow"; Ruder et al. (2016), section 4.
    """
    h, w, _ = away.shape
    square = lambda x: jnp.sum(x**2, axis=-1)
    x, y = jnp.arange(w)[None] + away[..., 0], jnp.arange(h)[:, None] + away[..., 1]
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    # One-sided differences at the border, central ones inside, as in NumPy.
    slopes = [jnp.gradient(away, axis=axis) for axis in (0, 1)]
    border = sum(map(square, slopes)) > 0.01 * square(away) + 0.002
    found = jnp.where(inside & ~border, 1.0, 0.0)
    if back is not None:
        seen = warp(back, away)
        most = 0.01 * (square(away) + square(seen)) + 0.5
        found = jnp.where(inside & (square(away + seen) >= most), -1.0, found)
    return jnp.clip(_blur(found[..., None], SMOOTH), 0, 1)


class Paint(NamedTuple):
    """Paint of an earlier frame, as seen from another one."""

    image: Image  # h w 3
    shown: Image  # the content that it was painted for, h w 3
    reliability: Mask  # how reliable both are, h w 1 in [0, 1]


@jax.jit
def relight(paint: Paint, content: Image, target: Image) -> Paint:
    """Give earlier paint the light of a frame; other changes make it unreliable.

    Light is the ratio of the colours of `content`, the frame, to those of the content
    that the paint was made for. Both are averages over large cells of reliable pixels,
    so neither grain nor a small object counts as light. Paint is brightened at most to
    the brightness of `target`.
    """
    image, shown, reliable = paint
    gaps = jnp.mean((content - shown) ** 2, axis=-1, keepdims=True)
    weights = jnp.maximum(2 * reliable - 1, 0) / (1 + gaps / OUTLIER**2)
    shape = content.shape[0], content.shape[1]
    cells = fit_shape(shape, min(CELLS, max(shape)))
    resize = lambda x, shape: jax.image.resize(x, (*shape, x.shape[2]), "linear")
    mean = lambda x: resize(weights * (x + DARK), cells) + 1e-4
    light = mean(content) / mean(shown)
    most = jnp.maximum(1, mean(target) / mean(image))
    fine = lambda x: resize(x, shape)
    lit = fine(light) * shown
    known = jnp.round(reliable)
    same = similarity(known * content, known * lit)
    image = image * fine(jnp.minimum(light, most))
    return Paint(jnp.clip(image, 0, 1), jnp.clip(lit, 0, 1), reliable * same)


@jax.jit
def similarity(image: Planes, other: Planes) -> Mask:
    """Where two images are the same except for grain, h w 1 in [0, 1], see `CHANGE`."""
    gaps = _blur(image - other, GRAIN)
    change = jnp.sqrt(jnp.mean(gaps**2, axis=-1, keepdims=True))
    return jnp.clip(1.5 - change / CHANGE, 0, 1)


def join_past(images: Sequence[Planes], masks: Sequence[Mask]) -> tuple[Planes, Mask]:
    """Join warped earlier frames into one image; each fills gaps of those before it.

    For images y_j with masks c_j, `c_j' = max(c_j - Σ_{i<j} c_i', 0)`. The results are
    the image `y = Σ c_j' y_j / Σ c_j'` and the mask `c = Σ c_j'`. For a picture x, the
    term of Ruder et al. is `Σ_j c_j' |x - y_j|² = c |x - y|² + constant`, so this image
    and this mask give the same gradient.

    Args:
        images: At least one, h w c, the preferred one first.
        masks: Their reliability, h w 1.

    Returns:
        One image, and how reliable it is.

    Example:
        >>> dark, light = jnp.full((1, 1, 3), 0.2), jnp.full((1, 1, 3), 0.8)
        >>> half, whole = jnp.full((1, 1, 1), 0.5), jnp.ones((1, 1, 1))
        >>> image, reliable = join_past([dark, light], [half, whole])
        >>> image.tolist(), reliable.item()
        ([[[0.5, 0.5, 0.5]]], 1.0)

    Reference:
        Ruder, Dosovitskiy, Brox (2016), section 5.1.
    """
    total, weight = jnp.zeros_like(images[0]), jnp.zeros_like(masks[0])
    for image, mask in zip(images, masks, strict=True):
        own = jnp.maximum(mask - weight, 0)
        total, weight = total + own * image, weight + own
    return total / jnp.maximum(weight, 1e-6), weight


@jax.jit
def warping_error(image: Image, before: Image, flow: Flow, mask: Mask) -> Scalar:
    """Measure flicker: how much a frame differs from the warped frame before it.

    `Σ_p c_p |x_p - y_p| / (3 Σ_p c_p)` with the pixels x_p of the frame and y_p of the
    warped frame before it, and the mask c_p.

    Args:
        image: The frame, h w 3.
        before: The frame before it, h w 3.
        flow: Flow from the frame to the frame before it.
        mask: Weight of each pixel, h w 1, usually from `reliability`.

    Returns:
        Mean absolute difference of a channel, in the units of the images.

    Example:
        >>> still, all_of_it = jnp.zeros((4, 6, 2)), jnp.ones((4, 6, 1))
        >>> frame = jnp.full((4, 6, 3), 0.5)
        >>> float(warping_error(frame, frame + 0.25, still, all_of_it))
        0.25
    """
    differences = mask * jnp.abs(image - warp(before, flow))
    return jnp.sum(differences) / jnp.maximum(3 * jnp.sum(mask), 1e-6)
