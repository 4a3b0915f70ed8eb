import dataclasses
import io
import sys

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import KEY, LAYERS, compiled_steps, keep_at, random_image
from PIL import Image as pil

from jaxnst import transfer
from jaxnst.checks import check_key
from jaxnst.painting.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from jaxnst.painting.grid import stylize_grid
from jaxnst.painting.multiscale import stylize
from jaxnst.painting.painter import Picture
from jaxnst.painting.scales import scale_shapes
from jaxnst.painting.scene import make_scene, scale_content
from jaxnst.pictures.canvas import Growth, exact, shared
from jaxnst.pictures.files import save_image
from jaxnst.process import standard_dtypes
from jaxnst.recipes import get_recipe
from jaxnst.request.read import load_style

RECIPE = get_recipe("delicate").replace(
    **LAYERS,
    optimizer="adam",
    learning_rate=0.02,
    ema_decay=0.95,
    min_size=30,
    first_steps=4,
    steps=3,
)


def paint(backbone, recipe=RECIPE, **options):
    content, style = random_image(0, 36, 48), random_image(1, 40, 30)
    return helpers.paint(backbone, content, [style], recipe, **options)


def test_scales_end_at_the_content_and_stay_large_enough():
    recipe = get_recipe("delicate")
    assert scale_shapes((384, 512), recipe)[0] == (96, 128)
    assert scale_shapes((384, 512), recipe)[-1] == (384, 512)
    assert (
        scale_shapes((20, 640), recipe) == [(20, 640)]
        or min(map(min, scale_shapes((20, 640), recipe))) >= 16
    )
    assert scale_shapes((384, 512), get_recipe("gatys2016")) == [(384, 512)]


