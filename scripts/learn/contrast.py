"""The loss that the embedded weights minimise, and the network that learns.

`features` computes what `jaxnst.features` does, for a batch, with convolutions whose
derivatives in the kernel are fast on a CPU. A module of `learn_weights.py`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from cluster_filters import POOL_BEFORE, Params, convolution
from jaxtyping import Array, Float

from jaxnst.losses import standardize
from jaxnst.recipes import GATYS_STYLE_LAYERS

CONTENT_LAYER = "relu4_2"
SHARPNESS = 2.0  # of the softmax over distances
CONTENT, ALIVE = 2.0, 0.5  # weights of the terms, see `loss`

Features = dict[str, Float[Array, "n h w c"]]


class Stage(NamedTuple):
    """Settings of a stage of the learning.

    Attributes:
        frozen: Blocks that do not change.
        steps: Number of steps, one batch each.
        learning_rate: In root mean squares of each array.
        batch: Paintings in a batch.
        crops: Crops of each painting.
        family: Consecutive paintings that may share a palette.
        diversity: Weight of the number of dimensions used, see `loss`.
        side: Side of a crop, in pixels.
        dtype: Type of the convolutions.
    """

    frozen: tuple[str, ...]
    steps: int
    learning_rate: float
    batch: int
    crops: int
    family: int
    diversity: float
    side: int = 80
    dtype: str = "float32"


class Batch(NamedTuple):
    """Crops as network input.

    Attributes:
        painted: Crops of paintings; those of one painting are consecutive.
        scenes: The scene under the first crop of each painting.
    """

    painted: Float[Array, "n s s 3"]
    scenes: Float[Array, "m s s 3"]


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve as `convolution` does, with derivatives that are fast on a CPU."""
    return convolution(x, kernel)


def _forward(x, kernel):
    return convolution(x, kernel), (x, kernel)


def _backward(residuals, cotangent):
    x, kernel = residuals
    h, w, channels = x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    flat = cotangent.reshape(-1, cotangent.shape[-1])
    shifted = lambda i, j: padded[:, i : i + h, j : j + w].reshape(-1, channels)
    slope = [[shifted(i, j).T @ flat for j in range(3)] for i in range(3)]
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return convolution(cotangent, flipped), jnp.stack([jnp.stack(x) for x in slope])


convolve.defvjp(_forward, _backward)


def features(
    params: Params, x: jax.Array, pooling: str, dtype: str = "float32"
) -> Features:
    """Return the activations of all layers for `n h w c` maps; `dtype` convolves."""
    apply = convolve if jax.default_backend() == "cpu" else convolution
    x, found = x.astype(dtype), {}
    for name, layer in params.items():
        if name in POOL_BEFORE:
            n, h, w, c = x.shape
            x = x.reshape(n, h // 2, 2, w // 2, 2, c)
            x = x.max((2, 4)) if pooling == "max" else x.mean((2, 4))
        kernel, bias = (jnp.asarray(layer[key], dtype) for key in ("kernel", "bias"))
        x = jax.nn.relu(apply(x, kernel) + bias)
        found[name.replace("conv", "relu")] = x.astype(jnp.float32)
    return found


def contrast(points: Float[Array, "n ..."], labels: Float[Array, "n"]) -> jax.Array:
    """Supervised contrastive loss: mean of -log p over pairs of one label.

    p is the probability that a point picks another, which falls with a power of their
    distance, so the scale of the points does not matter.

    Reference:
        Khosla et al. (2020), "Supervised Contrastive Learning".
    """
    flat = points.reshape(len(points), -1)
    squares = jnp.sum(flat**2, axis=1)
    distance = squares[:, None] + squares[None] - 2 * flat @ flat.T
    logits = -SHARPNESS * jnp.log(jnp.maximum(distance, 1e-6 * jnp.mean(squares)))
    itself = jnp.eye(len(labels), dtype=bool)
    log_p = jax.nn.log_softmax(jnp.where(itself, -1e9, logits), axis=1)
    same = (labels[:, None] == labels[None]) & ~itself
    return -jnp.sum(jnp.where(same, log_p, 0)) / jnp.sum(same)


def agreement(ours: Float[Array, "n h w c"], theirs: Float[Array, "n h w c"]):
    """Contrastive loss of pairs: mean of -log p that a map picks its counterpart.

    p is a softmax over the correlations of the maps, in both directions.
    """
    flat = lambda x: jax.vmap(standardize)(x).reshape(len(x), -1)
    correlation = flat(ours) @ flat(theirs).T / ours[0].size
    log_p = [jax.nn.log_softmax(20 * correlation, axis) for axis in (0, 1)]
    return -sum(jnp.mean(jnp.diagonal(x)) for x in log_p) / 2


def loss(params: Params, batch: Batch, pooling: str, stage: Stage) -> jax.Array:
    """Contrast at the style layers, agreement at the content layer, and health.

    Frozen layers do not count. Two terms keep the features healthy: style layers use
    many dimensions (the participation ratio of the correlations between filters), and
    no filter of any layer is silent.
    """
    seen = features(params, batch.painted, pooling, stage.dtype)
    labels = jnp.repeat(jnp.arange(len(batch.scenes)), stage.crops)
    total = jnp.zeros(())
    for layer, feature in seen.items():
        if layer.replace("relu", "conv").startswith(stage.frozen):
            continue
        mean = feature.mean((0, 1, 2))
        level = mean.mean()
        silence = jnp.log(0.4 * level / (mean + 1e-3 * level))
        total += ALIVE * jnp.mean(jnp.maximum(silence, 0))
        if layer in GATYS_STYLE_LAYERS:
            # `unit_mean` scales activations in about this way when jaxnst paints.
            maps = feature / jnp.maximum(mean, 0.05 * level)
            maps = maps.reshape(len(maps), -1, maps.shape[-1])
            gram = jnp.einsum("npc,npd->ncd", maps, maps) / maps.shape[1]
            total += contrast(gram, labels)
            total += contrast(jnp.sqrt(gram + 1e-3 * gram.mean()), labels)
            points = maps.reshape(-1, maps.shape[-1])
            points = points - points.mean(0)
            points = points / jnp.sqrt((points**2).mean(0) + 1e-3)
            correlations = points.T @ points / len(points)
            ratio = len(correlations) ** 2 / jnp.sum(correlations**2)
            total -= stage.diversity * jnp.log(ratio)
    reach = {
        k: v for k, v in params.items() if k <= CONTENT_LAYER.replace("relu", "conv")
    }
    scenes = features(reach, batch.scenes, pooling, stage.dtype)[CONTENT_LAYER]
    return total + CONTENT * agreement(seen[CONTENT_LAYER][:: stage.crops], scenes)
