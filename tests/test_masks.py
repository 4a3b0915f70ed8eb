"""Regions, masks of contents and styles, alpha and colours, from Python."""

from functools import partial

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import KEY, keep_at, measure_targets, paint_grid, random_image

from jaxnst.losses import STYLE_LOSSES
from jaxnst.losses.neighbors import sample_features
from jaxnst.masks import cell_means, layer_weights, normalize_overlaps
from jaxnst.network.vgg import features
from jaxnst.objective import (
    assemble_targets,
    measure_content,
    measure_style,
    objective,
    prepare_styles,
    style_ranks,
    summarize,
)
from jaxnst.painting.plan import Stage
from jaxnst.painting.scene import Masks, Region, Style, fit_masks, make_scene
from jaxnst.pictures.canvas import exact
from jaxnst.recipes import get_recipe
from jaxnst.tiles import Tiled

RECIPE = get_recipe("crowson").replace(
    content_layers=(("relu2_1", 1.0),),
    style_layers=(("relu1_1", 0.5), ("relu3_1", 0.5)),
    scales=1,
    first_steps=4,
)
PAINTED = RECIPE.replace(style_layers=(("relu1_1", 0.5), ("relu2_1", 0.5)))
SHAPE = 40, 56
CONTENT, STYLE, OTHER = (random_image(i, *SHAPE) for i in range(3))
LEFT = jnp.zeros((*SHAPE, 1)).at[:, :24].set(1.0)
SOFT = jnp.broadcast_to(jnp.linspace(0, 1, SHAPE[1])[None, :, None], (*SHAPE, 1))
by_loss = pytest.mark.parametrize(
    "name", ["gram", "gram_sums", "wasserstein2", "nearest_neighbors"]
)


def targets(backbone, regions, recipe=RECIPE, **options):
    """Targets of pairs of a style and a mask."""
    program = recipe.program
    parts = [(styles_of(backbone, x, program), mask) for x, mask in regions]
    feats = measure_content(
        backbone, CONTENT, options.get("content_strength"), program=program
    )
    return assemble_targets(feats, parts, recipe, exact(SHAPE), **options)


def styles_of(backbone, style, program):
    """What a region is compared with, of one style."""
    summaries = [measure_style(backbone, style, program=program)]
    ranks = style_ranks([style.shape], program)
    return prepare_styles(summaries, np.ones(1, "f4"), program=program, ranks=ranks)


evaluate = jax.jit(
    jax.value_and_grad(
        lambda image, backbone, aims, program, function=objective: function(
            image, backbone, aims, program
        ),
        has_aux=True,
    ),
    static_argnames=("program", "function"),
)
"""`evaluate(image, backbone, aims, program)` gives the loss, its terms and gradient."""


def loss_of(backbone, aims, recipe=RECIPE):
    image = jnp.clip(CONTENT + 0.1 * jax.random.normal(KEY, CONTENT.shape), 0, 1)
    return evaluate(image, backbone, aims, recipe.program)


@pytest.mark.parametrize("mask", [LEFT, SOFT])
def test_cells_of_a_mask_and_its_complement_cover_a_layer_once(mask):
    for step in (1, 2, 4, 8, 16):
        both = cell_means(mask, step) + cell_means(1 - mask, step)
        np.testing.assert_allclose(both, 1, rtol=1e-6)
    for weights in layer_weights(mask, ["relu1_1", "relu4_2@2"]).values():
        assert float(weights.mean()) == pytest.approx(1, rel=1e-5)


def test_a_region_too_small_for_a_layer_is_the_whole():
    mask = jnp.zeros((33, 33, 1)).at[32, 32].set(1.0)  # beyond the last whole cell
    weights = layer_weights(mask, ["relu5_1"])["relu5_1"]
    np.testing.assert_allclose(weights, 1)


