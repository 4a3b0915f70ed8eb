"""Every format and spelling gives the same parameters."""

import json
from types import SimpleNamespace

import h5py
import jax
import numpy as np
import oracle
import pytest
import safetensors.numpy
from networks import check_same, collect_torch, keras_name, mini
from writers import (
    MEAN,
    WRITERS,
    assemble,
    conv_dict,
    every_format,
    state_dict,
    torch_pickle,
    torch_tensor,
    write_keras_numbered,
    write_keras_oldest,
    write_keras_zip,
    write_mat,
    write_safetensors,
    write_torch_stream,
    write_torch_tar,
    write_torch_zip,
)

from jaxnst.network.vgg import features, layer_name
from jaxnst.pictures.samples import sample
from jaxnst.weights import convert
from jaxnst.weights.format import check_params
from jaxnst.weights.readers import read
from jaxnst.weights.readers.naming import collect, family_of
from jaxnst.weights.registry import load_backbone


@every_format
def test_every_format_is_known_by_its_content(write, small, tmp_path):
    write(tmp_path / "weights.bin", small)
    reading = read(tmp_path / "weights.bin")
    check_same(reading.params, small)
    check_params(reading.params, "here")
    assert (reading.layout, reading.family) == WRITERS[write]
    if reading.layout == "matconvnet":
        np.testing.assert_allclose(reading.mean, MEAN)
    else:
        assert reading.mean is None


INPUTS = {
    "caffe": lambda rgb: 255 * rgb[..., ::-1] - MEAN[::-1],
    "matconvnet": lambda rgb: 255 * rgb - MEAN,
    "torchvision": lambda rgb: (rgb - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
}
"""What the networks of a layout or family are fed, from RGB in [0, 1]."""


@pytest.mark.parametrize("write", [write_keras_oldest, write_mat, write_safetensors])
def test_converted_weights_see_what_the_network_saw(
    write, full, small, tmp_path, monkeypatch
):
    # The mean activations, which are measured on the samples, change no feature.
    monkeypatch.setattr(convert, "sample", lambda name, size: sample(name, 32))
    write(tmp_path / "theirs", small)
    convert.convert(tmp_path / "theirs", tmp_path / "ours.h5")
    image, layers = sample("mosaic", 48), tuple(map(layer_name, small))
    ours = features(load_backbone(tmp_path / "ours.h5"), image, layers=layers)
    network = SimpleNamespace(params=full, scale=1, offset=0)
    layout, family = WRITERS[write]
    to_input = INPUTS[layout if layout in INPUTS else family]
    theirs = oracle.features(network, to_input(np.float64(image)))
    for layer in layers:
        far = np.abs(ours[layer] - theirs[layer]).max()
        assert far < 1e-5 * np.abs(theirs[layer]).max(), layer


@every_format
def test_all_sixteen_convolutions_come_back_in_order(write, tmp_path):
    path = tmp_path / "weights.bin"
    by_number = write in (write_keras_numbered, write_keras_zip)
    write(path, mini() if by_number else dict(reversed(mini().items())))
    check_same(read(path).params, mini())


def test_safetensors_in_bfloat16(tmp_path):
    bfloat16 = jax.numpy.bfloat16
    tensors = {key: a.astype(bfloat16) for key, a in state_dict(mini()).items()}
    safetensors.numpy.save_file(tensors, tmp_path / "x")
    got = read(tmp_path / "x").params["conv5_4"]["bias"]
    wanted = mini()["conv5_4"]["bias"].astype(bfloat16).astype(np.float32)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "int8"])
def test_safetensors_of_few_bits_are_refused_only_where_needed(dtype, tmp_path):
    tensors = state_dict(mini())
    few = np.zeros(4, jax.numpy.dtype(dtype))
    safetensors.numpy.save_file(tensors | {"classifier.1.scale": few}, tmp_path / "x")
    check_same(read(tmp_path / "x").params, mini())
    quantised = tensors["features.2.weight"].astype(dtype)
    safetensors.numpy.save_file(
        tensors | {"features.2.weight": quantised}, tmp_path / "x"
    )
    with pytest.raises(ValueError, match="16 bits in features.2.weight, got [FI]8"):
        read(tmp_path / "x")


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
    check_same(collect(tree), mini())


