import io
import logging
import os
import struct
import zlib

import imagecodecs
import numpy as np
import png
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as pil
from PIL import ImageCms, PngImagePlugin

from jaxnst import disk
from jaxnst.pictures import files, samples, source
from jaxnst.pictures.files import load_image, save_image
from jaxnst.pictures.geometry import fit_shape

sides = st.integers(1, 20_000)


@given(sides, sides, st.integers(1, 5000))
def test_fit_shape_has_the_long_edge_asked_for_and_the_aspect_ratio(h, w, size):
    height, width = fit_shape((h, w), size)
    assert max(height, width) == size
    assert min(height, width) >= 1
    if min(height, width) > 1:
        assert abs(height * w - width * h) <= max(h, w)


def picture(height=20, width=30):
    rng = np.random.default_rng(0)
    return np.uint8(rng.integers(0, 256, (height, width, 3)))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".JPEG"])
def test_a_saved_picture_comes_back(tmp_path, suffix):
    smooth = np.linspace(0, 1, 40 * 30 * 3, dtype=np.float32).reshape(40, 30, 3)
    save_image(tmp_path / f"a{suffix}", smooth)
    back = load_image(tmp_path / f"a{suffix}")
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, smooth, atol=0.003 if suffix == ".png" else 0.08)
    with pil.open(tmp_path / f"a{suffix}") as file:
        assert "icc_profile" in file.info
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
def test_sixteen_bits_keep_what_eight_would_round_away(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    levels = np.linspace(0, 1, 300 * 290 * 3, dtype=np.float32).reshape(300, 290, 3)
    save_image(path, levels, bits=16)
    if suffix == ".png":
        rows = png.Reader(bytes=path.read_bytes()).asDirect()[2]
        back = np.vstack([np.asarray(row) for row in rows]).reshape(levels.shape)
    else:
        back = tifffile.imread(path)
    assert back.dtype == np.uint16
    np.testing.assert_allclose(back / 65535, levels, atol=0.51 / 65535)
    np.testing.assert_allclose(load_image(path), levels, atol=0.51 / 65535)


@pytest.mark.parametrize(
    ("suffix", "bits"),
    [(".png", 8), (".tif", 8), (".jpg", 8), (".webp", 8), (".png", 16), (".tif", 16)],
)
def test_a_picture_carries_a_description(tmp_path, suffix, bits):
    path, text = tmp_path / f"a{suffix}", '{"seed": 3, "name": "\\u00e9"}'
    save_image(path, np.zeros((4, 6, 3)), bits=bits, description=text)
    assert files.read_description(path) == text
    save_image(path, np.zeros((4, 6, 3)), bits=bits)
    assert files.read_description(path) == ""


def test_a_tiff_has_tiles_and_a_profile_and_is_the_same_file_each_time(tmp_path):
    pixels = np.float32(picture(300, 500)) / 255
    for name in "ab":
        save_image(tmp_path / f"{name}.tif", pixels)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].is_tiled
    with pil.open(tmp_path / "a.tif") as file:
        assert "icc_profile" in file.info
    np.testing.assert_allclose(load_image(tmp_path / "a.tif"), pixels, atol=1e-6)