def test_overlapping_masks_share():
    (first, second), rest = normalize_overlaps([LEFT, SOFT])
    np.testing.assert_allclose(first + second + rest, 1, rtol=1e-6)
    assert jnp.all(rest >= 0)


@by_loss
def test_two_regions_of_one_style_have_the_statistics_of_the_whole(backbone, name):
    recipe = RECIPE.replace(style_loss=name)
    whole = targets(backbone, [(STYLE, None)], recipe)
    parts = targets(backbone, [(STYLE, LEFT), (STYLE, 1 - LEFT)], recipe)
    one, two = (summarize(CONTENT, backbone, x, recipe.program) for x in (whole, parts))
    for layer, wanted in one.regions[0].items():
        total = sum(
            jnp.nan_to_num(region.share) * np.float64(leaf)
            for region, found in zip(parts.regions, two.regions, strict=True)
            for leaf in jax.tree.leaves(found[layer].total)[:1]
        )
        expected = jax.tree.leaves(wanted.total)[0]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(total / scale, expected / scale, atol=1e-5)


def test_a_loss_that_is_a_sum_of_positions_does_not_see_regions(backbone):
    recipe = RECIPE.replace(style_loss="nearest_neighbors")
    (one, _), grad = loss_of(
        backbone, targets(backbone, [(STYLE, None)], recipe), recipe
    )
    pairs = [(STYLE, LEFT), (STYLE, 1 - LEFT)]
    (two, _), parts = loss_of(backbone, targets(backbone, pairs, recipe), recipe)
    assert float(two) == pytest.approx(float(one), rel=1e-5)
    assert jnp.linalg.norm(parts - grad) < 1e-5 * jnp.linalg.norm(grad)


@pytest.mark.parametrize("mask", [LEFT, SOFT])
def test_weighted_statistics_are_those_of_the_definition(backbone, mask):
    feature = features(backbone, CONTENT, layers=("relu3_1",))["relu3_1"]
    weights = layer_weights(mask, ["relu3_1"])["relu3_1"]
    w = np.float64(cell_means(mask, 4)).reshape(-1, 1)
    rows = np.float64(feature).reshape(len(w), -1)
    mean, second = (w * rows).sum(0) / w.sum(), (w * rows).T @ rows / w.sum()
    found = STYLE_LOSSES["gram"].summarize(feature, weights).mean
    np.testing.assert_allclose(found, second, rtol=1e-4, atol=1e-4)
    moments = STYLE_LOSSES["wasserstein2"].summarize(feature, weights).mean
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-4, atol=1e-5)
    # The distance, from weighted rows repeated as often as they count.
    whole = np.rint(w * 27).astype(int)[:, 0]
    other = np.float64(features(backbone, STYLE, layers=("relu3_1",))["relu3_1"])
    repeated = np.repeat(rows[:, :12], whole, axis=0)[None]
    wanted = oracle.wasserstein2(repeated, other[..., :12]) / 1
    row = STYLE_LOSSES["wasserstein2"]
    exact = jnp.asarray(whole / whole.mean(), jnp.float32).reshape(weights.shape)
    target = row.prepare(row.summarize(jnp.float32(other[..., :12]), None), 12)
    got = row.distance(row.summarize(feature[..., :12], exact), target)
    np.testing.assert_allclose(got, wanted, rtol=2e-3)


def test_a_hard_region_has_the_statistics_of_what_is_cropped(backbone):
    """As far as its border allows: but for what the layer sees across it."""
    program = RECIPE.program
    found = measure_style(backbone, STYLE, LEFT, program=program)
    cropped = measure_style(backbone, STYLE[:, :24], program=program)
    for layer, allowed in (("relu1_1", 0.05), ("relu3_1", 0.25)):
        second, wanted = (x[layer].mean.second for x in (found, cropped))
        assert jnp.linalg.norm(second - wanted) < allowed * jnp.linalg.norm(wanted)


