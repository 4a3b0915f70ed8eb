"""Learn the VGG-19 that ships with the project, from pictures made up on the spot.

No labels and nobody's pictures. Filters begin as clusters of patches. Then gradient
descent makes them tell paintings apart: at every style layer, crops of one painting are
to be nearer to each other than to those of others, in the distance between Gram
matrices and in that between their roots, element by element, where loud filters count
less; even where several paintings share their palette. And at relu4_2, crops of a scene
are to be correlated with those of its painting. That is what a style and a content loss
ask of a network.

First only the deeper blocks learn, then all of them. The second stage makes strokes
finer as it tells more apart, so the mean of the weights before and after it is taken.

As it stands, it takes two CPU cores most of an hour. The weights that ship saw many
more crops, and larger ones, in the first stage, on a GPU:

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

from jaxnst.losses import standardize
from jaxnst.network.vgg import Backbone
from jaxnst.pictures.color import match_palette
from jaxnst.recipes import GATYS_STYLE_LAYERS
from jaxnst.weights.format import save_backbone

SIZE = 256  # side of a painting
PICTURES, PAINTINGS = 96, 800  # of dead leaves, for the first filters; for the rest
CONTENT_LAYER = "relu4_2"
SHARED_PALETTE = 0.7  # how often a painting takes that of the first of its family
SHARPNESS = 2.0  # of the softmax over distances
CONTENT, ALIVE = 2.0, 0.5  # weights of the terms, see `loss`

Features = dict[str, Float[Array, "n h w c"]]


class Stage(NamedTuple):
    """How the network learns for a while.

    Attributes:
        frozen: Blocks that stay as they are.
        steps: How many batches it sees.
        learning_rate: In root mean squares of each array.
        batch: Paintings in a batch.
        crops: Crops of each.
        family: Paintings in a row that may share a palette.
        diversity: Weight of the number of dimensions used, see `loss`.
        side: Of a crop, in pixels.
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


DEEP = Stage(("conv1", "conv2"), 450, 0.012, 10, 3, family=2, diversity=0.4)
WHOLE = Stage((), 200, 0.003, 16, 2, family=4, diversity=1.0)


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


def loss(params: Params, batch: Batch, pooling: str, stage: Stage) -> jax.Array:
    """Contrast at the style layers, agreement at the content layer, and health.

    Only of layers that can still change. What keeps the features healthy: at the style
    layers, many dimensions are used (the participation ratio of the correlations
    between filters), and no filter of any layer is silent.
    """
    seen = features(params, batch.painted, pooling, stage.dtype)
    labels = jnp.repeat(jnp.arange(len(batch.scenes)), stage.crops)
    total = 0.0
    for layer, feature in seen.items():
        if layer.replace("relu", "conv").startswith(stage.frozen):
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
            total -= stage.diversity * jnp.log(ratio)
    reach = {
        k: v for k, v in params.items() if k <= CONTENT_LAYER.replace("relu", "conv")
    }
    scenes = features(reach, batch.scenes, pooling, stage.dtype)[CONTENT_LAYER]
    return total + CONTENT * agreement(seen[CONTENT_LAYER][:: stage.crops], scenes)


@partial(jax.jit, static_argnames="stage")
def draw(
    key: jax.Array,
    paintings: Painting,
    scale: jax.Array,
    offset: jax.Array,
    stage: Stage,
) -> Batch:
    """Crops of families of paintings, each painting at one or half of its size."""
    count, side = stage.batch, stage.side
    choice, sharing, halving, cropping = jax.random.split(key, 4)
    chosen = jax.random.choice(choice, len(paintings.scene), (count,), replace=False)
    scene, painted = (x[chosen].astype(jnp.float32) / 255 for x in paintings)
    firsts = painted[jnp.arange(count) // stage.family * stage.family]
    recoloured = jax.vmap(lambda x, first: match_palette(x, [first]))(painted, firsts)
    shared = jax.random.bernoulli(sharing, SHARED_PALETTE, (count, 1, 1, 1))
    painted = jnp.where(shared, recoloured, painted)

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
        keys = jax.random.split(key, stage.crops)
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
    stage: Stage,
) -> Iterator[Batch]:
    """Draw for ever."""
    on_device = jax.device_put((paintings, scale, offset))
    while True:
        key, own = jax.random.split(key)
        yield draw(own, *on_device, stage)


def tune(params: Params, examples: Iterator[Batch], stage: Stage) -> Params:
    """Minimise `loss`, with max and average pooling in turns."""
    frozen = {name: x for name, x in params.items() if name.startswith(stage.frozen)}
    free = {name: x for name, x in params.items() if name not in frozen}
    # Arrays are divided by their root mean squares, so that one step size fits all.
    sizes = jax.tree.map(lambda x: jnp.sqrt(jnp.mean(x**2)), free)
    free = jax.tree.map(jnp.divide, free, sizes)
    schedule = optax.warmup_cosine_decay_schedule(
        0, stage.learning_rate, stage.steps // 10, stage.steps
    )
    optimizer = optax.adam(schedule, b2=0.98)
    state = optimizer.init(free)

    @partial(jax.jit, static_argnames="pooling", donate_argnames=("free", "state"))
    def step(free, state, batch: Batch, pooling: str):
        def whole_loss(free):
            whole = frozen | jax.tree.map(jnp.multiply, free, sizes)
            return loss(whole, batch, pooling, stage)

        value, slope = jax.value_and_grad(whole_loss)(free)
        update, state = optimizer.update(slope, state)
        return optax.apply_updates(free, update), state, value

    begun, values = time.perf_counter(), []
    for i, batch in zip(range(stage.steps), examples, strict=False):
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
    first = parser.add_argument_group("deeper blocks alone")
    first.add_argument("--steps", type=int, default=DEEP.steps)
    first.add_argument("--batch", type=int, default=DEEP.batch, help="paintings in it")
    first.add_argument("--side", type=int, default=DEEP.side, help="of a crop")
    first.add_argument("--learning-rate", type=float, default=DEEP.learning_rate)
    first.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    second = parser.add_argument_group("all blocks")
    second.add_argument("--whole-steps", type=int, default=WHOLE.steps)
    args = parser.parse_args()
    if args.batch % 2 or args.paintings < max(args.batch, WHOLE.batch):
        parser.error(
            f"expected an even batch, and as many paintings, at least {WHOLE.batch}"
        )
    if min(args.steps, args.whole_steps) < 10:
        parser.error("expected 10 steps or more")
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
    own = ("steps", "batch", "side", "learning_rate", "dtype")
    deep = DEEP._replace(**{name: getattr(args, name) for name in own})
    whole = WHOLE._replace(steps=args.whole_steps)
    keys = jax.random.split(jax.random.key(args.seed))
    for key, stage in zip(keys, (deep, whole), strict=True):
        before = params
        params = tune(params, batches(key, paintings, scale, offset, stage), stage)
    params = jax.tree.map(lambda x, y: (x + y) / 2, before, params)

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
