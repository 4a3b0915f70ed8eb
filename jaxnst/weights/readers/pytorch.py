"""Weights of PyTorch, in its three containers or in safetensors."""

import io
import math
import mmap
import struct
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from jaxnst.weights.readers.files import zip_entries
from jaxnst.weights.readers.naming import LARGEST_ARRAY, Tree, is_conv
from jaxnst.weights.readers.pickles import Storage, Tensor, unpickle

MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""The magic number in the first pickle of a stream of pickles, little-endian."""


def read_safetensors(path: Path) -> Tree:
    """Arrays of a safetensors file, such as timm's, up to VGG-19's largest kernel."""
    tree = {}
    with safe_open(path, framework="numpy") as file:
        for key in file.keys():  # noqa: SIM118, it is no dict
            about = file.get_slice(key)
            if math.prod(about.get_shape()) > LARGEST_ARRAY:
                continue
            if about.get_dtype() in ("F64", "F32", "F16", "BF16"):
                tree[key] = file.get_tensor(key)
            elif is_conv(key):
                raise ValueError(
                    f"expected numbers of at least 16 bits in {key}, got "
                    f"{about.get_dtype()}; use weights that are not quantised"
                )
    return tree


def read_pytorch(stream: mmap.mmap) -> Tree:
    """Tensors of the largest state dict in a `.pth` file, which may be in other dicts.

    The file is a zip archive (PyTorch 1.6 and later), a stream of pickles, or a tar
    archive (until early 2017). Nothing in it is executed, and nothing is allocated: the
    arrays are views of the mapped file, made after their stated sizes are checked
    against the file's bytes. Damage raises a ValueError or other exceptions.

    Reference:
        https://github.com/pytorch/pytorch, `torch/serialization.py`.
    """
    if stream[:4] == b"PK\3\4":
        value, raw = _read_zip(stream)
    elif stream[257:262] == b"ustar":
        value, raw = _read_tar(stream)
    else:
        value, raw = _read_stream(stream)
    if not isinstance(value, dict):
        raise ValueError(f"expected a dict of tensors, got a {type(value).__name__}")
    tensors = max(_state_dicts(value), key=len)
    return {name: _view(each, raw[each.storage.key]) for name, each in tensors.items()}


def _state_dicts(value: dict, depth: int = 3) -> Iterator[dict[str, Tensor]]:
    """The tensors with names in a dict, then those of the dicts inside it."""
    yield {
        name: tensor
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    for inner in value.values() if depth else ():
        if isinstance(inner, dict):
            yield from _state_dicts(inner, depth - 1)


def _read_zip(stream: mmap.mmap) -> tuple[Any, dict[str, memoryview]]:
    entries = zip_entries(stream)
    name = next((name for name in entries if name.endswith("data.pkl")), None)
    if name is None:
        kind = "NumPy's .npz" if any(x.endswith(".npy") for x in entries) else "others"
        raise ValueError(f"expected PyTorch's data.pkl in the archive, got {kind}")
    root = name.removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order and order() != b"little":
        raise ValueError("expected little-endian numbers, got others; save them anew")
    value = unpickle(io.BytesIO(entries[name]()), _storage)
    place = f"{root}data/"
    data = {x: take() for x, take in entries.items() if x.startswith(place)}
    return value, {x.removeprefix(place): numbers for x, numbers in data.items()}


def _read_stream(stream: mmap.mmap) -> tuple[Any, dict[str, memoryview]]:
    storages = {}

    def persistent(pid: Any) -> Storage:
        storage = _storage(pid)
        storages[storage.key] = storage
        return storage

    if (unpickle(stream), unpickle(stream)) != (int.from_bytes(MAGIC, "little"), 1001):
        raise ValueError("expected PyTorch's magic number and version, got others")
    unpickle(stream)  # sizes of types on the machine that wrote the file
    value = unpickle(stream, persistent)
    keys = unpickle(stream)
    if set(map(type, keys)) - {str}:
        raise ValueError("expected strings as keys of storages, got something else")
    raw = {key: _take(stream, storages[key].dtype) for key in keys}
    return value, raw


def _read_tar(stream: mmap.mmap) -> tuple[Any, dict[str, memoryview]]:
    with tarfile.open(fileobj=stream, mode="r:") as archive:  # pyright: ignore
        # PyTorch writes four members; a wrong size may repeat one of them for ever.
        starts = {each.name: each.offset_data for each in islice(archive, 16)}
    stream.seek(starts["storages"])
    storages, tensors, raw = {}, {}, {}
    for _ in range(unpickle(stream)):
        key, _, dtype = unpickle(stream)
        raw[str(int(key))] = data = _take(stream, dtype)
        storages[int(key)] = Storage(str(key), dtype, len(data) // dtype.itemsize)
    for key, root, start, _ in unpickle(stream):
        storages[int(key)] = storages[int(root)]._replace(start=start)
    stream.seek(starts["tensors"])
    for _ in range(unpickle(stream)):
        key, storage, _ = unpickle(stream)
        (rank,) = struct.unpack("<i4x", stream.read(8))
        if not 0 <= rank <= 8:
            raise ValueError(f"expected a tensor of rank 8 at most, got {rank}")
        numbers = struct.unpack(f"<{2 * rank + 1}q", stream.read(16 * rank + 8))
        shape, strides, offset = numbers[:rank], numbers[rank:-1], numbers[-1]
        tensors[int(key)] = Tensor(storages[int(storage)], offset, shape, strides)
    stream.seek(starts["pickle"])
    return unpickle(stream, lambda pid: tensors[int(pid)]), raw


def _storage(pid: Any) -> Storage:
    match pid:
        case ("storage", np.dtype() as dtype, str() as key, _, int() as length, *view):
            start = view[0][1] if view and view[0] else 0
            return Storage(key, dtype, length, start)
    raise ValueError("expected a storage of numbers in the pickle, got something else")


def _take(stream: mmap.mmap, dtype: np.dtype) -> memoryview:
    """Read a count and that many numbers, as bytes; the stream moves past them."""
    (length,) = struct.unpack("<Q", stream.read(8))
    start, size = stream.tell(), length * dtype.itemsize
    stream.seek(start + size)  # raises a ValueError if the file ends before
    return memoryview(stream)[start : start + size]


def _view(tensor: Tensor, raw: memoryview) -> np.ndarray:
    """Array of a tensor, after a check that all its numbers lie in its storage."""
    storage, offset, shape, strides = tensor
    offset += storage.start
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if (
        len(raw) != storage.length * storage.dtype.itemsize
        or min((offset, *shape, *strides)) < 0
        or max(count, last + 1) > storage.length
    ):
        raise ValueError(
            f"expected a tensor inside its storage of {storage.length} numbers, got "
            f"{len(raw)} bytes, shape {shape}, strides {strides}, offset {offset}"
        )
    numbers = np.frombuffer(raw, storage.dtype)[offset:]
    steps = [stride * storage.dtype.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers, shape, steps, writeable=False)
