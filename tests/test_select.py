"""Masks that nobody drew, of generated scenes whose parts are known."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import refused
from PIL import Image as pil
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

import jaxnst
from jaxnst.command.cli import main
from jaxnst.pictures.files import load_mask
from jaxnst.pictures.samples import sample_path
from jaxnst.pictures.select import (
    select_box,
    select_painted,
    select_scribble,
    select_sky,
    select_subject,
)

QUICK = "--recipe", "palette", "--size", "48"
SHAPE = 240, 320
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)


def smooth(rng, sigma):
    found = gaussian_filter(rng.normal(size=SHAPE), sigma)
    return ((found - found.min()) / np.ptp(found))[..., None]


def disc(rng, y, x, radius):
    far, angle = np.hypot(ROWS - y, COLUMNS - x), np.arctan2(ROWS - y, COLUMNS - x)
    return far < radius * (1 + 0.2 * np.sin(3 * angle + rng.uniform(0, 6)))


def star(rng, y, x, radius):
    """It has thin arms."""
    far, angle = np.hypot(ROWS - y, COLUMNS - x), np.arctan2(ROWS - y, COLUMNS - x)
    arms = np.abs(np.sin(2.5 * angle)) < 0.12 * radius / np.maximum(far, 1)
    return (far < 0.6 * radius) | (arms & (far < 1.5 * radius))


def figure(rng, y, x, radius):
    """It stands on the lower edge."""
    head = np.hypot(ROWS - y + 0.6 * radius, COLUMNS - x) < 0.4 * radius
    return head | ((np.abs(COLUMNS - x) < 0.6 * radius) & (y - 0.3 * radius < ROWS))


def tree(rng, y, x, radius):
    found = (np.abs(COLUMNS - x) < 3) & (y < ROWS) & (y + 1.4 * radius > ROWS)
    for down, across in rng.normal(size=(14, 2)) * 0.45 * radius:
        leaves = np.hypot(ROWS - y + 0.3 * radius - down, COLUMNS - x - across)
        found |= leaves < 0.3 * radius
    return found


def scene(seed):
    """A picture, and how much each pixel is of what stands in front."""
    rng = np.random.default_rng(seed)
    shape = (disc, star, figure, tree)[seed % 4]
    place = rng.uniform(0.4, 0.6) * SHAPE[0], rng.uniform(0.35, 0.65) * SHAPE[1]
    part = shape(rng, *place, rng.uniform(0.18, 0.3) * SHAPE[0]).astype(float)
    part = gaussian_filter(part, rng.choice([0.5, 1, 2]))[..., None]
    behind, other, front, third = rng.uniform(0, 1, (4, 3))
    front = np.where(np.abs(front - behind).sum() > 0.6, front, 1 - behind.round())
    ground = behind + 0.4 * (other - behind) * smooth(rng, 30)
    paint = front + 0.3 * (third - front) * smooth(rng, rng.choice([2, 6, 20]))
    image = part * paint + (1 - part) * ground
    image += 0.02 * rng.normal(size=image.shape)
    return np.clip(image, 0, 1).astype(np.float32), part


def agreement(mask, part):
    return np.minimum(mask, part).sum() / np.maximum(mask, part).sum()


def test_subjects_of_generated_scenes_are_found():
    found = []
    for seed in range(8):
        image, part = scene(seed)
        selection = select_subject(image)
        assert selection.mask.shape == (*SHAPE, 1)
        found.append(agreement(selection.mask, part))
    assert np.mean(found) > 0.9
    assert min(found) > 0.7


def test_nothing_stands_out_of_one_colour():
    with pytest.raises(ValueError, match="no subject was found; draw a mask"):
        select_subject(np.full((*SHAPE, 3), 0.5, np.float32))


def test_a_mask_is_as_large_and_as_soft_as_the_picture():
    image, part = scene(4)
    large = np.asarray(pil.fromarray(np.uint8(image * 255)).resize((1280, 960)))
    mask = select_subject(np.float32(large) / 255).mask
    assert mask.shape == (960, 1280, 1)
    assert mask.min() == 0
    assert mask.max() == 1
    assert ((mask > 0.1) & (mask < 0.9)).any()
    small = mask.reshape(240, 4, 320, 4, 1).mean((1, 3))
    assert agreement(small, part) > 0.85


def sky_scene(forms=True):
    rng = np.random.default_rng(1)
    height = ROWS[..., None] / SHAPE[0]
    sky = [0.3, 0.5, 0.9] + height * np.array([0.5, 0.3, 0.0])
    hills = 0.55 + 0.1 * np.sin(COLUMNS[..., None] / 40)
    land = smooth(rng, 1) * [0.3, 0.5, 0.1] + [0.1, 0.1, 0.0]
    part = (height < hills) & ~(np.abs(COLUMNS[..., None] - 100) < 6)
    return np.float32(np.where(part, sky, land)), part.astype(float)


def test_a_sky_is_found_around_a_tower():
    image, part = sky_scene()
    found = select_sky(image)
    assert found.sure
    assert agreement(found.mask, part) > 0.9


@pytest.mark.parametrize("name", ["mosaic", "woodcut"])
def test_where_there_is_no_sky_none_is_found(name):
    with pytest.raises(ValueError, match="no sky was found"):
        select_sky(np.asarray(jaxnst.sample(name, 256))[-120:])


def test_a_box_holds_what_is_found():
    image, part = scene(8)
    rows, columns = np.where(part[..., 0] > 0.5)
    left, top = columns.min() - 8, rows.min() - 8
    wide, high = np.ptp(columns) + 16, np.ptp(rows) + 16
    found = select_box(image, [float(x) for x in (left, top, wide, high)])
    assert found.sure
    assert agreement(found.mask, part) > 0.85
    for box in ((-1, 0, 5, 5), (0, 0, 400, 5), (10, 10, 0.2, 5)):
        with pytest.raises(ValueError, match="expected a box inside"):
            select_box(image, list(map(float, box)))


def test_scribbles_choose_between_two_parts():
    image, _ = scene(0)
    image = np.full((*SHAPE, 3), 0.5, np.float32)
    image[60:180, 40:120], image[60:180, 200:280] = (0.8, 0.2, 0.2), (0.2, 0.2, 0.8)
    marks = np.zeros((2, *SHAPE, 1), np.float32)
    marks[0, 110:130, 70:90], marks[1, 110:130, 230:250] = 1, 1
    marks[1, :10] = 1
    mask = select_scribble(image, *marks).mask
    wanted = np.zeros((*SHAPE, 1))
    wanted[60:180, 40:120] = 1
    assert agreement(mask, wanted) > 0.9
    with pytest.raises(ValueError, match="no white stroke marks the part"):
        select_scribble(image, np.zeros((4, 4, 1)), marks[1])


@pytest.mark.parametrize("seed", range(4))
def test_rough_paint_finds_the_edge(seed):
    """It covers the part where the hand goes wrong by less than `INSIDE`."""
    image, wanted = scene(seed)
    part = wanted[..., 0] > 0.5
    if seed % 2:
        rough = binary_dilation(part, iterations=4)
    else:
        rough = binary_erosion(part, iterations=4)
    found = select_painted(image, rough[..., None].astype(np.float32))
    before = agreement(rough[..., None].astype(float), wanted)
    assert agreement(found.mask, wanted) > before + 0.05
    assert agreement(found.mask, wanted) > 0.9 or seed == 1  # a star with thin arms
    with pytest.raises(ValueError, match="nothing is painted over"):
        select_painted(image, np.zeros((4, 4, 1), np.float32))


@pytest.fixture
def photograph(elsewhere):
    pixels = np.uint8(255 * sky_scene()[0])
    pil.fromarray(pixels).save("photo.png")
    return elsewhere / "photo.png"


def test_the_command_writes_masks_and_loses_none(photograph, capsys):
    assert main(["mask", "photo.png", "--sky"]) == 0
    assert capsys.readouterr().out == "wrote photo-sky.png: 55% of photo.png\n"
    first = photograph.with_name("photo-sky.png").read_bytes()
    assert main(["mask", "photo.png", "--sky", "--quiet"]) == 0
    assert photograph.with_name("photo-sky.png").read_bytes() == first
    assert photograph.with_name("photo-sky-2.png").exists()
    pil.new("RGB", (32, 24), (127, 127, 127)).save("marks.png")
    assert main(["mask", "photo.png", "--scribble", "marks.png"]) == 2
    assert "hint" not in capsys.readouterr().out
    marks = pil.new("RGBA", (320, 240))
    marks.paste((255, 255, 255, 255), (150, 20, 200, 60))
    marks.paste((0, 0, 0, 255), (20, 200, 300, 230))
    marks.save("marks.png")
    assert main(["mask", "photo.png", "--scribble", "marks.png", "-o", "m.png"]) == 0
    assert agreement(load_mask("m.png"), sky_scene()[1]) > 0.9


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--box", "1,2,3"], "--box has 3 numbers"),
        (["--box", "0,0,9999,9"], "expected a box inside the picture"),
        (["-o", "no/where/m.png"], "no/where"),
        (["-o", "m.txt"], "m.txt"),
        (["-o", "photo.png"], "photo.png is an input, too"),
    ],
)
def test_a_mask_that_cannot_be_is_refused_in_a_line(photograph, capsys, flags, said):
    assert said in refused(["mask", "photo.png", *flags], capsys)
    assert list(photograph.parent.iterdir()) == [photograph]


def test_a_sky_is_painted_in_another_style_in_one_go(photograph, capsys):
    style, other = map(str, map(sample_path, ("swirls", "mosaic")))
    command = ["stylize", "photo.png", style, "--region", f"sky={other}"]
    command += ["-o", "painted.png", *QUICK]
    assert main([*command, "--dry-run"]) == 0
    assert not Path("photo-sky.png").exists()
    capsys.readouterr()
    assert main(command) == 0
    assert "wrote photo-sky.png, the mask of the sky" in capsys.readouterr().out
    manifest = json.loads(Path("painted.png.json").read_text())
    assert [x["mask"] for x in manifest["regions"]] == ["photo-sky.png"]
    pil.new("L", (32, 24), 255).save("photo-sky.png")  # corrected by hand
    Path("other").mkdir()
    pil.new("RGB", (64, 48), "red").save("other/two.png")
    missing = ["stylize", "other/two.png", style, "--region", f"subject={other}"]
    said = refused(missing, capsys)
    assert "other/two.png: no subject was found" in said
    assert main([*command, "--content-mask", "sky"]) == 0
    assert (load_mask("photo-sky.png") == 1).all()


def test_each_photograph_of_a_grid_has_a_sky_of_its_own(photograph, capsys):
    turned = pil.open("photo.png").transpose(pil.Transpose.FLIP_LEFT_RIGHT)
    turned.save("turned.png")
    style, other = map(str, map(sample_path, ("swirls", "mosaic")))
    command = ["grid", "--content", "photo.png", "turned.png", "--style", style]
    command += ["--region", f"sky={other}", "-o", "grid", *QUICK]
    assert main(command) == 0
    for name in ("photo", "turned"):
        (path,) = Path("grid").glob(f"{name}*.png.json")
        mask = json.loads(path.read_text())["regions"][0]["mask"]
        assert mask == f"../{name}-sky.png"
    masks = [load_mask(f"{name}-sky.png") for name in ("photo", "turned")]
    assert agreement(masks[0], masks[1][:, ::-1]) > 0.95


def test_the_masks_extra_is_named_where_it_is_missing(monkeypatch):
    import jaxnst.checks

    find = partial(lambda found, name: None if name == "cv2" else found(name))
    monkeypatch.setattr(
        jaxnst.checks, "find_spec", partial(find, jaxnst.checks.find_spec)
    )
    with pytest.raises(
        ValueError, match=r"needs the extra masks; pip install 'jaxnst\[masks\]'"
    ):
        select_subject(scene(0)[0])
