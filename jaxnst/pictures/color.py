"""Colour transfer between images.

Lightness and chroma are those of OKLab, which follows human vision: each pixel has the
lightness L, and the chroma a and b.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnst.types import Image, Mask


def match_palette(
    image: Image,
    references: list[Image],
    *,
    blend: Float[Array | np.ndarray, "_n"] | None = None,
    epsilon: float = 1e-3,
    mask: Mask | None = None,
    reference_masks: Sequence[Mask | None] = (),
) -> Float[np.ndarray, "_h _w 3"]:
    """Give an image the mean and covariance of the colours of other images.

    `x ↦ ν + T (x - μ)` with `T = A^-½ (A^½ B A^½)^½ A^-½`, where μ and A are mean and
    covariance of the image, ν and B those of the references. This is the optimal
    transport between the two Gaussians: of all linear maps from one to the other, it
    changes the colours least. It runs on the host.

    Args:
        image: RGB in [0, 1], h w 3.
        references: At least one image, RGB in [0, 1], each of any size.
        blend: Weights of the references, (n,). Their absolute values are normalised to
            the sum 1. Default: equal weights.
        epsilon: Added to the variances of image and references, so that noise and other
            faint colours of the image do not become as strong as the references'.
        mask: Pixels of the image whose colours are measured. Default: all.
        reference_masks: For each reference, the pixels that are measured. Default: all.

    Returns:
        The image in its new colours, h w 3, clipped to [0, 1].

    Example:
        >>> x = jax.random.uniform(jax.random.key(0), (8, 8, 3), minval=0.4, maxval=0.6)
        >>> np.allclose(match_palette(x, [x]), x, atol=1e-4)
        True

    Reference:
        Pitié, Kokaram (2007), "The linear Monge-Kantorovitch linear colour mapping".
    """
    mean, a = _moments(image, mask, epsilon)
    target, b = _blended_moments(references, blend, reference_masks, epsilon)
    matrix = _transport(a, b)
    return ColorMap(matrix, target - mean @ matrix)(image)


LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the luma."""

BINS = np.linspace(0, 1, 257)
"""Edges of the bins in which `match_lightness` counts pixels."""

FLATTEST, STEEPEST = 0.5, 3
"""Smallest and largest factor on differences in `match_lightness`. The smallest keeps
bright forms visible. The largest keeps the grain of a flat sky faint."""


def match_lightness(
    image: Image,
    references: list[Image],
    *,
    blend: Float[Array | np.ndarray, "_n"] | None = None,
    mask: Mask | None = None,
    reference_masks: Sequence[Mask | None] = (),
) -> Float[np.ndarray, "_h _w 3"]:
    """Give an image the distribution of lights and darks of other images.

    `x ↦ x + f(l) - l`, where l is the luma of x, and f maps the quantiles of l to those
    of the references: optimal transport in one dimension. The slope of f is limited to
    [`FLATTEST`, `STEEPEST`], and a constant then corrects the mean. It runs on the
    host.

    Arguments and result are those of `match_palette`, without `epsilon`.

    Example:
        >>> x = jnp.linspace(0.2, 0.8, 400).reshape(20, 20, 1).repeat(3, 2)
        >>> moved = match_lightness(x, [x**1.5])
        >>> bool(np.abs(moved - x**1.5).max() < 0.03)
        True
    """
    ranks, luma = _ranks(image, mask), np.asarray(image) @ LUMA
    weights = np.ones(len(references)) if blend is None else np.abs(blend)
    pairs = zip(references, reference_masks or [None] * len(references), strict=True)
    aims = [np.interp(ranks, _ranks(*pair), BINS) for pair in pairs]
    aim = np.average(aims, 0, weights)
    width = np.diff(BINS)
    slopes = np.clip(np.diff(aim), FLATTEST * width, STEEPEST * width)
    curve = np.append(0, np.cumsum(slopes))
    missing = aim - curve
    curve += np.diff(ranks) @ (missing[1:] + missing[:-1]) / 2
    moved = np.interp(luma, BINS, curve).astype(np.float32)
    return np.clip(np.asarray(image) + (moved - luma)[..., None], 0, 1)


