"""The plug-in for Krita, in a real Krita without a screen."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import SCRIPTS
from PIL import Image as pil

from jaxnst.pictures.samples import sample_path

WIDE, HIGH = 256, 192
"""Of the photograph, whose left half is selected."""

NEEDED = ("krita", "xvfb-run", "xauth")

DESKTOP = """[Desktop Entry]
Type=Service
ServiceTypes=Krita/PythonPlugin
X-KDE-Library=driver
Name=Driver
"""

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)),
    reason=f"no Krita with a virtual display: {', '.join(NEEDED)}",
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a person sees who opens a picture in Krita and uses the plug-in."""
    folder = tmp_path_factory.mktemp("krita")
    plugins = folder / "share" / "krita" / "pykrita"
    shutil.copytree(SCRIPTS / "krita", plugins)
    (plugins / "driver").mkdir()
    driver = Path(__file__).parent / "krita" / "driver.py"
    shutil.copy(driver, plugins / "driver" / "__init__.py")
    (plugins / "driver.desktop").write_text(DESKTOP)
    enabled = "[python]\nenable_jaxnst_krita=true\nenable_driver=true\n"
    for path in (folder / "kritarc", folder / "config" / "kritarc"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(enabled)
    photograph = pil.open(sample_path("harbour")).resize((WIDE, HIGH))
    photograph.putalpha(255)
    photograph.save(folder / "photo.png")
    pil.open(sample_path("swirls")).save(folder / 'swirls, "a=b".png')
    env = {name: x for name, x in os.environ.items() if not name.startswith("PYTHON")}
    env |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
    env |= {"XDG_DATA_HOME": str(folder / "share"), "KRITA_DRIVER": str(folder)}
    env |= {"JAXNST": str(Path(sys.executable).parent / "jaxnst")}
    env["PATH"] = os.defpath  # Krita takes the libraries of the first Python there
    with (folder / "log").open("wb") as log:
        subprocess.run(
            ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", "krita", "--nosplash"],
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
    path = folder / "seen.json"
    assert path.exists(), (folder / "log").read_text(errors="replace")[-3000:]
    found = json.loads(path.read_text())
    assert "error" not in found, found["error"]
    return found


def test_the_selected_part_becomes_a_layer_that_one_undo_removes(seen):
    assert seen["said"].startswith("Painted the layer")
    assert len(seen["painted"]) == len(seen["layers"]) + 1
    assert seen["undone"] == seen["layers"]
    before, after = (
        np.frombuffer(bytes.fromhex(seen[name]), np.uint8).reshape(HIGH, WIDE, 4)
        for name in ("before", "after")
    )
    gap = np.abs(np.int32(after) - before)
    assert gap[:, : WIDE // 2, :3].mean() > 8
    assert after[:, : WIDE // 2, 3].min() == 255
    assert after[:, WIDE // 2 :, 3].max() == 0


def test_the_picture_is_shown_while_it_is_painted(seen):
    assert seen["preview"]


def test_a_cancelled_run_leaves_nothing(seen):
    assert seen["runs"]
    assert seen["cancelled"] == "Cancelled."
    assert seen["cancelled layers"] == ["Background"]
    assert not Path(seen["folder"]).exists()


def test_mistakes_are_said_in_the_dialog(seen):
    assert seen["no command"].startswith("Cannot start ")
    assert "no such recipe" in seen["mistake"]


def test_sixteen_bits_stay_sixteen(seen):
    assert seen["deep"] == "U16", seen["deep said"]
    layers = [np.frombuffer(bytes.fromhex(x), np.uint16) for x in seen["deep pixels"]]
    given, found = (x.reshape(-1, 4)[:, :3].astype(float) for x in layers)
    assert len(np.unique(found)) > 1000  # of 8 bits, there are 256
    for one, other in zip(given.T, found.T, strict=True):  # the same channels
        assert np.corrcoef(one, other)[0, 1] > 0.5
