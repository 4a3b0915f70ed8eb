import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import unquote

import numpy as np
import pytest
from helpers import LIGHT, refused
from PIL import Image as pil

from jaxnst.command.cli import main, make_parser
from jaxnst.command.flags import recipe_from
from jaxnst.command.grid import exit_code, is_painted
from jaxnst.command.sheet import LONGEST_SHEET, Cell, draw_sheet, save_page
from jaxnst.pictures.files import load_image, save_image
from jaxnst.pictures.samples import sample_path
from jaxnst.recipes import get_recipe
from jaxnst.request.expand import Item
from jaxnst.request.painting import Painting, StyleFile
from jaxnst.weights import registry

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUICK = ["--size", "32", "--steps", "1", "--weights", "embedded", *LIGHT]


@pytest.fixture(autouse=True)
def files(elsewhere):
    """Two contents of different shapes and two styles."""
    harbour, swirls = load_image(sample_path("harbour"), size=64), "swirls mosaic"
    for name, image in (("wide", harbour), ("tall", harbour.swapaxes(0, 1))):
        save_image(f"photos/{name}.png", image)
    (elsewhere / "paintings").mkdir()
    for name in swirls.split():
        copy = elsewhere / "paintings" / f"{name}.jpg"
        copy.write_bytes(sample_path(name).read_bytes())


GRID = ["grid", "--content", "photos", "--style", "paintings", "-o", "out"]
NAMES = [
    f"{content}__{style}"
    for content in ("tall", "wide")
    for style in ("mosaic", "swirls")
]


def pictures(folder):
    return {
        path.name: path.stat().st_mtime_ns
        for path in folder.glob("*.png")
        if path.name != "sheet.png"
    }


def test_each_recipe_of_a_grid_has_its_own_network(elsewhere, capsys, monkeypatch):
    monkeypatch.setenv("JAXNST_HOME", str(elsewhere / "home"))
    (elsewhere / "home").mkdir()
    shutil.copy(registry.asset_path("embedded"), registry.asset_path("imagenet"))
    command = ["grid", "--content", "photos/wide.png", "-o", "out", "--size", "32"]
    command += ["--style", "paintings/swirls.jpg", "--steps", "1", *LIGHT]
    assert main([*command, "--vary", "recipe=tf-blog,delicate"]) == 0
    said = capsys.readouterr().out
    assert "imagenet (found in the cache), embedded (the recipe's)" in said
    used = {
        recipe: json.loads(path.read_text())["weights"]
        for recipe in ("tf-blog", "delicate")
        for path in (elsewhere / "out").glob(f"*{recipe}.png.json")
    }
    assert used == {"tf-blog": "imagenet", "delicate": "embedded"}
    page = (elsewhere / "out" / "index.html").read_text()
    assert "--weights" not in page


