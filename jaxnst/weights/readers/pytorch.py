"""Weights of PyTorch, in its three containers, read without PyTorch.

A `.pth` file holds a pickle, and a pickle is a program. `unpickle` interprets it with
two dozen of the operations and, instead of Python's imports, a closed list of names. No
value that it handles can do anything.
"""

import io
import math
import mmap
import re
import struct
from collections.abc import Callable, Iterator
from itertools import accumulate, product
from pathlib import Path
from pickletools import genops
from types import FunctionType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnst.types import Params
from jaxnst.weights.readers.files import map_file, zip_entries
from jaxnst.weights.readers.naming import NETWORKS, Tree, collect, conv_names, hwio

MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""The number in the first pickle of the older stream, little-endian."""

LIMIT = 10_000
"""Most operations that a pickle may have; that of a VGG-19 has about 1200."""

FEATURE = re.compile(r"(?:.*\.)?features\.(\d{1,3})\.(weight|bias)")
CONV = re.compile(r"(?:.*\.)?(conv\d_\d)\.(weight|bias)")


class Storage(NamedTuple):
    """A sequence of numbers outside the pickle.

    Attributes:
        key: Its name.
        dtype: Type of its numbers.
        length: Number of its numbers, as the pickle states.
        start: Index at which a view of it begins; offsets of tensors count from there.
    """

    key: str
    dtype: np.dtype
    length: int
    start: int = 0


class Tensor(NamedTuple):
    """A view of a storage.

    Attributes:
        storage: The storage.
        offset: Index of the first number.
        shape: Size of each axis.
        strides: Numbers, not bytes, from one index of an axis to the next.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    integers = all(type(number) is int for number in (offset, *shape, *strides))
    if not isinstance(storage, Storage) or not integers:
        raise ValueError("expected a tensor of a storage and integers, got others")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _ordered_dict(pairs: Any = ()) -> dict:
    return _update({}, [item for key, value in pairs for item in (key, value)])


def _size(shape: Any) -> tuple:
    return tuple(shape)


def _update(target: Any, items: list[Any]) -> dict:
    # Hashing a key of deeply nested tuples could take for ever.
    keys = items[::2]
    if type(target) is not dict or not all(isinstance(key, str | int) for key in keys):
        raise ValueError("expected a dict with strings as keys, got something else")
    target.update(zip(keys, items[1::2], strict=True))
    return target


DTYPES = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": jnp.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}
NAMES = {
    "collections OrderedDict": _ordered_dict,
    "torch Size": _size,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
} | {
    f"{module} {kind}{what}": np.dtype(dtype)
    for module in ("torch", "torch.cuda")
    for kind, dtype in DTYPES.items()
    for what in ("Storage", "Tensor")
}
"""All names that a pickle may import. The functions only rearrange their arguments."""


