"""Repainting a picture with the paint of its styles."""

import importlib

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compiled_steps, keep_at, paint_grid, random_image

from jaxnst.compiled import Runner, clear_compiled
from jaxnst.painting.checkpoint import load_checkpoint, save_checkpoint
from jaxnst.pictures.canvas import exact, shared
from jaxnst.recipes import get_recipe
from jaxnst.repaint import (
    find_heights,
    lay_level,
    make_levels,
    make_paint,
    render_patches,
    repaint,
)
from jaxnst.repaint.bank import (
    COLORS,
    NOWHERE,
    RADIUS,
    WAVES,
    Bank,
    count_rows,
    find_directions,
    match_moments,
)
from jaxnst.repaint.bank import describe as describe_now
from jaxnst.repaint.bank import make_bank as make_bank_now
from jaxnst.repaint.filters import CLARITY, clarify, find_edges, find_plain, sharpen
from jaxnst.repaint.flow import ANGLES, find_flow, lead_strokes
from jaxnst.repaint.match import improve, overuse_penalty, refine
from jaxnst.repaint.match import search as search_now
from jaxnst.tiles import smallest_tile
from jaxnst.transfer import make_transfer

# Compiled whole, which is sooner than operation by operation.
describe, make_bank, search = map(jax.jit, (describe_now, make_bank_now, search_now))
room = importlib.import_module("jaxnst.repaint")
RECIPE = get_recipe("painterly")
RATIO = RECIPE.weights.content_ratio


def random_descriptors(key, h, w, c=16):
    return jax.random.normal(jax.random.key(key), (h, w, c))


def bank_of(descriptors, factors=None):
    h, w, c = descriptors.shape
    return Bank(
        random_image(9, h, w).reshape(-1, 3),
        descriptors.reshape(-1, c),
        jnp.ones((h, w)) if factors is None else factors,
        jnp.mean(descriptors, axis=(0, 1)),
        jnp.std(descriptors, axis=(0, 1)),
        jnp.float32(0),
    )


def ones(h, w):
    return jnp.ones((h, w, 1))


def paint_of(styles, blend=None):
    """What a picture of the first style's shape is painted with."""
    canvas, masks = exact(styles[0].shape), [None] * len(styles)
    return make_paint(styles, masks, blend, canvas, turned=False)


def levels_of(image, content, paint, held=None):
    """What is painted of a picture on a canvas of its own."""
    given, canvas = (image, content, RATIO, None, held, paint), exact(image.shape)
    return make_levels(*given, canvas=canvas, turned=False)


def style_bank(styles, blend):
    """The patches of styles at their finest level, without those that are turned."""
    found = paint_of(styles, jnp.array(blend))[-1]
    return make_bank(jax.tree.map(lambda x: x[:: 1 + len(ANGLES)], found))


def places(h, w, down=0, right=0, *, width):
    """Indices in a bank of that width."""
    y, x = np.indices((h, w))
    return jnp.asarray((y + down) * width + x + right, jnp.int32)


