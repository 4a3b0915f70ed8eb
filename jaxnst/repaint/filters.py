"""Filters on whole pictures before and after the search, on the host."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, uniform_filter1d

from jaxnst.types import Image, Mask

CONTRAST = 0.25
"""Standard deviation within 5 x 5 px at which the strength of an edge is 1/2, relative
to the standard deviation of the picture."""

CLARITY = 3
"""Largest gain of faint forms of the content."""

GRAIN = 0.015
"""Standard deviation of the grey values in a neighbourhood at which a form gets half
the gain. Fainter forms are more likely grain."""

LONE, SCARCE = 2, 4
"""A lone mark is a patch whose standard deviation is more than `LONE` times that of its
surroundings. Distances to it are multiplied by at most `SCARCE`."""

EMPTY = 0.08
"""Largest standard deviation within 7 x 7 px in empty paper, relative to the standard
deviation of the picture."""

FILLED, DRAWN = 0.1, 0.42
"""Shares of empty paper at which `find_plain` is 0 (a painting) and 1 (a drawing)."""

SHARPEST = 2
"""Largest gain of the finest details."""

Pixels = Float[np.ndarray, "_h _w _c"]


def halves(image: Pixels, levels: int) -> list[Pixels]:
    """An image at full size, half size, quarter size, and so on."""
    found = [np.clip(image, 0, 1)]
    for _ in range(levels - 1):
        pads = [(0, side % 2) for side in found[-1].shape[:2]]
        even = np.pad(found[-1], [*pads, (0, 0)], mode="edge")
        rows = even[::2] + even[1::2]
        found.append((rows[:, ::2] + rows[:, 1::2]) / 4)
    return found


def find_edges(image: Image) -> Float[np.ndarray, "_h _w"]:
    """Strength of the edges near each pixel, from 0 to 1."""
    image = np.asarray(image)
    deviation = np.sqrt(_local_variance(image, 5))
    whole = np.sqrt(np.mean([np.var(image[..., i]) for i in range(3)]))
    return deviation / (deviation + CONTRAST * whole + np.float32(1e-3))


def clarify(image: Image) -> Float[np.ndarray, "_h _w 3"]:
    """Strengthen faint forms, so that thin and dark ones get strokes of their own.

    Differences from the mean of a neighbourhood, whose side is a sixth of the short
    edge, are multiplied by 1 to `CLARITY`: less where there is more contrast.
    """
    image = np.asarray(image)
    side = 2 * (min(image.shape[:2]) // 12) + 1
    grey = mean_color(image)
    variance = _local_variance(grey[..., None], side)
    faint = 1 - np.sqrt(variance) / (np.std(grey) + np.float32(1e-6))
    form = variance / (variance + np.float32(GRAIN**2))
    gain = 1 + (CLARITY - 1) * form * np.clip(faint, 0, 1)
    mean = local_mean(image, side)
    return np.clip(mean + (image - mean) * gain[..., None], 0, 1)


def find_lone_marks(image: Image) -> Float[np.ndarray, "_h _w"]:
    """Factor ≥ 1 on the distance to each patch of a style, larger at lone marks.

    Signatures, birds and specks are not strokes. They have more contrast than their
    surroundings, and would be recognised in a flat part of another picture.
    """
    deviation = np.sqrt(_local_variance(image, 7))
    around = local_mean(deviation[..., None], 9 * 7)[..., 0]
    ratio = deviation / (LONE * around + np.float32(1e-3))
    return np.clip(ratio**2, 1, SCARCE)


def find_plain(image: Image) -> float:
    """How empty a picture is, from 0 (a painting) to 1 (lines on paper)."""
    deviation = np.sqrt(_local_variance(image, 7))
    share = np.mean(deviation < EMPTY * np.std(mean_color(image)))
    return float(np.clip((share - FILLED) / (DRAWN - FILLED), 0, 1))


def sharpen(
    image: Image, mask: Mask | None, styles: Sequence[tuple[Image, Mask | None]]
) -> Float[np.ndarray, "_h _w 3"]:
    """Give the finest details of a picture the strength that they have in its styles.

    Averaging overlapping patches has removed a third of that strength. Masks say which
    part of the picture, and of each style, counts.
    """

    def find_details(image: Image) -> Pixels:
        image = np.asarray(image)
        return image - gaussian_filter(image, (1, 1, 0), mode="nearest")

    def strength(details: Pixels, mask: Mask | None) -> float:
        weights = 1 if mask is None else mask / (np.mean(mask) + np.float32(1e-9))
        return float(np.mean(weights * details**2))

    details = find_details(image)
    wanted = np.mean([strength(find_details(x), part) for x, part in styles])
    gain = np.sqrt(wanted / (strength(details, mask) + 1e-9)).clip(1, SHARPEST)
    return np.clip(image + np.float32(gain - 1) * details, 0, 1)


def _local_variance(image: Pixels, side: int) -> Float[np.ndarray, "_h _w"]:
    """Variance within the square around each pixel, a mean over the channels."""
    centred = image - image.mean(axis=0).mean(axis=0)
    variance = local_mean(centred**2, side) - local_mean(centred, side) ** 2
    return mean_color(np.maximum(variance, 0))


def mean_color(image: Pixels) -> Float[np.ndarray, "_h _w"]:
    """Mean of the channels of each pixel, by a matrix product, which is faster."""
    channels = image.shape[-1]
    return image @ np.full(channels, 1 / channels, np.float32)


def local_mean(image: Pixels, side: int) -> Pixels:
    """Mean over the square around each pixel; `side` is odd."""
    for axis in (0, 1):
        image = uniform_filter1d(image, side, axis=axis, mode="nearest")
    return image
