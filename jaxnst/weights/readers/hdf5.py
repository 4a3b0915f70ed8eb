"""Arrays of HDF5 files that may be damaged, such as those of Keras.

Some wrong bits make HDF5's own library crash or read for ever. Files are first checked
for the known cases.
"""

import io
import mmap
import re
import struct
from pathlib import Path

import h5py
import numpy as np

from jaxnst.weights.readers.files import map_file
from jaxnst.weights.readers.naming import LARGEST_ARRAY, Tree


def read_hdf5(source: Path | bytes) -> tuple[Tree, dict[str, str]]:
    """Numeric arrays of a weights file by path, and the texts of its attributes.

    Data in linked files is not read, nor any array larger than VGG-19's largest kernel.
    Where Keras 3 numbers its groups, the name of the VGG layer is added to the path.
    Damage raises h5py's own exceptions.

    Reference:
        https://support.hdfgroup.org/documentation, "HDF5 File Format Specification";
        Keras, `legacy/saving/legacy_h5_format.py` and `saving/saving_lib.py`.
    """
    data = map_file(source) if isinstance(source, Path) else source
    _check_names(data)
    _check_texts(data)
    tree, names = {}, {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group):
            names[path] = _text(item, "name")
        elif (
            item.dtype.kind in "fiu"
            and item.size is not None
            and item.size <= LARGEST_ARRAY
            and not item.external
            and not item.is_virtual
        ):
            group, _, key = path.rpartition("/")
            if re.fullmatch(r"block\d_conv\d", names.get(group, "")):
                path = f"{group}/{names[group]}/vars/{key}"
            tree[path] = np.asarray(item[()])

    opened = source if isinstance(source, Path) else io.BytesIO(source)
    with h5py.File(opened, "r") as file:
        file.visititems(visit)
        return tree, {name: _text(file, name) for name in file.attrs}


def _text(item: h5py.Group, name: str) -> str:
    """The text of an attribute; empty if it has none."""
    if name not in item.attrs:
        return ""
    attribute = item.attrs.get_id(name)
    if attribute.shape != () or not h5py.check_string_dtype(attribute.dtype):
        return ""  # HDF5 would crash on such an attribute if it is damaged
    value = item.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_names(data: bytes | mmap.mmap) -> None:
    """Check that the free list in each heap of names has an end."""
    for match in re.finditer(b"HEAP\0\0\0\0", data):
        start = match.start()
        size, free, names = struct.unpack("<QQQ", data[start + 8 : start + 32])
        seen = set()
        # The last entry of a free list has 1 as the next one.
        while free != 1 and free + 16 <= size and names + free + 16 <= len(data):
            if free in seen:
                raise ValueError("expected a list of names in HDF5, got an endless one")
            seen.add(free)
            (free,) = struct.unpack("<Q", data[names + free : names + free + 8])


def _check_texts(data: bytes | mmap.mmap) -> None:
    """Check that the lengths of the texts in each collection are valid."""
    for match in re.finditer(b"GCOL\1\0\0\0", data):
        start = match.start()
        (size,) = struct.unpack("<Q", data[start + 8 : start + 16])
        position, end = start + 16, min(start + size, len(data))
        while position + 16 <= end:
            index, _, length = struct.unpack("<H6sQ", data[position : position + 16])
            length = length + 23 & ~7 if index else length
            if not 16 <= length <= end - position:
                raise ValueError(f"expected whole texts in HDF5, got {length} bytes")
            position += length
