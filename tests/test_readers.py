import importlib.util
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import jax
import numpy as np
import pytest
import safetensors.numpy
from oracle import NAMES
from scipy.io import savemat

from jaxnst.weights.readers import caffe, check_params, keras, matconvnet, pytorch, read

DATA = Path(__file__).parent / "data"
FEATURES = [  # where torchvision has the convolutions of VGG-19, 16, 13 and 11
    [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
    [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    [0, 2, 5, 7, 10, 12, 15, 17, 20, 22],
    [0, 3, 6, 8, 11, 13, 16, 18],
]
FEATURES_BN = [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49]


def names_of(*counts):
    return [f"conv{b}_{i}" for b, n in enumerate(counts, 1) for i in range(1, n + 1)]


VGG16 = names_of(2, 2, 3, 3, 3)
NETWORKS = [NAMES, VGG16, names_of(2, 2, 2, 2, 2), names_of(1, 1, 2, 2, 2)]


def keras_name(name):
    return f"block{name[4]}_conv{name[6]}"


def oihw(kernel):
    return np.ascontiguousarray(np.einsum("hwio->oihw", kernel))


def mini(names=NAMES):
    """A network of true names and widths, with 1 x 1 kernels of one input channel."""
    rng = np.random.default_rng(1)
    widths = {name: min(64 << int(name[4]) - 1, 512) for name in names}
    return {
        name: {
            "kernel": rng.normal(size=(1, 1, 1, width)).astype(np.float32),
            "bias": rng.normal(size=width).astype(np.float32),
        }
        for name, width in widths.items()
    }


@pytest.fixture(scope="session")
def full(backbone):
    return {
        name: {key: np.asarray(array) for key, array in conv.items()}
        for name, conv in backbone.params.items()
    }


@pytest.fixture(scope="session")
def small(full):
    """The least that is read: three convolutions, 450 kB."""
    return {name: full[name] for name in NAMES[:3]}


def check_same(got, wanted):
    assert list(got) == list(wanted)
    for name, conv in wanted.items():
        assert list(got[name]) == ["kernel", "bias"]
        for key, array in conv.items():
            assert got[name][key].dtype == np.float32
            assert got[name][key].flags.c_contiguous
            np.testing.assert_array_equal(got[name][key], array)


def refusal(path):
    """Why a file is refused."""
    with pytest.raises(ValueError, match="expected a VGG-19 weights file at") as caught:
        read(path)
    return str(caught.value)


def refusal_and_memory(path):
    tracemalloc.start()
    try:
        return refusal(path), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Writers of every format, by the formats' descriptions and not by the readers.


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
    """Unpacked floats for biases and doubles for kernels: all that is allowed."""
    out = b""
    for name, blobs in caffe_layers(params):
        layer = field(1, name.encode()) + field(2, b"Convolution")
        for blob in blobs:
            shape = b"".join(map(varint, blob.shape))
            if blob.ndim == 1:
                shape = field(7, field(1, blob.shape[0]))
                floats = [b"\x2d" + number.tobytes() for number in blob.astype("<f4")]
                message = shape + b"".join(floats)
            else:
                message = field(8, blob.astype("<f8").tobytes()) + field(
                    7, field(1, shape)
                )
            layer += field(7, message)
        out += field(100, layer)
    path.write_bytes(out)


# An assembler of pickles, for state dicts and for worse.


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
    write_mat: ("matconvnet", "matconvnet"),
    write_mat_packed: ("matconvnet", "matconvnet"),
    write_mat_old: ("matconvnet", "matconvnet"),
    write_caffe_old: ("caffe", "caffe"),
    write_caffe_new: ("caffe", "caffe"),
}
every_format = pytest.mark.parametrize("write", WRITERS, ids=lambda w: w.__name__[6:])


@every_format
def test_every_format_is_known_by_its_content(write, full, small, tmp_path):
    path = tmp_path / "weights.bin"
    params = small if write in (write_mat_packed, write_caffe_new) else full  # slow
    write(path, params)
    reading = read(path)
    path.unlink()
    check_same(reading.params, params)
    check_params(reading.params, "here")
    assert (reading.layout, reading.family) == WRITERS[write]
    if reading.layout == "matconvnet":
        np.testing.assert_allclose(reading.mean, MEAN)
    else:
        assert reading.mean is None


@every_format
def test_all_sixteen_convolutions_come_back_in_order(write, tmp_path):
    path = tmp_path / "weights.bin"
    by_number = write in (write_keras_numbered, write_keras_zip)
    write(path, mini() if by_number else dict(reversed(mini().items())))
    check_same(read(path).params, mini())


# The formats' own writers, each in a process of its own.

KERAS = """
import keras
zeros = lambda self, shape, dtype=None: np.zeros(shape, dtype)
keras.initializers.GlorotUniform.__call__ = zeros  # saves ten seconds
model = keras.applications.VGG19(weights=None, include_top=False)
for name in names:
    layer = model.get_layer(name.replace("conv", "block").replace("_", "_conv"))
    layer.set_weights([params[name + ".kernel"], params[name + ".bias"]])
model.save_weights("weights.weights.h5")
model.save("model.h5")
model.save("model.keras")
"""
TORCH = """
import torch
state = torch.nn.Module().state_dict()
for i, name in zip([0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34], names):
    kernel = torch.from_numpy(params[name + ".kernel"])
    state[f"features.{i}.weight"] = kernel.permute(3, 2, 0, 1)  # strides as they come
    state[f"features.{i}.bias"] = torch.from_numpy(params[name + ".bias"])
torch.save(state, "zip.pth")
torch.save({"state_dict": state, "epoch": 9}, "four.pth", pickle_protocol=4)
torch.save(state, "stream.pth", _use_new_zipfile_serialization=False)
for path in Path("ours").iterdir():  # what our own writers write must be right
    for key, value in torch.load(path, weights_only=False, map_location="cpu").items():
        name = {"features.0": "conv1_1", "features.2": "conv1_2"}.get(key[:10], key[:7])
        if name in names and key.endswith("bias"):
            assert value.equal(torch.from_numpy(params[name + ".bias"])), (path, key)
        elif name in names:
            kernel = torch.from_numpy(params[name + ".kernel"])
            assert value.equal(kernel.permute(3, 2, 0, 1)), (path, key)
"""


@pytest.fixture(scope="session")
def workshop(full, small, tmp_path_factory):
    """A folder with the whole network, and a function to run scripts in it."""
    folder = tmp_path_factory.mktemp("workshop")
    np.savez(folder / "params.npz", **{
        f"{name}.{key}": array
        for name, conv in full.items()
        for key, array in conv.items()
    })  # fmt: skip
    (folder / "ours").mkdir()
    for write in (write_zip, write_stream, write_tar):
        write(folder / "ours" / f"{write.__name__}.pth", small)

    def run(package, why, script):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package}, {why}")
        head = """
import warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("ignore")
params = np.load("params.npz")
names = [key[:7] for key in params if key.endswith(".bias")]
"""
        environment = os.environ | {"KERAS_BACKEND": "jax"}
        command = [sys.executable, "-c", head + script]
        subprocess.run(command, cwd=folder, env=environment, check=True)
        return folder

    yield run
    shutil.rmtree(folder)  # a gigabyte


