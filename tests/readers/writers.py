"""Writers of every format, by the formats' descriptions and not by the readers."""

import io
import json
import struct
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy
from networks import keras_name, oihw
from scipy.io import savemat
from torch_files import (
    conv_dict,
    state_dict,
    torch_pickle,
    write_torch_stream,
    write_torch_tar,
    write_torch_zip,
)


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