def unpickle(
    stream: io.BytesIO | mmap.mmap, persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Read one pickle, without Python's unpickler.

    Args:
        stream: Stream to read from; it ends up behind the pickle.
        persistent: Function from a persistent id to its value. Default: refuse them.

    Returns:
        Dicts, lists, tuples, strings, numbers, `Storage`s and `Tensor`s.

    Raises:
        ValueError: If the pickle uses another operation or name, or has more than
            `LIMIT` operations. Other damage raises other exceptions.

    Example:
        >>> import pickle
        >>> unpickle(io.BytesIO(pickle.dumps({"a": (1, 2.5)})))
        {'a': (1, 2.5)}

    Reference:
        Python's `pickletools.py`, which decodes the operations but runs none.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    for count, (operation, value, _) in enumerate(genops(stream)):  # pyright: ignore
        if count > LIMIT:
            raise ValueError(f"expected at most {LIMIT} pickle operations, got more")
        match operation.name:
            case "STOP":
                break
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(operation.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case (
                # Not "LONG4": arithmetic on an integer of megabytes takes for ever.
                "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT"
                | "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING"
            ):  # fmt: skip
                stack.append(value)
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "TUPLE":
                stack.append(tuple(_pop(stack, marks.pop())))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                stack.append(tuple(_pop(stack, -int(name[-1]))))
            case "APPEND" | "APPENDS" as name:
                items = _pop(stack, -1 if name == "APPEND" else marks.pop())
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS" as name:
                items = _pop(stack, -2 if name == "SETITEM" else marks.pop())
                _update(stack[-1], items)
            case "GLOBAL":
                stack.append(_named(value))
            case "STACK_GLOBAL":
                stack.append(_named(" ".join(_pop(stack, -2))))
            case "REDUCE":
                function, arguments = _pop(stack, -2)
                if not isinstance(function, FunctionType):
                    raise _refuse("with another call")
                stack.append(function(*arguments))
            case "BUILD":
                stack.pop()  # attributes, such as a state dict's `_metadata`
            case "BINPERSID" if persistent:
                stack.append(persistent(stack.pop()))
            case name:
                raise _refuse(f"with {name}")
    return stack[-1]


def _pop(stack: list[Any], start: int) -> list[Any]:
    items = stack[start:]
    del stack[start:]
    return items


def _named(name: Any) -> Any:
    if name not in NAMES:
        raise _refuse(f"that imports {name.replace(' ', '.')}")
    return NAMES[name]


def _refuse(what: str) -> ValueError:
    return ValueError(
        f"expected a pickle of tensors, got one {what}; open it nowhere else unless "
        "you trust its source"
    )


def read_pytorch(path: Path) -> Tree:
    """Read the tensors of a `.pth` file: a state dict, or one inside another dict.

    Nothing in the file is executed, and nothing is allocated: the arrays are views of
    the mapped file, made after their stated sizes are checked against its bytes.

    Args:
        path: Zip archive (PyTorch 1.6 and later), stream of pickles, or tar archive
            (until early 2017).

    Returns:
        Arrays by name, all of them, with PyTorch's axes.

    Raises:
        ValueError: If the file holds anything but tensors, or they do not fit its
            bytes. Other damage raises other exceptions, which `readers.read` turns into
            a ValueError.

    Reference:
        https://github.com/pytorch/pytorch, `torch/serialization.py`.
    """
    stream = map_file(path)
    if stream[:4] == b"PK\3\4":
        value, raw = _read_zip(path)
    elif stream[257:262] == b"ustar":
        value, raw = _read_tar(stream)
    else:
        value, raw = _read_stream(stream)
    for key in ("state_dict", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if not isinstance(value, dict):
        raise ValueError(f"expected a dict of tensors, got a {type(value).__name__}")
    tensors = {
        name: tensor
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    used = {key: raw(key) for key in {each.storage.key for each in tensors.values()}}
    return {name: _view(each, used[each.storage.key]) for name, each in tensors.items()}


Raw = Callable[[str], memoryview]
"""Bytes of a storage by its key."""


def _read_zip(path: Path) -> tuple[Any, Raw]:
    entries = zip_entries(path)
    name = next((name for name in entries if name.endswith("data.pkl")), None)
    if name is None:
        raise ValueError(f"expected data.pkl in the archive, got {', '.join(entries)}")
    root = name.removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order and order() != b"little":
        raise ValueError("expected little-endian numbers, got others; save them anew")
    value = unpickle(io.BytesIO(entries[name]()), _storage)
    return value, lambda key: entries[f"{root}data/{key}"]()


def _read_stream(stream: mmap.mmap) -> tuple[Any, Raw]:
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
    return value, raw.__getitem__


def _read_tar(stream: mmap.mmap) -> tuple[Any, Raw]:
    starts = _tar_starts(stream)
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
    return unpickle(stream, lambda pid: tensors[int(pid)]), raw.__getitem__


def _tar_starts(stream: mmap.mmap) -> dict[str, int]:
    """Where each member of a tar archive starts, by name.

    Python's own reader loops for ever on some false sizes.
    """
    starts, position = {}, 0
    while header := stream[position : position + 512].rstrip(b"\0"):
        position += 512
        starts[header[:100].rstrip(b"\0").decode()] = position
        size = int(header[124:136].strip(b" \0"), 8)
        if size < 0:
            raise ValueError(f"expected a tar archive, got a member of {size} bytes")
        position += -(-size // 512) * 512
    return starts


def _storage(pid: Any) -> Storage:
    match pid:
        case ("storage", np.dtype() as dtype, str() as key, _, int() as length, *view):
            start = view[0][1] if view and view[0] else 0
            return Storage(key, dtype, length, start)
    raise ValueError("expected a storage of numbers in the pickle, got something else")


def _take(stream: mmap.mmap, dtype: np.dtype) -> memoryview:
    """Bytes of the numbers that follow their count; the stream moves past them."""
    (length,) = struct.unpack("<Q", stream.read(8))
    start, size = stream.tell(), length * dtype.itemsize
    stream.seek(start + size)  # raises a ValueError if the file ends before
    return memoryview(stream)[start : start + size]


def _view(tensor: Tensor, raw: memoryview) -> np.ndarray:
    """Array of a tensor, after a check that all its numbers lie in its storage."""
    storage, offset, shape, strides = tensor
    if len(raw) != storage.length * storage.dtype.itemsize:
        raise ValueError(
            f"expected {storage.length} numbers in storage {storage.key}, got "
            f"{len(raw)} bytes; the file is cut or damaged"
        )
    offset += storage.start
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or max(count, last + 1) > storage.length:
        raise ValueError(
            f"expected a tensor inside its storage of {storage.length} numbers, got "
            f"shape {shape}, strides {strides}, offset {offset}"
        )
    numbers = np.frombuffer(raw, storage.dtype)[offset:]
    steps = [stride * storage.dtype.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers, shape, steps, writeable=False)


def from_pytorch(tree: Tree) -> Params:
    """Parameters from a state dict.

    Args:
        tree: Arrays by key: torchvision's `features.0.weight`, out in h w, and
            `features.0.bias` …, or `conv1_1.weight` …; all may have a prefix. Others
            than of convolutions are ignored.

    Returns:
        Parameters in float32; the input channels of `conv1_1` are in the file's order.

    Raises:
        ValueError: If these are not the convolutions of a VGG-19 without BatchNorm.
    """
    return collect(_convolutions(tree))


def _convolutions(tree: Tree) -> Iterator[tuple[str, str, np.ndarray]]:
    features = {key: match for key in tree if (match := FEATURE.fullmatch(key))}
    names = _feature_names(
        sorted({int(m[1]) for key, m in features.items() if tree[key].ndim == 4})
    )
    for key, array in tree.items():
        if key in features:
            name, what = names.get(int(features[key][1])), features[key][2]
        elif match := CONV.fullmatch(key):
            name, what = match.groups()
        else:
            continue
        if name and what == "weight":
            yield name, "kernel", hwio(array)
        elif name:
            yield name, "bias", array


def _feature_names(indices: list[int]) -> dict[int, str]:
    """Names of convolutions by their places in torchvision's `features`."""
    # A convolution and its ReLU take two places, with BatchNorm three.
    for places, (network, counts) in product((2, 3), NETWORKS.items()):
        block_starts = accumulate((places * n + 1 for n in counts), initial=0)
        known = [
            start + places * i
            for start, n in zip(block_starts, counts, strict=False)
            for i in range(n)
        ]
        if known[: len(indices)] == indices:
            if places == 3:
                name = network.lower().replace("-", "") + "_bn"
                raise ValueError(
                    f"expected VGG-19 without BatchNorm, got {name}; use vgg19"
                )
            return dict(zip(indices, conv_names(network), strict=False))
    raise ValueError(
        "expected VGG-19's convolutions at features.0, 2, 5, 7, 10 … 34, got some at "
        f"{', '.join(map(str, indices))}; use the weights of a VGG-19"
    )


def family(tree: Tree) -> str | None:
    """Input that a state dict's network expects, where its names tell.

    Args:
        tree: Arrays by key; the biases are enough.

    Returns:
        `caffe` for conversions of Oxford's weights: names like `conv1_1.bias`, or a
        classifier at 1, 4 and 6. `torchvision` for a classifier at 0, 3 and 6, or
        timm's names. None without a classifier.

    Example:
        >>> family({f"classifier.{i}.bias": np.zeros(1) for i in (0, 3, 6)})
        'torchvision'
    """
    classifier = {
        int(match[1])
        for key in tree
        if (match := re.search(r"(?:^|\.)classifier\.(\d)\.bias$", key))
    }
    if classifier == {1, 4, 6} or any(map(CONV.fullmatch, tree)):
        return "caffe"
    timm = any(re.search(r"(?:^|\.)(pre_logits|head)\.", key) for key in tree)
    return "torchvision" if classifier == {0, 3, 6} or timm else None
