"""VGG-19 weights in the file formats of other projects, one reader each.

A reader returns the arrays of a file by their names in it; `naming.collect` finds the
parameters among them. Files may come from anywhere, so no reader executes their content
or trusts a size stated in them.
"""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnst.disk import check_file
from jaxnst.network.vgg import Family
from jaxnst.types import Params
from jaxnst.weights.readers.caffe import read_caffe
from jaxnst.weights.readers.files import map_file, zip_entries
from jaxnst.weights.readers.hdf5 import read_hdf5
from jaxnst.weights.readers.matconvnet import read_matconvnet
from jaxnst.weights.readers.naming import Tree, WrongNetwork, collect, family_of, hwio
from jaxnst.weights.readers.pytorch import MAGIC, read_pytorch, read_safetensors

LAYOUTS = {
    "flaxmodels": r"conv\d_\d/weight",
    "pytorch": r"(.*[/.])?\d{1,3}[/.]weight|(.*\.)?conv\d_\d\.weight",
}
"""Patterns of the names of kernels in HDF5 files of other projects, by layout."""


class Reading(NamedTuple):
    """The contents of a weights file.

    Attributes:
        params: float32 NumPy arrays, from `conv1_1` on; the input channels of `conv1_1`
            are in the file's order.
        layout: `keras`, `flaxmodels`, `pytorch`, `safetensors`, `matconvnet` or
            `caffe`.
        family: Input that the network expects. `caffe`: BGR (in `matconvnet` RGB), 0 to
            255, minus a mean. `torchvision`: RGB in 0 to 1, minus a mean, divided by a
            deviation. None: the file does not say.
        mean: Mean RGB in 0 to 255 (3,), if a MatConvNet file has one.
    """

    params: Params
    layout: str
    family: Family | None
    mean: np.ndarray | None = None


def read(path: Path) -> Reading:
    """Read a weights file; its first bytes show the format, whatever the suffix.

    The names of the parameters are checked; `format.check_params` checks the rest.
    Every error is a ValueError.
    """
    check_file(path, "a VGG-19 weights file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(path)
    except WrongNetwork as error:
        raise ValueError(
            f"expected a VGG-19 weights file at {path}, got another network ({error}; "
            "jaxnst weights list names some)"
        ) from error
    except Exception as error:  # each decoder raises exceptions of its own
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path} is not a VGG-19 weights file that jaxnst can read "
            f"({reason}); use a whole file of a VGG-19 from Keras, PyTorch (a "
            "state_dict), safetensors, MatConvNet, Caffe or flaxmodels"
        ) from error


def _read(path: Path) -> Reading:
    data = map_file(path)
    entries = zip_entries(data) if data[:4] == b"PK\3\4" else {}
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        tree, attributes = read_hdf5(path)
        return _from_hdf5(tree, attributes.get("model_config", ""))
    if "model.weights.h5" in entries:
        tree, _ = read_hdf5(bytes(entries["model.weights.h5"]()))
        return _from_hdf5(tree, bytes(entries["config.json"]()).decode())
    if entries or data[257:262] == b"ustar" or MAGIC in data[:16]:
        return _from_pytorch(read_pytorch(data), "pytorch")
    if data[5:9] == b"\0\0\0{":  # a length below 2^40, and JSON
        return _from_pytorch(read_safetensors(path), "safetensors")
    if data[:10] == b"MATLAB 5.0":
        tree, mean = read_matconvnet(memoryview(data))
        return Reading(collect(tree), "matconvnet", "caffe", mean)
    if data[:1] not in (b"\n", b"\x12", b"\xa2"):  # tags of name, layers and layer
        raise ValueError("its first bytes match no known format")
    return Reading(collect(read_caffe(memoryview(data))), "caffe", "caffe")


def _from_hdf5(tree: Tree, config: str) -> Reading:
    fits = lambda pattern: any(re.fullmatch(pattern, name) for name in tree)
    layout = next((x for x, kernel in LAYOUTS.items() if fits(kernel)), "keras")
    if layout == "pytorch":
        return _from_pytorch(tree, layout)
    return Reading(collect(tree), layout, family_of(tree, config))


def _from_pytorch(tree: Tree, layout: str) -> Reading:
    turned = {name: hwio(array) for name, array in tree.items()}
    return Reading(collect(turned), layout, family_of(tree))
