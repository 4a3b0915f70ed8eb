"""Directions of strokes: where the edges of a content lead them, and turned styles.

Strokes have no head, so a direction t is given as (cos 2t, sin 2t), times a length that
says how sure it is, from 0 to 1. It is that of the gradient, at a right angle to them.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxnst.masks import fit_mask
from jaxnst.pictures.geometry import rotate
from jaxnst.repaint.filters import local_mean
from jaxnst.types import Image, Mask

ANGLES = (45, 90, 135)
"""Angles that each style is turned by, in degrees."""

TURNED = 0.85
"""Weight of a turned style: what is upright in a painting rather stays so."""

AROUND = {1 / 16: 1.0, 1 / 4: 0.15, 1.0: 0.02}
"""Weights of the content's edges in a square around a pixel, by the square's side in
short edges of the content: near edges decide, where there are any."""

SURE = 0.3
"""Squared gradient around a pixel, in the mean of the content's, at which the edges of
the content decide as much as the strokes that are laid there."""


def turn_style(
    image: Image, mask: Mask | None, weight: float
) -> list[tuple[Image, Mask | None, float]]:
    """A style with its mask and weight, as it is, and turned by each of `ANGLES`."""

    def turn(x: Image | Mask | None, angle: int) -> Any:
        if x is None:
            return None
        return np.clip(rotate(x, angle), x.min(axis=(0, 1)), x.max(axis=(0, 1)))

    own = None if mask is None else fit_mask(mask, image.shape[:2])
    turned = ((turn(image, x), turn(own, x), TURNED * weight) for x in ANGLES)
    return [(image, mask, weight), *turned]


def lead_strokes(content: Image) -> Float[np.ndarray, "_h _w 2"]:
    """Directions that strokes should have: along the edges of a content."""
    down, along = np.gradient(np.mean(content, axis=-1))
    tensor = np.stack([along**2, down**2, along * down], axis=-1)
    shortest = min(content.shape[:2])

    def around(part: float) -> Float[np.ndarray, "_h _w 3"]:
        side = 2 * round(part * shortest / 2) + 1
        return local_mean(local_mean(tensor, side), side)

    means = {part: around(part) for part in AROUND}
    mixed = sum((AROUND[part] * mean for part, mean in means.items()), 0 * tensor)
    directions = np.stack([mixed[..., 0] - mixed[..., 1], 2 * mixed[..., 2]], axis=-1)
    length = np.linalg.norm(directions, axis=-1) + np.float32(1e-9)
    energy = np.sum(means[min(AROUND)][..., :2], axis=-1)
    sure = energy / (energy + SURE * np.mean(energy) + np.float32(1e-9))
    return directions * (sure / length)[..., None]
