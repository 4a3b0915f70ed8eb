"""Weights by name: where they are, how to fetch them, and which to use."""

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

import platformdirs
from filelock import FileLock

from jaxnst.disk import check_file
from jaxnst.network.vgg import Backbone, Family
from jaxnst.process import standard_dtypes
from jaxnst.weights.convert import convert
from jaxnst.weights.download import FetchError, Remote, fetch
from jaxnst.weights.format import is_ours, read_backbone, sha256


class Asset(NamedTuple):
    """Weights with a name; `remote` is None if they ship with the package."""

    summary: str
    licence: str
    family: Family
    remote: Remote | None = None


DAY = 24 * 3600
"""Seconds to wait after a failed download before the next try."""

ASSETS = {
    "embedded": Asset(
        "ship with jaxnst; learned from generated pictures", "MIT", "rgb"
    ),
    "imagenet": Asset(
        "Oxford's VGG-19, trained on ImageNet (Simonyan and Zisserman, 2014)",
        "CC BY 4.0",
        "caffe",
        Remote(
            urls=(
                "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
                "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
                "https://github.com/fchollet/deep-learning-models/releases/download/"
                "v0.1/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            ),
            size=80_134_624,
            algorithm="md5",
            digest="253f8cb515780f3b799900260a226db6",
        ),
    ),
    "torchvision": Asset(
        "torchvision's VGG-19, trained anew on ImageNet (2017)",
        "BSD-3-Clause",
        "torchvision",
        Remote(
            urls=("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",),
            size=574_673_361,
            algorithm="sha256",
            digest="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        ),
    ),
}
"""The named weights."""


def cache_folder() -> Path:
    """Folder of downloaded weights and compiled programs.

    It is `$JAXNST_HOME` if that is set, else the platform's folder for caches.
    """
    home = os.environ.get("JAXNST_HOME")
    return Path(home) if home else Path(platformdirs.user_cache_dir("jaxnst"))


def make_cache() -> None:
    """Make `cache_folder()`; a ValueError if no files can be made there."""
    folder, why = cache_folder(), "a read-only one"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(
            f"expected a writable folder for weights at {folder}, got {why}; set "
            "JAXNST_HOME to a writable one"
        )


def asset_path(name: str) -> Path:
    """Path where weights of `ASSETS` are, or will be once they are fetched."""
    if name != "embedded":
        return cache_folder() / f"vgg19-{name}.h5"
    installed = Path(__file__).parent / "vgg19-embedded.h5"
    checkout = Path(__file__).parents[2] / "weights" / "vgg19-embedded.h5"
    return installed if installed.exists() else checkout


def locate(name: str) -> Path:
    """Path of weights, by a name in `ASSETS` or by path; a ValueError if missing.

    Example:
        >>> locate("embedded").name
        'vgg19-embedded.h5'
    """
    path = asset_path(name) if name in ASSETS else Path(name)
    hint = f"use the path of a file, or one of {', '.join(ASSETS)}"
    if name in ASSETS:
        hint = f"fetch it with: jaxnst weights pull {name}, or use --weights embedded"
    check_file(path, "a weights file", hint)
    return path


def choose(
    name: str | None, recipes_own: str, *, quiet: bool = False
) -> tuple[str, str]:
    """Choose the weights to paint with, and return their name and a brief reason.

    `name` is used if given, else the recipe's own weights, see `Recipe.network`. If a
    recipe needs ImageNet weights and they are missing, they are downloaded. If the
    download fails, the embedded weights are used. After a failure, nothing is
    downloaded for a day, so that a machine without a network waits only once.

    Example:
        >>> choose(None, "embedded")
        ('embedded', "the recipe's")
    """
    if name is not None:
        return name, "as asked"
    if recipes_own == "embedded":
        return recipes_own, "the recipe's"
    if asset_path("imagenet").is_file():
        return "imagenet", "found in the cache"
    failed = cache_folder() / "imagenet-not-fetched"
    why = "ImageNet weights could not be fetched"
    if not failed.exists() or time.time() >= failed.stat().st_mtime + DAY:
        try:
            pull("imagenet", quiet=quiet, timeout=5.0)
            return "imagenet", "fetched"
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                failed.touch()
            # `jaxnst weights pull` shows the full message.
            brief = error.reason if isinstance(error, FetchError) else error
            why = f"ImageNet weights cannot be fetched: {brief}"
    if failed.exists():
        until = time.localtime(failed.stat().st_mtime + DAY)
        why += f"; next try after {time.strftime('%Y-%m-%d %H:%M', until)}, or now "
        why += "with: jaxnst weights pull imagenet"
    return "embedded", why


def pull(name: str, *, quiet: bool = True, timeout: float = 20.0) -> Path:
    """Fetch weights of `ASSETS` and convert them, unless that is done already.

    Options are those of `download.fetch`. Returns the path of the converted weights.

    Raises:
        ValueError: If the cache cannot be written to.
        FetchError: If the weights cannot be fetched. The message says how to fetch them
            by hand.
    """
    path, remote = asset_path(name), ASSETS[name].remote
    if path.is_file() or remote is None:
        return path
    make_cache()
    url = remote.urls[0]
    download = path.with_name(url.rpartition("/")[2])
    with FileLock(path.with_name(path.name + ".lock")):
        if path.is_file():  # another process was faster
            return path
        try:
            fetch(remote, download, timeout=timeout, quiet=quiet)
        except FetchError as error:
            raise FetchError(
                f"{error}; by hand: save {url} as FILE on any machine, then "
                f"jaxnst weights convert FILE {path}",
                error.reason,
            ) from error
        digest = f"{remote.algorithm} {remote.digest}"
        about = {"source_url": url, "source_checksum": digest}
        convert(download, path, family=ASSETS[name].family, **about)
        download.unlink()
    return path


@standard_dtypes()
def load_backbone(name: str | Path = "embedded") -> Backbone:
    """Load a network by the name or path of its weights.

    A weights file of another project is converted once; the cache keeps the result.

    Args:
        name: `embedded`, `imagenet`, `torchvision`, or the path of a weights file, ours
            or one that `convert.convert` reads. Nothing is downloaded: `jaxnst weights
            pull NAME` fetches what does not ship with jaxnst.

    Returns:
        The backbone, in float32.

    Raises:
        ValueError: If the weights are missing, or are not those of a VGG-19.

    Example:
        >>> backbone = load_backbone("embedded")
        >>> backbone.params["conv1_1"]["kernel"].shape
        (3, 3, 3, 64)
    """
    path = locate(str(name))
    if not is_ours(path):
        source, path = path, cache_folder() / f"converted-{sha256(path)[:16]}.h5"
        if not path.is_file():
            make_cache()
            convert(source, path)
    return read_backbone(path)