def test_sixteen_bits_where_there_are_eight_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot have 16 bits per channel"):
        save_image(tmp_path / "a.jpg", np.zeros((4, 4, 3), np.float32), bits=16)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_may_fill_the_memory_is_refused_unless_it_is_trusted(
    tmp_path, monkeypatch, recwarn
):
    pil.fromarray(picture(100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(pil, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ValueError, match=r"10000 pixels.*pass --allow-huge"):
        load_image(tmp_path / "a.png")
    with files.any_number_of_pixels():
        assert load_image(tmp_path / "a.png").shape == (100, 100, 3)
    with pytest.raises(ValueError, match="allow-huge"):
        files.image_shape(tmp_path / "a.png")
    monkeypatch.setattr(pil, "MAX_IMAGE_PIXELS", 6000)  # only warned of
    assert load_image(tmp_path / "a.png").shape == (100, 100, 3)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


def test_png_keeps_every_level_and_clips(tmp_path):
    levels = np.tile(np.arange(256, dtype=np.float32)[None, :, None] / 255, (1, 1, 3))
    save_image(tmp_path / "a.png", np.concatenate([levels, levels + 2, levels - 2]))
    back = np.asarray(load_image(tmp_path / "a.png"))
    np.testing.assert_array_equal(back[0], levels[0])
    assert (back[1] == 1).all()
    assert (back[2] == 0).all()


LYING = pil.Exif()
LYING[0x0112] = 6
"""Of a picture that is stored lying on its side."""


@pytest.mark.parametrize("behind", [False, True])
def test_a_png_is_turned_upright_by_what_stands_before_or_behind_its_pixels(
    tmp_path, behind
):
    path, pixels = tmp_path / "a.png", picture()
    pil.fromarray(pixels).save(path, exif=LYING)
    if behind:
        data = path.read_bytes()
        at = data.index(b"eXIf") - 4
        end = at + 12 + int.from_bytes(data[at : at + 4])
        path.write_bytes(data[:at] + data[end:-12] + data[at:end] + data[-12:])
    assert files.image_shape(path) == (30, 20)
    found = load_image(path) * 255
    np.testing.assert_allclose(found, np.rot90(pixels, -1), atol=1e-3)


def test_the_shape_of_a_png_needs_none_of_its_pixels(tmp_path, monkeypatch):
    pil.fromarray(picture(20, 30)).save(tmp_path / "a.png")
    decoded = []
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decoded.append)
    assert files.image_shape(tmp_path / "a.png") == (20, 30)
    assert not decoded


@pytest.mark.parametrize("size", [None, 30, 12])
@pytest.mark.parametrize("suffix", ["tif", "jpg", "webp"])
def test_a_picture_that_lies_on_its_side_has_its_upright_shape(tmp_path, suffix, size):
    pil.fromarray(picture(20, 30)).save(tmp_path / f"a.{suffix}", exif=LYING)
    assert files.image_shape(tmp_path / f"a.{suffix}") == (30, 20)
    loaded = load_image(tmp_path / f"a.{suffix}", size=size, enlarge=True)
    assert loaded.shape == (size or 30, (size or 30) * 2 // 3, 3)


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.dstack([picture(), np.zeros((20, 30), np.uint8)])
    rgba[:10, :, 3] = 255
    pil.fromarray(rgba).save(tmp_path / "a.png")
    loaded = np.asarray(load_image(tmp_path / "a.png"))
    assert (loaded[10:] == 1).all()
    np.testing.assert_allclose(loaded[:10] * 255, rgba[:10, :, :3], atol=1e-3)


def test_sixteen_bit_grey_may_have_a_profile_of_rgb(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = pil.fromarray(np.full((4, 4), 30_000, np.uint16))
    grey.save(tmp_path / "b.tif", icc_profile=profile)
    np.testing.assert_allclose(
        load_image(tmp_path / "b.tif"), 30_000 / 65535, atol=2e-4
    )


@pytest.mark.parametrize("top", [255.0, 1.5, -1.0, np.nan])
def test_floats_beyond_0_to_1_are_refused(tmp_path, top):
    grey = np.linspace(0, 0.9, 600, dtype=np.float32).reshape(20, 30)
    tifffile.imwrite(tmp_path / "a.tif", grey)
    np.testing.assert_allclose(load_image(tmp_path / "a.tif")[..., 1], grey, atol=1e-6)
    grey[3, 4] = top
    tifffile.imwrite(tmp_path / "a.tif", grey)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        load_image(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA"])
def test_other_modes_become_rgb(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    pil.fromarray(picture()).convert(mode).save(tmp_path / f"a.{suffix}")
    assert load_image(tmp_path / f"a.{suffix}").shape == (20, 30, 3)


DEEP = np.linspace(0, 1, 600 * 3, dtype=np.float32).reshape(20, 30, 3)
HALF = np.full((20, 30, 1), 0.5, np.float32)
TIFFS = {
    "planes of 8 bits": (
        np.uint8(DEEP * 255).transpose(2, 0, 1),
        {"planarconfig": "separate"},
        DEEP,
    ),
    "grey of 32 bits": (np.uint32(DEEP[..., 0] * (2.0**32 - 1)), {}, DEEP[..., :1]),
    "white is 0": (
        np.uint16(65535 - DEEP[..., 0] * 65535),
        {"photometric": "miniswhite"},
        DEEP[..., :1],
    ),
    "12 bits in 16": (
        np.uint16(DEEP * 4095),
        {"extratags": [(281, "H", 3, (4095,) * 3)]},
        DEEP,
    ),
    "alpha multiplied in": (
        np.uint16(np.concatenate([DEEP * HALF, HALF], -1) * 65535),
        {"extrasamples": ["assocalpha"]},
        0.5 * DEEP + 0.5,
    ),
    "grey and alpha": (
        np.uint16(np.concatenate([DEEP[..., :1], HALF], -1) * 65535),
        {"extrasamples": ["unassalpha"], "planarconfig": "contig"},
        0.5 * DEEP[..., :1] + 0.5,
    ),
}


@pytest.mark.parametrize("name", TIFFS)
def test_tiffs_of_every_kind_have_the_right_pixels(tmp_path, name):
    pixels, options, expected = TIFFS[name]
    grey = expected.shape[2] == 1
    options = {"photometric": "minisblack" if grey else "rgb"} | options
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    found = load_image(tmp_path / "a.tif")
    np.testing.assert_allclose(
        found, np.broadcast_to(expected, (20, 30, 3)), atol=0.006
    )


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", ["separated", "cielab"])
def test_planes_that_are_not_rgb_are_refused(tmp_path, kind, photometric):
    planes = np.zeros((4 if photometric == "separated" else 3, 20, 30), kind)
    options = {"photometric": photometric, "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "a.tif", planes, **options)
    with pytest.raises(ValueError, match="separate planes") as caught:
        load_image(tmp_path / "a.tif")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_cmyk_of_sixteen_bits_has_the_right_colours(tmp_path, order):
    ink = np.zeros((20, 30, 4), np.uint16)
    ink[:, :10, 0], ink[:, 10:20, 1], ink[:, 20:, 3] = 65535, 65535, 32768
    options = {"photometric": "separated", "byteorder": order}
    tifffile.imwrite(tmp_path / "a.tif", ink, **options)
    found = np.asarray(load_image(tmp_path / "a.tif"))[10, 5::10]
    wanted = [[0, 1, 1], [1, 0, 1], [0.5, 0.5, 0.5]]
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_a_thumbnail_is_not_the_picture(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(picture(4, 6), subfiletype=1, photometric="rgb")
        file.write(picture(20, 30), photometric="rgb")
    np.testing.assert_allclose(load_image(tmp_path / "a.tif") * 255, picture(), atol=1)
    assert files.image_shape(tmp_path / "a.tif") == (20, 30)


def test_what_people_have_and_cannot_be_read_is_called_by_its_name(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(picture(4, 6), subfiletype=1, photometric="rgb", subifds=1)
        sensor = np.zeros((20, 30), np.uint16)
        file.write(
            sensor,
            photometric=32803,
            subfiletype=0,
            extratags=[(33421, "H", 2, (2, 2)), (33422, "B", 4, (0, 1, 1, 2))],
        )
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" * 40)
    (tmp_path / "a.nef").write_bytes(b"no picture")
    for name, message in {
        "a.tif": "raw data",
        "a.nef": "raw data",
        "a.jxl": "JPEG XL",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_image(tmp_path / name)
    assert {x.name for x in filter(files.is_picture, tmp_path.iterdir())} == {
        "a.tif",
        "a.jxl",
        "a.nef",
    }


def test_exif_that_is_no_exif_is_ignored(tmp_path):
    pil.fromarray(picture()).save(tmp_path / "a.png", exif=b"garbage!" * 8)
    np.testing.assert_allclose(load_image(tmp_path / "a.png") * 255, picture(), atol=1)


def test_a_jpeg_that_lacks_only_its_end_is_read(tmp_path):
    smooth = np.kron(picture(4, 6), np.ones((20, 20, 1), np.uint8))
    pil.fromarray(smooth).save(tmp_path / "a.jpg")
    whole, data = load_image(tmp_path / "a.jpg"), (tmp_path / "a.jpg").read_bytes()
    for cut in (1, 2):
        (tmp_path / "b.jpg").write_bytes(data[:-cut])
        np.testing.assert_array_equal(load_image(tmp_path / "b.jpg"), whole)
    for cut in (40, len(data) // 3):
        (tmp_path / "b.jpg").write_bytes(data[:-cut])
        with pytest.raises(ValueError, match="truncated"):
            load_image(tmp_path / "b.jpg")


def test_a_gamma_is_applied_unless_a_profile_says_more(tmp_path):
    writer = png.Writer(3, 1, greyscale=True, gamma=1.0)
    with (tmp_path / "a.png").open("wb") as file:
        writer.write(file, [[0, 55, 255]])
    found = load_image(tmp_path / "a.png")[0, :, 0]
    np.testing.assert_allclose(found, [0, 0.501, 1], atol=0.004)


WIDE = {
    "p3": (12, (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    "bt2020": (9, (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
}


def to_xyz(primaries):
    """From linear RGB of some primaries, red, green and blue, to XYZ; white is D65."""
    full = lambda x, y: np.array([x, y, 1 - x - y])
    columns = np.stack([full(*primaries[i : i + 2]) for i in (0, 2, 4)], axis=1)
    white = full(0.3127, 0.3290) / 0.3290
    return columns * np.linalg.solve(columns, white)


def write_png(path, levels, *chunks):
    """A PNG of 8 or 16 bits with further chunks before its pixels."""
    bits = levels.dtype.itemsize * 8
    rows = levels.reshape(len(levels), -1).tolist()
    writer = png.Writer(levels.shape[1], len(levels), greyscale=False, bitdepth=bits)
    with io.BytesIO() as plain:
        writer.write(plain, rows)
        first, *rest = png.Reader(bytes=plain.getvalue()).chunks()
    with path.open("wb") as file:
        png.write_chunks(file, [first, *chunks, *rest])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("chunks", ["cICP", "cHRM"])
def test_a_png_may_state_its_gamut_by_numbers(tmp_path, chunks, name, kind):
    code, primaries = WIDE[name]
    numbers = np.random.default_rng(0).uniform(0.3, 0.7, (9, 9, 3))
    levels = np.rint(numbers * np.iinfo(kind).max).astype(kind)
    if chunks == "cICP":
        stated = [(b"cICP", bytes([code, 13, 0, 1])), (b"sRGB", b"\0")]
        light = ((numbers + 0.055) / 1.055) ** 2.4
    else:
        white = (0.3127, 0.3290)
        values = [round(x * 100_000) for x in (*white, *primaries)]
        stated = [(b"gAMA", struct.pack(">I", 50_000))]
        stated += [(b"cHRM", struct.pack(">8I", *values))]
        light = numbers**2
    write_png(tmp_path / "a.png", levels, *stated)
    srgb = np.array([0.64, 0.33, 0.30, 0.60, 0.15, 0.06])
    light = light @ (np.linalg.inv(to_xyz(srgb)) @ to_xyz(primaries)).T
    wanted = np.where(
        light > 0.0031308, 1.055 * np.maximum(light, 0.001) ** (1 / 2.4) - 0.055, 0
    )
    found, inside = load_image(tmp_path / "a.png"), light > 0.05
    assert np.abs(wanted - numbers).max() > 0.1
    np.testing.assert_allclose(found[inside], wanted[inside], atol=0.008)
    assert np.abs(load_image(tmp_path / "a.png") - numbers).max() > 0.1
    np.testing.assert_allclose(
        files.load_numbers(tmp_path / "a.png"), numbers, atol=0.003
    )


@pytest.mark.parametrize("transfer", [16, 18])
def test_a_png_of_hdr_is_refused(tmp_path, transfer):
    levels = np.zeros((4, 4, 3), np.uint16)
    write_png(tmp_path / "a.png", levels, (b"cICP", bytes([9, transfer, 0, 1])))
    with pytest.raises(ValueError, match="HDR") as caught:
        load_image(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def linear_profile(kind):
    """A colour profile of linear light: `gray`, or `rgb` with sRGB's primaries."""
    white, srgb = (0.3127, 0.3290), (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
    options = {"whitepoint": white, "primaries": srgb} if kind == "rgb" else {}
    return imagecodecs.cms_profile(kind, gamma=1.0, **options)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_profile_of_grey_is_applied(tmp_path, mode):
    """Half the light is 188 of 255."""
    grey = pil.new(mode, (4, 4), 128 if mode == "L" else (128, 255))
    grey.save(tmp_path / "a.png", icc_profile=linear_profile("gray"))
    np.testing.assert_allclose(load_image(tmp_path / "a.png"), 0.737, atol=0.01)


def test_a_png_of_sixteen_bits_says_which_colours_it_means(tmp_path):
    save_image(tmp_path / "a.png", DEEP, bits=16)
    with pil.open(tmp_path / "a.png") as file:
        assert file.info["icc_profile"] == source.srgb_profile()


def test_size_shrinks_and_enlarges_only_when_asked(tmp_path):
    pil.fromarray(picture(600, 900)).save(tmp_path / "a.jpg")
    assert load_image(tmp_path / "a.jpg", size=90).shape == (60, 90, 3)
    assert load_image(tmp_path / "a.jpg", size=1800).shape == (600, 900, 3)
    assert load_image(tmp_path / "a.jpg", size=1800, enlarge=True).shape[1] == 1800


@pytest.mark.parametrize(("suffix", "edge"), [("webp", 16_384), ("jpg", 65_501)])
def test_formats_that_end_at_a_size_are_refused_before(tmp_path, suffix, edge):
    path = tmp_path / f"a.{suffix}"
    with pytest.raises(ValueError, match=rf"expected at most {edge - 1} px .* a \.tif"):
        save_image(path, np.zeros((1, edge, 3), np.float32))
    save_image(path, np.zeros((1, edge - 1, 3), np.float32))
    assert path.exists()


def test_unwritable_targets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        save_image(tmp_path / "a" / "b" / "a.png", np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="end the name in .png"):
        save_image(tmp_path / "a.bmp", np.zeros((4, 4, 3), np.float32))


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_samples_are_there(name):
    assert samples.sample(name, size=64).shape == (48, 64, 3)


RAMP = np.linspace(0.40, 0.45, 256)
"""What 8 bits show in 14 levels."""


def write_ramp(path, channels, kind, profile=None):
    """A ramp of 16 bits or floats: grey or RGB, opaque alpha where there are 2 or 4."""
    colors = channels - 1 + channels % 2
    pixels = np.ones((8, 256, channels))
    pixels[..., :colors] = RAMP[:, None]
    levels = np.uint16(pixels * 65535 + 0.5)
    if path.suffix == ".png":
        writer = png.Writer(
            *(256, 8),
            greyscale=colors == 1,
            alpha=channels % 2 == 0,
            bitdepth=16,
            interlace=kind == "interlaced",
        )
        with path.open("wb") as file:
            writer.write(file, levels.reshape(8, -1).tolist())
        if profile is not None:  # after the header
            data, name = path.read_bytes(), b"linear\0\0"
            with path.open("wb") as file:
                file.write(data[:33])
                png.write_chunk(file, b"iCCP", name + zlib.compress(profile))
                file.write(data[33:])
        return
    values = np.float32(pixels) if kind == "floats" else levels
    values = values[..., 0] if channels == 1 else values
    tifffile.imwrite(
        path,
        np.moveaxis(values, -1, 0) if kind == "separate" and channels > 1 else values,
        photometric="rgb" if colors == 3 else "minisblack",
        planarconfig="separate" if kind == "separate" else "contig",
        compression=kind if kind in ("lzw", "deflate", "zstd", "packbits") else None,
        predictor=kind in ("lzw", "deflate"),
        extrasamples=["unassalpha"] * (1 - channels % 2),
        iccprofile=profile,
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        *((".png", x) for x in ("plain", "interlaced")),
        *((".tif", x) for x in ("plain", "lzw", "deflate", "zstd", "packbits")),
        *((".tif", x) for x in ("separate", "floats")),
    ],
)
def test_all_bits_of_a_picture_are_read(tmp_path, suffix, kind, channels):
    path = tmp_path / f"a{suffix}"
    write_ramp(path, channels, kind)
    for image in (load_image(path), files.load_cutout(path).image):
        assert image.shape == (8, 256, 3)
        np.testing.assert_allclose(image[3], np.tile(RAMP[:, None], 3), atol=1e-5)
    assert len(np.unique(load_image(path, size=512, enlarge=True)[3, :, 1])) > 500
    with files.open_source(path) as source:
        assert source.bits == (32 if kind == "floats" else 16)
    assert files.has_alpha(path) == (channels % 2 == 0)
    np.testing.assert_allclose(files.load_mask(path)[3, :, 0], RAMP, atol=1e-5)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_all_bits_are_read_through_a_profile(tmp_path, suffix, channels):
    path = tmp_path / f"a{suffix}"
    write_ramp(
        path, channels, "plain", linear_profile("rgb" if channels > 2 else "gray")
    )
    curve = 1.055 * RAMP ** (1 / 2.4) - 0.055
    found = load_image(path)[3]
    np.testing.assert_allclose(found, np.tile(curve[:, None], 3), atol=2e-3)
    assert len(np.unique(found[:, 0])) >= 250


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_as_others_are(tmp_path, orientation):
    exif = pil.Exif()
    exif[0x0112] = orientation
    pil.fromarray(picture()).save(tmp_path / "a.tif", exif=exif)
    tags = [(274, "H", 1, orientation)]
    deep = np.uint16(picture()) * 257
    tifffile.imwrite(tmp_path / "b.tif", deep, photometric="rgb", extratags=tags)
    shallow, deep = (tmp_path / x for x in ("a.tif", "b.tif"))
    assert files.image_shape(shallow) == files.image_shape(deep)
    np.testing.assert_allclose(load_image(shallow), load_image(deep), atol=1e-6)
    small, other = (load_image(x, size=12) for x in (shallow, deep))
    np.testing.assert_allclose(small, other, atol=1.01 / 255)


def test_clear_parts_of_deep_pictures_lend_no_colour_to_others(tmp_path):
    rgba = np.zeros((40, 40, 4), np.uint16)
    rgba[:20] = 65535, 0, 0, 65535  # red, and below it black that is not seen
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=[2])
    image, alpha = files.load_cutout(tmp_path / "a.tif", size=10)
    np.testing.assert_allclose(image, np.full((10, 10, 3), [1, 0, 0]), atol=1e-4)
    assert alpha[0, 0, 0] == 1
    assert alpha[-1, 0, 0] == 0


POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"
)


@pytest.mark.parametrize("suffix", ["jpg", "png", "eps", "tif", "webp", ""])
@pytest.mark.parametrize("start", [b"", b"\xc5\xd0\xd3\xc6" + bytes(26)])
def test_no_picture_starts_a_program(tmp_path, monkeypatch, suffix, start):
    started = tmp_path / "started"
    for name in ("gs", "gswin64c", "gswin32c"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ntouch {started}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    path = tmp_path / f"a.{suffix}".rstrip(".")
    path.write_bytes(start + POSTSCRIPT)
    for read in (load_image, files.load_cutout, files.load_mask, files.image_shape):
        with pytest.raises(ValueError, match="Postscript; save it as one of PNG"):
            read(path)
    assert files.is_picture(path) == (suffix not in ("eps", ""))
    assert not started.exists()


@pytest.mark.parametrize("kind", ["PCX", "SGI", "TGA", "ICO", "DDS", "PDF", "XBM"])
def test_only_formats_that_are_named_are_opened(tmp_path, kind):
    image = pil.fromarray(picture(32, 32))
    image.convert("1" if kind == "XBM" else "RGB").save(tmp_path / "a.png", kind)
    with pytest.raises(ValueError, match="expected a readable picture"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF"]
)
def test_formats_that_are_named_are_opened_whatever_the_suffix(tmp_path, kind):
    smooth = np.uint8(np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3))
    pil.fromarray(smooth).save(tmp_path / "a.pic", kind)
    found = load_image(tmp_path / "a.pic")
    np.testing.assert_allclose(found * 255, smooth, atol=60 if kind == "GIF" else 25)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_level_that_is_clear_is_exact(tmp_path, bits):
    level = min(2**bits - 1, 30_000)
    row = [level] * 10 + [level - 1] * 20
    writer = png.Writer(30, 1, greyscale=True, bitdepth=bits, transparent=level)
    with (tmp_path / "a.png").open("wb") as file:
        writer.write(file, [row])
    alpha = files.load_cutout(tmp_path / "a.png").alpha
    np.testing.assert_array_equal(alpha[0, :, 0], [0] * 10 + [1] * 20)


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_signed_integers_have_their_brightness(tmp_path, dtype):
    deep = (np.float64(DEEP) * np.iinfo(dtype).max).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    np.testing.assert_allclose(load_image(tmp_path / "a.tif"), DEEP, atol=1e-4)


def test_a_tiff_that_leads_round_in_circles_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="rgb")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack("<I", data[4:8])
    (tags,) = struct.unpack("<H", data[first : first + 2])
    end = first + 2 + 12 * tags
    data[end : end + 4] = struct.pack("<I", first)
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_allclose(load_image(tmp_path / "a.tif") * 255, picture(), atol=1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_interlaced_png_of_sixteen_bits_is_read_without_a_word(
    tmp_path, capfd, monkeypatch, channels
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as users have it
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 65536, (21, 30, channels)).astype(np.uint16)
    kind = {"greyscale": channels < 3, "alpha": channels % 2 == 0, "bitdepth": 16}
    with (tmp_path / "a.png").open("wb") as file:
        writer = png.Writer(30, 21, interlace=True, **kind)
        writer.write(file, levels.reshape(21, -1).tolist())
    found = files.load_cutout(tmp_path / "a.png")
    colors = levels[..., : channels - 1 + channels % 2] / 65535
    np.testing.assert_allclose(found.image, colors + np.zeros(3), atol=1e-6)
    if channels % 2 == 0:
        np.testing.assert_allclose(found.alpha, levels[..., -1:] / 65535, atol=1e-6)
    assert capfd.readouterr() == ("", "")


def small_in_a_large_gif(path, frames=1):
    """Red frames of 10 x 6 px at (5, 2) of a canvas of 20 x 12 px, whose background is
    blue."""
    image = pil.new("P", (10, 6))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    more = [image.copy() for _ in range(frames - 1)]
    for number, other in enumerate(more):
        other.putpixel((number, 0), 1)
    image.save(path, "GIF", save_all=True, append_images=more, optimize=False)
    data = bytearray(path.read_bytes())
    data[6:10], data[11] = struct.pack("<HH", 20, 12), 2
    at = data.index(b"," + struct.pack("<HHHH", 0, 0, 10, 6)) + 1
    data[at : at + 4] = struct.pack("<HH", 5, 2)
    path.write_bytes(data)


def test_a_gif_smaller_than_its_canvas_has_its_background(tmp_path):
    small_in_a_large_gif(tmp_path / "a.gif")
    wanted = np.zeros((12, 20, 3))
    wanted[..., 2] = 1
    wanted[2:8, 5:15] = 1, 0, 0
    np.testing.assert_array_equal(load_image(tmp_path / "a.gif"), wanted)


def test_a_png_with_a_long_text_is_read(tmp_path):
    about = PngImagePlugin.PngInfo()
    about.add_text("parameters", "a" * 2**21, zip=True)
    pil.fromarray(picture()).save(tmp_path / "a.png", pnginfo=about)
    np.testing.assert_allclose(load_image(tmp_path / "a.png") * 255, picture(), atol=1)


def test_a_mask_and_more_channels_are_not_the_picture(tmp_path):
    more = np.uint16(np.concatenate([DEEP, 0.5 + 0 * HALF, HALF], axis=-1) * 65535)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        shown = np.zeros((20, 30), bool)
        file.write(shown, subfiletype=4, photometric="minisblack")
        file.write(more, photometric="rgb", extrasamples=["unassalpha", 0])
    np.testing.assert_allclose(
        load_image(tmp_path / "a.tif"), DEEP * 0.5 + 0.5, atol=1e-4
    )


def test_a_pipe_or_a_device_is_never_replaced(tmp_path):
    pipe = tmp_path / "a.png"
    os.mkfifo(pipe)
    for write in (disk.check_target, lambda x: save_image(x, np.zeros((4, 4, 3)))):
        with pytest.raises(ValueError, match="is a device or a pipe; choose"):
            write(pipe)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_picture_whose_rows_were_columns_is_written(tmp_path, bits):
    turned = np.swapaxes(np.random.default_rng(0).random((5, 8, 3), np.float32), 0, 1)
    save_image(tmp_path / "a.png", turned, bits=bits)
    found = load_image(tmp_path / "a.png")
    np.testing.assert_allclose(found, turned, atol=0.51 / (2**bits - 1))
