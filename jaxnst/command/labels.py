"""`--labels`: pictures whose plain colours, or class numbers, divide other pictures."""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from jaxnst.masks import fit_mask
from jaxnst.painting.scene import Region, Style
from jaxnst.pictures.files import load_image
from jaxnst.types import Mask

COMMON = 0.002
"""Share of a picture from which on a colour is a label."""

LOSSY = (".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif")
"""Suffixes of formats that usually change colours."""

MOST = 64
"""Most labels of a picture."""

ALIKE, PLAIN = 48 / 255, 12 / 255
"""What colours differ by that are the same label after a lossy compression, and what
neighbours do inside it."""

Colors = Float[np.ndarray, "_n 3"]


def label_regions(
    labels: Sequence[Path], styles: Sequence[Style], shape: tuple[int, ...]
) -> list[Region]:
    """Regions of the same colour in the labels of a content and of its styles."""
    first, *others = [np.asarray(load_image(path)) for path in labels]
    colors, *of_others = [
        find_labels(pixels, lossy=path.suffix.lower() in LOSSY)
        for path, pixels in zip(labels, (first, *others), strict=True)
    ]
    if len(colors) < 2 or len(colors) > MOST:
        raise ValueError(
            f"expected a picture of 2 to {MOST} plain colours or class numbers at "
            f"{labels[0]}, got {len(colors)}; save it as a PNG, without compression "
            "that changes colours"
        )
    reach = min(ALIKE, _spacing(colors) / 2)
    for path, own in zip(labels[1:], of_others, strict=True):
        if any(np.abs(colors - color).max(-1).min() > reach for color in own):
            raise ValueError(
                f"expected only labels of {labels[0]} in {path}, got a colour on one "
                "side only; paint it there too, or use another colour"
            )
    of_content = assign_labels(first, colors)
    of_styles = [assign_labels(pixels, colors) for pixels in others]
    regions = []
    for i, color in enumerate(colors):
        name = "#" + "".join(f"{round(float(x) * 255):02x}" for x in color)
        parts = [
            style._replace(mask=_as_mask(found == i, style.image.shape))
            for style, found in zip(styles, of_styles, strict=True)
            if (found == i).mean() > COMMON
        ]
        if not parts:
            raise ValueError(
                f"expected the label {name} of {labels[0]} in the labels of a style "
                "too, got it on one side only; paint it there, or use another colour"
            )
        regions.append(Region(parts, _as_mask(of_content == i, shape)))
    return regions


def find_labels(pixels: Float[np.ndarray, "_h _w 3"], *, lossy: bool = False) -> Colors:
    """The colours of the plain parts of a picture, the most frequent first.

    A picture of few colours is taken literally, so that class numbers 0, 1, 2 … are
    labels. If it has many, or was compressed with losses, similar colours are one
    label.

    Example:
        >>> numbers = np.repeat([0, 1, 2], 8)[None, :, None] / np.float32(255)
        >>> len(find_labels(np.tile(numbers, (8, 1, 3))))
        3
    """
    exact = not lossy and len(_count(pixels.reshape(-1, 3))[0]) <= MOST
    plain = _is_plain(pixels, 0.0 if exact else PLAIN)
    colors, counts = _count(pixels[plain])
    alike = 0 if exact else ALIKE
    labels, shares = np.zeros((0, 3), np.float32), []
    while len(colors) and len(labels) <= MOST:
        near = np.abs(colors - colors[0]).max(-1) <= alike
        labels, share = np.vstack([labels, colors[:1]]), counts[near].sum()
        shares.append(share / max(1, plain.size))
        colors, counts = colors[~near], counts[~near]
    return labels[np.array(shares, float) >= COMMON]


def _count(colors: Colors) -> tuple[Colors, Int[np.ndarray, "_n"]]:
    """The different colours and how often each is there, the most frequent first."""
    levels = np.rint(colors * 65535).astype(np.int64)
    keys, counts = np.unique(levels @ [1, 2**16, 2**32], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    found = keys[order, None] // [1, 2**16, 2**32] % 2**16
    return np.float32(found / 65535), counts[order]


def _is_plain(
    pixels: Float[np.ndarray, "_h _w 3"], most: float
) -> Bool[np.ndarray, "_h _w"]:
    """Where the 3 x 3 pixels around one differ by that much at most."""
    size = (3, 3, 1)
    spread = ndimage.maximum_filter(pixels, size) - ndimage.minimum_filter(pixels, size)
    return spread.max(-1) <= most


def _spacing(colors: Colors) -> float:
    """The smallest distance between two colours."""
    far = np.abs(colors[:, None] - colors[None]).max(-1)
    return float(far[~np.eye(len(colors), dtype=bool)].min())


def assign_labels(
    pixels: Float[np.ndarray, "_h _w 3"], colors: Colors
) -> Int[np.ndarray, "_h _w"]:
    """Index of the label of each pixel.

    A soft edge between two labels may have the colour of a third. So a pixel has the
    label of its colour only if all around it have it too, in a part that is plain
    somewhere; others have the label of the nearest such pixel.
    """
    near = np.zeros(pixels.shape[:2], int)
    least = np.full(pixels.shape[:2], np.inf)
    for i, color in enumerate(colors):
        far = np.abs(pixels - color).max(-1)
        near, least = np.where(far < least, i, near), np.minimum(far, least)
    if not least.any():  # there are no soft edges
        return near
    whole = ndimage.minimum_filter(near, 3) == ndimage.maximum_filter(near, 3)
    plain = _is_plain(pixels, PLAIN) & (least <= min(ALIKE, _spacing(colors) / 2))
    sure = np.zeros_like(whole)
    for i in range(len(colors)):
        parts, count = ndimage.label(whole & (near == i))
        kept = np.zeros(count + 1, bool)
        kept[np.unique(parts[plain])] = True
        kept[0] = False
        sure |= kept[parts]
    if not sure.any():
        return near
    rows, columns = ndimage.distance_transform_edt(
        ~sure, return_distances=False, return_indices=True
    )
    return near[rows, columns]


def _as_mask(found: Bool[np.ndarray, "_h _w"], shape: tuple[int, ...]) -> Mask:
    """A mask of a part of a label picture, in the size of what it labels."""
    mask = jnp.asarray(found[..., None], jnp.float32)
    return fit_mask(mask, (shape[0], shape[1]))
