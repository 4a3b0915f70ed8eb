"""Writers of every format, by the formats' descriptions and not by the readers.

Pickles are assembled, also those that PyTorch never would write: the attackers'.
"""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import safetensors.numpy
from networks import FEATURES, NETWORKS, keras_name, oihw
from scipy.io import savemat


def write_keras_oldest(path, params):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1", b"block1_pool", b"fc1"]
        for empty in ("input_1", "block1_pool"):
            file.create_group(empty).attrs["weight_names"] = np.zeros(0, "S1")
        for name, conv in params.items():
            layer = keras_name(name)
            for key, letter in (("kernel", "W"), ("bias", "b")):
                file[f"{layer}/{layer}_{letter}_1:0"] = conv[key]
        file["fc1/fc1_W_1:0"] = np.ones((7, 5), np.float32)
        file["fc1/fc1_b_1:0"] = np.ones(5, np.float32)
        file["predictions/predictions_W_1:0"] = np.ones((5, 2), np.float32)


def write_keras_tf2(path, params):
    with h5py.File(path, "w") as file:
        model = {"class_name": "Functional", "config": {"name": "vgg19", "layers": []}}
        file.attrs["model_config"] = json.dumps(model)
        for name, conv in params.items():
            layer = keras_name(name)
            for key in ("kernel", "bias"):
                file[f"model_weights/{layer}/{layer}/{key}:0"] = conv[key]
                momentum = f"optimizer_weights/Adam/{layer}/{key}/m:0"
                file[momentum] = np.zeros(2, np.float32)
        file["model_weights/fc1/fc1/kernel:0"] = np.ones((7, 5), np.float32)


def write_keras_numbered(path, params):
    with h5py.File(path, "w") as file:
        file.create_group("vars")
        for i, conv in enumerate(params.values()):
            group = "backbone/layers/conv2d" + f"_{i}" * (i > 0) + "/vars"
            file[f"{group}/0"], file[f"{group}/1"] = conv["kernel"], conv["bias"]
            file[group].attrs["name"] = f"conv2d_{i + 40}"  # as in a model made by hand
        file["classifier/vars/0"] = np.ones((5, 2), np.float32)


def write_keras_zip(path, params):
    weights = io.BytesIO()
    write_keras_numbered(weights, params)
    config = {"class_name": "ImageClassifier", "config": {"b": "VGGBackbone"}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.getvalue())


def write_flaxmodels(path, params):
    with h5py.File(path, "w") as file:
        for name, conv in params.items():
            file[f"{name}/weight"], file[f"{name}/bias"] = conv["kernel"], conv["bias"]
        file["fc6/weight"] = np.ones((7, 5), np.float32)


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


def write_zip(path, params):
    write_torch_zip(path, *torch_pickle(state_dict(params)))


def write_stream(path, params):
    write_torch_stream(path, *torch_pickle(conv_dict(params), (None,)))


def write_tar(path, params):
    write_torch_tar(path, state_dict(params, (1, 4, 6)))


def write_safetensors(path, params):
    tensors = state_dict(params, ())
    tensors["pre_logits.fc1.weight"] = np.ones((2, 3, 7, 7), np.float32)
    tensors["head.fc.bias"] = np.ones(3, np.float32)
    safetensors.numpy.save_file(tensors, path)


def cell(values):
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


def mat_layers(params, order):
    found = []
    for name, conv in params.items():
        weights = cell([conv["kernel"], conv["bias"][None]])
        layer = {
            "name": name, "type": "conv", "weights": weights,
            "pad": np.ones((1, 4)), "stride": np.ones((1, 2)),
        }  # fmt: skip
        found.append({key: layer[key] for key in order})
        found.append({"type": "relu", "name": name.replace("conv", "relu")})
    fc = cell([np.ones((7, 7, 1, 2), np.float32), np.ones((1, 2), np.float32)])
    return cell([*found, {"name": "fc6", "type": "conv", "weights": fc}])


MEAN = np.array([123.68, 116.779, 103.939])


def write_mat(path, params, **options):
    layers = mat_layers(params, ("name", "type", "weights", "pad", "stride"))
    meta = {"normalization": {"averageImage": MEAN[None, None], "border": [[1.0, 2]]}}
    with path.open("wb") as file:
        savemat(file, {"layers": layers, "meta": meta}, **options)


def write_mat_packed(path, params):
    write_mat(path, params, do_compression=True)


def write_mat_old(path, params):
    layers = mat_layers(params, ("weights", "pad", "type", "name", "stride"))
    image = np.tile(MEAN, (4, 4, 1)) + np.tile([[-1], [1]], (2, 4))[..., None]
    mat = {"layers": layers, "normalization": {"averageImage": image}, "classes": 1.0}
    with path.open("wb") as file:
        savemat(file, mat)


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, value):
    """A protobuf field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def caffe_layers(params):
    for name, conv in params.items():
        yield name, [oihw(conv["kernel"]), conv["bias"]]
        yield name.replace("conv", "relu"), []
    yield "fc6", [np.ones((1, 1, 2, 3), np.float32)]


def write_caffe_old(path, params):
    out = field(1, b"VGG_ILSVRC_19_layers")
    for name, blobs in caffe_layers(params):
        layer = field(2, b"below") + field(3, name.encode()) + field(4, name.encode())
        layer += field(5, 4)
        for blob in blobs:
            sizes = (1, 1, 1, 1, *blob.shape)[-4:]
            message = b"".join(field(i, size) for i, size in enumerate(sizes, 1))
            layer += field(6, message + field(5, blob.astype("<f4").tobytes()))
        out += field(2, layer + field(8, struct.pack("<f", 1)))
    path.write_bytes(out)


def write_caffe_new(path, params):
    """Floats for biases and doubles for kernels: all that is allowed."""
    out = b""
    for name, blobs in caffe_layers(params):
        layer = field(1, name.encode()) + field(2, b"Convolution")
        for blob in blobs:
            number, kind = (5, "<f4") if blob.ndim == 1 else (8, "<f8")
            shape = field(7, field(1, b"".join(map(varint, blob.shape))))
            layer += field(7, shape + field(number, blob.astype(kind).tobytes()))
        out += field(100, layer)
    path.write_bytes(out)


WRITERS = {
    write_keras_oldest: ("keras", "caffe"),
    write_keras_tf2: ("keras", "caffe"),
    write_keras_numbered: ("keras", None),
    write_keras_zip: ("keras", "torchvision"),
    write_flaxmodels: ("flaxmodels", "torchvision"),
    write_zip: ("pytorch", "torchvision"),
    write_stream: ("pytorch", "caffe"),
    write_tar: ("pytorch", "caffe"),
    write_safetensors: ("safetensors", "torchvision"),
    write_mat: ("matconvnet", "caffe"),
    write_mat_packed: ("matconvnet", "caffe"),
    write_mat_old: ("matconvnet", "caffe"),
    write_caffe_old: ("caffe", "caffe"),
    write_caffe_new: ("caffe", "caffe"),
}
every_format = pytest.mark.parametrize("write", WRITERS, ids=lambda w: w.__name__[6:])