@pytest.mark.parametrize(
    ("package", "why", "script", "files"),
    [
        pytest.param(
            "keras",
            "which jaxnst itself never needs",
            KERAS,
            {"weights.weights.h5": None, "model.h5": "caffe", "model.keras": "caffe"},
            id="keras",
        ),
        pytest.param(
            "torch",
            "a package of gigabytes that jaxnst itself never needs",
            TORCH,
            {"zip.pth": None, "four.pth": None, "stream.pth": None},
            id="torch",
        ),
    ],
)
def test_what_the_original_libraries_write(package, why, script, files, workshop, full):
    folder = workshop(package, why, script)
    for file, family in files.items():
        reading = read(folder / file)
        check_same(reading.params, full)
        check_params(reading.params, file)
        assert reading.layout == {"torch": "pytorch"}.get(package, package)
        assert reading.family == family


# The files in tests/data were written by PyTorch 2.13 with:
#
#     count = lambda *shape: torch.arange(1.0, 1 + math.prod(shape)).reshape(shape)
#     floats = count(40)
#     state = torch.nn.Module().state_dict() | {  # an OrderedDict
#         "features.0.weight": floats[:36].view(4, 1, 3, 3),
#         "features.0.bias": floats[36:],  # begins inside its storage
#         "features.2.weight": count(3, 3, 2, 2).permute(3, 2, 1, 0).half(),
#         "features.2.bias": torch.nn.Parameter(count(2).bfloat16()),
#         "features.5.weight": count(2, 2, 1, 1).double(),
#         "features.5.bias": torch.tensor(7),
#     }
#     state._metadata = {"": {"version": 1}}
#     both = {"state_dict": state, "epoch": 1}
#     torch.save(both, "zip.pth")
#     torch.save(both, "stream.pth", _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("file", ["zip.pth", "stream.pth"])
def test_types_views_and_strides_of_torch(file):
    def count(*shape):
        return np.arange(1.0, 1 + np.prod(shape)).reshape(shape)

    tree = pytorch.read_pytorch(DATA / file)
    wanted = {
        "features.0.weight": count(40)[:36].reshape(4, 1, 3, 3),
        "features.0.bias": count(40)[36:],
        "features.2.weight": count(3, 3, 2, 2).transpose(3, 2, 1, 0),
        "features.2.bias": count(2),
        "features.5.weight": count(2, 2, 1, 1),
        "features.5.bias": np.array(7),
    }
    assert list(tree) == list(wanted)
    for key, array in wanted.items():
        np.testing.assert_array_equal(np.float64(tree[key]), array)
    types = ["float32", "float32", "float16", "bfloat16", "float64", "int64"]
    assert [str(array.dtype) for array in tree.values()] == types
    assert read(DATA / file).params["conv1_2"]["kernel"].shape == (3, 3, 2, 2)


