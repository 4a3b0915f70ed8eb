"""Fetching, converting and choosing weights, from a server on this machine."""

import dataclasses
import datetime
import hashlib
import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnst.command.cli import main
from jaxnst.network.vgg import features
from jaxnst.weights import convert, registry
from jaxnst.weights.download import Remote
from jaxnst.weights.format import describe
from jaxnst.weights.registry import choose, load_backbone, pull


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def write_keras(path, backbone):
    """The layout of the published notop file."""
    with h5py.File(path, "w") as file:
        for name, conv in backbone.params.items():
            layer = name.replace("conv", "block").replace("_", "_conv")
            file[f"{layer}/{layer}_W_1:0"] = np.asarray(conv["kernel"])
            file[f"{layer}/{layer}_b_1:0"] = np.asarray(conv["bias"])


@pytest.fixture(scope="session")
def served(tmp_path_factory, backbone):
    """A folder with a small VGG-19 in it, and its address."""
    folder = tmp_path_factory.mktemp("served")
    names = list(backbone.params)[:6]
    params = {name: backbone.params[name] for name in names}
    write_keras(folder / "vgg.h5", dataclasses.replace(backbone, params=params))
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def offer(monkeypatch, served, name="vgg.h5", **changes):
    """Make the server's file the ImageNet weights."""
    folder, address = served
    data = (folder / "vgg.h5").read_bytes()
    remote = Remote(
        urls=(f"{address}/{name}",),
        size=len(data),
        algorithm="md5",
        digest=hashlib.md5(data).hexdigest(),
    )
    remote = dataclasses.replace(remote, **changes)
    asset = registry.ASSETS["imagenet"]._replace(remote=remote)
    monkeypatch.setitem(registry.ASSETS, "imagenet", asset)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # Two pictures show as well as six how the mean activations are measured.
    monkeypatch.setattr(convert, "SAMPLES", convert.SAMPLES[:2])
    return tmp_path / "home"


def test_pull_fetches_converts_and_keeps_only_the_result(served, home, monkeypatch):
    offer(monkeypatch, served)
    path = pull("imagenet")
    assert [p.name for p in home.glob("*.h5")] == ["vgg19-imagenet.h5"]
    about = describe(path)
    original = (served[0] / "vgg.h5").read_bytes()
    assert about["source_checksum"] == f"md5 {hashlib.md5(original).hexdigest()}"
    assert about["source_sha256"] == hashlib.sha256(original).hexdigest()
    assert about["licence"] == "CC BY 4.0"
    assert about["lineage"].startswith("Oxford")
    assert about["source_url"].endswith("/vgg.h5")
    assert (about["family"], len(about["content_sha256"])) == ("caffe", 64)
    written = path.stat().st_mtime_ns
    assert pull("imagenet") == path
    assert path.stat().st_mtime_ns == written


def test_what_is_pulled_sees_bytes_in_bgr(served, backbone, monkeypatch):
    offer(monkeypatch, served)
    pull("imagenet")
    ours = load_backbone("imagenet")
    image = jax.random.uniform(jax.random.key(0), (16, 20, 3))
    seen = features(ours, image, layers=("relu2_1",))["relu2_1"]
    mean = np.array([103.939, 116.779, 123.68])
    plain = dataclasses.replace(backbone, scale=jnp.ones(3), offset=jnp.zeros(3))
    bgr = 255 * image[..., ::-1] - jnp.asarray(mean, jnp.float32)[None, None]
    expected = features(plain, bgr, layers=("relu2_1",))["relu2_1"]
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-2)


def test_a_wrong_file_leaves_the_cache_as_it_was(served, home, monkeypatch):
    offer(monkeypatch, served, digest="0" * 32)
    with pytest.raises(ValueError, match=r"of md5 0+, got .*by hand: save http"):
        pull("imagenet")
    assert [p.name for p in home.iterdir() if not p.name.endswith(".lock")] == []


