"""Small networks to write to files, and what a reader must make of them."""

import tracemalloc

import numpy as np
import pytest
from oracle import NAMES

from jaxnst.weights.readers import read
from jaxnst.weights.readers.naming import collect, hwio

FEATURES = [  # where torchvision has the convolutions of VGG-19, 16, 13 and 11
    [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
    [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    [0, 2, 5, 7, 10, 12, 15, 17, 20, 22],
    [0, 3, 6, 8, 11, 13, 16, 18],
]
FEATURES_BN = [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49]


def names_of(*counts):
    return [f"conv{b}_{i}" for b, n in enumerate(counts, 1) for i in range(1, n + 1)]


VGG16 = names_of(2, 2, 3, 3, 3)
NETWORKS = [NAMES, VGG16, names_of(2, 2, 2, 2, 2), names_of(1, 1, 2, 2, 2)]


def keras_name(name):
    return f"block{name[4]}_conv{name[6]}"


def oihw(kernel):
    return np.ascontiguousarray(np.einsum("hwio->oihw", kernel))


def mini(names=NAMES):
    """A network of true names and widths, with 1 x 1 kernels of one input channel."""
    rng = np.random.default_rng(1)
    widths = {name: min(64 << int(name[4]) - 1, 512) for name in names}
    return {
        name: {
            "kernel": rng.normal(size=(1, 1, 1, width)).astype(np.float32),
            "bias": rng.normal(size=width).astype(np.float32),
        }
        for name, width in widths.items()
    }


def check_same(got, wanted):
    assert list(got) == list(wanted)
    for name, conv in wanted.items():
        assert list(got[name]) == ["kernel", "bias"]
        for key, array in conv.items():
            assert got[name][key].dtype == np.float32
            assert got[name][key].flags.c_contiguous
            np.testing.assert_array_equal(got[name][key], array)


def collect_torch(tree):
    return collect({name: hwio(array) for name, array in tree.items()})


def refusal(path):
    """Why a file is refused."""
    with pytest.raises(ValueError, match="VGG-19 weights file") as caught:
        read(path)
    return str(caught.value)


def refusal_and_memory(path):
    tracemalloc.start()
    try:
        return refusal(path), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