@by_loss
def test_each_pixel_of_a_small_region_feels_as_much_style_as_of_a_large_one(
    backbone, name
):
    """In a picture that repeats, all parts have the same statistics."""
    recipe = RECIPE.replace(style_loss=name, style_layers=(("relu1_1", 1.0),))
    image = jnp.tile(random_image(3, 8, 8), (8, 8, 1))
    masks = [
        jnp.zeros((64, 64, 1)).at[16 : 16 + high, 16 : 16 + wide].set(1.0)
        for high, wide in ((16, 16), (32, 40))
    ]

    def gradient(mask):
        program = recipe.program
        content = measure_content(backbone, image, program=program)
        parts = [(styles_of(backbone, STYLE, program), mask)]
        styled = recipe.replace(content_weight=0.0)
        aims = assemble_targets(content, parts, styled, exact(image.shape))
        return evaluate(image, backbone, aims, program)[1][20:28, 20:28]

    small, large = map(gradient, masks)
    # Wasserstein-2 amplifies the rounding of small eigenvalues.
    allowed = 5e-2 if name == "wasserstein2" else 2e-3
    assert jnp.linalg.norm(small - large) < allowed * jnp.linalg.norm(large)


def test_the_content_holds_where_the_mask_says(backbone):
    hold = LEFT
    plain = RECIPE.replace(style_weight=0.0, tv_weight=0.0, content_loss="mean")
    aims = targets(backbone, [(STYLE, None)], plain, content_strength=hold)
    (loss, _), grad = loss_of(backbone, aims, plain)
    (_, _), whole = loss_of(backbone, targets(backbone, [(STYLE, None)], plain), plain)
    # Far from the border of the mask nothing, or the same as without a mask.
    assert jnp.abs(grad[:, 36:]).max() < 1e-7 * jnp.abs(grad).max()
    np.testing.assert_allclose(grad[:, :14], whole[:, :14], rtol=1e-3, atol=1e-8)
    assert loss > 0