def test_pull_without_a_network_says_what_to_do_by_hand(home, monkeypatch, capsys):
    remote = dataclasses.replace(
        registry.ASSETS["imagenet"].remote, urls=("http://127.0.0.1:9/vgg.h5",)
    )
    asset = registry.ASSETS["imagenet"]._replace(remote=remote)
    monkeypatch.setitem(registry.ASSETS, "imagenet", asset)
    assert main(["weights", "pull", "imagenet"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"jaxnst weights convert FILE {home / 'vgg19-imagenet.h5'}" in error


def test_a_recipe_fetches_its_network_once_and_falls_back_for_a_day(
    served, home, monkeypatch
):
    offer(monkeypatch, served, name="nothing.h5")
    name, why = choose(None, "imagenet")
    assert name == "embedded"
    assert why.startswith("ImageNet weights cannot be fetched: ")
    assert "404" in why
    assert "127.0.0.1" not in why
    offer(monkeypatch, served)
    marker = home / "imagenet-not-fetched"
    began = datetime.datetime.now().timestamp() - 1000
    os.utime(marker, (began, began))
    until = datetime.datetime.fromtimestamp(began) + datetime.timedelta(days=1)
    assert choose(None, "imagenet")[1] == (
        "ImageNet weights could not be fetched; tried again after "
        f"{until:%Y-%m-%d %H:%M}, or now by: jaxnst weights pull imagenet"
    )
    os.utime(marker, (0, 0))
    assert choose(None, "imagenet") == ("imagenet", "fetched")
    assert choose(None, "imagenet") == ("imagenet", "found in the cache")
    assert choose("embedded", "imagenet") == ("embedded", "as asked")


def test_a_recipe_tells_a_missing_network_without_address_or_number():
    name, why = choose(None, "imagenet")
    assert name == "embedded"
    assert why.startswith("ImageNet weights cannot be fetched: no network; tried again")
    assert "127.0.0.1" not in why


def test_two_processes_may_pull_at_once(served, home):
    code = """
import dataclasses, json, sys
from jaxnst.weights import convert, registry
from jaxnst.weights.download import Remote
convert.SAMPLES = convert.SAMPLES[:2]
remote = Remote(**json.loads(sys.argv[1]))
registry.ASSETS["imagenet"] = registry.ASSETS["imagenet"]._replace(remote=remote)
print(registry.pull("imagenet"))
"""
    data = (served[0] / "vgg.h5").read_bytes()
    remote = {
        "urls": [f"{served[1]}/vgg.h5"],
        "size": len(data),
        "algorithm": "md5",
        "digest": hashlib.md5(data).hexdigest(),
    }
    command = [sys.executable, "-c", code, json.dumps(remote)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert outputs == [str(home / "vgg19-imagenet.h5")] * 2
    assert [process.returncode for process in processes] == [0, 0]
    load_backbone("imagenet")


def test_a_file_of_another_project_is_converted_once(served, home):
    path = served[0] / "vgg.h5"
    backbone = load_backbone(path)
    assert backbone.family == "caffe"
    (kept,) = home.glob("converted-*.h5")
    written = kept.stat().st_mtime_ns
    load_backbone(path)
    assert kept.stat().st_mtime_ns == written


def test_weights_of_unknown_lineage_need_a_word(tmp_path, backbone, capsys):
    path, target = tmp_path / "w.h5", tmp_path / "out.h5"
    with h5py.File(path, "w") as file:
        for i, conv in enumerate(list(backbone.params.values())[:4]):
            group = "layers/conv2d" + f"_{i}" * (i > 0) + "/vars"
            file[f"{group}/0"], file[f"{group}/1"] = conv["kernel"], conv["bias"]
    assert main(["weights", "convert", str(path), str(target)]) == 2
    error = capsys.readouterr().err
    assert "--family" in error
    assert error.count("\n") == 1
    assert not target.exists()
    command = ["weights", "convert", str(path), str(target), "--family", "torchvision"]
    assert main(command) == 0
    converted = load_backbone(target)  # ours, so nothing is kept of it
    assert converted.family == "torchvision"
    np.testing.assert_allclose(converted.scale, 1 / np.array([0.229, 0.224, 0.225]))
    assert main(["weights", "check", str(target)]) == 0
    assert "silent filters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "none.pth", "out.h5"], "got no such file"),
        (["convert", "bad.pth", "out.h5"], "got one that cannot be used"),
        (["convert", "bad.pth", "out.npz"], "out.npz must end in .h5"),
        (["convert", "bad.pth", "no/b/out.h5"], "does not exist"),
        (["convert", "embedded.h5", "out.h5"], "got ours"),
        (["check", "bad.pth"], "got one that cannot be used"),
    ],
)
def test_bad_weights_are_answered_in_one_line(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pth").write_bytes(b"PK\3\4 and then nothing")
    (tmp_path / "embedded.h5").symlink_to(registry.asset_path("embedded"))
    assert main(["weights", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.h5").exists()
