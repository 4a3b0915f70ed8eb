import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnst.lbfgs import compact, lbfgs, two_loops
from jaxnst.optimizers import make_optimizer
from jaxnst.recipes import get_recipe
from jaxnst.storage import store

SHAPE = (4, 5, 3)
RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(60, 60))
HESSIAN = ROOT @ ROOT.T / 60 + 0.1 * np.eye(60)
START = RNG.normal(size=SHAPE)
ONES = jnp.ones(SHAPE)


def quadratic(x):
    x = x.ravel()
    return x @ jnp.asarray(HESSIAN, jnp.float32) @ x / 2


def path(optimizer, steps, loss=quadratic, start=START, **changes):
    """The iterates of an optimiser, whose first state is changed."""
    update = optax.with_extra_args_support(optimizer).update

    def move(carry, _):
        x, state = carry
        value, grad = jax.value_and_grad(loss)(x)
        step, state = update(grad, state, x, value=value)
        return (x + step, state), x + step

    x = jnp.asarray(start, jnp.float32)
    state = optimizer.init(x)
    if changes:
        state = state._replace(**changes)
    _, found = jax.lax.scan(move, (x, state), length=steps)
    return np.float64(found).reshape(steps, -1)


def bfgs_path(steps, history, initial_radius):
    """L-BFGS with the inverse Hessian as an explicit matrix, in float64."""
    x, pairs, found = START.ravel(), [], []
    gradient = HESSIAN @ x
    for _ in range(steps):
        inverse = np.eye(60) * initial_radius / np.sqrt(np.mean(gradient**2))
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
    # So far that no step is longer than it trusts, and none goes uphill.
    initial_radius = 0.5
    ours, textbook = (
        path(lbfgs(history, initial_radius=initial_radius), 8),
        bfgs_path(8, history, initial_radius),
    )
    for a, b in zip(ours, textbook, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3 * np.abs(b).max())


@jax.jit
def both_forms(vector, state):
    """The compact form, the two loops, and two lanes of the first."""
    lanes = jax.tree.map(lambda x: jnp.stack([x, x]), (vector, state))
    return compact(vector, state), two_loops(vector, state), jax.vmap(compact)(*lanes)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 8])
def test_both_forms_of_lbfgs_are_the_same(count, dtype):
    keys = jax.random.split(jax.random.key(count), 3)
    steps = jax.random.normal(keys[0], (5, 4, 6, 3))
    # Of a function that curves upward everywhere.
    changes = steps * jax.random.uniform(keys[1], (1, 4, 6, 3), minval=0.5, maxval=2)
    state = (
        lbfgs(5, dtype)
        .init(jnp.zeros((4, 6, 3)))
        ._replace(
            count=jnp.int32(count),
            steps=store(steps, dtype),
            changes=store(changes, dtype),
            curvatures=jnp.sum(steps * changes, (1, 2, 3)),
            gamma=jnp.float32(0.7),
        )
    )
    vector = jax.random.normal(keys[2], (4, 6, 3))
    found, expected, lanes = both_forms(vector, state)
    np.testing.assert_allclose(found, expected, atol=2e-5 * jnp.abs(expected).max())
    np.testing.assert_allclose(lanes[1], found, atol=1e-5)


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


def valley(x):
    """Straight where it starts, so that a step may be far too long; steep beyond."""
    return jnp.sum(jnp.sqrt(1e-6 + x**2) + 50 * jnp.maximum(0, -1 - x) ** 4)


def waves(x):
    """Many minima, on a slope of every steepness."""
    steepness = jnp.linspace(0.1, 50, 60).reshape(SHAPE)
    return jnp.sum((x - 1.3) ** 2 * steepness) + jnp.sum(jnp.sin(40 * x))