def test_a_strength_of_three_is_three_times_the_content_weight(backbone):
    plain = RECIPE.replace(style_weight=0.0, tv_weight=0.0, content_loss="mean")
    strong = targets(backbone, [(STYLE, None)], plain, content_strength=1 + 2 * LEFT)
    _, grad = loss_of(backbone, strong, plain)
    _, usual = loss_of(backbone, targets(backbone, [(STYLE, None)], plain), plain)
    np.testing.assert_allclose(grad[:, :14], 3 * usual[:, :14], rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(grad[:, 36:], usual[:, 36:], rtol=1e-3, atol=1e-8)


def test_a_scene_keeps_a_strength_of_more_than_one():
    masks = Masks(content_strength=1 + 2 * LEFT)
    scene = make_scene(CONTENT, [STYLE], RECIPE, masks=masks)
    small = fit_masks(scene, (20, 28)).content_strength
    np.testing.assert_allclose(small[:, :10], 3, rtol=1e-6)
    np.testing.assert_allclose(small[:, 16:], 1, rtol=1e-6)


@by_loss
def test_tiles_know_all_masks(backbone, name):
    recipe = RECIPE.replace(style_loss=name)
    pairs = [(STYLE, SOFT), (OTHER, 1 - SOFT)]
    aims = targets(backbone, pairs, recipe, content_strength=SOFT, paint_mask=LEFT)
    given = random_image(5, *SHAPE), backbone, aims, recipe.program
    (one, _), grad = evaluate(*given)
    (two, _), parts = evaluate(*given, function=Tiled(size=44))
    assert float(two) == pytest.approx(float(one), rel=3e-4)
    allowed = 3e-2 if name == "wasserstein2" else 1e-5  # as above
    assert jnp.linalg.norm(parts - grad) < allowed * jnp.linalg.norm(grad)


def test_of_a_masked_style_only_what_counts_is_found():
    feature = jax.random.normal(KEY, (8, 8, 3))
    weights = jnp.zeros((8, 8, 1)).at[2:4, 2:4].set(4.0) + 1e-8
    kept = sample_features(feature, weights).rows
    wanted = {tuple(row) for row in np.asarray(feature[2:4, 2:4].reshape(-1, 3))}
    assert {tuple(row) for row in np.asarray(kept)} == wanted


def paint(backbone, styles, recipe=PAINTED, **options):
    return helpers.paint(backbone, CONTENT, styles, recipe, **options)


def test_regions_are_painted_in_their_own_styles(backbone):
    sky = Region([STYLE], LEFT)
    masked = paint(backbone, [OTHER], masks=Masks(regions=[sky])).image
    first, second = (paint(backbone, [x]).image for x in (STYLE, OTHER))
    far = lambda a, b, part: float(jnp.abs(a - b)[:, part].mean())
    for part, own, other in (
        (slice(14), first, second),
        (slice(36, 56), second, first),
    ):
        assert far(masked, own, part) < far(masked, other, part)


def test_what_is_kept_is_the_photograph_exactly(backbone):
    masks = Masks(regions=[Region([STYLE], LEFT)], keep_rest=True)
    for recipe in (PAINTED, PAINTED.replace(palette="style", init="noise")):
        image = paint(backbone, [], recipe, masks=masks).image
        np.testing.assert_array_equal(image[:, 24:], CONTENT[:, 24:])
        assert jnp.abs(image - CONTENT)[:, :20].mean() > 1e-3


def test_what_is_clear_is_neither_seen_nor_painted(backbone):
    masks = Masks(alpha=LEFT)
    image = paint(backbone, [STYLE], masks=masks).image
    np.testing.assert_array_equal(image[:, 24:], CONTENT[:, 24:])
    other = jnp.where(LEFT > 0, CONTENT, OTHER)
    scenes = [make_scene(x, [STYLE], PAINTED, masks=masks) for x in (CONTENT, other)]
    one, two = (measure_targets(backbone, x, PAINTED) for x in scenes)
    np.testing.assert_array_equal(one.held["relu2_1"], two.held["relu2_1"])
    assert float(one.regions[0].share) == pytest.approx(float(LEFT.mean()))


def test_no_steps_give_the_photograph_back(backbone):
    stages = (Stage(SHAPE, 0),)
    image = paint(backbone, [STYLE], stages=stages, masks=Masks(alpha=LEFT)).image
    np.testing.assert_allclose(image, CONTENT, atol=1 / 255)


def test_a_masked_run_is_resumed_bit_for_bit(backbone):
    kept, region = [], Region([STYLE], SOFT)
    masks = Masks(regions=[region], content_strength=SOFT, alpha=LEFT)
    whole = paint(backbone, [OTHER], masks=masks, on_chunk=keep_at(kept, 0, 1))
    again = paint(backbone, [OTHER], masks=masks, resume=kept[0])
    np.testing.assert_array_equal(whole.image, again.image)


def test_masks_of_a_grid_are_those_of_single_pictures(backbone):
    masks = [
        Masks(regions=[Region([x], SOFT)], content_strength=SOFT)
        for x in (STYLE, OTHER)
    ]
    options = {"masks": masks, "vary": {"style_weight": [1.0, 3.0]}}
    recipe = PAINTED.replace(style_loss="gram")
    (found,) = paint_grid(backbone, [CONTENT], [STYLE], recipe, **options)
    assert found.shape == (1, 4, *SHAPE, 3)
    settings = [(weight, each) for weight in (1.0, 3.0) for each in masks]
    for image, (weight, each) in zip(found[0], settings, strict=True):
        own = recipe.replace(style_weight=weight)
        alone = paint(backbone, [STYLE], own, masks=each)
        assert np.abs(image - alone.image).mean() < 1e-3


def test_rotated_styles_are_the_average_of_four(backbone):
    scene = make_scene(CONTENT, [STYLE], RECIPE.replace(rotate_styles=True))
    turned = [jnp.rot90(STYLE, times) for times in range(4)]
    found = measure_targets(backbone, scene, RECIPE).regions[0].style
    wanted = measure_targets(backbone, make_scene(CONTENT, turned, RECIPE), RECIPE)
    jax.tree.map(np.testing.assert_array_equal, found, wanted.regions[0].style)


def test_a_palette_colors_no_style_where_only_lightness_is_painted():
    recipe, masks = RECIPE.replace(colors="luminance"), Masks(palette=OTHER)
    (region,) = make_scene(CONTENT, [STYLE], recipe, masks=masks).regions
    image = region.styles[0].image
    np.testing.assert_allclose(
        image, image.mean(-1, keepdims=True) + 0 * image, 0, 1e-6
    )


def test_a_style_has_a_scale_of_its_own(backbone):
    small = make_scene(CONTENT, [Style(STYLE, stroke_scale=0.5)], RECIPE)
    plain = make_scene(CONTENT, [STYLE], RECIPE.replace(style_scale=0.5))
    one = measure_targets(backbone, small, RECIPE).regions[0].style
    two = measure_targets(backbone, plain, RECIPE).regions[0].style
    jax.tree.map(np.testing.assert_array_equal, one, two)


BAD = {
    "empty": (dict(regions=[Region([STYLE], 0 * LEFT)]), [OTHER], "region 1 is all"),
    "no style": (dict(regions=[Region([STYLE], LEFT)]), [], "for the 57.1% of"),
    "both": (
        dict(regions=[Region([STYLE], LEFT)], keep_rest=True),
        [OTHER],
        "got both",
    ),
    "none": (dict(), [], "at least one style, got none"),
    "region": (dict(regions=[Region([], LEFT)]), [OTHER], "one style, got none"),
}


@pytest.mark.parametrize("case", BAD)
def test_masks_that_do_not_fit_are_refused(case):
    masks, styles, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make_scene(CONTENT, styles, RECIPE, masks=Masks(**masks))


def test_strength_goes_from_the_photograph_to_the_painting(backbone):
    painted = [
        paint(backbone, [STYLE], RECIPE.with_strength(x)) for x in (0.0, 0.2, 0.9)
    ]
    far = [float(jnp.abs(x.image - CONTENT).mean()) for x in painted]
    assert far[0] < 1e-6 < far[1] < far[2]
    assert RECIPE.with_strength(0.5) == RECIPE
    with pytest.raises(ValueError, match="strength cannot be 2"):
        RECIPE.with_strength(2.0)


@pytest.mark.parametrize("colors", ["content", "luminance"])
def test_colours_of_the_photograph_return(backbone, colors):
    image = np.float64(paint(backbone, [STYLE], RECIPE.replace(colors=colors)).image)
    found, wanted = (oracle.oklab(x)[..., 1:] for x in (image, np.float64(CONTENT)))
    if colors == "luminance":
        np.testing.assert_allclose(found, wanted, atol=1 / 255)
    moments = partial(oracle.mean_and_covariance)
    (mean, covariance), (own, cov) = moments(found), moments(wanted)
    size = np.linalg.norm(cov)
    assert np.linalg.norm(covariance - cov) < 0.03 * size
    assert np.linalg.norm(mean - own) < 0.03 * np.sqrt(size)


def test_previews_have_the_colours_of_the_result(backbone):
    grey, style = (jnp.broadcast_to(x[..., :1], x.shape) for x in (CONTENT, STYLE))
    seen = []
    show = lambda progress: seen.append(progress.image)
    helpers.paint(backbone, grey, [style], RECIPE, on_chunk=show, chunk=1)
    assert len(seen) == 4
    for image in seen:
        assert image.shape == CONTENT.shape
        assert np.ptp(image, axis=-1).max() < 1e-3
