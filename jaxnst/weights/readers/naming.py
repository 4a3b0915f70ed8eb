"""Find the parameters of VGG-19 among the arrays of a file, by name or by width."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from jaxnst.network.vgg import BLOCKS, Family
from jaxnst.types import Params

NETWORKS = {
    network: {
        f"conv{block}_{i}": width
        for block, ((width, _), count) in enumerate(zip(BLOCKS, counts, strict=True), 1)
        for i in range(1, count + 1)
    }
    for network, counts in {
        "VGG-19": (2, 2, 4, 4, 4),
        "VGG-16": (2, 2, 3, 3, 3),
        "VGG-13": (2, 2, 2, 2, 2),
        "VGG-11": (1, 1, 2, 2, 2),
    }.items()
}
"""Output channels of the convolutions of each network, by name, in order."""

LARGEST_ARRAY = 3 * 3 * 512 * 512
"""Numbers in VGG-19's largest kernel. Readers skip larger arrays: those of the fully
connected layers, 86 % of a file."""

NAMED = re.compile(
    r"(?:.*[/.])?(?:conv|block)(\d)_(?:conv)?(\d)[/.]"
    r"(?:vars/([01])|(?:.*[/_])?(kernel|weight|W|bias|b)(?:_\d+)?(?::0)?)"
)
"""An array of a convolution that has a name: `conv1_1.bias`, `block1_conv1/vars/1` or
`block1_conv1/block1_conv1_b_1:0`."""

PLACED = re.compile(
    r"(?:(.*)[/.])?(?:conv2d_?(\d*)/vars/([01])|(\d{1,3})[/.](weight|bias))"
)
"""An array of a convolution that has a place in a sequence: `layers/conv2d_3/vars/0` or
`features.0.weight`."""

PART = re.compile(r"(?:^|\.)[^.]*\d$")
"""End of a prefix that numbers a part of the sequence, such as `slice1` or `blocks.0`.
The places of layers go on from part to part."""

FAMILIES: dict[Family, str] = {
    "caffe": r".*_W_\d+:0|(.*\.)?(conv\d_\d|classifier\.4)\.(weight|bias)",
    "torchvision": r"conv\d_\d/weight|0\.weight|"
    r"(.*\.)?(classifier\.3|head|pre_logits)\..+",
}
"""Names that only files of one family have. `caffe`: the oldest layout of Keras, and
conversions of Oxford's weights. `torchvision`: flaxmodels, torchvision's classifier or
its features alone, and timm."""

Tree = dict[str, np.ndarray]
"""Arrays of a file, by their names in it; kernels are h w in out."""


class WrongNetwork(ValueError):
    """A file holds another network; the message names it and says what to use."""


def is_conv(name: str) -> bool:
    """Whether an array of this name may belong to a convolution."""
    return bool(NAMED.fullmatch(name) or PLACED.fullmatch(name))


def collect(tree: Tree) -> Params:
    """Parameters, in float32 and in order, from the arrays of a file.

    The convolutions must be the first three or more of VGG-19, without gaps.
    """
    if any(array.shape == (1, 1, 3, 3) for array in tree.values()):
        raise WrongNetwork(
            "expected a VGG-19 that begins with conv1_1, got AdaIN's vgg_normalised, "
            "which begins with a 1 x 1 convolution; use --weights imagenet, the same "
            "network before it was normalised"
        )
    arrays = [
        (f"conv{match[1]}_{match[2]}", _key(match[3] or match[4]), array)
        for path, array in tree.items()
        if (match := NAMED.fullmatch(path))
    ]
    found = defaultdict(dict)
    for name, key, array in arrays or _by_place(tree):
        if key in found[name]:
            raise ValueError(
                f"expected one {name}/{key}, got two; keep one network per file"
            )
        if array.size > LARGEST_ARRAY:
            raise ValueError(
                f"expected at most {LARGEST_ARRAY} numbers in {name}/{key}, "
                f"got {array.size}"
            )
        found[name][key] = array
    names = sorted(found)
    fits = (x for x, convs in NETWORKS.items() if [*convs][: len(names)] == names)
    network = next(fits, None)
    if network != "VGG-19" or len(names) < 3:
        unknown = network in (None, "VGG-19")
        got = ", ".join(names) or "none" if unknown else f"those of {network}"
        raise (ValueError if unknown else WrongNetwork)(
            "expected the convolutions conv1_1 … conv5_4 of VGG-19, without gaps, got "
            f"{got}; use the weights of a VGG-19"
        )
    for name in names:
        if missing := {"kernel", "bias"} - set(found[name]):
            raise ValueError(
                f"expected a kernel and a bias for {name}, got no {missing.pop()}; "
                "the file is incomplete"
            )
    with np.errstate(over="ignore"):  # gives an infinity, which `check_params` refuses
        as_float = lambda name, key: np.array(found[name][key], np.float32, order="C")
        return {x: {key: as_float(x, key) for key in ("kernel", "bias")} for x in names}


def _key(name: str) -> str:
    return "kernel" if name in ("kernel", "weight", "W", "0") else "bias"


def _by_place(tree: Tree) -> Iterator[tuple[str, str, np.ndarray]]:
    """Arrays of the longest sequence whose convolutions are as wide as those of a VGG.

    Other sequences, such as a decoder's, are left out.
    """
    sequences = defaultdict(list)
    for path, array in tree.items():
        if match := PLACED.fullmatch(path):
            place, key = int(match[2] or match[4] or 0), _key(match[3] or match[5])
            sequences[PART.sub("", match[1] or "")].append((place, key, array))
    found = []
    for arrays in sequences.values():
        widths = {
            place: array.shape[-1]
            for place, key, array in arrays
            if key == "kernel" and array.ndim == 4
        }
        wide = [widths[place] for place in sorted(widths)]
        for network, convs in NETWORKS.items():
            if wide and [*convs.values()][: len(wide)] == wide:
                names = dict(zip(sorted(widths), convs, strict=False))
                found.append((network, names, arrays))
                break
    longest = max((len(names) for _, names, _ in found), default=0)
    for network, names, arrays in found:
        for place, key, array in arrays if len(names) == longest else ():
            if place in names:
                yield names[place], key, array
            elif key == "kernel":
                bare = network.lower().replace("-", "")
                raise WrongNetwork(
                    f"expected VGG-19 without BatchNorm, got {bare}_bn; use vgg19"
                )


def hwio(kernel: np.ndarray) -> np.ndarray:
    """Transpose a kernel of PyTorch or Caffe, out in h w, to our order, h w in out.

    An array of another rank is returned as it is, for `check_params` to refuse.
    """
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel


def family_of(tree: Tree, config: str = "") -> Family | None:
    """Family of a network, from the names in its file or Keras' JSON of the model.

    By its JSON, a model of `keras.applications` is `caffe`, and a model of KerasHub is
    `torchvision`. Returns None if neither names nor JSON show the family.
    """
    for family, pattern in FAMILIES.items():
        if any(re.fullmatch(pattern, name) for name in tree):
            return family
    if "VGGBackbone" in config:
        return "torchvision"
    model = json.loads(config or "{}")
    whole = model.get("class_name") in ("Functional", "Model")
    return "caffe" if whole and model["config"].get("name") == "vgg19" else None
