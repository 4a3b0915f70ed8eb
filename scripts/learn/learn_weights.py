"""Learn the VGG-19 that ships with jaxnst, without labels, from generated pictures.

    python scripts/learn/learn_weights.py [--out FILE] [--seed N]

Filters begin as clusters of patches (`cluster_filters.py`). Gradient descent then
separates paintings (`contrast.py`): at every style layer, crops of one painting come
closer to each other than to crops of other paintings, even if several paintings share a
palette. The distances are those between Gram matrices and between their elementwise
roots, in which strong filters count less. At relu4_2, crops of a scene correlate with
crops of its painting. A style and a content loss ask the same of a network.

The deeper blocks learn first, then all blocks. The second stage separates paintings
better but paints finer strokes, so the mean of the weights before and after it is kept.

Prints the mean loss of every 20 steps and the seconds so far. The defaults take most of
an hour on two CPU cores. The weights that ship saw more and larger crops in the first
stage, on a GPU:

    python scripts/learn/learn_weights.py --paintings 1000 --batch 48 --side 112 \
        --steps 2500 --learning-rate 0.004 --dtype bfloat16
"""

import argparse
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cluster_filters import (
    POOL_BEFORE,
    REGULARISER_DEEP,
    Params,
    cluster,
    each,
    learn_layer,
    max_pool,
    relu_layer,
)
from contrast import Batch, Stage, features, loss
from dead_leaves import make_picture
from paintings import Painting, make_painting

from jaxnst.network.vgg import Backbone
from jaxnst.pictures.color import match_palette
from jaxnst.weights.format import save_backbone

SIZE = 256  # side of a painting
PICTURES, PAINTINGS = 96, 800  # dead leaves for the clusters; paintings for the rest
SHARED_PALETTE = 0.7  # probability that a painting takes the palette of its family
DEEP = Stage(("conv1", "conv2"), 450, 0.012, 10, 3, family=2, diversity=0.4)
WHOLE = Stage((), 200, 0.003, 16, 2, family=4, diversity=1.0)


def recolor(paintings: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """Give each painting the colours of another one, on the host."""
    pairs = zip(np.asarray(paintings), np.asarray(firsts), strict=True)
    return np.stack([match_palette(x, [first]) for x, first in pairs])


@partial(jax.jit, static_argnames="stage")
def draw(
    key: jax.Array,
    paintings: Painting,
    scale: jax.Array,
    offset: jax.Array,
    stage: Stage,
) -> Batch:
    """Draw crops of families of paintings, each painting at full or half size."""
    count, side = stage.batch, stage.side
    choice, sharing, halving, cropping = jax.random.split(key, 4)
    chosen = jax.random.choice(choice, len(paintings.scene), (count,), replace=False)
    scene, painted = (x[chosen].astype(jnp.float32) / 255 for x in paintings)
    firsts = painted[jnp.arange(count) // stage.family * stage.family]
    recoloured = jax.pure_callback(recolor, painted, painted, firsts)
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
    """Draw batches for ever."""
    on_device = jax.device_put((paintings, scale, offset))
    while True:
        key, own = jax.random.split(key)
        yield draw(own, *on_device, stage)


def tune(params: Params, examples: Iterator[Batch], stage: Stage) -> Params:
    """Minimise `loss`, alternating max and average pooling."""
    frozen = {name: x for name, x in params.items() if name.startswith(stage.frozen)}
    free = {name: x for name, x in params.items() if name not in frozen}
    # Dividing arrays by their root mean squares makes one step size fit all.
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
    """Scale every filter to a mean activation of 1, round it, and measure the mean.

    Args:
        params: Kernels and biases.
        pictures: Network input, n h w 3. The means are over all of it.

    Returns:
        Rounded kernels (float16), biases and mean activations, with max pooling.
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
        Backbone(*jax.tree.map(jnp.asarray, (params, scale, offset, means))),
        lineage="embedded",
        source="Learned without labels from generated pictures: clusters of patches of "
        "dead leaves (scripts/learn/dead_leaves.py), then contrast between paintings "
        "(scripts/learn/paintings.py).",
        licence="MIT",
    )


def read_arguments() -> argparse.Namespace:
    """Read and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parents[2] / "weights" / "vgg19-embedded.h5",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--paintings", type=int, default=PAINTINGS)
    first = parser.add_argument_group("first stage: deeper blocks only")
    first.add_argument("--steps", type=int, default=DEEP.steps)
    first.add_argument("--batch", type=int, default=DEEP.batch, help="paintings")
    first.add_argument("--side", type=int, default=DEEP.side, help="crops, in pixels")
    first.add_argument("--learning-rate", type=float, default=DEEP.learning_rate)
    first.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    second = parser.add_argument_group("second stage: all blocks")
    second.add_argument("--whole-steps", type=int, default=WHOLE.steps)
    args = parser.parse_args()
    if args.batch % 2 or args.paintings < max(args.batch, WHOLE.batch):
        parser.error(
            "expected an even batch and at least as many paintings, "
            f"{WHOLE.batch} or more"
        )
    if min(args.steps, args.whole_steps) < 10:
        parser.error("expected 10 steps or more")
    if args.side > SIZE // 2 or args.side % 16:
        parser.error(f"expected a side of 16, 32, … or {SIZE // 2} px, got {args.side}")
    return args


def main() -> None:
    """Generate pictures, learn all layers and write the weights file."""
    args = read_arguments()
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

    # Only one recipe uses conv5_2, so its filters remain clusters.
    rng = np.random.default_rng([args.seed, 3])
    with jax.default_matmul_precision("highest"):
        see = jax.jit(lambda x: features(params, x, "max")["relu5_1"])
        deepest = each(see, pictures)
        params["conv5_2"] = learn_layer(rng, deepest, 512, REGULARISER_DEEP)
        save(args.out, finish(params, pictures), scale, offset)
    print(f"{args.out} {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
