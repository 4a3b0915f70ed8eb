"""Label pictures: class numbers, soft edges, and what a compression leaves of them."""

import imagecodecs
import numpy as np
import png
import pytest
import tifffile
from PIL import Image as pil
from PIL import ImageDraw, ImageFilter

from jaxnst.painting.scene import Style
from jaxnst.request.labels import label_regions

SIDE = 96
STYLE = Style(np.full((SIDE, SIDE, 3), 0.5, np.float32))


def regions_of(content, style):
    return label_regions([content, style], [STYLE], (SIDE, SIDE, 3))


def numbers():
    """Classes 0, 1 and 2 in three bands."""
    return np.repeat(np.uint8([0, 1, 2]), SIDE // 3)[:, None].repeat(SIDE, 1)


def write_16_bits(path, image):
    with path.open("wb") as file:
        writer = png.Writer(SIDE, SIDE, greyscale=True, bitdepth=16)
        writer.write(file, np.asarray(image).tolist())


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16"])
def test_class_numbers_are_labels(tmp_path, mode):
    path, image = tmp_path / "a.png", pil.fromarray(numbers())
    if mode == "I;16":
        write_16_bits(path, image)
    elif mode == "P":
        image = pil.fromarray(numbers(), "L").convert("P")
        image.putpalette([0, 0, 0, 1, 1, 1, 2, 2, 2])
        image.save(path)
    else:
        image.convert(mode).save(path)
    regions = regions_of(path, path)
    assert len(regions) == 3
    for number, region in zip(range(3), sorted(regions, key=first_row), strict=True):
        np.testing.assert_array_equal(region.mask[..., 0], numbers() == number)


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.uint32, np.int32])
def test_class_numbers_of_deep_integers_are_exact(tmp_path, kind):
    ids = np.array([3, 1000, 1001])[numbers()].astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", ids, photometric="minisblack")
    write_16_bits(tmp_path / "b.png", ids)  # of another depth
    regions = regions_of(tmp_path / "a.tif", tmp_path / "b.png")
    assert sorted(map(first_row, regions)) == [0, SIDE // 3, 2 * SIDE // 3]
    tifffile.imwrite(tmp_path / "a.tif", np.uint32(ids) + 2**20)
    with pytest.raises(ValueError, match="expected 0 to 65535"):
        regions_of(tmp_path / "a.tif", tmp_path / "b.png")


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_labels_are_read_without_their_profile(tmp_path, suffix):
    profile = imagecodecs.cms_profile("adobergb")
    ids = np.repeat(np.uint8(np.arange(8)), SIDE // 8)[:, None].repeat(SIDE, 1)
    path = tmp_path / f"a.{suffix}"
    image = pil.fromarray(ids).convert("RGB")
    image.save(path, icc_profile=profile, lossless=True)
    assert len(regions_of(path, path)) == 8


def test_similar_labels_of_a_jpeg_are_told_apart(tmp_path):
    greys = np.repeat(np.uint8([0, 40, 80, 120]), SIDE // 4)[:, None].repeat(SIDE, 1)
    pil.fromarray(greys).save(tmp_path / "a.jpg", quality=90)
    assert len(regions_of(tmp_path / "a.jpg", tmp_path / "a.jpg")) == 4


def test_a_class_may_be_a_line(tmp_path):
    ids = numbers()
    ids[10:12] = 5
    pil.fromarray(ids).save(tmp_path / "a.png")
    assert len(regions_of(tmp_path / "a.png", tmp_path / "a.png")) == 4


def first_row(region):
    return int(np.argmax(region.mask[:, 0, 0]))


def test_a_class_that_only_one_side_has_is_refused(tmp_path):
    pil.fromarray(numbers()).save(tmp_path / "a.png")
    more = numbers()
    more[:20] = 3
    pil.fromarray(more).save(tmp_path / "b.png")
    for pair in ("ab", "ba"):
        with pytest.raises(ValueError, match="is not in|is in no map"):
            regions_of(*(tmp_path / f"{name}.png" for name in pair))


def test_class_numbers_that_a_compression_has_merged_are_refused(tmp_path):
    pil.fromarray(numbers()).save(tmp_path / "a.jpg")
    with pytest.raises(
        ValueError, match=r"2 to 64 plain colours.*got 1; save it as a PNG"
    ):
        regions_of(tmp_path / "a.jpg", tmp_path / "a.jpg")


def drawing(scale, blur=0):
    """A white disc on black, and elsewhere a grey square; soft edges by its scale."""
    image = pil.new("L", (SIDE * scale, SIDE * scale))
    draw = ImageDraw.Draw(image)
    draw.ellipse([x * scale for x in (8, 8, 48, 48)], fill=255)
    draw.rectangle([x * scale for x in (60, 60, 88, 88)], fill=128)
    image = image.resize((SIDE, SIDE), pil.Resampling.BOX)
    return image.filter(ImageFilter.GaussianBlur(blur))


@pytest.mark.parametrize("blur", [0, 1, 2])
@pytest.mark.parametrize(
    ("suffix", "quality"), [("png", 0), ("jpg", 75), ("jpg", 40), ("webp", 75)]
)
def test_an_edge_between_two_labels_is_one_of_them(tmp_path, suffix, quality, blur):
    path = tmp_path / f"a.{suffix}"
    drawing(4, blur).save(path, quality=quality)
    exact = np.asarray(drawing(1))
    found = np.zeros((SIDE, SIDE), int) - 1
    for region in regions_of(path, path):
        where = np.asarray(region.mask[..., 0]) > 0.5
        found[where] = np.bincount(exact[where]).argmax()
    assert set(np.unique(found)) == {0, 128, 255}
    assert not (found[:54, :54] == 128).any()
    assert not (found[56:, 56:] == 255).any()
    edge = np.asarray(drawing(1).filter(ImageFilter.FIND_EDGES)) > 0
    near = np.asarray(pil.fromarray(edge).convert("L").filter(ImageFilter.MaxFilter(5)))
    assert (found == exact)[near == 0].all()