def test_a_grid_has_every_picture_a_sheet_and_a_page(elsewhere, capsys):
    sweep = ["--vary", "style_weight=0.5,2", "--vary", "pooling=max"]
    sweep += ["--tv-weight", "0", "--recipe", "delicate"]
    for name in ("notes.txt", "notes.pdf", "film.mpg", "data.h5"):
        (elsewhere / "photos" / name).write_text("no picture, and not meant as one")
    assert main([*GRID, *QUICK, *sweep]) == 0
    out = elsewhere / "out"
    names = [
        f"{name}__style_weight={weight},pooling=max.png"
        for name in NAMES
        for weight in ("0.5", "2")
    ]
    assert sorted(pictures(out)) == sorted(names)
    said = capsys.readouterr().out
    assert "8 pictures: 2 contents, 2 styles, 2 settings; 0 are there already" in said
    assert "8/8 painted" in said
    manifest = json.loads((out / f"{names[1]}.json").read_text())
    assert manifest["recipe"]["style_weight"] == 2.0
    assert manifest["status"] == "done"
    assert load_image(out / names[0]).shape == (32, 24, 3)
    assert min(load_image(out / "sheet.png").shape[:2]) > 100
    page = (out / "index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert len(data["cells"]) == 8
    assert {cell["larger"] for cell in data["cells"]} == {64}
    assert len(data["originals"]) == 4
    # The command paints the same with stylize, larger.
    cell = next(c for c in data["cells"] if c["source"].startswith("wide__swirls"))
    command = shlex.split(cell["command"])
    assert command[0] == "jaxnst"
    args = make_parser().parse_args(command[1:])
    assert args.size == 64
    assert dict(args.set) == dict(
        content_layers=(("relu1_1", 1.0),),
        style_layers=(("relu1_1", 1.0),),
        first_steps=3,
        steps=1,
    )
    assert (args.style_weight, args.tv_weight, args.pooling) == (0.5, 0.0, "max")
    painted = json.loads((out / f"{unquote(cell['source'])}.json").read_text())
    recipe = recipe_from(args).values()
    assert json.loads(json.dumps(recipe)) == painted["recipe"]
    # The same command again paints nothing, and leaves what is there alone.
    before = pictures(out)
    assert main([*GRID, *QUICK, *sweep]) == 0
    assert pictures(out) == before
    assert "8 are there already" in capsys.readouterr().out


def test_a_grid_starts_from_noise_by_set():
    args = make_parser().parse_args([*GRID, "--set", "init=noise", "--seeds", "4"])
    assert recipe_from(args).look.init == "noise"


def test_pictures_of_one_name_keep_their_suffix(elsewhere):
    swirls = (elsewhere / "paintings/swirls.jpg").read_bytes()
    (elsewhere / "paintings/mosaic.png").write_bytes(swirls)
    assert main([*GRID, *QUICK, "--quiet"]) == 0
    styles = {name.split("__")[1] for name in pictures(elsewhere / "out")}
    assert styles == {"mosaic-jpg.png", "mosaic-png.png", "swirls.png"}


def test_a_cell_is_what_stylize_paints(elsewhere):
    flags = ["--recipe", "gatys2016", "--set", "history=2", "--quiet"]
    assert main([*GRID, *QUICK, *flags, "--seed", "3", "--seeds", "2"]) == 0
    alone = ["stylize", "photos/wide.png", "paintings/swirls.jpg", "-o", "a.png"]
    assert main([*alone, *QUICK, *flags, "--seed", "4"]) == 0
    cell = load_image("out/wide__swirls__seed=4.png")
    np.testing.assert_allclose(cell, load_image("a.png"), atol=2 / 255)
    other = load_image("out/wide__swirls__seed=3.png")
    assert np.abs(cell - other).max() > 0.05


def test_what_is_missing_is_painted_and_what_is_not_ours_is_kept(elsewhere, capsys):
    command = [*GRID, *QUICK, "--quiet", "--recipe", "udacity", "--style-weight", "1"]
    assert main(command) == 0
    out = elsewhere / "out"
    before = pictures(out)
    (out / "wide__mosaic.png").unlink()
    assert main(command) == 0
    after = pictures(out)
    changed = {name for name in after if before[name] != after[name]}
    assert changed == {"wide__mosaic.png"}
    said = refused([*command, "--style-weight", "7"], capsys)
    assert "with another style_weight (1.0, not 7.0)" in said
    kept = (out / "wide__mosaic.png.json").read_text()
    other = json.loads(kept) | {"weights_sha256": "0", "weights": "imagenet"}
    (out / "wide__mosaic.png.json").write_text(json.dumps(other))
    said = refused(command, capsys)
    assert "another network (imagenet, not embedded)" in said
    (out / "wide__mosaic.png.json").write_text("[]")
    assert "without a manifest" in refused(command, capsys)
    assert pictures(out) == after


@pytest.mark.parametrize(
    "data", [b"[]", b'{"recipe": "cake"}', b"[" * 10**6, b"\xff", b"null", b""]
)
def test_a_grid_survives_whatever_lies_beside_a_picture(elsewhere, data, capsys):
    out = elsewhere / "a.png"
    out.touch()
    (elsewhere / "a.png.json").write_bytes(data)
    style = StyleFile(path=elsewhere / "paintings" / "swirls.jpg")
    content, recipe = elsewhere / "photos" / "wide.png", get_recipe("painterly")
    item = Item(Painting(content=content, styles=(style,), recipe=recipe), "", out)
    with pytest.raises(ValueError, match="without a manifest"):
        is_painted(item)
    assert exit_code([item], []) == 0
    assert capsys.readouterr().err == ""


def test_one_bad_file_is_named_and_the_rest_runs(elsewhere, capsys):
    broken = elsewhere / "photos" / "broken.jpg"
    broken.write_bytes(sample_path("harbour").read_bytes()[:20_000])
    assert main([*GRID, *QUICK, "--recipe", "udacity", "--quiet"]) == 2
    assert sorted(pictures(elsewhere / "out")) == [f"{name}.png" for name in NAMES]
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2  # at once, and at the end
    assert all("broken.jpg" in line for line in errors)


def test_a_preview_is_small_and_in_a_folder_of_its_own(elsewhere):
    command = ["grid", "--content", "photos/w*.png", "--style", "paintings/swirls.jpg"]
    command += ["-o", "out", "--weights", "embedded", "--quiet", *LIGHT]
    command += ["--recipe", "udacity"]
    assert main([*command, "--preview", "--set", "first_steps=1"]) == 0
    image = load_image(elsewhere / "out" / "preview" / "wide__swirls.png")
    assert image.shape == (96, 128, 3)
    page = (elsewhere / "out" / "preview" / "index.html").read_text()
    assert "--set first_steps=1" in page  # which was asked for
    assert "steps=" not in page.replace("first_steps=1", "")


BAD = {
    "--vary style_wieght=1,2": "did you mean style_weight=",
    "--vary style_weight=a": "style_weight cannot be 'a'",
    "--vary tv_weight=1,1": "a duplicate value 1.0",
    "--vary tv_weight=1 --vary tv_weight=2": "--vary names tv_weight twice",
    "--seeds 2": "seed has no effect where init is content",
    "--vary blend=1,2,3": "one weight for each style; hint: give 2",
    "--vary recipe=painterly,gatys": "did you mean gatys2016",
    "--style empty": "empty has no pictures",
    "--content none.jpg": "no picture at none.jpg",
    "--content *.gif": "no pictures match *.gif",
    "--content photos wide.png": "two results have the name wide-png__mosaic",
    "--style tiny.png --set style_layers=relu2_1": "at least 2",
    "-o wide.jpg": "wide.jpg is a file",
    "-o site": "no grid; hint: choose another output",
    "--size 40000": "which paints in tiles",
    "--coordinator a --machines 1 --machine 0": "--coordinator a is not HOST:PORT",
    "--tv-weight 1 --set tv_weight=2": "tv_weight is set by a flag and by --set",
    "--set name=mine": "no field is called 'name'",
    "--vary size=32,64": "size changes nothing with --size",
    "-o photos": "photos contains inputs",
    "--machines 2 --machine 0": "need --coordinator HOST:PORT",
    "--coordinator a:1 --machines 2": "--machine 0 … 1",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_input_is_answered_before_any_work(flags, elsewhere, capsys):
    (elsewhere / "empty").mkdir()
    (elsewhere / "empty" / "x.txt").write_text("no picture")
    (elsewhere / "wide.jpg").write_bytes(sample_path("harbour").read_bytes())
    pil.new("RGB", (1, 1)).save(elsewhere / "tiny.png")
    pil.new("RGB", (32, 32)).save(elsewhere / "wide.png")
    (elsewhere / "site").mkdir()
    (elsewhere / "site" / "index.html").write_text("my own page")
    before = sorted(elsewhere.rglob("*"))
    assert BAD[flags] in refused([*GRID, *QUICK, *flags.split()], capsys)
    assert sorted(elsewhere.rglob("*")) == before


def test_a_dead_machine_costs_the_others_nothing(elsewhere):
    """Two processes on this machine; the one that the other met at is killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "jaxnst", *GRID, *QUICK, "--batch", "1"]
    command += ["--vary", "style_weight=1,2,3", "--recipe", "udacity"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    options = {"env": environment, "text": True, "cwd": elsewhere}
    out = elsewhere / "out"

    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command += ["--machines", "2", "--coordinator", address, "--machine"]
    first, second = (subprocess.Popen([*command, x], **options) for x in "01")
    while not list(out.glob("*.png")):
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    said, _ = second.communicate(timeout=200)
    first.communicate()
    assert second.returncode == 0
    assert "6 are for machine 1 of 2" in said
    before = pictures(out)
    assert 6 <= len(before) < 12
    assert main(command[3:-5]) == 0
    after = pictures(out)
    assert len(after) == 12
    assert all(after[name] == when for name, when in before.items())


def test_machines_that_are_not_detected_are_named(elsewhere):
    command = [sys.executable, "-m", "jaxnst", *GRID, *QUICK, "--distributed"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "JAX detects no other machines" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_sheet_shows_what_is_missing_and_stays_within_bounds(elsewhere):
    cells = [
        Cell(
            elsewhere / f"{i}.jpg", (elsewhere / "s.jpg",), "", elsewhere / "n.png", ""
        )
        for i in range(300)
    ]
    sheet = draw_sheet(cells)
    assert max(sheet.size) <= LONGEST_SHEET + 100
    assert sheet.getpixel((sheet.width - 14, sheet.height - 14)) == (220, 220, 220)


def test_a_page_has_names_that_python_takes_for_ascii(elsewhere):
    """Their other bytes are surrogates, where the locale has ASCII alone."""
    first, second = (
        x.encode().decode("ascii", "surrogateescape") for x in ("für", "öl")
    )
    out = elsewhere / f"{first}__{second}.png"
    cell = Cell(elsewhere / first, (elsewhere / second,), "", out, "jaxnst")
    save_page(elsewhere / "index.html", [cell], "a grid")
    page = (elsewhere / "index.html").read_text(encoding="utf-8")
    assert '"content": "für", "style": "öl"' in page
    assert '"source": "f%C3%BCr__%C3%B6l.png"' in page
    assert draw_sheet([cell]).size


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_shows_originals_and_fits_a_telephone(elsewhere):
    browsers = pytest.importorskip("playwright.sync_api")
    long = elsewhere / "photos" / "hoovertower-by-night-from-the-oval.png"
    long.write_bytes((elsewhere / "photos/wide.png").read_bytes())
    styles = [elsewhere / "paintings" / f"{name}.jpg" for name in ("swirls", "mosaic")]
    gone = elsewhere / "photos" / "gone.png"
    cells = [
        Cell(content, (style,), "", elsewhere / f"{i}.png", "jaxnst", 640)
        for i, style in enumerate(styles)
        for content in (long, gone)
    ]
    save_page(elsewhere / "index.html", cells, "a grid")
    with browsers.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 390, "height": 844})
        mistakes = []
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.goto((elsewhere / "index.html").as_uri())
        head = page.locator("tbody th").first
        assert head.bounding_box()["width"] > 80  # more than a letter
        assert head.bounding_box()["height"] < 200
        # One photograph and two paintings; what is gone has no picture.
        shapes = page.locator("th img").evaluate_all(
            "all => Promise.all(all.map(x => x.decode().then(() => x.naturalWidth)))"
        )
        assert len(shapes) == 3
        assert min(shapes) > 0
        lefts = {x.bounding_box()["x"] for x in page.locator("select:visible").all()}
        assert len(lefts) == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("td button").first.click()
        dialog = page.locator("dialog")
        assert "larger (640 px)" in dialog.inner_text()
        assert dialog.locator(".originals img").count() == 2
        browser.close()
    assert not mistakes