def test_pictures_of_all_sizes_share_the_sizes_of_scales():
    edges = lambda size: [
        max(x) for x in scale_shapes((size // 2, size), get_recipe("painterly"))
    ]
    assert edges(512) == [256, 512]
    assert edges(700) == [256, 512, 700]
    assert edges(1024)[:-1] == edges(512)
    for size in range(300, 1100, 7):
        assert edges(size)[-1] == size
        steps = np.array(edges(size)[1:]) / edges(size)[:-1]
        assert not len(steps) or 1.18 < steps.min() <= steps.max() < 2.39


LBFGS = RECIPE.replace(optimizer="lbfgs", learning_rate=1.0)
both = pytest.mark.parametrize("recipe", [RECIPE, LBFGS], ids=["adam", "lbfgs"])


@both
def test_a_run_is_whole_and_repeats_bit_for_bit(backbone, recipe):
    first, second = (paint(backbone, recipe) for _ in range(2))
    assert first.status == "done"
    assert [len(info.loss) for info in first.infos] == [4, 3]
    assert first.image.shape == (36, 48, 3)
    assert 0 <= first.image.min() <= first.image.max() <= 1
    np.testing.assert_array_equal(first.image, second.image)


def test_a_result_shows_its_picture_and_its_loss(backbone, monkeypatch):
    result = paint(backbone)
    shown = np.asarray(pil.open(io.BytesIO(result._repr_png_())))
    np.testing.assert_array_equal(shown, np.rint(result.image.clip(0, 1) * 255))
    axes = result.plot_losses()
    curves = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    style = np.concatenate([info.terms.style for info in result.infos])
    np.testing.assert_allclose(
        curves["style"], RECIPE.weights.style_weight * style, rtol=1e-6
    )
    ends = [line.get_xdata()[0] for line in axes.get_lines()[3:]]
    assert ends == [4.5]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxnst\[plot\]'"):
        result.plot_losses()


def test_there_is_one_program_for_each_scale_and_none_for_the_next_style(backbone):
    recipe = RECIPE.replace(beta2=0.985)  # compiled by no other test
    content, counts = random_image(0, 36, 48), []
    for seed in (1, 2):
        recipe = recipe.replace(style_weight=float(seed))
        with compiled_steps() as programs:
            stylize(backbone, content, [random_image(seed, 40, 30)], recipe, key=KEY)
        counts.append(len(programs))
    assert counts == [2, 0]


@both
@pytest.mark.parametrize("taken", [2, 3])  # 3 are all of that scale
def test_resuming_gives_the_same_picture_bit_for_bit(backbone, tmp_path, recipe, taken):
    path, inputs, kept = tmp_path / "state.npz", {"seed": 0}, []
    paint(backbone, recipe, on_chunk=keep_at(kept, 1, taken), chunk=1)
    save_checkpoint(path, kept[0]._replace(inputs=inputs))
    kernel = transfer.make_transfer(recipe.program)
    resume, expected = load_checkpoint(path, kernel, inputs), paint(backbone, recipe)
    for _ in range(2):  # a checkpoint is not used up
        resumed = paint(backbone, recipe, resume=resume)
        np.testing.assert_array_equal(resumed.image, expected.image)


def test_resuming_goes_on_in_the_same_tiles(backbone):
    canvas = shared((36, 48)).place(random_image(0, 36, 48))
    state = transfer.make_transfer(RECIPE.program).init(canvas)
    resume = Checkpoint(0, 1, jax.device_get(state), [48], {})
    recipe = RECIPE.replace(scales=1)
    (stage,) = paint(backbone, recipe, resume=resume).stages
    assert stage.tile == 48
    (stage,) = paint(backbone, recipe).stages
    assert stage.tile is None


def test_a_checkpoint_of_another_run_is_refused(backbone, tmp_path):
    path = tmp_path / "state.npz"
    kernel = transfer.make_transfer(RECIPE.program)
    state = kernel.init(random_image(0, 24, 32))
    save_checkpoint(path, Checkpoint(0, 1, state, [None], {"seed": 0}))
    with pytest.raises(ValueError, match="of a run with another seed"):
        load_checkpoint(path, kernel, {"seed": 1})
    with pytest.raises(ValueError, match="does not exist"):
        load_checkpoint(tmp_path / "none.npz", kernel, {})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="is damaged or not a checkpoint"):
        load_checkpoint(path, kernel, {})


def test_numbers_outside_may_be_of_another_kind(backbone):
    expected = paint(backbone, RECIPE.replace(scales=1))
    with jax.enable_x64(True):
        found = paint(backbone, RECIPE.replace(scales=1))
    assert found.image.dtype == np.float32
    assert expected.image.dtype == np.float32


def test_a_run_is_compiled_though_jit_is_off_outside():
    traced = jax.jit(lambda x: isinstance(x, jax.core.Tracer))
    with jax.disable_jit():
        assert not traced(1.0)
        with standard_dtypes():
            assert traced(1.0)


def test_a_run_moves_its_constants_though_that_is_guarded_outside():
    with jax.transfer_guard("disallow"):
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
            jnp.add(np.ones(3, np.float32), 1)
        with standard_dtypes():
            assert float(jnp.add(np.ones(3, np.float32), 1)[0]) == 2


@pytest.mark.parametrize(
    "key",
    [0, None, jnp.zeros(2), jax.random.split(KEY), jax.random.PRNGKey(0, impl="rbg")],
)
def test_what_is_no_random_key_is_refused(key):
    with pytest.raises(ValueError, match=r"expected one random key.*random.key\(0\)"):
        check_key(key)


@pytest.mark.parametrize("call", [stylize, stylize_grid])
def test_a_run_needs_one_random_key_whatever_it_starts_from(backbone, call):
    content, style = random_image(0, 24, 32), random_image(1, 24, 32)
    contents = content if call is stylize else [content]
    with pytest.raises(ValueError, match="expected one random key"):
        call(backbone, contents, [style], RECIPE, key=jax.random.split(KEY))


def test_old_keys_start_the_same_noise_as_new_ones(backbone):
    content, style = random_image(0, 24, 32), random_image(1, 24, 32)
    recipe = RECIPE.replace(init="noise", scales=1)
    new, old = (
        stylize(backbone, content, [style], recipe, key=make(3)).image
        for make in (jax.random.key, jax.random.PRNGKey)
    )
    np.testing.assert_array_equal(new, old)


def test_blends_average_the_styles(backbone):
    content = random_image(0, 24, 32)
    a, b = random_image(1, 24, 32), random_image(2, 24, 32)
    recipe = RECIPE.replace(scales=1)

    def blended(styles, *blend):
        options = {"blend": jnp.asarray(blend)}
        return helpers.paint(backbone, content, styles, recipe, **options).image

    alone = blended([a, a], 0.5, 0.5)
    np.testing.assert_allclose(blended([a, b], 1.0, 0.0), alone, atol=2e-3)
    assert jnp.abs(blended([a, b], 0.5, 0.5) - alone).max() > 0.02


def test_a_run_that_diverges_says_so_and_keeps_the_last_finite_picture(backbone):
    broken = dataclasses.replace(backbone, offset=jnp.full(3, jnp.nan))
    result = paint(broken, throw=False)
    assert result.status == "diverged"
    assert jnp.isfinite(result.image).all()
    with pytest.raises(FloatingPointError, match="step 1 at .* not finite; lower"):
        paint(broken)
    once = RECIPE.replace(scales=1, first_steps=3)
    canvas = shared((36, 48)).place(random_image(0, 36, 48))
    state = transfer.make_transfer(once.program).init(canvas)
    with pytest.raises(FloatingPointError, match="step 3 at"):
        paint(broken, once, resume=Checkpoint(0, 2, state, [None], {}))


@pytest.mark.parametrize("blend", [[1.0, 2.0], [0.0], [jnp.nan]])
def test_blends_that_mean_nothing_are_refused(backbone, blend):
    recipe = get_recipe("delicate").replace(first_steps=1, scales=1)
    with pytest.raises(
        ValueError, match="one weight for each style; give 1|finite weights"
    ):
        paint(backbone, recipe, blend=jnp.asarray(blend))


def test_a_squashed_style_is_not_enlarged_where_it_has_the_pixels(tmp_path):
    save_image(tmp_path / "wide.png", random_image(0, 40, 160))
    recipe = get_recipe("kaggle")
    style, _ = load_style(tmp_path / "wide.png", (32, 32), recipe)
    assert style.shape == (32, 128, 3)


@pytest.mark.parametrize("init", ["content", "noise", "style"])
def test_every_start_image_works(backbone, init):
    assert paint(backbone, RECIPE.replace(init=init, scales=1)).status == "done"


def test_the_middle_of_a_start_image_is_used_and_not_stretched(backbone):
    recipe = RECIPE.replace(scales=1, first_steps=1, learning_rate=1e-6, ema_decay=0.0)
    start = random_image(4, 36, 48)
    wider = jnp.pad(start, [(0, 0), (20, 20), (0, 0)])
    for init in (start, wider):
        image = paint(backbone, recipe, init=init).image
        np.testing.assert_allclose(image, start, atol=1e-4)


def test_too_small_pictures_are_refused(backbone):
    large, small = random_image(0, 32, 32), random_image(1, 1, 32)
    with pytest.raises(ValueError, match="content of at least 2 px"):
        stylize(backbone, small, [large], RECIPE, key=KEY)
    with pytest.raises(ValueError, match="style of at least 2 px"):
        stylize(backbone, large, [small], RECIPE, key=KEY)
    with pytest.raises(ValueError, match="at least one style"):
        stylize(backbone, large, [], RECIPE, key=KEY)


def test_the_next_scale_starts_with_the_picture_its_detail_and_the_curvature():
    content, old, new = random_image(1, 36, 48), exact((18, 24)), exact((36, 48))
    kernel = transfer.make_transfer(LBFGS.program)
    state = kernel.init(scale_content(content, old.shape))
    seen = state.opt_state._replace(gamma=jnp.float32(3), count=jnp.int32(1))
    state = state._replace(opt_state=seen)
    recipe = LBFGS.replace(detail=1.0)
    scene = make_scene(content, [content], recipe)
    larger = Picture(scene, content, KEY, recipe, [old, new]).next(1, state.image)
    np.testing.assert_allclose(larger, content, atol=1e-6)
    begun = kernel.enlarge(state, kernel.init(larger), Growth([(old, new)]))
    assert begun.opt_state.gamma == 12
    assert begun.opt_state.count == begun.step == 0