def _ranks(image: Image, mask: Mask | None) -> Float[np.ndarray, "257"]:
    """The share of an image darker than each edge of `BINS`; strictly increasing."""
    luma, weights = np.asarray(image) @ LUMA, None if mask is None else mask[..., 0]
    counts, _ = np.histogram(luma.clip(0, 1), BINS, weights=weights)
    ranks = np.append(0, np.cumsum(counts + 1e-6 * counts.sum() + 1e-9))
    return ranks / ranks[-1]


Vector = Float[np.ndarray, "_n"]
Matrix = Float[np.ndarray, "_n _n"]


class ColorMap(NamedTuple):
    """An affine map of colours, `x ↦ x @ matrix + offset`, clipped to [0, 1].

    Example:
        >>> darker = ColorMap(np.eye(3) / 2, np.zeros(3))
        >>> darker(np.ones((1, 1, 3))).tolist()
        [[[0.5, 0.5, 0.5]]]
    """

    matrix: Float[np.ndarray, "3 3"]
    offset: Float[np.ndarray, "3"]

    def __call__(
        self, image: Image | Float[np.ndarray, "_h _w 3"]
    ) -> Float[np.ndarray, "_h _w 3"]:
        """The image in its new colours."""
        moved = np.asarray(image) @ self.matrix.astype(np.float32)
        moved += self.offset.astype(np.float32)
        return np.clip(moved, 0, 1, out=moved)


SAMPLED = 2**18
"""Approximate number of pixels on which `fit_colors` measures colours."""

STRONGEST = 4.0
"""Largest factor on differences of colours in `fit_colors`, along each principal axis
of the image's colours, so that the noise of a grey photograph stays faint."""

FITTED = 12
"""Rounds in which `fit_colors` corrects for clipping."""

CLIPPED = 0.15
"""Largest share of all numbers that a better fit may clip. It keeps a sky from becoming
plain white."""


def fit_colors(
    image: Image,
    references: list[Image],
    *,
    blend: Float[Array | np.ndarray, "_n"] | None = None,
    mask: Mask | None = None,
    reference_masks: Sequence[Mask | None] = (),
) -> ColorMap:
    """Fit the map that gives an image the mean and covariance of other colours.

    Unlike `match_palette`, it corrects for clipping. It tries `FITTED` maps and returns
    the best one. Each map corrects the error that clipping has left in the mean and
    covariance of the map before. A map that clips more than the share `CLIPPED` is
    returned only if all maps do.

    Arguments and reference are those of `match_palette`, without `epsilon`.

    Returns:
        The map, which may be used for other images as well, such as later frames.

    Example:
        >>> x = jax.random.uniform(jax.random.key(0), (16, 16, 3))
        >>> y = 0.3 + 0.4 * jax.random.uniform(jax.random.key(1), (16, 16, 3))
        >>> found = fit_colors(x, [y])(x)
        >>> np.allclose(found.std((0, 1)), y.std((0, 1)), rtol=0.02)
        True
    """
    target, b = _blended_moments(references, blend, reference_masks, 1e-6)
    pixels, seen = _sample(image, mask)
    mean, a = _moments(pixels, seen, 1e-6)
    fits, aim, aimed = [], target, b
    for _ in range(FITTED):
        matrix = _transport(a, _limit(aimed, a))
        fitted = ColorMap(matrix, aim - mean @ matrix)
        moved = fitted(pixels)
        found, covariance = _moments(moved, seen, 1e-6)
        clipped = np.mean((moved == 0) | (moved == 1), axis=-1, keepdims=True)
        error = np.linalg.norm(covariance - b) + np.linalg.norm(found - target)
        fits.append((max(np.average(clipped, None, seen), CLIPPED), error, fitted))
        aim = aim + target - found
        missing = _transport(covariance, b)
        aimed = missing @ aimed @ missing
    return min(fits, key=lambda fit: fit[:2])[2]


