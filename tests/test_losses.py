import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from jaxnst import losses
from jaxnst.losses import eigh, gaussian, moments, wasserstein2_loss
from jaxnst.losses.neighbors import SAMPLES
from jaxnst.losses.sliced import directions


def feature(seed, h=6, w=7, c=5, scale=1.0):
    drawn = np.random.default_rng(seed).normal(size=(h, w, c)) + 0.3
    return jnp.asarray(scale * np.maximum(drawn, 0), jnp.float32)


def style_distance(row, f, g, weights=None):
    target = row.prepare(row.summarize(g, None), min(g.shape[0] * g.shape[1], 5))
    return row.distance(row.summarize_image(f, target, weights), target)


def content_distance(row, f, g, weights=None):
    target = row.prepare(g, row.measure(g, None))
    return row.distance(row.summarize(f, target, weights))


def variation_of(row, f, g, weights=None):
    image = (f - g)[..., :3]
    return row.distance(row.summarize(image, weights), image.shape)


def gram_oracle(f, g, scale=1.0):
    return scale * ((oracle.gram(f) - oracle.gram(g)) ** 2).mean()


# row → the same loss between two features in float64 NumPy
ORACLES = {
    "content mean": lambda f, g: ((f - g) ** 2).mean(),
    "content half_sum": lambda f, g: ((f - g) ** 2).sum() / 2,
    "content correlation": oracle.correlation,
    "style gram": gram_oracle,
    "style gram_quarter_mean": lambda f, g: gram_oracle(f, g, 1 / 4),
    "style gram_channels": lambda f, g: gram_oracle(f, g, f.shape[-1] ** -2),
    "style gram_sums": lambda f, g: gram_oracle(
        f, g, f.shape[0] * f.shape[1] / f.shape[-1]
    ),
    "style wasserstein2": oracle.wasserstein2,
    "style sliced_wasserstein": lambda f, g: oracle.sliced_wasserstein(
        f, g, np.float64(directions(f.shape[-1]))
    ),
    "style nearest_neighbors": oracle.nearest_neighbors,
    "variation nine_point": lambda f, g: oracle.total_variation((f - g)[..., :3]),
    "variation squares": lambda f, g: oracle.squared_variation((f - g)[..., :3]),
}
TABLES = {
    "content": (losses.CONTENT_LOSSES, content_distance),
    "style": (losses.STYLE_LOSSES, style_distance),
    "variation": (losses.VARIATION_LOSSES, variation_of),
}
# row → it, and its loss between two features
ROWS = {
    f"{kind} {name}": (row, jax.jit(partial(distance, row)))
    for kind, (table, distance) in TABLES.items()
    for name, row in table.items()
}
each_row = pytest.mark.parametrize("name", ROWS)
of_features = pytest.mark.parametrize(
    "name", [name for name in ROWS if not name.startswith("variation")]
)


@each_row
def test_value_and_gradient_match_the_oracle(name):
    """Also of a batch, whose other picture has another value."""
    loss, expected = ROWS[name][1], ORACLES[name]
    f, g = feature(4), feature(5, scale=1.5)
    value, grad = jax.jit(jax.value_and_grad(loss))(f, g)
    assert value.dtype == jnp.float32
    pairs = jnp.stack([f, 2 * f]), jnp.stack([g, g])
    values, grads = jax.jit(jax.vmap(jax.value_and_grad(loss)))(*pairs)
    np.testing.assert_allclose(values[0], value, rtol=1e-5)
    np.testing.assert_allclose(grads[0], grad, rtol=1e-4, atol=1e-6)
    d, h = np.random.default_rng(6).normal(size=f.shape), 1e-6
    f, g = np.float64(f), np.float64(g)
    np.testing.assert_allclose(values, [expected(f, g), expected(2 * f, g)], rtol=2e-3)
    difference = (expected(f + h * d, g) - expected(f - h * d, g)) / (2 * h)
    np.testing.assert_allclose(np.vdot(grad, d), difference, rtol=5e-3)


@each_row
def test_zero_at_the_target_and_positive_elsewhere(name):
    _, loss = ROWS[name]
    f = feature(2)
    assert abs(loss(f, f)) < 2e-3 * max(loss(f, 0 * f), 1)
    assert loss(f, feature(3)) > 0


@each_row
def test_gradient_is_finite_on_flat_features(name):
    gradient = jax.jit(jax.grad(ROWS[name][1]))
    for value in (0.0, 0.5):
        flat = jnp.full((6, 7, 5), value)
        for target in (flat, feature(7)):
            assert jnp.isfinite(gradient(flat, target)).all()


