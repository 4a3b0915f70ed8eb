"""Faces of photographs: found, held, and written down."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import LIGHT
from PIL import Image as pil
from skimage import data
from studio_worker import MANIFEST

from jaxnst.command.cli import main, make_parser
from jaxnst.command.flags import painting_from
from jaxnst.pictures.samples import sample_path
from jaxnst.recipes import get_recipe
from jaxnst.request.expand import lanes_of
from jaxnst.request.faces import FACE, face_strength, find_faces, with_faces
from jaxnst.request.manifest import as_json, check_manifest, painting_of, read_manifest
from jaxnst.request.painting import Painting, StyleFile
from jaxnst.request.read import mask_count, read_masks
from jaxnst.request.terminal import as_command

BOX = 0.1, 0.3, 0.2, 0.25
QUICK = ["--size", "48", "--steps", "1", "--weights", "embedded", *LIGHT]


@pytest.fixture
def astronaut(elsewhere):
    """A folder with a photograph of a face, and a style."""
    pil.fromarray(data.astronaut()).save("astronaut.png")
    Path("swirls.jpg").write_bytes(sample_path("swirls").read_bytes())
    return Path("astronaut.png")


def ask(content, **changes):
    style = StyleFile(path=sample_path("swirls"))
    given = {"content": content, "styles": (style,), "recipe": get_recipe("painterly")}
    return Painting(**given | changes)


def test_a_face_is_found_and_a_harbour_has_none(astronaut):
    nose = 122 / 512, 222 / 512
    hits = [
        0 < nose[0] - y < h and 0 < nose[1] - x < w
        for y, x, h, w in find_faces(astronaut)
    ]
    assert sum(hits) == 1
    assert find_faces(sample_path("harbour")) == ()


def test_only_what_the_mirror_image_has_too_is_a_face_and_each_is_one(
    tmp_path, monkeypatch
):
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, 100:] = 255
    pil.fromarray(pixels).save(tmp_path / "a.png")
    seen = [(10, 20, 40), (14, 26, 30), (50, 150, 30)]
    in_mirror = [(12, 200 - 22 - 38, 38)]

    class Cascade:
        def __init__(self, path):
            pass

        def detect_multi_scale(self, img, **options):
            found = seen if img[0, 0, 0] == 0 else in_mirror
            return [{"r": r, "c": c, "height": s, "width": s} for r, c, s in found]

    monkeypatch.setattr("skimage.feature.Cascade", Cascade)
    assert find_faces(tmp_path / "a.png") == ((0.1, 0.1, 0.4, 0.2),)


def test_without_the_extra_nothing_is_found(astronaut, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    painting = with_faces(ask(astronaut))
    assert painting.faces == ()
    assert not painting.masked
    assert read_masks(painting, [], None, (48, 48, 3)).content_strength is None


def test_only_recipes_that_repaint_look_for_faces(astronaut):
    assert with_faces(ask(astronaut)).faces
    assert with_faces(ask(astronaut, recipe=get_recipe("crowson"))).faces == ()
    assert with_faces(ask(astronaut, faces=(BOX,))).faces == (BOX,)


def test_a_face_is_held_and_the_rest_as_ever():
    strength = face_strength((BOX,), (100, 200, 3))
    assert strength.shape == (100, 200, 1)
    assert strength[20, 85] == strength.max() == FACE
    assert strength[45, 85] == strength[20, 150] == strength.min() == 1
    assert 1 < strength[33, 85] < FACE


def test_faces_hold_beside_a_content_mask(tmp_path):
    pil.new("L", (10, 5), 51).save(tmp_path / "m.png")
    painting = ask(Path("a.png"), faces=(BOX,), content_mask=tmp_path / "m.png")
    assert mask_count(painting) == mask_count(replace(painting, faces=())) == 1
    strength = read_masks(painting, [], None, (100, 200, 3)).content_strength
    expected = np.maximum(1 + 3 * 0.2, face_strength((BOX,), (100, 200)))
    np.testing.assert_allclose(strength, expected, rtol=1e-6)


def test_photographs_without_faces_share_batches():
    plain = ask(sample_path("harbour"), size=48)
    lanes = lanes_of([replace(plain, faces=x) for x in ((), (BOX,))])
    assert lanes[0].parts is None
    assert lanes[1].parts is not None
    assert [mask_count(replace(plain, faces=x)) for x in ((), (BOX,))] == [0, 1]


@pytest.mark.parametrize("faces", [None, (), (BOX,)])
def test_faces_are_written_down(faces):
    painting = ask(Path("a.png"), faces=faces)
    assert painting_of(json.loads(json.dumps(as_json(painting)))) == painting
    command = as_command(painting, Path("o.png"))
    assert ("--no-faces" in command) == (faces == ())
    args = make_parser().parse_args(command)
    asked = painting_from(args, args.content, args.style[0]).faces
    assert asked == (() if faces == () else None)


def test_a_manifest_from_before_faces_were_held_has_none():
    assert check_manifest(MANIFEST, "x.json").painting.faces == ()
    known = MANIFEST | {"faces": [list(BOX)]}
    assert check_manifest(known, "x.json").painting.faces == (BOX,)
    with pytest.raises(ValueError, match="faces"):
        check_manifest(MANIFEST | {"faces": [[0, 0, 2, 1]]}, "x.json")


def test_a_portrait_is_painted_and_painted_again(astronaut, capsys, monkeypatch):
    given = ["stylize", "astronaut.png", "swirls.jpg", *QUICK]
    assert main([*given, "-o", "x.png"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    faces = read_manifest(Path("x.png.json")).painting.faces
    assert faces == find_faces(astronaut)
    assert f"{len(faces)} faces preserved (--no-faces)" in first
    assert main([*given, "-o", "free.png", "--no-faces"]) == 0
    assert "preserved" not in capsys.readouterr().out
    assert read_manifest(Path("free.png.json")).painting.faces == ()
    x, free = (np.asarray(pil.open(name)) for name in ("x.png", "free.png"))
    assert (x != free).any()
    # What was found is known, where nothing can look for it.
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    assert main(["again", "x.png", "-o", "y.png", "--quiet"]) == 0
    assert Path("y.png").read_bytes() == Path("x.png").read_bytes()
