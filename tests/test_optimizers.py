import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnst.optimizers import lbfgs, make_optimizer, tf1_adam
from jaxnst.recipes import get_recipe

SHAPE = (4, 5, 3)
RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(60, 60))
HESSIAN = ROOT @ ROOT.T / 60 + 0.1 * np.eye(60)
START = RNG.normal(size=SHAPE)


def quadratic(x):
    x = x.ravel()
    return x @ jnp.asarray(HESSIAN, jnp.float32) @ x / 2


def path(optimizer, steps, loss=quadratic):
    """The iterates of an optimiser."""
    x = jnp.asarray(START, jnp.float32)
    state, found = optimizer.init(x), []
    update = jax.jit(optax.with_extra_args_support(optimizer).update)
    for _ in range(steps):
        value, grad = jax.value_and_grad(loss)(x)
        step, state = update(grad, state, x, value=value)
        x = x + step
        found.append(np.float64(x).ravel())
    return found


def bfgs_path(steps, history):
    """L-BFGS with the inverse Hessian as an explicit matrix, in float64."""
    x, pairs, found = START.ravel(), [], []
    gradient = HESSIAN @ x
    for _ in range(steps):
        inverse = np.eye(60) / np.abs(gradient).sum()
        if pairs:
            s, y = pairs[-1]
            inverse = np.eye(60) * (s @ y) / (y @ y)
        for s, y in pairs[-history:]:
            left = np.eye(60) - np.outer(s, y) / (s @ y)
            inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
        moved = x - inverse @ gradient
        after = HESSIAN @ moved
        pairs.append((moved - x, after - gradient))
        x, gradient = moved, after
        found.append(x)
    return found


@pytest.mark.parametrize("history", [3, 20])
def test_lbfgs_is_the_textbook_matrix(history):
    ours, textbook = path(lbfgs(history), 8), bfgs_path(8, history)
    for a, b in zip(ours, textbook, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3 * np.abs(b).max())


def test_lbfgs_finds_the_minimum():
    assert np.abs(path(lbfgs(20), 60)[-1]).max() < 1e-3


def test_lbfgs_stays_where_the_gradient_is_zero():
    for x in path(lbfgs(5), 3, lambda x: 0 * jnp.sum(x)):
        np.testing.assert_array_equal(x, np.float32(START).ravel())


def test_lbfgs_takes_up_no_concave_pair():
    concave = lambda x: -jnp.sum(x**2)
    optimizer = lbfgs(5)
    x = jnp.asarray(START, jnp.float32)
    state = optimizer.init(x)
    for _ in range(3):
        value, grad = jax.value_and_grad(concave)(x)
        step, state = optimizer.update(grad, state, x, value=value)
        x = x + step
    assert state.count == 0
    assert concave(x) < concave(jnp.asarray(START, jnp.float32))


@pytest.mark.parametrize("rate", [1.0, 0.5, 2.0])
def test_lbfgs_takes_back_a_step_that_doubles_the_loss(rate):
    # Straight where it starts, so the second step is far too long; steep beyond.
    valley = lambda x: jnp.sum(jnp.sqrt(1e-6 + x**2) + jnp.maximum(0, -1 - x) ** 4)
    optimizer, x = lbfgs(5), jnp.full(SHAPE, 1.0)
    state, values, points = optimizer.init(x), [], []
    for _ in range(12):
        value, grad = jax.value_and_grad(valley)(x)
        values.append(float(value))
        points.append(np.asarray(x))
        update, state = optimizer.update(
            grad, state, x, value=value, learning_rate=rate
        )
        x = x + rate * update
    assert max(values) > 2 * values[0]
    n = int(np.argmax(values))
    taken_back = points[n - 1] + (points[n] - points[n - 1]) / 4
    np.testing.assert_allclose(points[n + 1], taken_back, rtol=1e-5)


def test_lbfgs_does_not_depend_on_the_scale_of_the_loss():
    small = lambda x: 1e-9 * quadratic(x)
    assert quadratic(jnp.asarray(path(lbfgs(20), 40, small)[-1])) < 1e-2


def test_tf1_adam_is_the_formula():
    rate, beta1, beta2, epsilon = 5.0, 0.99, 0.999, 0.1
    x, m, v = START.ravel(), 0.0, 0.0
    for t, ours in enumerate(path(tf1_adam(rate, beta1, beta2, epsilon), 30), 1):
        gradient = HESSIAN @ x
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        step = rate * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        x = x - step * m / (np.sqrt(v) + epsilon)
        np.testing.assert_allclose(ours, x, atol=1e-3 * np.abs(x).max())


def test_tf1_adam_with_its_first_step_is_not_optax_adam():
    # ε joins √v before its bias is corrected: √(1e-3) = 1/31.6 of the influence.
    recipe = get_recipe("tf-blog")
    first = path(make_optimizer(recipe).transform, 1)[0] - START.ravel()
    plain = recipe.replace(optimizer="adam")
    other = path(make_optimizer(plain).transform, 1)[0] - START.ravel()
    gradient = np.abs(HESSIAN @ START.ravel())
    expected = (gradient + 0.1) / (gradient + 0.1 / np.sqrt(1e-3))
    np.testing.assert_allclose(first / other, expected, rtol=1e-3)


def test_a_slow_second_moment_decays_in_half_the_memory_too():
    """By 0.001 in a step, which bfloat16 would round away."""
    recipe = get_recipe("tf-blog").replace(beta1=0.9, beta2=0.999)
    image = jnp.zeros((2, 2, 3))
    moves = []
    for dtype in ("float32", "bfloat16"):
        adam = make_optimizer(recipe.replace(state_dtype=dtype)).transform
        state = adam.init(image)
        update = jax.jit(lambda g, s, adam=adam: adam.update(g, s, image))
        for step in range(600):
            gradient = jnp.full(image.shape, 10.0 if step < 100 else 0.5)
            move, state = update(gradient, state)
        moves.append(move)
    np.testing.assert_allclose(moves[1], moves[0], rtol=5e-2)
