"""Weights of flaxmodels: HDF5 groups `conv1_1` … `fc8` of `weight` and `bias`."""

import re

from jaxnst.types import Params
from jaxnst.weights.readers.naming import Tree, collect

WEIGHT = re.compile(r"(conv\d_\d)/(weight|bias)")


def is_flaxmodels(tree: Tree) -> bool:
    """Whether the arrays of an HDF5 file are named like those of flaxmodels."""
    return any(map(WEIGHT.fullmatch, tree))


def from_flaxmodels(tree: Tree) -> Params:
    """Parameters from arrays `conv1_1/weight`, h w in out, and `conv1_1/bias` on."""
    return collect(
        (match[1], "kernel" if match[2] == "weight" else "bias", array)
        for path, array in tree.items()
        if (match := WEIGHT.fullmatch(path))
    )
