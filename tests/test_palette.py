"""Colours alone: the recipe that takes no steps, in pictures, grids and videos."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import LIGHT, random_image, refused
from PIL import Image as pil

import jaxnst
from jaxnst.command.cli import main
from jaxnst.command.describe import compile_timer
from jaxnst.pictures.color import STRONGEST, fit_colors
from jaxnst.pictures.files import load_image, save_image
from jaxnst.pictures.samples import sample_path
from jaxnst.recipes import get_recipe
from jaxnst.video.paint import VideoOptions, stylize_video

PALETTE = get_recipe("palette")
CONTENT, STYLE = sample_path("harbour"), sample_path("swirls")
KEY = jax.random.key(0)
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("style", ["swirls", "watercolour"])
def test_moments_are_those_of_the_palette_after_clipping(style):
    image, palette = jaxnst.sample("harbour"), jaxnst.sample(style)
    found = np.float64(fit_colors(image, [palette])(image))
    mean, covariance = oracle.mean_and_covariance(found)
    wanted = oracle.mean_and_covariance(np.float64(palette))
    np.testing.assert_allclose(mean, wanted[0], rtol=0.02)
    gap = np.linalg.norm(covariance - wanted[1])
    assert gap < 0.02 * np.linalg.norm(wanted[1])


@pytest.mark.parametrize("style", ["mosaic", "pointillist", "watercolour"])
def test_what_cannot_fit_ends_no_farther_than_it_began(style, monkeypatch):
    image, palette = jaxnst.sample("harbour")[:40], jaxnst.sample(style)

    def error():
        found = np.float64(fit_colors(image, [palette])(image))
        own = oracle.mean_and_covariance(found)
        wanted = oracle.mean_and_covariance(np.float64(palette))
        return sum(np.linalg.norm(x - y) for x, y in zip(own, wanted, strict=True))

    best = error()
    monkeypatch.setattr("jaxnst.pictures.color.FITTED", 1)
    assert best <= error() * 1.001


def test_a_mask_thinner_than_the_sample_is_measured():
    image = random_image(0, 1100, 1100)
    mask = np.zeros((1100, 1100, 1), np.float32)
    mask[:, 555] = 1
    style = random_image(1, 40, 56)
    found = fit_colors(image, [style], mask=mask)(image[:, 555:556])
    gap = found.mean((0, 1)) - style.mean((0, 1))
    assert np.abs(gap).max() < 0.02


def test_noise_of_a_grey_photograph_stays_faint():
    grey = 0.5 + 0.004 * jax.random.normal(jax.random.key(0), (64, 64, 3))
    found = fit_colors(grey, [jaxnst.sample("mosaic")])(grey)
    _, covariance = oracle.mean_and_covariance(np.float64(found))
    most = STRONGEST * np.sqrt(3) * 0.004  # all of it, in one direction
    assert np.sqrt(np.linalg.eigvalsh(covariance).max()) < 1.1 * most


def test_a_drawing_burns_no_photograph_out():
    """Its moments are those of black and white; greys must not become these."""
    image = jaxnst.sample("harbour")
    drawing = jnp.where(jax.random.uniform(KEY, (64, 64, 1)) < 0.2, 0.0, 1.0)
    found = fit_colors(image, [jnp.tile(drawing, 3)])(image)
    assert np.mean((found == 0) | (found == 1)) < 0.4


def test_no_step_is_taken_and_nothing_compiled(backbone):
    image, style = jaxnst.sample("harbour", 64), jaxnst.sample("swirls", 64)
    with compile_timer() as programs:
        result = jaxnst.stylize(backbone, image, [style], PALETTE, key=KEY)
    assert not [name for name, _ in programs if "chunk" in name or "measure" in name]
    assert result.infos == []
    wanted = fit_colors(image, [style])(image)
    np.testing.assert_allclose(result.image, wanted, atol=1e-6)


def test_strength_goes_from_the_photograph_to_the_palette(backbone):
    image, style = jaxnst.sample("harbour", 64), jaxnst.sample("swirls", 64)
    paint = lambda strength: np.asarray(
        jaxnst.stylize(
            backbone, image, [style], PALETTE.with_strength(strength), key=KEY
        ).image
    )
    whole = paint(0.5)
    np.testing.assert_array_equal(paint(0.0), image)
    np.testing.assert_array_equal(paint(1.0), whole)
    np.testing.assert_allclose(paint(1 / 3), (image + whole) / 2, atol=1e-6)


@pytest.mark.parametrize("shape", [(48, 64), (64, 48)])
def test_a_grid_gives_what_pictures_get_alone(backbone, shape):
    contents = [random_image(seed, *shape) for seed in (0, 1)]
    styles = [random_image(seed, 40, 56) for seed in (2, 3)]
    vary = {"content_weight": [1.0, 4.0]}
    options = jaxnst.GridOptions(vary=vary)
    given = backbone, contents, styles, PALETTE
    grid = jaxnst.stylize_grid(*given, key=KEY, options=options)
    for i, content in enumerate(contents):
        for j, style in enumerate(styles):
            for k, weight in enumerate(vary["content_weight"]):
                recipe = PALETTE.replace(content_weight=weight)
                alone = jaxnst.stylize(backbone, content, [style], recipe, key=KEY)
                np.testing.assert_array_equal(grid[i][j, k], alone.image)


@pytest.mark.parametrize("passes", [1, 2])
def test_the_frames_of_a_shot_have_one_map(backbone, passes):
    """Where nothing changes but a part, the rest keeps its colours exactly."""
    first = np.array(random_image(0, 48, 64))
    frames = [first.copy() for _ in range(8)]
    for number, frame in enumerate(frames):
        frame[:12, : 2 * number] = 1.0
    still = lambda i, j, image, other: np.zeros((48, 64, 2), np.float32)
    given = backbone, frames, [random_image(1, 40, 56)], PALETTE
    options = VideoOptions(flows=still, passes=passes)
    found = stylize_video(*given, key=KEY, options=options)
    for frame in found[1:]:
        np.testing.assert_array_equal(frame[12:], found[0][12:])


def test_a_cut_gets_a_map_of_its_own(backbone):
    dark, bright = 0.2 * random_image(0, 48, 64), random_image(1, 48, 64)
    style = random_image(2, 40, 56)
    still = lambda i, j, image, other: np.zeros((48, 64, 2), np.float32)
    given = backbone, [dark, bright], [style], PALETTE
    found = stylize_video(*given, key=KEY, options=VideoOptions(flows=still))
    own = fit_colors(bright, [style])(bright)
    np.testing.assert_allclose(found[1], own, atol=1e-6)


def test_a_ramp_of_sixteen_bits_stays_one(elsewhere):
    ramp = np.linspace(0.25, 0.75, 2**14, dtype=np.float32).reshape(128, 128, 1)
    save_image("ramp.png", np.tile(ramp, 3), bits=16)
    command = ["stylize", "ramp.png", str(STYLE), "--recipe", "palette"]
    assert main([*command, "--bits", "16", "-o", "out.tif"]) == 0
    levels = np.unique(np.asarray(load_image("out.tif"))[..., 1])
    assert len(levels) > 2**13
    assert np.diff(levels).max() < 4 / 2**14


def test_the_command_keeps_size_transparency_and_the_rest(elsewhere, capsys):
    photograph = pil.open(CONTENT)
    width, height = photograph.size
    left = np.zeros((height, width), np.uint8)
    left[:, : width // 2] = 255
    pil.fromarray(left).save("left.png")
    photograph.putalpha(pil.linear_gradient("L").resize(photograph.size))
    photograph.save("clear.png")
    command = ["stylize", "clear.png", "--recipe", "palette", "-o", "out.png"]
    assert main([*command, "--region", f"left.png={STYLE}", "--keep-rest"]) == 0
    found, given = np.asarray(pil.open("out.png")), np.asarray(photograph)
    assert found.shape == (height, width, 4)
    np.testing.assert_array_equal(found[..., 3], given[..., 3])
    seen = given[:, width // 2 + 1 :, 3] > 0
    gap = np.int32(found[:, width // 2 + 1 :]) - given[:, width // 2 + 1 :]
    assert np.abs(gap[seen]).max() <= 1
    assert np.abs(np.int32(found[:, :300]) - given[:, :300]).max() > 20


def test_soft_edges_are_blended_once(elsewhere):
    half = np.full((48, 64), 128, np.uint8)
    pil.fromarray(half).save("half.png")
    photograph = pil.open(CONTENT).resize((64, 48))
    photograph.save("photo.png")
    photograph.putalpha(pil.fromarray(half))
    photograph.save("clear.png")
    command = ["stylize", "--recipe", "palette", "--quiet"]
    region = ["photo.png", "--region", f"half.png={STYLE}", "--keep-rest"]
    assert main([*command, "photo.png", str(STYLE), "-o", "whole.png"]) == 0
    assert main([*command, *region, "-o", "blended.png"]) == 0
    assert main([*command, "clear.png", str(STYLE), "-o", "shown.png"]) == 0
    whole, blended, shown, given = (
        np.asarray(pil.open(name).convert("RGB"), float)
        for name in ("whole.png", "blended.png", "shown.png", "photo.png")
    )
    assert np.abs(blended - (whole + given) / 2).max() <= 2
    assert np.abs(shown - whole).max() <= 2


def test_a_region_that_nobody_sees_is_refused(elsewhere, capsys):
    photograph = pil.open(CONTENT).resize((64, 48))
    alpha, part = np.full((48, 64), 255, np.uint8), np.zeros((48, 64), np.uint8)
    alpha[:, :32], part[:, :24] = 0, 255
    photograph.putalpha(pil.fromarray(alpha))
    photograph.save("clear.png")
    pil.fromarray(part).save("part.png")
    command = ["stylize", "clear.png", "--recipe", "palette", "--keep-rest"]
    said = refused([*command, "--region", f"part.png={STYLE}"], capsys)
    assert "region 1 covers only transparent parts" in said


def test_a_strip_of_colours_is_a_palette(elsewhere):
    strip = np.array([[[200, 30, 30], [30, 60, 200], [240, 220, 120]]], np.uint8)
    pil.fromarray(strip).save("strip.png")
    command = ["stylize", str(CONTENT), "strip.png", "--recipe", "palette"]
    assert main([*command, "-o", "out.png", "--quiet"]) == 0
    found = np.asarray(load_image("out.png"), float)
    wanted = strip.reshape(-1, 3).mean(0) / 255
    np.testing.assert_allclose(found.mean((0, 1)), wanted, atol=0.05)


def test_what_needs_too_much_memory_is_refused(elsewhere, capsys):
    command = ["stylize", str(CONTENT), str(STYLE), "--recipe", "palette"]
    said = refused([*command, "--memory", "10MB"], capsys)
    assert "640 x 480 px need" in said


def test_the_command_tells_what_it_would_do_and_what_it_cannot(elsewhere, capsys):
    command = ["stylize", str(CONTENT), str(STYLE), "--recipe", "palette"]
    assert main([*command, "--dry-run"]) == 0
    assert "640 x 480 px       new colours, no steps" in capsys.readouterr().out
    assert not list(elsewhere.iterdir())
    assert main([*command, "--content-mask", str(STYLE), "--trace", "t.jsonl"]) == 0
    said = capsys.readouterr().err
    assert "the content mask has no effect" in said
    assert "no steps are taken" in said
    said = refused([*command, "--style-scale", "2", "-o", "b.png"], capsys)
    assert "style_scale has no effect" in said


def test_a_grid_of_colours_is_painted_and_found_again(elsewhere, capsys):
    command = ["grid", "--content", str(CONTENT), "--style", str(STYLE)]
    command += ["--vary", "recipe=palette,delicate", "--size", "48", "--steps", "2"]
    command += LIGHT
    assert main(command) == 0
    assert len(list((elsewhere / "grid").glob("harbour*.png"))) == 2
    assert main(command) == 0
    assert "2 are there already" in capsys.readouterr().out