def test_names_in_attributes_go_before_numbers(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        for i, (name, conv) in enumerate(reversed(mini().items())):
            group = file.create_group(f"layers/conv2d_{i}/vars")
            group["0"], group["1"] = conv["kernel"], conv["bias"]
            group.attrs["name"] = keras_name(name)
    check_same(read(tmp_path / "x").params, mini())


@pytest.mark.parametrize("prefix", ["", "module.", "vgg.", "model.backbone."])
@pytest.mark.parametrize("naming", [state_dict, conv_dict])
def test_prefixes_of_torch(naming, prefix):
    tree = {prefix + key: array for key, array in naming(mini()).items()}
    check_same(collect_torch(tree), mini())


PARTS = {
    "features": lambda i: f"{i}",
    "module": lambda i: f"module.{i}",
    "encoder": lambda i: f"net.encoder.{i}",
    "slices": lambda i: f"vgg.slice{1 + i // 9}.{i}",
    "blocks": lambda i: f"blocks.{i // 5}.{i}",
    "layers": lambda i: f"relu{1 + i // 9}_1.{i}",
}
"""Names of a layer by its place, where it is not in `features`."""


def places(rename, tensors):
    """A state dict with other names, and a decoder as whole models have it."""
    renamed = {
        f"{rename(int(key.split('.')[1]))}.{key.split('.')[2]}": array
        for key, array in tensors.items()
    }
    decoder = {f"decoder.{i}.weight": np.ones((2, 9, 3, 3), "f4") for i in (0, 4)}
    return renamed | decoder


@pytest.mark.parametrize("rename", PARTS.values(), ids=PARTS)
def test_places_need_not_be_in_features(rename):
    tree = places(rename, state_dict(mini(), ()))
    check_same(collect_torch(tree), mini())
    alone = rename(0) == "0"
    assert family_of(tree) == ("torchvision" if alone else None)


def write_as_hdf5(path, tensors):
    with h5py.File(path, "w") as file:
        for key, array in tensors.items():
            file[key] = array


@pytest.mark.parametrize(
    "write",
    [
        lambda path, tensors: write_torch_zip(path, *torch_pickle(tensors)),
        lambda path, tensors: write_torch_stream(path, *torch_pickle(tensors, (None,))),
        write_torch_tar,
        lambda path, tensors: safetensors.numpy.save_file(tensors, path),
        write_as_hdf5,
    ],
    ids=["zip", "stream", "tar", "safetensors", "hdf5"],
)
def test_every_container_may_hold_the_features_alone(write, tmp_path):
    write(tmp_path / "x", places(PARTS["features"], state_dict(mini(), ())))
    check_same((reading := read(tmp_path / "x")).params, mini())
    assert reading.family == "torchvision"


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        ("Functional", "vgg19", "caffe"),
        ("Model", "vgg19", "caffe"),
        ("Functional", "functional_3", None),
        ("Sequential", "vgg19", None),
        ("VGGBackbone", "vgg_backbone", "torchvision"),
        ("ImageClassifier", "VGGBackbone", "torchvision"),
    ],
)
def test_families_of_keras(kind, name, wanted):
    config = json.dumps({"class_name": kind, "config": {"name": name}})
    kernel = {"block1_conv1/block1_conv1/kernel:0": np.ones(1)}
    assert family_of(kernel, config) == wanted
    assert family_of(kernel) is None


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
    assert family_of(tree) == wanted


@pytest.mark.parametrize("keys", [("model_state_dict",), ("net",), ("model", "ema")])
def test_a_state_dict_may_lie_inside_other_dicts(tmp_path, keys):
    tensors = state_dict(mini())
    storages = {str(i): array.tobytes() for i, array in enumerate(tensors.values())}
    value = {
        name: torch_tensor(str(i), array.shape)
        for i, (name, array) in enumerate(tensors.items())
    }
    for key in reversed(keys):
        value = {"best": {"loss": {}}, key: value}
    write_torch_zip(tmp_path / "x", b"\x80\x02" + assemble(value) + b".", storages)
    check_same(read(tmp_path / "x").params, mini())
