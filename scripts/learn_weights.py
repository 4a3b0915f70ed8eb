"""Learn the VGG-19 that ships with the project, from pictures made up on the spot.

No labels and nobody's pictures: random "dead leaves" and brush strokes are drawn, then
every convolution is learned in turn by whitened spherical k-means on patches of the
activations below it (after Coates and Ng, 2012).
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Params = dict[str, dict[str, np.ndarray]]

LAYERS = {
    **{"conv1_1": 64, "conv1_2": 64, "conv2_1": 128, "conv2_2": 128},
    **{f"conv3_{i}": 256 for i in range(1, 5)},
    **{f"conv4_{i}": 512 for i in range(1, 5)},
    **{"conv5_1": 512, "conv5_2": 512},
}
POOL_BEFORE = ("conv2_1", "conv3_1", "conv4_1", "conv5_1")

SIZE = 256  # side of a generated picture
PICTURES = 96
PATCHES = 32_000
DIMENSIONS = 512  # most principal components kept
# Added to every eigenvalue, in mean eigenvalues. Less in deep layers: the weak
# components of their maps help a little to tell real paintings apart.
REGULARISER_SHALLOW, REGULARISER_DEEP = 0.02, 0.005  # blocks 1-2, blocks 3-5
ROUNDS = 10  # of k-means


# Pictures. All are drawn at twice their size and halved, so that edges are smooth.


def noise(
    rng: np.random.Generator, side: int, slope: float, stretch: float = 1.0
) -> np.ndarray:
    """Draw 1/f^slope noise in [0, 1], `stretch` times longer along a random angle."""
    angle = rng.uniform(0, np.pi)
    v, u = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    along = np.cos(angle) * u + np.sin(angle) * v
    across = np.cos(angle) * v - np.sin(angle) * u
    radius = np.sqrt((along * stretch) ** 2 + (across / stretch) ** 2)
    radius = np.maximum(radius, 1 / side)
    phase = rng.uniform(0, 2 * np.pi, radius.shape)
    spectrum = radius**-slope * np.exp(1j * phase)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (side, side)).astype(np.float32)
    return np.clip(0.5 + 0.22 * field / field.std(), 0, 1)


def palette(rng: np.random.Generator, count: int = 8) -> np.ndarray:
    """Draw colours that differ mostly in luminance, as those of photographs do."""
    luminance = rng.normal(rng.uniform(0.3, 0.6), rng.uniform(0.15, 0.3), (count, 1))
    warm_cool = np.array([1.0, 0.0, -1.0]) / np.sqrt(2)
    green_magenta = np.array([-1.0, 2.0, -1.0]) / np.sqrt(6)
    strength = rng.gamma(2.0, 0.06)
    cast = rng.normal(0, 0.06, 2)
    warm = cast[0] + strength * rng.normal(0, 1, (count, 1))
    green = cast[1] + 0.5 * strength * rng.normal(0, 1, (count, 1))
    return np.clip(luminance + warm * warm_cool + green * green_magenta, 0, 1)


def wave(rng: np.random.Generator, side: int) -> np.ndarray:
    """Draw bent parallel stripes, soft or hard, in [0, 1]."""
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(5), np.log(60)))
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = rng.uniform(0, 60) * noise(rng, side, 2.5)
    phase = (np.cos(angle) * x + np.sin(angle) * y + bend) / period
    sharpness = np.exp(rng.uniform(0, 2.5))
    return 0.5 + 0.5 * np.tanh(sharpness * np.sin(2 * np.pi * phase))


def tint(
    rng: np.random.Generator, field: np.ndarray, colours: np.ndarray
) -> np.ndarray:
    """Paint a scalar field with two or three colours of the palette."""
    stops = colours[rng.choice(len(colours), rng.integers(2, 4), replace=False)]
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(field, at, stops[:, c]) for c in range(3)], axis=-1)


def to_image(array: np.ndarray) -> Image.Image:
    """Turn an array in [0, 1] into an 8-bit image."""
    return Image.fromarray((np.clip(array, 0, 1) * 255).round().astype(np.uint8))


def draw_strokes(
    rng: np.random.Generator, image: Image.Image, flow: np.ndarray, width: float
) -> Image.Image:
    """Repaint an image with strokes that follow a field of angles."""
    side, source = image.size[0], np.asarray(image)
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    length, jitter = rng.uniform(4, 14) * width, rng.uniform(4, 24)
    count = int(min(5000, 1.5 * side * side / (width * length)))
    points = [rng.uniform(0, side, (count, 2))]
    for _ in range(5):
        x, y = np.clip(points[-1], 0, side - 1).astype(int).T
        step = np.stack([np.cos(flow[y, x]), np.sin(flow[y, x])], axis=1)
        points.append(points[-1] + step * length / 5)
    paths = np.stack(points, axis=1)
    x, y = np.clip(paths[:, 2], 0, side - 1).astype(int).T
    shade = rng.normal(0, jitter, (count, 1)) + rng.normal(0, jitter / 3, (count, 3))
    colours = np.clip(source[y, x] + shade, 0, 255).astype(int)
    widths = np.maximum(1, width * rng.uniform(0.6, 1.4, count)).astype(int)
    for path, colour, thick in zip(paths, colours, widths, strict=True):
        draw.line([tuple(p) for p in path], tuple(colour), int(thick), joint="curve")
    return canvas


def fill(rng: np.random.Generator, side: int, colours: np.ndarray) -> Image.Image:
    """Make one surface: flat, gradient, noise, stripes, hatching or strokes."""
    kind = rng.choice(["flat", "smooth", "noise", "grain", "wave", "hatch", "strokes"])
    if kind == "flat":
        field = 0.5 + 0.04 * (noise(rng, side, 0.5) - 0.5)
    elif kind == "smooth":
        field = noise(rng, side, 3)
    elif kind == "noise":
        field = noise(rng, side, rng.uniform(1.2, 2), rng.uniform(1, 2.5))
    elif kind == "grain":
        field = noise(rng, side, rng.uniform(0.6, 1.2), rng.uniform(1, 5))
    elif kind == "wave":
        field = wave(rng, side)
    elif kind == "hatch":
        field = wave(rng, side) * wave(rng, side)
    else:
        field = noise(rng, side, 2)
    image = to_image(tint(rng, field, colours))
    if kind == "strokes":
        flow = 2 * np.pi * noise(rng, side, 3)
        image = draw_strokes(rng, image, flow, np.exp(rng.uniform(1.0, 2.6)))
    return image


def draw_leaf(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, radius: float
) -> None:
    """Draw one white ellipse, polygon or wavy stroke anywhere on a mask."""
    side = draw.im.size[0]
    centre, angle = rng.uniform(0, side, 2), rng.uniform(0, 2 * np.pi)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32
    )
    kind = rng.choice(["ellipse", "box", "polygon", "stroke"])
    if kind == "stroke":
        t = np.linspace(-2, 2, 24)
        swing = rng.uniform(0, 0.6) * np.sin(rng.uniform(0.5, 3) * t + angle)
        path = np.stack([t, swing], axis=1) * radius @ turn + centre
        width = max(2, int(radius * rng.uniform(0.1, 0.4)))
        draw.line([tuple(p) for p in path], 255, width, joint="curve")
        return
    if kind == "box":
        t = np.pi / 4 + np.arange(4) * np.pi / 2
    elif kind == "polygon":
        t = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
    else:
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    outline = np.stack([np.cos(t), rng.uniform(0.2, 1) * np.sin(t)], axis=1)
    draw.polygon([tuple(p) for p in outline * radius @ turn + centre], 255)


def picture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Make one picture, float32 RGB in [0, 1], (size, size, 3)."""
    side, colours = 2 * size, palette(rng)
    fills = [fill(rng, side, colours) for _ in range(rng.integers(3, 7))]
    canvas = fills[0].copy()
    smallest, largest = np.exp(rng.uniform(np.log(6), np.log(24))), side * 0.4
    for _ in range(rng.integers(20, 400)):
        # radii with density r^-3, the law that makes dead leaves scale invariant
        share = rng.uniform()
        radius = (smallest**-2 * (1 - share) + largest**-2 * share) ** -0.5
        mask = Image.new("L", canvas.size)
        draw_leaf(rng, ImageDraw.Draw(mask), radius)
        leaf = fills[rng.integers(len(fills))]
        if rng.uniform() < 0.5:
            light = np.exp(rng.normal(0, 0.3))
            leaf = leaf.point([min(255, int(light * i)) for i in range(256)] * 3)
        canvas.paste(leaf, (0, 0), mask)
    if rng.uniform() < 0.4:
        flow = 2 * np.pi * noise(rng, side, 3)
        canvas = draw_strokes(rng, canvas, flow, np.exp(rng.uniform(0.7, 2.8)))
    if rng.uniform() < 0.25:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(1, 8)))
    canvas = canvas.resize((size, size), Image.Resampling.BOX)
    return np.asarray(canvas, np.float32) / 255


