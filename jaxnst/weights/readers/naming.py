"""Names of a VGG's convolutions, and the check that they are VGG-19's."""

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
"""Number of convolutions in each block."""

LARGEST = 3 * 3 * 512 * 512
"""Numbers in VGG-19's largest kernel. Readers skip larger arrays: the fully connected
layers are 86 % of a file."""

Tree = dict[str, np.ndarray]
"""A file's arrays, by the names that they have in it."""


def conv_names(network: str) -> list[str]:
    """Names `conv1_1` … of a network's convolutions, in order.

    Example:
        >>> conv_names("VGG-11")[:3]
        ['conv1_1', 'conv2_1', 'conv3_1']
    """
    return [
        f"conv{block}_{i}"
        for block, count in enumerate(NETWORKS[network], 1)
        for i in range(1, count + 1)
    ]


def collect(arrays: Iterable[tuple[str, str, np.ndarray]]) -> Params:
    """Parameters from what a reader found, in any order.

    Args:
        arrays: Triples of a convolution's name, `kernel` or `bias`, and the array;
            kernels are h w in out.

    Returns:
        Copies in float32, from `conv1_1` to at least `conv2_1`.

    Raises:
        ValueError: If the names are not those of VGG-19, without gaps, or an array is
            missing, there twice, or larger than any in VGG-19.
    """
    found = defaultdict(dict)
    for name, key, array in arrays:
        if key in found[name]:
            raise ValueError(
                f"expected one {name}/{key}, got two; keep one network per file"
            )
        if array.size > LARGEST:
            raise ValueError(
                f"expected at most {LARGEST} numbers in {name}/{key}, got {array.size}"
            )
        found[name][key] = array
    names = sorted(found)
    fits = (net for net in NETWORKS if conv_names(net)[: len(names)] == names)
    network = next(fits, None)
    if network != "VGG-19" or len(names) < 3:
        unknown = network in (None, "VGG-19")
        got = ", ".join(names) or "none" if unknown else f"those of {network}"
        raise ValueError(
            "expected the convolutions conv1_1 … conv5_4 of VGG-19, without gaps, got "
            f"{got}; use the weights of a VGG-19"
        )
    for name in names:
        if missing := {"kernel", "bias"} - set(found[name]):
            raise ValueError(
                f"expected a kernel and a bias for {name}, got no {missing.pop()}; "
                "the file is incomplete"
            )
    return {
        name: {key: _copy(found[name][key]) for key in ("kernel", "bias")}
        for name in names
    }


def _copy(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # becomes an infinity, which `check_params` finds
        return np.array(array, np.float32, order="C")


def names_by_width(widths: list[int]) -> list[str]:
    """Names of convolutions of which only the numbers of output channels are known.

    Raises:
        ValueError: If no VGG begins with these.

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
    """Kernel of PyTorch and Caffe, out in h w, as h w in out.

    An array of another rank comes back as it is, for `check_params` to refuse.
    """
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel
