import contextlib
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import LIGHT, refused
from PIL import Image as pil
from studio_worker import MANIFEST

from jaxnst.command.cli import main
from jaxnst.command.records import FRAME, LAST, save_timelapse
from jaxnst.pictures.files import read_description
from jaxnst.pictures.samples import sample_path
from jaxnst.recipes import get_recipe
from jaxnst.recipes.texts import FIELDS
from jaxnst.request.manifest import check_manifest, recipe_of
from jaxnst.weights.format import sha256

QUICK = ["--size", "48", "--weights", "embedded", "--quiet", *LIGHT]


@pytest.fixture(autouse=True)
def pictures(elsewhere):
    """A folder with a content and a style."""
    for name, file in (("harbour", "a.jpg"), ("swirls", "b.jpg")):
        shutil.copy(sample_path(name), file)
    return elsewhere


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_is_painted_again_from_its_manifest(suffix, pictures):
    """From the file beside it, and from what travels in the picture itself."""
    Path("out").mkdir()
    first, second = f"out/x.{suffix}", f"y.{suffix}"
    flags = [*QUICK, "--steps", "3", "--recipe", "gatys2016", "--seed", "5"]
    assert main(["stylize", "a.jpg", "b.jpg", *flags, "-o", first]) == 0
    manifest = Path(f"{first}.json")
    assert str(pictures) not in manifest.read_text() + read_description(first)
    assert main(["again", str(manifest), "-o", second, "--quiet"]) == 0
    assert Path(second).read_bytes() == Path(first).read_bytes()
    manifest.unlink()
    shutil.move(first, f"moved.{suffix}")
    assert main(["again", f"moved.{suffix}", "-o", second, "--quiet"]) == 0
    assert json.loads(Path(f"{second}.json").read_text())["seed"] == 5


def test_blends_start_images_and_repainted_runs_come_back(pictures):
    flags = ["--size", "32", "--set", "first_steps=2", "--blend", "1,2"]
    flags += ["--init", "b.jpg", "-o", "x.png"]
    assert main(["stylize", "a.jpg", "b.jpg", "a.jpg", *QUICK, *flags]) == 0
    assert main(["again", "x.png", "--quiet"]) == 0
    assert Path("x-again.png").read_bytes() == Path("x.png").read_bytes()


def test_pictures_that_moved_are_named_anew_and_others_refused(pictures, capsys):
    flags = [*QUICK, "--steps", "1", "--recipe", "udacity", "--size", "32"]
    assert main(["stylize", "a.jpg", "b.jpg", *flags, "-o", "x.png"]) == 0
    Path("deep/er").mkdir(parents=True)
    shutil.move("a.jpg", "deep/er/elsewhere.jpg")
    assert "pass --look-in FOLDER" in refused(["again", "x.png", "--quiet"], capsys)
    shutil.copy("b.jpg", "a.jpg")
    said = refused(["again", "x.png", "--quiet"], capsys)
    assert "a.jpg has changed" in said
    moved = ["--look-in", "deep", "--quiet"]
    said = refused(["again", "x.png", *moved, "-o", "x.png"], capsys)
    assert "would overwrite x.png" in said
    assert main(["again", "x.png", *moved, "-o", "y.png"]) == 0
    assert Path("x.png").read_bytes()[-99:] == Path("y.png").read_bytes()[-99:]


STRANGE = [5.5, [], {"a": 1}, [["\0"]], "\ud800", True, 10**400, None, [[1, 2]]]
"""Values that no field of a manifest has; some have one or two of them."""


@pytest.mark.parametrize("key", [*MANIFEST, "regions", "palette", "tiles", "seconds"])
def test_a_manifest_that_was_changed_is_refused_in_one_line(key, pictures, capsys):
    hashes = [sha256(Path("a.jpg")), sha256(Path("b.jpg"))]
    whole = MANIFEST | {"content": "a.jpg", "styles": [{"path": "b.jpg"}]}
    whole |= {"pictures_sha256": hashes, "weights_sha256": "0"}
    changed = [whole | {key: value} for value in STRANGE]
    changed += [whole | {key: [{"path": value}]} for value in STRANGE]
    for manifest in changed:
        Path("x.json").write_text(json.dumps(manifest))
        refused(["again", "x.json"], capsys)  # if not for that, for its weights


@pytest.mark.parametrize("field", FIELDS)
def test_a_recipe_that_was_changed_is_refused(field):
    recipe = json.loads(json.dumps(get_recipe("painterly").values()))
    assert recipe_of(recipe) == get_recipe("painterly")
    for value in STRANGE:
        with contextlib.suppress(ValueError):
            recipe_of(recipe | {field: value})
    with pytest.raises(ValueError, match="expected"):
        recipe_of(recipe | {field: [["\0"]]})


def test_a_recipe_that_lacks_a_field_is_refused():
    recipe = dict(MANIFEST["recipe"])
    del recipe["tv_weight"]
    with pytest.raises(ValueError, match="got no tv_weight"):
        check_manifest(MANIFEST | {"recipe": recipe}, "x.json")


@pytest.mark.parametrize("data", [b"[" * 10**6, b"\xff\xfe", b'{"seed": NaN}'])
def test_a_manifest_that_is_no_json_is_refused_in_one_line(data, pictures, capsys):
    (pictures / "a.jpg.json").write_bytes(data)
    assert "expected JSON" in refused(["again", "a.jpg"], capsys)


@pytest.mark.parametrize(
    "name", ["a.jpg", "none.png", "text.json", "list.json", "other.json"]
)
def test_what_holds_no_manifest_is_refused_in_one_line(name, pictures, capsys):
    (pictures / "text.json").write_text("no JSON")
    (pictures / "list.json").write_text("[1]")
    other = dict.fromkeys(MANIFEST, []) | {"recipe": {"units": [1]}}
    (pictures / "other.json").write_text(json.dumps(other))
    refused(["again", name], capsys)


def test_records_of_a_run(pictures):
    flags = [*QUICK, "--set", "first_steps=8", "--set", "min_size=30"]
    records = ["--trace", "t.jsonl", "--plot", "p.svg", "--timelapse", "l.webp"]
    flags += ["--recipe", "delicate", "-o", "x.png", *records, "--set", "steps=4"]
    assert main(["stylize", "a.jpg", "b.jpg", *flags]) == 0
    lines = [json.loads(line) for line in Path("t.jsonl").read_text().splitlines()]
    places = [(x["scale"], x["step"]) for x in lines]
    assert places == sorted(set(places))  # a slow machine has more, shorter launches
    assert {(0, 1), (0, 4), (0, 8), (1, 1), (1, 4)} <= set(places)
    for line in lines:
        assert line["loss"] > 0
        assert line["memory"] > 1e8
        assert {"content", "style", "tv", "seconds", "size"} < line.keys()
    assert "<svg" in Path("p.svg").read_text()
    with pil.open("l.webp") as film:
        assert (film.n_frames, film.size) == (len(lines), (48, 36))


@pytest.mark.parametrize("size", [(48, 36), (47, 35)])
def test_a_film_has_all_pictures_and_lingers_at_the_last(size, tmp_path):
    levels = [0, 60, 120]
    frames = [np.full((size[1], size[0], 3), x, np.uint8) for x in levels]
    save_timelapse(tmp_path / "a.mp4", frames)
    with av.open(tmp_path / "a.mp4") as film:
        shown = [x.to_ndarray(format="rgb24") for x in film.decode(video=0)]
        assert film.duration == pytest.approx(1e3 * (2 * FRAME + LAST), rel=0.01)
    assert shown[0].shape == (size[1] // 2 * 2, size[0] // 2 * 2, 3)
    assert [x.mean() for x in shown[:3]] == pytest.approx(levels, abs=3)


def test_records_that_cannot_be_kept_are_refused_before(pictures, capsys):
    for flag, name in (("--timelapse", "a.avi"), ("--plot", "a.txt")):
        argv = ["stylize", "a.jpg", "b.jpg", *QUICK, flag, name]
        assert "has an unknown ending" in refused(argv, capsys)