def test_safetensors_in_bfloat16(tmp_path):
    bfloat16 = jax.numpy.bfloat16
    tensors = {key: a.astype(bfloat16) for key, a in state_dict(mini()).items()}
    safetensors.numpy.save_file(tensors, tmp_path / "x")
    got = read(tmp_path / "x").params["conv5_4"]["bias"]
    wanted = mini()["conv5_4"]["bias"].astype(bfloat16).astype(np.float32)
    np.testing.assert_array_equal(got, wanted)


# The pure functions, on trees made by hand.


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [
        ("{name}/{name}_W_1:0", "{name}/{name}_b_1:0"),
        ("model_weights/{name}/{name}_W_1:0", "model_weights/{name}/{name}_b_1:0"),
        ("{name}/{name}/kernel:0", "{name}/{name}/bias:0"),
        ("model_weights/vgg19/{name}/kernel:0", "model_weights/vgg19/{name}/bias:0"),
        ("model_weights/{name}/{name}/kernel", "model_weights/{name}/{name}/bias"),
        ("layers/{name}/vars/0", "layers/{name}/vars/1"),
        ("_layer_checkpoint_dependencies/{name}/vars/0", "x/{name}/vars/1"),
    ],
)
def test_spellings_of_keras(kernel, bias):
    tree = {"layers/dense/vars/0": np.ones((2, 2)), "conv2d_77/vars/0": np.ones(2)}
    for name, conv in mini().items():
        layer = keras_name(name)
        tree[kernel.format(name=layer)] = conv["kernel"]
        tree[bias.format(name=layer)] = conv["bias"]
    check_same(keras.from_keras(tree), mini())


def test_names_in_attributes_go_before_numbers():
    tree = {}
    for i, (name, conv) in enumerate(reversed(mini().items())):
        group = f"layers/conv2d_{i}/vars"
        tree |= {f"{group}/0": conv["kernel"], f"{group}/1": conv["bias"]}
        tree[f"{group}@name"] = np.array(keras_name(name))
    check_same(keras.from_keras(tree), mini())


@pytest.mark.parametrize("prefix", ["", "module.", "vgg.", "model.backbone."])
@pytest.mark.parametrize("naming", [state_dict, conv_dict])
def test_prefixes_of_torch(naming, prefix):
    tree = {prefix + key: array for key, array in naming(mini()).items()}
    check_same(pytorch.from_pytorch(tree), mini())


def model_config(kind, name, *inside):
    config = {"class_name": kind, "config": {"name": name, "layers": inside}}
    return {"@model_config": np.array(json.dumps(config))}


@pytest.mark.parametrize(
    ("tree", "wanted"),
    [
        ({"block1_conv1/block1_conv1_W_1:0": np.ones(1)}, "caffe"),
        ({"block1_conv1/block1_conv1/kernel:0": np.ones(1)}, None),
        (model_config("Functional", "vgg19"), "caffe"),
        (model_config("Model", "vgg19"), "caffe"),
        (model_config("Functional", "functional_3"), None),
        (model_config("Sequential", "vgg19"), None),
        (model_config("VGGBackbone", "vgg_backbone"), "torchvision"),
        (model_config("ImageClassifier", "x", "VGGBackbone"), "torchvision"),
    ],
)
def test_families_of_keras(tree, wanted):
    assert keras.family(tree) == wanted


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ("features.0", None),
        ("conv1_1", "caffe"),
        ("classifier.1 classifier.4 classifier.6", "caffe"),
        ("classifier.0 classifier.3 classifier.6", "torchvision"),
        ("module.classifier.0 module.classifier.3 classifier.6", "torchvision"),
        ("features.0 classifier.1", None),
        ("features.0 pre_logits.fc1", "torchvision"),
        ("features.0 head.fc", "torchvision"),
        ("features.0 features.overhead.x", None),
    ],
)
def test_families_of_torch(layers, wanted):
    tree = {f"{layer}.bias": np.ones(1) for layer in layers.split()}
    assert pytorch.family(tree) == wanted


