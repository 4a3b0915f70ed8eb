import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import random_image
from oracle import SHAPES

from jaxnst.network import vgg
from jaxnst.network.calibrate import accelerate, calibrate
from jaxnst.network.conv import WinogradKernel
from jaxnst.network.vgg import LAYERS, features, receptive_field, shrink, stride

SIZE = (37, 50)
"""Odd, so that pooling drops a row; shared, so that compiled operations are, too."""


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
@pytest.mark.parametrize(
    ("pooling", "scale"), [("max", 1), ("average", 2), ("l2", 0.78)]
)
def test_features_match_the_oracle_at_every_layer(backbone, pooling, scale, padding):
    image = random_image(0, *SIZE)
    options = {"pooling": pooling, "pool_scale": float(scale), "padding": padding}
    ours = features(backbone, image, layers=LAYERS, **options)
    theirs = oracle.features(backbone, np.float64(image), **options)
    assert list(ours) == list(theirs)
    for layer, expected in theirs.items():
        error = np.linalg.norm(ours[layer] - expected) / np.linalg.norm(expected)
        assert error < 1e-5, layer


def test_features_compose_with_jit_vmap_and_grad(backbone):
    image = random_image(1, 32, 32)
    measure = lambda x: features(backbone, x, layers=("relu3_1",))["relu3_1"]
    expected = measure(image)
    np.testing.assert_allclose(jax.jit(measure)(image), expected, rtol=1e-3, atol=1e-4)
    batch = jax.jit(jax.vmap(measure))(jnp.stack([image, image]))
    np.testing.assert_allclose(batch[1], expected, rtol=1e-3, atol=1e-4)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(measure(x) ** 2)))(image)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).max() > 0


def test_accelerated_features_and_gradients_are_the_same(backbone, monkeypatch):
    monkeypatch.setattr("jaxnst.network.conv.MOST_DIRECT", 0)
    image = random_image(2, 70, 90)
    layers = ("relu2_2", "relu4_2")
    loss = lambda b, x: sum(
        jnp.mean(f**2) for f in features(b, x, layers=layers).values()
    )
    measure = jax.jit(jax.value_and_grad(loss, argnums=1))
    plain = measure(backbone, image)
    fast = measure(accelerate(backbone, layers), image)
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        assert jnp.linalg.norm(a - b) / jnp.linalg.norm(b) < 1e-5


def test_nothing_deeper_than_asked_is_needed_or_computed(backbone):
    names, image = ("conv1_1", "conv1_2", "conv2_1"), random_image(3, 16, 16)
    params = {name: backbone.params[name] for name in names}
    shallow = dataclasses.replace(backbone, params=params)
    measure = lambda network: features(network, image, layers=("relu2_1",))
    assert measure(shallow)["relu2_1"].shape == (8, 8, 128)
    program = str(jax.make_jaxpr(measure)(backbone))
    assert program.count("= conv_general_dilated[") == 3


@pytest.mark.parametrize("layer", LAYERS)
def test_receptive_field_is_what_one_position_sees(layer):
    # In a network of ones the gradient is positive on the receptive field, exactly. One
    # channel is enough, and the field needs no more than 300 pixels.
    side = 288

    def seen(x):
        for name in LAYERS[: LAYERS.index(layer) + 1]:
            if name.endswith("_1") and name != "relu1_1":
                x = x[: len(x) // 2 * 2].reshape(-1, 2).sum(1)
            x = jnp.convolve(x, jnp.ones(3), "same")
        return x[len(x) // 2]

    touched = np.flatnonzero(jax.grad(seen)(jnp.ones(side)))
    assert touched[-1] - touched[0] + 1 == min(vgg.receptive_field(layer), side)


@pytest.mark.parametrize("pooling", ["max", "average", "l2"])
def test_unit_mean_divides_each_feature_by_its_mean(backbone, pooling):
    image = random_image(4, *SIZE)
    layers = ("relu1_2", "relu3_1", "relu5_4")
    plain = features(backbone, image, layers=layers, pooling=pooling)
    rescaled = calibrate(backbone, "unit_mean")
    normal = features(rescaled, image, layers=layers, pooling=pooling)
    for layer in layers:
        expected = plain[layer] / backbone.mean_activation[layer][None, None]
        np.testing.assert_allclose(normal[layer], expected, rtol=1e-3, atol=1e-4)


def test_unit_mean_leaves_a_dead_filter_alone(backbone):
    means = {name: m.at[0].set(0.0) for name, m in backbone.mean_activation.items()}
    silent = dataclasses.replace(backbone, mean_activation=means)
    rescaled = calibrate(silent, "unit_mean")
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(rescaled))


def test_the_relu_and_its_derivative_are_those_of_jax():
    x = jnp.array([[[-1.5, -0.0, 0.0, 2.0]]])
    (ours, ours_back), (theirs, theirs_back) = (
        jax.vjp(relu, x) for relu in (vgg.relu, jax.nn.relu)
    )
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours_back(x + 3), theirs_back(x + 3))