# Network and learning.


@jax.jit
def convolve(maps: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Apply a padded 3x3 convolution and a ReLU to `n h w c` maps."""
    spec = ("NHWC", "HWIO", "NHWC")
    out = jax.lax.conv_general_dilated(
        maps, kernel, (1, 1), "SAME", dimension_numbers=spec
    )
    return jax.nn.relu(out + bias)


@jax.jit
def max_pool(maps: jax.Array) -> jax.Array:
    """Halve `n h w c` maps, keeping the largest of each 2x2."""
    n, h, w, c = maps.shape
    return maps.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def each(function: Callable, maps: np.ndarray, *arguments: jax.Array) -> np.ndarray:
    """Apply a function to a stack of maps, a few at a time to bound the memory."""
    parts = np.array_split(maps, len(maps) // 4)
    return np.concatenate([np.asarray(function(p, *arguments)) for p in parts])


def sample_patches(
    rng: np.random.Generator, maps: np.ndarray, count: int
) -> np.ndarray:
    """Take random 3x3 patches that lie within the maps, (count, 9 * channels)."""
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
    """Find the map from centred patches to their whitened leading components.

    By subspace iteration: deep patches have 4608 dimensions and 512 are wanted.
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
    """Find `count` unit vectors that the points, as directions, gather around."""
    points /= jnp.maximum(jnp.linalg.norm(points, axis=1, keepdims=True), 1e-6)
    centroids = points[rng.choice(len(points), count, replace=False)]
    for _ in range(ROUNDS):
        # an empty cluster starts again from a patch
        spare = points[rng.choice(len(points), count, replace=False)]
        centroids = _kmeans_round(points, centroids, spare)
    return centroids


def learn_layer(
    rng: np.random.Generator, maps: np.ndarray, channels: int, regulariser: float
) -> dict[str, np.ndarray]:
    """Learn one convolution: whiten patches, cluster them, undo the whitening.

    There is no threshold beyond the mean: one makes activations so sparse that the
    optimisation of a picture becomes ill-conditioned.
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


def learn(rng: np.random.Generator, maps: np.ndarray) -> Params:
    """Learn all layers in order from the pictures, already mapped to network input."""
    params = {}
    for name, channels in LAYERS.items():
        start = time.perf_counter()
        # Max pooling, not average: most recipes use it, a bias that removes the mean
        # of averaged maps is off for the larger maxima, and the deep features that
        # averages teach tell real paintings apart less well.
        if name in POOL_BEFORE:
            maps = each(max_pool, maps)
        shallow = name < "conv3"
        regulariser = REGULARISER_SHALLOW if shallow else REGULARISER_DEEP
        layer = learn_layer(rng, maps, channels, regulariser)
        # Scale by the mean over whole maps, then round, so that what is measured and
        # handed to the next layer is what the file will hold.
        out = each(convolve, maps, layer["kernel"], layer["bias"])
        mean = out.mean((0, 1, 2), dtype=np.float64)
        kernel = (layer["kernel"] / mean).astype(np.float16)
        bias = (layer["bias"] / mean).astype(np.float32)
        maps = each(convolve, maps, kernel.astype(np.float32), bias)
        measured = maps.mean((0, 1, 2), dtype=np.float64).astype(np.float32)
        params[name] = {"kernel": kernel, "bias": bias, "mean_activation": measured}
        seconds = time.perf_counter() - start
        print(f"{name} {seconds:5.1f} s  active {np.mean(maps > 0):.2f}", flush=True)
    return params


def save(path: Path, params: Params, scale: np.ndarray, offset: np.ndarray) -> None:
    """Write the weights as HDF5; the same weights give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with h5py.File(partial, "w", libver="latest", track_order=False) as file:
        file.attrs["format"] = "jaxnst-weights-1"
        file.attrs["lineage"] = "embedded"
        file.attrs["family"] = "rgb"
        file.attrs["source"] = (
            "Learned without labels by whitened spherical k-means, layer by layer, "
            "from dead leaves and brush strokes drawn by scripts/learn_weights.py."
        )
        file.attrs["licence"] = "MIT"
        arrays = {"scale": scale, "offset": offset}
        for name, layer in params.items():
            arrays |= {f"{name}/{key}": value for key, value in layer.items()}
        for key, value in arrays.items():
            file.create_dataset(key, data=value, track_times=False)
    partial.replace(path)


def main() -> None:
    """Draw the pictures, learn the layers and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parents[1] / "weights" / "vgg19-embedded.h5",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    rng = np.random.default_rng(arguments.seed)
    start = time.perf_counter()
    pictures = np.stack([picture(rng, SIZE) for _ in range(PICTURES)])
    print(f"{PICTURES} pictures {time.perf_counter() - start:.1f} s", flush=True)
    mean, std = pictures.mean((0, 1, 2)), pictures.std((0, 1, 2))
    scale, offset = (1 / std).astype(np.float32), (-mean / std).astype(np.float32)
    params = learn(rng, pictures * scale + offset)
    save(arguments.out, params, scale, offset)
    print(f"{arguments.out} {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
