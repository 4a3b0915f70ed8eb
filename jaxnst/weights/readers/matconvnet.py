"""Weights of MatConvNet: a MATLAB 5 file of layers and an average image.

SciPy is not used: a single wrong bit can make its reader crash the whole process.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxnst.weights.readers.naming import Tree

DTYPES = {
    1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8",
    12: "<i8", 13: "<u8", 16: "u1", 17: "<u2", 18: "<u4",
}  # fmt: skip
"""NumPy's types by MATLAB's numbers, those for text included."""
LIMIT = 2**30
"""Most bytes that a compressed variable may expand to; VGG-19's layers take 0.57e9."""


def read_matconvnet(data: memoryview) -> tuple[Tree, np.ndarray | None]:
    """Arrays `conv1_1/kernel` … and mean RGB in 0 to 255 (3,), or None.

    The mean is in `normalization`, which is at the root in the old layout, and in
    `meta` in the new layout.

    Reference: MathWorks, "MAT-File Format", level 5.
    """
    if data[124:128] != b"\0\1IM":
        raise ValueError("expected a little-endian MATLAB 5 file, got another")
    matrices = (_matrix(content) for _, content in _elements(data[128:]))
    wanted = ("layers", "meta", "normalization")
    mat = {name: value for name, value in matrices if name in wanted}
    tree = {}
    for layer in mat["layers"]:
        if layer["type"] == "conv":
            for key, array in zip(("kernel", "bias"), layer["weights"], strict=False):
                array = array if key == "kernel" else array.ravel()
                tree[f"{layer['name']}/{key}"] = array
    mean = mat.get("meta", mat).get("normalization", {}).get("averageImage")
    if mean is not None:
        mean = np.float64(mean).reshape(-1, 3).mean(0)
        if not np.isfinite(mean).all():
            raise ValueError("expected a finite averageImage, got NaN or infinity")
    return tree, mean


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Types and bytes of a sequence of elements, decompressed."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from("<II", data, position)
        start = position + 8
        if kind >> 16:  # a short element: up to four bytes, stored in its own tag
            kind, size, start = kind & 0xFFFF, min(kind >> 16, 4), position + 4
        content = data[start : start + size]
        if len(content) != size:
            raise ValueError(f"expected {size} bytes of MATLAB, got {len(content)}")
        if kind == 15:
            stream = zlib.decompressobj()
            whole = stream.decompress(content, LIMIT)
            if not stream.eof:
                raise ValueError("expected compressed bytes of MATLAB, got cut ones")
            yield from _elements(memoryview(whole))
            position = start + size
        else:
            yield kind, content
            position = start + size + -(start + size) % 8


def _matrix(data: memoryview) -> tuple[str, Any]:
    """Name of a matrix and its value: an array, a text, or a list or dict of these."""
    if not data:
        return "", None
    (_, flags), (_, shape), (_, name), *parts = _elements(data)
    match flags[0]:
        case 1:
            value = [_matrix(part)[1] for _, part in parts]
        case 2:  # an array of structs; only the first is read
            (_, length), (_, text), *parts = parts
            step = int.from_bytes(length, "little")
            keys = [bytes(text[i : i + step]) for i in range(0, len(text), step)]
            value = {
                key.split(b"\0")[0].decode(): _matrix(part)[1]
                for key, (_, part) in zip(keys, parts, strict=False)
            }
        case 4:
            value = "".join(map(chr, _numbers(*parts[0])))
        case kind if 6 <= kind <= 15:
            sizes = np.frombuffer(shape, "<i4")
            value = _numbers(*parts[0]).reshape(sizes, order="F")
        case _:
            value = None
    return bytes(name).decode(), value


def _numbers(kind: int, data: memoryview) -> np.ndarray:
    return np.frombuffer(data, DTYPES[kind])
