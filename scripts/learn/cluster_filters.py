"""Initial filters of VGG-19: clusters of the input patches of each layer.

Whitened spherical k-means learns one convolution after the other, on patches of the
activations below it (after Coates and Ng, 2012). A module of `learn_weights.py`.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnst.network.vgg import kernel_shapes

Params = dict[str, dict[str, np.ndarray]]

LAYERS = {  # channels of the layers that are learned
    name: shape[-1] for name, shape in kernel_shapes().items() if name <= "conv5_1"
}
POOL_BEFORE = ("conv2_1", "conv3_1", "conv4_1", "conv5_1")

PATCHES = 32_000
DIMENSIONS = 512  # principal components kept, at most
# Added to every eigenvalue, in mean eigenvalues. Smaller in deep layers, whose weak
# components help a little to tell real paintings apart.
REGULARISER_SHALLOW, REGULARISER_DEEP = 0.02, 0.005  # blocks 1-2, blocks 3-5
ROUNDS = 10  # of k-means


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Padded 3x3 convolution of `n h w c` maps."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers
    )


@jax.jit
def relu_layer(maps: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Apply a padded 3x3 convolution and a ReLU to `n h w c` maps."""
    return jax.nn.relu(convolution(maps, kernel) + bias)


@jax.jit
def max_pool(maps: jax.Array) -> jax.Array:
    """Halve `n h w c` maps by the maximum of each 2x2."""
    n, h, w, c = maps.shape
    return maps.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def each(function: Callable, maps: np.ndarray, *arguments: np.ndarray) -> np.ndarray:
    """Apply a function to a stack of maps, about four at a time to bound memory."""
    parts = np.array_split(maps, -(-len(maps) // 4))
    return np.concatenate([np.asarray(function(p, *arguments)) for p in parts])


def sample_patches(
    rng: np.random.Generator, maps: np.ndarray, count: int
) -> np.ndarray:
    """Take random 3x3 patches inside the maps, (count, 9 * channels)."""
    n, h, w, c = maps.shape
    count = min(count, n * (h - 2) * (w - 2))
    flat = rng.choice(n * (h - 2) * (w - 2), count, replace=False)
    i, y, x = np.unravel_index(np.sort(flat), (n, h - 2, w - 2))
    views = [maps[i, y + dy, x + dx] for dy in range(3) for dx in range(3)]
    return np.stack(views, axis=1).reshape(count, 9 * c)


@jax.jit
def _grow(centred: jax.Array, basis: jax.Array) -> jax.Array:
    return jnp.linalg.qr(centred.T @ (centred @ basis))[0]


def whitening(
    rng: np.random.Generator, centred: jax.Array, regulariser: float
) -> jax.Array:
    """Find the map from centred patches to their whitened principal components.

    Subspace iteration suffices: deep patches have 4608 dimensions, of which 512 are
    kept.
    """
    count, size = centred.shape
    kept = min(size, DIMENSIONS)
    basis = jnp.asarray(rng.normal(size=(size, min(size, kept + 64))), jnp.float32)
    for _ in range(2):
        basis = _grow(centred, basis)
    inner = centred @ basis
    values, vectors = jnp.linalg.eigh(inner.T @ inner / count)
    values, vectors = values[::-1][:kept], vectors[:, ::-1][:, :kept]
    floor = regulariser * jnp.sum(centred**2) / count / size
    return basis @ vectors / jnp.sqrt(values + floor)


@jax.jit
def _kmeans_round(
    points: jax.Array, centroids: jax.Array, spare: jax.Array
) -> jax.Array:
    nearest = jnp.argmax(points @ centroids.T, axis=1)
    sums = jax.ops.segment_sum(points, nearest, len(centroids))
    length = jnp.linalg.norm(sums, axis=1, keepdims=True)
    return jnp.where(length > 1e-6, sums / jnp.maximum(length, 1e-6), spare)


def spherical_kmeans(
    rng: np.random.Generator, points: jax.Array, count: int
) -> jax.Array:
    """Find `count` unit vectors, the centroids of the points' directions."""
    points /= jnp.maximum(jnp.linalg.norm(points, axis=1, keepdims=True), 1e-6)
    centroids = points[rng.choice(len(points), count, replace=False)]
    for _ in range(ROUNDS):
        # An empty cluster starts again from a random patch.
        spare = points[rng.choice(len(points), count, replace=False)]
        centroids = _kmeans_round(points, centroids, spare)
    return centroids


def learn_layer(
    rng: np.random.Generator, maps: np.ndarray, channels: int, regulariser: float
) -> dict[str, np.ndarray]:
    """Learn one convolution: whiten patches, cluster them, undo the whitening.

    The bias only removes the mean. A higher threshold makes activations so sparse that
    the optimisation of a picture becomes ill-conditioned.
    """
    patches = jnp.asarray(sample_patches(rng, maps, PATCHES))
    mean = patches.mean(0)
    centred = patches - mean
    whiten = whitening(rng, centred, regulariser)
    centroids = spherical_kmeans(rng, centred @ whiten, channels)
    filters = whiten @ centroids.T
    activation = jax.nn.relu(centred @ filters).mean(0)
    filters = filters / jnp.maximum(activation, 1e-6)
    kernel = filters.reshape(3, 3, maps.shape[-1], channels)
    return {"kernel": np.asarray(kernel), "bias": np.asarray(-mean @ filters)}


def cluster(rng: np.random.Generator, maps: np.ndarray) -> Params:
    """Learn all layers in order from pictures, given as network input."""
    params = {}
    for name, channels in LAYERS.items():
        start = time.perf_counter()
        # Max pooling, because most recipes use it, a bias that removes the mean of
        # averages is too small for maxima, and deep features learned from averages tell
        # real paintings apart less well.
        if name in POOL_BEFORE:
            maps = each(max_pool, maps)
        shallow = name < "conv3"
        regulariser = REGULARISER_SHALLOW if shallow else REGULARISER_DEEP
        layer = learn_layer(rng, maps, channels, regulariser)
        # Scaling by the mean over whole maps gives the next layer inputs of mean 1.
        out = each(relu_layer, maps, layer["kernel"], layer["bias"])
        mean = out.mean((0, 1, 2), dtype=np.float64)
        kernel = (layer["kernel"] / mean).astype(np.float16).astype(np.float32)
        bias = (layer["bias"] / mean).astype(np.float32)
        maps = each(relu_layer, maps, kernel, bias)
        params[name] = {"kernel": kernel, "bias": bias}
        print(f"{name} {time.perf_counter() - start:5.1f} s", flush=True)
    return params