@each_row
def test_weights_of_one_change_nothing(name):
    f, g, ones = feature(8), feature(9), jnp.ones((6, 7, 1))
    both = jax.jit(jax.value_and_grad(ROWS[name][1]))
    for a, b in zip(both(f, g, ones), both(f, g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@of_features
def test_weights_of_zero_and_one_leave_the_statistics_of_what_is_cropped(name):
    """Value and gradient; what has the weight 0 gets none."""
    row, loss = ROWS[name]
    f, g = feature(10), feature(11, scale=1.3)
    inside = jnp.zeros((6, 7, 1)).at[1:4, 2:6].set(1)
    crop = lambda x: x[1:4, 2:6]
    if name.startswith("content"):
        target = row.prepare(g, row.measure(g, None))
        weighted = lambda f: row.distance(row.summarize(f, target, inside))
        cropped = lambda f: row.distance(row.summarize(f, crop(target), None))
    else:
        weighted, cropped = (lambda f: loss(f, g, inside)), (lambda f: loss(f, g))
    value, grad = jax.jit(jax.value_and_grad(weighted))(f)
    expected, expected_grad = jax.jit(jax.value_and_grad(cropped))(crop(f))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(crop(grad), expected_grad, rtol=2e-3, atol=1e-6)
    assert jnp.all(grad * (1 - inside) == 0)


@pytest.mark.parametrize(
    "name", [name for name, (row, _) in ROWS.items() if getattr(row, "additive", True)]
)
def test_summaries_of_complementary_weights_add_up_to_the_whole(name):
    row, _ = ROWS[name]
    f, g = feature(12), feature(13)
    part = jnp.round(jax.random.uniform(jax.random.key(14), (6, 7, 1)))

    @jax.jit
    def summary(weights):
        if name.startswith("content"):
            return row.summarize(f, row.prepare(g, row.measure(g, None)), weights)
        if name.startswith("variation"):
            return row.summarize(f[..., :3], weights)
        return row.summarize_image(f, row.prepare(row.summarize(g, None), 5), weights)

    added = jax.tree.map(jnp.add, summary(part), summary(1 - part))
    whole = summary(None)
    for a, b in zip(jax.tree.leaves(added), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_every_row_has_an_oracle():
    assert set(ORACLES) == set(ROWS)


def wasserstein2_between(f, g):
    return wasserstein2_loss(moments(f), gaussian(moments(g)))


def test_gram_of_bfloat16_is_exact_in_float32():
    """Its gradient is rounded to bfloat16, as all that goes back from there is."""
    rough = feature(8, h=40, w=30, c=7, scale=3.0).astype(jnp.bfloat16)
    flat = np.asarray(rough, np.float64).reshape(-1, 7)
    gram, pullback = jax.vjp(losses.gram_matrix, rough)
    np.testing.assert_allclose(gram, flat.T @ flat / len(flat), rtol=1e-5)
    cotangent = jax.random.normal(jax.random.key(9), (7, 7))
    (grad,) = pullback(cotangent)
    both = np.asarray(cotangent + cotangent.T, np.float64)
    wanted = (flat @ both / len(flat)).reshape(rough.shape)
    error = np.linalg.norm(np.asarray(grad, np.float64) - wanted)
    assert grad.dtype == jnp.bfloat16
    assert error < 2**-7 * np.linalg.norm(wanted)


@of_features
def test_losses_of_bfloat16_are_computed_in_float32(name):
    _, loss = ROWS[name]
    f, g = (feature(seed).astype(jnp.bfloat16) for seed in (1, 2))
    plain = loss(f.astype(jnp.float32), g.astype(jnp.float32))
    assert loss(f, g).dtype == jnp.float32
    assert float(loss(f, g)) == pytest.approx(float(plain), rel=1e-5)


def test_wasserstein2_may_leave_out_the_null_space_of_the_style():
    f, g = feature(9, 8, 8, 32), feature(10, 3, 4, 32)
    whole = wasserstein2_loss(moments(f), gaussian(moments(g)))
    reduced = wasserstein2_loss(moments(f), gaussian(moments(g), rank=12))
    np.testing.assert_allclose(reduced, whole, rtol=5e-4)


@pytest.mark.parametrize("way", ["cpu", "default"])
@pytest.mark.parametrize(
    ("h", "w", "c", "style"), [(24, 32, 64, (20, 30)), (5, 6, 64, (7, 5))]
)
def test_wasserstein2_gradient_matches_float64(h, w, c, style, way, monkeypatch):
    """Also with fewer positions than channels, on features with a falling spectrum."""
    choose = lambda *args, **ways: ways[way](*args)
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    decay = jnp.exp(-jnp.arange(c) / 8)
    mix = jax.random.normal(jax.random.key(11), (c, c)) * decay[:, None]
    f = jax.nn.relu(jax.random.normal(jax.random.key(12), (h, w, c)) @ mix)
    g = jax.nn.relu(jax.random.normal(jax.random.key(13), (*style, c)) @ mix * 1.3)
    target = gaussian(moments(g))
    gradient = jax.jit(jax.grad(lambda f: wasserstein2_loss(moments(f), target)))(f)
    exact = oracle.wasserstein2_gradient(
        np.float64(f), np.float64(g), float(target.floor)
    )
    assert np.linalg.norm(gradient - exact) / np.linalg.norm(exact) < 0.02


def degenerate_features(c=64):
    """What networks see in pictures that are flat, of two colours, and lively."""
    colours = jax.random.uniform(jax.random.key(0), (4, c), minval=0.1, maxval=3)
    flat = [jnp.broadcast_to(colour, (48, 64, c)) for colour in colours]
    left = (jnp.arange(64) < 32)[None, :, None]
    halves = jnp.where(left, flat[0], flat[1])
    lively = feature(16, 48, 64, c)
    return {
        "zero": 0 * lively,
        "flat": flat[2],
        "other": flat[3],
        "halves": halves,
        "nearly flat": flat[2] + 1e-3 * lively,
        "lively": lively,
    }


@pytest.mark.parametrize("way", ["cpu", "default"])
def test_wasserstein2_of_degenerate_features_is_exact_and_has_a_gradient(
    way, monkeypatch
):
    """The rounding of raw moments is larger than what flat features vary."""
    choose = lambda *args, **ways: ways[way](*args)
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    both = jax.jit(jax.value_and_grad(wasserstein2_between))
    found = degenerate_features()
    for f, g in itertools.product(found.values(), found.values()):
        value, gradient = both(f, g)
        exact = oracle.wasserstein2(np.float64(f), np.float64(g))
        scale = np.float64(jnp.mean(f**2) + jnp.mean(g**2))
        np.testing.assert_allclose(value, exact, rtol=1e-3, atol=1e-3 * scale)
        assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("size", [6, 64])
def test_a_root_trace_by_products_has_a_closed_form(size):
    """In float64, over a spectrum of seven decades, with a null space."""
    values = np.logspace(0, -7, size)
    values[-size // 3 :] = 0
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))
    k = jnp.float32(basis * values @ basis.T)
    values, basis = np.linalg.eigh(np.float64(k))
    floors = np.float32([1.0, 1e-2, 3e-4])
    value_and_slope = jax.value_and_grad(losses.root_trace_by_products)
    found = jax.jit(jax.vmap(value_and_slope, in_axes=(None, 0)))(k, floors)
    for floor, value, slope in zip(floors, *found, strict=True):
        squared = values + np.float64(floor) ** 2
        np.testing.assert_allclose(value, np.sum(values / np.sqrt(squared)), rtol=1e-3)
        # What reaches the features is weighted by the features of both pictures.
        root = basis * np.sqrt(np.maximum(values, 0)) @ basis.T
        wanted = basis * (squared**-0.5 - values * squared**-1.5 / 2) @ basis.T
        exact = root @ wanted @ root
        error = np.linalg.norm(root @ np.float64(slope) @ root - exact)
        assert error < 1e-3 * np.linalg.norm(exact)


def test_a_root_trace_by_products_stands_pictures_far_from_the_style():
    """A flat one, a faint one, and one of much more contrast."""
    both = jax.jit(jax.value_and_grad(losses.root_trace_by_products))
    for scale in (0.0, 1e-4, 1e4):
        k = scale * random_covariance(0, 48)
        value, slope = both(k, jnp.float32(1e-4))
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh(np.float64(k)), 0))
        np.testing.assert_allclose(value, roots.sum(), rtol=0.05)
        assert np.isfinite(slope).all()


