"""State dicts in PyTorch's three containers, and an assembler of pickles.

The assembler also writes what PyTorch never would: the pickles of attackers.
"""

import io
import pickle
import struct
import tarfile
import zipfile
from typing import Any, NamedTuple

import numpy as np
from networks import FEATURES, NETWORKS, oihw


def state_dict(params, classifier=(0, 3, 6)):
    tensors = {}
    network = next(
        i for i, n in enumerate(NETWORKS) if n[: len(params)] == sorted(params)
    )
    places = dict(zip(NETWORKS[network], FEATURES[network], strict=True))
    for name, conv in params.items():
        tensors[f"features.{places[name]}.weight"] = oihw(conv["kernel"])
        tensors[f"features.{places[name]}.bias"] = conv["bias"]
    for i in classifier:
        tensors[f"classifier.{i}.weight"] = np.ones((2, 3), np.float32)
        tensors[f"classifier.{i}.bias"] = np.ones(2, np.float32)
    return tensors


def conv_dict(params):
    return {
        f"{name}.{torch_key}": oihw(conv[key]) if key == "kernel" else conv[key]
        for name, conv in params.items()
        for key, torch_key in (("kernel", "weight"), ("bias", "bias"))
    }


class Global(NamedTuple):
    name: str


class Call(NamedTuple):
    function: Any
    arguments: Any


class Persistent(NamedTuple):
    id: Any


class Built(NamedTuple):
    target: Any
    state: Any


class Raw(NamedTuple):
    bytes: bytes


def assemble(value):
    match value:
        case Raw(code):
            return code
        case Global(name):
            return b"c" + name.replace(" ", "\n").encode() + b"\n"
        case Call(function, arguments):
            return assemble(function) + assemble(arguments) + b"R"
        case Built(target, state):
            return assemble(target) + assemble(state) + b"b"
        case Persistent(identity):
            return assemble(identity) + b"Q"
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            code = pickle.encode_long(value)
            return b"\x8a" + bytes([len(code)]) + code
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(assemble, value)) + b"t"
        case list():
            return b"](" + b"".join(map(assemble, value)) + b"e"
        case dict():
            items = [x for item in value.items() for x in item]
            return b"}(" + b"".join(map(assemble, items)) + b"u"
    raise TypeError(value)


def pickled(value):
    return b"\x80\x02" + assemble(value) + b"."


ORDERED = Global("collections OrderedDict")
REBUILD = Global("torch._utils _rebuild_tensor_v2")
FLOAT = Global("torch FloatStorage")


def steps_of(shape):
    return tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))


def torch_tensor(
    key, shape, *, length=None, strides=None, offset=0, storage=FLOAT, view=()
):
    length = int(np.prod(shape)) if length is None else length
    identity = Persistent(("storage", storage, key, "cuda:0", length, *view))
    strides = steps_of(shape) if strides is None else strides
    hooks = Call(ORDERED, ())
    return Call(REBUILD, (identity, offset, tuple(shape), strides, False, hooks))


def torch_pickle(tensors, view=()):
    """Pickle of a state dict, and its storages."""
    storages = {str(i): array.tobytes() for i, array in enumerate(tensors.values())}
    value = {
        name: torch_tensor(str(i), array.shape, view=view)
        for i, (name, array) in enumerate(tensors.items())
    }
    metadata = {"_metadata": Call(ORDERED, ())}
    first = Call(ORDERED, ())
    code = assemble(first) + assemble(value)[1:] + assemble(metadata) + b"b"
    return b"\x80\x02" + code + b".", storages


def write_torch_zip(path, code, storages, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("net/data.pkl", code)
        archive.writestr("net/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"net/data/{key}", data)
        archive.writestr("net/version", "3\n")


def write_torch_stream(path, code, storages):
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled(info)]
    parts = [*head, code, pickled(list(storages))]
    for data in storages.values():
        parts += [struct.pack("<q", len(data) // 4), data]
    path.write_bytes(b"".join(parts))


def tar_file(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 0.5  # half a second needs a PAX header
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_members(tensors):
    """Kernels lie whole in their storages; biases are views of one storage."""
    biases = [name for name, array in tensors.items() if array.ndim == 1]
    common = np.concatenate([np.float32([9, 9]), *(tensors[name] for name in biases)])
    arrays = {100: common} | {
        200 + i: array for i, array in enumerate(tensors.values()) if array.ndim > 1
    }
    storages = pickled(len(arrays))
    for key, array in arrays.items():
        storages += pickled((key, "cpu", FLOAT)) + struct.pack("<q", array.size)
        storages += array.tobytes()
    views, offset = [], 2
    for i, array in enumerate(tensors.values()):
        if array.ndim == 1:
            views.append((200 + i, 100, offset, array.size))
            offset += array.size
    entries = pickled(len(tensors))
    for i, array in enumerate(tensors.values()):
        entries += pickled((300 + i, 200 + i, Global("torch FloatTensor")))
        numbers = (*array.shape, *steps_of(array.shape), 0)
        entries += struct.pack(f"<ii{len(numbers)}q", array.ndim, 0, *numbers)
    value = [[name, Persistent(str(300 + i))] for i, name in enumerate(tensors)]
    return {
        "sys_info": pickled({"little_endian": True}),
        "pickle": pickled(Call(ORDERED, (value,))),  # as Python 2 wrote it
        "storages": storages + pickled(views),
        "tensors": entries,
    }


def write_torch_tar(path, tensors):
    path.write_bytes(tar_file(tar_members(tensors)))