# What is no VGG-19, or a wrong one.


@every_format
def test_vgg16_is_refused_by_name(write, tmp_path):
    write(tmp_path / "x", mini(VGG16))
    assert "got those of VGG-16; use the weights" in refusal(tmp_path / "x")


def test_other_networks_of_torch_are_refused_by_name():
    for names, network in zip(NETWORKS[2:], ("VGG-13", "VGG-11"), strict=True):
        with pytest.raises(ValueError, match=f"got those of {network}"):
            pytorch.from_pytorch(state_dict(mini(names)))
    tree = {}
    for i, conv in zip(FEATURES_BN, mini().values(), strict=True):
        tree[f"features.{i}.weight"] = oihw(conv["kernel"])
        for key in (f"{i}.bias", f"{i + 1}.weight", f"{i + 1}.bias"):
            tree[f"features.{key}"] = conv["bias"]
        tree[f"features.{i + 1}.running_mean"] = conv["bias"]
    with pytest.raises(ValueError, match="without BatchNorm, got vgg19_bn; use vgg19"):
        pytorch.from_pytorch(tree)
    alexnet = {f"features.{i}.weight": np.ones((1, 1, 1, 1)) for i in (0, 3, 6, 8, 10)}
    with pytest.raises(ValueError, match="got some at 0, 3, 6, 8, 10"):
        pytorch.from_pytorch(alexnet)
    with pytest.raises(ValueError, match="channels, as in VGG-19, got 96, 256, 384"):
        keras.from_keras(
            {f"conv2d_{i}/vars/1": np.ones(n) for i, n in enumerate((96, 256, 384))}
        )


def drop(*keys):
    return lambda tree: [tree.pop(key) for key in keys]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tree: tree.clear(), "without gaps, got none; use"),
        (drop("conv3_2.weight", "conv3_2.bias"), "got conv1_1, .*conv3_1, conv3_3"),
        (drop("conv1_1.weight", "conv1_1.bias"), "got conv1_2"),
        (drop("conv3_2.weight"), "kernel and a bias for conv3_2, got no kernel"),
        (drop("conv3_2.bias"), "kernel and a bias for conv3_2, got no bias"),
        (lambda tree: tree.update({"a.conv2_1.bias": np.ones(1)}), "one conv2_1/bias"),
        (
            lambda tree: tree.update({"conv2_1.bias": np.broadcast_to(1.0, 2**40)}),
            "at most 2359296 numbers in conv2_1/bias, got 1099511627776",
        ),
    ],
)
def test_gaps_and_doubles_are_refused(damage, message):
    tree = conv_dict(mini())
    damage(tree)
    with pytest.raises(ValueError, match=message):
        pytorch.from_pytorch(tree)


@pytest.mark.parametrize(("count", "enough"), [(2, False), (3, True), (9, True)])
def test_networks_may_end_early(count, enough):
    tree = conv_dict(mini(NAMES[:count]))
    if enough:
        check_same(pytorch.from_pytorch(tree), mini(NAMES[:count]))
    else:
        with pytest.raises(ValueError, match="got conv1_1, conv1_2; use"):
            pytorch.from_pytorch(tree)


def test_shapes_and_numbers_are_checked(full):
    check_params(full, "x.h5")
    check_params({name: full[name] for name in NAMES[:3]}, "x.h5")
    for key, array, message in (
        ("kernel", oihw(full["conv3_1"]["kernel"]), r"got \(256, 128, 3, 3\)"),
        ("bias", np.ones((1, 256)), r"expected conv3_1/bias of shape \(256,\) in x.h5"),
        ("bias", np.full(256, np.nan), "finite numbers in conv3_1/bias of x.h5"),
        ("bias", np.full(256, -np.inf), "finite numbers in conv3_1/bias of x.h5"),
    ):
        wrong = full | {"conv3_1": full["conv3_1"] | {key: array}}
        with pytest.raises(ValueError, match=message):
            check_params(wrong, "x.h5")


