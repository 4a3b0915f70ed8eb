"""Names of a VGG's convolutions, and a check that they are those of VGG-19."""

import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from jaxnst.network.vgg import BLOCKS
from jaxnst.types import Params

NETWORKS = {
    "VGG-19": (2, 2, 4, 4, 4),
    "VGG-16": (2, 2, 3, 3, 3),
    "VGG-13": (2, 2, 2, 2, 2),
    "VGG-11": (1, 1, 2, 2, 2),
}
"""Number of convolutions in each block, by network."""

LARGEST_ARRAY = 3 * 3 * 512 * 512
"""Numbers in VGG-19's largest kernel. Readers skip larger arrays: those of the fully
connected layers, 86 % of a file."""

CONV = re.compile(r"conv\d_\d")
"""Name of a convolution."""

Tree = dict[str, np.ndarray]
"""Arrays of a file, by their names in it."""


class WrongNetwork(ValueError):
    """A file holds another network; the message names it and says what to use."""


def check_input(tree: Tree) -> None:
    """Refuse AdaIN's normalised VGG-19, whose first convolution maps the colours."""
    if any(array.shape in ((3, 3, 1, 1), (1, 1, 3, 3)) for array in tree.values()):
        raise WrongNetwork(
            "expected a VGG-19 that begins with conv1_1, got AdaIN's vgg_normalised, "
            "which begins with a 1 x 1 convolution; use --weights imagenet, the same "
            "network before it was normalised"
        )


def conv_names(network: str) -> list[str]:
    """Names of a network's convolutions, in order."""
    return [
        f"conv{block}_{i}"
        for block, count in enumerate(NETWORKS[network], 1)
        for i in range(1, count + 1)
    ]


def collect(arrays: Iterable[tuple[str, str, np.ndarray]]) -> Params:
    """Parameters, in float32 and in order, from the arrays that a reader found.

    They come with a convolution's name and `kernel`, h w in out, or `bias`. They
    must be those of VGG-19 without gaps, from `conv1_1` to at least `conv2_1`.
    """
    found = defaultdict(dict)
    for name, key, array in arrays:
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
    fits = (net for net in NETWORKS if conv_names(net)[: len(names)] == names)
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
        return {
            name: {
                key: np.array(found[name][key], np.float32, order="C")
                for key in ("kernel", "bias")
            }
            for name in names
        }


def names_by_width(widths: list[int]) -> list[str]:
    """Names of convolutions of which only the numbers of output channels are known.

    Example:
        >>> names_by_width([64, 64, 128, 128, 256, 256, 256, 256, 512])[-1]
        'conv4_1'
    """
    for network, counts in NETWORKS.items():
        blocks = zip(BLOCKS, counts, strict=True)
        known = [width for (width, _), count in blocks for _ in range(count)]
        if known[: len(widths)] == widths:
            return conv_names(network)[: len(widths)]
    raise ValueError(
        "expected convolutions of 64, 64, 128, 128, 256 … channels, as in VGG-19, got "
        f"{', '.join(map(str, widths))}; use the weights of a VGG-19"
    )


def hwio(kernel: np.ndarray) -> np.ndarray:
    """A kernel of PyTorch or Caffe, out in h w, in our order of axes.

    An array of another rank is returned as it is, for `check_params` to refuse.
    """
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel
