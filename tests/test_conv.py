import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from jaxnst.network import conv
from jaxnst.network.conv import WinogradKernel, convolve, transform_kernels

SIZES = [(16, 16, 64, 64), (13, 18, 64, 32), (11, 15, 128, 64), (33, 9, 64, 128)]


@pytest.fixture
def winograd(monkeypatch):
    """Winograd's algorithm for small pictures, too."""
    monkeypatch.setattr(conv, "MOST_DIRECT", 0)


def winograd_kernel(kernel):
    return WinogradKernel(kernel, *transform_kernels({"conv": kernel})["conv"])


def random_pair(h, w, channels, out):
    keys = jax.random.split(jax.random.key(h * w), 2)
    x = jax.random.normal(keys[0], (h, w, channels))
    kernel = jax.random.normal(keys[1], (3, 3, channels, out)) / (9 * channels) ** 0.5
    return x, kernel


def relative(a, b):
    return np.linalg.norm(np.float64(a) - np.float64(b)) / np.linalg.norm(b)


@pytest.mark.usefixtures("winograd")
@pytest.mark.parametrize("size", SIZES)
def test_matches_the_definition(size):
    x, kernel = random_pair(*size)
    exact = oracle.convolve(np.float64(x), np.float64(kernel))
    for prepared in (kernel, winograd_kernel(kernel)):
        one, batch = jax.jit(
            lambda x, k: (convolve(x, k), jax.vmap(lambda x: convolve(x, k))(x[None]))
        )(x, prepared)
        assert relative(one, exact) < 1e-5
        assert relative(batch[0], exact) < 1e-5


@pytest.mark.usefixtures("winograd")
@pytest.mark.parametrize("size", SIZES)
def test_the_winograd_derivative_matches_the_direct_one(size):
    x, kernel = random_pair(*size)
    weights = jax.random.normal(jax.random.key(1), (*x.shape[:2], size[3]))
    loss = lambda x, kernel: jnp.sum(weights * jnp.tanh(convolve(x, kernel)))
    via = lambda x, kernel: loss(x, winograd_kernel(kernel))
    ours, to_kernel = jax.jit(jax.grad(via, argnums=(0, 1)))(x, kernel)
    assert relative(ours, jax.jit(jax.grad(loss))(x, kernel)) < 1e-5
    assert not to_kernel.any()


@pytest.mark.parametrize("pad", [0, 1])
def test_direct_derivatives_match_those_of_jax(pad):
    x, kernel = random_pair(9, 12, 5, 7)

    def reference(x, kernel):
        border, axes = [(pad, pad)] * 2, ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x[None], kernel, (1, 1), border, dimension_numbers=axes
        )[0]

    loss = lambda f: lambda x, kernel: jnp.sum(jnp.sin(f(x, kernel)))
    gradient = lambda f: jax.jit(jax.grad(loss(f), argnums=(0, 1)))
    ours, theirs = gradient(lambda x, k: convolve(x, k, pad)), gradient(reference)
    for a, b in zip(ours(x, kernel), theirs(x, kernel), strict=True):
        assert relative(a, b) < 1e-5


def test_only_large_convolutions_take_winograds_way():
    x, kernel = random_pair(64, 64, 128, 128)
    prepared = winograd_kernel(kernel)
    count = lambda x: str(jax.make_jaxpr(convolve)(x, prepared)).count("conv_general")
    assert count(x) == 1
    assert count(jnp.concatenate([x, x])) == 0
