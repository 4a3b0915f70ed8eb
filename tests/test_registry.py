"""Fetching, converting and choosing weights, from a server on this machine."""

import dataclasses
import datetime
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import refused
from test_download import Server
from writers import write_keras_numbered, write_keras_oldest

from jaxnst.command.cli import main
from jaxnst.weights import convert, registry
from jaxnst.weights.download import Remote
from jaxnst.weights.format import describe
from jaxnst.weights.registry import choose, load_backbone, pull


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # Two pictures show as well as six how the mean activations are measured.
    monkeypatch.setattr(convert, "SAMPLES", convert.SAMPLES[:2])
    return tmp_path / "home"


@pytest.fixture
def theirs(small, tmp_path):
    """A small VGG-19 in the layout of the published notop file."""
    write_keras_oldest(tmp_path / "vgg.h5", small)
    return tmp_path / "vgg.h5"


@pytest.fixture
def remote(theirs):
    """The same, on a server."""
    data = theirs.read_bytes()
    with Server() as server:
        server.scripts = {"/vgg.h5": {"body": data}, "/nothing.h5": {"status": 404}}
        yield Remote(
            urls=(server.url("/vgg.h5"),),
            size=len(data),
            algorithm="md5",
            digest=hashlib.md5(data).hexdigest(),
        )


@pytest.fixture
def offer(remote, monkeypatch):
    """Make the server's file the ImageNet weights."""

    def offer(**changes):
        changed = dataclasses.replace(remote, **changes)
        asset = registry.ASSETS["imagenet"]._replace(remote=changed)
        monkeypatch.setitem(registry.ASSETS, "imagenet", asset)

    return offer


def test_pull_fetches_converts_and_keeps_only_the_result(theirs, offer, home):
    offer()
    path = pull("imagenet")
    assert [p.name for p in home.glob("*.h5")] == ["vgg19-imagenet.h5"]
    about = describe(path)
    original = theirs.read_bytes()
    assert about["source_checksum"] == f"md5 {hashlib.md5(original).hexdigest()}"
    assert about["source_sha256"] == hashlib.sha256(original).hexdigest()
    assert about["licence"] == "CC BY 4.0"
    assert about["lineage"].startswith("Oxford")
    assert about["source_url"].endswith("/vgg.h5")
    assert (about["family"], len(about["content_sha256"])) == ("caffe", 64)
    written = path.stat().st_mtime_ns
    assert pull("imagenet") == path
    assert path.stat().st_mtime_ns == written


def test_a_wrong_file_leaves_the_cache_as_it_was(offer, home):
    offer(digest="0" * 32)
    with pytest.raises(ValueError, match=r"of md5 0+, got .*by hand: save http"):
        pull("imagenet")
    assert [p.name for p in home.iterdir() if not p.name.endswith(".lock")] == []


def test_pull_without_a_network_says_what_to_do_by_hand(home, capsys):
    said = refused(["weights", "pull", "imagenet"], capsys)
    assert f"jaxnst weights convert FILE {home / 'vgg19-imagenet.h5'}" in said


def test_a_recipe_fetches_its_network_once_and_falls_back_for_a_day(
    remote, offer, home
):
    offer(urls=(remote.urls[0].replace("vgg", "nothing"),))
    name, why = choose(None, "imagenet")
    assert name == "embedded"
    assert why.startswith("ImageNet weights cannot be fetched: ")
    assert "404" in why
    assert "127.0.0.1" not in why
    offer()
    marker = home / "imagenet-not-fetched"
    began = datetime.datetime.now().timestamp() - 1000
    os.utime(marker, (began, began))
    until = datetime.datetime.fromtimestamp(began) + datetime.timedelta(days=1)
    assert choose(None, "imagenet")[1] == (
        "ImageNet weights could not be fetched; next try after "
        f"{until:%Y-%m-%d %H:%M}, or now with: jaxnst weights pull imagenet"
    )
    os.utime(marker, (0, 0))
    assert choose(None, "imagenet") == ("imagenet", "fetched")
    assert choose(None, "imagenet") == ("imagenet", "found in the cache")
    assert choose("embedded", "imagenet") == ("embedded", "as asked")


def test_two_processes_may_pull_at_once(remote, home):
    code = """
import dataclasses, json, sys
from jaxnst.weights import convert, registry
from jaxnst.weights.download import Remote
convert.SAMPLES = convert.SAMPLES[:2]
remote = Remote(**json.loads(sys.argv[1]))
registry.ASSETS["imagenet"] = registry.ASSETS["imagenet"]._replace(remote=remote)
print(registry.pull("imagenet"))
"""
    command = [sys.executable, "-c", code, json.dumps(dataclasses.asdict(remote))]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert outputs == [str(home / "vgg19-imagenet.h5")] * 2
    assert [process.returncode for process in processes] == [0, 0]
    load_backbone("imagenet")


def test_a_file_of_another_project_is_converted_once(theirs, home):
    backbone = load_backbone(theirs)
    assert backbone.family == "caffe"
    (kept,) = home.glob("converted-*.h5")
    written = kept.stat().st_mtime_ns
    load_backbone(theirs)
    assert kept.stat().st_mtime_ns == written


def test_weights_of_unknown_lineage_need_a_word(tmp_path, small, capsys):
    path, target = tmp_path / "w.h5", tmp_path / "out.h5"
    write_keras_numbered(path, small)
    command = ["weights", "convert", str(path), str(target)]
    assert "--family" in refused(command, capsys)
    assert not target.exists()
    assert main([*command, "--family", "torchvision"]) == 0
    converted = load_backbone(target)  # ours, so nothing is kept of it
    assert converted.family == "torchvision"
    np.testing.assert_allclose(converted.scale, 1 / np.array([0.229, 0.224, 0.225]))
    assert main(["weights", "check", str(target)]) == 0
    assert "silent filters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "none.pth", "out.h5"], "does not exist"),
        (["convert", "bad.pth", "out.h5"], "is not a VGG-19 weights file"),
        (["convert", "bad.pth", "out.npz"], "end its name in .h5"),
        (["convert", "bad.pth", "no/b/out.h5"], "does not exist"),
        (["convert", "embedded.h5", "out.h5"], "got ours"),
        (["check", "bad.pth"], "is not a VGG-19 weights file"),
    ],
)
def test_bad_weights_are_answered_in_one_line(arguments, message, elsewhere, capsys):
    (elsewhere / "bad.pth").write_bytes(b"PK\3\4 and then nothing")
    (elsewhere / "embedded.h5").symlink_to(registry.asset_path("embedded"))
    assert message in refused(["weights", *arguments], capsys)
    assert not (elsewhere / "out.h5").exists()
