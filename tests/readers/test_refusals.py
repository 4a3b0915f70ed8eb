"""What is no VGG-19, or a wrong one, is refused with the reason."""

import numpy as np
import pytest
from networks import FEATURES_BN, NETWORKS, VGG16, check_same, mini, oihw, refusal
from oracle import NAMES
from torch_files import conv_dict, state_dict
from writers import every_format, write_keras_numbered, write_keras_zip

from jaxnst.weights.format import check_params
from jaxnst.weights.readers import keras, pytorch, read


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


def test_what_is_no_file_is_refused(tmp_path):
    assert refusal(tmp_path).endswith("got a folder; check the path")
    assert refusal(tmp_path / "x").endswith("got nothing there; check the path")
