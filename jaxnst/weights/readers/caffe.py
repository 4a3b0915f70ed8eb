"""Weights of Caffe: a `NetParameter` message, decoded from protobuf's wire format."""

from collections import defaultdict
from typing import Any

import numpy as np

from jaxnst.weights.readers.naming import LARGEST_ARRAY, Tree, hwio

LAYERS = {2: (4, 6), 100: (1, 7)}
"""Fields of layers in `NetParameter`, in the old and the new layout. Values: fields of
a layer's name and blobs."""
LIMIT = LARGEST_ARRAY + 100
"""Most fields of a message: one for each number of a kernel, and a few more."""


def read_caffe(data: memoryview) -> Tree:
    """Arrays of a `NetParameter` with `layers` (2014) or `layer`: `conv1_1/kernel` ….

    Reference: https://github.com/BVLC/caffe, `src/caffe/proto/caffe.proto`.
    """
    tree, net = {}, _fields(data)
    for number, (name_field, blob_field) in LAYERS.items():
        for layer in map(_fields, net[number]):
            name = b"".join(layer[name_field]).decode()
            if name.startswith("conv"):
                arrays = map(_array, map(_fields, layer[blob_field]))
                for key, array in zip(("kernel", "bias"), arrays, strict=False):
                    array = hwio(array) if key == "kernel" else array.ravel()
                    tree[f"{name}/{key}"] = array
    return tree


def _array(blob: dict[int, list[Any]]) -> np.ndarray:
    """Array of a `BlobProto`, in single or double precision."""
    number, dtype = (8, "<f8") if blob[8] else (5, "<f4")
    if blob[7]:
        packed, shape, position = _fields(blob[7][0])[1][0], [], 0
        while position < len(packed):
            side, position = _varint(packed, position)
            shape.append(side)
    else:
        shape = [blob[axis][0] if blob[axis] else 1 for axis in (1, 2, 3, 4)]
    return np.frombuffer(b"".join(blob[number]), dtype).reshape(shape)


def _fields(message: memoryview) -> dict[int, list[Any]]:
    """Fields of a protobuf message by number; varints are integers, all else is bytes.

    Reference: https://protobuf.dev/programming-guides/encoding
    """
    found, position = defaultdict(list), 0
    for _ in range(LIMIT):
        if position == len(message):
            return found
        tag, position = _varint(message, position)
        number, wire = divmod(tag, 8)
        if number == 0 or wire not in (0, 1, 2, 5):
            raise ValueError(f"expected a protobuf field, got a tag of {tag}")
        length = {1: 8, 5: 4}.get(wire, 0)
        if wire in (0, 2):
            length, position = _varint(message, position)
        if wire == 0:
            found[number].append(length)
            continue
        value = message[position : position + length]
        if len(value) < length:
            raise ValueError(f"expected {length} bytes of protobuf, got {len(value)}")
        # A fixed-size field is copied: a view of its four bytes would take two hundred.
        found[number].append(value if wire == 2 else bytes(value))
        position += length
    raise ValueError(f"expected at most {LIMIT} protobuf fields, got more")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Integer of seven bits per byte, ten bytes at most, and the position after it."""
    value = 0
    for i, byte in enumerate(message[position : position + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, position + i + 1
    raise ValueError(f"expected a protobuf integer at byte {position}, got none")
