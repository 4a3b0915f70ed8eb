"""Regions, masks, alpha and colours, from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import LIGHT, refused
from oracle import oklab
from PIL import Image as pil

from jaxnst.command.cli import main
from jaxnst.pictures.files import load_cutout, load_image, load_mask, save_image
from jaxnst.pictures.samples import sample_path

QUICK = ["--size", "48", "--steps", "2", "--weights", "embedded", "--quiet", *LIGHT]
QUICK += ["--recipe", "crowson", "--set", "scales=1"]


@pytest.fixture(autouse=True)
def pictures(elsewhere):
    for name in ("harbour", "swirls", "mosaic"):
        Path(f"{name}.jpg").write_bytes(sample_path(name).read_bytes())
    left = np.zeros((30, 40), np.uint8)
    left[:, :20] = 255
    pil.fromarray(left).save("left.png")
    pil.fromarray(np.zeros((30, 40), np.uint8)).save("black.png")
    nearly = np.zeros((30, 40), np.uint8)
    nearly[0, 0] = 1
    pil.fromarray(nearly).save("nearly-black.png")
    blue, red, green = (0, 0, 255), (255, 0, 0), (0, 255, 0)
    labels = {"a": (blue, red), "b": (red, blue), "c": (blue, blue), "d": (blue, green)}
    for name, colors in labels.items():
        image = pil.new("RGB", (40, 30), colors[0])
        image.paste(colors[1], (16, 0, 40, 30))
        image.save(f"labels-{name}.png")
    pixels = np.uint8(np.random.default_rng(0).integers(0, 256, (36, 48, 4)))
    pixels[..., 3] = 0
    pixels[8:28, 8:40, 3] = 255
    pil.fromarray(pixels).save("logo.png")


def paint(*flags, out="out.png"):
    assert main(["stylize", "harbour.jpg", *flags, *QUICK, "-o", out]) == 0
    return np.asarray(load_image(out))


def test_regions_and_the_rest_have_their_styles():
    masked = paint("mosaic.jpg", "--region", "left.png=swirls.jpg")
    kept = paint("--region", "left.png=swirls.jpg", "--keep-rest", out="kept.png")
    plain = np.asarray(load_image("harbour.jpg", size=48))
    assert np.abs(kept - plain)[:, 26:].max() < 1 / 255
    assert np.abs(masked - plain)[:, 26:].max() > 5 / 255
    assert np.abs(kept - plain)[:, :20].max() > 5 / 255


def test_a_picture_with_masks_is_painted_again():
    flags = ["mosaic.jpg", "--region", "left.png=swirls.jpg,mosaic.jpg"]
    flags += ["--content-mask", "left.png", "--style-mask", "left.png=mosaic.jpg"]
    paint(*flags, "--style-scale", "swirls.jpg=0.5", "--style-scale", "0.8")
    manifest = json.loads(Path("out.png.json").read_text())
    assert manifest["recipe"]["style_scale"] == 0.8
    (region,) = manifest["regions"]
    assert region["mask"] == "left.png"
    assert [x["path"] for x in region["styles"]] == ["swirls.jpg", "mosaic.jpg"]
    assert main(["again", "out.png", "-o", "again.png", "--quiet"]) == 0
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()
    Path("elsewhere").mkdir()
    for name in ("left.png", "swirls.jpg", "mosaic.jpg"):
        Path(name).rename(Path("elsewhere") / name)
    moved = ["--look-in", "elsewhere"]
    assert main(["again", "out.png", "-o", "b.png", "--quiet", *moved]) == 0
    assert Path("b.png").read_bytes() == Path("out.png").read_bytes()


def test_labels_join_parts_of_the_same_colour():
    images = [
        paint("mosaic.jpg", "--labels", "labels-a.png", f"labels-{name}.png")
        for name in "ab"
    ]
    assert np.abs(images[0] - images[1]).max() > 2 / 255


@pytest.mark.parametrize("recipe", ["crowson", "gatys2016-code", "johnson"])
def test_grey_pictures_make_a_grey_one(recipe):
    for name in ("harbour", "mosaic"):
        pil.open(f"{name}.jpg").convert("L").save(f"{name}.jpg")
    image = paint("mosaic.jpg", "--recipe", recipe)
    assert np.ptp(image, axis=-1).max() <= 2 / 255
    assert image.std() > 0.02


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_cutout_stays_one(suffix):
    flags = ["logo.png", "swirls.jpg", *QUICK, "--bits", "8", "-o", f"a{suffix}"]
    assert main(["stylize", *flags]) == 0
    found, wanted = load_cutout(f"a{suffix}"), load_cutout("logo.png")
    np.testing.assert_array_equal(found.alpha, wanted.alpha)
    assert np.abs(found.image - wanted.image)[8:28, 8:40].max() > 5 / 255


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".tif", 16)])
def test_a_cutout_is_written_as_it_was_read(suffix, bits):
    image, alpha = load_cutout("logo.png")
    both = np.concatenate([image, alpha], axis=-1)
    save_image(f"a{suffix}", both, bits=bits, description="a logo")
    found = load_cutout(f"a{suffix}")
    np.testing.assert_allclose(found.alpha, alpha, atol=1e-6)
    np.testing.assert_allclose(found.image * alpha, image * alpha, atol=1 / 255)


def test_a_clear_pixel_has_a_colour_from_around_it():
    pixels = np.zeros((5, 7, 4), np.uint8)
    pixels[1, 2] = (200, 100, 50, 255)
    pil.fromarray(pixels).save("dot.png")
    image, alpha = load_cutout("dot.png")
    np.testing.assert_allclose(image * 255, np.broadcast_to([200, 100, 50], (5, 7, 3)))
    assert float(alpha.sum()) == 1


def test_the_seen_part_of_a_style_is_the_style():
    """What its clear part holds does not matter."""
    other = np.array(pil.open("logo.png"))
    other[other[..., 3] == 0, :3] = 77
    pil.fromarray(other).save("other.png")
    first, second = (paint(name) for name in ("logo.png", "other.png"))
    np.testing.assert_array_equal(first, second)


def test_masks_of_any_mode_are_read():
    grey = np.uint8(np.arange(30 * 40).reshape(30, 40) % 256)
    pil.fromarray(grey).save("l.png")
    pil.fromarray(grey).convert("RGB").save("rgb.png")
    pil.fromarray(np.uint16(grey) * 257).save("deep.png")
    clear = pil.new("RGBA", (40, 30), (9, 9, 9, 0))
    clear.putalpha(pil.fromarray(grey))
    clear.save("alpha.png")
    for name in ("l.png", "rgb.png", "deep.png", "alpha.png"):
        found = load_mask(name)[..., 0] * 255
        np.testing.assert_allclose(found, grey, atol=0.51, err_msg=name)


def test_colours_of_the_photograph_or_of_a_file():
    plain = oklab(load_image("harbour.jpg", size=48))
    light = oklab(paint("swirls.jpg", "--colors", "luminance"))
    assert np.abs(light - plain)[..., 1:].max() < 4 / 255  # of 8 bits
    moved = oklab(paint("swirls.jpg", "--colors", "mosaic.jpg"))
    wanted = oklab(load_image("mosaic.jpg", size=512))
    chroma = lambda x: x[..., 1:].reshape(-1, 2)
    np.testing.assert_allclose(chroma(moved).mean(0), chroma(wanted).mean(0), atol=3e-3)
    assert json.loads(Path("out.png.json").read_text())["palette"]


def test_strength_zero_is_the_photograph():
    image = paint("swirls.jpg", "--style-strength", "0")
    np.testing.assert_allclose(image, load_image("harbour.jpg", size=48), atol=1 / 255)


def test_a_grid_varies_the_style_of_a_region(elsewhere):
    Path("photos").mkdir()
    for name in ("logo.png", "harbour.jpg"):
        Path(name).rename(Path("photos") / name)
    command = ["grid", "--content", "photos", "--style", "mosaic.jpg", *QUICK]
    command += ["--region", "left.png=swirls.jpg", "-o", "grid"]
    assert main([*command, "--vary", "region=swirls.jpg,mosaic.jpg"]) == 0
    names = sorted(path.stem for path in Path("grid").glob("*__*.png"))
    assert names == [
        f"{content}__mosaic__region={style}"
        for content in ("harbour", "logo")
        for style in ("mosaic", "swirls")
    ]
    assert load_cutout("grid/logo__mosaic__region=swirls.png").alpha is not None
    alone = ["photos/harbour.jpg", "mosaic.jpg", "--region", "left.png=swirls.jpg"]
    assert main(["stylize", *alone, *QUICK, "-o", "alone.png"]) == 0
    found = load_image("grid/harbour__mosaic__region=swirls.png")
    assert np.abs(found - load_image("alone.png")).mean() < 2 / 255
    assert "--region left.png=swirls.jpg" in Path("grid/index.html").read_text()


def test_a_mask_of_another_shape_is_stretched_and_said(capsys):
    pil.new("L", (10, 30), 255).save("tall.png")
    paint("mosaic.jpg", "--content-mask", "tall.png")
    said = capsys.readouterr().err
    assert "tall.png is stretched from 10 x 30 px" in said
    assert said.count("\n") == 1


def test_masks_are_in_the_plan(capsys):
    plan = ["plan", "harbour.jpg", "mosaic.jpg", *QUICK, "--size", "4000"]
    peaks = []
    for flags in ([], ["--region", "left.png=swirls.jpg"]):
        assert main([*plan, *flags]) == 0
        said = capsys.readouterr().out
        peaks.append(float(said.split(" GB at its peak")[0].split()[-1]))
    assert peaks[1] > peaks[0]


BAD = {
    "--region black.png=swirls.jpg mosaic.jpg": "all black",
    "mosaic.jpg --style-mask black.png=mosaic.jpg": "all black",
    "mosaic.jpg --style-mask left.png=harbour.jpg": "not a style of this run",
    "mosaic.jpg --style-scale harbour.jpg=2": "not a style of this run",
    "mosaic.jpg --style-scale 0": "expected a number > 0",
    "mosaic.jpg --region none.png=swirls.jpg": "does not exist",
    "mosaic.jpg --region left.png": "expected paths such as",
    "--region left.png=swirls.jpg": "that no region covers",
    "mosaic.jpg --keep-rest": "--keep-rest needs a region",
    "mosaic.jpg --keep-rest --region left.png=swirls.jpg": "leaves nothing for",
    "": "no style is named",
    "mosaic.jpg --labels labels-a.png labels-c.png": "has the colour #ff0000",
    "mosaic.jpg --labels labels-d.png labels-a.png": "that is not in labels-d.png",
    "mosaic.jpg --labels labels-c.png labels-a.png": "at labels-c.png, got 1",
    "mosaic.jpg --style-mask nearly-black.png=mosaic.jpg": "all black",
    "mosaic.jpg --labels labels-a.png": "--labels has 1 of 2 maps",
    "mosaic.jpg --colors blue": "--colors blue does not exist",
    "mosaic.jpg --style-strength 2": "in [0, 1]",
    "mosaic.jpg --style-strength 1 --content-weight 1": "sets the content weight",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_input_is_answered_in_one_line(flags, elsewhere, capsys):
    before = sorted(elsewhere.rglob("*"))
    argv = ["stylize", "harbour.jpg", *flags.split(), *QUICK, "-o", "out.png"]
    assert BAD[flags] in refused(argv, capsys)
    assert sorted(elsewhere.rglob("*")) == before