def _limit(covariance: Matrix, of: Matrix) -> Matrix:
    """A covariance with at most `STRONGEST` times the deviations of another one."""
    variances, axes = np.linalg.eigh(of)  # its axes, so that noise in one stays faint
    within = axes.T @ covariance @ axes
    most = STRONGEST**2 * np.maximum(variances, 0) / np.maximum(np.diag(within), 1e-12)
    scaled = axes * np.sqrt(np.minimum(1, most))
    return scaled @ within @ scaled.T


def _sample(
    image: Image | Float[np.ndarray, "_h _w 3"], mask: Mask | None
) -> tuple[Float[np.ndarray, "_h _w 3"], Mask | None]:
    """About `SAMPLED` pixels of an image, evenly spaced, and of its mask."""
    every = max(1, round(math.sqrt(math.prod(image.shape[:2]) / SAMPLED)))
    some = lambda x: np.asarray(x)[::every, ::every]
    if mask is None:
        return some(image), None
    seen = some(mask)  # it may miss a thin mask
    return (some(image), seen) if seen.any() else (np.asarray(image), np.asarray(mask))


def _transport(a: Matrix, b: Matrix) -> Matrix:
    """The symmetric T with `T A T = B`: `A^-½ (A^½ B A^½)^½ A^-½`."""
    root, inverse = _map_values(a, np.sqrt), _map_values(a, lambda x: x**-0.5)
    return inverse @ _map_values(root @ b @ root, np.sqrt) @ inverse


def _moments(
    image: Float[Array | np.ndarray, "_h _w _n"], mask: Mask | None, epsilon: float
) -> tuple[Vector, Matrix]:
    """Mean and covariance of the colours, in float64."""
    pixels = np.asarray(image).reshape(-1, image.shape[-1])
    weights = None if mask is None else np.asarray(mask).reshape(-1)
    mean = np.average(pixels, 0, weights).astype(np.float64)
    centred = pixels - mean.astype(np.float32)
    weighted = centred if weights is None else weights[:, None] * centred
    covariance = np.float64(weighted.T @ centred)
    covariance /= len(pixels) if weights is None else np.sum(weights, dtype=np.float64)
    return mean, covariance + epsilon * np.eye(len(mean))


def _blended_moments(
    references: Sequence[Image],
    blend: Float[Array | np.ndarray, "_n"] | None,
    masks: Sequence[Mask | None],
    epsilon: float,
) -> tuple[Vector, Matrix]:
    """The weighted mean of the moments of images."""
    weights = np.ones(len(references)) if blend is None else np.abs(blend)
    weights = weights / np.sum(weights)
    pairs = zip(references, masks or [None] * len(references), strict=True)
    found = [_moments(x, mask, epsilon) for x, mask in pairs]
    means, covariances = zip(*found, strict=True)
    target = np.tensordot(weights, np.stack(means), 1)
    return target, np.tensordot(weights, np.stack(covariances), 1)


def _map_values(matrix: Matrix, function: Callable[[Vector], Vector]) -> Matrix:
    """Apply a function to the eigenvalues, made > 0, of a symmetric matrix."""
    values, vectors = np.linalg.eigh(matrix)
    # The floor stays below tiny eigenvalues, such as those of greys.
    least = np.clip(1e-7 * np.max(values), 1e-30, 1e-12)
    return (vectors * function(np.maximum(values, least))) @ vectors.T


_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
"""Responses of the eye's cones to linear red, green and blue."""

_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
"""L, a and b of the cube roots of the responses."""


@jax.jit
def to_oklab(image: Image) -> Float[Array, "_h _w 3"]:
    """Convert RGB in [0, 1] to OKLab: L in [0, 1], a and b around 0.

    Example:
        >>> to_oklab(jnp.ones((1, 1, 3))).round(3).tolist()
        [[[1.0, 0.0, 0.0]]]

    Reference:
        Ottosson (2020), "A perceptual color space for image processing".
    """
    linear = jnp.where(
        image > 0.04045, ((jnp.maximum(image, 0) + 0.055) / 1.055) ** 2.4, image / 12.92
    )
    return _colors(jnp.cbrt(_colors(linear, _LMS)), _LAB)


