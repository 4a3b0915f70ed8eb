"""Learn the VGG-19 that ships with the project, from pictures made up on the spot.

No labels and nobody's pictures. Filters begin as clusters of patches. Then gradient
descent makes the deeper blocks tell paintings apart: at every style layer, crops of one
painting are to be nearer to each other than to those of others, in the distance between
Gram matrices and in that between their roots, element by element, where loud filters
count less; even where two paintings share their palette. And at relu4_2, crops of a
scene are to be correlated with those of its painting. That is what a style and a
content loss ask of a network.

As it stands, it takes two CPU cores about 40 minutes. The weights that ship saw 27
times as many crops, and larger ones, on a GPU:

    python scripts/learn_weights.py --paintings 1000 --batch 48 --side 112 \
        --steps 2500 --learning-rate 0.004 --dtype bfloat16
"""

import argparse
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cluster_filters import (
    POOL_BEFORE,
    REGULARISER_DEEP,
    Params,
    cluster,
    convolution,
    each,
    learn_layer,
    max_pool,
    relu_layer,
)
from dead_leaves import make_picture
from jaxtyping import Array, Float
from paintings import Painting, make_painting

from jaxnst.color import match_palette
from jaxnst.losses import standardize
from jaxnst.recipes import GATYS_STYLE_LAYERS
from jaxnst.vgg import Backbone
from jaxnst.weights import save_backbone

SIZE = 256  # side of a painting
PICTURES, PAINTINGS = 96, 800  # of dead leaves, for the first filters; for the rest
CONTENT_LAYER = "relu4_2"
FROZEN = ("conv1", "conv2")  # blocks that stay as they began
BATCH, CROPS, SIDE = 10, 3, 80  # paintings, crops of each, pixels
SHARED_PALETTE = 0.7  # how often the second of a pair takes the palette of the first
STEPS, LEARNING_RATE = 450, 0.012  # in root mean squares of each array
SHARPNESS = 2.0  # of the softmax over distances
CONTENT, DIVERSITY, ALIVE = 2.0, 0.4, 0.5  # weights of the terms, see `loss`

Features = dict[str, Float[Array, "n h w c"]]


