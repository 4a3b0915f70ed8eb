import jax
import jax.numpy as jnp
import numpy as np
import oracle
from helpers import random_image

from jaxnst.pictures.color import match_palette

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
