"""VGG-19 weight files: finding, reading, checking and writing them.

A weights file is HDF5: root attributes `format`, `lineage`, `family`, `source` and
`licence`; root datasets `scale` and `offset` (the map from RGB in [0, 1] to the
network's input); for each convolution a group with `kernel` (3 3 in out), `bias` and
`mean_activation`.
"""

import hashlib
import os
from importlib.resources import files
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
import platformdirs

from jaxnst.images import write_whole
from jaxnst.vgg import Backbone, kernel_shapes

FORMAT = "jaxnst-weights-1"


ASSETS = {
    "embedded": "ships with jaxnst; learned from generated pictures",
    "imagenet": "Oxford VGG-19, trained on ImageNet (CC BY 4.0)",
}
"""The named weights."""


def cache_folder() -> Path:
    """Folder of downloads and compiled programs: `$JAXNST_HOME` or the platform's."""
    home = os.environ.get("JAXNST_HOME")
    return Path(home) if home else Path(platformdirs.user_cache_dir("jaxnst"))


def embedded_path() -> Path:
    """Path of the weights that ship with the package."""
    installed = Path(str(files("jaxnst"))) / "assets" / "vgg19-embedded.h5"
    checkout = Path(__file__).parents[1] / "weights" / "vgg19-embedded.h5"
    return installed if installed.exists() else checkout


def locate(name: str) -> Path:
    """Path of the weights of that name, or of that path.

    Args:
        name: `embedded`, `imagenet` or a path.

    Raises:
        ValueError: If there is no such file.
    """
    if name == "embedded":
        return embedded_path()
    if name == "imagenet":
        path = cache_folder() / "vgg19-imagenet.h5"
        hint = "; use --weights embedded, which needs no download"
    else:
        path, hint = Path(name), f"; or use one of {', '.join(ASSETS)}"
    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing there"
        raise ValueError(f"expected a weights file at {path}, got {got}{hint}")
    return path


def choose(name: str) -> tuple[str, str]:
    """Resolve `auto` to the best weights at hand, and say why.

    Returns:
        Name or path, and the reason in a few words.
    """
    if name != "auto":
        return name, "as asked"
    try:
        locate("imagenet")
    except ValueError:
        return "embedded", "no ImageNet weights in the cache"
    return "imagenet", "found in the cache"


def load_backbone(name: str | Path = "embedded") -> Backbone:
    """Load weights by name or path.

    Args:
        name: `embedded`, `imagenet` or the path of a weights file.

    Returns:
        The backbone, in float32.

    Raises:
        ValueError: If the file is missing, is no weights file, or does not hold a
            VGG-19.

    Example:
        >>> backbone = load_backbone("embedded")
        >>> backbone.params["conv1_1"]["kernel"].shape
        (3, 3, 3, 64)
    """
    path = locate(str(name))
    try:
        with h5py.File(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise ValueError(
                    f"expected a weights file of format {FORMAT} at {path}, got "
                    f"{file.attrs.get('format', 'another HDF5 file')!r}"
                )
            tree = {
                name: {
                    key: np.asarray(value, np.float32) for key, value in group.items()
                }
                for name, group in file.items()
                if isinstance(group, h5py.Group)
            }
            scale, offset = (np.asarray(file[key]) for key in ("scale", "offset"))
    except (OSError, KeyError) as error:
        raise ValueError(
            f"expected a weights file at {path}, got one that cannot be read ({error})"
        ) from error
    check_tree(tree, path)
    for name, vector in (("scale", scale), ("offset", offset)):
        if vector.shape != (3,) or not np.isfinite(vector).all():
            raise ValueError(
                f"expected three finite numbers as {name} in {path}, got {vector}"
            )
    return Backbone(
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
    )


def check_tree(tree: dict[str, dict[str, np.ndarray]], path: Path) -> None:
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
    with h5py.File(path) as file:
        attributes = {key: str(value) for key, value in file.attrs.items()}
    return {**attributes, "bytes": str(path.stat().st_size), "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_backbone(path: str | Path, backbone: Backbone, **attributes: str) -> None:
    """Write a weights file, kernels in float16.

    The same backbone always gives the same bytes.

    Args:
        path: File to write, whole or not at all.
        backbone: What to write.
        attributes: `lineage`, `family`, `source`, `licence` and whatever else is worth
            keeping.
    """
    with write_whole(path) as out, h5py.File(out, "w") as file:
        file.attrs.update({"format": FORMAT, **attributes})
        file["scale"], file["offset"] = backbone.scale, backbone.offset
        for name, conv in backbone.params.items():
            group = file.create_group(name)
            mean = backbone.mean_activation[name.replace("conv", "relu")]
            group["kernel"] = np.asarray(conv["kernel"], np.float16)
            group["bias"] = np.asarray(conv["bias"], np.float32)
            group["mean_activation"] = np.asarray(mean, np.float32)
