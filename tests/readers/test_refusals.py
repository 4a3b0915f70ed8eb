"""What is no VGG-19, or a wrong one, is refused with the reason."""

import re

import numpy as np
import pytest
import safetensors.numpy
from networks import FEATURES as NETWORKS_AT
from networks import (
    FEATURES_BN,
    NETWORKS,
    VGG16,
    check_same,
    collect_torch,
    mini,
    oihw,
    refusal,
)
from oracle import NAMES
from writers import conv_dict, every_format, state_dict, torch_pickle, write_torch_zip

from jaxnst.weights.format import check_params
from jaxnst.weights.readers import read


@every_format
def test_vgg16_is_refused_by_name(write, tmp_path):
    write(tmp_path / "x", mini(VGG16))
    assert "got those of VGG-16; use the weights" in refusal(tmp_path / "x")


def test_other_networks_of_torch_are_refused_by_name():
    for names, network in zip(NETWORKS[2:], ("VGG-13", "VGG-11"), strict=True):
        with pytest.raises(ValueError, match=f"got those of {network}"):
            collect_torch(state_dict(mini(names)))
    tree = {}
    for i, conv in zip(FEATURES_BN, mini().values(), strict=True):
        tree[f"features.{i}.weight"] = oihw(conv["kernel"])
        for key in (f"{i}.bias", f"{i + 1}.weight", f"{i + 1}.bias"):
            tree[f"features.{key}"] = conv["bias"]
        tree[f"features.{i + 1}.running_mean"] = conv["bias"]
    with pytest.raises(ValueError, match="without BatchNorm, got vgg19_bn; use vgg19"):
        collect_torch(tree)
    alexnet = {f"features.{i}.weight": np.ones((1, 1, 1, 1)) for i in (0, 3, 6, 8, 10)}
    with pytest.raises(ValueError, match="got none; use the weights of a VGG-19"):
        collect_torch(alexnet)


ADAIN = [2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51]
"""Where AdaIN's `vgg_normalised.pth` has the convolutions; 0 has one of 1 x 1."""


@pytest.mark.parametrize("prefix", ["", "module.", "encoder."])
@pytest.mark.parametrize(
    ("places", "more", "name"),
    [
        (NETWORKS_AT[1], 0, "got those of VGG-16; use the weights of a VGG-19"),
        (FEATURES_BN, 1, "without BatchNorm, got vgg19_bn; use vgg19"),
        (ADAIN, 0, "got AdaIN's vgg_normalised, .* use --weights imagenet"),
    ],
)
def test_features_alone_of_others_are_refused_by_name(
    prefix, places, more, name, tmp_path
):
    tensors = {}
    network = mini(VGG16 if len(places) == len(VGG16) else NAMES)
    for i, conv in zip(places, network.values(), strict=True):
        tensors[f"{prefix}{i}.weight"] = oihw(conv["kernel"])
        for place in range(i, i + more + 1):
            tensors.setdefault(f"{prefix}{place}.weight", conv["bias"])
            tensors[f"{prefix}{place}.bias"] = conv["bias"]
    if places is ADAIN:
        tensors[f"{prefix}0.weight"] = np.ones((3, 3, 1, 1), np.float32)
        tensors[f"{prefix}0.bias"] = np.ones(3, np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / "x")
    write_torch_zip(tmp_path / "y", *torch_pickle(tensors))
    for file in ("x", "y"):
        said = refusal(tmp_path / file)
        assert re.search(name, said)
        assert "download it again" not in said


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
        collect_torch(tree)


@pytest.mark.parametrize(("count", "enough"), [(2, False), (3, True), (9, True)])
def test_networks_may_end_early(count, enough):
    tree = conv_dict(mini(NAMES[:count]))
    if enough:
        check_same(collect_torch(tree), mini(NAMES[:count]))
    else:
        with pytest.raises(ValueError, match="got conv1_1, conv1_2; use"):
            collect_torch(tree)


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
    # Some are known by the widths alone.
    with pytest.raises(
        ValueError, match=r"got none|conv2_1/kernel of .* got \(3, 3, 1"
    ):
        check_params(read(path).params, "x")


def test_what_is_no_file_is_refused(tmp_path):
    assert f"{tmp_path} is a folder" in refusal(tmp_path)
    assert f"{tmp_path / 'x'} does not exist" in refusal(tmp_path / "x")


def test_an_archive_of_numpy_is_called_by_its_name(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    assert "NumPy's .npz" in refusal(tmp_path / "x.npz")
