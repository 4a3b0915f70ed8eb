"""What is found in pictures before patches are looked up, on the host."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, uniform_filter1d

from jaxnst.types import Image, Mask

CONTRAST = 0.25
"""Standard deviation of colours within 5 x 5 px, in those of all, of half an edge."""

CLARITY = 3
"""How many times at most faint forms of the content are strengthened."""

GRAIN = 0.015
"""Standard deviation of luminance, in a neighbourhood, of a half strengthened form:
what is fainter is rather grain than a form."""

LONE, SCARCE = 2, 4
"""How many times as much as those around it a patch deviates from its mean, at least,
if it is a lone mark; and how much farther such patches count, at most."""

EMPTY = 0.08
"""Standard deviation of colours within 7 x 7 px, in that of all, of empty paper."""

FILLED, DRAWN = 0.1, 0.42
"""Share of empty paper in pictures that are painted all over, and in drawings."""

SHARPEST = 2
"""How many times at most the finest details are strengthened."""

Pixels = Float[np.ndarray, "_h _w _c"]


def halves(image: Pixels, levels: int) -> list[Pixels]:
    """An image at its size, a half of it, a quarter, and so on."""
    found = [np.clip(image, 0, 1)]
    for _ in range(levels - 1):
        pads = [(0, side % 2) for side in found[-1].shape[:2]]
        even = np.pad(found[-1], [*pads, (0, 0)], mode="edge")
        rows = even[::2] + even[1::2]
        found.append((rows[:, ::2] + rows[:, 1::2]) / 4)
    return found


def find_edges(image: Image) -> Float[np.ndarray, "_h _w"]:
    """How much of an edge each pixel has nearby, 0 to 1."""
    image = np.asarray(image)
    deviation = np.sqrt(_local_variance(image, 5))
    whole = np.sqrt(np.mean([np.var(image[..., i]) for i in range(3)]))
    return deviation / (deviation + CONTRAST * whole + np.float32(1e-3))


def clarify(image: Image) -> Float[np.ndarray, "_h _w 3"]:
    """Strengthen faint forms: thin and dark ones, too, find a stroke of their own.

    What differs from the mean of a neighbourhood, of a sixth of the short edge, is
    multiplied by 1 to `CLARITY`: the less, the livelier the neighbourhood is.
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
    """How much farther patches of a style count where there are lone marks, from 1.

    Signatures, birds and specks are no strokes: they are livelier than all around them,
    and in a flat part of another picture one would recognise them.
    """
    deviation = np.sqrt(_local_variance(image, 7))
    around = local_mean(deviation[..., None], 9 * 7)[..., 0]
    ratio = deviation / (LONE * around + np.float32(1e-3))
    return np.clip(ratio**2, 1, SCARCE)


def find_plain(image: Image) -> float:
    """How much of a picture is empty, from 0, a painting, to 1, lines on paper."""
    deviation = np.sqrt(_local_variance(image, 7))
    share = np.mean(deviation < EMPTY * np.std(mean_color(image)))
    return float(np.clip((share - FILLED) / (DRAWN - FILLED), 0, 1))


def sharpen(
    image: Image, mask: Mask | None, styles: Sequence[tuple[Image, Mask | None]]
) -> Float[np.ndarray, "_h _w 3"]:
    """Give the finest details of a picture the strength that they have in its styles.

    Where patches overlap they are averaged, which takes a third of it. Masks say which
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
    """Mean of the channels of each pixel, by a product, which takes NumPy less time."""
    channels = image.shape[-1]
    return image @ np.full(channels, 1 / channels, np.float32)


def local_mean(image: Pixels, side: int) -> Pixels:
    """Mean of the square around each pixel, of that odd side."""
    for axis in (0, 1):
        image = uniform_filter1d(image, side, axis=axis, mode="nearest")
    return image
