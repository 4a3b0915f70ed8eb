import h5py
import jax
import numpy as np
import pytest

from jaxnst.weights.format import describe, read_backbone, save_backbone
from jaxnst.weights.registry import asset_path, load_backbone


@pytest.fixture
def saved(tmp_path):
    backbone = load_backbone("embedded")
    path = tmp_path / "copy.h5"
    save_backbone(path, backbone, lineage="test")
    return backbone, path


def test_a_saved_backbone_comes_back(saved):
    backbone, path = saved
    for a, b in zip(
        jax.tree.leaves(load_backbone(path)), jax.tree.leaves(backbone), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert describe(path)["lineage"] == "test"


def test_the_same_backbone_gives_the_same_bytes(saved, tmp_path):
    backbone, path = saved
    save_backbone(tmp_path / "again.h5", backbone, lineage="test")
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_the_embedded_weights_reach_what_the_recipes_need():
    backbone = load_backbone("embedded")
    assert list(backbone.params)[-1] == "conv5_2"
    assert asset_path("embedded").stat().st_size < 35e6
    for mean in backbone.mean_activation.values():
        assert np.median(mean) == pytest.approx(1, abs=0.01)
        assert np.mean(mean < 0.2) < 1 / 200  # hardly any filter is silent


def put(name, array):
    """Put another dataset in the place of one."""

    def damage(file):
        del file[name]
        file[name] = array

    return damage


def link_group(file):
    del file["conv1_1"]
    file["conv1_1"] = h5py.ExternalLink(str(asset_path("embedded")), "/conv1_1")


def damage_one_bit(file):
    file["conv4_2/kernel"][1, 1, 5, 5] += 1e-4


DAMAGE = [
    (put("scale", np.array([b"a", b"b", b"c"])), "is no weights file of jaxnst"),
    (link_group, "without gaps"),
    (
        put("conv3_1/kernel", np.zeros((256, 128, 3, 3), np.float16)),
        r"conv3_1/kernel of shape \(3, 3, 128, 256\).*got \(256, 128",
    ),
    (
        put("conv2_1/bias", np.full(128, np.nan, np.float32)),
        "finite numbers in conv2_1/bias",
    ),
    (
        put("conv2_1/mean_activation", np.ones(64)),
        r"conv2_1/mean_activation of shape \(128,\)",
    ),
    (lambda file: file.move("conv4_2", "conv4_9"), "without gaps"),
    (lambda file: file.attrs.update(format="other"), "got 'other'"),
    (lambda file: file.pop("offset"), "is no weights file of jaxnst"),
    (damage_one_bit, "the file is damaged: delete it"),
    (
        lambda file: file.attrs.update(family="resnet"),
        "family rgb or caffe or torchvision .* got 'resnet'",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_file_is_refused(saved, damage, message):
    path = saved[1]
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ValueError, match=message):
        read_backbone(path)


@pytest.mark.parametrize("length", [0, 100, 5000, 1_000_000])
def test_a_cut_file_is_refused(saved, length):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="is (no|not a VGG-19) weights file"):
        load_backbone(path)


def test_missing_files_are_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNST_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="one of embedded, imagenet"):
        load_backbone(tmp_path / "none.h5")
    with pytest.raises(ValueError, match="--weights embedded"):
        load_backbone("imagenet")
