"""Weights of Keras and KerasHub: the older HDF5 layouts, Keras 3's, and `.keras`."""

import json
import re
from collections import defaultdict
from pathlib import Path

import h5py
import numpy as np

from jaxnst.types import Params
from jaxnst.weights.readers.files import zip_entries
from jaxnst.weights.readers.hdf5 import read_hdf5
from jaxnst.weights.readers.naming import Tree, collect, names_by_width

LAYER = re.compile(r"block(\d)_conv(\d)")
WEIGHT = re.compile(
    r"(?:.*/)?block(\d)_conv(\d)/(?:.*[/_])?(?:(kernel|W)|bias|b)(?:_\d+)?(?::0)?"
)
VARIABLE = re.compile(r"((?:.*/)?([^/]+)/vars)/([01])")
NUMBERED = re.compile(r"conv2d(?:_(\d+))?")


def read_keras(path: Path) -> Tree:
    """Arrays of an HDF5 file, or of the one inside a `.keras` file, by `read_hdf5`.

    The model's JSON, if any, is at `@model_config`.
    """
    if h5py.is_hdf5(path):
        return read_hdf5(path)
    entries = zip_entries(path)
    config = bytes(entries["config.json"]()).decode()
    tree = read_hdf5(bytes(entries["model.weights.h5"]()))
    return tree | {"@model_config": np.array(config)}


def from_keras(tree: Tree) -> Params:
    """Parameters from the arrays of a Keras file.

    `block1_conv1/block1_conv1_W_1:0`, `…/block1_conv1/kernel:0` and
    `…/block1_conv1/kernel` name their layer; `…/conv2d_3/vars/0` and `/1` are named by
    `…/conv2d_3/vars@name` or, all together, by number.

    Reference:
        Keras, `legacy/saving/legacy_h5_format.py` and `saving/saving_lib.py`.
    """
    named, numbered = [], defaultdict(list)
    for path, array in tree.items():
        if match := WEIGHT.fullmatch(path):
            key = "kernel" if match[3] else "bias"
            named.append((f"conv{match[1]}_{match[2]}", key, array))
        elif match := VARIABLE.fullmatch(path):
            group, layer, index = match.groups()
            key = "bias" if index == "1" else "kernel"
            if label := LAYER.fullmatch(str(tree.get(f"{group}@name", layer))):
                named.append((f"conv{label[1]}_{label[2]}", key, array))
            elif number := NUMBERED.fullmatch(layer):
                numbered[int(number[1] or 0)].append((key, array))
    if named:
        return collect(named)
    convs = [numbered[number] for number in sorted(numbered)]
    # The last axis of a kernel, and of a bias, is that of the output channels.
    names = names_by_width([array.shape[-1] for ((_, array), *_) in convs])
    return collect(
        (name, key, array)
        for name, conv in zip(names, convs, strict=True)
        for key, array in conv
    )


def family(tree: Tree) -> str | None:
    """Input that a Keras file's network expects, where the file tells.

    `caffe` for the oldest layout, which only the Oxford weights have, and for a model
    of `keras.applications`; `torchvision` for one of KerasHub.
    """
    if any(re.search(r"_W_\d+:0$", path) for path in tree):
        return "caffe"
    config = str(tree.get("@model_config", "{}"))
    if "VGGBackbone" in config:
        return "torchvision"
    model = json.loads(config)
    whole = model.get("class_name") in ("Functional", "Model")
    return "caffe" if whole and model["config"].get("name") == "vgg19" else None