def test_moments_of_two_styles_average_to_those_of_both():
    f, g = feature(14), feature(15)
    both = moments(jnp.concatenate([f, g]))
    mean = jax.tree.map(lambda a, b: (a + b) / 2, moments(f), moments(g))
    for a, b in zip(both, mean, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_normalized_gradient_has_the_norm_asked_for():
    f, g = feature(8), feature(9)

    def loss(f, norm):
        return 7 * losses.content_loss(losses.normalize_gradient(f, norm), g)

    norm = jnp.float32(3)
    value, gradient = jax.jit(jax.value_and_grad(loss))(f, norm)
    np.testing.assert_allclose(jnp.sum(jnp.abs(gradient)), 3, rtol=1e-5)
    np.testing.assert_allclose(value, 7 * losses.content_loss(f, g), rtol=1e-6)
    np.testing.assert_array_equal(jnp.sign(gradient), jnp.sign(f - g))


def test_eigenvalues_and_vectors_differentiate_twice_under_vmap():
    """Against closed forms: `tr f(K)` has the gradient `f'(K)`, here for a power."""
    matrices = jnp.stack([random_covariance(seed, 6) for seed in (0, 1)])

    def power(k):
        return jnp.sum(eigh(k)[0] ** 3)

    values, vectors = jax.vmap(eigh)(matrices)
    rebuilt = vectors * values[:, None] @ vectors.swapaxes(1, 2)
    np.testing.assert_allclose(rebuilt, matrices, atol=1e-4)
    slopes = jax.jit(jax.vmap(jax.grad(power)))(matrices)
    np.testing.assert_allclose(slopes, 3 * matrices @ matrices, rtol=1e-3)

    def squared_slope(k):
        return jnp.sum(jax.grad(power)(k) ** 2)  # 9 tr K⁴, with the gradient 36 K³

    np.testing.assert_allclose(
        jax.jit(jax.vmap(jax.grad(squared_slope)))(matrices),
        36 * matrices @ matrices @ matrices,
        rtol=1e-2,
    )


def random_covariance(seed, size):
    samples = jax.random.normal(jax.random.key(seed), (20, size))
    return samples.T @ samples / 20


def test_slices_are_of_orthonormal_directions():
    for channels, count in ((5, 5), (200, 64)):
        basis = np.float64(directions(channels))
        assert basis.shape == (channels, count)
        np.testing.assert_allclose(basis.T @ basis, np.eye(count), atol=1e-5)


def test_sliced_wasserstein_sees_a_distribution_that_moments_do_not():
    """Two features of the same mean and covariance, of two values and of three."""
    two = jnp.tile(jnp.array([-1.0, 1.0]), 12).reshape(4, 6, 1)
    third = jnp.sqrt(1.5)
    three = jnp.tile(jnp.array([-third, 0.0, third]), 8).reshape(4, 6, 1)
    target = losses.quantiles(losses.slices(three))
    found = losses.sliced_wasserstein_loss(losses.slices(two), target)
    expected = (2 * (third - 1) ** 2 + 1) / 3
    np.testing.assert_allclose(found, expected, rtol=1e-2)
    assert wasserstein2_between(two, three) < 1e-3


def test_a_blend_of_quantiles_is_halfway():
    blend = losses.STYLE_LOSSES["sliced_wasserstein"].blend
    low, high = feature(1, c=1), feature(1, c=1) + 4
    middle = blend([losses.slices(low), losses.slices(high)], jnp.array([0.5, 0.5]))
    expected = losses.quantiles(losses.slices(low + 2))
    np.testing.assert_allclose(losses.quantiles(middle), expected, atol=1e-5)


def test_slices_of_styles_with_other_numbers_of_positions_compare():
    f = feature(3, h=20, w=30)
    for g in (f[::2], jnp.concatenate([f, f])):
        target = losses.quantiles(losses.slices(g))
        loss = losses.sliced_wasserstein_loss(losses.slices(f), target)
        assert loss < 0.02 * jnp.var(f)


def test_neighbors_of_a_style_that_has_no_share_are_never_taken():
    row = losses.STYLE_LOSSES["nearest_neighbors"]
    f, g = feature(1), feature(2)
    both = [row.summarize(f, None), row.summarize(g, None)]
    target = row.prepare(row.blend(both, jnp.array([0.0, 1.0])), 5)
    alone = row.prepare(row.blend(both[1:], jnp.ones(1)), 5)
    found, expected = (row.summarize_image(f, x).mean for x in (target, alone))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    half = row.prepare(row.blend(both, jnp.array([0.5, 0.5])), 5)
    assert row.summarize_image(f, half).mean < found / 2


def test_neighbors_are_looked_up_block_by_block():
    """More positions than a block holds, of more features than are kept."""
    row = losses.STYLE_LOSSES["nearest_neighbors"]
    f, g = feature(1, 40, 50), feature(2, 70, 80)
    target = row.prepare(row.summarize(g, None), 5)
    assert len(target.rows) == SAMPLES < 70 * 80
    centred = np.float64(f).reshape(-1, 5) - np.float64(target.mean)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    exact = 1 - (centred @ np.float64(target.rows).T).max(1).mean()
    np.testing.assert_allclose(row.summarize_image(f, target).mean, exact, rtol=1e-3)