def test_l2_pooling_has_a_finite_gradient_at_zero():
    gradient = jax.grad(lambda x: jnp.sum(vgg.pool(x, "l2")))(jnp.zeros((4, 4, 2)))
    assert (gradient == 0).all()


def test_bfloat16_is_close_and_stays_bfloat16(backbone):
    image = random_image(5, 32, 32)
    measure = jax.jit(
        lambda x, dtype: features(backbone, x, layers=("relu4_1",), dtype=dtype),
        static_argnums=1,
    )
    exact, rough = (measure(image, x)["relu4_1"] for x in ("float32", "bfloat16"))
    assert rough.dtype == jnp.bfloat16
    error = jnp.linalg.norm(rough.astype(jnp.float32) - exact)
    assert error < 0.05 * jnp.linalg.norm(exact)


@pytest.mark.parametrize(
    ("layers", "size", "message"),
    [
        (("relu4_9",), 32, "did you mean relu4_"),
        (("conv4_1",), 32, "did you mean relu4_1"),
        ((), 32, "at least one layer"),
        (("relu5_1",), 15, "at least 16 px"),
    ],
)
def test_bad_requests_are_refused(backbone, layers, size, message):
    with pytest.raises(ValueError, match=message):
        features(backbone, random_image(6, size, 40), layers=layers)


def test_a_layer_that_the_weights_lack_is_refused(backbone):
    short = dataclasses.replace(
        backbone, params={"conv1_1": backbone.params["conv1_1"]}
    )
    with pytest.raises(ValueError, match="end at conv1_1"):
        features(short, random_image(7, 32, 32), layers=("relu1_2",))


def test_a_layer_of_a_smaller_picture_is_that_of_the_picture_shrunk(backbone):
    image = random_image(0, 37, 50)
    layers = ("relu1_1", "relu2_1@2", "relu1_2@4")
    found = features(backbone, image, layers=layers)
    half = shrink(image)
    wanted = {
        "relu1_1": features(backbone, image, layers=("relu1_1",))["relu1_1"],
        "relu2_1@2": features(backbone, half, layers=("relu2_1",))["relu2_1"],
        "relu1_2@4": features(backbone, shrink(half), layers=("relu1_2",))["relu1_2"],
    }
    assert found.keys() == wanted.keys()
    for layer, feature in wanted.items():
        np.testing.assert_allclose(found[layer], feature, rtol=1e-5, atol=1e-5)
        assert feature.shape[:2] == (37 // stride(layer), 50 // stride(layer))


def test_shrinking_is_the_binomial_filter():
    image = np.random.default_rng(0).random((9, 12, 3))
    padded = np.pad(image[:8], ((1, 1), (1, 1), (0, 0)))
    shown = np.pad(np.ones((8, 12, 1)), ((1, 1), (1, 1), (0, 0)))
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1])[..., None]
    places = [
        [np.s_[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] for j in range(6)]
        for i in range(4)
    ]
    mean = lambda at: np.sum(taps * padded[at], (0, 1)) / np.sum(taps * shown[at])
    expected = [[mean(at) for at in row] for row in places]
    np.testing.assert_allclose(shrink(jnp.float32(image)), expected, rtol=1e-5)


@pytest.mark.parametrize("layer", ["relu2_1", "relu1_2@2", "relu2_1@4"])
def test_a_position_depends_on_its_receptive_field(backbone, layer):
    side = 96
    middle = side // stride(layer) // 2

    def activity(image):
        seen = features(backbone, image, layers=(layer,), pooling="average")[layer]
        return jnp.sum(seen[middle, middle])

    rng = jax.random.key(3)
    grads = jax.grad(activity)(jax.random.uniform(rng, (side, side, 3)))
    rows = np.flatnonzero(np.abs(grads).max((1, 2)))
    assert rows[-1] - rows[0] + 1 == receptive_field(layer)


def test_kernels_are_prepared_only_for_pictures_that_need_them(backbone):
    layers = ("relu4_2", "relu2_1")

    def prepared(*given):
        params = accelerate(backbone, *given).params
        return [x for x in params if isinstance(params[x]["kernel"], WinogradKernel)]

    assert prepared(layers) == [x for x in SHAPES if "conv2_1" <= x <= "conv4_2"]
    assert prepared(layers, 64**2) == []
    assert "conv3_2" in prepared(layers, 256**2)
    assert prepared(("relu4_2@2", "relu2_1@2"), 256**2) == []
