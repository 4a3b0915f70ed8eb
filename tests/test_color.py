import jax
import jax.numpy as jnp
import numpy as np
import oracle
from helpers import random_image

from jaxnst.pictures.color import (
    FLATTEST,
    LUMA,
    STEEPEST,
    match_lightness,
    match_palette,
)

# All tests share two shapes, and so the programs compiled for them.
IMAGE, REFERENCE = (24, 20), (18, 30)


def muted(image):
    """Keep the colours away from 0 and 1, where the result would be clipped."""
    return 0.45 + 0.1 * (image - 0.5)


def test_mean_and_covariance_become_the_references():
    image, reference = (
        muted(random_image(0, *IMAGE)),
        muted(random_image(1, *REFERENCE)),
    )
    moved = match_palette(image, [reference + 0.1], epsilon=0.0)
    mean, covariance = oracle.mean_and_covariance(np.float64(moved))
    wanted = oracle.mean_and_covariance(np.float64(reference) + 0.1)
    np.testing.assert_allclose(mean, wanted[0], atol=1e-4)
    np.testing.assert_allclose(covariance, wanted[1], rtol=0.02, atol=1e-6)


def test_the_map_is_the_optimal_transport():
    """Its mean square is the Wasserstein-2 distance; no other map has less."""
    image, reference = (
        muted(random_image(2, *IMAGE)),
        muted(random_image(3, *REFERENCE)),
    )
    moved = np.float64(match_palette(image, [reference], epsilon=0.0))
    cost = ((moved - np.float64(image)) ** 2).mean()
    distance = oracle.wasserstein2(np.float64(image), np.float64(reference))
    np.testing.assert_allclose(cost, distance, rtol=0.02)


def test_faint_noise_is_not_blown_up():
    grey = 0.5 + 0.004 * jax.random.normal(jax.random.key(0), (*IMAGE, 3))
    moved = match_palette(grey, [random_image(4, *REFERENCE)])
    assert moved.std() < 0.05


def test_blending_weights_the_references():
    image = muted(random_image(5, *IMAGE))
    a, b = (muted(random_image(seed, *REFERENCE)) for seed in (6, 7))
    blended = match_palette(image, [a, b], blend=jnp.array([3.0, 1.0]))
    expected = 0.75 * a.mean((0, 1)) + 0.25 * b.mean((0, 1))
    np.testing.assert_allclose(blended.mean((0, 1)), expected, atol=1e-4)


def test_flat_images_stay_finite():
    flat = lambda shape: jnp.full((*shape, 3), 0.3)
    for image, reference in (
        (flat(IMAGE), random_image(8, *REFERENCE)),
        (random_image(8, *IMAGE), flat(REFERENCE)),
    ):
        assert jnp.isfinite(match_palette(image, [reference])).all()


def sorted_luma(image):
    return np.sort((np.float64(image) @ LUMA).ravel())


def test_lights_and_darks_become_those_of_the_reference():
    image = 0.2 + 0.6 * random_image(1, 40, 60)
    reference = 0.2 + 0.6 * random_image(2, *REFERENCE) ** 1.5
    moved = match_lightness(image, [reference])
    wanted = np.quantile(sorted_luma(reference), np.linspace(0, 1, 2400))
    assert np.abs(sorted_luma(image) - wanted).mean() > 0.05
    assert np.abs(sorted_luma(moved) - wanted).mean() < 0.01
    clipped = ((moved == 0) | (moved == 1)).any(axis=-1)
    change = (moved - image)[~clipped]
    np.testing.assert_allclose(change, change[:, :1].repeat(3, 1), atol=1e-6)


def test_grain_is_not_torn_into_lights_and_darks():
    grain = 0.5 + 0.02 * random_image(1, 40, 60)
    reference = random_image(2, *REFERENCE)
    found, given = sorted_luma(match_lightness(grain, [reference])), sorted_luma(grain)
    assert np.ptp(found) <= (STEEPEST + 0.5) * np.ptp(given)
    assert abs(found.mean() - sorted_luma(reference).mean()) < 0.02


def test_forms_in_the_light_stay():
    """Where the reference is white, as a drawing's paper is."""
    image = np.repeat(random_image(1, 40, 60)[..., :1], 3, axis=2)
    white = np.ones((8, 8, 3), np.float32)
    found, given = sorted_luma(match_lightness(image, [white])), sorted_luma(image)
    dark = slice(0, len(given) // 4)
    assert np.ptp(found[dark]) > (FLATTEST - 0.1) * np.ptp(given[dark])


def test_lightness_is_measured_in_masks_and_blended():
    image, dark, light = random_image(1, 40, 60), random_image(2, 30, 30) / 2, 1.0
    half = np.zeros((30, 60, 1), np.float32)
    half[:, :30] = 1
    both = np.concatenate([dark, np.full((30, 30, 3), light)], axis=1)
    masked = match_lightness(image, [both], reference_masks=[half])
    np.testing.assert_allclose(masked, match_lightness(image, [dark]), atol=1e-5)
    white, black = np.ones((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.float32)
    grey = match_lightness(image, [white, black], blend=np.array([1.0, 1.0]))
    assert abs(float(np.mean(grey @ LUMA)) - 0.5) < 0.01
    # What a mask leaves out does not count, but moves alike.
    left = np.zeros((40, 60, 1), np.float32)
    left[:, :20] = 1
    part = match_lightness(image, [dark], mask=left)[:, :20]
    np.testing.assert_allclose(part, match_lightness(image[:, :20], [dark]), atol=1e-5)
