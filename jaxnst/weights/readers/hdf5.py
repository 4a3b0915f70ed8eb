"""Arrays and texts of HDF5 files that may be damaged.

Some wrong bits make HDF5's own library crash or read for ever. Files are checked first
for those that are known to.
"""

import io
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from jaxnst.weights.readers.files import map_file
from jaxnst.weights.readers.naming import LARGEST_ARRAY, Tree


def read_hdf5(source: Path | bytes) -> Tree:
    """Numeric arrays of a weights file by path, but no data of files that it links to.

    None is larger than VGG-19's largest kernel. The text in the attribute `name` of a
    group is at `path@name`, that in the file's `model_config` at `@model_config`.
    Damage raises h5py's own exceptions.

    Reference:
        https://support.hdfgroup.org/documentation, "HDF5 File Format Specification".
    """
    data = map_file(source) if isinstance(source, Path) else source
    _check_names(data)
    _check_texts(data)
    tree = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if (name := _text(item, "name")) is not None:
            tree[f"{path}@name"] = np.array(name)
        if (
            isinstance(item, h5py.Dataset)
            and item.dtype.kind in "fiu"
            and item.size is not None
            and item.size <= LARGEST_ARRAY
            and not item.external
            and not item.is_virtual
        ):
            tree[path] = np.asarray(item[()])

    opened = source if isinstance(source, Path) else io.BytesIO(source)
    with h5py.File(opened, "r") as file:
        file.visititems(visit)
        if (config := _text(file, "model_config")) is not None:
            tree["@model_config"] = np.array(config)
    return tree


def _text(item: h5py.Group | h5py.Dataset, name: str) -> str | None:
    if name not in item.attrs:
        return None
    attribute = item.attrs.get_id(name)
    if attribute.shape != () or not h5py.check_string_dtype(attribute.dtype):
        return None  # HDF5 would crash on such an attribute if it is damaged
    value = item.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def _starts(data: bytes | mmap.mmap, signature: bytes) -> Iterator[int]:
    start = -1
    while (start := data.find(signature, start + 1)) >= 0:
        yield start


def _check_names(data: bytes | mmap.mmap) -> None:
    """Check that the list of free places among each group's names has an end."""
    for start in _starts(data, b"HEAP\0\0\0\0"):
        size, free, names = struct.unpack("<QQQ", data[start + 8 : start + 32])
        seen = set()
        # The last free place names 1 as the next one.
        while free != 1 and free + 16 <= size and names + free + 16 <= len(data):
            if free in seen:
                raise ValueError("expected a list of names in HDF5, got an endless one")
            seen.add(free)
            (free,) = struct.unpack("<Q", data[names + free : names + free + 8])


def _check_texts(data: bytes | mmap.mmap) -> None:
    """Check that the texts of each collection follow one another."""
    for start in _starts(data, b"GCOL\1\0\0\0"):
        (size,) = struct.unpack("<Q", data[start + 8 : start + 16])
        position, end = start + 16, min(start + size, len(data))
        while position + 16 <= end:
            index, _, length = struct.unpack("<H6sQ", data[position : position + 16])
            length = length + 23 & ~7 if index else length
            if not 16 <= length <= end - position:
                raise ValueError(f"expected whole texts in HDF5, got {length} bytes")
            position += length
