"""PyTorch's pickles, read without PyTorch.

A pickle is a program. `unpickle` runs only two dozen of its operations, and imports
only names from a closed list, instead of Python's modules. None of these can run other
code.
"""

import io
import mmap
from collections.abc import Callable
from pickletools import genops
from types import FunctionType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

LIMIT = 10_000
"""Most operations of a pickle; a VGG-19 has about 1200."""


class Storage(NamedTuple):
    """A sequence of numbers outside the pickle, as the pickle states it.

    `start` is the index at which a view of the storage begins. Offsets of tensors count
    from there.
    """

    key: str
    dtype: np.dtype
    length: int
    start: int = 0


class Tensor(NamedTuple):
    """A view of a storage; `strides` count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    integers = all(type(number) is int for number in (offset, *shape, *strides))
    if not isinstance(storage, Storage) or not integers:
        raise ValueError("expected a tensor of a storage and integers, got others")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _ordered_dict(pairs: Any = ()) -> dict:
    return _update({}, [item for key, value in pairs for item in (key, value)])


def _update(target: Any, items: list[Any]) -> dict:
    # Hashing a key of deeply nested tuples could take for ever.
    keys = items[::2]
    if type(target) is not dict or not all(isinstance(key, str | int) for key in keys):
        raise ValueError("expected a dict with strings as keys, got something else")
    target.update(zip(keys, items[1::2], strict=True))
    return target


DTYPES = {
    "Double": np.float64, "Float": np.float32, "Half": np.float16, "Long": np.int64,
    "BFloat16": jnp.bfloat16, "Int": np.int32, "Short": np.int16, "Char": np.int8,
    "Byte": np.uint8, "Bool": np.bool_,
}  # fmt: skip
NAMES = {
    "collections OrderedDict": _ordered_dict,
    "torch Size": lambda shape: tuple(shape),
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
} | {
    f"{module} {kind}{what}": np.dtype(dtype)
    for module in ("torch", "torch.cuda")
    for kind, dtype in DTYPES.items()
    for what in ("Storage", "Tensor")
}
"""All names that a pickle may import. The functions only rearrange their arguments."""

NEW = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "NEWFALSE": bool,
    "NEWTRUE": lambda: True,
}  # fmt: skip
"""Constructors of the values of operations without arguments."""
COUNTS = {
    "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2, "REDUCE": 2,
    "STACK_GLOBAL": 2,
}  # fmt: skip
"""Number of values an operation takes. Others take all values since the last mark."""


def unpickle(
    stream: io.BytesIO | mmap.mmap, persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Read one pickle of a stream and move past it, without Python's unpickler.

    The values are dicts, lists, tuples, texts, numbers, `Storage`s and `Tensor`s;
    `persistent` returns the value of a persistent id. Any other operation or name is
    refused with a ValueError; damage raises other exceptions too.

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

    def pop(operation: str) -> list[Any]:
        start = -COUNTS[operation] if operation in COUNTS else marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for count, (operation, value, _) in enumerate(genops(stream)):  # pyright: ignore
        if count > LIMIT:
            raise ValueError(f"expected at most {LIMIT} pickle operations, got more")
        match name := operation.name:
            case "STOP":
                break
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case _ if name in NEW:
                stack.append(NEW[name]())
            case (
                # Not "LONG4": arithmetic on an integer of megabytes takes for ever.
                "NONE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT"
                | "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING"
            ):  # fmt: skip
                stack.append(value)
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(pop(name)))
            case "APPEND" | "APPENDS":
                items = pop(name)
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = pop(name)
                _update(stack[-1], items)
            case "GLOBAL" | "STACK_GLOBAL":
                imported = value or " ".join(pop(name))
                if imported not in NAMES:
                    raise _refuse(f"that imports {imported.replace(' ', '.')}")
                stack.append(NAMES[imported])
            case "REDUCE":
                function, arguments = pop(name)
                if not isinstance(function, FunctionType):
                    raise _refuse("with another call")
                stack.append(function(*arguments))
            case "BUILD":
                stack.pop()  # attributes, such as a state dict's `_metadata`
            case "BINPERSID" if persistent:
                stack.append(persistent(stack.pop()))
            case _:
                raise _refuse(f"with {name}")
    return stack[-1]


def _refuse(what: str) -> ValueError:
    return ValueError(
        f"expected a pickle of tensors, got one {what}; open it nowhere else unless "
        "you trust its source"
    )
