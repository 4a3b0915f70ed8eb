"""Masks: how much each pixel of a picture counts, and each position of a layer.

A mask is h w 1 with values in [0, 1]; a mask of the content's strength has any values
≥ 0. The weight of a position of a layer is the mean of the mask over a cell: a square
as wide as the layer's stride. The cells of a layer cover the picture once, so regions
that divide the pixels also divide the features, without gaps.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxnst.network.vgg import stride
from jaxnst.pictures.geometry import resize
from jaxnst.types import Mask, Weights

NOTHING = 1e-8
"""Added to a layer's weights. If a region is too small for a layer, all positions of
the layer then get the same weight."""


def layer_weights(mask: Mask | None, layers: Sequence[str]) -> dict[str, Mask]:
    """Weights of the positions of each layer, with mean 1. Empty without a mask.

    The weights are on the host or on a device, like the mask.

    Example:
        >>> mask = np.array([0, 0, 0, 1, 1, 1], np.float32)[None, :, None].repeat(4, 0)
        >>> layer_weights(mask, ["relu2_1"])["relu2_1"][0, :, 0].round(3).tolist()
        [0.0, 1.0, 2.0]
    """
    if mask is None:
        return {}
    cells = {layer: cell_means(mask, stride(layer)) + NOTHING for layer in layers}
    return {layer: cell / cell.mean() for layer, cell in cells.items()}


def cell_means(mask: Mask, step: int) -> Mask:
    """Means over squares of side `step`; incomplete squares at the end are left out."""
    h, w = mask.shape[0] // step, mask.shape[1] // step
    cells = mask[: h * step, : w * step].reshape(h, step, w, step, 1)
    return cells.mean(axis=(1, 3))


def multiply_masks(first: Weights, second: Weights) -> Weights:
    """The product of two weights. None counts as 1 everywhere."""
    if first is None or second is None:
        return second if first is None else first
    return first * second


def fit_mask(
    mask: Mask, shape: tuple[int, ...], *, most: float = 1.0
) -> Float[np.ndarray, "_h _w 1"]:
    """Resize a mask to the shape of a picture, and clip it to [0, `most`].

    Example:
        >>> fit_mask(np.ones((2, 2, 1)), (4, 6)).shape
        (4, 6, 1)
    """
    return np.clip(resize(mask, (shape[0], shape[1]), method="linear"), 0, most)


def normalize_overlaps(masks: Sequence[Mask]) -> tuple[list[Mask], Mask]:
    """Scale masks to add up to at most 1; return them, and 1 minus their sum.

    Where the sum of the given masks is more than 1, each is divided by the sum.

    Example:
        >>> halves, rest = normalize_overlaps([np.ones((1, 1, 1), np.float32)] * 2)
        >>> [float(mask[0, 0, 0]) for mask in (*halves, rest)]
        [0.5, 0.5, 0.0]
    """
    total = np.asarray(sum(masks, start=np.float32(0)))
    most = np.maximum(total, 1)
    return [mask / most for mask in masks], 1 - np.minimum(total, 1)
