"""Directions of strokes: how well they agree in a style, and how a content guides them.

A stroke has no front, so its direction is given as (cos 2t, sin 2t), times a length in
[0, 1] that says how certain the direction is. The angle t is that of the gradient, at a
right angle to the stroke.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxnst.masks import fit_mask
from jaxnst.pictures.geometry import rotate
from jaxnst.repaint.filters import find_plain, local_mean, mean_color
from jaxnst.types import Image, Mask

ANGLES = (45, 90, 135)
"""Angles by which each style is rotated, in degrees."""

TURNED = 0.85
"""Weight of a rotated style whose strokes flow. It is < 1 to keep forms upright."""

CHOPPY, FLOWING = 0.6, 0.75
"""Agreement of directions within 17 px, in pictures of 512 px. Up to `CHOPPY`, strokes
do not flow at all, like an impressionist's dabs. From `FLOWING` on, they flow fully,
like those in the sky of Van Gogh's "The Starry Night"."""

AROUND = {1 / 16: 1.0, 1 / 4: 0.15, 1.0: 0.02}
"""The direction at a pixel is a weighted sum over three squares around the pixel. Keys:
side of a square, as a fraction of the content's short edge. Values: weight of the
content's edges inside. Near edges decide, if there are any."""

SURE = 0.3
"""Squared gradient around a pixel, relative to the content's mean, at which the edges
of the content count as much as the strokes painted there."""

FAINT = 1e-4
"""Squared gradient at which the length of a direction is halved."""


class TurnedStyle(NamedTuple):
    """A style, or a rotated copy of it.

    Attributes:
        image: RGB in [0, 1].
        mask: The part of the style that is used; None: all.
        weight: Weight of its patches.
        flow: How much its strokes flow, see `find_flow`.
        plain: How empty the style is, see `filters.find_plain`.
    """

    image: Image
    mask: Mask | None
    weight: float
    flow: float
    plain: float


def turn_style(image: Image, mask: Mask | None, weight: float) -> list[TurnedStyle]:
    """A style, and copies rotated by `ANGLES`, of a weight proportional to its flow."""
    flow, plain = find_flow(image), find_plain(image)

    def turn(x: Image | Mask | None, angle: int) -> Any:
        if x is None:
            return None
        # NumPy reduces two axes much faster one after the other.
        low, high = x.min(axis=0).min(axis=0), x.max(axis=0).max(axis=0)
        return np.clip(rotate(x, angle), low, high)

    own = None if mask is None else fit_mask(mask, (image.shape[0], image.shape[1]))
    part = TURNED * flow * weight, flow, plain
    turned = [TurnedStyle(turn(image, x), turn(own, x), *part) for x in ANGLES]
    return [TurnedStyle(image, mask, weight, flow, plain), *turned]


def find_flow(image: Image) -> float:
    """How much the strokes of a picture flow, from 0 to 1.

    Strokes flow if neighbouring directions agree. The mean of the directions is then
    nearly as long as each of them.
    """
    tensor = local_mean(_structure(image), 5)
    strength = np.sum(tensor[..., :2], axis=-1, keepdims=True)
    directions = _double_angles(tensor) / (strength + FAINT)
    around = local_mean(directions, 17)
    agreement = np.sqrt(np.sum(around**2) / (np.sum(directions**2) + 1e-9))
    return float(np.clip((agreement - CHOPPY) / (FLOWING - CHOPPY), 0, 1))


def lead_strokes(content: Image) -> Float[np.ndarray, "_h _w 2"]:
    """Wanted directions of strokes: along the edges of a content."""
    tensor, shortest = _structure(content), min(content.shape[:2])

    def around(part: float) -> Float[np.ndarray, "_h _w 3"]:
        side = 2 * round(part * shortest / 2) + 1
        return local_mean(local_mean(tensor, side), side)

    means = {part: around(part) for part in AROUND}
    mixed = sum((AROUND[part] * mean for part, mean in means.items()), 0 * tensor)
    directions = _double_angles(mixed)
    length = np.linalg.norm(directions, axis=-1) + np.float32(1e-9)
    energy = np.sum(means[min(AROUND)][..., :2], axis=-1)
    sure = energy / (energy + SURE * np.mean(energy) + np.float32(1e-9))
    return directions * (sure / length)[..., None]


def _double_angles(
    tensor: Float[np.ndarray, "_h _w 3"],
) -> Float[np.ndarray, "_h _w 2"]:
    """Directions (cos 2t, sin 2t) of structure tensors, not normalised."""
    return np.stack([tensor[..., 0] - tensor[..., 1], 2 * tensor[..., 2]], axis=-1)


def _structure(image: Image) -> Float[np.ndarray, "_h _w 3"]:
    """The structure tensor of each pixel: x², y² and x y of the gradient (x, y)."""
    y, x = np.gradient(mean_color(image))
    return np.stack([x**2, y**2, x * y], axis=-1)
