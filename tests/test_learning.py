"""How the embedded weights are learned and judged, and the samples drawn."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SCRIPTS, load_script
from PIL import Image

import jaxnst
from jaxnst.pictures.samples import sample_path

contrast = load_script("learn/contrast.py")
learn_weights = load_script("learn/learn_weights.py")
evaluate_weights = load_script("measure/evaluate_weights.py")
LAYERS = load_script("learn/cluster_filters.py").LAYERS
Painting, make_painting = learn_weights.Painting, learn_weights.make_painting


@pytest.fixture(autouse=True)
def promotion():
    """Let the scripts add vectors to maps."""
    with jax.numpy_rank_promotion("allow"):
        yield


def thin_network(rng, channels=6):
    """Parameters of all layers, with few channels."""
    params, before = {}, 3
    for name in LAYERS:
        kernel = rng.normal(size=(3, 3, before, channels)) / np.sqrt(4.5 * before)
        bias = rng.normal(size=channels) / 10
        layer = {"kernel": kernel, "bias": bias}
        params[name] = {k: v.astype(np.float32) for k, v in layer.items()}
        before = channels
    return params


def test_a_seed_gives_one_painting():
    first, again, other = (make_painting([seed], 32) for seed in (5, 5, 6))
    assert first.painted.shape == first.scene.shape == (32, 32, 3)
    np.testing.assert_array_equal(first.painted, again.painted)
    np.testing.assert_array_equal(first.scene, again.scene)
    assert np.abs(first.painted.astype(int) - other.painted).max() > 0


def test_the_convolutions_derivative_is_that_of_xla():
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 6, 5, 4))
    kernel = jax.random.normal(keys[1], (3, 3, 4, 7))
    cotangent = jax.random.normal(keys[2], (2, 6, 5, 7))
    ours, theirs = (
        jax.jit(lambda *at, f=f: jax.vjp(f, *at)[1](cotangent))(x, kernel)
        for f in (contrast.convolve, contrast.convolution)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_contrast_is_what_the_paper_says():
    points = np.array([[0.0, 0], [1, 0], [4, 0], [4, 2]])
    labels = np.array([0, 0, 1, 1])
    expected = []
    for i, mate in enumerate([1, 0, 3, 2]):
        near = {
            j: np.sum((points[i] - points[j]) ** 2) ** -contrast.SHARPNESS
            for j in range(4)
            if j != i
        }
        expected.append(-np.log(near[mate] / sum(near.values())))
    found = jax.jit(contrast.contrast)(points, labels)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_map_agrees_with_itself_in_other_colours():
    x = jax.random.normal(jax.random.key(0), (4, 5, 5, 3))
    agreement = jax.jit(contrast.agreement)
    assert float(agreement(x, 3 * x + 1)) < 1e-3 < float(agreement(x, x[::-1]))


def test_learning_lowers_its_loss():
    rng = np.random.default_rng(0)
    params = thin_network(rng)
    crops = rng.uniform(size=(6, 32, 32, 3)).astype(np.float32)
    batch = contrast.Batch(
        crops * np.linspace(1, 3, 6)[:, None, None, None], crops[::3]
    )
    stage = learn_weights.DEEP._replace(steps=20)
    tuned = learn_weights.tune(params, iter([batch] * 20), stage)
    np.testing.assert_array_equal(
        tuned["conv1_2"]["kernel"], params["conv1_2"]["kernel"]
    )
    loss = jax.jit(lambda params: contrast.loss(params, batch, "max", stage))
    assert float(loss(tuned)) < float(loss(params))


def test_a_batch_has_crops_in_a_row_and_families_that_share_a_palette(monkeypatch):
    monkeypatch.setattr(learn_weights, "SHARED_PALETTE", 1.0)
    made = [make_painting([seed], 32) for seed in range(8)]
    paintings = Painting(*map(np.stack, zip(*made, strict=True)))
    stage = learn_weights.WHOLE._replace(batch=8, crops=2, family=4, side=16)
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    batch = learn_weights.draw(jax.random.key(0), paintings, one, zero, stage)
    assert batch.painted.shape == (16, 16, 16, 3)
    assert batch.scenes.shape == (8, 16, 16, 3)
    means = np.asarray(batch.painted).mean((1, 2)).reshape(2, 8, 3)
    within = means.std(axis=1).mean()
    between = np.abs(means[0].mean(0) - means[1].mean(0)).mean()
    assert within < between


def test_finishing_only_scales_filters():
    rng = np.random.default_rng(1)
    params = thin_network(rng)
    pictures = rng.uniform(size=(4, 32, 32, 3)).astype(np.float32)
    finished = learn_weights.finish(params, pictures)
    means = np.concatenate([x["mean_activation"] for x in finished.values()])
    assert np.median(means) == pytest.approx(1, abs=1e-2)
    plain = {
        k: {n: np.float32(v[n]) for n in ("kernel", "bias")}
        for k, v in finished.items()
    }
    see = jax.jit(lambda params: contrast.features(params, pictures, "max")["relu4_2"])
    before, after = see(params), see(plain)
    for channel in range(6):
        a, b = (np.asarray(x)[..., channel] for x in (before, after))
        np.testing.assert_allclose(b / b.max(), a / a.max(), atol=2e-2)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_network_that_learns_is_the_one_in_use(backbone, pooling):
    params = {name: backbone.params[name] for name in LAYERS}
    x = jax.random.uniform(jax.random.key(0), (32, 48, 3))
    seen = x * backbone.scale + backbone.offset
    see = jax.jit(lambda params: contrast.features(params, seen[None], pooling))
    ours = see(params)
    layers = ("relu1_1", "relu4_2", "relu5_1")
    theirs = jaxnst.features(backbone, x, layers=layers, pooling=pooling)
    for layer in layers:
        scale = float(jnp.abs(theirs[layer]).max())
        np.testing.assert_allclose(ours[layer][0], theirs[layer], atol=1e-5 * scale)


def test_mean_average_precision_of_closed_forms():
    places, labels = np.array([0.0, 1, 5, 6]), np.array([0, 0, 1, 1])
    distance = np.abs(places[:, None] - places[None])
    assert evaluate_weights.mean_average_precision(distance, labels) == 1
    # every mate is the farthest of three
    assert evaluate_weights.mean_average_precision(-distance, labels) == pytest.approx(
        1 / 3
    )


def test_squares_are_cut_from_the_centre():
    image = jnp.zeros((140, 270, 3)).at[6:134, 7:135].set(1.0)
    squares = evaluate_weights.cut(image)
    assert squares.shape == (2, 128, 128, 3)
    assert squares[0].min() == 1
    assert squares[1].max() == 0


def test_painted_pictures_are_cut_like_their_photographs(tmp_path):
    sizes = {
        "content/bay.png": (512, 384),
        "style/old_sea.png": (256, 256),
        "style/sea.png": (256, 256),
        "peer_results/bay_sea.png": (512, 383),
        "peer_results/bay_old.png": (600, 450),
        "peer_results/else_sea.png": (512, 384),
    }
    for name, size in sizes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / name)
    styles = evaluate_weights.load_squares(tmp_path / "style", 256)
    found = evaluate_weights.load_painted(tmp_path, styles, 512)
    counts = {style: len(x) for style, x in found["bay"].items()}
    assert list(found) == ["bay"]
    assert counts == {"sea": 12, "old_sea": 12}


def test_a_sample_is_drawn_again(tmp_path):
    command = [sys.executable, SCRIPTS / "samples" / "make.py"]
    command += ["--only", "mosaic", "--out", tmp_path]
    subprocess.run(command, check=True)
    again, shipped = (
        np.asarray(Image.open(path), float)
        for path in (tmp_path / "mosaic.jpg", sample_path("mosaic"))
    )
    assert np.abs(again - shipped).mean() < 1
