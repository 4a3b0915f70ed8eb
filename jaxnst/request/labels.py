"""`--labels`: region maps, whose colours or class numbers divide other pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from jaxnst.masks import fit_mask
from jaxnst.painting.scene import Region, Style
from jaxnst.pictures.files import load_numbers
from jaxnst.types import Mask

COMMON = 0.002
"""Smallest share of a picture for which a colour is a label."""

MOST_LABELS = 64
"""Most labels of a picture."""

ALIKE, PLAIN = 24 / 255, 12 / 255
"""Largest difference, after lossy compression, of two colours of one label, and of two
neighbouring pixels inside a label."""

Colors = Float[np.ndarray, "_n 3"]
Pixels = Float[np.ndarray, "_h _w 3"]


class Labels(NamedTuple):
    """A label picture."""

    pixels: Pixels  # RGB in [0, 1]
    alike: float  # largest difference of two colours of one label
    colors: Colors  # of the labels, the most frequent first


def read_labels(path: Path) -> Labels:
    """Read a label picture.

    In a picture of few colours, each colour is a label, such as a class number 0, 1,
    2 …. In a picture of many colours, or in a lossy format, similar colours are one
    label.
    """
    pixels = load_numbers(path)
    few = len(_count(pixels.reshape(-1, 3))[0]) <= MOST_LABELS
    alike = ALIKE if _is_lossy(path) or not few else 0.0
    return Labels(pixels, alike, find_labels(pixels, alike))


def _is_lossy(path: Path) -> bool:
    """Whether a file is of a format that usually changes colours."""
    with path.open("rb") as file:
        start = file.read(4096)
    webp = start[8:12] == b"WEBP" and b"VP8L" not in start
    return start[:2] == b"\xff\xd8" or start[4:8] in (b"ftyp", b"jP  ") or webp


def label_regions(
    labels: Sequence[Path],
    styles: Sequence[Style],
    shape: tuple[int, ...],
    colors: Colors | None = None,
) -> list[Region]:
    """A region for each colour that the labels of a content and of its styles share.

    Args:
        labels: Label pictures of the content and of each style.
        styles: The styles.
        shape: Height and width of the content.
        colors: Colours of the labels. Default: those of the content.

    Raises:
        ValueError: If a label is only in the content, or only in the styles.
    """
    content, *others = map(read_labels, labels)
    colors = content.colors if colors is None else colors
    if not 2 <= len(colors) <= MOST_LABELS:
        raise ValueError(
            f"expected a picture of 2 to {MOST_LABELS} plain colours or class numbers "
            f"at {labels[0]}, got {len(colors)}; save it as a PNG, without compression "
            "that changes colours"
        )
    reach = min(ALIKE, _spacing(colors) / 2)
    for path, other in zip(labels[1:], others, strict=True):
        if any(np.abs(colors - own).max(-1).min() > reach for own in other.colors):
            raise ValueError(
                f"{path} has a colour that is not in {labels[0]}; paint it there, too, "
                "or use another colour"
            )
    masks = label_masks(labels[0], colors, shape)
    of_styles = [assign_labels(other.pixels, colors) for other in others]
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
                f"{labels[0]} has the colour {name}, which is in no map of a style; "
                "paint it there, too, or use another colour"
            )
        regions.append(Region(parts, masks[i]))
    return regions


def label_masks(path: Path, colors: Colors, shape: tuple[int, ...]) -> list[Mask]:
    """The mask of each label in a label picture, for a picture of that shape."""
    found = assign_labels(load_numbers(path), colors)
    return [_as_mask(found == i, shape) for i in range(len(colors))]


def common_labels(paths: Sequence[Path]) -> Colors:
    """The colours of the labels of several pictures, such as the frames of a video."""
    found = np.zeros((0, 3), np.float32)
    for path in dict.fromkeys(paths):
        labels = read_labels(path)
        for color in labels.colors:
            if (np.abs(found - color).max(-1) > labels.alike).all():
                found = np.vstack([found, color[None]])
    return found


def find_labels(pixels: Pixels, alike: float) -> Colors:
    """The colours of the plain parts of a picture, the most frequent first.

    Colours that differ by less than `alike` are one label.

    Example:
        >>> numbers = np.repeat([0, 1, 2], 8)[None, :, None] / np.float32(255)
        >>> len(find_labels(np.tile(numbers, (8, 1, 3)), 0.0))
        3
    """
    # Without compression, even a line of two pixels is a plain part.
    plain = _is_plain(pixels, PLAIN, 3) if alike else _is_plain(pixels, 0.0, 2)
    colors, counts = _count(pixels[plain])
    labels, shares = np.zeros((0, 3), np.float32), []
    while len(colors) and len(labels) <= MOST_LABELS:
        near = np.abs(colors - colors[0]).max(-1) <= alike
        labels, share = np.vstack([labels, colors[:1]]), counts[near].sum()
        shares.append(share / max(1, plain.size))
        colors, counts = colors[~near], counts[~near]
    return labels[np.array(shares, float) >= COMMON]


def _count(colors: Colors) -> tuple[Colors, Int[np.ndarray, "_n"]]:
    """The different colours and their counts, the most frequent first."""
    levels = np.rint(colors * 65535).astype(np.int64)
    keys, counts = np.unique(levels @ [1, 2**16, 2**32], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    found = keys[order, None] // [1, 2**16, 2**32] % 2**16
    return (found / 65535).astype(np.float32), counts[order]


def _is_plain(pixels: Pixels, most: float, side: int) -> Bool[np.ndarray, "_h _w"]:
    """Where the pixels in a square of this side differ by at most `most`."""
    size = (side, side, 1)
    spread = ndimage.maximum_filter(pixels, size) - ndimage.minimum_filter(pixels, size)
    return spread.max(-1) <= most


def _spacing(colors: Colors) -> float:
    """The smallest distance between two colours."""
    far = np.abs(colors[:, None] - colors[None]).max(-1)
    return float(far[~np.eye(len(colors), dtype=bool)].min())


def assign_labels(pixels: Pixels, colors: Colors) -> Int[np.ndarray, "_h _w"]:
    """Index of the label of each pixel.

    A soft edge between two labels may have the colour of a third label. So a pixel gets
    the label of its colour only if all its neighbours have this label, and if their
    connected part is plain somewhere. Other pixels get the label of the nearest of
    these.
    """
    near = np.zeros(pixels.shape[:2], int)
    least = np.full(pixels.shape[:2], np.inf)
    for i, color in enumerate(colors):
        far = np.abs(pixels - color).max(-1)
        near, least = np.where(far < least, i, near), np.minimum(far, least)
    if not least.any():  # there are no soft edges
        return near
    whole = ndimage.minimum_filter(near, 3) == ndimage.maximum_filter(near, 3)
    plain = _is_plain(pixels, PLAIN, 3) & (least <= min(ALIKE, _spacing(colors) / 2))
    # Neighbours that are both `whole` have one label, and so does each connected part.
    found: Any = ndimage.label(whole)
    parts, _ = found
    sure = whole & np.isin(parts, parts[plain & whole])
    if not sure.any():
        return near
    places: Any = ndimage.distance_transform_edt(
        ~sure, return_distances=False, return_indices=True
    )
    return near[tuple(places)]


def _as_mask(found: Bool[np.ndarray, "_h _w"], shape: tuple[int, ...]) -> Mask:
    """A mask of a part of a label picture, at the size of the labelled picture."""
    mask = jnp.asarray(found[..., None], jnp.float32)
    return fit_mask(mask, (shape[0], shape[1]))
