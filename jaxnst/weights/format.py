"""Our own VGG-19 weight files: reading, checking and writing them.

A weights file is HDF5: root attributes `format`, `lineage`, `family`, `source`,
`licence`, and `content_sha256` where the file can be checked against it; root datasets
`scale` and `offset` (the map from RGB in [0, 1] to the network's input); for each
convolution a group with `kernel` (3 3 in out), `bias` and `mean_activation`.
"""

import hashlib
from pathlib import Path
from typing import cast, get_args

import h5py
import jax.numpy as jnp
import numpy as np

from jaxnst.disk import write_whole
from jaxnst.network.vgg import Backbone, Family, kernel_shapes
from jaxnst.types import Params

FORMAT = "jaxnst-weights-1"


def read_backbone(path: Path) -> Backbone:
    """Read a weights file.

    Args:
        path: File that `save_backbone` wrote.

    Returns:
        The backbone, in float32.

    Raises:
        ValueError: If the file is no weights file, is damaged, or does not hold a
            VGG-19.
    """
    try:
        with h5py.File(path) as file:
            if file.attrs["format"] != FORMAT:
                raise ValueError(
                    f"expected a weights file of format {FORMAT} at {path}, got "
                    f"{file.attrs['format']!r}; use a newer jaxnst"
                )
            tree = {
                name: {
                    key: np.asarray(value, np.float32) for key, value in group.items()
                }
                for name, group in file.items()
                if isinstance(group, h5py.Group)
            }
            scale, offset = (np.asarray(file[key]) for key in ("scale", "offset"))
            family = str(file.attrs["family"])
            checksum = file.attrs.get("content_sha256")
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"expected a weights file at {path}, got one that cannot be read ({error})"
        ) from error
    check_tree(tree, path)
    for name, vector in (("scale", scale), ("offset", offset)):
        if vector.shape != (3,) or not np.isfinite(vector).all():
            raise ValueError(
                f"expected three finite numbers as {name} in {path}, got {vector}"
            )
    if family not in get_args(Family):
        raise ValueError(
            f"expected family {' or '.join(get_args(Family))} in {path}, got {family!r}"
        )
    backbone = Backbone(
        params={
            name: {key: jnp.asarray(conv[key]) for key in ("kernel", "bias")}
            for name, conv in tree.items()
        },
        scale=jnp.asarray(scale),
        offset=jnp.asarray(offset),
        mean_activation={
            name.replace("conv", "relu"): jnp.asarray(conv["mean_activation"])
            for name, conv in tree.items()
        },
        family=cast(Family, family),
    )
    if checksum is not None and content_sha256(backbone) != checksum:
        raise ValueError(
            f"expected contents with the sha256 {checksum} in {path}, got others; the "
            "file is damaged: delete it and fetch or convert it again"
        )
    return backbone


def is_ours(path: Path) -> bool:
    """Whether a file is one of our weights files, of whatever version."""
    try:
        with h5py.File(path) as file:
            return "format" in file.attrs and "scale" in file
    except (OSError, RuntimeError):
        return False


def check_tree(tree: Params, path: Path) -> None:
    """Check names, shapes and finiteness of the convolutions of a weights file.

    Raises:
        ValueError: At the first thing that is not as in VGG-19.
    """
    shapes = kernel_shapes()
    if list(tree) != list(shapes)[: len(tree)] or not tree:
        raise ValueError(
            f"expected conv1_1 … conv5_4 without gaps in {path}, got {', '.join(tree)}"
        )
    for name, conv in tree.items():
        out = shapes[name][3:]
        wanted = {"kernel": shapes[name], "bias": out, "mean_activation": out}
        for key, shape in wanted.items():
            got = conv[key].shape if key in conv else None
            if got != shape:
                raise ValueError(
                    f"expected {name}/{key} of shape {shape} in {path}, got {got}"
                )
            if not np.isfinite(conv[key]).all():
                raise ValueError(
                    f"expected finite numbers in {name}/{key} of {path}, got NaN or "
                    "infinity; the file is damaged"
                )


def describe(path: Path) -> dict[str, str]:
    """Attributes of a weights file, with its sha256 and size in bytes."""
    attributes = {}
    if is_ours(path):
        with h5py.File(path) as file:
            attributes = {key: str(value) for key, value in file.attrs.items()}
    return {**attributes, "bytes": str(path.stat().st_size), "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(backbone: Backbone) -> str:
    """Hexadecimal sha256 of all numbers of a backbone, in the order of the layers."""
    digest = hashlib.sha256()
    for array in (backbone.scale, backbone.offset):
        digest.update(np.asarray(array, "<f4").tobytes())
    for name, conv in backbone.params.items():
        mean = backbone.mean_activation[name.replace("conv", "relu")]
        for array in (conv["kernel"], conv["bias"], mean):
            digest.update(np.asarray(array, "<f4").tobytes())
    return digest.hexdigest()


def save_backbone(path: str | Path, backbone: Backbone, **attributes: str) -> None:
    """Write a weights file, kernels in their own type, all else in float32.

    The same backbone always gives the same bytes.

    Args:
        path: File to write, whole or not at all.
        backbone: What to write.
        attributes: `lineage`, `source`, `licence` and whatever else is worth keeping.
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
            mean = backbone.mean_activation[name.replace("conv", "relu")]
            group["kernel"] = np.asarray(conv["kernel"])
            group["bias"] = np.asarray(conv["bias"], np.float32)
            group["mean_activation"] = np.asarray(mean, np.float32)
