"""Our own VGG-19 weight files: reading, checking and writing them.

A weights file is HDF5. Its root attributes are `format`, `lineage`, `family`, `source`,
`licence` and, in most files, `content_sha256`, a checksum of all numbers. Its root
datasets `scale` and `offset` are the map from RGB in [0, 1] to the network's input. A
group for each convolution holds `kernel` (3 3 in out), `bias` and `mean_activation`.
"""

import hashlib
from pathlib import Path
from typing import cast, get_args

import h5py
import jax
import numpy as np

from jaxnst.disk import write_whole
from jaxnst.network.vgg import Backbone, Family, kernel_shapes, layer_name
from jaxnst.types import Params
from jaxnst.weights.readers.hdf5 import read_hdf5
from jaxnst.weights.readers.naming import collect

FORMAT = "jaxnst-weights-1"
"""Value of the attribute `format`."""


def read_backbone(path: Path) -> Backbone:
    """Read and check a file that `save_backbone` wrote; links in it are not followed.

    Raises:
        ValueError: If the file is not one of ours, is damaged, or holds no VGG-19.
    """
    try:
        arrays, told = read_hdf5(path)
        if told["format"] != FORMAT:
            raise ValueError(
                f"expected the format {FORMAT}, got {told['format']!r}; use a newer "
                "jaxnst"
            )
        params = collect(arrays)
        for name, conv in params.items():
            conv["mean_activation"] = np.float32(arrays[f"{name}/mean_activation"])
        scale, offset, family = arrays["scale"], arrays["offset"], told["family"]
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} is no weights file of jaxnst ({error}); fetch or convert it again"
        ) from error
    check_params(params, str(path))
    _check_array(scale, (3,), "scale", str(path))
    _check_array(offset, (3,), "offset", str(path))
    if family not in get_args(Family):
        raise ValueError(
            f"expected family {' or '.join(get_args(Family))} in {path}, got {family!r}"
        )
    means = {layer_name(x): conv.pop("mean_activation") for x, conv in params.items()}
    arrays = jax.device_put((params, scale, offset, means))
    backbone = Backbone(*arrays, family=cast(Family, family))
    checksum = told.get("content_sha256")
    if checksum not in (None, content_sha256(backbone)):
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


def check_params(params: Params, where: str) -> None:
    """Raise a ValueError if an array has a wrong shape or is not finite.

    The names must already be checked. Messages call the source `where`.
    """
    shapes = kernel_shapes()
    for name, conv in params.items():
        for key, array in conv.items():
            shape = shapes[name] if key == "kernel" else shapes[name][3:]
            _check_array(array, shape, f"{name}/{key}", where)


def _check_array(
    array: np.ndarray, shape: tuple[int, ...], name: str, where: str
) -> None:
    if array.shape != shape:
        raise ValueError(
            f"expected {name} of shape {shape} in {where}, got {array.shape}; use the "
            "weights of a VGG-19"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"expected finite numbers in {name} of {where}, got NaN or infinity; the "
            "file is damaged: fetch or convert it again"
        )


def describe(path: Path) -> dict[str, str]:
    """`bytes` and `sha256` of a file and, if it is one of ours, its attributes."""
    about = {}
    if is_ours(path):
        with h5py.File(path) as file:
            about = {key: str(value) for key, value in file.attrs.items()}
    return about | {"bytes": str(path.stat().st_size), "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(backbone: Backbone) -> str:
    """Checksum of all numbers of a backbone in float32, in the order of the layers."""
    arrays = [backbone.scale, backbone.offset]
    for name, conv in backbone.params.items():
        mean = backbone.mean_activation[layer_name(name)]
        arrays += [conv["kernel"], conv["bias"], mean]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.asarray(array, "<f4").tobytes())
    return digest.hexdigest()


def save_backbone(path: str | Path, backbone: Backbone, **attributes: str) -> None:
    """Write a weights file, with kernels in their own dtype and all else in float32.

    The same backbone always gives the same bytes.

    Args:
        path: File to write, whole or not at all.
        backbone: The network, with mean activations.
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
    own = {"format": FORMAT, "family": backbone.family}
    own["content_sha256"] = content_sha256(backbone)
    with write_whole(path) as out, h5py.File(out, "w") as file:
        file.attrs.update(own | attributes)
        file["scale"], file["offset"] = backbone.scale, backbone.offset
        for name, conv in backbone.params.items():
            group = file.create_group(name)
            mean = backbone.mean_activation[layer_name(name)]
            group["kernel"] = np.asarray(conv["kernel"])
            group["bias"] = np.asarray(conv["bias"], np.float32)
            group["mean_activation"] = np.asarray(mean, np.float32)
