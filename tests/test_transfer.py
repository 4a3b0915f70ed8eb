import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import LAYERS, random_image

from jaxnst.objective import make_targets, objective
from jaxnst.painting.loop import ChunkSchedule, run
from jaxnst.recipes import get_recipe
from jaxnst.transfer import current_image, make_transfer

PAINTERLY = get_recipe("delicate").replace(
    **LAYERS, optimizer="adam", learning_rate=0.02, ema_decay=0.95
)
TRANSFER = make_transfer(PAINTERLY.program)
GATYS = PAINTERLY.replace(
    style_loss="gram", optimizer="lbfgs", learning_rate=1.0, clip=False, ema_decay=0.0
)

CONTENT, STYLE = random_image(0, 24, 32), random_image(1, 20, 20)


@pytest.fixture
def targets(backbone):
    return make_targets(backbone, CONTENT, [STYLE], PAINTERLY)


@pytest.mark.parametrize("recipe", [PAINTERLY, GATYS], ids=["adam", "lbfgs"])
def test_the_loss_goes_down(backbone, recipe):
    targets = make_targets(backbone, CONTENT, [STYLE], recipe)
    transfer = make_transfer(recipe.program)
    _, info = run(transfer, transfer.init(CONTENT), backbone, targets, steps=12)
    assert info.loss.shape == (12,)
    assert info.finite.all()
    assert info.loss[-1] < 0.8 * info.loss[0]


def test_one_step_of_adam_is_adam(backbone, targets):
    moved, info = jax.jit(TRANSFER.step)(TRANSFER.init(CONTENT), backbone, targets)
    loss, grad = jax.jit(
        jax.value_and_grad(
            lambda x: objective(x, backbone, targets, PAINTERLY.program)[0]
        )
    )(CONTENT)
    # The first step of Adam is the learning rate times the sign, nearly.
    expected = CONTENT - 0.02 * grad / (jnp.abs(grad) + 1e-8)
    np.testing.assert_allclose(moved.image, jnp.clip(expected, 0, 1), atol=1e-5)
    np.testing.assert_allclose(info.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(info.gradient_norm, jnp.linalg.norm(grad), rtol=1e-4)


def test_the_picture_is_the_debiased_average_of_the_iterates(backbone, targets):
    step = jax.jit(TRANSFER.step)
    state, decay = TRANSFER.init(CONTENT), PAINTERLY.program.ema_decay
    iterates = []
    for _ in range(4):
        state, _ = step(state, backbone, targets)
        iterates.append(np.float64(state.image))
    weights = decay ** np.arange(3, -1, -1)
    expected = np.average(iterates, axis=0, weights=weights)
    np.testing.assert_allclose(
        current_image(state, PAINTERLY.program), expected, atol=1e-5
    )


def test_chunks_do_not_change_the_picture(backbone, targets):
    def paint(schedule):
        start = TRANSFER.init(CONTENT)
        return run(TRANSFER, start, backbone, targets, steps=7, schedule=schedule)

    once, _ = paint(ChunkSchedule(chunk=7))
    many, info = paint(ChunkSchedule(chunk=7, interval=0.0))
    np.testing.assert_array_equal(once.image, many.image)
    assert info.loss.shape == (7,)


def test_a_step_that_is_not_finite_keeps_the_state(backbone, targets):
    broken = targets._replace(style_weight=jnp.float32(np.nan))
    state, info = run(TRANSFER, TRANSFER.init(CONTENT), backbone, broken, steps=30)
    assert not info.finite.any()
    assert len(info.loss) < 30
    np.testing.assert_array_equal(state.image, CONTENT)


def test_steps_compose_with_vmap_and_grad(backbone, targets):
    """A sweep over a weight, and the slope of the result's loss along it."""
    transfer = make_transfer(PAINTERLY.replace(clip=False).program)

    def final_style(weight):
        chosen = targets._replace(style_weight=weight)
        state = transfer.init(CONTENT)
        for _ in range(2):
            state, _ = transfer.step(state, backbone, chosen)
        return objective(state.image, backbone, targets, PAINTERLY.program)[1].style

    both = jax.jit(jax.vmap(jax.value_and_grad(final_style)))
    sweep, slopes = both(jnp.asarray([0.0, 1.0, 100.0]))
    assert sweep[0] > sweep[1] > sweep[2]
    assert slopes[1] < 0


def test_the_optimiser_may_work_on_an_image_of_bytes(backbone, targets):
    def first_step(rate, **changes):
        recipe = PAINTERLY.replace(epsilon=1e-16, **changes)
        transfer = make_transfer(recipe.program)
        own = targets._replace(learning_rate=jnp.float32(rate))
        state, _ = jax.jit(transfer.step)(transfer.init(CONTENT), backbone, own)
        return state.image - CONTENT

    # A step of Adam has the length of the learning rate, in its own units.
    plain = first_step(2 / 255)
    moved = first_step(2.0, units=(255.0, 255.0, 250.0))
    np.testing.assert_allclose(moved[..., :2], plain[..., :2], atol=1e-5)
    np.testing.assert_allclose(moved[..., 2], plain[..., 2] * 255 / 250, atol=1e-3)


def test_the_best_iterate_is_the_one_after_the_lowest_loss(backbone, targets):
    recipe = PAINTERLY.replace(ema_decay=0.0, keep_best=True)
    targets = targets._replace(learning_rate=jnp.float32(0.5))
    transfer = make_transfer(recipe.program)
    step = jax.jit(transfer.step)
    state, losses, images = transfer.init(CONTENT), [], []
    for _ in range(6):
        state, info = step(state, backbone, targets)
        losses.append(float(info.loss))
        images.append(state.image)
    best = int(np.argmin(losses))
    assert best < 5  # such large steps do not end at the lowest loss
    np.testing.assert_array_equal(
        current_image(state, recipe.program), jnp.clip(images[best], 0, 1)
    )
    np.testing.assert_allclose(state.output.lowest, min(losses))


def test_a_transfer_that_is_made_while_tracing_can_be_used_afterwards():
    recipe = PAINTERLY.replace(beta1=0.8875)  # made by no other test
    init = jax.jit(lambda image: make_transfer(recipe.program).init(image))
    image = random_image(0, 16, 20)
    first, second = init(image), make_transfer(recipe.program).init(image)
    np.testing.assert_array_equal(first.image, second.image)
