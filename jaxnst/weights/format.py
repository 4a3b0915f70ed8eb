"""Our own VGG-19 weight files: reading, checking and writing them.

A weights file is HDF5. Its root attributes are `format`, `lineage`, `family`, `source`,
`licence` and, in most files, `content_sha256`, a checksum of all numbers. Its root
datasets `scale` and `offset` are the map from RGB in [0, 1] to the network's input. A
group for each convolution holds `kernel` (3 3 in out), `bias` and `mean_activation`.
"""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import cast, get_args

import h5py
import jax
import numpy as np

from jaxnst.disk import write_whole
from jaxnst.network.vgg import Backbone, Family, kernel_shapes, layer_name
from jaxnst.types import Params
from jaxnst.weights.readers.hdf5 import read_hdf5

FORMAT = "jaxnst-weights-1"
"""Value of the attribute `format`."""


def read_backbone(path: Path) -> Backbone:
    """Read and check one of our weights files.

    Args:
        path: File that `save_backbone` wrote.

    Returns:
        The backbone, in float32, of numbers in the file itself: links are not followed.

    Raises:
        ValueError: If the file is none of ours, damaged, or does not hold a VGG-19.
    """
    try:
        with h5py.File(path) as file:
            told = {key: str(value) for key, value in file.attrs.items()}
        arrays = read_hdf5(path)
        scale, offset, family = arrays["scale"], arrays["offset"], told["family"]
        if told["format"] != FORMAT:
            raise ValueError(
                f"expected a weights file of format {FORMAT} at {path}, got "
                f"{told['format']!r}; use a newer jaxnst"
            )
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"expected a weights file at {path}, got one that cannot be read ({error})"
        ) from error
    checksum, tree = told.get("content_sha256"), defaultdict(dict)
    for name, array in arrays.items():
        if "/" in name:
            conv, key = name.split("/", 1)
            tree[conv][key] = np.asarray(array, np.float32)
    check_params(tree, str(path), ("kernel", "bias", "mean_activation"))
    for name, vector in (("scale", scale), ("offset", offset)):
        if vector.shape != (3,) or not np.isfinite(vector).all():
            raise ValueError(
                f"expected three finite numbers as {name} in {path}, got {vector}"
            )
    if family not in get_args(Family):
        raise ValueError(
            f"expected family {' or '.join(get_args(Family))} in {path}, got {family!r}"
        )
    kernels = {
        name: {x: conv[x] for x in ("kernel", "bias")} for name, conv in tree.items()
    }
    means = {layer_name(name): conv["mean_activation"] for name, conv in tree.items()}
    arrays = jax.device_put((kernels, scale, offset, means))
    backbone = Backbone(*arrays, family=cast(Family, family))
    if checksum is not None and content_sha256(backbone) != checksum:
        raise ValueError(
            f"expected contents with the sha256 {checksum} in {path}, got others; the "
            "file is damaged: delete it and fetch or convert it again"
        )
    return backbone


def is_ours(path: Path) -> bool:
    """Whether a file is a whole weights file of ours, of any version of the format."""
    try:
        with h5py.File(path) as file:
            return "format" in file.attrs and "scale" in file
    except (OSError, RuntimeError):
        return False


def check_params(
    params: Params, where: str, keys: tuple[str, ...] = ("kernel", "bias")
) -> None:
    """Check that parameters are those of a VGG-19, or of its beginning.

    Args:
        params: Arrays by convolution and key.
        where: Where they are from, for the message.
        keys: Keys that each convolution must have.

    Raises:
        ValueError: At the first convolution that is not in its place, or array that is
            missing, of another shape or not finite.

    Example:
        >>> conv = {"kernel": np.zeros((3, 3, 3, 64)), "bias": np.zeros(64)}
        >>> check_params({"conv1_1": conv}, "an example")
    """
    shapes = kernel_shapes()
    if list(params) != list(shapes)[: len(params)] or not params:
        got = ", ".join(params) or "none"
        raise ValueError(
            f"expected conv1_1 … conv5_4 without gaps in {where}, got {got}"
        )
    for name, conv in params.items():
        for key in keys:
            shape = shapes[name] if key == "kernel" else shapes[name][3:]
            got = conv[key].shape if key in conv else None
            if got != shape:
                raise ValueError(
                    f"expected {name}/{key} of shape {shape} in {where}, got {got}; "
                    "use the weights of a VGG-19"
                )
            if not np.isfinite(conv[key]).all():
                raise ValueError(
                    f"expected finite numbers in {name}/{key} of {where}, got NaN or "
                    "infinity; the file is damaged: fetch or convert it again"
                )


def describe(path: Path) -> dict[str, str]:
    """The attributes of one of our files, and `bytes` and `sha256` of any file.

    Example:
        >>> from jaxnst.weights.registry import embedded_path
        >>> describe(embedded_path())["licence"]
        'MIT'
    """
    attributes = {}
    if is_ours(path):
        with h5py.File(path) as file:
            attributes = {key: str(value) for key, value in file.attrs.items()}
    return {**attributes, "bytes": str(path.stat().st_size), "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(backbone: Backbone) -> str:
    """Checksum of a backbone's numbers, in float32 and in the order of the layers."""
    arrays = [backbone.scale, backbone.offset]
    for name, conv in backbone.params.items():
        mean = backbone.mean_activation[layer_name(name)]
        arrays += [conv["kernel"], conv["bias"], mean]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.asarray(array, "<f4").tobytes())
    return digest.hexdigest()


def save_backbone(path: str | Path, backbone: Backbone, **attributes: str) -> None:
    """Write a weights file: kernels in their own type, all else in float32.

    The same backbone always gives the same bytes.

    Args:
        path: File to write, whole or not at all.
        backbone: The backbone to write, with mean activations.
        attributes: `lineage`, `source`, `licence` and any others.

    Raises:
        ValueError: If the folder does not exist or cannot be written to.

    Example:
        >>> import tempfile
        >>> from jaxnst.weights.registry import load_backbone
        >>> path = Path(tempfile.mkdtemp()) / "copy.h5"
        >>> save_backbone(path, load_backbone("embedded"), lineage="a copy")
        >>> describe(path)["lineage"]
        'a copy'
    """
    checksum = content_sha256(backbone)
    with write_whole(path) as out, h5py.File(out, "w") as file:
        file.attrs.update(
            {
                "format": FORMAT,
                "family": backbone.family,
                "content_sha256": checksum,
                **attributes,
            }
        )
        file["scale"], file["offset"] = backbone.scale, backbone.offset
        for name, conv in backbone.params.items():
            group = file.create_group(name)
            mean = backbone.mean_activation[layer_name(name)]
            group["kernel"] = np.asarray(conv["kernel"])
            group["bias"] = np.asarray(conv["bias"], np.float32)
            group["mean_activation"] = np.asarray(mean, np.float32)