class Batch(NamedTuple):
    """Crops, as the network sees them.

    Attributes:
        painted: Of paintings, those of one painting in a row.
        scenes: The first of each painting, as it was before it was painted.
    """

    painted: Float[Array, "n s s 3"]
    scenes: Float[Array, "m s s 3"]


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolution`, with derivatives that XLA runs fast on a CPU."""
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
    """Activations of all layers of `n h w c` maps, computed in a type."""
    apply = convolve if jax.default_backend() == "cpu" else convolution
    x, found = x.astype(dtype), {}
    for name, layer in params.items():
        if name in POOL_BEFORE:
            n, h, w, c = x.shape
            x = x.reshape(n, h // 2, 2, w // 2, 2, c)
            x = x.max((2, 4)) if pooling == "max" else x.mean((2, 4))
        kernel, bias = (layer[key].astype(dtype) for key in ("kernel", "bias"))
        x = jax.nn.relu(apply(x, kernel) + bias)
        found[name.replace("conv", "relu")] = x.astype(jnp.float32)
    return found


def contrast(points: Float[Array, "n ..."], labels: Float[Array, "n"]) -> jax.Array:
    """How unlikely each point finds those of its label, when near ones are likely.

    The probability to pick another point falls with a power of its distance, so that
    the scale of the points does not matter. Mean of -log p over pairs of one label.

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
    """How unlikely each map finds its counterpart, when correlated ones are likely."""
    flat = lambda x: jax.vmap(standardize)(x).reshape(len(x), -1)
    correlation = flat(ours) @ flat(theirs).T / ours[0].size
    log_p = [jax.nn.log_softmax(20 * correlation, axis) for axis in (0, 1)]
    return -sum(jnp.mean(jnp.diagonal(x)) for x in log_p) / 2


def loss(
    params: Params, batch: Batch, pooling: str, dtype: str = "float32"
) -> jax.Array:
    """Contrast at the style layers, agreement at the content layer, and health.

    Only of layers that can still change. What keeps the features healthy: at the style
    layers, many dimensions are used (the participation ratio of the correlations
    between filters), and no filter of any layer is silent.
    """
    seen = features(params, batch.painted, pooling, dtype)
    labels = jnp.repeat(jnp.arange(len(batch.scenes)), CROPS)
    total = 0.0
    for layer, feature in seen.items():
        if layer.replace("relu", "conv").startswith(FROZEN):
            continue
        mean = feature.mean((0, 1, 2))
        level = mean.mean()
        silence = jnp.log(0.4 * level / (mean + 1e-3 * level))
        total += ALIVE * jnp.mean(jnp.maximum(silence, 0))
        if layer in GATYS_STYLE_LAYERS:
            # about as `unit_mean` scales them in use
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
            total -= DIVERSITY * jnp.log(ratio)
    reach = {
        k: v for k, v in params.items() if k <= CONTENT_LAYER.replace("relu", "conv")
    }
    scenes = features(reach, batch.scenes, pooling, dtype)[CONTENT_LAYER]
    return total + CONTENT * agreement(seen[CONTENT_LAYER][::CROPS], scenes)


@partial(jax.jit, static_argnames=("count", "side"))
def draw(
    key: jax.Array,
    paintings: Painting,
    scale: jax.Array,
    offset: jax.Array,
    *,
    count: int,
    side: int,
) -> Batch:
    """Crops of pairs of paintings, each painting at one or half of its size."""
    choice, sharing, halving, cropping = jax.random.split(key, 4)
    chosen = jax.random.choice(choice, len(paintings.scene), (count,), replace=False)
    scene, painted = (x[chosen].astype(jnp.float32) / 255 for x in paintings)
    recolour = jax.vmap(lambda x, reference: match_palette(x, [reference]))
    first, second = painted[::2], painted[1::2]
    shared = jax.random.bernoulli(sharing, SHARED_PALETTE, (count // 2, 1, 1, 1))
    second = jnp.where(shared, recolour(second, first), second)
    painted = jnp.stack([first, second], axis=1).reshape(painted.shape)

    def crop(key, scene, painted, room):
        place, turn, light, cast = jax.random.split(key, 4)
        corner = (jax.random.uniform(place, (2,)) * (room + 1)).astype(int)
        turned = jax.random.bernoulli(turn)

        def cut(picture):
            at = jax.lax.dynamic_slice(picture, (*corner, 0), (side, side, 3))
            return jnp.where(turned, at[:, ::-1], at)

        gain = jnp.exp(0.1 * jax.random.normal(light))
        seen = (cut(painted) - 0.5) * gain + 0.5 + 0.04 * jax.random.normal(cast, (3,))
        return jnp.clip(seen, 0, 1), cut(scene)

    def crops(key, scene, painted, halved):
        whole = len(scene)
        halves = (whole // 2, 2, whole // 2, 2, 3)
        rest = ((0, whole - whole // 2),) * 2 + ((0, 0),)
        scene, painted = (
            jnp.where(halved, jnp.pad(x.reshape(halves).mean((1, 3)), rest), x)
            for x in (scene, painted)
        )
        room = jnp.where(halved, whole // 2, whole) - side
        keys = jax.random.split(key, CROPS)
        return jax.vmap(crop, (0, None, None, None))(keys, scene, painted, room)

    halved = jax.random.bernoulli(halving, 0.25, (count,))
    keys = jax.random.split(cropping, count)
    painted, scenes = jax.vmap(crops)(keys, scene, painted, halved)
    painted = painted.reshape(-1, side, side, 3)
    return Batch(painted * scale + offset, scenes[:, 0] * scale + offset)


def batches(
    key: jax.Array,
    paintings: Painting,
    scale: np.ndarray,
    offset: np.ndarray,
    *,
    count: int,
    side: int,
) -> Iterator[Batch]:
    """Draw for ever."""
    on_device = jax.device_put((paintings, scale, offset))
    while True:
        key, own = jax.random.split(key)
        yield draw(own, *on_device, count=count, side=side)


def tune(
    params: Params,
    examples: Iterator[Batch],
    steps: int,
    learning_rate: float = LEARNING_RATE,
    dtype: str = "float32",
) -> Params:
    """Minimise `loss`, with max and average pooling in turns."""
    frozen = {name: x for name, x in params.items() if name.startswith(FROZEN)}
    free = {name: x for name, x in params.items() if name not in frozen}
    # Arrays are divided by their root mean squares, so that one step size fits all.
    sizes = jax.tree.map(lambda x: jnp.sqrt(jnp.mean(x**2)), free)
    free = jax.tree.map(jnp.divide, free, sizes)
    schedule = optax.warmup_cosine_decay_schedule(0, learning_rate, steps // 10, steps)
    optimizer = optax.adam(schedule, b2=0.98)
    state = optimizer.init(free)

    @partial(jax.jit, static_argnames="pooling", donate_argnames=("free", "state"))
    def step(free, state, batch: Batch, pooling: str):
        def whole_loss(free):
            whole = frozen | jax.tree.map(jnp.multiply, free, sizes)
            return loss(whole, batch, pooling, dtype)

        value, slope = jax.value_and_grad(whole_loss)(free)
        update, state = optimizer.update(slope, state)
        return optax.apply_updates(free, update), state, value

    begun, values = time.perf_counter(), []
    for i, batch in zip(range(steps), examples, strict=False):
        free, state, value = step(free, state, batch, ("max", "average")[i % 2])
        values.append(value)
        if (i + 1) % 20 == 0:
            recent = np.mean(values[-20:])
            seconds = time.perf_counter() - begun
            print(f"{i + 1} {recent:.3f} {seconds:.0f} s", flush=True)
    return jax.device_get(frozen | jax.tree.map(jnp.multiply, free, sizes))


def finish(params: Params, pictures: np.ndarray) -> Params:
    """Scale every filter to a mean activation of 1, round, and measure what that is.

    Over whole pictures, already mapped to network input, and max pooling.
    """
    finished, maps, before = {}, pictures, np.ones(3, np.float32)
    for name, layer in params.items():
        if name in POOL_BEFORE:
            maps = each(max_pool, maps)
        kernel = layer["kernel"] / before[:, None]
        mean = each(relu_layer, maps, kernel, layer["bias"]).mean((0, 1, 2))
        before = 1 / np.maximum(mean, 0.05 * mean.mean())
        kernel = (kernel * before).astype(np.float16)
        bias = (layer["bias"] * before).astype(np.float32)
        maps = each(relu_layer, maps, kernel.astype(np.float32), bias)
        mean = maps.mean((0, 1, 2), dtype=np.float64).astype(np.float32)
        finished[name] = {"kernel": kernel, "bias": bias, "mean_activation": mean}
    return finished


def save(path: Path, params: Params, scale: np.ndarray, offset: np.ndarray) -> None:
    """Write the weights file."""
    means = {
        name.replace("conv", "relu"): layer["mean_activation"]
        for name, layer in params.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_backbone(
        path,
        Backbone(params, scale, offset, means),
        lineage="embedded",
        source="Learned without labels from pictures that are made up: clusters of "
        "patches of dead leaves (scripts/dead_leaves.py), then contrast between "
        "paintings (scripts/paintings.py).",
        licence="MIT",
    )


def main() -> None:
    """Make the paintings, learn the layers and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parents[1] / "weights" / "vgg19-embedded.h5",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--paintings", type=int, default=PAINTINGS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    args = parser.parse_args()
    if args.paintings < args.batch or args.batch % 2 or args.steps < 10:
        parser.error("expected an even batch, as many paintings, and 10 steps or more")
    if args.side > SIZE // 2 or args.side % 16:
        parser.error(f"expected a side of 16, 32, … or {SIZE // 2} px, got {args.side}")

    start = time.perf_counter()
    rng = np.random.default_rng(args.seed)
    pictures = np.stack([make_picture(rng, SIZE) for _ in range(PICTURES)])
    mean, std = pictures.mean((0, 1, 2)), pictures.std((0, 1, 2))
    scale, offset = (1 / std).astype(np.float32), (-mean / std).astype(np.float32)
    pictures = pictures * scale + offset
    with jax.default_matmul_precision("highest"):
        params = cluster(rng, pictures)
    print(f"clusters {time.perf_counter() - start:.0f} s", flush=True)

    seeds = [[args.seed, 1, i] for i in range(args.paintings)]
    with get_context("spawn").Pool() as pool:
        made = pool.map(partial(make_painting, size=SIZE), seeds, chunksize=16)
    paintings = Painting(*map(np.stack, zip(*made, strict=True)))
    print(f"paintings {time.perf_counter() - start:.0f} s", flush=True)
    key = jax.random.key(args.seed)
    examples = batches(key, paintings, scale, offset, count=args.batch, side=args.side)
    params = tune(params, examples, args.steps, args.learning_rate, args.dtype)

    # Only one recipe looks at conv5_2, so it remains a cluster.
    rng = np.random.default_rng([args.seed, 3])
    with jax.default_matmul_precision("highest"):
        see = jax.jit(lambda x: features(params, x, "max")["relu5_1"])
        deepest = each(see, pictures)
        params["conv5_2"] = learn_layer(rng, deepest, 512, REGULARISER_DEEP)
        save(args.out, finish(params, pictures), scale, offset)
    print(f"{args.out} {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
