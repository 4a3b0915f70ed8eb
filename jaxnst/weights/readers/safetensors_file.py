"""Weights in safetensors, with PyTorch's names and axes."""

import math
from pathlib import Path

from safetensors import safe_open

from jaxnst.weights.readers.naming import LARGEST, Tree


def read_safetensors(path: Path) -> Tree:
    """Read the arrays of a safetensors file, such as timm's, for `from_pytorch`.

    Args:
        path: Path of the file.

    Returns:
        Arrays by name, but none larger than VGG-19's largest kernel.

    Raises:
        SafetensorError: If the file is damaged; `readers.read` turns it into a
            ValueError.
    """
    with safe_open(path, framework="numpy") as file:
        return {
            key: file.get_tensor(key)
            for key in file.keys()  # noqa: SIM118, it is no dict
            if math.prod(file.get_slice(key).get_shape()) <= LARGEST
        }
