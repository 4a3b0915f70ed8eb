"""Convert weights of other projects: input map, channel order, mean activations."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnst.network.vgg import Backbone, Family, features, layer_name
from jaxnst.pictures.samples import SAMPLES, sample
from jaxnst.types import Image
from jaxnst.weights.format import check_params, is_ours, save_backbone, sha256
from jaxnst.weights.readers import read

KNOWN_FILES: dict[str, Family] = {
    "dcbb9e9d": "torchvision",  # torchvision, vgg19-dcbb9e9d.pth
    "11aea017": "torchvision",  # timm, vgg19.tv_in1k
    "fc3f1cce": "torchvision",  # KerasHub, vgg_19_imagenet
    "d01eb7cb": "caffe",  # jcjohnson/pytorch-vgg
    "dd893d44": "caffe",  # the same, saved again by neural-style-pt
    "74e45263": "caffe",  # pystiche, under torchvision's names
}
"""Family of published files, by the first eight digits of their sha256. These are
files whose layout shows no family, or a wrong one."""

CAFFE_MEAN = np.array([123.68, 116.779, 103.939], np.float32)
"""Mean RGB of ImageNet in 0 to 255, that Oxford's network subtracts."""

TORCHVISION_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
"""Mean RGB of ImageNet in [0, 1], that torchvision's network subtracts."""

TORCHVISION_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""Standard deviation of RGB in [0, 1], that torchvision's network divides by."""

LINEAGES = {
    "caffe": ("Oxford's VGG-19 (Simonyan and Zisserman, 2014)", "CC BY 4.0"),
    "torchvision": ("torchvision's VGG-19 (2017)", "BSD-3-Clause"),
}
"""Lineage and licence of the published weights, by family."""


def convert(
    source: str | Path,
    target: str | Path,
    *,
    family: Family | None = None,
    **attributes: str,
) -> None:
    """Turn a weights file of another project into one of ours.

    Args:
        source: HDF5 of Keras, KerasHub or flaxmodels, `.keras`, `.pth`, `.safetensors`,
            MatConvNet's `.mat` or `.caffemodel`. The suffix does not matter.
        target: File to write, whole or not at all.
        family: Input that the network expects, `caffe` or `torchvision`. Default: found
            from the file.
        attributes: Further attributes of the file, see `format.save_backbone`.

    Raises:
        ValueError: If the source holds no VGG-19 or is one of our files, its family is
            unknown, or the target cannot be written.
    """
    backbone, about = read_foreign(Path(source), family)
    lineage, licence = LINEAGES[backbone.family]
    own = {"lineage": lineage, "source": Path(source).name}
    own |= {"source_sha256": about["sha256"], "licence": licence}
    save_backbone(target, backbone, **own | attributes)


def read_foreign(
    path: Path, family: Family | None = None
) -> tuple[Backbone, dict[str, str]]:
    """Read a weights file of another project. Arguments and errors are as in `convert`.

    Returns:
        A network whose input is RGB in [0, 1], with mean activations measured on the
        sample pictures, and a dict with the file's `sha256`, `layout` and `family`.
    """
    if is_ours(path):
        raise ValueError(
            f"expected weights of another project at {path}, got ours; use it as it is"
        )
    params, layout, told, mean = read(path)
    check_params(params, str(path))
    checksum = sha256(path)
    family = family or KNOWN_FILES.get(checksum[:8]) or told
    if family is None:
        raise ValueError(
            f"expected weights of a known family, got {path}, which may be Oxford's or "
            f"torchvision's; name the family: jaxnst weights convert {path} OUT.h5 "
            "--family caffe (input BGR, 0 to 255) or --family torchvision (input RGB, "
            "by ImageNet's mean and deviation)"
        )
    if family == "torchvision":
        scale = 1 / TORCHVISION_DEVIATION
        offset = -TORCHVISION_MEAN / TORCHVISION_DEVIATION
    else:
        scale = np.full(3, 255, np.float32)
        offset = -CAFFE_MEAN if mean is None else -np.asarray(mean, np.float32)
        if layout != "matconvnet":  # from BGR to RGB
            params["conv1_1"]["kernel"] = params["conv1_1"]["kernel"][:, :, ::-1]
    arrays = jax.tree.map(jnp.asarray, (params, scale, offset))
    backbone = Backbone(*arrays, mean_activation={}, family=family)
    found = [_means(backbone, sample(name, 256)) for name in SAMPLES]
    average = jax.tree.map(lambda *xs: sum(xs) / len(xs), *found)
    backbone = dataclasses.replace(backbone, mean_activation=average)
    return backbone, {"sha256": checksum, "layout": layout, "family": family}


@jax.jit
def _means(backbone: Backbone, image: Image) -> dict[str, Float[Array, "_c"]]:
    """Mean activation of each filter on one picture."""
    layers = tuple(map(layer_name, backbone.params))
    found = features(backbone, image, layers=layers)
    return {layer: jnp.mean(x, axis=(0, 1)) for layer, x in found.items()}
