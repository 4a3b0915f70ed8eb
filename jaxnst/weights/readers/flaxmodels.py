"""Weights of flaxmodels: HDF5 groups `conv1_1` … `fc8` of `weight` and `bias`."""

import re

from jaxnst.types import Params
from jaxnst.weights.readers.naming import Tree, collect

WEIGHT = re.compile(r"(conv\d_\d)/(weight|bias)")


def is_flaxmodels(tree: Tree) -> bool:
    """Whether the arrays of an HDF5 file are named like those of flaxmodels.

    Args:
        tree: Arrays by path, as from `keras.read_keras`.

    Returns:
        Whether one of them is a weight or bias of flaxmodels.
    """
    return any(map(WEIGHT.fullmatch, tree))


def from_flaxmodels(tree: Tree) -> Params:
    """Parameters from the arrays of a flaxmodels file, read by `keras.read_keras`.

    Args:
        tree: Arrays by path, `conv1_1/weight` (h w in out) and `conv1_1/bias` …; all
            others are ignored.

    Returns:
        Parameters in float32; the input channels of `conv1_1` are in the file's order.

    Raises:
        ValueError: If these are not the convolutions of VGG-19.
    """
    return collect(
        (match[1], "kernel" if match[2] == "weight" else "bias", array)
        for path, array in tree.items()
        if (match := WEIGHT.fullmatch(path))
    )