def test_a_descriptor_is_a_cosine_transform_of_the_patch():
    image = random_image(0, 9, 10)
    y, x, n = 4, 5, 2 * RADIUS + 1
    patch = np.float64(image)[y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1]
    window = np.exp(-2 * (np.arange(-RADIUS, RADIUS + 1) / RADIUS) ** 2)
    wave = lambda k: window * np.cos(np.pi * k * (np.arange(n) + 0.5) / n)
    unit = [wave(k) / np.linalg.norm(wave(k)) for k in range(4)]
    pairs = [(i, j) for i in range(4) for j in range(4) if i + j < 4]
    expected = [
        np.einsum("i,j,ijc,c", unit[i], unit[j], patch, color)
        for color, waves in zip(COLORS, WAVES, strict=True)
        for i, j in pairs
        if i + j < waves
    ]
    np.testing.assert_allclose(describe(image)[y, x], expected, atol=1e-5)
    np.testing.assert_allclose(COLORS @ COLORS.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("contrast", [1.0, 0.1])
def test_edges_are_where_colours_change_however_faint_the_picture_is(contrast):
    step = jnp.zeros((12, 20, 3)).at[:, 10:].set(contrast)
    found = find_edges(step)
    np.testing.assert_allclose(found[:, :7], 0, atol=1e-3)
    assert 0.4 < found[:, 9].min() <= found[:, 9].max() < 1


@pytest.mark.parametrize("angle", [0, 30, 90, 140])
def test_a_direction_is_that_of_the_strokes(angle):
    """Its double, turned by half a turn, since it is that of the gradient."""
    radians = np.radians(angle)
    y, x = np.indices((40, 40))
    across = y * np.cos(radians) + x * np.sin(radians)
    image = np.repeat(0.5 + 0.4 * np.sin(across[..., None]), 3, 2)
    wanted = -np.array([np.cos(2 * radians), -np.sin(2 * radians)])
    inner = np.s_[12:28, 12:28]
    for found in (find_directions(jnp.asarray(image)), lead_strokes(image)):
        mean = np.mean(found[inner], axis=(0, 1))
        assert mean @ wanted / np.linalg.norm(mean) > 0.99
    assert np.abs(find_directions(jnp.full((20, 20, 3), 0.3))).max() == 0
    assert np.abs(lead_strokes(np.full((20, 20, 3), 0.3))).max() < 1e-3


def test_stripes_flow_and_dabs_do_not():
    """Dabs: stripes of another direction in each square of 12 px."""
    y, x = np.indices((96, 96))
    stripes = np.repeat(0.5 + 0.4 * np.sin((y + x)[..., None]), 3, 2)
    dabs = np.where(((y // 12 + x // 12) % 2)[..., None], stripes, stripes[:, ::-1])
    assert find_flow(stripes) == 1
    assert find_flow(dabs) < 0.3
    assert find_flow(np.full((40, 40, 3), 0.5)) == 0


def test_strokes_run_along_an_edge_whatever_their_direction_in_the_style():
    y, x = np.indices((48, 64))
    content = np.where((y + x < 56)[..., None], [0.3, 0.3, 0.3], [0.6, 0.6, 0.6])
    stripes = 0.45 + 0.15 * np.sin(np.indices((48, 64))[0])[..., None]
    style = np.repeat(stripes + 0.1 * random_image(3, 48, 64)[..., :1], 3, 2)
    found = repaint(content, content, [style], RATIO)
    along = np.asarray(find_directions(jnp.asarray(found)))[..., 1]
    near = np.abs(y + x - 56) < 16
    assert along[near].mean() > 0.3
    assert np.abs(np.asarray(find_directions(jnp.asarray(style)))[..., 1].mean()) < 0.1


def test_faint_forms_are_strengthened_and_grain_is_not():
    """A strong checkerboard on the left, a faint one on the right, or grain."""
    board = jnp.indices((96, 192)).sum(0) // 4 % 2 - 0.5
    for contrast, least, most in [(0.1, 1.8, CLARITY), (1e-3, 1.0, 1.1)]:
        strength = jnp.where(jnp.arange(192) < 96, 0.6, contrast)[None]
        image = jnp.broadcast_to((0.5 + strength * board)[..., None], (96, 192, 3))
        found = clarify(image)
        left, right = np.s_[30:60, 30:60], np.s_[30:60, 130:160]
        np.testing.assert_allclose(found[left], image[left], atol=0.05)
        gain = jnp.std(found[right]) / jnp.std(image[right])
        assert least <= gain <= most
    flat = jnp.full((40, 50, 3), 0.7)
    np.testing.assert_allclose(clarify(flat), flat, atol=1e-5)


def test_the_search_is_exact():
    queries, found = random_descriptors(0, 9, 11), random_descriptors(1, 7, 13)
    factors = jax.random.uniform(jax.random.key(2), (7, 13), minval=0.5, maxval=2)
    differences = np.float64(queries)[:, :, None, None] - np.float64(found)
    distances = np.float64(factors) * np.sum(differences**2, axis=-1)
    best = distances.reshape(9, 11, -1).argmin(-1)
    bank = bank_of(found, factors)
    np.testing.assert_array_equal(search(queries, bank), best)
    within = search(queries, bank, np.array([4, 5]))
    np.testing.assert_array_equal(
        within, np.pad(best[:4, :5], ((0, 5), (0, 6)), "edge")
    )


def test_one_good_match_spreads_to_all():
    descriptors = random_descriptors(5, 30, 30)
    right = places(20, 20, 4, 6, width=30)
    wrong = jax.random.randint(jax.random.key(3), right.shape, 0, 900)
    matches = wrong.at[10, 10].set(right[10, 10])
    queries, bank = descriptors[4:24, 6:26], bank_of(descriptors)
    for seed in range(3):
        matches, distances = improve(matches, queries, bank, seed)
    np.testing.assert_array_equal(matches, right)
    np.testing.assert_allclose(distances, 0, atol=1e-6)


def test_matches_become_no_worse_but_to_continue_their_neighbours(monkeypatch):
    bank = bank_of(random_descriptors(5, 30, 30))
    queries, matches = random_descriptors(6, 20, 24), places(20, 24, width=30)
    before = jnp.sum((queries - bank.descriptors[matches]) ** 2, -1)
    coherent = improve(matches, queries, bank, 0)
    monkeypatch.setattr("jaxnst.repaint.match.COHERENCE", 0.0)
    free = improve(matches, queries, bank, 0)
    assert jnp.all(free.distances <= before)
    assert jnp.mean(free.distances) < 0.7 * jnp.mean(before)
    assert jnp.mean(free.distances) < jnp.mean(coherent.distances)

    def continued(matches):
        return jnp.mean(jnp.diff(matches, axis=1) == 1)

    assert continued(coherent.matches) > continued(free.matches)


def test_patches_used_more_often_than_others_cost_more():
    bank = bank_of(jnp.zeros((30, 40, 1)))
    once = overuse_penalty(places(30, 40, width=40), ones(30, 40), bank)
    np.testing.assert_allclose(once, 1, atol=1e-5)
    one_place = overuse_penalty(jnp.full((30, 40), 15 * 40 + 15), ones(30, 40), bank)
    assert one_place[15, 15] > 1.5
    assert one_place[25, 30] == 1


def test_matches_in_order_copy_the_style():
    bank = bank_of(random_descriptors(6, 24, 28))
    laid = render_patches(places(10, 12, 5, 7, width=28), jnp.zeros((10, 12)), bank)
    pixels = bank.pixels.reshape(24, 28, 3)
    np.testing.assert_allclose(laid, pixels[5:15, 7:19], atol=1e-6)


def test_a_far_patch_counts_less_where_patches_overlap():
    bank = bank_of(random_descriptors(6, 30, 30))
    near, away = (places(12, 6, x, x, width=30) for x in (4, 14))
    matches = jnp.concatenate([near, away], 1)
    far = jnp.zeros((12, 12)).at[:, 6:].set(1e6)
    left = render_patches(matches, far, bank)
    pixels = bank.pixels.reshape(30, 30, 3)
    np.testing.assert_allclose(left[:, :6], pixels[4:16, 4:10], atol=1e-3)


def test_matches_of_a_finer_level_continue_those_of_the_coarser():
    found = refine(places(5, 6, 1, 2, width=15), 15, 30, (9, 12))
    np.testing.assert_array_equal(found, places(9, 12, 2, 4, width=30))
    second = refine(places(5, 6, 16, 2, width=15), 15, 32, (9, 12))
    np.testing.assert_array_equal(second, places(9, 12, 34, 4, width=32))


def test_a_style_is_laid_out_of_itself():
    """Away from its border, where patches are not whole."""
    style = random_image(7, 48, 64)
    laid = repaint(style, style, [style], RATIO)
    inner = np.s_[12:-12, 12:-12]
    np.testing.assert_allclose(laid[inner], style[inner], atol=1e-5)


def test_descriptors_are_given_the_moments_of_the_bank():
    bank = bank_of(3 + 2 * random_descriptors(5, 30, 30))
    dull = random_descriptors(6, 20, 24) * 1.5 - 1
    lively = match_moments(dull, count_rows(dull, ones(*dull.shape[:2])), bank)
    np.testing.assert_allclose(jnp.mean(lively, (0, 1)), bank.mean, atol=1e-4)
    np.testing.assert_allclose(jnp.std(lively, (0, 1)), bank.deviation, rtol=1e-3)
    flat = jnp.ones((20, 24, 16))
    found = match_moments(flat, count_rows(flat, ones(*flat.shape[:2])), bank)
    expected = jnp.broadcast_to(bank.mean[None, None], flat.shape)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_moments_of_a_bank_are_those_of_whole_patches_after_the_weights():
    styles, blend = [random_image(8, 48, 64), random_image(9, 40, 40)], [3.0, -1.0]
    bank = style_bank(styles, blend)
    whole = [
        np.append(describe(x), find_heights(x.shape[:2]), -1)[
            RADIUS:-RADIUS, RADIUS:-RADIUS
        ].reshape(-1, sum(n * (n + 1) // 2 for n in WAVES) + 1)
        for x in styles
    ]
    weights = np.concatenate(
        [np.full(len(x), abs(w)) for x, w in zip(whole, blend, strict=True)]
    )
    found = np.float64(np.concatenate(whole))
    mean = np.average(found, axis=0, weights=weights)
    variance = np.average((found - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(bank.mean, mean, atol=1e-4)
    np.testing.assert_allclose(bank.deviation, np.sqrt(variance), rtol=1e-4)


def test_borders_and_styles_without_weight_are_not_used():
    styles = [random_image(8, 48, 64), random_image(9, 40, 40)]
    bank = style_bank(styles, [2.0, 0.0])
    assert bank.factors.shape == (2 * 64, 64)
    used = (bank.descriptors[:, 0] < NOWHERE).reshape(2 * 64, 64)
    assert used[RADIUS : 48 - RADIUS, RADIUS : 64 - RADIUS].all()
    assert used.sum() == (48 - 2 * RADIUS) * (64 - 2 * RADIUS)
    image, styles = random_image(1, 48, 64), [0.5 + styles[0] / 2, styles[1] / 2]
    both = repaint(image, image, styles, RATIO, jnp.array([1.0, 0.0]))
    assert jnp.min(both) >= 0.5 - 1e-5
    assert jnp.min(repaint(image, image, styles, RATIO)) < 0.4


def test_a_blend_weighs_distances():
    """Grey is nearest to the style that is nearer after the weights."""
    grey = jnp.pad(describe(jnp.full((8, 8, 3), 0.5)), [(0, 0), (0, 0), (0, 3)])
    styles = [jnp.full((40, 40, 3), x) for x in (0.3, 0.8)]
    for blend, wanted in [((1.0, 1.0), 0), ((0.2, 0.8), 1), ((-0.2, 0.8), 1)]:
        bank = style_bank(styles, blend)
        rows = search(grey, bank) // 40
        np.testing.assert_array_equal(rows >= 40, wanted)
    equal, most = (style_bank(styles, x) for x in ((1.0, 1.0), (0.2, 0.8)))
    prices = [
        overuse_penalty(places(80, 40, width=40), ones(80, 40), bank)[20, 20]
        for bank in (equal, most)
    ]
    assert 1 == prices[0] < prices[1]


def test_places_of_the_same_height_are_preferred():
    style = jnp.tile(random_image(3, 32, 8), (1, 8, 1))  # all columns look alike
    rows = jnp.concatenate([style, style])
    bank = style_bank([rows], [1.0])
    queries = bank.descriptors.reshape(64, 64, -1)[10:54, 10:30]
    wanted = places(44, 20, 10, width=64) // 64
    np.testing.assert_array_equal(search(queries, bank) // 64, wanted)


def test_only_colours_of_the_style_are_used():
    image, style = random_image(1, 48, 64), 0.2 + 0.3 * random_image(2, 48, 64)
    found = repaint(image, image, [style], RATIO)
    assert 0.2 - 1e-5 <= found.min() <= found.max() <= 0.5 + 1e-5


@pytest.fixture
def change_bands(monkeypatch):
    """Change the height of the bands, which programs that are kept would not know."""

    def change(pixels):
        clear_compiled()
        monkeypatch.setattr(room, "BAND", pixels)

    jax.config.update("jax_enable_compilation_cache", False)
    yield change
    jax.config.update("jax_enable_compilation_cache", True)
    clear_compiled()


def test_bands_join_without_a_seam(change_bands):
    image, style = random_image(3, 320, 24), random_image(4, 28, 30)

    def lay_out(pixels):
        change_bands(pixels)
        return repaint(image, image, [style], RATIO)

    whole, bands = lay_out(320 * 24), lay_out(320 * 24 // 3)
    assert whole.shape == bands.shape == (320, 24, 3)
    # Rounding of other shapes may change a single match.
    assert np.mean(np.abs(bands - whole) > 1e-4) < 0.02


def test_a_picture_of_any_shape_keeps_it():
    image, style = random_image(3, 33, 79), random_image(4, 40, 36)
    found = repaint(image, image, [style], RATIO)
    assert found.shape == image.shape
    assert 0 <= found.min() <= found.max() <= 1


def test_flat_pictures_are_laid_flat():
    flat = jnp.full((48, 64, 3), 0.25)
    np.testing.assert_allclose(repaint(flat, flat, [flat], RATIO), flat, atol=1e-6)


def test_only_the_middle_of_large_styles_is_used(monkeypatch):
    image, style = random_image(5, 48, 64), random_image(6, 96, 128)
    turned = 1 + len(ANGLES)
    monkeypatch.setattr(room, "STYLE_PIXELS", turned * 48 * 64)

    def levels(style):
        return make_paint([style], [None], None, exact(image.shape), turned=False)

    both = levels(style), levels(style[24:72, 32:96])
    jax.tree.map(np.testing.assert_array_equal, *both)


def test_the_more_the_content_weighs_the_nearer_it_is():
    content, style = random_image(1, 48, 64), random_image(2, 48, 64)
    content = jax.image.resize(content[:6, :8], (48, 64, 3), "linear")
    weights = (0.0, 0.05, 0.5, 50.0)
    ratios = [RECIPE.replace(content_weight=x).weights.content_ratio for x in weights]
    found = [repaint(content, content, [style], ratio) for ratio in ratios]
    distances = [float(jnp.mean((x - content) ** 2)) for x in found]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.7 * distances[0]
    nothing = RECIPE.replace(content_weight=0.0, style_weight=0.0)
    assert nothing.weights.content_ratio == 100


SHALLOW = RECIPE.replace(
    content_layers=(("relu1_1@2", 1.0),),
    style_layers=(("relu1_1@2", 1.0),),
    style_loss="gram",
    optimizer="adam",
    first_steps=2,
    steps=6,
    min_size=22,
    scale_factor=1.5,
    scales=2,
)
CONTENT, STYLE = random_image(10, 33, 44), random_image(11, 40, 36)


def paint(backbone, recipe=SHALLOW, **options):
    return helpers.paint(backbone, CONTENT, [STYLE], recipe, **options)


def test_every_stage_ends_by_repainting(backbone, monkeypatch):
    shapes, stage = [], importlib.import_module("jaxnst.painting.painter")

    def spied(layout, call):
        if type(call) is Runner:  # and nothing that only compiles
            shapes.append(tuple(layout.levels[-1].extent))
        return lay_levels(layout, call)

    lay_levels = stage.lay_levels
    monkeypatch.setattr(stage, "lay_levels", spied)
    result = paint(backbone)
    assert shapes == [stage.shape for stage in result.stages]
    assert [len(info.loss) for info in result.infos] == [2, 6]
    canvas = shared(CONTENT.shape)
    again = repaint(result.image, CONTENT, [STYLE], RATIO, canvas=canvas)
    assert jnp.mean(jnp.abs(again - result.image)) < 0.1


def test_a_lane_is_repainted_as_alone(backbone):
    (lanes,) = paint_grid(backbone, [CONTENT], [STYLE, 1 - STYLE], SHALLOW)
    np.testing.assert_allclose(lanes[0, 0], paint(backbone).image, atol=1e-4)


@pytest.mark.parametrize(("scale", "taken"), [(0, 2), (1, 1), (1, 6)])
def test_a_repainted_run_resumes_bit_for_bit(backbone, scale, taken):
    kept = []
    expected = paint(backbone, on_chunk=keep_at(kept, scale, taken), chunk=1)
    resumed = paint(backbone, resume=kept[0])
    np.testing.assert_array_equal(resumed.image, expected.image)


@pytest.mark.parametrize("scale", [0, 1])
def test_a_scale_without_steps_resumes_bit_for_bit(backbone, tmp_path, scale):
    recipe, path = SHALLOW.replace(steps=0), tmp_path / "state.npz"
    seen, kept = [], []
    keep = keep_at(kept, scale, (2, 0)[scale])

    def look(progress):
        seen.append((progress.stage_index, progress.taken, len(progress.info.loss)))
        keep(progress)

    with compiled_steps() as programs:
        expected = paint(backbone, recipe, on_chunk=look, chunk=1)
    assert len(programs) <= 1  # of the first scale, unless it is known
    assert seen == [(0, 1, 1), (0, 2, 1), (1, 0, 0)]
    assert [len(info.loss) for info in expected.infos] == [2]
    save_checkpoint(path, kept[0])
    resume = load_checkpoint(path, make_transfer(recipe.program), {})
    resumed = paint(backbone, recipe, resume=resume)
    np.testing.assert_array_equal(resumed.image, expected.image)


def test_a_repainted_run_in_tiles_paints_the_same_picture(backbone):
    whole = paint(backbone)
    smallest = smallest_tile(SHALLOW.program.layers)
    tiled = tuple(stage._replace(tile=smallest) for stage in whole.stages)
    np.testing.assert_allclose(
        paint(backbone, stages=tiled).image, whole.image, atol=1e-3
    )


def test_the_content_holds_where_the_mask_says():
    image, style = random_image(1, 48, 64), random_image(2, 48, 64)
    right = jnp.zeros((48, 64, 1)).at[:, 32:].set(1.0)
    evenly, masked = (
        repaint(image, image, [style], RATIO, held=x) for x in (None, right)
    )
    far = lambda laid, part: float(jnp.abs(laid - image)[:, part].mean())
    assert far(masked, slice(20)) > 1.4 * far(evenly, slice(20))
    assert far(masked, slice(44, 64)) < 1.15 * far(evenly, slice(44, 64))


def test_a_strength_of_three_holds_three_times_as_strongly():
    image, held = random_image(1, 48, 64), np.full((6, 8, 1), 3, np.float32)
    paint = paint_of([image])
    strong, usual = (levels_of(image, image, paint, x) for x in (held, None))
    for a, b in zip(strong, usual, strict=True):
        np.testing.assert_allclose(a.hold, 3 * b.hold, rtol=1e-6)


def test_lines_of_a_drawing_leave_a_plain_sky():
    """Where matches of the coarser level have them; those of a painting stay."""
    drawing, sky = np.full((48, 64, 3), 0.95, "f4"), np.full((48, 64, 3), 0.9, "f4")
    for row in range(6, 48, 16):
        drawing[row : row + 2, 6:58] = 0.05
    paint = paint_of([drawing])
    assert (paint[-1].plain == 1).all()
    level = levels_of(sky, sky, paint)[-1]
    copied = np.arange(48 * 64, dtype=np.int32).reshape(48, 64)
    dark = lambda image: float((np.asarray(image) < 0.5).mean())
    lined = paint[-1]._replace(plain=0 * paint[-1].plain)
    assert dark(lay_level(level, lined, copied)[1]) > 0.2 * dark(drawing)
    assert dark(lay_level(level, paint[-1], copied)[1]) == 0


def test_a_painting_is_not_plain():
    assert find_plain(np.asarray(random_image(0, 60, 80))) == 0
    assert find_plain(np.full((60, 80, 3), 0.5, np.float32)) == 0


def test_the_picture_gets_the_lights_and_darks_of_the_paint():
    grey = lambda seed: random_image(seed, 48, 64)[..., :1].repeat(3, -1)
    dull, style = 0.3 + 0.4 * grey(0), grey(1)
    flat = jnp.full(dull.shape, 0.5)  # no edges, where the content would be shown
    shown = levels_of(dull, flat, paint_of([style]))[-1].shown
    assert np.std(shown) > 0.9 * np.std(style) > 2 * np.std(dull)


def test_the_finest_details_are_as_strong_as_in_the_used_part_of_a_style():
    y, x = np.indices((48, 64))
    checks = np.float32((x + y) % 2 - 0.5)[..., None].repeat(3, -1)
    left = np.float32(x < 32)[..., None]
    style = 0.5 + np.where(left > 0, 0.2, 0.8) * checks
    contrast = lambda image: np.ptp(image[8:-8, 8:24])
    for faint, wanted in (
        (0.15, 0.2),
        (0.05, 0.1),
        (0.3, 0.3),
    ):  # at most twice; never less
        sharp = sharpen(0.5 + np.float32(faint) * checks, None, [(style, left)])
        assert contrast(sharp) == pytest.approx(wanted, rel=0.05)


def test_only_the_masked_part_of_a_style_is_laid():
    image, style = random_image(1, 48, 64), random_image(2, 48, 64) / 4
    bright = style.at[:, 32:].add(0.7)
    part = jnp.zeros((48, 64, 1)).at[:, :32].set(1.0)
    laid = repaint(image, image, [bright], RATIO, style_masks=[part])
    assert float(jnp.quantile(laid, 0.99)) < 0.35


def test_filler_beyond_a_picture_changes_nothing_but_rounding():
    image, style = random_image(1, 48, 64), random_image(2, 48, 64)
    alone = repaint(image, image, [style], RATIO)
    filled = repaint(image, image, [style], RATIO, canvas=shared(image.shape))
    assert filled.shape == alone.shape
    # Random places to look at differ with the width of the bank, but not their number.
    for rows in (slice(None), slice(-6, None)):
        far = lambda laid, rows=rows: float(jnp.mean((laid - image)[rows] ** 2))
        assert far(filled) == pytest.approx(far(alone), rel=0.2)


def test_a_turned_picture_is_laid_as_one_that_is_not():
    image, style = random_image(1, 48, 64), random_image(2, 48, 64)
    swap = lambda x: np.swapaxes(np.asarray(x), 0, 1)
    laid = repaint(image, image, [style], RATIO)
    turned = repaint(swap(image), swap(image), [swap(style)], RATIO, turned=True)
    far = lambda x: float(jnp.mean((x - image) ** 2))
    assert far(swap(turned)) == pytest.approx(far(laid), rel=0.1)
