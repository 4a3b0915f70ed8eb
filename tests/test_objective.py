"""The losses of papers and notebooks, as their own formulas give them, in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import LAYERS, random_image

from jaxnst.network.calibrate import calibrate
from jaxnst.objective import make_targets, objective
from jaxnst.recipes import RECIPES, get_recipe


def sums(f):
    """Gram matrix as a sum over the positions, and its N channels and M positions."""
    flat = f.reshape(-1, f.shape[-1])
    return flat.T @ flat, f.shape[-1], len(flat)


def gatys(f, s):
    (g, n, m), (a, _, _) = sums(f), sums(s)
    return ((g - a) ** 2).sum() / (4 * n**2 * m**2)


def udacity(f, s):
    (g, n, m), (a, _, _) = sums(f), sums(s)
    return ((g - a) ** 2).mean() / (n * m)


def johnson(f, s):
    (g, n, m), (a, _, k) = sums(f), sums(s)
    return ((g / (n * m) - a / (n * k)) ** 2).mean()


def tensorflow(f, s):
    (g, _, m), (a, _, k) = sums(f), sums(s)
    return ((g / m - a / k) ** 2).mean()


def mean_square(f, p):
    return ((f - p) ** 2).mean()


# recipe → (distance of contents, distance of styles, weight of each style layer)
FORMULAS = {
    "gatys2016": (lambda f, p: ((f - p) ** 2).sum() / 2, gatys, [0.2] * 5),
    "gatys2016-code": (mean_square, johnson, [1] * 5),
    "johnson": (mean_square, johnson, [1] * 5),
    "tf-blog": (mean_square, tensorflow, [0.2] * 5),
    "udacity": (mean_square, udacity, [1, 0.75, 0.2, 0.2, 0.2]),
    "kaggle": (mean_square, udacity, [1, 0.75, 0.2, 0.2, 0.2]),
    "boston": (mean_square, gatys, [0.2] * 5),
    "crowson": (
        mean_square,
        oracle.wasserstein2,
        [w / 341 for w in (256, 64, 16, 4, 1)],
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_loss_is_the_published_formula(backbone, name):
    content_distance, style_distance, layer_weights = FORMULAS[name]
    recipe = get_recipe(name)
    weights = recipe.weights
    image, content = random_image(0, 21, 36), random_image(1, 21, 36)
    style = random_image(2, *((21, 36) if recipe.sizes.squash_style else (32, 22)))
    targets = make_targets(backbone, content, [style], recipe)
    loss, terms = objective(image, backbone, targets, recipe.program)
    gain = 256 / 255 if name == "johnson" else 1
    pooling, padding = recipe.program.pooling, recipe.program.padding
    seen, wanted, painted = (
        oracle.features(backbone, gain * np.float64(x), pooling, 1.0, padding)
        for x in (image, content, style)
    )
    (layer, _), *_ = recipe.program.content_layers
    assert layer == ("relu5_2" if name == "tf-blog" else "relu4_2")
    parts = [
        weights.content_weight * content_distance(seen[layer], wanted[layer]),
        weights.style_weight
        * sum(
            w * style_distance(seen[f"relu{b}_1"], painted[f"relu{b}_1"])
            for b, w in enumerate(layer_weights, 1)
        ),
    ]
    ours = [weights.content_weight * terms.content, weights.style_weight * terms.style]
    # Eigenvalues of relu5_1, with six positions, are where float32 shows.
    tolerance = 1e-2 if name == "crowson" else 2e-3
    np.testing.assert_allclose(ours, parts, rtol=tolerance)
    variation = weights.tv_weight * float(terms.tv)
    np.testing.assert_allclose(loss, sum(parts) + variation, rtol=tolerance)


def test_johnson_variation_is_that_of_the_image_of_256_levels(backbone):
    recipe, image = get_recipe("johnson").replace(**LAYERS), random_image(0, 16, 20)
    targets = make_targets(backbone, image, [image], recipe)
    _, terms = objective(image, backbone, targets, recipe.program)
    x = 256 * np.float64(image)
    right, down = x[:-1, 1:] - x[:-1, :-1], x[1:, :-1] - x[:-1, :-1]
    expected = 1e-3 * ((right**2).sum() + (down**2).sum()) / 2
    np.testing.assert_allclose(recipe.weights.tv_weight * terms.tv, expected, rtol=1e-5)


def test_normalized_gradients_have_the_norm_of_their_weight(backbone):
    recipe = get_recipe("johnson").replace(
        normalize_gradients=True,
        tv_weight=0.0,
        content_layers=(("relu1_1", 1.0),),
        style_layers=(("relu1_1", 2.0),),
    )
    content, style, image = (random_image(i, 16, 20) for i in range(3))
    targets = make_targets(backbone, content, [style], recipe)

    @jax.jit
    def gradient(image, targets):
        loss = lambda x: objective(x, backbone, targets, recipe.program)[0]
        return jax.grad(loss)(image)

    # The gradient at relu1_1 keeps its direction, so only its length may change.
    only = targets._replace(style_weight=jnp.float32(0))
    plain = recipe.replace(normalize_gradients=False)
    plain_loss = lambda x: objective(x, backbone, only, plain.program)[0]
    scale = gradient(image, only) / jax.jit(jax.grad(plain_loss))(image)
    np.testing.assert_allclose(scale, jnp.median(scale), rtol=1e-2)
    twice = only._replace(content_weight=2 * only.content_weight)
    np.testing.assert_allclose(
        gradient(image, twice), 2 * gradient(image, only), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_means_its_own_family_exactly_and_others_about(backbone, recipe):
    level = {"unit_mean": 1, "caffe": 100, "torchvision": 2}[recipe.program.activations]
    if recipe.program.activations != "unit_mean":
        own = dataclasses.replace(backbone, family=recipe.program.activations)
        assert calibrate(own, recipe.program.activations) is own
        rescaled = calibrate(calibrate(own, "unit_mean"), recipe.program.activations)
        assert jnp.isclose(rescaled.mean_activation["relu1_1"].mean(), level)
    other = calibrate(backbone, recipe.program.activations)
    means = other.mean_activation["relu1_1"]
    np.testing.assert_allclose(jnp.mean(means), level, rtol=1e-4)