@every_format
def test_nan_and_turned_kernels_survive_reading_to_be_refused(write, small, tmp_path):
    path, (kernel, bias) = tmp_path / "x", small["conv2_1"].values()
    write(path, small | {"conv2_1": {"kernel": kernel * np.nan, "bias": bias}})
    with pytest.raises(ValueError, match="finite numbers in conv2_1/kernel of x"):
        check_params(read(path).params, "x")
    turned = kernel.transpose(0, 1, 3, 2)
    write(path, small | {"conv2_1": {"kernel": turned, "bias": bias}})
    if write in (write_keras_numbered, write_keras_zip):  # known by the widths alone
        assert "got 64, 64, 64" in refusal(path)
    else:
        with pytest.raises(ValueError, match=r"conv2_1/kernel of .* got \(3, 3, 128"):
            check_params(read(path).params, "x")


# Files that mean harm.


class Touch:
    """A real exploit: whoever unpickles it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def exploits(marker):
    """Pickles that make the marker, or try, by all the ways there are."""
    system = Call(Global("posix system"), (f"touch {marker}",))
    evaluate = Call(
        Global("builtins eval"), (f"__import__('os').mkdir({str(marker)!r})",)
    )
    empty = Call(ORDERED, ())
    code = f"touch {marker}".encode()
    dotted = b"\x8c\x0ctorch._utils\x8c\x25_rebuild_tensor_v2.__globals__.__len__\x93"
    for protocol in range(6):
        yield f"system, protocol {protocol}", pickle.dumps(Touch(marker), protocol)
    values = {
        "eval": evaluate,
        "Python 2's eval": Call(Global("__builtin__ eval"), evaluate.arguments),
        "exec as a method": Call(Global("builtins exec"), ("1", {})),
        "inside a dict": Call(ORDERED, ([["features.0.weight", system]],)),
        "inside a tensor": Call(REBUILD, (system, 0, (1,), (1,), False, empty)),
        "inside a size": Call(Global("torch Size"), ((evaluate,),)),
        "inside a parameter": Call(
            Global("torch._utils _rebuild_parameter"), (evaluate, True, empty)
        ),
        "inside a persistent id": Persistent(("storage", evaluate, "0", "cpu", 1)),
        "as a persistent id": Persistent(evaluate),
        "a module's source": Persistent(("module", Global("os system"), "a", "b")),
        "calls a string": Call("posix system", (f"touch {marker}",)),
        "calls a dict": Call(empty, ()),
        "calls a type": Call(FLOAT, ("i4",)),
        "calls a tensor": Call(torch_tensor("0", (1,)), ()),
        "import of a function's parts": Raw(dotted),
        "import of torch's own loader": Call(
            Global("torch.storage _load_from_bytes"), (Raw(b"C\x01x"),)
        ),
        "getattr": Call(Global("builtins getattr"), (empty, "__class__")),
        "BUILD with __setstate__": Built(empty, {"__setstate__": Global("os system")}),
        "BUILD of a dict's class": Built(empty, {"__class__": Global("os system")}),
        "BUILD of a function's code": Built(REBUILD, (None, {"__code__": evaluate})),
        "INST": Raw(b"(S'" + code + b"'\nios\nsystem\n"),
        "OBJ": Raw(b"(cos\nsystem\nS'" + code + b"'\no"),
        "NEWOBJ": Raw(b"cos\nsystem\n(V" + code + b"\nt\x81"),
        "NEWOBJ_EX": Raw(b"cos\nsystem\n(V" + code + b"\nt}\x92"),
        "extension registry": Raw(b"\x82\x01(V" + code + b"\ntR"),
        "text persistent id": Raw(b"P" + code + b"\n"),
    }
    for name, value in values.items():
        yield name, pickled(value)
        yield f"{name}, in a state dict", pickled({"features.0.weight": value})


HEAD = pickled(0x1950A86A20F9469CFC6C) + pickled(1001)
SMALL = state_dict(mini(NAMES[:3]))


def places(code):
    """Files with a pickle wherever a reader takes one."""
    small_tar, (good, storages) = tar_members(SMALL), torch_pickle(SMALL)
    archive = io.BytesIO()
    write_torch_zip(archive, code, storages)
    yield "zip", archive.getvalue()
    yield "stream", HEAD + pickled({}) + code
    yield "stream, first", code + HEAD[2:]
    yield "stream, second", HEAD[: len(HEAD) - len(pickled(1001))] + code
    yield "stream, third", HEAD + code
    yield "stream, last", HEAD + pickled({}) + good + code
    for member in ("pickle", "storages", "tensors"):
        yield f"tar, {member}", tar_file(small_tar | {member: code})
        if member != "pickle":
            later = tar_file(small_tar | {member: pickled(1) + code})
            yield f"tar, {member}, second", later


def test_no_exploit_runs(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "x.pth"
    tried = 0
    for name, code in exploits(marker):
        for place, data in places(code):
            path.write_bytes(data)
            refusal(path)
            assert not marker.exists(), (name, place)
            tried += 1
    assert tried > 500
    check_same(pytorch.from_pytorch(state_dict(mini())), mini())


def test_the_exploits_are_real(tmp_path):
    marker = tmp_path / "marker"
    codes = dict(exploits(marker))
    for name in ("system, protocol 0", "system, protocol 4", "eval", "INST", "OBJ"):
        pickle.loads(codes[name])
        assert marker.exists(), name
        marker.unlink() if marker.is_file() else marker.rmdir()


@pytest.mark.parametrize("name", ["os system", "torch.nn Linear", "torch load", "a b"])
def test_a_refused_import_is_named(name):
    with pytest.raises(ValueError, match=f"imports {name.replace(' ', '.')}; open it"):
        pytorch.unpickle(io.BytesIO(pickled(Global(name))))


def liars():
    """State dicts whose numbers are not true; each has one storage of 8 floats."""
    shape = (2, 4)
    yield "a long storage", torch_tensor("0", shape, length=2**40)
    yield "a negative storage", torch_tensor("0", shape, length=-8)
    yield "a longer type", torch_tensor("0", shape, storage=Global("torch LongStorage"))
    yield "a large shape", torch_tensor("0", (2**20, 2**20), length=8)
    yield "a repeated number", torch_tensor("0", (2**40,), length=8, strides=(0,))
    yield "a large stride", torch_tensor("0", shape, strides=(2**60, 1))
    yield "a huge stride", torch_tensor("0", shape, strides=(2**400, 1))
    yield "a negative stride", torch_tensor("0", shape, strides=(-4, 1))
    yield "a negative size", torch_tensor("0", (-2, -4), length=8)
    yield "a late offset", torch_tensor("0", shape, offset=1)
    yield "a negative offset", torch_tensor("0", shape, offset=-1)
    yield "few strides", torch_tensor("0", shape, strides=(1,))
    yield "a text for a shape", torch_tensor("0", (), strides="12", length=8)
    yield "no such storage", torch_tensor("1", shape)
    yield "no such type", torch_tensor("0", shape, storage=Global("torch QInt8Storage"))
    yield "a late view", torch_tensor("0", shape, view=(("v", 1, 8),))
    yield "an early view", torch_tensor("0", shape, view=(("v", -1, 8),))
    yield "an empty view", torch_tensor("0", shape, view=(("v", "x", 8),))


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_stream])
def test_lies_about_sizes_are_found_before_memory_is_taken(write, tmp_path):
    path = tmp_path / "x.pth"
    for name, tensor in liars():
        write(path, pickled({"conv1_1.weight": tensor}), {"0": bytes(32)})
        message, memory = refusal_and_memory(path)
        assert "without gaps" not in message, name
        assert memory < 2e6, name


def test_lies_in_a_tar_archive_are_found(tmp_path):
    members = tar_members({"conv1_1.bias": np.ones(4, np.float32)})
    count = pickled((300, 200, Global("torch FloatTensor")))
    storage = pickled(1) + pickled((100, "cpu", FLOAT))
    for change in (
        {"storages": storage + struct.pack("<q", 2**40)},
        {"storages": storage + struct.pack("<q", 2**62)},
        {"storages": storage + struct.pack("<q", -60)},
        {"storages": storage + struct.pack("<q", -1)},
        {"storages": pickled(2**62)},
        {"tensors": pickled(1) + count + struct.pack("<ii", -1, 0) + bytes(99)},
        {"tensors": pickled(1) + count + struct.pack("<ii", 2**30, 0) + bytes(99)},
        {"tensors": pickled(1) + count + struct.pack("<ii3q", 1, 0, 2**40, 1, 0)},
        {"tensors": pickled(1) + count + struct.pack("<ii3q", 1, 0, 4, 2**40, 0)},
        {"tensors": pickled(1) + count + struct.pack("<ii3q", 1, 0, 4, 1, -3)},
    ):
        (tmp_path / "x").write_bytes(tar_file(members | change))
        message, memory = refusal_and_memory(tmp_path / "x")
        assert "without gaps" not in message, change
        assert memory < 2e6, change
    data = bytearray(tar_file(members))
    for size in (b"-0000001000\0", b"77777777777\0", b"\xff" * 12, b"x" * 12):
        data[124:136] = size
        (tmp_path / "x").write_bytes(data)
        refusal(tmp_path / "x")


def bombs():
    """Pickles that are small and take for ever, or all memory, when believed."""
    doubled = b")" + b"q\x00h\x00h\x00\x86" * 64
    yield "a tuple of 2^64, as a key", Raw(b"}" + doubled + b"Ns")
    yield "as a storage's key", Persistent(("storage", FLOAT, Raw(doubled), "cpu", 1))
    yield "as a list of keys", [Raw(doubled)]
    yield "as an import", Raw(doubled + doubled + b"\x93")
    yield "as a tensor", Call(REBUILD, Raw(doubled))
    yield "as itself", Raw(doubled)
    nested = b")" + b"\x85" * 3000
    yield "deep nesting", Raw(nested)
    yield "deep nesting, as a key", Raw(b"}" + nested + b"Ns")
    yield "a list in itself", Raw(b"]q\x00h\x00a")
    yield "many operations", Raw(b"N" * 1_000_000)
    yield "a late memo", Raw(b"Nr\xff\xff\xff\xff")
    yield "a long text", Raw(b"X\xff\xff\xff\xffabc")
    yield "longer bytes", Raw(b"\x8e" + struct.pack("<Q", 2**40) + b"abc")
    yield "a longer bytearray", Raw(b"\x96" + struct.pack("<Q", 2**40) + b"abc")
    yield "a large frame", Raw(b"\x95" + struct.pack("<Q", 2**63) + b"N")
    yield "a large integer", Raw(b"\x8b" + struct.pack("<I", 10**6) + b"\x7f" * 10**6)
    yield "a long decimal", Raw(b"L" + b"9" * 10**5 + b"L\n")
    copies = b"h\x00h\x01\x85R" * 800
    yield (
        "copies of a list",
        Raw(assemble(ORDERED) + b"q\x00]q\x01(" + b"U\x01aN\x86" * 400 + b"e" + copies),
    )
    yield "an empty stack", Raw(b"t")
    yield "marks without end", Raw(b"(" * 15_000)


def test_bombs_do_not_go_off(tmp_path):
    path = tmp_path / "x.pth"
    for name, value in bombs():
        for place, data in places(pickled(value)):
            path.write_bytes(data)
            if place == "zip":
                assert refusal_and_memory(path)[1] < 3e7, name
            else:
                refusal(path)


@pytest.mark.parametrize("options", [{"compression": zipfile.ZIP_DEFLATED}, {}])
def test_a_zip_archive_is_stored_and_has_the_right_checksums(options, tmp_path):
    path = tmp_path / "x.pth"
    code, storages = torch_pickle(state_dict(mini()))
    write_torch_zip(path, code, storages, **options)
    if not options:
        data = bytearray(path.read_bytes())
        data[data.index(storages["8"]) + 5] ^= 4
        path.write_bytes(data)
    assert ("stored" if options else "checksum") in refusal(path)


def test_big_endian_tensors_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("x/data.pkl", pickled({}))
        archive.writestr("x/byteorder", "big")
    assert "little-endian" in refusal(tmp_path / "x")


def test_hdf5_is_read_from_this_file_alone_and_never_at_a_false_size(tmp_path):
    path, other, key = tmp_path / "x.h5", tmp_path / "other.h5", "conv1_1/bias"
    write_flaxmodels(other, mini())
    layout = h5py.VirtualLayout((64,), "f4")
    layout[:] = h5py.VirtualSource(other, key, shape=(64,))
    outside = [(str(other), 0, 256)]
    for make in (
        lambda file: file.create_dataset(key, (2**20, 2**20), "f4", chunks=(64, 64)),
        lambda file: file.__setitem__(key, h5py.ExternalLink(other, key)),
        lambda file: file.__setitem__(key, h5py.SoftLink("/conv1_2/bias")),
        lambda file: file.create_dataset(key, (64,), "f4", external=outside),
        lambda file: file.create_virtual_dataset(key, layout),
        lambda file: file.create_dataset(key, data="text"),
        lambda file: file.create_dataset(key, data=h5py.Empty("f4")),
    ):
        write_flaxmodels(path, mini())
        with h5py.File(path, "r+") as file:
            del file[key]
            make(file)
        assert "for conv1_1, got no bias" in refusal(path)


def test_endless_lists_in_hdf5_are_found(tmp_path):
    path = tmp_path / "x.h5"
    write_keras_tf2(path, mini())
    data = path.read_bytes()
    texts = bytearray(data)  # its free space says that it takes no space
    start = data.index(b"GCOL")
    first = start + 16 + 16 + struct.unpack_from("<Q", data, start + 24)[0] + 7 & ~7
    assert struct.unpack_from("<HHI", data, first) == (0, 0, 0)
    struct.pack_into("<Q", texts, first + 8, 0)
    names = bytearray(data)  # its first free place says that it is the next one, too
    free, place = struct.unpack_from("<QQ", data, data.index(b"HEAP") + 16)
    struct.pack_into("<Q", names, place + free, free)
    for damaged, message in ((texts, "whole texts in HDF5"), (names, "endless one")):
        path.write_bytes(damaged)
        assert message in refusal(path)


def test_lies_in_other_formats_are_found(tmp_path, monkeypatch):
    path = tmp_path / "x"
    layer = field(4, b"conv1_1")
    blob = field(1, 2**63) + field(2, 2**63) + field(5, bytes(8))
    for data in (
        b"\0" * 99,
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(9),  # a field of 2^63 bytes
        b"\xff" * 99,  # an integer without end
        b"\x12\x04" + b"\x22",  # a layer that is cut
        field(2, layer + field(6, blob)),
        field(2, layer + field(6, field(7, field(1, varint(2**62))) + field(5, b""))),
        field(2, layer + field(6, field(5, b"123"))),
        field(2, layer + field(6, 7)),
        field(2, 7),
        struct.pack("<Q", 2**38) + b"{" + bytes(99),
        struct.pack("<Q", 49) + b'{"conv1_1.bias":{"dtype":"F32","shape":[2000000]',
        b"some text that is no file of weights",
    ):
        path.write_bytes(data)
        message, memory = refusal_and_memory(path)
        assert "without gaps" not in message, data
        assert memory < 2e6, data
    write_mat_packed(path, mini())
    monkeypatch.setattr(matconvnet, "LIMIT", 1000)
    assert "compressed bytes of MATLAB, got" in refusal(path)
    monkeypatch.setattr(caffe, "LIMIT", 10)
    write_caffe_old(path, mini())
    assert "at most 10 protobuf fields" in refusal(path)


def test_what_is_no_file_is_refused(tmp_path):
    assert refusal(tmp_path).endswith("got a folder; check the path")
    assert refusal(tmp_path / "x").endswith("got nothing there; check the path")


# Damage.


def attempt(path, data, wanted=None):
    """Read damaged bytes: a ValueError of one line, or a whole network."""
    path.write_bytes(data)
    try:
        params = read(path).params
    except ValueError as error:
        message = str(error)
        assert message.startswith(f"expected a VGG-19 weights file at {path}, got")
        assert len(message.splitlines()) == 1
        assert len(message) < 1000
        return False
    for conv in params.values():
        assert all(array.dtype == np.float32 for array in conv.values())
    if wanted:
        check_same(params, wanted)
    return True


@every_format
def test_a_cut_file_is_refused(write, tmp_path):
    params = mini(NAMES[:3])
    write(tmp_path / "whole", params)
    data = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(2)
    lengths = {0, 1, 4, 8, 16, 64, 127, 128, 136, 257, 512, 513, len(data) // 2}
    lengths |= set(rng.integers(0, len(data) // 2, 20).tolist())
    for length in sorted(lengths):
        assert not attempt(tmp_path / "x", data[:length]), length
    ends = {1, 2, 7, 8, 22, 64, 512} | set(rng.integers(0, len(data) // 2, 20).tolist())
    for length in sorted(ends):  # may cut what is not needed, such as a tar's padding
        attempt(tmp_path / "x", data[:-length], params)


@every_format
def test_a_wrong_bit_is_no_crash(write, tmp_path):
    write(tmp_path / "whole", mini(NAMES[:3]))
    data = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(40):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        attempt(tmp_path / "x", bytes(damaged))


@pytest.mark.parametrize("file", ["zip.pth", "stream.pth"])
def test_damage_to_a_file_of_torch(file, tmp_path):
    data = (DATA / file).read_bytes()
    wanted = read(DATA / file).params
    for length in range(0, len(data), 17):
        attempt(tmp_path / "x", data[:length], wanted)
    for position in range(0, len(data), 17):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        attempt(tmp_path / "x", bytes(damaged), wanted if file == "zip.pth" else None)
