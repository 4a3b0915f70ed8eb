"""Warping, reliability and the temporal term, against SciPy and float64 NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import LAYERS
from scipy import ndimage

import jaxnst
from jaxnst.objective import Agreement, disagreement, objective
from jaxnst.tiles import Tiled, smallest_tile
from jaxnst.video.flow import FlowFiles, load_flow, measure_flow
from jaxnst.video.temporal import (
    Paint,
    join_past,
    reliability,
    relight,
    warp,
    warping_error,
)

RNG = np.random.default_rng(0)


@pytest.fixture(params=["eager", "jit", "vmap"])
def mode(request):
    """Wrap a function of arrays so that it runs eagerly, compiled, or batched."""

    def batched(function):
        def call(*args):
            pairs = jax.tree.map(lambda x: jnp.stack([x, x]), args)
            return jax.tree.map(lambda x: x[0], jax.vmap(function)(*pairs))

        return call

    return {"eager": lambda f: f, "jit": jax.jit, "vmap": batched}[request.param]


def sample_of(name, shape):
    return np.asarray(jaxnst.sample(name, shape[1]))[: shape[0]]


def grid(h, w):
    return np.mgrid[:h, :w].astype(np.float64)


def sample(image, flow, degree):
    """`warp` by SciPy, in float64."""
    h, w, _ = image.shape
    y, x = grid(h, w)
    at = np.clip(y + flow[..., 1], 0, h - 1), np.clip(x + flow[..., 0], 0, w - 1)
    options = {"order": degree, "mode": "mirror"}
    one = lambda c: ndimage.map_coordinates(image[..., c].astype(float), at, **options)
    return np.stack([one(c) for c in range(image.shape[2])], axis=-1)


@pytest.mark.parametrize("degree", [1, 3, 5])
def test_warping_is_that_of_scipy(mode, degree):
    image = RNG.random((24, 31, 3)).astype(np.float32)
    flow = RNG.normal(size=(24, 31, 2)).astype(np.float32) * 4
    found = mode(lambda x, f: warp(x, f, degree=degree))(
        *map(jnp.asarray, (image, flow))
    )
    np.testing.assert_allclose(found, sample(image, flow, degree), atol=2e-5)


def test_splines_of_degree_7_reproduce_a_polynomial_of_degree_7():
    x = np.linspace(-1, 1, 80)
    curve = lambda x: np.polynomial.chebyshev.chebval(
        x, [0.3, 0.2, 0, -0.3, 0, 0, 0, 0.2]
    )
    image = np.broadcast_to(curve(x)[None, :, None], (60, 80, 1)).astype(np.float32)
    shift = RNG.uniform(-1, 1, (60, 80, 2)).astype(np.float32)
    found = np.asarray(warp(jnp.asarray(image), jnp.asarray(shift), degree=7))
    wanted = curve(x[None] + shift[..., 0] * (x[1] - x[0]))
    inner = slice(26, -26), slice(26, -26)
    np.testing.assert_allclose(found[..., 0][inner], wanted[inner], atol=1e-5)


def slow_reliability(away, back):
    """`reliability` pixel by pixel, in float64."""
    h, w, _ = away.shape
    seen = sample(back, away, 1)
    dy, dx = np.gradient(away, axis=(0, 1))
    found = np.empty((h, w))
    for y in range(h):
        for x in range(w):
            u, v = away[y, x]
            length, other = u**2 + v**2, (seen[y, x] ** 2).sum()
            slope = (dy[y, x] ** 2).sum() + (dx[y, x] ** 2).sum()
            if not (0 <= x + u <= w - 1 and 0 <= y + v <= h - 1):
                found[y, x] = 0
            elif ((away[y, x] + seen[y, x]) ** 2).sum() >= 0.01 * (
                length + other
            ) + 0.5:
                found[y, x] = -1
            else:
                found[y, x] = slope <= 0.01 * length + 0.002
    blurred = ndimage.gaussian_filter(found, 0.8, mode="nearest", truncate=3.75)
    return np.clip(blurred, 0, 1)[..., None]


def test_reliability_is_that_of_a_loop_over_pixels(mode):
    noise = lambda: RNG.normal(size=(30, 40, 2))
    smooth = lambda: 10 * ndimage.gaussian_filter(noise(), (5, 5, 0))
    away = smooth() + (3, -2)
    back = -away + smooth()
    found = mode(reliability)(*(jnp.asarray(x, jnp.float32) for x in (away, back)))
    wanted = slow_reliability(away, back)
    assert 0.1 < wanted.mean() < 0.9
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_what_a_square_uncovers_is_not_reliable():
    # A square of 12 px moves 6 px to the right over a still ground.
    now, before = np.zeros((32, 48, 2)), np.zeros((32, 48, 2))
    now[10:22, 20:32, 0], before[10:22, 14:26, 0] = -6, 6
    found = np.asarray(reliability(jnp.asarray(now), jnp.asarray(before)))[..., 0]
    assert (found[11:21, 15:19] == 0).all()  # uncovered
    assert (found[13:19, 23:29] > 0.99).all()  # inside of the square
    assert (found[:6] == 1).all()  # far from it
    unchecked = np.asarray(reliability(jnp.asarray(now)))[..., 0]
    assert (unchecked[13:19, 16:18] > 0.9).all()


def test_joined_past_has_the_gradient_of_the_sum_over_frames():
    x, *images = (jnp.asarray(RNG.random((5, 6, 3)), jnp.float32) for _ in range(4))
    masks = [jnp.asarray(RNG.random((5, 6, 1)), jnp.float32) for _ in range(3)]
    shares = []
    for mask in masks:  # closest first, as in the paper
        shares.append(np.maximum(np.asarray(mask, np.float64) - sum(shares), 0))
    y = [np.asarray(image, np.float64) for image in images]
    terms = [
        2 * c * (np.asarray(x, np.float64) - z) for c, z in zip(shares, y, strict=True)
    ]
    agreement = Agreement(*join_past(images, masks), jnp.float32(7))
    found = jax.grad(disagreement)(x, agreement)
    np.testing.assert_allclose(found, 7 * sum(terms) / x.size, rtol=1e-4, atol=1e-7)


def test_warping_error_is_a_weighted_mean():
    image, before = (RNG.random((20, 30, 3)).astype(np.float32) for _ in range(2))
    flow = RNG.normal(size=(20, 30, 2)).astype(np.float32)
    mask = RNG.random((20, 30, 1)).astype(np.float32)
    given = map(jnp.asarray, (image, before, flow, mask))
    gaps = np.abs(image - sample(before, flow, 1))
    wanted = np.average(gaps.mean(-1), weights=mask[..., 0])
    np.testing.assert_allclose(warping_error(*given), wanted, rtol=1e-5)


def test_agreement_adds_to_the_loss_whole_and_in_tiles(backbone):
    recipe = jaxnst.get_recipe("tf-blog").replace(**LAYERS)
    size = smallest_tile(recipe.program.layers)
    shape = (size // 2, 2 * size, 3)
    image, content, style, other = (
        jnp.asarray(RNG.random(shape), jnp.float32) for _ in range(4)
    )
    mask = jnp.asarray(RNG.random((*shape[:2], 1)), jnp.float32)
    plain = jaxnst.make_targets(backbone, content, [style], recipe)
    agreement = Agreement(other, mask, jnp.float32(1e4))
    targets = plain._replace(agreement=agreement)

    @partial(jax.jit, static_argnames="f")
    def loss(f, image, backbone, targets):
        value = lambda x: f(x, backbone, targets, recipe.program)[0]
        return jax.value_and_grad(value)(image)

    tiled, whole = Tiled(size), objective
    base, slope = loss(whole, image, backbone, plain)
    squares = np.asarray(mask) * (np.asarray(image, np.float64) - other) ** 2
    gap = 2e4 * np.asarray(mask) * (np.asarray(image, np.float64) - other) / image.size
    for f in (whole, tiled):
        value, grad = loss(f, image, backbone, targets)
        np.testing.assert_allclose(value - base, 1e4 * squares.mean(), rtol=1e-3)
        scale = np.abs(gap).max()
        np.testing.assert_allclose((grad - slope) / scale, gap / scale, atol=1e-3)


def test_measured_flow_finds_a_move_and_its_way_back():
    wide = np.asarray(jaxnst.sample("harbour", 160))
    a, b = wide[:96, 10:130], wide[4:100, 13:133]
    there, back = measure_flow(a, b), measure_flow(b, a)
    inner = slice(12, -12), slice(12, -12)
    assert np.abs(there[inner] - (-3, -4)).mean() < 0.15
    assert np.abs(back[inner] - (3, 4)).mean() < 0.15
    found = reliability(jnp.asarray(there), jnp.asarray(back))
    assert float(found[inner].mean()) > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (5, 64), (64, 5), (11, 11)])
def test_flow_of_a_small_frame_is_that_of_its_edges_repeated(shape):
    h, w = shape
    frame = np.asarray(jaxnst.sample("harbour", 160))[40 : 40 + h, 60 : 60 + w]
    assert np.abs(measure_flow(frame, frame)).max() < 0.01
    other = RNG.random((h, w, 3)).astype(np.float32)
    repeated = (
        np.pad(x, ((0, max(0, 12 - h)), (0, max(0, 12 - w)), (0, 0)), mode="edge")
        for x in (frame, other)
    )
    found = measure_flow(frame, other)
    np.testing.assert_array_equal(found, measure_flow(*repeated)[:h, :w])


def test_flow_between_frames_of_two_shapes_is_refused():
    frame = np.zeros((16, 16, 3), np.float32)
    with pytest.raises(ValueError, match=r"one shape, got \(16, 16, 3\) and \(16, 15"):
        measure_flow(frame, frame[:, :15])


def test_a_fade_is_no_motion_and_a_still_ground_stays_still():
    wide = np.asarray(jaxnst.sample("harbour", 160))
    frame = wide[:96, 10:130]
    inner = slice(12, -12), slice(12, -12)
    for darker, lighter in ((0.6, 1.0), (1.0, 0.6)):
        flow = measure_flow(darker * frame, lighter * frame)
        assert np.abs(flow[inner]).mean() < 0.02
    before, after = frame.copy(), frame.copy()
    thing = np.asarray(jaxnst.sample("mosaic", 40))[:24, :24]
    before[40:64, 40:64], after[40:64, 44:68] = thing, thing
    flow = measure_flow(after, before)
    assert np.median(flow[46:58, 50:62, 0]) == pytest.approx(-4, abs=0.5)
    textured = ndimage.generic_filter(frame.mean(-1), np.std, 7) > 0.02
    textured[34:70, 34:82] = False
    assert textured.mean() > 0.2
    assert np.abs(flow[textured]).max() == 0


@pytest.mark.parametrize("light", [1, 0.6])
@pytest.mark.parametrize("move", [(60, 0), (-60, 0), (0, 30), (45, -20)])
def test_a_camera_that_has_moved_far_is_followed(move, light):
    wide = np.asarray(jaxnst.sample("watercolour", 320))
    (x, y), (h, w) = move, (96, 160)
    cut = lambda x, y: wide[60 + y : 60 + y + h, 70 + x : 70 + x + w]
    flow = measure_flow(light * cut(x, y), cut(0, 0))
    rows, columns = np.mgrid[:h, :w]
    seen = (columns + x >= 0) & (columns + x < w) & (rows + y >= 0) & (rows + y < h)
    right = np.linalg.norm(flow - move, axis=-1) < 1
    assert right[seen].mean() > 0.9


def test_light_is_told_from_what_has_changed():
    shown = jnp.asarray(sample_of("harbour", (48, 64)))
    painted = jnp.asarray(RNG.random((48, 64, 3)), jnp.float32)
    paint = Paint(painted, shown, jnp.ones((48, 64, 1)))
    same = relight(paint, shown, shown)
    for found, wanted in zip(same, paint, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    # From the left to the right it gets darker.
    light = np.linspace(1, 0.5, 64)[None, :, None]
    dim = relight(paint, jnp.asarray(light * shown, jnp.float32), shown)
    np.testing.assert_allclose(dim.image, light * painted, atol=0.08)
    assert float(dim.reliability.min()) > 0.5
    # It never becomes lighter than what is to be painted.
    bright = relight(paint._replace(shown=shown / 4), shown, 0 * shown)
    assert float(bright.image.mean()) <= float(painted.mean()) + 1e-6
    lamp = shown.at[20:28, 20:28].set(1 - jnp.round(shown[20:28, 20:28]))
    lit = relight(paint, lamp, shown)
    assert float(lit.reliability[22:26, 22:26].max()) < 0.5
    assert float(lit.reliability[36:].min()) > 0.99


def write_flow(path, flow):
    """A .flo file, byte for byte as the format says."""
    size = np.array(flow.shape[1::-1], "<i4").tobytes()
    path.write_bytes(b"PIEH" + size + flow.astype("<f4").tobytes())


def test_flow_files_are_read_and_scaled(tmp_path):
    flow = RNG.normal(size=(6, 8, 2)).astype(np.float32)
    for name in ("2-1", "1-2", "0004-0002"):
        write_flow(tmp_path / f"{name}.flo", flow)
    np.savez(tmp_path / "4-1.npz", flow=flow)
    np.testing.assert_array_equal(load_flow(tmp_path / "2-1.flo"), flow)
    np.testing.assert_array_equal(load_flow(tmp_path / "4-1.npz"), flow)
    files = FlowFiles(tmp_path, (0, 1, 3))
    small, large = np.zeros((6, 8, 3)), np.zeros((12, 24, 3))
    np.testing.assert_array_equal(files(1, 0, small, small), flow)
    np.testing.assert_array_equal(files(2, 1, small, small), flow)
    assert files(1, 2, small, small) is None
    still = np.broadcast_to(np.float32([2, -3]), (6, 8, 2))
    write_flow(tmp_path / "1-2.flo", still)
    found = files(0, 1, large, large)
    np.testing.assert_allclose(found, np.broadcast_to([6, -6], (12, 24, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("2-1.flo", b"PIEH", "holds no flow"),
        ("2-1.flo", b"PIEH" + bytes(20), "holds no flow"),
        ("2-1.npz", b"no zip", "holds no flow"),
        ("3-2.flo", b"", "no flow from frame 2 to 1"),
    ],
)
def test_damaged_and_missing_flows_are_named(tmp_path, name, data, why):
    (tmp_path / name).write_bytes(data)
    image = np.zeros((4, 6, 3))
    with pytest.raises(ValueError, match=why):
        FlowFiles(tmp_path, (0, 1))(1, 0, image, image)