@jax.jit
def from_oklab(lab: Float[Array | np.ndarray, "_h _w 3"]) -> Image:
    """Convert OKLab to RGB. Colours that RGB does not have lie outside [0, 1]."""
    cones = _colors(lab, np.linalg.inv(_LAB)) ** 3
    linear = _colors(cones, np.linalg.inv(_LMS))
    curve = 1.055 * jnp.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    return jnp.where(linear > 0.0031308, curve, 12.92 * linear)


def _colors(image: Image, matrix: Any) -> Float[Array, "_h _w 3"]:
    """Multiply every colour by a matrix."""
    rows = jnp.asarray(np.asarray(matrix, np.float32))
    return jnp.einsum("hwc,dc->hwd", image, rows, precision="highest")


@jax.jit
def to_grey(image: Image) -> Image:
    """Convert an image to greys of the same lightness, clipped to [0, 1]."""
    lightness = to_oklab(image)[..., :1]
    none = jnp.zeros((*image.shape[:2], 2))
    return jnp.clip(from_oklab(jnp.concatenate([lightness, none], axis=-1)), 0, 1)


BISECTIONS = 12
"""Bisections in `with_lightness`. They find the possible change of the lightness to
1/4096 of the wanted change."""


@jax.jit
def with_lightness(image: Image, other: Image) -> Image:
    """Give an image the lightness of another image, and keep its own chroma exactly.

    Where no RGB colour has this lightness and chroma, the nearest possible lightness is
    taken.

    Args:
        image: RGB in [0, 1], h w 3.
        other: RGB in [0, 1], of the same shape.

    Returns:
        RGB in [0, 1].

    Example:
        >>> color = jnp.array([[[0.5, 0.4, 0.3]]])
        >>> moved = with_lightness(color, jnp.full((1, 1, 3), 0.7))
        >>> bool(jnp.allclose(to_oklab(moved)[..., 1:], to_oklab(color)[..., 1:], 1e-3))
        True
    """
    lab = to_oklab(image)
    way = (to_oklab(other) - lab) * jnp.array([1.0, 0.0, 0.0])[None, None]

    def shown(part: Array) -> Array:
        rgb = from_oklab(lab + part * way)
        return jnp.all((rgb >= 0) & (rgb <= 1), axis=-1, keepdims=True)

    def halve(i: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        fits = shown(middle)
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    none = jnp.zeros((*image.shape[:2], 1))
    found, _ = jax.lax.fori_loop(0, BISECTIONS, halve, (none, none + 1))
    part = jnp.where(shown(none + 1), 1, found)
    return jnp.clip(from_oklab(lab + part * way), 0, 1)


LARGEST_CHANGE = 2
"""Largest factor on the chroma in `match_chroma`, so that the noise of a monochrome
picture is not amplified."""


def match_chroma(
    image: Image,
    reference: Image,
    *,
    mask: Mask | None = None,
    reference_mask: Mask | None = None,
) -> Float[np.ndarray, "_h _w 3"]:
    """Give the chroma of an image the mean and covariance of another image's chroma.

    The lightness stays. The match is repeated, since colours outside RGB are clipped.

    Args:
        image: RGB in [0, 1], h w 3.
        reference: RGB in [0, 1], of any size.
        mask: Pixels of the image that are measured. Default: all.
        reference_mask: Pixels of the reference that are measured. Default: all.

    Returns:
        RGB in [0, 1], h w 3.
    """
    target, b = _moments(to_oklab(reference)[..., 1:], reference_mask, 1e-7)
    _, a = _moments(to_oklab(image)[..., 1:], mask, 1e-7)
    most = _map_values(_transport(a, b), lambda x: np.minimum(x, LARGEST_CHANGE))
    b = most @ a @ most
    for _ in range(4):
        lab = np.array(to_oklab(image))
        mean, a = _moments(lab[..., 1:], mask, 1e-7)
        matrix = _transport(a, b)
        offset = np.float32(target - mean @ matrix)
        lab[..., 1:] = lab[..., 1:] @ matrix.astype(np.float32) + offset
        image = np.clip(from_oklab(lab), 0, 1)
    return np.asarray(image)
