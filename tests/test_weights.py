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


def damage_shape(file):
    del file["conv3_1/kernel"]
    file["conv3_1/kernel"] = np.zeros((256, 128, 3, 3), np.float16)


def damage_numbers(file):
    file["conv2_1/bias"][3] = np.nan


def damage_name(file):
    file.move("conv4_2", "conv4_9")


def damage_format(file):
    file.attrs["format"] = "other"


def damage_map(file):
    del file["offset"]


def damage_one_bit(file):
    file["conv4_2/kernel"][1, 1, 5, 5] += 1e-4


def damage_family(file):
    file.attrs["family"] = "resnet"


def damage_type(file):
    del file["scale"]
    file["scale"] = np.array([b"a", b"b", b"c"])


def damage_size(file):
    del file["conv1_1/bias"]
    file["conv1_1"].create_dataset("bias", (2**40,), "<f4", chunks=(1024,))


def link_group(file):
    del file["conv1_1"]
    file["conv1_1"] = h5py.ExternalLink(str(asset_path("embedded")), "/conv1_1")


def link_bytes(file):
    del file["conv1_1/bias"], file.attrs["content_sha256"]
    where = [(str(asset_path("embedded")), 0, 256)]
    file["conv1_1"].create_dataset("bias", (64,), "<f4", external=where)


def link_numbers(file):
    del file["conv1_1/bias"], file.attrs["content_sha256"]
    layout = h5py.VirtualLayout((64,), "<f4")
    layout[:] = h5py.VirtualSource(str(asset_path("embedded")), "conv1_1/bias", (64,))
    file["conv1_1"].create_virtual_dataset("bias", layout)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_type, "cannot be read"),
        (damage_size, "for conv1_1, got no bias"),
        (link_group, "without gaps"),
        (link_bytes, "for conv1_1, got no bias"),
        (link_numbers, "for conv1_1, got no bias"),
        (damage_shape, r"conv3_1/kernel of shape \(3, 3, 128, 256\).*got \(256, 128"),
        (damage_numbers, "finite numbers in conv2_1/bias"),
        (damage_name, "without gaps"),
        (damage_format, "got 'other'"),
        (damage_map, "cannot be read"),
        (damage_one_bit, "the file is damaged: delete it"),
        (damage_family, "family rgb or caffe or torchvision .* got 'resnet'"),
    ],
)
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
    with pytest.raises(ValueError, match="expected a (VGG-19 )?weights file"):
        load_backbone(path)


def test_missing_files_are_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNST_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="one of embedded, imagenet"):
        load_backbone(tmp_path / "none.h5")
    with pytest.raises(ValueError, match="--weights embedded"):
        load_backbone("imagenet")