def trace(optimizer, loss, start, rate=1.0, steps=60):
    """Losses that were evaluated, and those of the steps that stood."""

    def body(carry, _):
        x, state = carry
        value, grad = jax.value_and_grad(loss)(x)
        told = {"value": value, "learning_rate": rate}
        update, state = optimizer.update(grad, state, x, **told)
        return (x + rate * update, state), (value, state.value)

    carry = start, optimizer.init(start)
    return jax.lax.scan(body, carry, length=steps)[1]


@pytest.mark.parametrize("rate", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("loss", [valley, waves])
def test_lbfgs_lets_no_step_stand_that_climbs(loss, rate):
    """More than a fifth of the lowest loss above it; and it gets far down."""
    seen, stood = (
        np.float64(x) for x in trace(lbfgs(5, initial_radius=3.0), loss, ONES, rate)
    )
    before, after = np.minimum.accumulate(seen)[:-1], stood[1:]
    assert (after <= before + 0.2001 * np.abs(before)).all()
    assert seen.min() < seen[0] - 0.5 * abs(seen[0])


def test_lbfgs_goes_on_where_its_steps_were_shortened_to_nothing():
    found = path(lbfgs(5), 20, start=ONES, radius=jnp.float32(0))
    assert quadratic(jnp.float32(found[-1])) < 0.9 * quadratic(ONES)


def test_lanes_of_lbfgs_are_what_single_runs_are():
    starts = jnp.stack([ONES, 2 * ONES, -0.5 * ONES])
    run = lambda start: trace(lbfgs(5), waves, start)[0]
    single = jax.jit(run)
    alone = jnp.stack([single(start) for start in starts])
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(starts), alone, rtol=1e-4)


def test_lbfgs_does_not_depend_on_the_scale_of_the_loss():
    small = lambda x: 1e-9 * quadratic(x)
    assert quadratic(jnp.asarray(path(lbfgs(20), 40, small)[-1])) < 1e-2


def test_tf1_adam_is_the_formula():
    program = get_recipe("tf-blog").program
    beta1, beta2, epsilon = program.beta1, program.beta2, program.epsilon
    x, m, v = START.ravel(), 0.0, 0.0
    for t, ours in enumerate(path(make_optimizer(program).transform, 30), 1):
        gradient = HESSIAN @ x
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        step = np.sqrt(1 - beta2**t) / (1 - beta1**t)
        x = x - step * m / (np.sqrt(v) + epsilon)
        np.testing.assert_allclose(ours, x, atol=1e-3 * np.abs(x).max())


def test_adam_is_that_of_optax():
    program = get_recipe("tf-blog").replace(optimizer="adam").program
    theirs = optax.adam(1.0, program.beta1, program.beta2, program.epsilon)
    ours = make_optimizer(program).transform
    np.testing.assert_allclose(path(ours, 30), path(theirs, 30), rtol=1e-4, atol=1e-4)


def test_a_slow_second_moment_decays_in_half_the_memory_too():
    """By 0.001 in a step, which bfloat16 would round away."""
    recipe = get_recipe("tf-blog").replace(beta1=0.9, beta2=0.999)
    image = jnp.zeros((2, 2, 3))
    moves = []
    for dtype in ("float32", "bfloat16"):
        adam = make_optimizer(recipe.replace(state_dtype=dtype).program).transform
        state = adam.init(image)
        update = jax.jit(lambda g, s, adam=adam: adam.update(g, s, image))
        for step in range(600):
            gradient = jnp.full(image.shape, 10.0 if step < 100 else 0.5)
            move, state = update(gradient, state)
        moves.append(move)
    np.testing.assert_allclose(moves[1], moves[0], rtol=5e-2)


def test_lbfgs_says_what_it_cannot_optimise():
    with pytest.raises(ValueError, match=r"expected one array.*ravel_pytree"):
        lbfgs(3).init({"image": jnp.zeros((2, 2, 3))})
    state = lbfgs(3).init(jnp.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="value=loss"):
        lbfgs(3).update(jnp.zeros((2, 2, 3)), state, jnp.zeros((2, 2, 3)))
