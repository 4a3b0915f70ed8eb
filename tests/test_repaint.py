"""Enlarging a picture with the paint of its styles."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_image

from jaxnst import Options, stylize, stylize_grid
from jaxnst.painting.checkpoint import Checkpoint
from jaxnst.recipes import get_recipe
from jaxnst.repaint import Bank, cohere, hypercolumns, lay, make_bank, repaint, search
from jaxnst.tiles import smallest_tile

room = importlib.import_module("jaxnst.repaint")
RECIPE = get_recipe("painterly")
PROGRAM = RECIPE.program


def random_columns(key, h, w, c=16):
    x = jax.random.normal(jax.random.key(key), (h, w, c))
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def bank_of(columns, costs=None):
    h, w, _ = columns.shape
    cells = jax.random.uniform(jax.random.key(9), (h, w, 4, 4, 3))
    return Bank(columns, jnp.zeros((h, w)) if costs is None else costs, cells)


def places(h, w, down=0, right=0):
    return jnp.asarray(np.stack(np.indices((h, w)), -1) + np.array([down, right]))


def test_the_search_is_exact():
    queries, columns = random_columns(0, 9, 11), random_columns(1, 7, 13)
    costs = jax.random.uniform(jax.random.key(2), (7, 13), maxval=0.3)
    scores = np.einsum("hwc,ijc->hwij", np.float64(queries), np.float64(columns))
    best = (scores - np.float64(costs)).reshape(9, 11, -1).argmax(-1)
    found = search(queries, bank_of(columns, costs))
    np.testing.assert_array_equal(found[..., 0] * 13 + found[..., 1], best)


def test_a_large_bank_is_searched_on_a_grid(monkeypatch):
    monkeypatch.setattr(room, "SEARCHED", 30)
    found = search(random_columns(0, 5, 5), bank_of(random_columns(1, 20, 20)))
    assert set(np.unique(found)) <= {0, 4, 8, 12, 16}


def test_coherent_matches_spread_over_wrong_ones():
    """Every place is as good as any other, so only the neighbours decide."""
    same = jnp.ones((12, 12, 4)) / 2
    right = places(6, 6, 3, 4)
    wrong = jax.random.randint(jax.random.key(3), right.shape, 0, 12)
    some = jax.random.bernoulli(jax.random.key(4), 0.25, (6, 6, 1))
    first = jnp.where(some, wrong, right)
    found = cohere(first, same[:6, :6], bank_of(same))
    assert jnp.mean(jnp.all(found == right, -1)) > 0.9 > 0.8 > 1 - some.mean()


def test_matches_reach_what_the_search_left_out(monkeypatch):
    monkeypatch.setattr(room, "SEARCHED", 25)
    columns = random_columns(5, 20, 20)
    queries = columns[4:16, 4:16]
    found = cohere(search(queries, bank_of(columns)), queries, bank_of(columns))
    assert jnp.mean(jnp.all(found == places(12, 12, 4, 4), -1)) > 0.9


def test_matches_in_order_copy_the_style():
    bank = bank_of(random_columns(6, 8, 9))
    pixels = bank.cells.swapaxes(1, 2).reshape(32, 36, 3)
    laid = lay(places(5, 6, 1, 2), bank)
    np.testing.assert_allclose(laid, pixels[4:24, 8:32], atol=1e-6)


def test_a_style_is_laid_out_of_itself(backbone):
    """Away from its border, which is not used."""
    style = random_image(7, 64, 80)
    laid = repaint(backbone, style, style, [style], RECIPE)
    inner = np.s_[16:-16, 16:-16]
    np.testing.assert_allclose(laid[inner], style[inner], atol=1e-5)


def test_borders_and_styles_without_weight_are_not_used(backbone):
    styles = [random_image(8, 48, 64), random_image(9, 40, 40)]
    bank = make_bank(backbone, styles, jnp.array([2.0, 0.0]), PROGRAM)
    assert bank.costs.shape == (12 + 10, 16)
    used = np.isfinite(bank.costs)
    assert used[2:10, 2:14].all()
    assert used.sum() == 8 * 12
    image = random_image(1, 64, 64)
    alone = repaint(backbone, image, image, styles[:1], RECIPE)
    both = repaint(backbone, image, image, styles, RECIPE, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(both, alone, atol=1e-6)


def test_hypercolumns_are_centred_and_of_length_one(backbone):
    found = hypercolumns(backbone, random_image(2, 33, 40), PROGRAM)
    assert found.shape == (16, 20, 448)
    np.testing.assert_allclose(jnp.mean(found, -1), 0, atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=-1), 1, atol=1e-4)


def test_bands_join_without_a_seam(backbone, monkeypatch):
    image, style = random_image(3, 320, 64), random_image(4, 96, 96)
    whole = repaint(backbone, image, image, [style], RECIPE)
    monkeypatch.setattr(room, "BAND", 160 * 32 // 4)
    bands = repaint(backbone, image, image, [style], RECIPE)
    assert whole.shape == bands.shape == (320, 64, 3)
    assert jnp.mean(jnp.any(jnp.abs(whole - bands) > 1e-3, axis=-1)) < 0.02


@pytest.mark.parametrize("shape", [(63, 61), (66, 64)])
def test_a_picture_of_any_shape_keeps_it(backbone, shape):
    image, style = random_image(3, *shape), random_image(4, 50, 70)
    found = repaint(backbone, image, image, [style], RECIPE)
    assert found.shape == image.shape
    assert 0 <= found.min() <= found.max() <= 1


def test_only_the_middle_of_large_styles_is_used(backbone, monkeypatch):
    image, style = random_image(5, 64, 64), random_image(6, 96, 128)
    monkeypatch.setattr(room, "LARGEST", 48 * 64)
    found = repaint(backbone, image, image, [style], RECIPE)
    middle = repaint(backbone, image, image, [style[24:72, 32:96]], RECIPE)
    np.testing.assert_array_equal(found, middle)


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_the_weights_say_whether_content_or_picture_is_looked_up(backbone, weights):
    content, image = random_image(1, 64, 64), random_image(2, 64, 64)
    style, (content_weight, style_weight) = random_image(3, 64, 64), weights
    recipe = RECIPE.replace(content_weight=content_weight, style_weight=style_weight)
    found = repaint(backbone, image, content, [style], recipe)
    alone = content if content_weight else image
    expected = repaint(backbone, alone, alone, [style], RECIPE)
    assert jnp.mean(jnp.abs(found - expected) < 1e-5) > 0.98


SHALLOW = RECIPE.replace(
    content_layers=(("relu1_1@2", 1.0),),
    style_layers=(("relu1_1@2", 1.0),),
    style_loss="gram",
    optimizer="adam",
    first_steps=2,
    steps=6,
    min_size=40,
    scales=2,
)
CONTENT, STYLE = random_image(10, 48, 56), random_image(11, 60, 52)


def paint(backbone, **options):
    key, options = jax.random.key(0), Options(**options)
    return stylize(backbone, CONTENT, [STYLE], SHALLOW, key=key, options=options)


def test_a_run_ends_by_repainting(backbone):
    result = paint(backbone)
    planned = [(x.shape, x.steps, x.repaint) for x in result.stages]
    assert planned[1:] == [((48, 56), 6, False), ((48, 56), 2, True)]
    before = paint(backbone, stages=result.stages[:-1])
    assert jnp.mean(jnp.abs(result.image - before.image)) > 0.01


def test_a_lane_is_repainted_as_alone(backbone):
    (lanes,) = stylize_grid(
        backbone, [CONTENT], [STYLE, 1 - STYLE], SHALLOW, key=jax.random.key(0)
    )
    np.testing.assert_allclose(lanes[0, 0], paint(backbone).image, atol=1e-4)


@pytest.mark.parametrize(("scale", "taken"), [(1, 6), (2, 1)])
def test_a_repainted_run_resumes_bit_for_bit(backbone, scale, taken):
    kept = []

    def keep(progress):
        if (progress.scale, progress.taken) == (scale, taken):
            state = jax.device_get(progress.state)
            kept.append(Checkpoint(scale, taken, state, [None] * 3, {}))

    expected = paint(backbone, on_chunk=keep, chunk=1)
    resumed = paint(backbone, resume=kept[0])
    np.testing.assert_array_equal(resumed.image, expected.image)


def test_a_repainted_run_in_tiles_paints_the_same_picture(backbone):
    whole = paint(backbone)
    smallest = smallest_tile(SHALLOW.layers)
    tiled = tuple(stage._replace(tile=smallest) for stage in whole.stages)
    np.testing.assert_allclose(
        paint(backbone, stages=tiled).image, whole.image, atol=1e-3
    )
